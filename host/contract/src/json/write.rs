//! Converts a message to JSON by Protobuf's JSON mapping: fields in the order of their numbers, map entries in the
//! order of their keys, defaults omitted.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use serde::Serialize;

use super::time;
use super::well_known::{self, WellKnown};
use crate::decimal::decimal;
use crate::rejection::{Fault, ReasonCode};
use crate::schema::first_name;

/// The way in which names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// In lowerCamelCase, or as set by `json_name`.
    Json,
    /// As in the `.proto` file.
    Proto,
}

type Written = Result<(), Box<Fault>>;

pub(crate) struct Writer<'o> {
    pub out: &'o mut Vec<u8>,
    pub names: Names,
}

impl Writer<'_> {
    pub(super) fn message(&mut self, message: &DynamicMessage) -> Written {
        match WellKnown::of(&message.descriptor()) {
            None | Some(WellKnown::Empty) => {
                self.out.push(b'{');
                self.members(message, true)?;
                self.out.push(b'}');
                Ok(())
            }
            Some(kind) => self.well_known(message, kind),
        }
    }

    /// Writes a field's value.
    pub(super) fn value(&mut self, value: &Value, kind: &Kind) -> Written {
        match value {
            Value::Bool(value) => self.raw(if *value { "true" } else { "false" }),
            Value::I32(value) => self.raw(value.to_string()),
            Value::U32(value) => self.raw(value.to_string()),
            // 64-bit integers are strings, because JavaScript's exact integers end at 2^53.
            Value::I64(value) => self.text(&value.to_string()),
            Value::U64(value) => self.text(&value.to_string()),
            Value::F32(value) => self.floating(decimal(*value)),
            Value::F64(value) => self.floating(*value),
            Value::String(value) => self.text(value),
            Value::Bytes(value) => self.text(&BASE64_STANDARD.encode(value)),
            Value::EnumNumber(number) => match kind {
                Kind::Enum(table) if table.full_name() == "google.protobuf.NullValue" => self.raw("null"),
                Kind::Enum(table) => match first_name(table, *number) {
                    Some(name) => self.text(&name),
                    None => self.raw(number.to_string()),
                },
                _ => self.raw(number.to_string()),
            },
            Value::Message(message) => return self.message(message),
            Value::List(items) => return self.list(items, kind),
            Value::Map(entries) => return self.map(entries, kind),
        }
        Ok(())
    }

    /// Writes the members of a message. `first` means that no member precedes them.
    fn members(&mut self, message: &DynamicMessage, mut first: bool) -> Written {
        let descriptor = message.descriptor();
        for field in descriptor.fields() {
            let value = message.get_field(&field);
            if !message.has_field(&field) && (field.supports_presence() || !is_minus_zero(&value)) {
                continue;
            }
            let name = if self.names == Names::Json { field.json_name() } else { field.name() };
            self.name(name, &mut first);
            self.value(&value, &field.kind()).map_err(|fault| fault.within(field.name()))?;
        }
        for (extension, value) in message.extensions() {
            self.name(extension.json_name(), &mut first);
            self.value(value, &extension.kind()).map_err(|fault| fault.within(extension.json_name()))?;
        }
        Ok(())
    }

    fn name(&mut self, name: &str, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        self.text(name);
        self.out.push(b':');
    }

    fn list(&mut self, items: &[Value], kind: &Kind) -> Written {
        self.out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.value(item, kind).map_err(|fault| fault.within(format!("[{index}]")))?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, entries: &std::collections::HashMap<MapKey, Value>, kind: &Kind) -> Written {
        let Kind::Message(entry) = kind else { return Ok(()) };
        let kind = entry.map_entry_value_field().kind();
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        self.out.push(b'{');
        let mut first = true;
        for (key, value) in entries {
            let key = match key {
                MapKey::Bool(key) => Cow::Borrowed(if *key { "true" } else { "false" }),
                MapKey::I32(key) => Cow::Owned(key.to_string()),
                MapKey::I64(key) => Cow::Owned(key.to_string()),
                MapKey::U32(key) => Cow::Owned(key.to_string()),
                MapKey::U64(key) => Cow::Owned(key.to_string()),
                MapKey::String(key) => Cow::Borrowed(key.as_str()),
            };
            self.name(&key, &mut first);
            self.value(value, &kind).map_err(|fault| fault.within(format!("[{key:?}]")))?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn well_known(&mut self, message: &DynamicMessage, kind: WellKnown) -> Written {
        let descriptor = message.descriptor();
        let field = |number: u32| descriptor.get_field(number).map(|field| (message.get_field(&field), field.kind()));
        let parts = || {
            let [seconds, nanos] = [1, 2].map(|number| field(number).map(|(value, _)| value.into_owned()));
            (seconds.and_then(|seconds| seconds.as_i64()), nanos.and_then(|nanos| nanos.as_i32()))
        };
        match kind {
            WellKnown::Timestamp => {
                let (seconds, nanos) = parts();
                let shown = time::show_timestamp(seconds.unwrap_or_default(), nanos.unwrap_or_default());
                self.text(&shown.ok_or_else(|| no_form("the time is out of google.protobuf.Timestamp's range"))?);
            }
            WellKnown::Duration => {
                let (seconds, nanos) = parts();
                let shown = time::show_duration(seconds.unwrap_or_default(), nanos.unwrap_or_default());
                let what = "the span is out of google.protobuf.Duration's range, or its seconds and nanoseconds have \
                            different signs";
                self.text(&shown.ok_or_else(|| no_form(what))?);
            }
            WellKnown::FieldMask => {
                let paths = field(1);
                let paths = paths.iter().filter_map(|(paths, _)| paths.as_list()).flatten().filter_map(Value::as_str);
                let paths: Option<Vec<String>> = paths.map(well_known::camel).collect();
                let what = "a path of the google.protobuf.FieldMask cannot be converted to lowerCamelCase and back";
                self.text(&paths.ok_or_else(|| no_form(what))?.join(","));
            }
            // The field is written without its name: the entries, the items, the value.
            WellKnown::Struct | WellKnown::ListValue | WellKnown::Wrapper => {
                if let Some((value, kind)) = field(1) {
                    return self.value(&value, &kind);
                }
            }
            WellKnown::Value => return self.any_value(message),
            WellKnown::Any => return self.any(message),
            // It is written like any other message.
            WellKnown::Empty => self.raw("{}"),
        }
        Ok(())
    }

    fn any_value(&mut self, message: &DynamicMessage) -> Written {
        let set = message.fields().next().ok_or_else(|| no_form("a google.protobuf.Value holds no value"))?;
        match set {
            (_, Value::F64(number)) if !number.is_finite() => {
                Err(no_form("a google.protobuf.Value holds NaN or an infinity"))
            }
            (field, value) => self.value(value, &field.kind()),
        }
    }

    fn any(&mut self, message: &DynamicMessage) -> Written {
        let part = |name: &str| message.get_field_by_name(name).map(Cow::into_owned);
        let (url, bytes) = (part("type_url"), part("value"));
        let url = url.as_ref().and_then(Value::as_str).unwrap_or_default();
        let bytes = bytes.as_ref().and_then(Value::as_bytes).cloned().unwrap_or_default();
        if url.is_empty() && bytes.is_empty() {
            self.raw("{}");
            return Ok(());
        }
        let inner = well_known::of_url(message.descriptor().parent_pool(), url).ok_or_else(|| {
            no_form("the google.protobuf.Any names a message type that the contract's files do not have")
        })?;
        let inner = DynamicMessage::decode(inner, bytes)
            .map_err(|_| no_form("the bytes in a google.protobuf.Any are not of the type that it names"))?;
        self.out.push(b'{');
        let mut first = true;
        self.name("@type", &mut first);
        self.text(url);
        match WellKnown::of(&inner.descriptor()) {
            None | Some(WellKnown::Empty) => self.members(&inner, false)?,
            Some(kind) => {
                self.name("value", &mut first);
                self.well_known(&inner, kind)?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn floating(&mut self, value: f64) {
        match value {
            _ if value.is_nan() => self.raw("\"NaN\""),
            f64::INFINITY => self.raw("\"Infinity\""),
            f64::NEG_INFINITY => self.raw("\"-Infinity\""),
            _ => self.serialized(&value),
        }
    }

    fn text(&mut self, text: &str) {
        self.serialized(text);
    }

    fn serialized<T: Serialize + ?Sized>(&mut self, value: &T) {
        // Writing a text or a finite number to memory cannot fail.
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn raw(&mut self, text: impl AsRef<str>) {
        self.out.extend_from_slice(text.as_ref().as_bytes());
    }
}

/// Minus zero is a value, although a dynamic message treats it as the default.
fn is_minus_zero(value: &Value) -> bool {
    match value {
        Value::F64(value) => *value == 0.0 && value.is_sign_negative(),
        Value::F32(value) => *value == 0.0 && value.is_sign_negative(),
        _ => false,
    }
}

#[cold]
fn no_form(what: &str) -> Box<Fault> {
    Fault::new(ReasonCode::NoJsonForm, what)
}
