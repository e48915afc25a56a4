//! The Kafka side of a batch: outputs and dead letters, in one transaction with the group's next offsets.
//!
//! rdkafka 0.39's `commit_transaction` and `flush` take a fixed 100 ms while messages are in flight, so a batch's
//! acknowledgements are polled for first. Every error that leaves the outcome unknown ends this producer: its
//! successor's `init_transactions` resolves the old transaction. This also protects against an EndTxn that arrives
//! late, and against a call that has not returned in time.

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
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline};
use tollgate_decide::record::NewRecord;

pub use reports::Refusal;
use reports::{Reports, Sent};

/// An error on the Kafka side of a batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing of the batch is visible, and the producer is usable: abort and retry.
    #[error("the Kafka transaction cannot be completed: {why}")]
    Abort { why: String, meaning: Meaning },
    /// The outcome of the transaction is unknown: a new producer must resolve it.
    #[error("the outcome of a Kafka transaction is open: {why}")]
    Open { why: String, meaning: Meaning },
    /// Records that their topics always reject, whoever sends them. There is at least one.
    #[error("{}", .0.iter().map(Refusal::to_string).next().unwrap_or_default())]
    Records(Vec<Refusal>),
    /// A set of records is too large (`size`), or contains a rejected record that is not named.
    #[error("the whole set of records was rejected: {one}")]
    Set { one: Refusal, size: bool },
    /// An output names a partition that its topic does not have.
    #[error("topic {topic} lacks the partition of its source")]
    NoPartition { mark: usize, topic: String },
    /// Another process uses this transactional id, or the broker rejects us.
    #[error("Kafka rejected this producer: {0}")]
    Refused(String),
}

impl Error {
    /// An unknown outcome, with the code that caused it.
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
    /// Whether each record is sent as a separate set.
    alone: bool,
    /// A call in progress, during which librdkafka accepts no other call for the transaction.
    preparing: Cell<Option<Preparing>>,
    /// Whether a call has not returned in time.
    hangs: Cell<bool>,
}

/// A started call for the group's next offsets.
struct Preparing {
    since: Instant,
    answer: Receiver<Result<(), Error>>,
}

impl Producer {
    /// Connects, and in a transactional mode ends any transaction that this id left open. Blocks up to `deadline`.
    pub fn connect(pipeline: &Pipeline, id: &str, largest: Sizes, deadline: Duration) -> Result<Producer, Error> {
        // Without transactions the client must not have an id either: it would reject records outside of one.
        let transactional = pipeline.delivery.mode == DeliveryMode::EffectivelyOnce && !hazards().no_transaction;
        let mut config = client::producer(pipeline, transactional.then_some(id));
        // A single message may be as large as the largest topic limit; a batch no larger than the smallest.
        config.set("message.max.bytes", largest.message.to_string()).set("batch.size", largest.batch.to_string());
        let inner: BaseProducer<Reports> =
            config.create_with_context(Reports::default()).map_err(|error| Error::Refused(client::explain(&error)))?;
        if transactional {
            let begun = Instant::now();
            loop {
                match inner.init_transactions(limits::KAFKA_CALL.min(deadline)) {
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

    /// Queues a record, which librdkafka sends from its own thread. Takes ownership of `headers`. A [`Refusal`] names
    /// the record by `mark`. `timestamp` is in Unix milliseconds; `None` is the time of the call.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
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
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) if begun.elapsed() < limits::KAFKA_CALL => {
                    std::thread::sleep(limits::REPORTS_LOOK);
                    self.serve();
                    record = back;
                }
                KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    let bytes = letter.key.map_or(0, <[u8]>::len) + letter.value.map_or(0, <[u8]>::len);
                    let why = format!("it has {bytes} bytes, more than the client sends");
                    return Err(Error::Records(vec![Refusal { mark, topic: letter.topic.to_owned(), why }]));
                }
                KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition) => {
                    return Err(Error::NoPartition { mark, topic: letter.topic.to_owned() });
                }
                error => {
                    // For an unusable client the error carries no other information.
                    let done_for = self.inner.client().fatal_error();
                    let (code, why) = done_for
                        .map_or((error.rdkafka_error_code(), error.to_string()), |(code, why)| (Some(code), why));
                    let why = explained(code, &why, letter.topic);
                    return Err(Error::Abort { why, meaning: code.map_or(Meaning::Outage, classes::kafka_code) });
                }
            }
        }
    }

    /// Starts adding the group's next offsets to the transaction, along with its records.
    pub fn prepare(&self, offsets: TopicPartitionList, group: &Arc<ConsumerGroupMetadata>) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        let (inner, group) = (Arc::clone(&self.inner), Arc::clone(group));
        // I2: the group's offsets are committed by the transaction of the outputs.
        let call = move || retried(|| inner.send_offsets_to_transaction(&offsets, &group, limits::KAFKA_CALL));
        let answer = beside("producer-offsets", call)
            .ok_or_else(|| Error::open("cannot start a thread to send the group's next offsets", None))?;
        self.preparing.set(Some(Preparing { since: Instant::now(), answer }));
        Ok(())
    }

    /// Waits until the broker has acknowledged all records and the group's next offsets. After this Kafka is
    /// prepared.
    pub fn acknowledged(&self, deadline: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        // The offsets usually take longer than the acknowledgements, and nothing needs checking meanwhile.
        let offsets = self.offsets();
        let reports = self.inner.context();
        let sent = Sent { alone: self.alone, transactional: self.transactional };
        let mut left = self.serve();
        while left > 0 && begun.elapsed() < deadline {
            std::thread::sleep(limits::REPORTS_LOOK);
            left = self.serve();
        }
        match (reports.verdict(sent), offsets) {
            // A rejected record is the root cause. Other reports only repeat that the transaction failed.
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
    /// librdkafka 2.12 searches for the group's coordinator without a limit: after three failed requests it waits until
    /// some broker disconnects or connects.
    fn offsets(&self) -> Result<(), Error> {
        let Some(Preparing { since, answer }) = self.preparing.take() else { return Ok(()) };
        answer.recv_timeout(limits::KAFKA_HANG.saturating_sub(since.elapsed())).unwrap_or_else(|_| {
            self.hangs.set(true);
            let seconds = limits::KAFKA_HANG.as_secs();
            Err(Error::open(format!("the call for the group's next offsets has no answer after {seconds} s"), None))
        })
    }

    /// Commits the transaction. [`Error::Open`] means that it may or may not have been committed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    pub fn commit(&self) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        retried(|| self.inner.commit_transaction(limits::KAFKA_CALL)).map_err(|error| match error {
            // After any error the records may already be visible.
            Error::Abort { why, meaning } => Error::Open { why, meaning },
            other => other,
        })
    }

    /// Aborts the transaction. After an error the producer must not be used again.
    pub fn abort(&self) -> Result<(), Error> {
        if !self.transactional {
            return Ok(());
        }
        // The result does not matter: the transaction is aborted anyway.
        let offsets = self.offsets();
        if self.hangs.get() {
            return offsets;
        }
        // The call waits for every delivery report, and nothing serves those meanwhile: with records in flight it would
        // take its whole timeout.
        self.inner.purge(PurgeConfig::default().queue());
        let begun = Instant::now();
        while self.serve() > 0 && begun.elapsed() < limits::PRODUCER_PURGE {
            std::thread::sleep(limits::REPORTS_LOOK);
        }
        let done = retried(|| self.inner.abort_transaction(limits::KAFKA_CALL));
        done.map_err(|error| Error::Open { why: error.to_string(), meaning: error.meaning() })
    }

    /// Serves the pending delivery reports; returns how many records are not acknowledged yet. rdkafka's own `poll`
    /// serves those of one set; with a timeout it always takes the whole time, and spins through its last millisecond.
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
            Err(KafkaError::Transaction(error)) if error.is_retriable() && begun.elapsed() < limits::KAFKA_CALL => {}
            Err(error) => return Err(classify(error)),
        }
    }
}

