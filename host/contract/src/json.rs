//! Protobuf's JSON mapping, both ways. JSON is not the hot path: it is parsed into a tree, and written from a dynamic
//! message.
//!
//! docs/json.md describes what the mapping leaves open, and where we differ from other readers;
//! `tests/conformance.json` holds the required and recommended cases of Protobuf's conformance suite with their
//! verdicts.

mod coerce;
mod number;
mod read;
mod text;
mod time;
mod well_known;
mod write;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as ReflectKind, MapKey, MessageDescriptor, Value as ReflectValue,
};

use crate::notes::Notes;
use crate::{Contract, DuplicateMembers, Fields, ReasonCode, Rejection, Slot, UnknownEnums, UnknownFields, Value};
pub(crate) use coerce::Coercions;
use read::{Reader, Unknown};
use text::Json;
pub use write::Names;
use write::Writer;

impl Contract {
    /// Reads JSON by Protobuf's JSON mapping and writes the message's wire bytes to `out` (cleared first). Equivalent
    /// JSON texts give the same bytes.
    ///
    /// Unknown keys follow the policy for unknown fields. An unknown enum *name* is rejected unless its enum has a
    /// fallback, since it has no number to keep. Two members for one field follow the policy for duplicates. Timestamps
    /// are read in the forms of the coercion policies. The bytes must still pass [`Contract::check`], which applies the
    /// other policies.
    ///
    /// # Errors
    /// Fails for text that is not JSON, unknown keys or enum names, values that do not fit, and too many bytes.
    pub fn transcode_json(&self, json: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
        self.transcode_json_noting(json, out, &mut Notes::new())
    }

    /// Like [`Contract::transcode_json`], and records what is accepted or replaced.
    ///
    /// # Errors
    /// Fails as [`Contract::transcode_json`] does.
    pub fn transcode_json_noting(&self, json: &[u8], out: &mut Vec<u8>, notes: &mut Notes) -> Result<(), Rejection> {
        let unknown = match self.policies.unknown_fields {
            UnknownFields::Allow => Unknown::Skip,
            UnknownFields::Warn => Unknown::Note,
            UnknownFields::Reject => Unknown::Reject,
        };
        self.transcode(json, out, notes, unknown, self.policies.duplicate_members)
    }

    /// Like [`Contract::transcode_json`], but whatever the policies, it skips unknown keys and uses the last of several
    /// members for one field: for a rejected payload that is accepted anyway.
    ///
    /// # Errors
    /// Fails as [`Contract::transcode_json`] does, except for unknown keys and duplicates.
    pub fn transcode_json_anyway(&self, json: &[u8], out: &mut Vec<u8>, notes: &mut Notes) -> Result<(), Rejection> {
        let unknown = match self.policies.unknown_fields {
            UnknownFields::Warn => Unknown::Note,
            UnknownFields::Allow | UnknownFields::Reject => Unknown::Skip,
        };
        self.transcode(json, out, notes, unknown, DuplicateMembers::Last)
    }

    fn transcode(
        &self,
        json: &[u8],
        out: &mut Vec<u8>,
        notes: &mut Notes,
        unknown: Unknown,
        duplicates: DuplicateMembers,
    ) -> Result<(), Rejection> {
        out.clear();
        self.check_size(json)?;
        let fallbacks = match &self.policies.unknown_enums {
            UnknownEnums::Fallback(named) => Some(named),
            UnknownEnums::Reject | UnknownEnums::Keep => None,
        };
        let coerce = self.coercions.as_ref();
        let mut reader = Reader { unknown, duplicates, fallbacks, coerce, notes, path: Vec::new() };
        reader.message(&text::parse(json)?, &self.message, out).map_err(|fault| fault.into_rejection())
    }

    /// Returns the payload as Protobuf's canonical JSON, on one line: lowerCamelCase keys, 64-bit integers as strings,
    /// enums by name, defaults omitted. Unknown fields are omitted.
    ///
    /// # Errors
    /// Fails for bytes that do not decode, and for values without a JSON form (a Timestamp out of range).
    pub fn to_json(&self, payload: &[u8]) -> Result<String, Rejection> {
        show_json(&decode(&self.message, payload)?)
    }

    /// Returns one wanted field as JSON for a jsonb column, `None` if absent. `fields` must come from this contract's
    /// check.
    ///
    /// # Errors
    /// Fails as [`Contract::to_json`] does.
    pub fn field_json(&self, slot: Slot, fields: &Fields<'_>) -> Result<Option<String>, Rejection> {
        let Some(field) = &self.field(slot).descriptor else { return Ok(None) };
        let Some(value) = reflect(field, slot, fields)? else { return Ok(None) };
        shown(Names::Json, |writer| writer.value(&value, &field.kind())).map(Some)
    }
}

