//! Determines which types can read each other's bytes and JSON, and which values are lost.
//!
//! The groups are those of Protobuf's "Updating a Message Type" and of `buf breaking`'s WIRE and WIRE_JSON: varints
//! without zigzag are compatible, fixed types of the same width are, and string and bytes are. Even such types may lose
//! values (`int64` read as `int32` is truncated). That is reported as a narrowing, for the affected side.

use prost_reflect::{EnumDescriptor, Kind};
use tollgate_contract::type_name;

/// The encoding of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint,
    ZigZag,
    Fixed32,
    Fixed64,
    Float,
    Double,
    Text,
    Message,
}

/// The encoding in Protobuf's JSON mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Json {
    Number,
    /// 64-bit integers are strings.
    NumberText,
    Float,
    Bool,
    Name,
    Text,
    Base64,
    Object,
}

/// The effects of a change from one type to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Whether new consumers cannot read old bytes.
    pub unreadable_backward: bool,
    /// Whether old consumers cannot read new bytes.
    pub unreadable_forward: bool,
    /// The reason why a reader rejects some values of a type with the same encoding.
    pub refused: Option<String>,
    /// The reason why new consumers misread or reject some old values.
    pub narrowed_backward: Option<String>,
    pub narrowed_forward: Option<String>,
    pub json: bool,
    /// Whether generated code has another type.
    pub source: bool,
}

/// Compares two types of single values. `groups` tells for each whether it is a proto2 group.
pub(super) fn compare(old: &Kind, new: &Kind, groups: (bool, bool)) -> Change {
    let (was, is) = (type_name(old), type_name(new));
    if was == is && groups.0 == groups.1 {
        return Change::default();
    }
    let unreadable = Change {
        unreadable_backward: true,
        unreadable_forward: true,
        json: json(old) != json(new),
        source: true,
        ..Change::default()
    };
    if groups.0 != groups.1 || wire(old) != wire(new) {
        return unreadable;
    }
    match (old, new) {
        // Another message type may have other fields, now or later.
        (Kind::Message(_), Kind::Message(_)) => Change { json: false, ..unreadable },
        (Kind::Enum(old), Kind::Enum(new)) => enums(old, new),
        // Consumers reject numbers that an enum does not name, and an integer may be any number.
        (Kind::Enum(named), _) | (_, Kind::Enum(named)) => Change {
            unreadable_backward: matches!(new, Kind::Enum(_)),
            unreadable_forward: matches!(old, Kind::Enum(_)),
            refused: Some(format!("consumers that read {} reject numbers that it does not name", named.full_name())),
            narrowed_backward: narrowed(old, new),
            narrowed_forward: narrowed(new, old),
            json: true,
            source: true,
        },
        (Kind::Bytes, Kind::String) => {
            Change { unreadable_backward: true, json: true, source: true, ..Change::default() }
        }
        (Kind::String, Kind::Bytes) => Change {
            narrowed_forward: Some("bytes that are not UTF-8 are rejected by consumers that read a string".into()),
            json: true,
            source: true,
            ..Change::default()
        },
        _ => Change {
            narrowed_backward: narrowed(old, new),
            narrowed_forward: narrowed(new, old),
            json: json(old) != json(new),
            source: true,
            ..Change::default()
        },
    }
}

fn enums(old: &EnumDescriptor, new: &EnumDescriptor) -> Change {
    let missing = |from: &EnumDescriptor, of: &EnumDescriptor| {
        let numbers: Vec<String> = of
            .values()
            .filter(|value| from.get_value(value.number()).is_none())
            .map(|value| format!("{} = {}", value.name(), value.number()))
            .collect();
        (!numbers.is_empty()).then(|| format!("{} has no {}", from.full_name(), numbers.join(", ")))
    };
    let renamed = old.values().any(|value| {
        let now = new.get_value(value.number());
        now.is_some() && !new.values().any(|other| other.number() == value.number() && other.name() == value.name())
    });
    let refused = missing(new, old);
    Change {
        unreadable_backward: refused.is_some(),
        refused,
        narrowed_forward: missing(old, new),
        json: renamed,
        source: true,
        ..Change::default()
    }
}

/// Returns why some values of `written` change when they are read as `read`.
fn narrowed(written: &Kind, read: &Kind) -> Option<String> {
    let (low, high) = range(written)?;
    let (from, to) = range(read)?;
    // Enums are not truncated: a number without a name is rejected.
    if matches!(read, Kind::Enum(_)) {
        return None;
    }
    (low < from || high > to).then(|| {
        format!("values of {} beyond {from} to {to} change when read as {}", type_name(written), type_name(read))
    })
}

fn range(kind: &Kind) -> Option<(i128, i128)> {
    Some(match kind {
        Kind::Bool => (0, 1),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => (i32::MIN.into(), i32::MAX.into()),
        Kind::Uint32 | Kind::Fixed32 => (0, u32::MAX.into()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (i64::MIN.into(), i64::MAX.into()),
        Kind::Uint64 | Kind::Fixed64 => (0, u64::MAX.into()),
        Kind::Float | Kind::Double | Kind::String | Kind::Bytes | Kind::Message(_) => return None,
    })
}

fn wire(kind: &Kind) -> Wire {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Enum(_) => Wire::Varint,
        Kind::Sint32 | Kind::Sint64 => Wire::ZigZag,
        Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32,
        Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64,
        Kind::Float => Wire::Float,
        Kind::Double => Wire::Double,
        Kind::String | Kind::Bytes => Wire::Text,
        Kind::Message(_) => Wire::Message,
    }
}

fn json(kind: &Kind) -> Json {
    match kind {
        Kind::Bool => Json::Bool,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => Json::Number,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => Json::NumberText,
        Kind::Float | Kind::Double => Json::Float,
        Kind::Enum(_) => Json::Name,
        Kind::String => Json::Text,
        Kind::Bytes => Json::Base64,
        Kind::Message(_) => Json::Object,
    }
}
