//! JSON: never a panic, accepted where prost-reflect's own reading accepts it, the same message in bytes, and back again.
//!
//! What is expected to differ, each held against the case at hand:
//! * Unknown keys are allowed or refused by policy, unknown enum names never are; prost-reflect ignores both or neither.
//! * A Timestamp whose nanoseconds are below zero or a second and more is shown as the time that it means, and comes back in
//!   its normal form. (A Duration of two signs has no JSON form: prost would show it with the wrong sign.)
//! * Of equal keys the last one counts. Where there are unknown keys too, an earlier one may even be wrong: they are taken out
//!   of a tree, which has each key once.
//! * What stands below an unknown key must be JSON that can be read: UTF-8, numbers that a double can hold.
//! * A repeated message is two levels of JSON and one of Protobuf: what is shown may be too deep to be read (127 levels).
//! * Bytes may fail the contract for what JSON cannot say better: a missing required field, an unknown enum number, a group,
//!   nesting beyond 100 levels (JSON may have 127).

use std::sync::LazyLock;

use prost_reflect::{DeserializeOptions, DynamicMessage, ReflectMessage as _, Value};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use tollgate_contract::{Contract, Fields, ReasonCode, UnknownFields, find_member};

use crate::choices::Choices;
use crate::grow;
use crate::reference::canonical;
use crate::schemas::{self, Schema};

/// How deep serde_json reads.
const JSON_NESTING: usize = 127;

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(schemas::plain);

/// Compiles the contracts, before executions are counted.
pub fn warm() {
    LazyLock::force(&SCHEMAS);
}

/// One byte chooses the message type, one whether the rest is text or a payload that is shown as text first.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let schema = schemas::choose(&SCHEMAS, &mut choices);
    // The usual policies, and the flipped ones: unknown fields refused, unknown enum numbers kept.
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
    let told = String::from_utf8_lossy(json);
    let (strict, lenient) = (reference(usual, json, true), reference(usual, json, false));
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    let refusing = flipped.transcode_json(json, &mut bytes);
    match (&refusing, &strict) {
        (Ok(()), Some(message)) => same(flipped, &bytes, message, &told),
        (Err(_), None) => {}
        _ => panic!("refusing unknown keys: {refusing:?}, the reference {strict:?}: {told}"),
    }
    let allowing = usual.transcode_json(json, &mut again);
    assert_eq!(usual.policies().unknown_fields, UnknownFields::Allow);
    match (&allowing, &strict, &lenient) {
        (Ok(()), Some(_), _) => assert_eq!(bytes, again, "{told}"),
        (Ok(()), None, Some(message)) => {
            let code = refusing.as_ref().err().map(|rejection| rejection.code);
            assert_eq!(code, Some(ReasonCode::UnknownField), "{told}");
            same(usual, &again, message, &told);
        }
        // prost-reflect ignores unknown enum names together with unknown keys, and does not look at what they hold.
        (Err(rejection), None, Some(_)) => {
            let unreadable = serde_json::from_slice::<serde_json::Value>(json).is_err();
            assert!(rejection.code == ReasonCode::UnknownEnum || unreadable, "{rejection}: {told}");
        }
        // Taking unknown keys out leaves of equal keys the last one, and what was wrong with the others is gone.
        (Ok(()), None, None) => {
            let told_once = serde_json::from_slice::<serde_json::Value>(json).map(|value| value.to_string());
            let message = told_once.ok().and_then(|json| reference(usual, json.as_bytes(), false));
            let message = message.unwrap_or_else(|| panic!("only allowing unknown keys accepts this: {told}"));
            same(usual, &again, &message, &told);
        }
        (Err(_), None, None) => {}
        _ => panic!("allowing unknown keys: {allowing:?}, the reference {strict:?} {lenient:?}: {told}"),
    }
}

/// The members of an object, as a parser reads them: also those that are there twice.
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

/// The member that is found without reading the rest, against a parser that reads all. What it passes over may be no UTF-8,
/// or a number beyond a double's: then only the parser refuses the text.
fn member(json: &[u8]) {
    const NAMES: &[&str] = &["text", "child", ""];
    let told = String::from_utf8_lossy(json);
    let found = find_member(json, NAMES);
    if let Ok(Some(range)) = &found {
        let value = json.get(range.clone()).unwrap_or_else(|| panic!("{range:?} is beyond {told}"));
        let read = serde_json::from_slice::<IgnoredAny>(value);
        assert!(read.is_ok(), "{read:?} at {range:?}: {told}");
    }
    let Ok(Members(members)) = serde_json::from_slice(json) else { return };
    let mut named = members.into_iter().filter(|(name, _)| NAMES.contains(&name.as_str())).map(|(_, value)| value);
    match (found, named.next(), named.next()) {
        (Err(rejection), Some(_), Some(_)) => assert_eq!(rejection.code, ReasonCode::JsonInvalid, "{told}"),
        (Ok(Some(range)), Some(value), None) => {
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&json[range]).ok(), Some(value), "{told}");
        }
        (Ok(None), None, None) => {}
        (found, first, second) => panic!("{found:?}, a parser reads {first:?} {second:?}: {told}"),
    }
}

/// Transcoded bytes mean the message that was read, pass the contract as far as JSON can say, and are shown as JSON that
/// means the same again.
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
    assert_eq!(canonical(&decoded), canonical(message), "{told}");
    shown(contract, bytes);
}

/// A payload's JSON reads as the payload.
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
    let decode = |bytes: &[u8]| {
        DynamicMessage::decode(contract.message().clone(), bytes).map(|mut message| {
            normalise(&mut message);
            canonical(&message)
        })
    };
    match (decode(payload), decode(&bytes)) {
        (Ok(before), Ok(after)) => assert_eq!(before, after, "{json}"),
        // A map entry without its value is one level less than the same entry written out: at the limit that is one too many.
        (Ok(_), Err(error)) if error.to_string().contains("recursion limit") => return,
        (before, after) => panic!("{before:?}, {after:?}: {json}"),
    }
    assert_eq!(contract.to_json(&bytes).as_ref(), Ok(&json));
}

/// How deep arrays and objects nest in JSON that is known to be JSON.
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

/// Brings every Timestamp in a message to its normal form.
fn normalise(message: &mut DynamicMessage) {
    const SECOND: i128 = 1_000_000_000;
    if message.descriptor().full_name() == "google.protobuf.Timestamp" {
        let part = |name: &str| message.get_field_by_name(name).map(|part| part.into_owned());
        let (Some(Value::I64(seconds)), Some(Value::I32(nanos))) = (part("seconds"), part("nanos")) else { return };
        let total = i128::from(seconds) * SECOND + i128::from(nanos);
        let (Ok(seconds), Ok(nanos)) = (total.div_euclid(SECOND).try_into(), total.rem_euclid(SECOND).try_into())
        else {
            return;
        };
        message.set_field_by_name("seconds", Value::I64(seconds));
        message.set_field_by_name("nanos", Value::I32(nanos));
        return;
    }
    for (_, value) in message.fields_mut() {
        match value {
            Value::Message(inner) => normalise(inner),
            Value::List(items) => items.iter_mut().filter_map(Value::as_message_mut).for_each(normalise),
            Value::Map(entries) => entries.values_mut().filter_map(Value::as_message_mut).for_each(normalise),
            _ => {}
        }
    }
}
