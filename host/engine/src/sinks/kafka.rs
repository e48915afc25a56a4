//! The Kafka side of a batch: outputs and dead letters, in one transaction with the group's next offsets.
//!
//! rdkafka 0.39's `commit_transaction` and `flush` cost a fixed 100 ms while messages are in flight, so a batch's
//! acknowledgements are polled for first. Every error that leaves the outcome open ends this producer: its successor's
//! `init_transactions` settles what the old one left, which is also the defence against an EndTxn that arrives late, and
//! against a call that has not returned in time.

mod reports;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use crate::classes::{self, Meaning};
use crate::hazards::hazards;
use crate::kafka::client;
use tollgate_config::error::Class;
use tollgate_config::{DeliveryMode, Pipeline};
use tollgate_decide::record::NewRecord;

pub use reports::Refusal;
use reports::{Reports, Sent};

/// How long one blocking transactional call may take before it counts as open.
const CALL: Duration = Duration::from_secs(10);

/// How long a lane waits for a call that may not keep to [`CALL`].
const HANG: Duration = Duration::from_secs(12);

/// How long what is on its way may take to arrive before a transaction is given up without waiting for it.
const PURGE: Duration = Duration::from_secs(1);

/// How long a lane waits for its old producers to end.
const END: Duration = Duration::from_secs(2);

/// Between two looks at the delivery reports: a batch takes some milliseconds, and a look some microseconds.
const LOOK: Duration = Duration::from_micros(250);

/// What went wrong on the Kafka side of a batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing of the batch is visible, and the producer is good: abort and try again.
    #[error("the Kafka transaction cannot be completed: {why}")]
    Abort { why: String, meaning: Meaning },
    /// What became of the transaction is open: a new producer must find out.
    #[error("the outcome of a Kafka transaction is open: {why}")]
    Open { why: String, meaning: Meaning },
    /// Records that their topics do not take, whoever sends them and whenever. At least one.
    #[error("{}", .0.iter().map(Refusal::to_string).next().unwrap_or_default())]
    Records(Vec<Refusal>),
    /// A set of records is too large (`size`), or has one that is not taken, and nobody says which.
    #[error("of a set of records that was refused whole: {one}")]
    Set { one: Refusal, size: bool },
    /// An output names a partition that its topic does not have.
    #[error("topic {topic} has no such partition as its source's")]
    NoPartition { mark: usize, topic: String },
    /// Another process uses this transactional id, or the broker refuses us.
    #[error("Kafka refuses this producer: {0}")]
    Refused(String),
}

impl Error {
    /// Of an outcome that is open, by the code that left it so.
    fn open(why: impl Into<String>, code: Option<RDKafkaErrorCode>) -> Error {
        Error::Open { why: why.into(), meaning: code.map_or(Meaning::Outage, classes::kafka_code) }
    }

    pub fn meaning(&self) -> Meaning {
        match self {
            Error::Abort { meaning, .. } | Error::Open { meaning, .. } => *meaning,
            Error::Records(_) | Error::Set { .. } => Meaning::Poison,
            Error::NoPartition { .. } => Meaning::Halt,
            Error::Refused(_) => Meaning::Fatal,
        }
    }

    pub fn class(&self) -> Class {
        self.meaning().class()
    }
}

/// One lane's producer.
pub struct Producer {
    inner: Arc<BaseProducer<Reports>>,
    transactional: bool,
    /// Each record is a set of its own.
    alone: bool,
    /// librdkafka takes no other call for the transaction meanwhile.
    preparing: Cell<Option<Preparing>>,
    /// It has not returned in time.
    hangs: Cell<bool>,
}

/// A call for the group's next offsets that was begun.
struct Preparing {
    since: Instant,
    answer: Receiver<Result<(), Error>>,
}

