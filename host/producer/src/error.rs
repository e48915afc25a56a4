//! The error types, one for each operation.

use std::io;

use tollgate_contract::CompileError;

use crate::Rejected;
use crate::envelope::EnvelopeError;

/// The reason why a producer cannot be created. The program or its operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("there is no route; name at least one topic with its contract")]
    NoRoute,
    #[error("topic {topic} has two routes; keep one")]
    TwoRoutes { topic: String },
    #[error("the key of topic {topic}: {source}")]
    Key { topic: String, source: CompileError },
    #[error(
        "the key of topic {topic}: {field} is {kind}, but a key can only contain bool, integer, enum and string fields"
    )]
    KeyKind { topic: String, field: String, kind: String },
    #[error("the envelope of topic {topic}: {source}")]
    Envelope { topic: String, source: Box<EnvelopeError> },
    /// librdkafka's own message is not used, because it repeats values, which may be secrets.
    #[error("librdkafka rejects the value of the setting {setting}")]
    Setting { setting: String },
    #[error("the setting {setting} is reserved for the producer; {instead}")]
    OwnedSetting { setting: String, instead: &'static str },
    #[error("librdkafka cannot create a producer: {0}")]
    Client(String),
    #[error("cannot open the file for rejected events: {0}")]
    Rejects(io::Error),
    #[error("cannot start the thread for delivery reports: {0}")]
    Thread(io::Error),
}

/// The reason why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The event is at fault.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("there is no route to topic {topic}")]
    NoRoute { topic: String },
    /// The buffer was full until the deadline; no part of the event was queued.
    #[error("the buffer is full: {records} records of {bytes} bytes wait for the broker")]
    Full { records: usize, bytes: usize },
    /// The client library does not accept the event now: outside of a transaction, in a failed one, or after a fatal
    /// error.
    #[error("the producer does not accept events: {0}")]
    Refused(String),
    /// The event is rejected, and the original cannot be stored.
    #[error("cannot write the file for rejected events: {0}")]
    Rejects(io::Error),
}

/// The reason why the topics are not ready for producing.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("Kafka at {brokers} cannot be reached: {why}")]
    Unreachable { brokers: String, why: String },
    #[error("Kafka refuses this client: {why}")]
    Refused { why: String },
    #[error("topic {topic} does not exist")]
    TopicMissing { topic: String },
    #[error("topic {topic} cannot be used: {why}")]
    Topic { topic: String, why: String },
}

/// Records that are still in flight at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{records} records are not acknowledged")]
pub struct Unacknowledged {
    pub records: usize,
}

/// The reason why a transaction could not be begun or committed.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    #[error("the producer has no transactional id; set Config::transactional_id")]
    NotTransactional,
    #[error("a transaction is open already")]
    Open,
    /// The transaction was rolled back: none of its events is visible, and the producer is usable.
    #[error("the transaction was rolled back: {0}")]
    RolledBack(String),
    /// The outcome is unknown, or the producer is fenced. Create a new producer with the same id, which resolves the
    /// transaction.
    #[error("the producer cannot continue: {0}")]
    Fatal(String),
}
