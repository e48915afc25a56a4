//! Builds dead letters: the unchanged record, and the reason of its failure.
//!
//! Key, value and headers stay byte for byte. The `__connect.errors.*` headers are those that Kafka Connect's tools
//! read. The `tollgate.*` headers repeat them with more detail. docs/dead-letters.md lists them; a test compares both
//! lists.

use std::borrow::Cow;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate_contract::frame::SchemaId;
use tollgate_contract::{ReasonCode, Rejection, Violation, visible};
use tollgate_sandbox::FailureCode;

use crate::record::Headers;
use tollgate_config::limits;

/// The stage at which the event failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Contract,
    Transform,
    /// An output of the chain does not fit the output contract, the table or the output topic.
    Output,
    /// PostgreSQL rejected the row in spite of the checks.
    Sink,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Contract => "contract",
            Stage::Transform => "transform",
            Stage::Output => "output",
            Stage::Sink => "sink",
        }
    }
}

/// The reason why an event is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The code, which is stable. Tollgate's codes have a page in docs/reasons/; a transform's own codes do not.
    pub code: Cow<'static, str>,
    pub stage: Stage,
    /// The field's path, or empty.
    pub field: String,
    pub message: String,
    /// The name of the transform that rejected the event or failed on it.
    pub transform: Option<String>,
    pub fuel_used: Option<u64>,
    /// Every contract rule that the event violates.
    pub violations: Vec<Violation>,
}

impl Reason {
    pub fn new(stage: Stage, code: &'static str, message: impl Into<String>) -> Box<Reason> {
        Box::new(Reason {
            code: Cow::Borrowed(code),
            stage,
            field: String::new(),
            message: message.into(),
            transform: None,
            fuel_used: None,
            violations: Vec::new(),
        })
    }

    /// Returns the reason for a contract's rejection of an event.
    pub fn refused(stage: Stage, rejection: Rejection) -> Box<Reason> {
        let Rejection { code, field, message, violations } = rejection;
        let mut reason = Reason::new(stage, code.as_str(), message).field(field);
        reason.violations = violations;
        reason
    }

    /// Returns the reason for a destination contract's rejection of a transform's output. `route` is its route, or
    /// `None` at the chain's end.
    pub fn against_output(route: Option<&str>, rejection: Rejection) -> Box<Reason> {
        let mut reason = Reason::refused(Stage::Output, rejection);
        let route = route.map_or_else(String::new, |name| format!("on route {name}: "));
        reason.message = format!("{route}{}: {}", reason.code, reason.message);
        reason.code = Cow::Borrowed("output-contract");
        reason
    }

    pub fn field(mut self: Box<Reason>, field: impl Into<String>) -> Box<Reason> {
        self.field = field.into();
        self
    }
}

/// The host's own codes, in addition to those of the contract and the sandbox.
pub const CODES: &[&str] = &[
    "tombstone",
    "wrong-message-type",
    "row-value",
    "row-refused",
    "delete-not-possible",
    "output-contract",
    "output-too-large",
    "output-key-missing",
    "output-refused",
    "unknown-route",
    "frame-invalid",
    "schema-unknown",
    "schema-type",
    "schema-unusable",
    "version-missing",
    "version-not-accepted",
    "version-removed",
    "event-type-missing",
    "unknown-event-type",
    "envelope-payload-missing",
    "change-without-row",
    "idempotency-key-mismatch",
    "processed-id-missing",
];

/// Returns whether this is one of Tollgate's own codes.
pub fn is_builtin(code: &str) -> bool {
    CODES.contains(&code)
        || ReasonCode::ALL.iter().any(|known| known.as_str() == code)
        || FailureCode::ALL.iter().any(|known| known.as_str() == code)
}

/// Returns an error if a transform's rejection code would be mistaken for one of Tollgate's.
pub fn collision(code: &str) -> Option<String> {
    is_builtin(code).then(|| {
        format!("explain with the code `{code}`: this code is reserved for Tollgate; give the rejection another")
    })
}

