//! Protobuf's JSON mapping, both ways, through a dynamic message: JSON is not the hot path.

use prost_reflect::prost::Message as _;
use prost_reflect::prost::encoding::{self, WireType, encode_key, encode_varint};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind as ReflectKind, MapKey, MessageDescriptor,
    ReflectMessage as _, SerializeOptions, Value as ReflectValue,
};
use serde_json::Value as Json;

use crate::notes::{Member, Notes, Policy};
use crate::{Contract, Fields, ReasonCode, Rejection, Slot, UnknownEnums, UnknownFields, Value};

// The transcoder's words for what Protobuf's JSON mapping leaves to the reader; tests/json.rs holds them fast.
const UNKNOWN_KEY: &str = "unrecognized field name";
const UNKNOWN_NAME: &str = "unrecognized enum value";

impl Contract {
    /// Reads JSON by Protobuf's JSON mapping and writes the message's wire bytes to `out` (cleared first). The same JSON gives the same bytes.
    ///
    /// Unknown keys follow the policy for unknown fields; an unknown enum *name* is refused unless its enum has a fallback, since it
    /// has no number to keep. Of equal keys the last one counts. The bytes still have to pass [`Contract::check`], which holds them against the other policies.
    ///
    /// # Errors
    /// Text that is not JSON, keys or enum names that the contract lacks, values that do not fit, too many bytes.
    pub fn transcode_json(&self, json: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
        self.transcode(json, out, &mut Notes::new(), false)
    }

    /// As [`Contract::transcode_json`], noting what is let pass and replaced.
    ///
    /// # Errors
    /// As [`Contract::transcode_json`].
    pub fn transcode_json_noting(&self, json: &[u8], out: &mut Vec<u8>, notes: &mut Notes) -> Result<(), Rejection> {
        self.transcode(json, out, notes, false)
    }

    /// As [`Contract::transcode_json`], but without the keys that the contract lacks, whatever the policy says of them: for a payload
    /// that was refused and shall go on.
    ///
    /// # Errors
    /// As [`Contract::transcode_json`], but for unknown keys.
    pub fn transcode_json_anyway(&self, json: &[u8], out: &mut Vec<u8>, notes: &mut Notes) -> Result<(), Rejection> {
        self.transcode(json, out, notes, true)
    }

    fn transcode(&self, json: &[u8], out: &mut Vec<u8>, notes: &mut Notes, anyway: bool) -> Result<(), Rejection> {
        out.clear();
        self.check_size(json)?;
        let prunes = anyway || self.policies.unknown_fields != UnknownFields::Reject;
        let message = match self.read_json(&mut serde_json::Deserializer::from_slice(json)) {
            Err(rejection)
                if rejection.code == ReasonCode::UnknownField && prunes
                    || rejection.code == ReasonCode::UnknownEnum && self.mends() =>
            {
                // The transcoder can ignore unknown keys only together with unknown enum names, so both are mended in the text instead.
                let mut value: Json = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
                let notices = self.policies.unknown_fields == UnknownFields::Warn;
                let mut tidier = Tidier { contract: self, notes, prunes, notices, path: Vec::new() };
                tidier.message(&mut value, &self.message);
                let json = value.to_string();
                self.read_json(&mut serde_json::Deserializer::from_slice(json.as_bytes()))?
            }
            read => read?,
        };
        if self.plan.has_maps || holds_minus_zero(&message) {
            encode_ordered(&message, out);
        } else {
            message.encode_raw(out);
        }
        Ok(())
    }

    /// The payload as Protobuf's canonical JSON, on one line: lowerCamelCase keys, 64-bit integers as strings, enums by name, defaults left out.
    /// Fields that the contract does not have are not shown.
    ///
    /// # Errors
    /// Bytes that do not decode, and values that JSON has no form for (a Timestamp out of range).
    pub fn to_json(&self, payload: &[u8]) -> Result<String, Rejection> {
        let message = decode(&self.message, payload)?;
        self.write_json(&message)
    }

    /// One wanted field as JSON, nothing if it is absent: what a jsonb column holds. `fields` must come from this contract's check.
    ///
    /// # Errors
    /// As [`Contract::to_json`].
    pub fn field_json(&self, slot: Slot, fields: &Fields<'_>) -> Result<Option<String>, Rejection> {
        let field = &self.field(slot).descriptor;
        let mut parent = DynamicMessage::new(field.parent_message().clone());
        match reflect(field, slot, fields)? {
            Some(value) => parent.set_field(field, value),
            None => return Ok(None),
        }
        // Defaults are left out as in `to_json`, but not the wanted value itself.
        let mut json = serialize(&parent, &SerializeOptions::new())?;
        if json.get(field.json_name()).is_none() {
            json = serialize(&parent, &SerializeOptions::new().skip_default_fields(false))?;
        }
        json.sort_all_objects();
        Ok(json.get(field.json_name()).map(Json::to_string))
    }

