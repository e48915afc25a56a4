//! Describes a contract's fields independently of prost-reflect: kinds, presence, enum tables, paths.

use std::fmt;
use std::sync::Arc;

use prost_reflect::{
    EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind as ReflectKind, MessageDescriptor, OneofDescriptor,
};

use crate::error::near_names;
use crate::{CompileError, Value};

/// A field, or a oneof, by its dotted proto name, through singular messages: `payer.address.city`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    path: Box<str>,
    is_oneof: bool,
}

impl FieldPath {
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into().into(), is_oneof: false }
    }

    /// Returns the path of a oneof, whose value is the name of the branch that is set.
    #[must_use]
    pub fn oneof(path: impl Into<String>) -> Self {
        Self { path: path.into().into(), is_oneof: true }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.path
    }

    #[must_use]
    pub fn is_oneof(&self) -> bool {
        self.is_oneof
    }

    /// Returns the path of the message that contains it; `None` for the top one.
    fn message(&self) -> Option<&str> {
        self.path.rsplit_once('.').map(|(message, _)| message)
    }

    /// Returns its name in that message.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit_once('.').map_or(&self.path, |(_, name)| name)
    }
}

impl From<&str> for FieldPath {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// The type of a field's value. The 32- and 64-bit integers cover all their encodings on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Bool,
    I32,
    I64,
    U32,
    U64,
    F32,
    F64,
    String,
    Bytes,
    Enum(Arc<EnumTable>),
    /// A message, by its full name.
    Message(String),
    /// `google.protobuf.Timestamp`; the value is a message, [`crate::timestamp_micros`] reads it.
    Timestamp,
    /// `google.protobuf.Duration`; the value is a message, [`crate::duration_parts`] reads it.
    Duration,
    /// A oneof, with the numbers and names of its branches. The value is a [`Value::Enum`] with the number of the set
    /// branch.
    Oneof(Arc<EnumTable>),
    Repeated(Box<Kind>),
    Map(Box<Kind>, Box<Kind>),
}

impl Kind {
    /// Returns the type in the syntax of a `.proto` file, without the encoding: `repeated string`, `map<string,
    /// int64>`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::I32 => "int32".into(),
            Self::I64 => "int64".into(),
            Self::U32 => "uint32".into(),
            Self::U64 => "uint64".into(),
            Self::F32 => "float".into(),
            Self::F64 => "double".into(),
            Self::String => "string".into(),
            Self::Bytes => "bytes".into(),
            Self::Enum(table) => format!("enum {}", table.name()),
            Self::Message(name) => format!("message {name}"),
            Self::Timestamp => "google.protobuf.Timestamp".into(),
            Self::Duration => "google.protobuf.Duration".into(),
            Self::Oneof(table) => format!("oneof {}", table.name()),
            Self::Repeated(item) => format!("repeated {}", item.name()),
            Self::Map(key, value) => format!("map<{}, {}>", key.name(), value.name()),
        }
    }

    /// Returns the value of an unset field of this kind: zero, empty, or nothing for a message.
    #[must_use]
    pub fn default_value(&self) -> Value<'static> {
        match self {
            Self::Bool => Value::Bool(false),
            Self::I32 => Value::I32(0),
            Self::I64 => Value::I64(0),
            Self::U32 => Value::U32(0),
            Self::U64 => Value::U64(0),
            Self::F32 => Value::F32(0.0),
            Self::F64 => Value::F64(0.0),
            Self::String => Value::Str("".into()),
            Self::Bytes => Value::Bytes(&[]),
            Self::Enum(table) => Value::Enum(table.default_number()),
            Self::Message(_)
            | Self::Timestamp
            | Self::Duration
            | Self::Oneof(_)
            | Self::Repeated(_)
            | Self::Map(..) => Value::Absent,
        }
    }

    fn of(field: &Shape) -> Self {
        let kind = Self::of_value(&field.kind);
        match &field.kind {
            ReflectKind::Message(entry) if field.is_map => Self::Map(
                Box::new(Self::of_value(&entry.map_entry_key_field().kind())),
                Box::new(Self::of_value(&entry.map_entry_value_field().kind())),
            ),
            _ if field.is_list => Self::Repeated(Box::new(kind)),
            _ => kind,
        }
    }

    fn of_value(kind: &ReflectKind) -> Self {
        match kind {
            ReflectKind::Bool => Self::Bool,
            ReflectKind::Int32 | ReflectKind::Sint32 | ReflectKind::Sfixed32 => Self::I32,
            ReflectKind::Int64 | ReflectKind::Sint64 | ReflectKind::Sfixed64 => Self::I64,
            ReflectKind::Uint32 | ReflectKind::Fixed32 => Self::U32,
            ReflectKind::Uint64 | ReflectKind::Fixed64 => Self::U64,
            ReflectKind::Float => Self::F32,
            ReflectKind::Double => Self::F64,
            ReflectKind::String => Self::String,
            ReflectKind::Bytes => Self::Bytes,
            ReflectKind::Enum(descriptor) => Self::Enum(Arc::new(EnumTable::new(descriptor))),
            ReflectKind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Self::Timestamp,
                "google.protobuf.Duration" => Self::Duration,
                name => Self::Message(name.to_owned()),
            },
        }
    }
}

