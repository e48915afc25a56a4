//! The errors of an attempt at a batch.

use std::time::Duration;

use tollgate_sandbox::RunError;

use crate::brakes::sink::{Observation, PerSink, Sink};
use crate::classes::{self, Meaning};
use crate::progress::halts::Halt;
use crate::sinks::kafka;
use crate::sinks::postgres::connect;
use tollgate_config::error::Class;
use tollgate_config::limits;
use tollgate_registry::SchemaError;

/// The reason why an attempt at a batch failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("postgres: {}", connect::describe(.0))]
    Postgres(#[source] sqlx::Error),
    /// The server did not respond in time. The connection is dropped, and the outcome of the statement is unknown.
    #[error("postgres: no answer within {} s", limits::STATEMENT_PATIENCE.as_secs())]
    Timeout,
    #[error("kafka: {0}")]
    Kafka(#[from] kafka::Error),
    #[error("kafka: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    #[error(transparent)]
    Sandbox(#[from] RunError),
    #[error("registry: {0}")]
    Registry(SchemaError),
    /// PostgreSQL rejects a batch but accepts its rows one by one.
    #[error("postgres rejects a batch but accepts its rows one by one: {0}")]
    Indivisible(String),
    /// A progress row did not match: it has another owner, or the reply to a commit of ours was lost.
    #[error("a progress row is not in the state in which this lane left it")]
    Guard,
    /// Two lanes processed the same id. The slower one decides again and finds that it has been processed.
    #[error("another lane has processed an id of this batch meanwhile")]
    Repeated,
    #[error("this process is currently not a member of the consumer group")]
    NotAMember,
    /// The Kafka transaction is about to time out, so PostgreSQL must not commit its half.
    #[error("the Kafka transaction has been open for {:.1} s, close to `delivery.transaction_timeout`", .0.as_secs_f64())]
    Late(Duration),
    #[error("this process has lost its slot to another one")]
    SlotLost,
    #[error("paused: {0}")]
    Paused(String),
    /// Only an operator can decide how this partition continues; the others continue.
    #[error("{}", .0.message)]
    Halt(Box<Halt>),
    #[error("{0}")]
    Fatal(String),
}

impl Error {
    pub fn class(&self) -> Class {
        if let Some((_, meaning)) = self.server_error() {
            return meaning.class();
        }
        match self {
            Error::Indivisible(_) => Class::Poison,
            Error::Sandbox(error) => match error.class() {
                tollgate_sandbox::Class::Poison => Class::Poison,
                tollgate_sandbox::Class::Transient => Class::Transient,
                tollgate_sandbox::Class::Fatal => Class::Fatal,
            },
            Error::Registry(error) => error.class(),
            Error::Fatal(_) => Class::Fatal,
            Error::Postgres(_)
            | Error::Timeout
            | Error::Kafka(_)
            | Error::Client(_)
            | Error::Guard
            | Error::Repeated
            | Error::NotAMember
            | Error::Late(_)
            | Error::SlotLost
            | Error::Paused(_)
            // The batch continues without the partition.
            | Error::Halt(_) => Class::Transient,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        Error::Postgres(error)
    }
}

impl Error {
    /// Returns the server and the meaning of its error, if a server caused this.
    pub(super) fn server_error(&self) -> Option<(Sink, Meaning)> {
        Some(match self {
            Error::Postgres(error) => (Sink::Postgres, connect::meaning(error)),
            Error::Timeout => (Sink::Postgres, Meaning::Outage),
            Error::Kafka(error) => (Sink::Kafka, error.meaning()),
            Error::Client(error) => (Sink::Kafka, classes::kafka(error)),
            Error::Sandbox(_)
            | Error::Registry(_)
            | Error::Indivisible(_)
            | Error::Guard
            | Error::Repeated
            | Error::NotAMember
            | Error::Late(_)
            | Error::SlotLost
            | Error::Paused(_)
            | Error::Halt(_)
            | Error::Fatal(_) => return None,
        })
    }

    /// Returns what this error shows about the servers themselves.
    pub(super) fn observed(&self) -> PerSink<Observation> {
        let at = |(sink, meaning): (Sink, Meaning)| PerSink::only(sink, meaning.observation());
        self.server_error().map_or(PerSink::NOTHING, at)
    }
}
