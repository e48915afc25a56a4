//! Compares two values of a rule in any JSON form: numbers, 64-bit numbers in strings, durations, times.

use std::cmp::Ordering;

use serde_json::Value;

/// Returns `None` if there is no order: text, NaN, values of different kinds.
pub(super) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        return a.partial_cmp(&b);
    }
    let (Value::String(a), Value::String(b)) = (a, b) else { return None };
    match (nanos(a), nanos(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        // Times are printed in UTC with fixed digits, so their text sorts in their order.
        (None, None) if a.ends_with('Z') && b.ends_with('Z') => Some(a.cmp(b)),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Parses a duration in JSON: seconds with up to nine decimals and an `s`.
fn nanos(text: &str) -> Option<i128> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let seconds: i128 = whole.parse().ok()?;
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds * 1_000_000_000 + if negative { -fraction } else { fraction })
}

/// Returns whether a value is that of an unset field.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0" || text == "0s",
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_ordered_by_what_they_mean() {
        for (a, b) in [
            (json!(2), json!(10)),
            (json!("2"), json!("10")),
            (json!(9_007_199_254_740_993_u64), json!("9007199254740994")),
            (json!(-1.5), json!(-1.25)),
            (json!("-1.5s"), json!("-1.25s")),
            (json!("2s"), json!("10s")),
            (json!("0.5s"), json!("1s")),
            (json!("2020-01-01T00:00:00Z"), json!("2021-01-01T00:00:00Z")),
        ] {
            assert_eq!(order(&a, &b), Some(Ordering::Less), "{a} {b}");
            assert_eq!(order(&b, &a), Some(Ordering::Greater), "{a} {b}");
        }
        assert_eq!(order(&json!("a"), &json!("b")), None);
    }
}
