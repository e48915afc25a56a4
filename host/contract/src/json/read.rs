//! Converts JSON to wire bytes by Protobuf's JSON mapping.
//!
//! Fields are written in the order of their numbers and map entries in the order of their keys, so that equivalent JSON
//! texts become the same bytes. Where the mapping leaves a choice: unknown members follow the contract's policy, and
//! unknown enum names (unless the enum has a fallback) and two members for one field are rejected.

mod well_known;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::prost::encoding::encode_varint;
use prost_reflect::{EnumDescriptor, Kind, MapKey, MessageDescriptor};

use super::coerce::Coercions;
use super::number::{self, Misfit};
use super::text::Json;
use crate::member::DUPLICATE;
use crate::notes::{Member, Notes, Policy};
use crate::policies::DuplicateMembers;
use crate::rejection::{Fault, ReasonCode};
use crate::schema::{Presence, Shape};
use crate::wire::{WireType, put_tag};

/// The maximum number of characters of a name in an error message.
const SHOWN: usize = 64;

/// The treatment of members that a message type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Reject,
    Skip,
    /// Skipped and noted.
    Note,
}

/// Reads one text.
pub(super) struct Reader<'r> {
    pub unknown: Unknown,
    pub duplicates: DuplicateMembers,
    /// The replacement's name for unknown values of each enum (by full name).
    pub fallbacks: Option<&'r BTreeMap<String, String>>,
    /// The coercions within the current message or field, if there are any.
    pub coerce: Option<&'r Coercions>,
    pub notes: &'r mut Notes,
    /// The names of the fields above the current value.
    pub path: Vec<String>,
}

type Read<T> = Result<T, Box<Fault>>;