impl Producer {
    /// Connects, and in a transactional mode ends whatever this id left open. Blocks up to `deadline`.
    pub fn connect(pipeline: &Pipeline, id: &str, largest: Sizes, deadline: Duration) -> Result<Producer, Error> {
        // Without transactions the client may not have an id either: it would take no record outside of one.
        let transactional = pipeline.delivery.mode == DeliveryMode::EffectivelyOnce && !hazards().no_transaction;
        let mut config = client::producer(pipeline, transactional.then_some(id));
        // A single message may be as large as the roomiest topic takes; a batch of them no larger than the tightest.
        config.set("message.max.bytes", largest.message.to_string()).set("batch.size", largest.batch.to_string());
        let inner: BaseProducer<Reports> =
            config.create_with_context(Reports::default()).map_err(|error| Error::Refused(client::explain(&error)))?;
        if transactional {
            let begun = Instant::now();
            loop {
                match inner.init_transactions(CALL.min(deadline)) {
                    Ok(()) => break,
                    Err(KafkaError::Transaction(error)) if error.is_retriable() && begun.elapsed() < deadline => {}
                    Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                        return Err(Error::open(error.string(), Some(error.code())));
                    }
                    Err(error) => return Err(classify(error)),
                }
            }
        }
        let (inner, alone) = (Arc::new(inner), largest.batch <= 1);
        Ok(Producer { inner, transactional, alone, preparing: Cell::new(None), hangs: Cell::new(false) })
    }

    pub fn begin(&self) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        self.inner.begin_transaction().map_err(classify)
    }

    /// Queues a record; librdkafka sends it from its own thread. `headers` are taken over. `mark` is what a [`Refusal`] calls it.
    /// `timestamp`: Unix milliseconds; the time of the call where there is none.
    pub fn send(
        &self,
        mark: usize,
        letter: NewRecord<'_>,
        timestamp: Option<i64>,
        headers: OwnedHeaders,
    ) -> Result<(), Error> {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(letter.topic, mark).headers(headers);
        record.partition = letter.partition;
        record.timestamp = timestamp;
        record.key = letter.key;
        record.payload = letter.value;
        let begun = Instant::now();
        loop {
            let (error, back) = match self.inner.send(record) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) if begun.elapsed() < CALL => {
                    std::thread::sleep(LOOK);
                    self.serve();
                    record = back;
                }
                KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    let bytes = letter.key.map_or(0, <[u8]>::len) + letter.value.map_or(0, <[u8]>::len);
                    let why = format!("it has {bytes} bytes, and the client sends no record of that size");
                    return Err(Error::Records(vec![Refusal { mark, topic: letter.topic.to_owned(), why }]));
                }
                KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition) => {
                    return Err(Error::NoPartition { mark, topic: letter.topic.to_owned() });
                }
                error => {
                    // Of a client that is done for the error says no more than that.
                    let done_for = self.inner.client().fatal_error();
                    let (code, why) = done_for
                        .map_or((error.rdkafka_error_code(), error.to_string()), |(code, why)| (Some(code), why));
                    let why = explained(code, &why, letter.topic);
                    return Err(Error::Abort { why, meaning: code.map_or(Meaning::Outage, classes::kafka_code) });
                }
            }
        }
    }

    /// Begins to put the group's next offsets into the transaction, beside its records.
    pub fn prepare(&self, offsets: TopicPartitionList, group: &Arc<ConsumerGroupMetadata>) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        let (inner, group) = (Arc::clone(&self.inner), Arc::clone(group));
        let call = move || retried(|| inner.send_offsets_to_transaction(&offsets, &group, CALL));
        let answer = beside("producer-offsets", call)
            .ok_or_else(|| Error::open("no thread can be had to send the group's next offsets", None))?;
        self.preparing.set(Some(Preparing { since: Instant::now(), answer }));
        Ok(())
    }

    /// Waits until the broker has acknowledged everything that was sent, and has the group's next offsets. After this Kafka
    /// is prepared.
    pub fn acknowledged(&self, deadline: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        // The offsets take longer than the acknowledgements mostly, and while they do nobody has to look.
        let offsets = self.offsets();
        let reports = self.inner.context();
        let sent = Sent { alone: self.alone, transactional: self.transactional };
        let mut left = self.serve();
        while left > 0 && begun.elapsed() < deadline {
            std::thread::sleep(LOOK);
            left = self.serve();
        }
        match (reports.verdict(sent), offsets) {
            // A record that is refused is why all else failed. Other reports only repeat that the transaction did.
            (Err(refused), _) if matches!(refused.meaning(), Meaning::Poison | Meaning::Halt) => Err(refused),
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            (Ok(()), Ok(())) if left > 0 => {
                let seconds = begun.elapsed().as_secs();
                Err(Error::open(format!("{left} records are not acknowledged after {seconds} s"), None))
            }
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    /// Waits for the call for the group's next offsets.
    ///
    /// librdkafka 2.12 looks for the group's coordinator without a bound: once it has asked three times in vain, it waits
    /// until some broker goes or comes.
    fn offsets(&self) -> Result<(), Error> {
        let Some(Preparing { since, answer }) = self.preparing.take() else { return Ok(()) };
        answer.recv_timeout(HANG.saturating_sub(since.elapsed())).unwrap_or_else(|_| {
            self.hangs.set(true);
            let seconds = HANG.as_secs();
            Err(Error::open(format!("the call for the group's next offsets has no answer after {seconds} s"), None))
        })
    }

    /// Ends the transaction. [`Error::Open`] says that it may or may not have ended.
    pub fn commit(&self) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        retried(|| self.inner.commit_transaction(CALL)).map_err(|error| match error {
            // Whatever it was: the records may be visible already.
            Error::Abort { why, meaning } => Error::Open { why, meaning },
            other => other,
        })
    }

    /// Gives the transaction up. After an error the producer is not to be used again.
    pub fn abort(&self) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        // Whatever it says: the transaction is given up.
        let offsets = self.offsets();
        if self.hangs.get() {
            return offsets;
        }
        // The call waits for every delivery report, and nobody serves those meanwhile: with records in flight it would
        // take its whole timeout.
        self.inner.purge(PurgeConfig::default().queue());
        let begun = Instant::now();
        while self.serve() > 0 && begun.elapsed() < PURGE {
            std::thread::sleep(LOOK);
        }
        let done = retried(|| self.inner.abort_transaction(CALL));
        done.map_err(|error| Error::Open { why: error.to_string(), meaning: error.meaning() })
    }

    /// Serves the delivery reports that there are; returns how many records are not acknowledged yet. rdkafka's own `poll`
    /// serves one set's; with a time it always takes that time, and spins through its last millisecond.
    fn serve(&self) -> i32 {
        let mut left = self.inner.in_flight_count();
        loop {
            self.inner.poll(Duration::ZERO);
            let now = self.inner.in_flight_count();
            if now == 0 || now >= left {
                return now;
            }
            left = now;
        }
    }
}

