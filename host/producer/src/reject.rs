//! Events that their contract rejects, with their violations, and the two forms in which they are stored.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value as Json, json};
use tollgate_contract::Rejection;

use crate::Delivery;

/// The maximum length of the violations in a dead letter's headers: brokers limit the whole record, headers included.
const HEADER_CHARS: usize = 8_000;

/// A violation by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A reason code of the contract, or one of those in docs/produce.md.
    pub code: Cow<'static, str>,
    /// The id of the violated rule of the contract; empty for other codes.
    pub rule: String,
    /// The dotted path of the field, with indexes. It is empty for the whole event.
    pub field: String,
    /// A sentence without a full stop.
    pub message: String,
}

impl Violation {
    pub fn new(code: &'static str, field: impl Into<String>, message: impl Into<String>) -> Violation {
        Violation { code: Cow::Borrowed(code), rule: String::new(), field: field.into(), message: message.into() }
    }

    /// Returns all violations in a rejection.
    pub(crate) fn all(rejection: Rejection) -> Vec<Violation> {
        let code = Cow::Borrowed(rejection.code.as_str());
        if rejection.violations.is_empty() {
            let Rejection { field, message, .. } = rejection;
            return vec![Violation { code, rule: String::new(), field, message }];
        }
        let of_rule = |violation: tollgate_contract::Violation| Violation {
            code: code.clone(),
            rule: violation.rule,
            field: violation.field,
            message: violation.message,
        };
        rejection.violations.into_iter().map(of_rule).collect()
    }

    fn to_json(&self) -> Json {
        json!({ "code": self.code, "rule": self.rule, "field": self.field, "message": self.message })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if self.rule.is_empty() { Ok(()) } else { write!(f, " ({})", self.rule) }
    }
}

/// A rejected event, with the reasons.
#[derive(Debug, thiserror::Error)]
#[error("the event for topic {topic} is not a valid {contract}: {}", list(.violations))]
pub struct Rejected {
    pub topic: Arc<str>,
    /// Full name of the message type.
    pub contract: String,
    /// The violations. There is at least one.
    pub violations: Vec<Violation>,
    /// The dead letter in flight, if rejected events go to a topic.
    pub letter: Option<Delivery>,
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

/// The caller's input: its bytes and their origin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Original<'a> {
    /// All bytes, or the first ones.
    pub bytes: &'a [u8],
    /// The full length if `bytes` is truncated.
    pub whole: Option<u64>,
    pub content_type: &'a str,
    /// The file name, or another name of the input.
    pub source: Option<&'a str>,
    /// The line, starting at 1.
    pub line: Option<u64>,
    /// The event's number in the input, from 1.
    pub input: Option<u64>,
}

impl Rejected {
    /// Returns one object: the origin, all violations, the original.
    #[must_use]
    pub fn to_json(&self, original: &Original<'_>) -> Json {
        let mut object = json!({
            "source": original.source,
            "line": original.line,
            "input": original.input,
            "topic": &*self.topic,
            "contract": self.contract,
            "violations": self.violations.iter().map(Violation::to_json).collect::<Vec<_>>(),
            "content_type": original.content_type,
        });
        let Some(fields) = object.as_object_mut() else { return object };
        // Text is stored as text, and anything else as base64, which is exact.
        match std::str::from_utf8(original.bytes) {
            Ok(text) => fields.insert("original".to_owned(), json!(text)),
            Err(_) => fields.insert("original_base64".to_owned(), json!(STANDARD.encode(original.bytes))),
        };
        if let Some(whole) = original.whole {
            fields.insert("original_bytes".to_owned(), json!(whole));
        }
        object
    }

    /// Returns the headers of the dead letter; its value is the original.
    pub(crate) fn headers(&self, original: &Original<'_>) -> Vec<(&'static str, String)> {
        let empty = Violation::new("", "", "");
        let first = self.violations.first().unwrap_or(&empty);
        let mut message = list(&self.violations);
        cut(&mut message);
        let mut headers = vec![
            ("content-type", original.content_type.to_owned()),
            ("tollgate.reason", first.code.to_string()),
            ("tollgate.message", visible(&message)),
            ("tollgate.stage", "produce".to_owned()),
            ("tollgate.contract", self.contract.clone()),
            ("tollgate.violations", self.violations_text()),
            ("tollgate.first-failed-at", now().to_string()),
            ("__connect.errors.topic", self.topic.to_string()),
            ("__connect.errors.stage", "produce".to_owned()),
            ("__connect.errors.class.name", "tollgate".to_owned()),
            ("__connect.errors.exception.class.name", first.code.to_string()),
            ("__connect.errors.exception.message", visible(&message)),
        ];
        if !first.field.is_empty() {
            headers.push(("tollgate.field", visible(&first.field)));
        }
        if let Some(source) = original.source {
            let line = original.line.map(|line| format!(":{line}")).unwrap_or_default();
            headers.push(("tollgate.source", format!("{}{line}", visible(source))));
        }
        if let Some(whole) = original.whole {
            headers.push(("tollgate.stored", "beginning".to_owned()));
            headers.push(("tollgate.value-bytes", whole.to_string()));
        }
        headers
    }