impl Reader<'_> {
    /// Appends a message's bytes.
    pub(super) fn message(&mut self, json: &Json<'_>, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        if let Some(read) = self.well_known(json, message, out) {
            return read;
        }
        let Json::Object(members) = json else { return Err(wrong_type("an object", json)) };
        self.members(members, message, "", out)
    }

    /// Reads the members of an object, except the one called `except` (no field has that name).
    fn members(
        &mut self,
        members: &[(Cow<'_, str>, Json<'_>)],
        message: &MessageDescriptor,
        except: &str,
        out: &mut Vec<u8>,
    ) -> Read<()> {
        let mut found: Vec<(Shape, &Json<'_>)> = Vec::with_capacity(members.len());
        for (name, value) in members.iter().filter(|(name, _)| name != except || except.is_empty()) {
            match field_of(message, name) {
                Some(field) => found.push((field, value)),
                None => self.unknown(message, name)?,
            }
        }
        // The sort is stable: members of one field stay in order, and the last one counts if duplicates are allowed.
        found.sort_by_key(|(field, _)| field.number);
        let mut set: Vec<u32> = Vec::new();
        for (position, (field, value)) in found.iter().enumerate() {
            if found.get(position + 1).is_some_and(|(next, _)| next.number == field.number) {
                self.duplicate().map_err(|fault| fault.within(&*field.name))?;
                continue;
            }
            if is_unset(field, value) {
                continue;
            }
            if field.rivals.iter().any(|rival| set.contains(rival)) {
                let text = format!("{} sets two fields of one oneof; send one of them", message.full_name());
                return Err(Fault::new(ReasonCode::JsonWrongType, text).within(&*field.name));
            }
            if !field.rivals.is_empty() {
                set.push(field.number);
            }
            self.path.push(field.name.clone());
            let above = self.coerce;
            self.coerce = above.and_then(|above| above.below(field.number));
            let read = self.field(field, value, out);
            self.coerce = above;
            self.path.pop();
            read.map_err(|fault| fault.within(&*field.name))?;
        }
        Ok(())
    }

    fn unknown(&mut self, message: &MessageDescriptor, name: &str) -> Read<()> {
        match self.unknown {
            Unknown::Skip => Ok(()),
            Unknown::Note => {
                self.notes.add(Policy::UnknownFields, message.full_name(), &Member::Name(name.into()));
                Ok(())
            }
            Unknown::Reject => {
                let text = format!(
                    "{} has no field {}, and the contract rejects unknown fields",
                    message.full_name(),
                    shown(name)
                );
                Err(Fault::new(ReasonCode::UnknownField, text).within(shown(name)))
            }
        }
    }

    /// Handles a field, or a key, that occurs more than once.
    fn duplicate(&self) -> Read<()> {
        match self.duplicates {
            DuplicateMembers::Last => Ok(()),
            DuplicateMembers::Reject => Err(Fault::new(ReasonCode::JsonDuplicateMember, DUPLICATE)),
        }
    }

    fn field(&mut self, field: &Shape, json: &Json<'_>, out: &mut Vec<u8>) -> Read<()> {
        match (&field.kind, json) {
            (Kind::Message(entry), Json::Object(entries)) if field.is_map => self.map(field, entry, entries, out),
            (_, json) if field.is_map => Err(wrong_type("an object", json)),
            (kind, Json::List(items)) if field.is_list => self.list(field, kind, items, out),
            (_, json) if field.is_list => Err(wrong_type("an array", json)),
            (kind, json) => self.single(field, kind, json, field.presence == Presence::Implicit, out),
        }
    }

    fn list(&mut self, field: &Shape, kind: &Kind, items: &[Json<'_>], out: &mut Vec<u8>) -> Read<()> {
        if items.is_empty() {
            return Ok(());
        }
        if field.is_packed {
            put_tag(field.number, WireType::Delimited, out);
            return nested(out, |out| self.items(items, |reader, item| reader.value(kind, item, out).map(drop)));
        }
        self.items(items, |reader, item| reader.single(field, kind, item, false, out))
    }

    fn items(&mut self, items: &[Json<'_>], mut read: impl FnMut(&mut Self, &Json<'_>) -> Read<()>) -> Read<()> {
        items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| read(self, item).map_err(|fault| fault.within(format!("[{index}]"))))
    }

    fn map(
        &mut self,
        field: &Shape,
        entry: &MessageDescriptor,
        members: &[(Cow<'_, str>, Json<'_>)],
        out: &mut Vec<u8>,
    ) -> Read<()> {
        let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let (key_kind, value_shape) = (key_field.kind(), Shape::from(&value_field));
        let mut entries = Vec::with_capacity(members.len());
        for (name, value) in members {
            let key = map_key(&key_kind, name).map_err(|fault| fault.within(quoted(name)))?;
            entries.push((key, name, value));
        }
        entries.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        for (position, (key, name, value)) in entries.iter().enumerate() {
            if entries.get(position + 1).is_some_and(|(next, ..)| next == key) {
                self.duplicate().map_err(|fault| fault.within(quoted(name)))?;
                continue;
            }
            put_tag(field.number, WireType::Delimited, out);
            let read = nested(out, |out| {
                put_key(&key_kind, key, out);
                self.single(&value_shape, &value_shape.kind, value, false, out)
            });
            read.map_err(|fault| fault.within(quoted(name)))?;
        }
        Ok(())
    }

    /// Appends a value with its tag; with `sparse`, nothing for its type's zero.
    fn single(&mut self, field: &Shape, kind: &Kind, json: &Json<'_>, sparse: bool, out: &mut Vec<u8>) -> Read<()> {
        let start = out.len();
        if field.is_group
            && let Kind::Message(message) = kind
        {
            put_tag(field.number, WireType::StartGroup, out);
            self.message(json, message, out)?;
            put_tag(field.number, WireType::EndGroup, out);
            return Ok(());
        }
        put_tag(field.number, wire_type(kind), out);
        let is_zero = self.value(kind, json, out)?;
        if sparse && is_zero {
            out.truncate(start);
        }
        Ok(())
    }

    /// Appends a value without a tag; texts, bytes and messages with their length. Returns whether it is its type's
    /// zero. Minus zero is not: Protobuf sends it.
    fn value(&mut self, kind: &Kind, json: &Json<'_>, out: &mut Vec<u8>) -> Read<bool> {
        match kind {
            Kind::Double => {
                let value = floating(json, "a 64-bit floating-point number", number::double)?;
                out.extend_from_slice(&value.to_le_bytes());
                Ok(value.to_bits() == 0)
            }
            Kind::Float => {
                let value = floating(json, "a 32-bit floating-point number", number::float)?;
                out.extend_from_slice(&value.to_le_bytes());
                Ok(value.to_bits() == 0)
            }
            Kind::Int32 => {
                Ok(put_varint(i64::from(whole::<i32>(json, "a 32-bit signed integer")?).cast_unsigned(), out))
            }
            Kind::Int64 => Ok(put_varint(whole::<i64>(json, "a 64-bit signed integer")?.cast_unsigned(), out)),
            Kind::Uint32 => Ok(put_varint(whole::<u32>(json, "a 32-bit unsigned integer")?.into(), out)),
            Kind::Uint64 => Ok(put_varint(whole::<u64>(json, "a 64-bit unsigned integer")?, out)),
            Kind::Sint32 => {
                let value = whole::<i32>(json, "a 32-bit signed integer")?;
                Ok(put_varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()), out))
            }
            Kind::Sint64 => {
                let value = whole::<i64>(json, "a 64-bit signed integer")?;
                Ok(put_varint(((value << 1) ^ (value >> 63)).cast_unsigned(), out))
            }
            Kind::Fixed32 => Ok(put_fixed(whole::<u32>(json, "a 32-bit unsigned integer")?.to_le_bytes(), out)),
            Kind::Fixed64 => Ok(put_fixed(whole::<u64>(json, "a 64-bit unsigned integer")?.to_le_bytes(), out)),
            Kind::Sfixed32 => Ok(put_fixed(whole::<i32>(json, "a 32-bit signed integer")?.to_le_bytes(), out)),
            Kind::Sfixed64 => Ok(put_fixed(whole::<i64>(json, "a 64-bit signed integer")?.to_le_bytes(), out)),
            Kind::Bool => match json {
                Json::Bool(value) => Ok(put_varint(u64::from(*value), out)),
                json => Err(wrong_type("a boolean", json)),
            },
            Kind::String => match json {
                Json::Text(text) => Ok(put_bytes(text.as_bytes(), out)),
                json => Err(wrong_type("a string", json)),
            },
            Kind::Bytes => Ok(put_bytes(&bytes(json)?, out)),
            Kind::Enum(table) => {
                let number = self.enum_number(json, table)?;
                Ok(put_varint(i64::from(number).cast_unsigned(), out))
            }
            Kind::Message(message) => nested(out, |out| self.message(json, message, out)).map(|()| false),
        }
    }

    fn enum_number(&mut self, json: &Json<'_>, table: &EnumDescriptor) -> Read<i32> {
        let name = match json {
            Json::Null if is_null_value(table) => return Ok(0),
            Json::Number(text) => {
                return number::integer(text).map_err(|misfit| misfit_of(misfit, "an enum's number, of 32 bits"));
            }
            Json::Text(name) => name,
            json => return Err(wrong_type("an enum's name or number", json)),
        };
        if let Some(value) = table.get_value_by_name(name) {
            return Ok(value.number());
        }
        let fallback = self.fallbacks.and_then(|named| table.get_value_by_name(named.get(table.full_name())?));
        if let Some(value) = fallback {
            let was = Member::Name(name.as_ref().into());
            self.notes.replace(&self.path.join("."), table.full_name(), &was);
            return Ok(value.number());
        }
        let text = format!("{} has no value named {}", table.full_name(), shown(name));
        Err(Fault::new(ReasonCode::UnknownEnum, text))
    }
}

