//! JSON: never a panic, accepted where prost-reflect's own reading accepts it, the same message in bytes, and back again.
//!
//! What is expected to differ, each held against the case at hand:
//! * Unknown keys are allowed or refused by policy, unknown enum names never are; prost-reflect ignores both or neither.
//! * A Timestamp whose nanoseconds are below zero or a second and more is shown as the time that it means, and comes back in
//!   its normal form. (A Duration of two signs has no JSON form: prost would show it with the wrong sign.)
//! * Bytes may fail the contract for what JSON cannot say better: a missing required field, an unknown enum number, a group,
//!   nesting beyond 100 levels (JSON may have 127).

use std::sync::LazyLock;

use prost_reflect::{DeserializeOptions, DynamicMessage, ReflectMessage as _, Value};
use tollgate_contract::{Contract, Fields, ReasonCode, UnknownFields};

use crate::choices::Choices;
use crate::grow;
use crate::reference::canonical;
use crate::schemas::{self, Schema};

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
        text(usual, flipped, choices.rest());
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
        // prost-reflect ignores unknown enum names together with unknown keys.
        (Err(rejection), None, Some(_)) => assert_eq!(rejection.code, ReasonCode::UnknownEnum, "{told}"),
        (Err(_), None, None) => {}
        _ => panic!("allowing unknown keys: {allowing:?}, the reference {strict:?} {lenient:?}: {told}"),
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
        panic!("{rejection}: {json}");
    }
    let decode = |bytes: &[u8]| {
        DynamicMessage::decode(contract.message().clone(), bytes).map(|mut message| {
            normalise(&mut message);
            canonical(&message)
        })
    };
    match (decode(payload), decode(&bytes)) {
        (Ok(before), Ok(after)) => assert_eq!(before, after, "{json}"),
        (before, after) => panic!("{before:?}, {after:?}: {json}"),
    }
    assert_eq!(contract.to_json(&bytes).as_ref(), Ok(&json));
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
