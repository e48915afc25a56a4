//! The types with their own JSON form.

use std::borrow::Cow;

use prost_reflect::{Kind, MessageDescriptor};

use super::super::{time, well_known};
use super::{Fault, Json, Read, Reader, ReasonCode, floating, nested, put_bytes, put_varint, wrong_type};
use crate::json::coerce::Coercions;
use crate::json::number;
use crate::notes::{Member, Policy};
use crate::well_known::TIMESTAMP_SECONDS;
use crate::wire::{WireType, put_tag};
use crate::{Moment, TimeInput, TimeSpec};

/// A Timestamp in Protobuf's JSON.
const TIME: &str = "a time such as \"2026-01-31T12:00:00Z\"";
/// A second in microseconds.
const SECOND: i64 = 1_000_000;

/// The fields of `google.protobuf.Value`, by number.
const NULL: u32 = 1;
const NUMBER: u32 = 2;
const STRING: u32 = 3;
const BOOL: u32 = 4;
const STRUCT: u32 = 5;
const LIST: u32 = 6;

impl Reader<'_> {
    /// Reads a type with its own JSON form; `None` for other types.
    pub(super) fn well_known(
        &mut self,
        json: &Json<'_>,
        message: &MessageDescriptor,
        out: &mut Vec<u8>,
    ) -> Option<Read<()>> {
        use well_known::WellKnown::{Any, Duration, Empty, FieldMask, ListValue, Struct, Timestamp, Value, Wrapper};
        Some(match well_known::WellKnown::of(message)? {
            Timestamp => self.timestamp(json, out),
            Duration => text(json, "a duration such as \"1.5s\"", |text| {
                let (seconds, nanos) = time::duration(text)?;
                put_time(seconds, nanos, out);
                Some(())
            }),
            FieldMask => text(json, "a field mask such as \"user.displayName,photo\"", |text| {
                let paths = text.split(',').filter(|path| !path.is_empty()).map(well_known::snake);
                for path in paths.collect::<Option<Vec<String>>>()? {
                    put_tag(1, WireType::Delimited, out);
                    put_bytes(path.as_bytes(), out);
                }
                Some(())
            }),
            Wrapper => self.wrapper(json, message, out),
            Struct => self.fields(json, message, out),
            ListValue => self.values(json, message, out),
            Value => self.any_value(json, message, out),
            Any => self.any(json, message, out),
            // It is an ordinary object, except in an Any.
            Empty => return None,
        })
    }

    fn timestamp(&mut self, json: &Json<'_>, out: &mut Vec<u8>) -> Read<()> {
        if let Json::Text(text) = json
            && let Some((seconds, nanos)) = time::timestamp(text)
        {
            put_time(seconds, nanos, out);
            return Ok(());
        }
        match self.coerce.and_then(Coercions::time) {
            Some(spec) => self.coerced_time(spec, json, out),
            None => text(json, TIME, |_| None),
        }
    }

    /// Reads a value that is not a Timestamp in Protobuf's JSON in one of the declared forms, and records which one.
    #[cold]
    fn coerced_time(&mut self, spec: &TimeSpec, json: &Json<'_>, out: &mut Vec<u8>) -> Read<()> {
        let (input, found) = match json {
            Json::Text(text) => (TimeInput::text(text), "text"),
            Json::Number(text) => (number::integer(text).map_or(TimeInput::nothing(), TimeInput::number), "number"),
            json => return Err(wrong_type(TIME, json)),
        };
        let told = spec.read(input, Moment::zoned).and_then(|(form, moment)| {
            let Moment::Instant { micros, nanos } = moment else { return None };
            let (seconds, micros) = (micros.div_euclid(SECOND), micros.rem_euclid(SECOND));
            let nanos = i32::try_from(micros).ok()? * 1_000 + nanos;
            TIMESTAMP_SECONDS.contains(&seconds).then_some((form, seconds, nanos))
        });
        let Some((form, seconds, nanos)) = told else {
            let text = format!("expected {TIME}, or {spec}, found another {found}");
            return Err(Fault::new(ReasonCode::JsonWrongType, text));
        };
        put_time(seconds, nanos, out);
        self.notes.add(Policy::Coerce, &self.path.join("."), &Member::Name(form.name().into()));
        Ok(())
    }

    fn wrapper(&mut self, json: &Json<'_>, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        let start = out.len();
        let Some(field) = message.get_field(1) else { return Err(wrong_type("nothing", json)) };
        let kind = field.kind();
        put_tag(1, super::wire_type(&kind), out);
        if self.value(&kind, json, out)? {
            out.truncate(start);
        }
        Ok(())
    }

    fn fields(&mut self, json: &Json<'_>, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        match (json, message.get_field_by_name("fields")) {
            (Json::Object(_), Some(fields)) => self.field(&(&fields).into(), json, out),
            (json, _) => Err(wrong_type("an object", json)),
        }
    }

    fn values(&mut self, json: &Json<'_>, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        match (json, message.get_field_by_name("values")) {
            (Json::List(_), Some(values)) => self.field(&(&values).into(), json, out),
            (json, _) => Err(wrong_type("an array", json)),
        }
    }

    fn any_value(&mut self, json: &Json<'_>, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        let inner = |number: u32| match message.get_field(number).map(|field| field.kind()) {
            Some(Kind::Message(inner)) => Ok(inner),
            _ => Err(wrong_type("nothing", json)),
        };
        match json {
            Json::Null => {
                put_tag(NULL, WireType::Varint, out);
                put_varint(0, out);
            }
            Json::Bool(value) => {
                put_tag(BOOL, WireType::Varint, out);
                put_varint(u64::from(*value), out);
            }
            Json::Number(_) => {
                let value = floating(json, "a 64-bit floating-point number", number::double)?;
                put_tag(NUMBER, WireType::Fixed64, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Json::Text(text) => {
                put_tag(STRING, WireType::Delimited, out);
                put_bytes(text.as_bytes(), out);
            }
            Json::Object(_) => {
                put_tag(STRUCT, WireType::Delimited, out);
                nested(out, |out| self.fields(json, &inner(STRUCT)?, out))?;
            }
            Json::List(_) => {
                put_tag(LIST, WireType::Delimited, out);
                nested(out, |out| self.values(json, &inner(LIST)?, out))?;
            }
        }
        Ok(())
    }

    /// Reads `{"@type": …}` with the members of that type, or with its own JSON form as `value`; `{}` is an empty Any.
    fn any(&mut self, json: &Json<'_>, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        let Json::Object(members) = json else { return Err(wrong_type("an object", json)) };
        if members.is_empty() {
            return Ok(());
        }
        let url = match self.only(members, "@type")? {
            Some(Json::Text(url)) => url,
            Some(json) => return Err(wrong_type("a type URL", json).within("@type")),
            None => return Err(Fault::new(ReasonCode::JsonWrongType, "an Any names its type in the member @type")),
        };
        let Some(inner) = well_known::of_url(message.parent_pool(), url) else {
            let text = "the type URL does not end in a message type of the contract's files; an example is \
                type.googleapis.com/a.v1.A";
            return Err(Fault::new(ReasonCode::JsonWrongType, text).within("@type"));
        };
        put_tag(1, WireType::Delimited, out);
        put_bytes(url.as_bytes(), out);
        let start = out.len();
        put_tag(2, WireType::Delimited, out);
        let empty = out.len() + 1;
        nested(out, |out| {
            if !well_known::has_own_form(&inner) {
                return self.members(members, &inner, "@type", out);
            }
            for (name, _) in members.iter().filter(|(name, _)| name != "@type" && name != "value") {
                self.unknown(&inner, name)?;
            }
            match self.only(members, "value")? {
                Some(value) => self.message(value, &inner, out).map_err(|fault| fault.within("value")),
                None if well_known::WellKnown::of(&inner) == Some(well_known::WellKnown::Empty) => Ok(()),
                None => Err(Fault::new(
                    ReasonCode::JsonWrongType,
                    format!("an Any of {} has its JSON form in the member value", inner.full_name()),
                )),
            }
        })?;
        // An empty value is not written.
        if out.len() == empty {
            out.truncate(start);
        }
        Ok(())
    }

    /// Returns a member by its name, or the last such member if duplicates are allowed.
    fn only<'j, 't>(&self, members: &'j [(Cow<'t, str>, Json<'t>)], name: &str) -> Read<Option<&'j Json<'t>>> {
        let mut found = members.iter().filter(|(member, _)| member == name).map(|(_, value)| value);
        let first = found.next();
        match found.next_back() {
            None => Ok(first),
            Some(last) => self.duplicate().map(|()| Some(last)).map_err(|fault| fault.within(name)),
        }
    }
}

fn text(json: &Json<'_>, what: &str, read: impl FnOnce(&str) -> Option<()>) -> Read<()> {
    let Json::Text(text) = json else { return Err(wrong_type(what, json)) };
    read(text).ok_or_else(|| Fault::new(ReasonCode::JsonWrongType, format!("expected {what}, found another text")))
}

fn put_time(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
        if value != 0 {
            put_tag(number, WireType::Varint, out);
            put_varint(value.cast_unsigned(), out);
        }
    }
}
