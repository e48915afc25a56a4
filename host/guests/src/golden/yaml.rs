//! Writes JSON as block YAML, for the part of a case that `--update` rewrites.

use serde_json::{Map, Value};

/// The keys of an expectation in reading order; a message's own fields come between them.
const FIRST: [&str; 10] =
    ["verdict", "stage", "code", "field", "message", "route", "bytes", "tombstone", "key", "headers"];
const LAST: [&str; 2] = ["outputs", "fuel"];

/// Writes the entries of an object (or items of a list), each on its line, `depth` levels deep.
pub(super) fn block(value: &Value, depth: usize) -> String {
    let mut out = String::new();
    write(value, depth, &mut out);
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) => {
            for (key, value) in in_order(entries) {
                out.push_str(&indent);
                entry(key, value, depth, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&indent);
                out.push_str("- ");
                let Some(entries) = item.as_object().filter(|entries| !entries.is_empty()) else {
                    line(item, out);
                    continue;
                };
                // The first entry follows the dash, the others go below it.
                for (at, (key, value)) in in_order(entries).into_iter().enumerate() {
                    if at > 0 {
                        out.push_str(&indent);
                        out.push_str("  ");
                    }
                    entry(key, value, depth + 1, out);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => line(value, out),
    }
}

fn in_order(entries: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let rank = |key: &str| match FIRST.iter().position(|first| *first == key) {
        Some(at) => at,
        None => FIRST.len() + LAST.iter().position(|last| *last == key).map_or(0, |at| at + 1),
    };
    let mut entries: Vec<_> = entries.iter().collect();
    // The map's own order depends on serde_json's features.
    entries.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then(a.cmp(b)));
    entries
}

fn entry(key: &str, value: &Value, depth: usize, out: &mut String) {
    out.push_str(&name(key));
    out.push(':');
    let nested = match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if nested {
        out.push('\n');
        write(value, depth + 1, out);
    } else {
        out.push(' ');
        line(value, out);
    }
}

/// JSON's scalars and empty collections are valid YAML, except for the reader's `${`, which is written `$${`.
fn line(value: &Value, out: &mut String) {
    out.push_str(&value.to_string().replace("${", "$${"));
    out.push('\n');
}

fn name(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let word = key.starts_with(|first: char| first.is_ascii_alphabetic()) && key.bytes().all(plain);
    if word { key.to_owned() } else { Value::from(key).to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use serde_json::json;
    use tollgate_config::reader;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "verdict": "replace",
            "outputs": [{"message": {"a": "1", "b": 2.5, "list": [1, [2], {}]}, "headers": {"x y": "${z}: #"}}, {"t": true}],
            "none": null, "empty": [], "text": "line\nbreak \u{e9}\u{7f}", "fuel": 7,
        });
        let text = format!("k:\n{}", block(&value, 1));
        let read = reader::read_text("x", &text, ".".as_ref(), &|_| None, |table| table.json("k"));
        assert_eq!(read.unwrap_or_else(|error| panic!("{error}\n{text}")).value, value, "{text}");
    }

    #[test]
    fn it_looks_like_a_person_wrote_it() {
        let value = json!({"fuel": 3, "outputs": [{"key": "k", "message": {"id": "x"}}], "verdict": "replace"});
        let expected =
            "  verdict: \"replace\"\n  outputs:\n    - message:\n        id: \"x\"\n      key: \"k\"\n  fuel: 3\n";
        assert_eq!(block(&value, 1), expected);
    }
}