    fn read_json<'de, R: serde_json::de::Read<'de>>(
        &self,
        deserializer: &mut serde_json::Deserializer<R>,
    ) -> Result<DynamicMessage, Rejection> {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut *deserializer, &mut track);
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let message = DynamicMessage::deserialize_with_options(self.message.clone(), tracked, &options)
            .map_err(|error| refused(&error, &track.path()))?;
        deserializer.end().map_err(|error| not_json(&error))?;
        Ok(message)
    }

    fn write_json(&self, message: &DynamicMessage) -> Result<String, Rejection> {
        if self.plan.has_maps {
            // A map's entries come in no order; sorted keys make equal payloads equal text.
            let mut json = serialize(message, &SerializeOptions::new())?;
            json.sort_all_objects();
            return Ok(json.to_string());
        }
        check_durations(message)?;
        serde_json::to_string(message).map_err(|error| no_json_form(&error))
    }
}

fn decode(message: &MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Rejection> {
    DynamicMessage::decode(message.clone(), bytes)
        .map_err(|error| Rejection::new(ReasonCode::Undecodable, "", error.to_string()))
}

fn serialize(message: &DynamicMessage, options: &SerializeOptions) -> Result<Json, Rejection> {
    check_durations(message)?;
    message.serialize_with_options(serde_json::value::Serializer, options).map_err(|error| no_json_form(&error))
}

fn no_json_form(error: &serde_json::Error) -> Rejection {
    Rejection::new(ReasonCode::NoJsonForm, "", format!("no JSON form: {error}"))
}

fn not_json(error: &serde_json::Error) -> Rejection {
    // serde_json bounds nesting by itself, in its own words.
    let deep = error.to_string().starts_with("recursion limit exceeded");
    let code = if deep { ReasonCode::RecursionLimit } else { ReasonCode::JsonInvalid };
    Rejection::new(code, "", error.to_string())
}

fn refused(error: &serde_json::Error, path: &serde_path_to_error::Path) -> Rejection {
    if !error.is_data() {
        return not_json(error);
    }
    let text = error.to_string();
    let code = if text.starts_with(UNKNOWN_KEY) {
        ReasonCode::UnknownField
    } else if text.starts_with(UNKNOWN_NAME) {
        ReasonCode::UnknownEnum
    } else {
        ReasonCode::JsonWrongType
    };
    let mut field = path.to_string();
    if field == "." {
        field.clear();
    }
    // The path ends at the object that holds the unknown key; the key itself stands in the text.
    if let Some(key) = text.strip_prefix(UNKNOWN_KEY).and_then(|rest| rest.split('\'').nth(1)) {
        field = if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") };
    }
    Rejection::new(code, field, text)
}

/// Takes the keys out that a message does not have, and puts fallbacks in the places of enum names that nobody knows.
struct Tidier<'c, 'n> {
    contract: &'c Contract,
    notes: &'n mut Notes,
    prunes: bool,
    /// Whether what is taken out is noted.
    notices: bool,
    path: Vec<String>,
}

impl Tidier<'_, '_> {
    /// Well-known types with a JSON form of their own are left alone.
    fn message(&mut self, json: &mut Json, message: &MessageDescriptor) {
        if message.full_name().starts_with("google.protobuf.") {
            return;
        }
        let Json::Object(object) = json else { return };
        if self.prunes {
            object.retain(|key, _| {
                let known = field_of(message, key).is_some() || message.get_extension_by_json_name(key).is_some();
                if !known && self.notices {
                    self.notes.add(Policy::UnknownFields, message.full_name(), &Member::Name(key.into()));
                }
                known
            });
        }
        for (key, value) in object {
            let (name, kind, is_map) = match (field_of(message, key), message.get_extension_by_json_name(key)) {
                (Some(field), _) => (field.name().to_owned(), field.kind(), field.is_map()),
                (None, Some(extension)) => (extension.full_name().to_owned(), extension.kind(), extension.is_map()),
                (None, None) => continue,
            };
            self.path.push(name);
            match (kind, value) {
                (ReflectKind::Message(entry), Json::Object(entries)) if is_map => {
                    let kind = entry.map_entry_value_field().kind();
                    entries.values_mut().for_each(|value| self.value(value, &kind));
                }
                (kind, Json::Array(items)) => items.iter_mut().for_each(|item| self.value(item, &kind)),
                (kind, value) => self.value(value, &kind),
            }
            self.path.pop();
        }
    }

    fn value(&mut self, json: &mut Json, kind: &ReflectKind) {
        match (kind, json) {
            (ReflectKind::Message(message), json) => self.message(json, message),
            (ReflectKind::Enum(table), Json::String(name)) if table.get_value_by_name(name).is_none() => {
                let UnknownEnums::Fallback(named) = &self.contract.policies.unknown_enums else { return };
                let Some(fallback) = named.get(table.full_name()) else { return };
                let was = Member::Name(name.as_str().into());
                self.notes.replace(&self.path.join("."), table.full_name(), &was);
                name.clone_from(fallback);
            }
            _ => {}
        }
    }
}

fn field_of(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key))
}

