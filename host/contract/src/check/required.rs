//! Required fields of a split message: they must be set in the merged one.

use prost_reflect::{DynamicMessage, Kind as ReflectKind, MapKey, ReflectMessage as _, Value as ReflectValue};

use crate::rejection::{Fault, ReasonCode};

/// Returns the first required field that a merged message lacks.
pub(super) fn missing_required(message: &DynamicMessage) -> Option<Box<Fault>> {
    let descriptor = message.descriptor();
    if let Some(field) = descriptor.fields().find(|field| field.is_required() && !message.has_field(field)) {
        return Some(missing(descriptor.full_name(), field.name()));
    }
    let in_value = |value: &ReflectValue| value.as_message().and_then(missing_required);
    let in_field = |name: &str, value: &ReflectValue| match value {
        ReflectValue::Message(inner) => missing_required(inner).map(|fault| fault.within(name)),
        ReflectValue::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| in_value(item).map(|fault| fault.within(format!("[{index}]")).within(name))),
        ReflectValue::Map(entries) => {
            // Entries are taken in key order, because the map is unordered, and the same payload must get the same
            // result.
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.into_iter().find_map(|(key, entry)| {
                let key = match key {
                    MapKey::String(key) => format!("[{key:?}]"),
                    MapKey::Bool(key) => format!("[{key}]"),
                    MapKey::I32(key) => format!("[{key}]"),
                    MapKey::I64(key) => format!("[{key}]"),
                    MapKey::U32(key) => format!("[{key}]"),
                    MapKey::U64(key) => format!("[{key}]"),
                };
                in_value(entry).map(|fault| fault.within(key).within(name))
            })
        }
        ReflectValue::Bool(_)
        | ReflectValue::I32(_)
        | ReflectValue::I64(_)
        | ReflectValue::U32(_)
        | ReflectValue::U64(_)
        | ReflectValue::F32(_)
        | ReflectValue::F64(_)
        | ReflectValue::String(_)
        | ReflectValue::Bytes(_)
        | ReflectValue::EnumNumber(_) => None,
    };
    message
        .fields()
        .find_map(|(field, value)| match field.kind() {
            ReflectKind::Message(_) => in_field(field.name(), value),
            _ => None,
        })
        .or_else(|| {
            message.extensions().find_map(|(extension, value)| in_field(&format!("[{}]", extension.full_name()), value))
        })
}

#[cold]
pub(super) fn missing(message: &str, field: &str) -> Box<Fault> {
    Fault::new(ReasonCode::MissingRequired, format!("{message} requires this field, but it is not set")).within(field)
}