/// Whether the states "not set" and "set to the default" are distinct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// They are not distinct: proto3 scalars without `optional`, lists and maps.
    Implicit,
    /// They are distinct: messages, oneof members, `optional` fields, fields of proto2.
    Explicit,
    /// A `required` field of proto2: a payload without it is rejected.
    Required,
}

/// A wanted field.
#[derive(Debug, Clone)]
pub struct FieldInfo {
    pub path: FieldPath,
    pub kind: Kind,
    /// The presence of the field. It is explicit for a wrapper (`google.protobuf.Int64Value`), since a wrapper may be
    /// absent.
    pub presence: Presence,
    /// Whether the path names a wrapper; kind and descriptor are those of the value in it.
    pub is_wrapped: bool,
    /// `None` for a oneof.
    pub(crate) descriptor: Option<FieldDescriptor>,
}

impl FieldInfo {
    /// Returns the meaning of [`Value::Default`] for this field.
    #[must_use]
    pub fn default_value(&self) -> Value<'static> {
        self.kind.default_value()
    }

    /// Resolves a field's path from the top message. A path that ends in a wrapper refers to the value in it: before
    /// `optional`, wrappers were proto3's way to express "may be absent".
    pub(crate) fn resolve(top: &MessageDescriptor, path: &FieldPath) -> Result<(Self, Vec<u32>), CompileError> {
        let (message, mut numbers) = enclosing(top, path)?;
        let (descriptor, shape) = step(&message, path.name(), path)?;
        numbers.push(shape.number);
        let path = path.clone();
        if let Some(value) = wrapped_value(&shape) {
            numbers.push(value.number());
            let kind = Kind::of_value(&value.kind());
            let presence = Presence::Explicit;
            return Ok((Self { path, kind, presence, is_wrapped: true, descriptor: Some(value) }, numbers));
        }
        let (kind, presence) = (Kind::of(&shape), shape.presence);
        Ok((Self { path, kind, presence, is_wrapped: false, descriptor: Some(descriptor) }, numbers))
    }

    /// Resolves a oneof's path from the top message. Also returns the numbers that lead to each of its branches.
    pub(crate) fn resolve_oneof(
        top: &MessageDescriptor,
        path: &FieldPath,
    ) -> Result<(Self, Vec<Vec<u32>>), CompileError> {
        let (message, numbers) = enclosing(top, path)?;
        let name = path.name();
        let declared = || message.oneofs().filter(|oneof| !oneof.is_synthetic());
        let Some(oneof) = declared().find(|oneof| oneof.name() == name) else {
            return Err(CompileError::UnknownOneof {
                path: path.clone(),
                message: message.full_name().to_owned(),
                hint: message.get_field_by_name(name).map_or("", |_| ", but a field of that name: use `field` instead"),
                near: near_names(name, declared().map(|oneof| oneof.name().to_owned())),
            });
        };
        let branches = oneof.fields().map(|field| [&*numbers, &[field.number()]].concat()).collect();
        let kind = Kind::Oneof(Arc::new(EnumTable::of_oneof(&oneof)));
        let info = Self { path: path.clone(), kind, presence: Presence::Explicit, is_wrapped: false, descriptor: None };
        Ok((info, branches))
    }
}