/// The fields without presence that hold minus zero, which is not their default, though the dynamic message takes it for that.
fn minus_zeros(message: &DynamicMessage) -> impl Iterator<Item = (FieldDescriptor, ReflectValue)> + '_ {
    let descriptor = message.descriptor();
    let floats: Vec<FieldDescriptor> = descriptor
        .fields()
        .filter(|field| matches!(field.kind(), ReflectKind::Double | ReflectKind::Float) && !field.supports_presence())
        .collect();
    floats.into_iter().filter_map(|field| {
        let value = message.get_field(&field).into_owned();
        let is_minus_zero = match value {
            ReflectValue::F64(value) => value == 0.0 && value.is_sign_negative(),
            ReflectValue::F32(value) => value == 0.0 && value.is_sign_negative(),
            _ => false,
        };
        is_minus_zero.then_some((field, value))
    })
}

fn holds_minus_zero(message: &DynamicMessage) -> bool {
    any_in(message, &|message| minus_zeros(message).next().is_some())
}

/// Whether the message, or any in it, is as asked.
fn any_in(message: &DynamicMessage, asked: &dyn Fn(&DynamicMessage) -> bool) -> bool {
    let in_value = |value: &ReflectValue| value.as_message().is_some_and(|inner| any_in(inner, asked));
    asked(message)
        || message.fields().any(|(_, value)| match value {
            ReflectValue::List(items) => items.iter().any(in_value),
            ReflectValue::Map(entries) => entries.values().any(in_value),
            value => in_value(value),
        })
}

/// A Duration whose seconds and nanoseconds have different signs is none by Protobuf's rules; written as text it would come
/// out with the wrong sign.
fn is_torn_duration(message: &DynamicMessage) -> bool {
    if message.descriptor().full_name() != "google.protobuf.Duration" {
        return false;
    }
    let sign = |name: &str| match message.get_field_by_name(name).as_deref() {
        Some(ReflectValue::I64(seconds)) => seconds.signum(),
        Some(ReflectValue::I32(nanos)) => i64::from(nanos.signum()),
        _ => 0,
    };
    sign("seconds") * sign("nanos") < 0
}

fn check_durations(message: &DynamicMessage) -> Result<(), Rejection> {
    if any_in(message, &is_torn_duration) {
        let text = "no JSON form: a google.protobuf.Duration has seconds and nanoseconds of different signs";
        return Err(Rejection::new(ReasonCode::NoJsonForm, "", text));
    }
    Ok(())
}

/// Encodes with maps in key order and with minus zeros; otherwise as the message encodes itself.
fn encode_ordered(message: &DynamicMessage, out: &mut Vec<u8>) {
    for (field, value) in minus_zeros(message) {
        match value {
            ReflectValue::F64(value) => encoding::double::encode(field.number(), &value, out),
            ReflectValue::F32(value) => encoding::float::encode(field.number(), &value, out),
            _ => {}
        }
    }
    for (field, value) in message.fields() {
        match value {
            ReflectValue::Message(inner) if !field.is_group() => encode_nested(field.number(), inner, out),
            ReflectValue::List(items) if !field.is_group() && matches!(field.kind(), ReflectKind::Message(_)) => {
                items
                    .iter()
                    .filter_map(ReflectValue::as_message)
                    .for_each(|inner| encode_nested(field.number(), inner, out));
            }
            ReflectValue::Map(entries) => {
                let ReflectKind::Message(entry) = field.kind() else { continue };
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let mut pair = DynamicMessage::new(entry.clone());
                    pair.set_field(&entry.map_entry_key_field(), ReflectValue::from(key.clone()));
                    pair.set_field(&entry.map_entry_value_field(), value.clone());
                    encode_nested(field.number(), &pair, out);
                }
            }
            plain => {
                let mut single = DynamicMessage::new(message.descriptor());
                single.set_field(&field, plain.clone());
                single.encode_raw(out);
            }
        }
    }
    for (extension, value) in message.extensions() {
        let mut single = DynamicMessage::new(message.descriptor());
        single.set_extension(&extension, value.clone());
        single.encode_raw(out);
    }
}

fn encode_nested(number: u32, message: &DynamicMessage, out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    encode_ordered(message, &mut inner);
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(inner.len() as u64, out);
    out.extend_from_slice(&inner);
}

/// A slot's value as the dynamic message holds it.
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
