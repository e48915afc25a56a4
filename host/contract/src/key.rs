//! Keys and texts built from a message's fields.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::{Contract, Fields, Slot, Value, timestamp_parts};

/// Returns a record's key: the text of a single field, or for several fields a JSON object with their names in the
/// given order, so that different values never produce the same key. `None` if a field is not set or has no text.
pub fn record_key<'v>(parts: &[(&str, Value<'v>)]) -> Option<String> {
    if let [(_, value)] = parts {
        return Some(match value {
            Value::Str(text) => text.as_str().to_owned(),
            other => scalar(*other)?,
        });
    }
    let mut key = String::from("{");
    for (at, (name, value)) in parts.iter().enumerate() {
        if at > 0 {
            key.push(',');
        }
        key += &serde_json::Value::from(*name).to_string();
        key.push(':');
        match value {
            Value::Str(text) => key += &serde_json::Value::from(text.as_str()).to_string(),
            other => key += &scalar(*other)?,
        }
    }
    key.push('}');
    Some(key)
}

fn scalar(value: Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::I32(value) | Value::Enum(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        _ => return None,
    })
}

/// Computes an idempotency key: the SHA-256 of its parts with a separator between them, in lower-case hexadecimal
/// digits.
#[derive(Debug)]
pub struct IdempotencyHash<'s> {
    hash: Sha256,
    separator: &'s str,
    empty: bool,
}

impl<'s> IdempotencyHash<'s> {
    #[must_use]
    pub fn new(separator: &'s str) -> IdempotencyHash<'s> {
        IdempotencyHash { hash: Sha256::new(), separator, empty: true }
    }

    pub fn part(&mut self, part: &[u8]) {
        if !std::mem::take(&mut self.empty) {
            self.hash.update(self.separator);
        }
        self.hash.update(part);
    }

    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

/// Returns a field's text in keys, versions and headers: strings unchanged, integers in decimal, `true` and `false`,
/// enums by name (or by number without one), Timestamps in UTC with three fractional digits, or six or nine if needed.
/// `None` for an unset field and for a Timestamp out of range.
pub fn text_of<'v>(contract: &'v Contract, fields: &Fields<'v>, slot: Slot) -> Option<Cow<'v, str>> {
    let value = match fields.get(slot) {
        Value::Default => contract.field(slot).default_value(),
        value => value,
    };
    Some(match value {
        Value::Str(text) => Cow::Borrowed(text.as_str()),
        Value::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        Value::I32(value) => Cow::Owned(value.to_string()),
        Value::I64(value) => Cow::Owned(value.to_string()),
        Value::U32(value) => Cow::Owned(value.to_string()),
        Value::U64(value) => Cow::Owned(value.to_string()),
        Value::Enum(number) => match contract.enum_name(slot, number) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(number.to_string()),
        },
        Value::Message(_) | Value::Split(_) => Cow::Owned(time_text(&fields.message(slot)?)?),
        Value::Absent
        | Value::Default
        | Value::F32(_)
        | Value::F64(_)
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Map(_) => return None,
    })
}

/// Formats `2026-01-31T12:00:00.000Z`, like JavaScript's `toISOString`; finer times get six or nine digits.
fn time_text(message: &[u8]) -> Option<String> {
    let (seconds, nanos) = timestamp_parts(message)?;
    let text = prost_types::Timestamp { seconds, nanos: 0 }.to_string();
    let whole = text.strip_suffix('Z')?;
    Some(match (nanos % 1_000_000, nanos % 1_000) {
        (0, _) => format!("{whole}.{:03}Z", nanos / 1_000_000),
        (_, 0) => format!("{whole}.{:06}Z", nanos / 1_000),
        _ => format!("{whole}.{nanos:09}Z"),
    })
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost::Message as _;

    use super::*;

    #[test]
    fn several_fields_make_a_key_that_no_other_values_make() {
        let key = |tenant: &'static str, line: i64| {
            record_key(&[("tenant", Value::Str(tenant.into())), ("line_no", Value::I64(line))])
        };
        assert_eq!(key("t1", 2).as_deref(), Some(r#"{"tenant":"t1","line_no":2}"#));
        assert_eq!(key("a\",\"line_no\":2}", 1).as_deref(), Some(r#"{"tenant":"a\",\"line_no\":2}","line_no":1}"#));
        assert_eq!(record_key(&[("id", Value::Str("x".into()))]).as_deref(), Some("x"), "one field is its text");
        assert_eq!(record_key(&[("id", Value::U64(7))]).as_deref(), Some("7"));
        for bad in [Value::Absent, Value::Default, Value::F64(1.0), Value::Bytes(b"x")] {
            assert_eq!(record_key(&[("a", Value::Bool(true)), ("b", bad)]), None);
            assert_eq!(record_key(&[("b", bad)]), None);
        }
    }

    fn time(seconds: i64, nanos: i32) -> String {
        time_text(&prost_types::Timestamp { seconds, nanos }.encode_to_vec()).unwrap()
    }

    #[test]
    fn times_are_written_as_javascript_writes_them() {
        assert_eq!(time(1_769_860_800, 0), "2026-01-31T12:00:00.000Z");
        assert_eq!(time(1_769_860_800, 5_000_000), "2026-01-31T12:00:00.005Z");
        assert_eq!(time(1_769_860_800, 5_000), "2026-01-31T12:00:00.000005Z");
        assert_eq!(time(1_769_860_800, 5), "2026-01-31T12:00:00.000000005Z");
        assert_eq!(time(-62_135_596_800, 0), "0001-01-01T00:00:00.000Z");
        assert_eq!(time(253_402_300_799, 999_000_000), "9999-12-31T23:59:59.999Z");
        assert_eq!(time_text(&prost_types::Timestamp { seconds: 253_402_300_800, nanos: 0 }.encode_to_vec()), None);
    }
}