/// The source record of a dead letter, and its pipeline.
pub struct Source<'a> {
    pub home: Home<'a>,
    /// The timestamp in Unix milliseconds, or -1 for none.
    pub timestamp: i64,
    /// The event type's name in `types:`, if there are several and the type is known.
    pub event_type: Option<&'a str>,
    /// The contract's full name and its digest in hex, or the envelope's if the event's own are unknown. `None` if the
    /// record's type is unknown.
    pub contract: Option<(&'a str, &'a str)>,
    /// The schema that the record names, if values are framed.
    pub schema: Option<SchemaId>,
    pub digest: &'a str,
    pub history: History,
}

/// The history that earlier failures of the same record left in its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The number of failures, from 1.
    pub attempt: u64,
    pub replays: u64,
    /// The time in Unix milliseconds at which the batch of the first failure was taken.
    pub first_failed_at: i64,
}

impl History {
    /// Returns the history of a record that failed for the first time.
    pub fn new(now: i64) -> History {
        History { attempt: 1, replays: 0, first_failed_at: now }
    }

    /// Continues the history in a record's headers if they belong to a dead letter that `home` wrote, and starts over
    /// otherwise. Anyone who may write to the source topic can forge such headers, so no decision depends on a history.
    pub fn of<'h>(home: &Home<'_>, now: i64, header: impl Fn(&str) -> Option<&'h [u8]>) -> History {
        let text = |name: &str| header(name).and_then(|value| std::str::from_utf8(value).ok());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let ours = text("tollgate.pipeline") == Some(home.pipeline)
            && text("tollgate.dead-letter-topic") == Some(home.letters)
            && text("tollgate.source").is_some_and(|source| home.precedes(source));
        let past = number("tollgate.attempt").zip(number("tollgate.replay-count"));
        let Some((attempt, replays)) = past.filter(|_| ours) else { return History::new(now) };
        let first = number("tollgate.first-failed-at").and_then(|at| i64::try_from(at).ok());
        History {
            attempt: attempt.saturating_add(1),
            replays,
            first_failed_at: first.filter(|at| *at <= now).unwrap_or(now),
        }
    }
}

/// The place where a record was read, and the pipeline that read it.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    pub pipeline: &'a str,
    /// The dead letter topic.
    pub letters: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

impl Home<'_> {
    /// Returns whether these coordinates, topic/partition/offset, belong to this source topic and may precede the
    /// record.
    fn precedes(&self, source: &str) -> bool {
        let mut parts = source.rsplitn(3, '/');
        let offset = parts.next().and_then(|part| part.parse::<i64>().ok());
        let partition = parts.next().and_then(|part| part.parse::<i32>().ok());
        let Some((partition, offset)) = partition.zip(offset) else { return false };
        parts.next() == Some(self.topic) && (partition != self.partition || offset < self.offset)
    }
}

/// Returns the dead letter's own headers. The record's headers come before them; see [`super::reserved`].
pub fn headers<'a>(source: &Source<'a>, reason: &'a Reason, reference: Option<&Reference>) -> Headers<'a> {
    let mut list = Headers { kept: true, own: Vec::with_capacity(32), origin: false };
    let message = bounded(&reason.message);
    let transform = reason.transform.as_deref().unwrap_or_default();
    let Home { pipeline, letters, topic, partition, offset } = source.home;
    list.text("__connect.errors.topic", topic);
    list.text("__connect.errors.partition", partition.to_string());
    list.text("__connect.errors.offset", offset.to_string());
    list.text("__connect.errors.connector.name", pipeline);
    list.text("__connect.errors.stage", reason.stage.as_str());
    list.text("__connect.errors.class.name", if transform.is_empty() { "tollgate" } else { transform });
    list.text("__connect.errors.exception.class.name", &*reason.code);
    list.text("__connect.errors.exception.message", message.clone());
    list.text("tollgate.reason", &*reason.code);
    list.text("tollgate.message", message);
    list.text("tollgate.stage", reason.stage.as_str());
    list.text("tollgate.source", format!("{topic}/{partition}/{offset}"));
    list.text("tollgate.timestamp", source.timestamp.to_string());
    list.text("tollgate.pipeline", pipeline);
    list.text("tollgate.dead-letter-topic", letters);
    if let Some(event_type) = source.event_type {
        list.text("tollgate.event-type", event_type);
    }
    if let Some((contract, digest)) = source.contract {
        list.text("tollgate.contract", contract);
        list.text("tollgate.contract-digest", digest);
    }
    list.text("tollgate.digest", source.digest);
    list.text("tollgate.first-failed-at", source.history.first_failed_at.to_string());
    list.text("tollgate.attempt", source.history.attempt.to_string());
    list.text("tollgate.replay-count", source.history.replays.to_string());
    if !reason.field.is_empty() {
        list.text("tollgate.field", bounded(&reason.field));
    }
    if let Some(schema) = source.schema {
        list.text("tollgate.schema-id", schema.to_string());
    }
    if let Some(first) = reason.violations.first() {
        list.text("tollgate.rule", bounded(&first.rule));
        list.text("tollgate.violations", violations(reason));
    }
    if !transform.is_empty() {
        list.text("tollgate.transform", transform);
    }
    if let Some(fuel) = reason.fuel_used {
        list.text("tollgate.fuel-used", fuel.to_string());
    }
    if let Some(reference) = reference {
        list.text("tollgate.stored", "reference");
        list.text("tollgate.value-bytes", reference.bytes.to_string());
        list.text("tollgate.value-sha256", reference.sha256.clone());
    }
    list
}