    /// Returns as many violations as fit, as a JSON array.
    fn violations_text(&self) -> String {
        let mut shown = Vec::new();
        let mut chars = 0;
        for violation in &self.violations {
            let text = violation.to_json().to_string();
            chars += text.len();
            if chars > HEADER_CHARS && !shown.is_empty() {
                break;
            }
            shown.push(text);
        }
        format!("[{}]", shown.join(","))
    }
}

pub(crate) fn owned(headers: &[(&'static str, String)]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |list, (key, value)| {
        list.insert(Header { key, value: Some(value.as_bytes()) })
    })
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(HEADER_CHARS) {
        text.truncate(at);
    }
}

/// Replaces characters that affect how the following text is displayed, since terminals will show it.
fn visible(text: &str) -> String {
    text.chars().map(tollgate_contract::visible).collect()
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Writes rejected events, one JSON object per line.
#[derive(Debug)]
pub struct Rejects<W: Write>(W);

impl<W: Write> Rejects<W> {
    pub fn new(out: W) -> Rejects<W> {
        Rejects(out)
    }

    /// # Errors
    /// Fails if the line cannot be written.
    pub fn write(&mut self, rejected: &Rejected, original: &Original<'_>) -> io::Result<()> {
        let line = rejected.to_json(original).to_string();
        self.0.write_all(tollgate_contract::escape_marks(&line).as_bytes())?;
        self.0.write_all(b"\n")
    }

    /// # Errors
    /// Fails if the buffered lines cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected() -> Rejected {
        Rejected {
            topic: "orders".into(),
            contract: "shop.v1.Order".into(),
            violations: vec![
                Violation::new("json-wrong-type", "total", "no number"),
                Violation::new("key-missing", "", "line\nbreak"),
            ],
            letter: None,
        }
    }

    #[test]
    fn a_line_holds_every_violation_and_the_original() {
        let original = Original {
            bytes: b"{\"total\":\"x\"}",
            content_type: "application/json",
            source: Some("orders.ndjson"),
            line: Some(7),
            input: Some(6),
            whole: None,
        };
        let mut out = Vec::new();
        Rejects::new(&mut out).write(&rejected(), &original).unwrap();
        let line: Json = serde_json::from_slice(out.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(line["violations"][1]["code"], json!("key-missing"));
        assert_eq!(
            (&line["line"], &line["input"], &line["original"]),
            (&json!(7), &json!(6), &json!("{\"total\":\"x\"}"))
        );
        let binary = rejected().to_json(&Original { bytes: &[0xff, 0x00], whole: Some(9_000), ..original });
        assert_eq!((&binary["original_base64"], &binary["original_bytes"]), (&json!("/wA="), &json!(9_000)));
        assert!(binary.get("original").is_none());
    }

    #[test]
    fn a_letters_headers_say_the_same_and_hold_no_control_characters() {
        let original = Original { source: Some("a\u{1b}b"), line: Some(3), ..Original::default() };
        let headers = rejected().headers(&original);
        let said = |name: &str| &headers.iter().find(|(header, _)| *header == name).unwrap().1;
        assert_eq!(said("tollgate.reason"), "json-wrong-type");
        assert_eq!(said("tollgate.source"), "a\u{fffd}b:3");
        let violations: Json = serde_json::from_str(said("tollgate.violations")).unwrap();
        assert_eq!(violations.as_array().unwrap().len(), 2);
        assert!(headers.iter().all(|(_, value)| !value.chars().any(char::is_control)));
    }

    #[test]
    fn very_many_violations_fit_all_the_same() {
        let many = (0..10_000).map(|n| Violation::new("json-wrong-type", format!("items[{n}]"), "no number")).collect();
        let headers = Rejected { violations: many, ..rejected() }.headers(&Original::default());
        assert!(headers.iter().map(|(_, value)| value.len()).sum::<usize>() < 4 * HEADER_CHARS);
        let violations = headers.iter().find(|(name, _)| *name == "tollgate.violations").unwrap();
        assert!(serde_json::from_str::<Json>(&violations.1).unwrap().as_array().unwrap().len() > 10);
    }
}
