//! Tests JSON: no panic, the same bytes as prost-reflect's own reader gives, and the same message when it is converted
//! back.
//!
//! If the two readers differ, the difference must be one of these:
//! - The gate refuses more: fields that occur twice, leap seconds, more than nine digits of a second, `nan` and `inf`
//!   in other spellings than Protobuf's, and invalid JSON below unknown keys.
//! - The gate accepts more: `"1e2"` and `"1.0"` for whole numbers, `1.0` for an enum's number, `{}` for an Any, and
//!   numbers beyond a double's range below unknown keys. Its result is converted to JSON, which both must read alike.
//! - A policy decides whether unknown keys are allowed; unknown enum names never are. prost-reflect ignores both or
//!   neither.
//! - A float is rounded once; prost-reflect rounds it to a double first.
//! - A repeated message is two levels of JSON and one of Protobuf, so the JSON of a message may be too deep to be read
//!   (127 levels).
//! - Bytes may violate the contract in ways that JSON cannot express: a missing required field, an unknown enum number,
//!   a group, nesting beyond 100 levels (JSON may have 127).

use std::sync::LazyLock;

use prost_reflect::{DeserializeOptions, DynamicMessage, Value};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use tollgate_contract::{Contract, DuplicateMembers, Fields, ReasonCode, Rejection, UnknownFields, find_member};

use crate::choices::Choices;
use crate::grow;
use crate::reference::canonical;
use crate::schemas::{self, Schema};

/// The nesting limit of serde_json.
const JSON_NESTING: usize = 127;

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(schemas::plain);

/// Compiles the contracts, before executions are counted.
pub fn warm() {
    LazyLock::force(&SCHEMAS);
}

/// Checks one text. One byte selects the message type, and one whether the rest is text or a payload that is first
/// converted to text.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let schema = schemas::choose(&SCHEMAS, &mut choices);
    // These are the usual policies, and the reversed ones: unknown fields refused, unknown enum numbers kept.
    let [usual, flipped, ..] = &*schema.contracts else { panic!("two policies at least") };
    if choices.byte() & 1 == 0 {
        let json = choices.rest();
        member(json);
        text(usual, flipped, json);
    } else {
        let payload = grow::payload(&schema.message, &mut choices);
        shown(flipped, &payload);
    }
}

fn reference(contract: &Contract, json: &[u8], strict: bool) -> Option<DynamicMessage> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(strict);
    let message =
        DynamicMessage::deserialize_with_options(contract.message().clone(), &mut deserializer, &options).ok()?;
    deserializer.end().ok().map(|()| message)
}

fn text(usual: &Contract, flipped: &Contract, json: &[u8]) {
    assert_eq!(usual.policies().unknown_fields, UnknownFields::Allow);
    for (contract, strict) in [(flipped, true), (usual, false)] {
        let (told, mut bytes) = (String::from_utf8_lossy(json), Vec::new());
        let found = contract.transcode_json(json, &mut bytes);
        match (&found, reference(contract, json, strict)) {
            (Ok(()), Some(message)) => same(contract, &bytes, &message, &told),
            (Err(_), None) => {}
            (Err(rejection), Some(_)) => assert!(is_stricter(rejection, strict), "{rejection}: {told}"),
            (Ok(()), None) => more(contract, &bytes, &told),
        }
    }
}

/// Returns whether this is one of the errors that only the gate reports.
fn is_stricter(rejection: &Rejection, strict: bool) -> bool {
    let expected =
        |what: &str| rejection.message.starts_with(what) && rejection.message.ends_with("found another text");
    match rejection.code {
        ReasonCode::JsonDuplicateMember => true,
        ReasonCode::JsonWrongType => {
            ["expected a time", "expected a duration"].into_iter().any(expected)
                || rejection.message.contains("floating-point")
        }
        // prost-reflect does not check what it ignores.
        ReasonCode::UnknownEnum | ReasonCode::JsonInvalid | ReasonCode::RecursionLimit => !strict,
        _ => false,
    }
}

/// Checks that what only the gate accepts is converted to JSON that both read alike.
fn more(contract: &Contract, bytes: &[u8], told: &str) {
    let Ok(json) = contract.to_json(bytes) else { return };
    let message = reference(contract, json.as_bytes(), true);
    let message = message.unwrap_or_else(|| panic!("shown as {json}, which prost-reflect does not read: {told}"));
    same(contract, bytes, &message, told);
}