/// Finds a field or extension by its JSON name or its proto name.
fn field_of(message: &MessageDescriptor, name: &str) -> Option<Shape> {
    let field = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
    let field = field.map(|field| Shape::from(&field));
    field.or_else(|| message.get_extension_by_json_name(name).map(|extension| Shape::from(&extension)))
}

/// Returns whether `null` leaves the field unset. For `google.protobuf.Value` and `NullValue` it is a value.
fn is_unset(field: &Shape, json: &Json<'_>) -> bool {
    let has_null = match &field.kind {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(table) => is_null_value(table),
        _ => false,
    };
    *json == Json::Null && (field.is_list || field.is_map || !has_null)
}

fn is_null_value(table: &EnumDescriptor) -> bool {
    table.full_name() == "google.protobuf.NullValue"
}

fn map_key(kind: &Kind, name: &str) -> Read<MapKey> {
    let wrong = |what: &'static str| move |misfit| misfit_of(misfit, what);
    Ok(match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            MapKey::I32(number::integer(name).map_err(wrong("a 32-bit signed integer as key"))?)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            MapKey::I64(number::integer(name).map_err(wrong("a 64-bit signed integer as key"))?)
        }
        Kind::Uint32 | Kind::Fixed32 => {
            MapKey::U32(number::integer(name).map_err(wrong("a 32-bit unsigned integer as key"))?)
        }
        Kind::Uint64 | Kind::Fixed64 => {
            MapKey::U64(number::integer(name).map_err(wrong("a 64-bit unsigned integer as key"))?)
        }
        Kind::Bool => match name {
            "true" => MapKey::Bool(true),
            "false" => MapKey::Bool(false),
            _ => return Err(misfit_of(Misfit::Format, "`true` or `false` as key")),
        },
        // The only other key type.
        _ => MapKey::String(name.to_owned()),
    })
}

