//! The records that the broker rejected.
//!
//! Records travel in sets, and a set is rejected as a whole. If the broker checks records one by one, it names the
//! rejected ones; if the set is too large, it names none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult};
use rdkafka::producer::ProducerContext;

use super::{Error, explained};
use crate::classes;
use crate::kafka::words;
use tollgate_config::error::Class;

/// A record that its topic rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The mark with which it was sent.
    pub mark: usize,
    pub topic: String,
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} rejected a record: {}", self.topic, self.why)
    }
}

/// A record of a set that was rejected for its content.
#[derive(Debug, Clone)]
struct Report {
    mark: usize,
    topic: String,
    partition: i32,
    code: RDKafkaErrorCode,
    /// The address of the broker's error text for it. A named record has its own text, its neighbours share
    /// librdkafka's, and the records of a set that was rejected whole share the broker's, or have none. It must never
    /// be dereferenced: librdkafka 2.12 has freed the text by then.
    words: usize,
    /// The size of key and value.
    bytes: usize,
    keyless: bool,
}

impl Report {
    fn refusal(&self) -> Refusal {
        let Report { mark, topic, code, bytes, keyless, .. } = self;
        let key = if *keyless { ", and no key" } else { "" };
        let why = format!("{code}; it has {bytes} bytes{key}");
        Refusal { mark: *mark, topic: topic.clone(), why }
    }

    fn is_beside(&self, other: &Report) -> bool {
        (&self.topic, self.partition, self.code) == (&other.topic, other.partition, other.code)
    }
}

#[derive(Default)]
struct Undelivered {
    /// The first error, or the first one that is more than an unavailable server. `None` if everything was delivered.
    worst: Option<(RDKafkaErrorCode, String)>,
    refused: Vec<Report>,
    /// The mark and the topic of a record whose partition does not exist.
    nowhere: Option<(usize, String)>,
}

/// Collects what the broker rejected.
#[derive(Default)]
pub(super) struct Reports(Mutex<Undelivered>);

impl Reports {
    /// Returns the result of the records since the last call. `sent` is how they were sent.
    pub(super) fn verdict(&self, sent: Sent) -> Result<(), Error> {
        let Undelivered { worst, refused, nowhere } = std::mem::take(&mut *self.undelivered());
        let Some((code, why)) = worst else { return Ok(()) };
        let named = named(&refused, sent);
        if !named.is_empty() {
            return Err(Error::Records(named));
        }
        let size = |report: &&Report| {
            matches!(report.code, RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
        };
        if let Some(one) = refused.iter().find(size).or(refused.first()) {
            return Err(Error::Set { one: one.refusal(), size: size(&one) });
        }
        if let Some((mark, topic)) = nowhere {
            return Err(Error::NoPartition { mark, topic });
        }
        // A failed delivery may leave the partition's transaction state unclear: a new producer resolves it.
        Err(Error::open(format!("a record was not delivered: {why}"), Some(code)))
    }

    fn undelivered(&self) -> MutexGuard<'_, Undelivered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way in which the reported records were sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Whether each record is a separate set.
    pub alone: bool,
    /// Whether they were sent in a transaction, in which the first rejected set is the last one.
    pub transactional: bool,
}

/// Returns the records that are themselves at fault; empty if they cannot be identified.
fn named(refused: &[Report], sent: Sent) -> Vec<Refusal> {
    // If several were named, their neighbours have a distinct code; if one was, they have its code and share this text.
    let neighbours = refused.iter().find(|report| report.code == RDKafkaErrorCode::InvalidDifferentRecord);
    let neighbours = neighbours.map(|report| report.words);
    let mut sets: Vec<Vec<&Report>> = Vec::new();
    for report in refused.iter().filter(|report| Some(report.words) != neighbours) {
        match sets.iter_mut().find(|set| set[0].is_beside(report)) {
            Some(set) => set.push(report),
            None => sets.push(vec![report]),
        }
    }
    let mut named = Vec::new();
    for set in sets {
        let mut words: BTreeMap<usize, usize> = BTreeMap::new();
        for report in &set {
            *words.entry(report.words).or_default() += 1;
        }
        // Of two records with their own texts, one may be the other's only neighbour.
        let all = words.len() == set.len();
        let told = !all || neighbours.is_some() || set.len() == 1 || (sent.transactional && set.len() > 2);
        let own = |report: &&&Report| sent.alone || (told && words[&report.words] == 1);
        named.extend(set.iter().filter(own).map(|report| report.refusal()));
    }
    named
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        words::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, mark: usize) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let class = |code| classes::kafka_code(code).class();
        let mut undelivered = self.undelivered();
        let vague = |code| class(code) == Class::Transient;
        if undelivered.worst.as_ref().is_none_or(|(known, _)| vague(*known) && !vague(code)) {
            undelivered.worst = Some((code, explained(Some(code), &error.to_string(), message.topic())));
        }
        if code == RDKafkaErrorCode::UnknownPartition {
            undelivered.nowhere.get_or_insert_with(|| (mark, message.topic().to_owned()));
        }
        if class(code) == Class::Poison {
            undelivered.refused.push(Report {
                mark,
                topic: message.topic().to_owned(),
                partition: message.partition(),
                code,
                words: words(message),
                bytes: message.key_len() + message.payload_len(),
                keyless: message.key().is_none(),
            });
        }
    }
}

