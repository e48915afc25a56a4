//! Computes the expected result of a contract in a slow way, with two parsers that share no code with the plan.
//!
//! The first parser is prost-reflect's dynamic message: it decides whether the bytes decode, and what they mean. It
//! lacks the strict checks of the gate. Therefore the second one walks along the descriptors and continues after each
//! of these, as prost-reflect does. It yields the gate's verdict and prost-reflect's, and both are compared. A
//! difference counts as an exception only if this walk has found its cause in the bytes. These are the exceptions
//! (`host/contract/src/check.rs` has the reasons):
//!
//! * a map field with another wire type than delimited, even an end tag: prost-reflect does not look at it;
//! * a group that the contract declares;
//! * a tag of more than five bytes, which spells a number of five in a longer form;
//! * unknown enum numbers and unknown fields, where the policies refuse them;
//! * nesting: the gate counts map entries too, and its limit may be lower;
//! * required fields: prost-reflect knows none, so they are looked for in its message, where parts are merged;
//! * minus zero in a field without presence: to prost-reflect it is the default and so not set, to the gate a value.
//!
//! The differential tests use this file, and the fuzz targets include it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

use std::collections::BTreeMap;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value as Dynamic,
};
use tollgate_contract::{Contract, Fields, Policies, Presence, ReasonCode, Slot, UnknownEnums, UnknownFields, Value};

/// The nesting limit of prost.
const PROST_LIMIT: u32 = 100;

/// Compares a contract's verdict and its slots' values with the reference. `Err` describes the difference.
pub(crate) fn judge(contract: &Contract, payload: &[u8]) -> Result<(), String> {
    let (expected, reference) = verdict(contract.message(), contract.policies(), payload)?;

    let mut fields = Fields::new();
    let found = contract.check(payload, &mut fields);
    if found != contract.check(payload, &mut Fields::new()) {
        return Err(format!("two verdicts: {payload:02x?}"));
    }
    // This file does not check rules. A payload that violates only rules has passed all other checks.
    let code = found.as_ref().err().map(|rejection| rejection.code);
    let code = code.filter(|code| !matches!(code, ReasonCode::RuleViolated | ReasonCode::RuleFailed));
    if code != expected {
        return Err(format!("found {found:?}, expected {expected:?}: {payload:02x?}"));
    }
    let (Ok(()), Some(message)) = (found, reference) else { return Ok(()) };
    for (slot, info) in contract.fields().iter().enumerate() {
        let path = info.path.as_str();
        let (found, expected) = (shown(contract, Slot(slot), &fields), expected_value(&message, path));
        if found != expected {
            return Err(format!("{path} is {found}, expected {expected}: {payload:02x?}"));
        }
    }
    Ok(())
}

/// Returns the verdict of a contract without rules, and the message if prost-reflect can read it. `Err` describes how
/// the two parsers disagree.
pub(crate) fn verdict(
    message: &MessageDescriptor,
    policies: &Policies,
    payload: &[u8],
) -> Result<(Option<ReasonCode>, Option<DynamicMessage>), String> {
    let reference = DynamicMessage::decode(message.clone(), payload);
    let naive = Naive::walk(message, policies.clone(), payload);
    if naive.malformed.is_some() != reference.is_err() {
        // The message itself is not shown, because prost-reflect would show all types that its type contains, and some
        // contain themselves.
        let reference = reference.map(drop);
        return Err(format!("the reference says {reference:?}, the naive walk {:?}: {payload:02x?}", naive.malformed));
    }
    let lacks = reference.as_ref().is_ok_and(|message| any_in(message, &lacks_required));
    Ok((naive.strict.or(naive.malformed).or(lacks.then_some(ReasonCode::MissingRequired)), reference.ok()))
}

fn lacks_required(message: &DynamicMessage) -> bool {
    message.descriptor().fields().any(|field| field.is_required() && !message.has_field(&field))
}

/// Returns whether any message in this one, at any depth, satisfies `asked`.
pub(crate) fn any_in(message: &DynamicMessage, asked: &dyn Fn(&DynamicMessage) -> bool) -> bool {
    let in_value = |value: &Dynamic| match value {
        Dynamic::Message(inner) => any_in(inner, asked),
        Dynamic::List(items) => items.iter().filter_map(Dynamic::as_message).any(|inner| any_in(inner, asked)),
        Dynamic::Map(entries) => entries.values().filter_map(Dynamic::as_message).any(|inner| any_in(inner, asked)),
        _ => false,
    };
    asked(message)
        || message.fields().any(|(_, value)| in_value(value))
        || message.extensions().any(|(_, value)| in_value(value))
}

