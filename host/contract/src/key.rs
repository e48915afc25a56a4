//! Record keys built from a message's fields.

use crate::Value;

/// Returns a record's key: the text of a single field, or for several fields a JSON object with their names in the given order, so
/// that different values never produce the same key. `None` if a field is not set or has no text.
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

#[cfg(test)]
mod tests {
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
}
