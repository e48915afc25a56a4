//! Processes librdkafka's reports: the outcome of each record, and its own log lines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use crate::room::Budget;
use crate::{Acknowledged, Callback, Outcome, Undelivered};

/// A record in flight.
pub(crate) struct Pending {
    pub topic: Arc<str>,
    /// The room that it takes.
    pub bytes: usize,
    /// In a mutex only because librdkafka's handle must be `Sync`; it is never actually shared.
    pub report: Mutex<Option<Callback>>,
}

impl Pending {
    pub(crate) fn new(topic: &Arc<str>, bytes: usize, report: Callback) -> Box<Pending> {
        Box::new(Pending { topic: Arc::clone(topic), bytes, report: Mutex::new(Some(report)) })
    }
}

pub(crate) struct Reports {
    pub room: Budget,
    /// The number of records that were not acknowledged since the start.
    pub failed: AtomicU64,
    /// The last log line at error level, which explains a failed call.
    complaint: Mutex<Option<String>>,
    /// The reason if the broker rejected us.
    refusal: Mutex<Option<String>>,
}

impl Reports {
    pub(crate) fn new(room: Budget) -> Reports {
        Reports { room, failed: AtomicU64::new(0), complaint: Mutex::default(), refusal: Mutex::default() }
    }

    pub(crate) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn settle(&self, pending: Pending, outcome: Outcome) {
        if outcome.is_err() {
            self.failed.fetch_add(1, Ordering::AcqRel);
        }
        let report = pending.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = report {
            // A caller's panic must not end the thread that delivers all reports.
            if catch_unwind(AssertUnwindSafe(|| report(outcome))).is_err() {
                tracing::error!("a delivery callback panicked");
            }
        }
        // The room is returned last, so that a thread that waits until nothing is in flight then finds every report
        // made.
        self.room.give(pending.bytes);
    }
}

/// Returns whether retrying cannot resolve the error.
pub(crate) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
        let bad = matches!(
            level,
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error
        );
        if bad {
            *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain(message));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        if error.rdkafka_error_code().is_some_and(is_refusal) {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain(reason));
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        let topic = Arc::clone(&pending.topic);
        let outcome = match result {
            Ok(message) => Ok(Acknowledged { topic, partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(Undelivered { topic, reason: self.reason(error) }),
        };
        self.settle(*pending, outcome);
    }
}

impl Reports {
    fn reason(&self, error: &KafkaError) -> String {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageTimedOut) => match self.complaint() {
                Some(complaint) => format!("not acknowledged within the delivery timeout; last: {complaint}"),
                None => "not acknowledged within the delivery timeout".to_owned(),
            },
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
                "cancelled before it was acknowledged".to_owned()
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => "the record is larger than the topic accepts".to_owned(),
            Some(code) => code.to_string(),
            None => error.to_string(),
        }
    }
}

/// Removes the thread's name in front and the bookkeeping at the end.
fn plain(message: &str) -> String {
    let message =
        message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest);
    let message = message.rsplit_once(" (after ").map_or(message, |(message, _)| message);
    message.trim().to_owned()
}
