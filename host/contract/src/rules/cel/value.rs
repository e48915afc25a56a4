//! Protobuf values as CEL values.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp,
    CelUInt, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use chrono::{DateTime, TimeDelta};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as ReflectKind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value as ReflectValue,
};

use super::Boxed;
use crate::rules::{is_set, nanoseconds};
use crate::schema::is_wrapper;

/// Marks the error of a field that a message type does not have, which no event can fix.
pub(super) const FIELD: &str = "field";

static MESSAGE: Type = Type::new_unspecified_type("message");

/// The purpose of reading a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// An event.
    Event,
    /// The trial of an expression, where an unset wrapper reads as zero, so that its type is known.
    Sample,
}

/// A message, converted field by field on demand.
#[derive(Debug, Clone)]
pub(crate) struct MessageValue {
    message: Arc<DynamicMessage>,
    reading: Reading,
}

impl MessageValue {
    fn field(&self, name: &str) -> Result<FieldDescriptor, ExecutionError> {
        let descriptor = self.message.descriptor();
        descriptor.get_field_by_name(name).ok_or_else(|| {
            ExecutionError::function_error(FIELD, format!("{} has no field {name}", descriptor.full_name()))
        })
    }

    pub(super) fn has(&self, name: &str) -> Result<bool, ExecutionError> {
        let field = self.field(name)?;
        Ok(is_set(&self.message, &field))
    }
}

impl Val for MessageValue {
    fn get_type(&self) -> &Type {
        &MESSAGE
    }

    fn cel_type() -> &'static Type {
        &MESSAGE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| other.message == self.message)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for MessageValue {}

impl Indexer for MessageValue {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = name.downcast_ref::<CelString<'_>>().ok_or_else(|| ExecutionError::UnexpectedType {
            got: name.get_type().name().to_owned(),
            want: "string".to_owned(),
        })?;
        let field = self.field(name.inner())?;
        Ok(CowVal::Owned(convert_field(&self.message, &field, self.reading)?))
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(name).map(CowVal::into_owned)
    }
}

/// Converts a field of a message, set or not.
pub(crate) fn convert_field(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    reading: Reading,
) -> Result<Boxed, ExecutionError> {
    if let ReflectKind::Message(inner) = field.kind()
        && !field.is_list()
        && !field.is_map()
        && reading == Reading::Event
        && (is_wrapper(&inner) || inner.full_name() == "google.protobuf.Value")
        && !message.has_field(field)
    {
        return Ok(Box::new(CelNull));
    }
    convert(&message.get_field(field), reading)
}

/// Converts a list's item, or a map's key or value.
pub(crate) fn convert_item(value: &ReflectValue, reading: Reading) -> Result<Boxed, ExecutionError> {
    convert(value, reading)
}

/// Returns the sample value for an expression on the field.
pub(crate) fn zero_field(field: &FieldDescriptor) -> Option<Boxed> {
    convert_field(&DynamicMessage::new(field.parent_message().clone()), field, Reading::Sample).ok()
}

/// Returns the sample value for an expression on an item, a key or a value.
pub(crate) fn zero_item(kind: &ReflectKind) -> Option<Boxed> {
    convert(&ReflectValue::default_value(kind), Reading::Sample).ok()
}

fn convert(value: &ReflectValue, reading: Reading) -> Result<Boxed, ExecutionError> {
    Ok(match value {
        ReflectValue::Bool(value) => Box::new(CelBool::from(*value)),
        ReflectValue::I32(value) | ReflectValue::EnumNumber(value) => Box::new(CelInt::from(i64::from(*value))),
        ReflectValue::I64(value) => Box::new(CelInt::from(*value)),
        ReflectValue::U32(value) => Box::new(CelUInt::from(u64::from(*value))),
        ReflectValue::U64(value) => Box::new(CelUInt::from(*value)),
        ReflectValue::F32(value) => Box::new(CelDouble::from(f64::from(*value))),
        ReflectValue::F64(value) => Box::new(CelDouble::from(*value)),
        ReflectValue::String(value) => Box::new(CelString::from(value.clone())),
        ReflectValue::Bytes(value) => Box::new(CelBytes::from(value.to_vec())),
        ReflectValue::Message(message) => convert_message(message, reading)?,
        ReflectValue::List(items) => {
            let items: Result<Vec<Boxed>, _> = items.iter().map(|item| convert(item, reading)).collect();
            Box::new(CelList::from(items?))
        }
        ReflectValue::Map(entries) => {
            let entries: Result<HashMap<CelMapKey<'static>, Boxed>, ExecutionError> =
                entries.iter().map(|(key, value)| Ok((map_key(key), convert(value, reading)?))).collect();
            Box::new(CelMap::from(entries?))
        }
    })
}