/// Returns a message as Protobuf's JSON, like [`Contract::to_json`]: for messages without a compiled contract.
///
/// # Errors
/// Fails for values without a JSON form.
pub fn show_json(message: &DynamicMessage) -> Result<String, Rejection> {
    show_json_with(message, Names::Json)
}

/// Like [`show_json`], with these names.
///
/// # Errors
/// Fails for values without a JSON form.
pub fn show_json_with(message: &DynamicMessage, names: Names) -> Result<String, Rejection> {
    shown(names, |writer| writer.message(message))
}

/// Reads a message from JSON like a contract without policies: unknown members and duplicates are rejected.
///
/// # Errors
/// Fails as [`Contract::transcode_json`] does.
pub fn read_json(message: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Rejection> {
    let (unknown, duplicates) = (Unknown::Reject, DuplicateMembers::Reject);
    let (fallbacks, coerce) = (None, None);
    let mut reader = Reader { unknown, duplicates, fallbacks, coerce, notes: &mut Notes::new(), path: Vec::new() };
    let mut bytes = Vec::new();
    let json: Json<'_> = text::parse(json)?;
    reader.message(&json, message, &mut bytes).map_err(|fault| fault.into_rejection())?;
    decode(message, &bytes)
}

fn shown(
    names: Names,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Box<crate::rejection::Fault>>,
) -> Result<String, Rejection> {
    let mut out = Vec::new();
    write(&mut Writer { out: &mut out, names }).map_err(|fault| fault.into_rejection())?;
    String::from_utf8(out).map_err(|error| Rejection::new(ReasonCode::NoJsonForm, "", error.to_string()))
}

fn decode(message: &MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Rejection> {
    DynamicMessage::decode(message.clone(), bytes)
        .map_err(|error| Rejection::new(ReasonCode::Undecodable, "", error.to_string()))
}

/// Returns a slot's value as a dynamic message holds it.
fn reflect(field: &FieldDescriptor, slot: Slot, fields: &Fields<'_>) -> Result<Option<ReflectValue>, Rejection> {
    let kind = field.kind();
    Ok(Some(match fields.get(slot) {
        Value::Absent => return Ok(None),
        Value::Default => field.default_value(),
        Value::List(list) => {
            ReflectValue::List(fields.items(list).map(|item| single(&kind, item, fields)).collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            let ReflectKind::Message(entry) = kind else { return Ok(None) };
            let kind = entry.map_entry_value_field().kind();
            let entries = fields.entries(map).filter_map(|(key, value)| Some((map_key(key)?, value)));
            ReflectValue::Map(
                entries
                    .map(|(key, value)| Ok((key, single(&kind, value, fields)?)))
                    .collect::<Result<_, Rejection>>()?,
            )
        }
        value @ (Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Str(_)
        | Value::Bytes(_)
        | Value::Enum(_)
        | Value::Message(_)
        | Value::Split(_)) => single(&kind, value, fields)?,
    }))
}

fn single<'a>(kind: &ReflectKind, value: Value<'a>, fields: &Fields<'a>) -> Result<ReflectValue, Rejection> {
    Ok(match (value, kind) {
        (Value::Bool(value), _) => ReflectValue::Bool(value),
        (Value::I32(value), _) => ReflectValue::I32(value),
        (Value::I64(value), _) => ReflectValue::I64(value),
        (Value::U32(value), _) => ReflectValue::U32(value),
        (Value::U64(value), _) => ReflectValue::U64(value),
        (Value::F32(value), _) => ReflectValue::F32(value),
        (Value::F64(value), _) => ReflectValue::F64(value),
        (Value::Str(value), _) => ReflectValue::String(value.as_str().to_owned()),
        (Value::Bytes(value), _) => ReflectValue::Bytes(value.to_vec().into()),
        (Value::Enum(value), _) => ReflectValue::EnumNumber(value),
        (Value::Message(_) | Value::Split(_), ReflectKind::Message(message)) => {
            let bytes = fields.joined(value).unwrap_or_default();
            ReflectValue::Message(decode(message, &bytes)?)
        }
        (Value::Absent | Value::Default | Value::Message(_) | Value::Split(_) | Value::List(_) | Value::Map(_), _) => {
            ReflectValue::default_value(kind)
        }
    })
}

fn map_key(key: Value<'_>) -> Option<MapKey> {
    match key {
        Value::Bool(key) => Some(MapKey::Bool(key)),
        Value::I32(key) => Some(MapKey::I32(key)),
        Value::I64(key) => Some(MapKey::I64(key)),
        Value::U32(key) => Some(MapKey::U32(key)),
        Value::U64(key) => Some(MapKey::U64(key)),
        Value::Str(key) => Some(MapKey::String(key.as_str().to_owned())),
        Value::Absent
        | Value::Default
        | Value::F32(_)
        | Value::F64(_)
        | Value::Bytes(_)
        | Value::Enum(_)
        | Value::Message(_)
        | Value::Split(_)
        | Value::List(_)
        | Value::Map(_) => None,
    }
}