/// Returns the message that contains the last name of a path, and the field numbers that lead to it.
fn enclosing(top: &MessageDescriptor, path: &FieldPath) -> Result<(MessageDescriptor, Vec<u32>), CompileError> {
    let (mut message, mut numbers) = (top.clone(), Vec::new());
    for segment in path.message().into_iter().flat_map(|parents| parents.split('.')) {
        let (_, shape) = step(&message, segment, path)?;
        numbers.push(shape.number);
        let not_a_message = |what| CompileError::NotAMessage { path: path.clone(), segment: segment.to_owned(), what };
        message = match &shape.kind {
            _ if shape.is_map => return Err(not_a_message("a map")),
            _ if shape.is_list => return Err(not_a_message("repeated")),
            ReflectKind::Message(inner) => inner.clone(),
            _ => return Err(not_a_message("not a message")),
        };
    }
    Ok((message, numbers))
}

/// Returns the field that one segment of `path` names.
pub(crate) fn step(
    message: &MessageDescriptor,
    segment: &str,
    path: &FieldPath,
) -> Result<(FieldDescriptor, Shape), CompileError> {
    let Some(descriptor) = message.get_field_by_name(segment) else {
        return Err(CompileError::UnknownField {
            path: path.clone(),
            segment: segment.to_owned(),
            message: message.full_name().to_owned(),
            near: near_names(segment, message.fields().map(|field| field.name().to_owned())),
        });
    };
    let shape = Shape::from(&descriptor);
    if shape.is_group {
        return Err(CompileError::Group { path: path.clone(), segment: segment.to_owned() });
    }
    Ok((descriptor, shape))
}

/// Returns the field in a singular wrapper.
fn wrapped_value(shape: &Shape) -> Option<FieldDescriptor> {
    match &shape.kind {
        ReflectKind::Message(message) if !shape.is_list && !shape.is_map && is_wrapper(message) => message.get_field(1),
        _ => None,
    }
}

/// The numbers and names of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumTable {
    name: String,
    /// Bit n is set if the enum names the number n.
    small: u64,
    /// Sorted by number; of aliases the first declared one is kept.
    names: Vec<(i32, String)>,
    default_number: i32,
}

impl EnumTable {
    pub(crate) fn new(descriptor: &EnumDescriptor) -> Self {
        Self::of(descriptor.full_name(), declared(descriptor), descriptor.default_value().number())
    }

    /// Returns the branches of a oneof, by their field numbers.
    fn of_oneof(oneof: &OneofDescriptor) -> Self {
        let branches = oneof.fields().map(|field| (field.number().cast_signed(), field.name().to_owned()));
        // No field has the number 0, which therefore represents an unset oneof.
        Self::of(oneof.full_name(), branches.collect(), 0)
    }

    fn of(name: &str, mut names: Vec<(i32, String)>, default_number: i32) -> Self {
        // The sort is stable, so of aliases the first declared one comes first.
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        let small = names
            .iter()
            .filter_map(|(number, _)| u32::try_from(*number).ok())
            .filter_map(|number| 1_u64.checked_shl(number))
            .fold(0, |bits, bit| bits | bit);
        Self { name: name.to_owned(), small, names, default_number }
    }