fn map_key(key: &MapKey) -> CelMapKey<'static> {
    match key {
        MapKey::Bool(key) => (*key).into(),
        MapKey::I32(key) => i64::from(*key).into(),
        MapKey::I64(key) => (*key).into(),
        MapKey::U32(key) => u64::from(*key).into(),
        MapKey::U64(key) => (*key).into(),
        MapKey::String(key) => key.clone().into(),
    }
}

/// Converts a message: well-known types to the CEL values that they represent, all others to themselves.
pub(super) fn convert_message(message: &DynamicMessage, reading: Reading) -> Result<Boxed, ExecutionError> {
    let descriptor = message.descriptor();
    let field = |name: &str| match message.get_field_by_name(name) {
        Some(value) => convert(&value, reading),
        None => Ok(Box::new(CelNull) as Boxed),
    };
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => return timestamp(parts(message)),
        "google.protobuf.Duration" => return duration(parts(message)),
        "google.protobuf.ListValue" => return field("values"),
        "google.protobuf.Struct" => return field("fields"),
        "google.protobuf.Value" => {
            let set = message.fields().next().filter(|(field, _)| field.name() != "null_value");
            return set.map_or(Ok(Box::new(CelNull)), |(_, value)| convert(value, reading));
        }
        "google.protobuf.Any" => {
            if let Some(inner) = unpack(message, &descriptor) {
                return convert_message(&inner, reading);
            }
        }
        _ if is_wrapper(&descriptor) => return field("value"),
        _ => {}
    }
    Ok(Box::new(MessageValue { message: Arc::new(message.clone()), reading }))
}

fn unpack(any: &DynamicMessage, descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
    let url = any.get_field_by_name("type_url")?;
    let name = url.as_str()?.rsplit('/').next()?;
    let inner = descriptor.parent_pool().get_message_by_name(name)?;
    let bytes = any.get_field_by_name("value")?;
    DynamicMessage::decode(inner, bytes.as_bytes()?.clone()).ok()
}

/// Returns the nanoseconds of a Timestamp or a Duration.
fn parts(message: &DynamicMessage) -> i128 {
    let seconds = message.get_field_by_name("seconds").and_then(|seconds| seconds.as_i64()).unwrap_or(0);
    let nanos = message.get_field_by_name("nanos").and_then(|nanos| nanos.as_i32()).unwrap_or(0);
    nanoseconds(seconds, nanos)
}

/// Converts nanoseconds since the epoch to CEL's timestamp.
pub(crate) fn timestamp(nanos: i128) -> Result<Boxed, ExecutionError> {
    let out_of_range = || ExecutionError::function_error("timestamp", "the timestamp is out of range");
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| out_of_range())?;
    let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).map_err(|_| out_of_range())?;
    let time = DateTime::from_timestamp(seconds, rest).ok_or_else(out_of_range)?;
    Ok(Box::new(CelTimestamp::from(time.fixed_offset())))
}

fn duration(nanos: i128) -> Result<Boxed, ExecutionError> {
    // CEL's durations are 64-bit nanoseconds, about 292 years.
    let nanos = i64::try_from(nanos)
        .map_err(|_| ExecutionError::function_error("duration", "the duration is out of CEL's range"))?;
    Ok(Box::new(CelDuration::from(TimeDelta::nanoseconds(nanos))))
}
