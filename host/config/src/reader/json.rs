//! Blocks with arbitrary keys (`config:`) as JSON, typed by YAML 1.2's core schema.

use super::tree::{Node, Scalar, Value};
use super::{ConfigError, Reader};
use serde_json::{Map, Number, Value as JsonValue};

/// A block with arbitrary keys: its value, and the form that may be shown.
#[derive(Clone, PartialEq)]
pub struct Json {
    pub value: serde_json::Value,
    /// The value with every `${…}` as written in the file, for status pages and logs.
    pub written: serde_json::Value,
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.written)
    }
}

/// Converts a node, or returns `None` after an error. The tree's depth is bounded, so the recursion is too.
pub(super) fn convert(reader: &Reader<'_>, node: &Node, path: &str) -> Option<Json> {
    match &node.value {
        Value::Scalar(scalar) => convert_scalar(reader, node, scalar, path),
        Value::List(items) => {
            let items: Vec<Option<Json>> = items
                .iter()
                .enumerate()
                .map(|(index, item)| convert(reader, item, &format!("{path}[{index}]")))
                .collect();
            let items: Vec<Json> = items.into_iter().collect::<Option<_>>()?;
            let (value, written) = items.into_iter().map(|item| (item.value, item.written)).unzip();
            Some(Json { value: JsonValue::Array(value), written: JsonValue::Array(written) })
        }
        Value::Map(entries) => {
            let (mut value, mut written, mut complete) = (Map::new(), Map::new(), true);
            for entry in entries {
                let path = format!("{path}.{}", entry.key);
                if value.contains_key(&entry.key) {
                    reader.report(ConfigError::new(entry.at, &path, "duplicate key"));
                }
                match convert(reader, &entry.value, &path) {
                    Some(json) => {
                        value.insert(entry.key.clone(), json.value);
                        written.insert(entry.key.clone(), json.written);
                    }
                    None => complete = false,
                }
            }
            complete.then_some(Json { value: JsonValue::Object(value), written: JsonValue::Object(written) })
        }
    }
}

fn convert_scalar(reader: &Reader<'_>, node: &Node, scalar: &Scalar, path: &str) -> Option<Json> {
    let (text, replaced) = reader.interpolated(scalar, node.at, path)?;
    let typed = if scalar.plain { core_schema(&text) } else { Ok(JsonValue::String(text)) };
    match typed {
        Ok(value) => {
            let written = if replaced { JsonValue::String(scalar.text.clone()) } else { value.clone() };
            Some(Json { value, written })
        }
        Err(message) => {
            reader.report(ConfigError::new(node.at, path, message));
            None
        }
    }
}

/// Types a scalar without quotes, by YAML 1.2 §10.3.2.
fn core_schema(text: &str) -> Result<JsonValue, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(JsonValue::Null),
        "true" | "True" | "TRUE" => return Ok(JsonValue::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(JsonValue::Bool(false)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => return Err("infinity and NaN have no JSON form; quote it to get a text"),
        _ => {}
    }
    let too_large = "whole number exceeds 64 bits; quote it to get a text";
    if let Some(digits) = text.strip_prefix("0x").filter(|digits| all(digits, u8::is_ascii_hexdigit)) {
        return u64::from_str_radix(digits, 16).map(Into::into).map_err(|_| too_large);
    }
    if let Some(digits) = text.strip_prefix("0o").filter(|digits| all(digits, |byte| matches!(byte, b'0'..=b'7'))) {
        return u64::from_str_radix(digits, 8).map(Into::into).map_err(|_| too_large);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if all(unsigned, u8::is_ascii_digit) {
        let number = text.strip_prefix('+').unwrap_or(text);
        let whole = number.parse::<i64>().map(Number::from).or_else(|_| number.parse::<u64>().map(Number::from));
        return whole.map(JsonValue::Number).map_err(|_| too_large);
    }
    if is_float(unsigned) {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        return number.map(JsonValue::Number).ok_or("number exceeds the range of a double; quote it to get a text");
    }
    Ok(JsonValue::String(text.to_owned()))
}

fn all(text: &str, is: impl Fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.as_bytes().iter().all(is)
}

/// Returns whether the text matches `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, the form without
/// the sign.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let exponent_fits =
        exponent.is_none_or(|digits| all(digits.strip_prefix(['+', '-']).unwrap_or(digits), u8::is_ascii_digit));
    let mantissa_fits = match mantissa.split_once('.') {
        None => all(mantissa, u8::is_ascii_digit),
        Some(("", fraction)) => all(fraction, u8::is_ascii_digit),
        Some((whole, fraction)) => {
            all(whole, u8::is_ascii_digit) && (fraction.is_empty() || all(fraction, u8::is_ascii_digit))
        }
    };
    mantissa_fits && exponent_fits
}