/// The members of an object as a parser reads them, including duplicates.
struct Members(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Compares a member that is found without reading the rest with a parser that reads everything. Skipped parts may not
/// be UTF-8, or may be numbers beyond a double's range; then only the parser refuses the text.
fn member(json: &[u8]) {
    const NAMES: &[&str] = &["text", "child", ""];
    let told = String::from_utf8_lossy(json);
    let found = find_member(json, NAMES, DuplicateMembers::Reject);
    if let Ok(Some(range)) = &found {
        let value = json.get(range.clone()).unwrap_or_else(|| panic!("{range:?} is beyond {told}"));
        let read = serde_json::from_slice::<IgnoredAny>(value);
        assert!(read.is_ok(), "{read:?} at {range:?}: {told}");
    }
    let Ok(Members(members)) = serde_json::from_slice(json) else { return };
    let mut named = members.into_iter().filter(|(name, _)| NAMES.contains(&name.as_str())).map(|(_, value)| value);
    match (found, named.next(), named.next()) {
        (Err(rejection), Some(_), Some(_)) => assert_eq!(rejection.code, ReasonCode::JsonDuplicateMember, "{told}"),
        (Ok(Some(range)), Some(value), None) => {
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&json[range]).ok(), Some(value), "{told}");
        }
        (Ok(None), None, None) => {}
        (found, first, second) => panic!("{found:?}, a parser reads {first:?} {second:?}: {told}"),
    }
}

/// Checks that transcoded bytes represent the message that was read, pass the contract as far as JSON can express it,
/// and are converted to JSON with the same meaning.
fn same(contract: &Contract, bytes: &[u8], message: &DynamicMessage, told: &str) {
    if let Err(rejection) = contract.check(bytes, &mut Fields::new()) {
        let known = matches!(
            rejection.code,
            ReasonCode::MissingRequired
                | ReasonCode::UnknownEnum
                | ReasonCode::GroupField
                | ReasonCode::RecursionLimit
                | ReasonCode::RuleViolated
                | ReasonCode::RuleFailed
        );
        assert!(known, "transcoded bytes are refused with {rejection}: {told}");
        if rejection.code == ReasonCode::RecursionLimit {
            return;
        }
    }
    let decoded = DynamicMessage::decode(contract.message().clone(), bytes);
    let decoded = decoded.unwrap_or_else(|error| panic!("transcoded bytes do not decode: {error}: {told}"));
    if canonical(&decoded) != canonical(message) {
        // Only a float that was rounded twice may differ, because the converted text has no digits left to round.
        let json = contract.to_json(bytes).unwrap_or_else(|rejection| panic!("{rejection}: {told}"));
        let again = reference(contract, json.as_bytes(), true);
        assert_eq!(again.map(|again| canonical(&again)), Some(canonical(&decoded)), "{told}");
        assert!(has_float(message), "{told}");
    }
    shown(contract, bytes);
}

/// Checks that a payload's JSON reads as the payload.
fn shown(contract: &Contract, payload: &[u8]) {
    let json = match contract.to_json(payload) {
        Ok(json) => json,
        Err(rejection) => {
            let decodes = DynamicMessage::decode(contract.message().clone(), payload).is_ok();
            let expected = if decodes { ReasonCode::NoJsonForm } else { ReasonCode::Undecodable };
            assert_eq!(rejection.code, expected, "{rejection}: {payload:02x?}");
            return;
        }
    };
    let mut bytes = Vec::new();
    if let Err(rejection) = contract.transcode_json(json.as_bytes(), &mut bytes) {
        let too_deep = rejection.code == ReasonCode::RecursionLimit && nesting(&json) > JSON_NESTING;
        assert!(too_deep, "{rejection}: {json}");
        return;
    }
    let decode =
        |bytes: &[u8]| DynamicMessage::decode(contract.message().clone(), bytes).map(|message| canonical(&message));
    match (decode(payload), decode(&bytes)) {
        (Ok(before), Ok(after)) => assert_eq!(before, after, "{json}"),
        // A map entry without its value has one level less than the same entry written out. At the limit this is one
        // level too many.
        (Ok(_), Err(error)) if error.to_string().contains("recursion limit") => return,
        (before, after) => panic!("{before:?}, {after:?}: {json}"),
    }
    assert_eq!(contract.to_json(&bytes).as_ref(), Ok(&json));
}

/// Returns how deep arrays and objects nest in valid JSON.
fn nesting(json: &str) -> usize {
    let (mut deepest, mut depth, mut in_text) = (0_usize, 0_usize, false);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' => drop(bytes.next()),
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Returns whether a 32-bit float is set anywhere in the message.
fn has_float(message: &DynamicMessage) -> bool {
    fn is_float(value: &Value) -> bool {
        match value {
            Value::F32(_) => true,
            Value::Message(inner) => has_float(inner),
            Value::List(items) => items.iter().any(is_float),
            Value::Map(entries) => entries.values().any(is_float),
            _ => false,
        }
    }
    message.fields().any(|(_, value)| is_float(value))
}