#[allow(unsafe_code, reason = "rdkafka keeps the address to itself")]
fn words(message: &BorrowedMessage<'_>) -> usize {
    // SAFETY: the delivery report holds the message, so it is alive; the returned address is not dereferenced.
    unsafe { rdkafka_sys::rd_kafka_message_produce_errstr(message.ptr()).addr() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(mark: usize, partition: i32, code: RDKafkaErrorCode, words: usize) -> Report {
        Report { mark, topic: "out".to_owned(), partition, code, words, bytes: 7, keyless: false }
    }

    const TRANSACTION: Sent = Sent { alone: false, transactional: true };
    const NONE: [usize; 0] = [];

    fn marks(refused: &[Report], sent: Sent) -> Vec<usize> {
        named(refused, sent).iter().map(|refusal| refusal.mark).collect()
    }

    #[test]
    fn records_with_words_of_their_own_are_named_and_those_of_a_whole_set_are_not() {
        use RDKafkaErrorCode::{InvalidDifferentRecord, InvalidRecord, MessageSizeTooLarge};
        let several = [
            report(3, 0, InvalidRecord, 10),
            report(4, 0, InvalidDifferentRecord, 99),
            report(5, 0, InvalidRecord, 20),
            report(6, 0, InvalidDifferentRecord, 99),
        ];
        assert_eq!(marks(&several, TRANSACTION), [3, 5]);
        let one = [3, 4, 5].map(|mark| report(mark, 0, InvalidRecord, if mark == 4 { 10 } else { 99 }));
        assert_eq!(marks(&one, TRANSACTION), [4], "librdkafka gives its code to its neighbours");
        let all = [3, 4, 5].map(|mark| report(mark, 0, InvalidRecord, mark));
        assert_eq!(marks(&all, TRANSACTION), [3, 4, 5]);
        let whole = [3, 4, 5].map(|mark| report(mark, 0, MessageSizeTooLarge, 10));
        assert_eq!(marks(&whole, TRANSACTION), NONE);
        assert_eq!(marks(&whole, Sent { alone: true, ..TRANSACTION }), [3, 4, 5], "each was a set");
        let wordless = [3, 4, 5].map(|mark| report(mark, 0, InvalidRecord, 0));
        assert_eq!(marks(&wordless, TRANSACTION), NONE);
    }

    #[test]
    fn what_may_be_a_neighbour_is_not_named() {
        use RDKafkaErrorCode::{InvalidDifferentRecord, InvalidRecord};
        let two = [report(3, 0, InvalidRecord, 10), report(4, 0, InvalidRecord, 99)];
        assert_eq!(marks(&two, TRANSACTION), NONE, "both, or one and its neighbour");
        // Without a transaction, sets follow a rejected one: here one of two records, then one of one.
        let sets = [two[0].clone(), two[1].clone(), report(5, 0, InvalidRecord, 20)];
        assert_eq!(marks(&sets, Sent { alone: false, transactional: false }), NONE);
        let known = [two[0].clone(), two[1].clone(), report(5, 1, InvalidDifferentRecord, 99)];
        assert_eq!(marks(&known, TRANSACTION), [3]);
    }

    #[test]
    fn the_only_one_of_its_partition_is_named_whatever_another_partition_says() {
        use RDKafkaErrorCode::{InvalidRecord, MessageSizeTooLarge};
        let sets = [
            report(1, 0, MessageSizeTooLarge, 10),
            report(2, 1, InvalidRecord, 0),
            report(3, 0, MessageSizeTooLarge, 10),
        ];
        assert_eq!(marks(&sets, TRANSACTION), [2]);
        assert_eq!(marks(&[], TRANSACTION), NONE);
    }

    #[test]
    fn a_refusal_says_what_it_may_have_been() {
        let mut one = report(1, 0, RDKafkaErrorCode::InvalidRecord, 0);
        one.keyless = true;
        let said = one.refusal().to_string();
        assert!(said.starts_with("topic out rejected a record: "), "{said}");
        assert!(said.ends_with("; it has 7 bytes, and no key") && said.contains(": InvalidRecord (Broker: "), "{said}");
    }
}