/// Returns all violations as JSON. The contract limits their number.
fn violations(reason: &Reason) -> String {
    let shown = reason.violations.iter().map(|Violation { rule, field, message, .. }| {
        json!({ "rule": bounded(rule), "field": bounded(field), "message": bounded(message) })
    });
    Value::Array(shown.collect()).to_string()
}

/// The replacement of a value that the dead letter topic cannot hold. The record stays in the source topic, at the
/// coordinates in the headers, until the topic's retention removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub bytes: usize,
    pub sha256: String,
}

impl Reference {
    pub fn to(value: &[u8]) -> Reference {
        Reference { bytes: value.len(), sha256: hex::encode(Sha256::digest(value)) }
    }

    /// Returns the part of the value that the dead letter contains.
    pub fn head(value: &[u8]) -> &[u8] {
        &value[..value.len().min(limits::REFERENCE_BYTES)]
    }
}

/// Truncates a text and removes characters that affect how the following text is displayed, since terminals will show
/// it.
fn bounded(text: &str) -> String {
    text.chars().take(limits::MESSAGE_CHARS).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home<'static> = Home { pipeline: "pay", letters: "pay.dlq", topic: "pay", partition: 1, offset: 40 };

    /// Returns the history of a record with a dead letter's headers, modified by `change`.
    fn history(change: &[(&str, &str)]) -> History {
        let of = |name: &str| match name {
            "tollgate.pipeline" => "pay",
            "tollgate.dead-letter-topic" => "pay.dlq",
            "tollgate.source" => "pay/1/39",
            "tollgate.attempt" => "4",
            "tollgate.replay-count" => "2",
            "tollgate.first-failed-at" => "1000",
            _ => "",
        };
        History::of(&HOME, 5_000, |name| {
            let changed = change.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
            Some(changed.unwrap_or(of(name)).as_bytes())
        })
    }

    #[test]
    fn a_letter_of_ours_goes_on_and_everything_else_starts_over() {
        let on = History { attempt: 5, replays: 2, first_failed_at: 1_000 };
        assert_eq!(history(&[]), on);
        assert_eq!(history(&[("tollgate.source", "pay/0/4000")]), on, "partitions keep their own order");
        for (name, value) in [
            ("tollgate.pipeline", "other"),
            ("tollgate.dead-letter-topic", "other.dlq"),
            ("tollgate.source", "other/1/39"),
            ("tollgate.source", "pay/1/40"),
            ("tollgate.source", "pay/1"),
            ("tollgate.attempt", "-1"),
            ("tollgate.attempt", "many"),
            ("tollgate.replay-count", ""),
        ] {
            assert_eq!(history(&[(name, value)]), History::new(5_000), "{name}: {value}");
        }
        assert_eq!(history(&[("tollgate.first-failed-at", "6000")]).first_failed_at, 5_000, "not in the future");
        assert_eq!(history(&[("tollgate.attempt", "18446744073709551615")]).attempt, u64::MAX);
        assert_eq!(History::of(&HOME, 5_000, |_| None), History::new(5_000));
    }
}