    /// Returns the enum's full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of the first declared value.
    #[must_use]
    pub fn default_number(&self) -> i32 {
        self.default_number
    }

    #[inline]
    #[must_use]
    pub fn contains(&self, number: i32) -> bool {
        match u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number)) {
            Some(bit) => self.small & bit != 0,
            None => self.value_name(number).is_some(),
        }
    }

    /// Returns the name of a number as declared (`STATUS_PAID`).
    #[must_use]
    pub fn value_name(&self, number: i32) -> Option<&str> {
        let index = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.names.get(index).map(|(_, name)| name.as_str())
    }

    /// Iterates over all numbers with their names, ascending.
    pub fn values(&self) -> impl Iterator<Item = (i32, &str)> {
        self.names.iter().map(|(number, name)| (*number, name.as_str()))
    }
}

/// Returns the values of an enum in the order of the `.proto` file. The descriptor's own list is sorted by number, with
/// the last alias first.
fn declared(descriptor: &EnumDescriptor) -> Vec<(i32, String)> {
    let values = &descriptor.enum_descriptor_proto().value;
    values.iter().map(|value| (value.number(), value.name().to_owned())).collect()
}

/// Returns the name of an enum's number; of aliases the first. Code that shows names uses this, or an [`EnumTable`].
pub(crate) fn first_name(descriptor: &EnumDescriptor, number: i32) -> Option<String> {
    let values = &descriptor.enum_descriptor_proto().value;
    values.iter().find(|value| value.number() == number).map(|value| value.name().to_owned())
}

/// The common properties of fields and extensions.
pub(crate) struct Shape {
    pub number: u32,
    pub name: String,
    pub json_name: String,
    pub kind: ReflectKind,
    pub is_list: bool,
    pub is_map: bool,
    pub is_group: bool,
    pub is_packed: bool,
    pub presence: Presence,
    /// The other members' numbers, if this is a member of a oneof.
    pub rivals: Vec<u32>,
}

impl From<&FieldDescriptor> for Shape {
    fn from(field: &FieldDescriptor) -> Self {
        let rivals = field.containing_oneof().map(|oneof| {
            oneof.fields().map(|rival| rival.number()).filter(|number| *number != field.number()).collect()
        });
        Self {
            number: field.number(),
            name: field.name().to_owned(),
            json_name: field.json_name().to_owned(),
            kind: field.kind(),
            is_list: field.is_list(),
            is_map: field.is_map(),
            is_group: field.is_group(),
            is_packed: field.is_packed(),
            presence: if field.is_required() {
                Presence::Required
            } else if field.supports_presence() {
                Presence::Explicit
            } else {
                Presence::Implicit
            },
            rivals: rivals.unwrap_or_default(),
        }
    }
}

impl From<&ExtensionDescriptor> for Shape {
    fn from(extension: &ExtensionDescriptor) -> Self {
        Self {
            number: extension.number(),
            name: format!("[{}]", extension.full_name()),
            json_name: extension.json_name().to_owned(),
            kind: extension.kind(),
            is_list: extension.is_list(),
            is_map: extension.is_map(),
            is_group: extension.is_group(),
            is_packed: extension.is_packed(),
            // Extensions are never required.
            presence: Presence::Explicit,
            rivals: Vec::new(),
        }
    }
}

/// Returns all fields that a parser of this message knows, including extensions in the pool.
pub(crate) fn shapes(message: &MessageDescriptor) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = message.fields().map(|field| Shape::from(&field)).collect();
    shapes.extend(message.extensions().map(|extension| Shape::from(&extension)));
    shapes.sort_by_key(|shape| shape.number);
    shapes
}

/// Returns whether the message is one of the wrappers that give a single value presence.
pub(crate) fn is_wrapper(message: &MessageDescriptor) -> bool {
    matches!(
        message.full_name(),
        "google.protobuf.BoolValue"
            | "google.protobuf.BytesValue"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.StringValue"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
    )
}
