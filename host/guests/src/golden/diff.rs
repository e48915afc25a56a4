//! Differences between an outcome and a case's expectation, field by field.

use std::fmt;

use serde_json::{Map, Value};

/// The code of a guest's panic, whose message ends with file and line.
const PANIC: &str = tollgate_sandbox::FailureCode::Panic.as_str();

/// One field that differs; `None` is a missing field.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `outputs[0].message.riskTier`
    pub path: String,
    pub expected: Option<Value>,
    pub got: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
        write!(f, "{}: {} → {}", self.path, show(&self.expected), show(&self.got))
    }
}

/// Compares an outcome with an expectation. A case may omit the message of a rejection, and fuel, which may also differ
/// by `tolerance` (a fraction of the expected value).
pub(super) fn compare(expected: &Value, got: &Value, tolerance: f64) -> Vec<Difference> {
    let nothing = Map::new();
    let (expected, mut got) = (expected.as_object().unwrap_or(&nothing), got.as_object().unwrap_or(&nothing).clone());
    for open in ["message", "fuel"] {
        if !expected.contains_key(open) {
            got.remove(open);
        }
    }
    if let (Some(fuel), Some(used)) = (fuel(expected), fuel(&got))
        && (fuel - used).abs() <= fuel * tolerance
    {
        got.extend(expected.get("fuel").map(|fuel| ("fuel".to_owned(), fuel.clone())));
    }
    if let (Some(said), Some(saying)) = (message(expected), message(&got))
        && without_line(said) == without_line(saying)
    {
        got.extend(expected.get("message").map(|message| ("message".to_owned(), message.clone())));
    }
    let mut differences = Vec::new();
    objects("", expected, &got, &mut differences);
    // The verdict comes first, because all other differences follow from it.
    differences.sort_by_key(|difference| (difference.path != "verdict", difference.path == "fuel"));
    differences
}

/// Returns the message of a panic.
fn message(said: &Map<String, Value>) -> Option<&str> {
    said.get("message").filter(|_| said.get("code").is_some_and(|code| code == PANIC)).and_then(Value::as_str)
}

/// Returns a panic's message and file without the line number, which changes with every edit above it.
fn without_line(message: &str) -> &str {
    match message.rsplit_once(':') {
        Some((place, line)) if !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()) => place,
        Some(_) | None => message,
    }
}

fn fuel(said: &Map<String, Value>) -> Option<f64> {
    said.get("fuel").and_then(Value::as_f64)
}

fn objects(path: &str, expected: &Map<String, Value>, got: &Map<String, Value>, out: &mut Vec<Difference>) {
    let more = got.keys().filter(|key| !expected.contains_key(*key));
    for key in expected.keys().chain(more) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        values(path, expected.get(key), got.get(key), out);
    }
}

fn values(path: String, expected: Option<&Value>, got: Option<&Value>, out: &mut Vec<Difference>) {
    match (expected, got) {
        (Some(Value::Object(expected)), Some(Value::Object(got))) => objects(&path, expected, got, out),
        (Some(Value::Array(expected)), Some(Value::Array(got))) => {
            for at in 0..expected.len().max(got.len()) {
                values(format!("{path}[{at}]"), expected.get(at), got.get(at), out);
            }
        }
        (expected, got) if expected == got => {}
        (expected, got) => out.push(Difference { path, expected: expected.cloned(), got: got.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_panic_is_known_by_its_file_and_sentence_and_not_by_its_line() {
        let said = |message: &str| json!({"verdict": "fail", "code": "wasm-panic", "message": message});
        let expected = said("no rate at src/lib.rs:58");
        assert_eq!(shown(&expected, &said("no rate at src/lib.rs:612")), [""; 0]);
        for other in ["no rate at src/other.rs:58", "no rates at src/lib.rs:58", "no rate at src/lib.rs:x"] {
            assert_eq!(shown(&expected, &said(other)).len(), 1, "{other}");
        }
        // Any other message is compared unchanged.
        let rejected = |message: &str| json!({"verdict": "reject", "code": "x", "message": message});
        assert_eq!(shown(&rejected("at 1:2"), &rejected("at 1:3")).len(), 1);
    }

    fn shown(expected: &Value, got: &Value) -> Vec<String> {
        compare(expected, got, 0.1).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_name_their_path_and_the_verdict_comes_first() {
        let expected = json!({"outputs": [{"message": {"tier": "low", "gone": 1}}], "verdict": "replace", "fuel": 100});
        let got = json!({"outputs": [{"message": {"tier": "high", "new": true}}, {}], "verdict": "pass", "fuel": 200});
        assert_eq!(
            shown(&expected, &got),
            [
                r#"verdict: "replace" → "pass""#,
                "outputs[0].message.gone: 1 → nothing",
                r#"outputs[0].message.tier: "low" → "high""#,
                "outputs[0].message.new: nothing → true",
                "outputs[1]: nothing → {}",
                "fuel: 100 → 200",
            ]
        );
    }

    #[test]
    fn fuel_may_differ_by_the_tolerance_and_not_more() {
        let expected = json!({"verdict": "pass", "fuel": 1000});
        for (fuel, differs) in [(1000, false), (1100, false), (900, false), (1101, true), (899, true)] {
            assert_eq!(!shown(&expected, &json!({"verdict": "pass", "fuel": fuel})).is_empty(), differs, "{fuel}");
        }
    }

    #[test]
    fn a_case_may_leave_fuel_and_sentence_open() {
        let got = json!({"verdict": "reject", "code": "x", "message": "why", "fuel": 7});
        assert_eq!(shown(&json!({"verdict": "reject", "code": "x"}), &got), [""; 0]);
        assert_eq!(
            shown(&json!({"verdict": "reject", "code": "x", "message": "no"}), &got),
            [r#"message: "no" → "why""#]
        );
    }
}