/// The walk along the descriptors.
struct Naive {
    policies: Policies,
    /// The first error that the gate rejects and prost-reflect accepts.
    strict: Option<ReasonCode>,
    /// The error at which prost-reflect stops, as a code of the gate.
    malformed: Option<ReasonCode>,
}

/// The nesting depth of a place, as the gate and as prost-reflect count it.
#[derive(Clone, Copy)]
struct Depth {
    gate: u32,
    prost: u32,
}

impl Depth {
    fn down(self) -> Self {
        Self { gate: self.gate + 1, prost: self.prost + 1 }
    }
}

/// A field or an extension.
struct Known {
    kind: Kind,
    is_list: bool,
    is_map: bool,
    is_group: bool,
}

type Step<T> = Result<T, ReasonCode>;

impl Naive {
    fn walk(message: &MessageDescriptor, policies: Policies, payload: &[u8]) -> Naive {
        let mut naive = Naive { policies, strict: None, malformed: None };
        let mut rest = payload;
        let top = Depth { gate: 0, prost: 0 };
        while !rest.is_empty() && naive.malformed.is_none() {
            naive.malformed = naive.field(message, &mut rest, top).err();
        }
        naive
    }

    /// Reads a tag and advances past it.
    fn tag(&mut self, rest: &mut &[u8]) -> Step<(u32, u64)> {
        let before = rest.len();
        let tag = tag(rest)?;
        if before - rest.len() > 5 {
            self.refuse(ReasonCode::Undecodable);
        }
        Ok(tag)
    }

    fn refuse(&mut self, code: ReasonCode) {
        self.strict.get_or_insert(code);
    }

    /// Adds a level that the gate counts, and that prost-reflect counts too or not. Past prost-reflect's own limit the
    /// bytes are malformed.
    fn enter(&mut self, depth: Depth) -> Step<()> {
        if depth.gate >= self.policies.recursion_limit {
            self.refuse(ReasonCode::RecursionLimit);
        }
        if depth.prost >= PROST_LIMIT { Err(ReasonCode::RecursionLimit) } else { Ok(()) }
    }

    fn message(&mut self, message: &MessageDescriptor, mut bytes: &[u8], depth: Depth) -> Step<()> {
        while !bytes.is_empty() {
            self.field(message, &mut bytes, depth)?;
        }
        Ok(())
    }

    fn field(&mut self, message: &MessageDescriptor, rest: &mut &[u8], depth: Depth) -> Step<()> {
        let (number, wire) = self.tag(rest)?;
        let field = message.get_field(number).map(|field| Known {
            kind: field.kind(),
            is_list: field.is_list(),
            is_map: field.is_map(),
            is_group: field.is_group(),
        });
        let extension = || {
            message.get_extension(number).map(|extension| Known {
                kind: extension.kind(),
                is_list: extension.is_list(),
                is_map: extension.is_map(),
                is_group: extension.is_group(),
            })
        };
        match field.or_else(extension) {
            None => {
                self.skip(number, wire, rest, depth, message.is_map_entry())?;
                if self.policies.unknown_fields == UnknownFields::Reject {
                    self.refuse(ReasonCode::UnknownField);
                }
                Ok(())
            }
            Some(field) => self.known(&field, number, wire, rest, depth),
        }
    }

    fn known(&mut self, field: &Known, number: u32, wire: u64, rest: &mut &[u8], depth: Depth) -> Step<()> {
        let expected = if field.is_group { 3 } else { wire_of(&field.kind) };
        let packed = field.is_list && wire == 2 && !matches!(expected, 2 | 3);
        if wire != expected && !packed {
            let code = if wire == 4 { ReasonCode::Undecodable } else { ReasonCode::WrongWireType };
            if !field.is_map {
                return Err(code);
            }
            self.refuse(code);
        }
        match &field.kind {
            Kind::Message(inner) if field.is_group => {
                self.refuse(ReasonCode::GroupField);
                self.enter(depth)?;
                self.group(inner, number, rest, depth.down())
            }
            Kind::Message(entry) if field.is_map => self.entry(entry, delimited(rest)?, depth),
            Kind::Message(inner) => {
                let bytes = delimited(rest)?;
                self.enter(depth)?;
                self.message(inner, bytes, depth.down())
            }
            kind if packed => {
                let mut items = delimited(rest)?;
                while !items.is_empty() {
                    self.scalar(kind, &mut items)?;
                }
                Ok(())
            }
            kind => self.scalar(kind, rest),
        }
    }