fn put_key(kind: &Kind, key: &MapKey, out: &mut Vec<u8>) {
    put_tag(1, wire_type(kind), out);
    let _ = match (key, kind) {
        (MapKey::I32(key), Kind::Sint32) => put_varint(u64::from(((key << 1) ^ (key >> 31)).cast_unsigned()), out),
        (MapKey::I32(key), Kind::Sfixed32) => put_fixed(key.to_le_bytes(), out),
        (MapKey::I32(key), _) => put_varint(i64::from(*key).cast_unsigned(), out),
        (MapKey::I64(key), Kind::Sint64) => put_varint(((key << 1) ^ (key >> 63)).cast_unsigned(), out),
        (MapKey::I64(key), Kind::Sfixed64) => put_fixed(key.to_le_bytes(), out),
        (MapKey::I64(key), _) => put_varint(key.cast_unsigned(), out),
        (MapKey::U32(key), Kind::Fixed32) => put_fixed(key.to_le_bytes(), out),
        (MapKey::U32(key), _) => put_varint(u64::from(*key), out),
        (MapKey::U64(key), Kind::Fixed64) => put_fixed(key.to_le_bytes(), out),
        (MapKey::U64(key), _) => put_varint(*key, out),
        (MapKey::Bool(key), _) => put_varint(u64::from(*key), out),
        (MapKey::String(key), _) => put_bytes(key.as_bytes(), out),
    };
}

fn whole<T: TryFrom<i128>>(json: &Json<'_>, what: &'static str) -> Read<T> {
    let text = match json {
        Json::Number(text) => text,
        Json::Text(text) => text.as_ref(),
        json => return Err(wrong_type(what, json)),
    };
    number::integer(text).map_err(|misfit| misfit_of(misfit, what))
}

fn floating<T>(json: &Json<'_>, what: &'static str, read: fn(&str, bool) -> Result<T, Misfit>) -> Read<T> {
    let (text, quoted) = match json {
        Json::Number(text) => (*text, false),
        Json::Text(text) => (text.as_ref(), true),
        json => return Err(wrong_type(what, json)),
    };
    read(text, quoted).map_err(|misfit| misfit_of(misfit, what))
}

/// Decodes base64 in either alphabet, with or without padding.
fn bytes(json: &Json<'_>) -> Read<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const USUAL: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
    const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);
    let Json::Text(text) = json else { return Err(wrong_type("bytes, as a string in base64", json)) };
    let engine = if text.contains(['-', '_']) { URL } else { USUAL };
    engine
        .decode(text.as_bytes())
        .map_err(|_| Fault::new(ReasonCode::JsonWrongType, "expected bytes in base64, found another text"))
}

fn put_varint(value: u64, out: &mut Vec<u8>) -> bool {
    encode_varint(value, out);
    value == 0
}

fn put_fixed<const N: usize>(value: [u8; N], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&value);
    value == [0; N]
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    encode_varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(bytes);
    bytes.is_empty()
}

/// Appends what `write` appends, prefixed with its length.
fn nested(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Read<()>) -> Read<()> {
    let start = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(10);
    encode_varint(u64::try_from(out.len() - start).unwrap_or(u64::MAX), &mut length);
    out.splice(start..start, length);
    Ok(())
}

fn wire_type(kind: &Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::Delimited,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => WireType::Varint,
    }
}

#[cold]
fn wrong_type(expected: &str, found: &Json<'_>) -> Box<Fault> {
    Fault::new(ReasonCode::JsonWrongType, format!("expected {expected}, found {}", found.name()))
}

#[cold]
fn misfit_of(misfit: Misfit, expected: &str) -> Box<Fault> {
    let found = match misfit {
        Misfit::Format => "another text",
        Misfit::Fraction => "a number with a fraction",
        Misfit::Range => "a number out of its range",
    };
    Fault::new(ReasonCode::JsonWrongType, format!("expected {expected}, found {found}"))
}

/// Formats a map's key as a step of a path.
fn quoted(key: &str) -> String {
    if key.len() <= SHOWN { format!("[{key:?}]") } else { String::new() }
}

/// Shortens a name chosen by the producer and makes it printable.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
