//! A read-only consumer. It joins no group and commits nothing.

use std::sync::Mutex;
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::classes::{self, Meaning};
use crate::kafka::client;
use tollgate_config::Pipeline;
use tollgate_config::limits;

/// Captures librdkafka's log lines instead of printing them: every call returns the errors that matter, and librdkafka
/// also logs the ends of partitions as errors. The last line explains a failed call.
#[derive(Default)]
pub struct Quiet {
    complaint: Mutex<Option<String>>,
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "looking");
        if matches!(
            level,
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error
        ) && let Ok(mut complaint) = self.complaint.lock()
        {
            *complaint = Some(plain(message));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "looking");
    }
}

impl ConsumerContext for Quiet {}

pub type ReadOnlyConsumer = BaseConsumer<Quiet>;

/// Returns settings that read only committed records, as the engine does.
pub fn config(pipeline: &Pipeline) -> ClientConfig {
    let mut config = client::base(&pipeline.source);
    config
        // librdkafka requires a group id even for manual assignment.
        .set("group.id", &pipeline.source.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed");
    config
}

/// The cause of a failed call.
pub struct CallError {
    /// The code if the broker rejected us, as opposed to being unavailable.
    pub refused: Option<RDKafkaErrorCode>,
    /// librdkafka's own message, if it has one.
    pub why: String,
}

/// Returns the cause of an error; call it right after the failed call.
pub fn call_error(consumer: &ReadOnlyConsumer, error: &KafkaError) -> CallError {
    // Log lines also arrive only while polling.
    let refused = refusal(consumer, error);
    let complaint = consumer.context().complaint.lock().ok().and_then(|complaint| complaint.clone());
    CallError { refused, why: complaint.unwrap_or_else(|| error.to_string()) }
}

fn refusal(consumer: &ReadOnlyConsumer, error: &KafkaError) -> Option<RDKafkaErrorCode> {
    let refused = |code: &RDKafkaErrorCode| matches!(classes::kafka_code(*code), Meaning::Login | Meaning::Fatal);
    if let Some(code) = error.rdkafka_error_code().filter(refused) {
        return Some(code);
    }
    let until = Instant::now() + limits::REJECTION_EVENT;
    while Instant::now() < until {
        if let Some(Err(event)) = consumer.poll(limits::EVENT_POLL)
            && let Some(code) = event.rdkafka_error_code().filter(refused)
        {
            return Some(code);
        }
    }
    None
}

/// Removes the thread's name in front and the bookkeeping at the end:
/// `[thrd:x]: x/bootstrap: Connect to … failed: Connection refused (after 0ms in state CONNECT, 2 identical …)`.
fn plain(message: &str) -> String {
    let message =
        message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest);
    let message = message.rsplit_once(" (after ").map_or(message, |(message, _)| message);
    message.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_without_its_bookkeeping() {
        let said = "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection \
                    refused (after 0ms in state CONNECT, 1 identical error(s) suppressed)";
        assert_eq!(plain(said), "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        assert_eq!(plain("something else"), "something else");
    }
}