    /// Reads a map's entry, which only the gate counts as nesting. Its value counts even if it is missing.
    fn entry(&mut self, entry: &MessageDescriptor, mut bytes: &[u8], depth: Depth) -> Step<()> {
        let inside = Depth { gate: depth.gate + 1, prost: depth.prost };
        if depth.gate >= self.policies.recursion_limit {
            self.refuse(ReasonCode::RecursionLimit);
        }
        let mut has_value = false;
        while !bytes.is_empty() {
            has_value |= tag(&mut &*bytes).is_ok_and(|(number, _)| number == 2);
            self.field(entry, &mut bytes, inside)?;
        }
        let nests = matches!(entry.map_entry_value_field().kind(), Kind::Message(_));
        if nests && !has_value && inside.gate >= self.policies.recursion_limit {
            self.refuse(ReasonCode::RecursionLimit);
        }
        Ok(())
    }

    /// Reads a group that the contract declares, which prost-reflect accepts.
    fn group(&mut self, message: &MessageDescriptor, open: u32, rest: &mut &[u8], depth: Depth) -> Step<()> {
        loop {
            match tag(&mut &**rest)? {
                (number, 4) if number == open => return self.tag(rest).map(drop),
                (_, 4) => return Err(ReasonCode::Undecodable),
                _ => self.field(message, rest, depth)?,
            }
        }
    }

    /// Skips an unknown field. In a map's entry prost-reflect counts even a scalar as nesting.
    fn skip(&mut self, number: u32, wire: u64, rest: &mut &[u8], depth: Depth, in_entry: bool) -> Step<()> {
        if in_entry && depth.prost >= PROST_LIMIT {
            return Err(ReasonCode::RecursionLimit);
        }
        match wire {
            0 => varint(rest).map(drop),
            1 => take(rest, 8).map(drop),
            2 => delimited(rest).map(drop),
            5 => take(rest, 4).map(drop),
            3 => {
                self.enter(depth)?;
                loop {
                    match self.tag(rest)? {
                        (end, 4) if end == number => return Ok(()),
                        (_, 4) => return Err(ReasonCode::Undecodable),
                        (inner, wire) => self.skip(inner, wire, rest, depth.down(), in_entry)?,
                    }
                }
            }
            _ => Err(ReasonCode::Undecodable),
        }
    }

    fn scalar(&mut self, kind: &Kind, rest: &mut &[u8]) -> Step<()> {
        match kind {
            Kind::Enum(names) => {
                // An int32 consists only of the low half.
                let number = i32::from_le_bytes(*varint(rest)?.to_le_bytes().first_chunk().unwrap());
                let refused = self.policies.unknown_enums != UnknownEnums::Keep && names.get_value(number).is_none();
                if refused {
                    self.refuse(ReasonCode::UnknownEnum);
                }
            }
            Kind::String => {
                std::str::from_utf8(delimited(rest)?).map_err(|_| ReasonCode::InvalidUtf8)?;
            }
            kind => match wire_of(kind) {
                0 => varint(rest).map(drop)?,
                1 => take(rest, 8).map(drop)?,
                5 => take(rest, 4).map(drop)?,
                _ => delimited(rest).map(drop)?,
            },
        }
        Ok(())
    }
}

fn wire_of(kind: &Kind) -> u64 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        Kind::String | Kind::Bytes | Kind::Message(_) => 2,
        _ => 0,
    }
}

fn tag(rest: &mut &[u8]) -> Step<(u32, u64)> {
    let tag = varint(rest)?;
    match u32::try_from(tag) {
        Ok(tag) if tag >= 8 && tag & 7 < 6 => Ok((tag >> 3, u64::from(tag & 7))),
        _ => Err(ReasonCode::Undecodable),
    }
}

fn varint(rest: &mut &[u8]) -> Step<u64> {
    let mut value = 0_u128;
    for shift in 0..10 {
        let byte = take(rest, 1)?[0];
        value |= u128::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return u64::try_from(value).map_err(|_| ReasonCode::Undecodable);
        }
    }
    Err(ReasonCode::Undecodable)
}

fn delimited<'a>(rest: &mut &'a [u8]) -> Step<&'a [u8]> {
    let length = varint(rest)?;
    take(rest, usize::try_from(length).map_err(|_| ReasonCode::Undecodable)?)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Step<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count).ok_or(ReasonCode::Undecodable)?;
    *rest = left;
    Ok(taken)
}

