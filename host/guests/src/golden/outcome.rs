//! The outcome of an event, in the form used in cases.

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};
use tollgate_contract::show_json;
use tollgate_sandbox::{Bytes, Events, FailureCode, Manifest, Outcome, Output, Results};

use super::Types;
use tollgate_config::reader::Complaint;
use tollgate_decide::dead_letter::{self, Reason};

/// Marks a key or a header's value that is not UTF-8; hex digits follow.
const HEX: &str = "hex:";

/// Describes the outcome of the only event in `results`.
pub(super) fn describe(results: &Results, events: &Events, manifest: &Manifest, types: &Types) -> Value {
    let said = match results.outcomes.first() {
        Some(Outcome::Outputs(_)) => {
            let outputs = results.outputs_of(0);
            match outputs {
                [passed] if passed.payload == Bytes::Input => {
                    let mut said = map(json!({"verdict": "pass"}));
                    edits(results, events, passed, &mut said);
                    said
                }
                outputs => {
                    let output = |output| describe_output(results, events, output, manifest, types);
                    let outputs: Vec<_> = outputs.iter().map(output).collect();
                    map(json!({"verdict": "replace", "outputs": outputs}))
                }
            }
        }
        Some(Outcome::Dropped { .. }) => map(json!({"verdict": "drop"})),
        Some(Outcome::Rejected(reason)) if let Some(message) = dead_letter::collision(&reason.code) => {
            map(json!({"verdict": "fail", "code": FailureCode::Protocol.as_str(), "message": message}))
        }
        Some(Outcome::Rejected(reason)) => {
            let mut said = map(json!({"verdict": "reject", "code": reason.code}));
            if !reason.field.is_empty() {
                said.insert("field".to_owned(), reason.field.as_str().into());
            }
            said.insert("message".to_owned(), reason.message.as_str().into());
            said
        }
        Some(Outcome::Failed(failed)) => {
            map(json!({"verdict": "fail", "code": failed.code.as_str(), "message": failed.message}))
        }
        None => Map::new(),
    };
    Value::Object(said)
}

/// Describes a contract's rejection of the event, before or after the transform.
pub(super) fn refusal(reason: &Reason) -> Value {
    let mut said = json!({
        "verdict": "reject", "stage": reason.stage.as_str(), "code": reason.code, "message": reason.message,
    });
    if !reason.field.is_empty() {
        said["field"] = reason.field.as_str().into();
    }
    said
}

fn map(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

fn describe_output(results: &Results, events: &Events, output: &Output, manifest: &Manifest, types: &Types) -> Value {
    let mut said = Map::new();
    if let Some(at) = output.route.checked_sub(1) {
        let name = usize::try_from(at).ok().and_then(|at| manifest.routes.get(at));
        said.insert("route".to_owned(), name.cloned().unwrap_or_default().into());
    }
    match results.payload(output, events, 0) {
        None => drop(said.insert("tombstone".to_owned(), true.into())),
        Some(payload) => match types.output(output.route).map(|kind| DynamicMessage::decode(kind.clone(), payload)) {
            Some(Ok(message)) => drop(said.insert("message".to_owned(), message_json(&message))),
            Some(Err(_)) | None => drop(said.insert("bytes".to_owned(), to_hex(payload).into())),
        },
    }
    edits(results, events, output, &mut said);
    Value::Object(said)
}

fn edits(results: &Results, events: &Events, output: &Output, said: &mut Map<String, Value>) {
    if output.key != Bytes::Input {
        let key = results.key(output, events, 0).map(show_bytes);
        said.insert("key".to_owned(), key.into());
    }
    if !output.headers.is_empty() {
        let headers = output.headers.iter().map(|(name, value)| (name.clone(), show_bytes(value).into()));
        said.insert("headers".to_owned(), Value::Object(headers.collect()));
    }
}

/// Returns Protobuf's JSON mapping, with defaults omitted. A value without a JSON form is replaced by the reason.
pub(super) fn message_json(message: &DynamicMessage) -> Value {
    match show_json(message) {
        Ok(json) => serde_json::from_str(&json).unwrap_or_default(),
        Err(rejection) => Value::from(rejection.message),
    }
}

fn show_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(HEX) => text.to_owned(),
        _ => format!("{HEX}{}", to_hex(bytes)),
    }
}

/// Returns a key or a header's value: text, or bytes as `hex:00ff`.
#[allow(clippy::unnecessary_wraps, reason = "the shape of the reader's kinds")]
pub(super) fn parse_bytes(text: &str) -> Result<Vec<u8>, Complaint> {
    match text.strip_prefix(HEX) {
        Some(digits) => hex::decode(digits)
            .map_err(|_| Complaint::new("is not a sequence of bytes; after hex: write two digits for each")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn bytes_come_back_from_what_is_shown_of_them() {
        for bytes in [&b""[..], b"key", b"\xff\x00", b"hex:1", "é".as_bytes()] {
            assert_eq!(parse_bytes(&show_bytes(bytes)).unwrap(), bytes);
        }
        for wrong in ["hex:1", "hex:zz", "hex:é"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