/// Runs work that may never return on a separate thread. Returns `None` if the thread could not be created; the work
/// has then not begun.
fn beside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Option<Receiver<T>> {
    let (done, returned) = crossbeam_channel::bounded(1);
    let work = move || {
        // The receiver may have stopped waiting.
        drop(done.send(work()));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).ok()?;
    Some(returned)
}

/// A lane's producers. In a transactional mode there are two, used in turn: while the broker still writes the markers
/// of a finished transaction, the same producer's next one would have to wait for them.
pub struct Producers {
    pair: Vec<Producer>,
    turn: usize,
}

impl Producers {
    /// Connects under the names of this slot and lane. The names never change, which is what ends the transactions of a
    /// dead process. After this call, no transaction under these names is open any more.
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

    /// Returns the producer whose turn it is.
    pub fn current(&self) -> &Producer {
        &self.pair[self.turn]
    }

    /// Switches producers after a transaction has ended.
    pub fn next(&mut self) {
        self.turn = (self.turn + 1) % self.pair.len();
    }
}

impl Drop for Producers {
    /// Closes the producers on another thread. librdkafka joins its threads when a client closes, and may wait forever
    /// for the thread of a broker that reconnected while a transaction was being ended. Nothing depends on the close,
    /// because the next producers with the same names fence these.
    fn drop(&mut self) {
        let pair = std::mem::take(&mut self.pair);
        // If no thread can be created, they close here.
        let ended = beside("producers-end", move || drop(pair));
        if ended.is_some_and(|ended| ended.recv_timeout(limits::PRODUCER_CLOSE) == Err(RecvTimeoutError::Timeout)) {
            tracing::warn!("old producers take long to close; not waiting for them");
        }
    }
}

/// Runs slow calls in parallel. While a transaction is open, librdkafka retries only after half a second.
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

/// The sizes that the topics of a pipeline accept, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub message: usize,
    /// The limit of a set of records; a larger record is a set of its own.
    pub batch: usize,
}

/// Returns the client's error for a record for this topic, with advice if it is known.
fn explained(code: Option<RDKafkaErrorCode>, why: &str, topic: &str) -> String {
    match code {
        Some(RDKafkaErrorCode::UnknownTopic) => {
            format!("topic {topic} no longer exists: create it (`tollgate setup`), then restart")
        }
        _ => format!("{why} (topic {topic})"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn classify(error: KafkaError) -> Error {
    let KafkaError::Transaction(inner) = &error else {
        return Error::Open { why: error.to_string(), meaning: Meaning::Outage };
    };
    let meaning = classes::kafka_code(inner.code());
    if inner.txn_requires_abort() {
        return Error::Abort { why: inner.string(), meaning };
    }
    // "Fenced" means that another process started with this id: it either took our slot, or ended a transaction that we
    // had left open. A new producer fences it in turn, so only the slot's lock may decide which one is right.
    match meaning {
        Meaning::Fatal => Error::Refused(inner.string()),
        meaning => Error::Open { why: inner.string(), meaning },
    }
}