/// Returns a slot's value as text. Messages are shown decoded, because merging rearranges bytes. As text NaN equals
/// itself.
fn shown(contract: &Contract, slot: Slot, fields: &Fields<'_>) -> String {
    let info = contract.field(slot);
    let descriptor = descriptor_of(contract.message(), info.path.as_str());
    let of = |value: Value<'_>, kind: &Kind| match (value, kind) {
        (Value::Message(_) | Value::Split(_), Kind::Message(inner)) => {
            let bytes = fields.joined(value).unwrap();
            canonical(&DynamicMessage::decode(inner.clone(), &*bytes).unwrap())
        }
        (value, _) => format!("{value:?}"),
    };
    match fields.get(slot) {
        Value::List(list) => {
            format!("{:?}", fields.items(list).map(|item| of(item, &descriptor.kind())).collect::<Vec<_>>())
        }
        Value::Map(map) => {
            let Kind::Message(entry) = descriptor.kind() else { panic!("a map without entries") };
            let kind = entry.map_entry_value_field().kind();
            let entries: BTreeMap<String, String> =
                fields.entries(map).map(|(key, value)| (format!("{key:?}"), of(value, &kind))).collect();
            format!("{entries:?}")
        }
        Value::Absent => "Absent".into(),
        // For a field without presence, the reference treats any zero as unset, while the gate treats minus zero as a
        // value.
        Value::F64(-0.0) | Value::F32(-0.0) if info.presence == Presence::Implicit => "Default".into(),
        value
            if info.presence == Presence::Implicit && format!("{value:?}") == format!("{:?}", info.default_value()) =>
        {
            "Default".into()
        }
        value => of(value, &descriptor.kind()),
    }
}

fn descriptor_of(message: &MessageDescriptor, path: &str) -> FieldDescriptor {
    match path.split_once('.') {
        None => message.get_field_by_name(path).unwrap(),
        Some((first, rest)) => match message.get_field_by_name(first).unwrap().kind() {
            Kind::Message(inner) => descriptor_of(&inner, rest),
            other => panic!("{other:?} on the way"),
        },
    }
}

/// Returns the same text for the same field of the reference's message.
fn expected_value(message: &DynamicMessage, path: &str) -> String {
    if let Some((first, rest)) = path.split_once('.') {
        let field = message.descriptor().get_field_by_name(first).unwrap();
        return match message.has_field(&field) {
            true => expected_value(message.get_field(&field).as_message().unwrap(), rest),
            false => "Absent".into(),
        };
    }
    let field = message.descriptor().get_field_by_name(path).unwrap();
    match message.get_field(&field).as_ref() {
        Dynamic::List(items) => format!("{:?}", items.iter().map(dynamic).collect::<Vec<_>>()),
        Dynamic::Map(entries) => {
            let entries: BTreeMap<String, String> =
                entries.iter().map(|(key, value)| (dynamic(&Dynamic::from(key.clone())), dynamic(value))).collect();
            format!("{entries:?}")
        }
        value if message.has_field(&field) => dynamic(value),
        _ if field.supports_presence() => "Absent".into(),
        _ => "Default".into(),
    }
}

fn dynamic(value: &Dynamic) -> String {
    match value {
        Dynamic::Bool(value) => format!("{:?}", Value::Bool(*value)),
        Dynamic::I32(value) => format!("{:?}", Value::I32(*value)),
        Dynamic::I64(value) => format!("{:?}", Value::I64(*value)),
        Dynamic::U32(value) => format!("{:?}", Value::U32(*value)),
        Dynamic::U64(value) => format!("{:?}", Value::U64(*value)),
        Dynamic::F32(value) => format!("{:?}", Value::F32(*value)),
        Dynamic::F64(value) => format!("{:?}", Value::F64(*value)),
        Dynamic::String(value) => format!("{:?}", Value::Str(value.as_str().into())),
        Dynamic::Bytes(value) => format!("{:?}", Value::Bytes(value)),
        Dynamic::EnumNumber(value) => format!("{:?}", Value::Enum(*value)),
        Dynamic::Message(message) => canonical(message),
        Dynamic::List(_) | Dynamic::Map(_) => panic!("a list inside a list"),
    }
}

/// Returns a message's fields and extensions as text: maps are sorted, and NaN equals itself. Nested text is not
/// escaped again, because backslashes would double at each level.
pub(crate) fn canonical(message: &DynamicMessage) -> String {
    let words = |value: &Dynamic| match value {
        Dynamic::List(items) => format!("[{}]", items.iter().map(dynamic).collect::<Vec<_>>().join(", ")),
        Dynamic::Map(entries) => {
            let mut sorted: Vec<(&MapKey, &Dynamic)> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let entry = |(key, value): (&MapKey, &Dynamic)| format!("{key:?}: {}", dynamic(value));
            format!("{{{}}}", sorted.into_iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        value => dynamic(value),
    };
    let fields = message.fields().map(|(field, value)| format!("{} = {}", field.number(), words(value)));
    let extensions = message.extensions().map(|(field, value)| format!("{} = {}", field.number(), words(value)));
    format!("({})", fields.chain(extensions).collect::<Vec<_>>().join(", "))
}
