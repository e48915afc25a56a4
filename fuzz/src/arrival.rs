//! Checks a contract's verdict on arriving payloads beyond their types: oneofs, the fields read from a refused payload,
//! and fallbacks for unknown enum numbers.

use std::time::UNIX_EPOCH;

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, ReflectMessage as _, Value};
use tollgate_contract::{
    Contract, Fields, Notes, Policies, ReasonCode, UnknownEnums, UnknownFields, UnknownVariants, UnsetOneofs,
};

use crate::reference::{any_in, canonical, verdict};

/// Compares the checks on arrival with the whole message. `Err` describes the difference.
pub fn judge(contract: &Contract, payload: &[u8]) -> Result<(), String> {
    admitted(contract, payload).and_then(|()| read(contract, payload)).and_then(|()| mended(contract, payload))
}

/// Checks that a payload that passes is refused for its oneofs if the merged message requires that, and admitted
/// otherwise.
fn admitted(contract: &Contract, payload: &[u8]) -> Result<(), String> {
    let checked = contract.check_at(payload, &mut Fields::new(), UNIX_EPOCH);
    let admitted = contract.admit(payload, &mut Fields::new(), UNIX_EPOCH, &mut Notes::new());
    let Ok(()) = checked else {
        return if checked == admitted {
            Ok(())
        } else {
            Err(format!("{checked:?}, then {admitted:?}: {payload:02x?}"))
        };
    };
    let message = DynamicMessage::decode(contract.message().clone(), payload).map_err(|error| error.to_string())?;
    let policies = contract.policies();
    let unset = |unknown: bool| {
        any_in(&message, &|message| {
            let mut oneofs = message.descriptor().oneofs().collect::<Vec<_>>().into_iter();
            message.unknown_fields().next().is_some() == unknown
                && oneofs.any(|oneof| {
                    !oneof.is_synthetic() && !oneof.fields().any(|field: FieldDescriptor| message.has_field(&field))
                })
        })
    };
    let unset_is_refused = policies.unset_oneofs == UnsetOneofs::Reject && unset(false);
    let variant_is_refused = policies.unknown_variants == UnknownVariants::Reject && unset(true);
    let agrees = match admitted.as_ref().map_err(|rejection| rejection.code) {
        Ok(()) => !unset_is_refused && !variant_is_refused,
        Err(ReasonCode::OneofUnset) => unset_is_refused,
        Err(ReasonCode::UnknownVariant) => variant_is_refused,
        Err(_) => false,
    };
    if agrees {
        Ok(())
    } else {
        Err(format!("admitted: {admitted:?}, the message is {}: {payload:02x?}", canonical(&message)))
    }
}

/// Checks that the fields read regardless of policies are those of a payload that passes when all policies allow it.
fn read(contract: &Contract, payload: &[u8]) -> Result<(), String> {
    let (expected, _) = verdict(contract.message(), &allowing(contract), payload)?;
    let found = contract.read(payload, &mut Fields::new()).map_err(|rejection| rejection.code);
    if found.err() == expected { Ok(()) } else { Err(format!("read: {found:?}, not {expected:?}: {payload:02x?}")) }
}

/// Returns policies with the contract's limits that refuse nothing unknown.
fn allowing(contract: &Contract) -> Policies {
    let policies = contract.policies().clone();
    Policies { unknown_fields: UnknownFields::Allow, unknown_enums: UnknownEnums::Keep, ..policies }
}

/// Checks that a payload that only unknown enum numbers keep from passing passes after they are fixed, and is otherwise
/// unchanged.
fn mended(contract: &Contract, payload: &[u8]) -> Result<(), String> {
    let mut out = Vec::new();
    let mended = contract.apply_fallbacks(payload, &mut out, &mut Notes::new());
    let (left, Some(mut message)) = verdict(contract.message(), &allowing(contract), payload)? else { return Ok(()) };
    let UnknownEnums::Fallback(_) = &contract.policies().unknown_enums else {
        return if mended { Err(format!("mended without fallbacks: {payload:02x?}")) } else { Ok(()) };
    };
    if left.is_some() {
        return Ok(());
    }
    if !mended {
        let refused = contract.check(payload, &mut Fields::new());
        let unknown = refused.is_err_and(|rejection| rejection.code == ReasonCode::UnknownEnum);
        return if unknown { Err(format!("not mended: {payload:02x?}")) } else { Ok(()) };
    }
    let found = contract.check(&out, &mut Fields::new()).map_err(|rejection| rejection.code);
    if found == Err(ReasonCode::UnknownEnum) {
        return Err(format!("mended, and still unknown: {payload:02x?} {out:02x?}"));
    }
    replace(&mut message);
    let after = DynamicMessage::decode(contract.message().clone(), &*out).map_err(|error| error.to_string())?;
    let (expected, found) = (canonical(&message), canonical(&after));
    if expected == found { Ok(()) } else { Err(format!("mended to {found}, not {expected}: {payload:02x?}")) }
}

/// Returns the value that replaces unknown ones: the last declared one, so that it is not a default.
pub fn fallback(names: &EnumDescriptor) -> Option<(String, i32)> {
    names.values().last().map(|value| (value.name().to_owned(), value.number()))
}

fn replace(message: &mut DynamicMessage) {
    for (field, value) in message.fields_mut() {
        let kind = match field.kind() {
            Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
            kind => kind,
        };
        replace_in(value, &kind);
    }
    for (extension, value) in message.extensions_mut() {
        replace_in(value, &extension.kind());
    }
}

fn replace_in(value: &mut Value, kind: &Kind) {
    match (value, kind) {
        (Value::EnumNumber(number), Kind::Enum(names)) if names.get_value(*number).is_none() => {
            *number = fallback(names).map_or(*number, |(_, fallback)| fallback);
        }
        (Value::Message(inner), _) => replace(inner),
        (Value::List(items), kind) => items.iter_mut().for_each(|item| replace_in(item, kind)),
        (Value::Map(entries), kind) => entries.values_mut().for_each(|value| replace_in(value, kind)),
        _ => {}
    }
}