fn retried(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && begun.elapsed() < CALL => {}
            Err(error) => return Err(classify(error)),
        }
    }
}

/// Runs what may never return on a thread of its own. `None`: no thread could be had, and it was not begun.
fn beside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Option<Receiver<T>> {
    let (done, returned) = crossbeam_channel::bounded(1);
    let work = move || {
        // Whether anybody still waits is of no interest here.
        drop(done.send(work()));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).ok()?;
    Some(returned)
}

/// A lane's producers. In a transactional mode there are two, used in turn: while the broker still writes the markers of
/// a transaction that has ended, the same producer's next one would have to wait for them.
pub struct Producers {
    pair: Vec<Producer>,
    turn: usize,
}

impl Producers {
    /// Connects under the names of this slot and lane: the same names always, since that is what ends the transactions of
    /// a process that died. When this returns, nothing that the names had left open is open any more.
    pub fn connect(
        pipeline: &Pipeline,
        slot: i32,
        lane: i32,
        sizes: Sizes,
        deadline: Duration,
    ) -> Result<Producers, Error> {
        let names: &[&str] = match pipeline.delivery.mode {
            DeliveryMode::EffectivelyOnce => &["a", "b"],
            DeliveryMode::AtLeastOnce => &["a"],
        };
        let connect = |name: &&str| {
            let id = format!("{}-{slot}-{lane}-{name}", pipeline.name);
            Producer::connect(pipeline, &id, sizes, deadline)
        };
        Ok(Producers { pair: side_by_side(names.iter(), connect)?, turn: 0 })
    }

    /// The one whose turn it is.
    pub fn current(&self) -> &Producer {
        &self.pair[self.turn]
    }

    /// Its transaction has ended.
    pub fn next(&mut self) {
        self.turn = (self.turn + 1) % self.pair.len();
    }
}

impl Drop for Producers {
    /// librdkafka joins its threads when a client ends, and may wait for ever for one whose broker went and came back while a
    /// transaction was being ended. Nothing depends on it: the next producers of the same names fence these.
    fn drop(&mut self) {
        let pair = std::mem::take(&mut self.pair);
        // Where no thread can be had they end here.
        let ended = beside("producers-end", move || drop(pair));
        if ended.is_some_and(|ended| ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout)) {
            tracing::warn!("old producers take long to end, and are left to themselves");
        }
    }
}

/// What takes its time by waiting: where a transaction is open, librdkafka asks again half a second later only.
pub fn side_by_side<I: Send, T: Send, E: Send>(
    of: impl Iterator<Item = I>,
    each: impl Fn(I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    std::thread::scope(|scope| {
        let each = &each;
        let begun: Vec<_> = of.map(|one| scope.spawn(move || each(one))).collect();
        begun.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The sizes that the topics of a pipeline take, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub message: usize,
    /// Of a set of records; a larger record is a set of its own.
    pub batch: usize,
}

/// What the client says of a record for this topic, with what to do where that is known.
fn explained(code: Option<RDKafkaErrorCode>, why: &str, topic: &str) -> String {
    match code {
        Some(RDKafkaErrorCode::UnknownTopic) => {
            format!("topic {topic} does not exist any more: create it (`tollgate setup`), then start again")
        }
        _ => format!("{why} (topic {topic})"),
    }
}

fn classify(error: KafkaError) -> Error {
    let KafkaError::Transaction(inner) = &error else {
        return Error::Open { why: error.to_string(), meaning: Meaning::Outage };
    };
    let meaning = classes::kafka_code(inner.code());
    if inner.txn_requires_abort() {
        return Error::Abort { why: inner.string(), meaning };
    }
    // Fenced means that another process began with this id: either it took our slot, or it ended what we had left
    // hanging. A new producer fences it in turn, so only the slot's lock may decide who is right.
    match meaning {
        Meaning::Fatal => Error::Refused(inner.string()),
        meaning => Error::Open { why: inner.string(), meaning },
    }
}
