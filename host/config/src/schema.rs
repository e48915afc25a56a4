//! The JSON Schema (draft 2020-12) of a pipeline.yaml for editors, and the Markdown table of keys, both generated from
//! [`KEYS`].

use super::keys::{Fallback, KEYS, Key, Kind, all_paths, is_list};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Matches a reference anywhere in a text; every typed scalar may contain one.
const REFERENCE: &str = r".*\$\{.*";

/// Returns the schema.
pub fn json_schema() -> Value {
    let paths = all_paths();
    let mut schema = object(&paths, "");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Tollgate pipeline");
    schema
}

/// Returns the schema of an object from the keys directly below `prefix` (empty, or ending in a dot).
fn object(paths: &[(String, &'static Key)], prefix: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut rest = json!(false);
    for (path, key) in paths {
        let Some(name) = path.strip_prefix(prefix).filter(|name| !name.contains('.') && !name.contains("[]")) else {
            continue;
        };
        let mut schema = value(key.kind, paths, path);
        schema["description"] = json!(key.meaning);
        if name == "*" {
            rest = schema;
            continue;
        }
        if let Fallback::Value(default) = key.fallback {
            schema["default"] = serde_json::from_str(default).unwrap_or_else(|_| json!(default));
        }
        if key.fallback == Fallback::Required {
            required.push(json!(name));
        }
        properties.insert(name.to_owned(), schema);
    }
    let mut schema = json!({ "type": "object", "additionalProperties": rest });
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    if !required.is_empty() {
        schema["required"] = Value::Array(required);
    }
    schema
}

fn value(kind: Kind, paths: &[(String, &'static Key)], path: &str) -> Value {
    let below = |suffix: &str| object(paths, &format!("{path}{suffix}."));
    let text =
        |pattern: &str| json!({ "type": ["string", "integer"], "pattern": format!("^({pattern}|{REFERENCE})$") });
    let or_reference = |schema: Value| json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE }] });
    match kind {
        Kind::Same(other) if is_list(other) => json!({ "type": "array", "items": below("[]") }),
        Kind::Table | Kind::Map | Kind::Same(_) => below(""),
        Kind::Tables => json!({ "type": "array", "items": below("[]") }),
        Kind::TableOr(other) => json!({ "anyOf": [value(*other, &[], path), below("")] }),
        Kind::Free => json!({ "type": "object" }),
        Kind::Text | Kind::Secret | Kind::Path => json!({ "type": "string" }),
        Kind::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Paths | Kind::TextOrNames => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        Kind::Names => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::Boolean => or_reference(json!({ "type": "boolean" })),
        Kind::Whole | Kind::Milliseconds => or_reference(json!({ "type": "integer", "minimum": 0 })),
        Kind::Signed => or_reference(json!({ "type": "integer" })),
        Kind::Number => or_reference(json!({ "type": "number" })),
        Kind::Duration => json!({ "type": "string", "pattern": format!("^([0-9]+ ?(ms|s|m|h|d)|{REFERENCE})$") }),
        Kind::Bytes => text("[0-9]+ ?(B|kB|KB|MB|GB|KiB|MiB|GiB)?"),
        Kind::Choice(words) => or_reference(json!({ "enum": words })),
        Kind::ChoiceOrNull(words) => json!({ "anyOf": [value(Kind::Choice(words), paths, path), { "type": "null" }] }),
        Kind::WordOrText(words) => json!({ "anyOf": [
            { "enum": words.split('|').collect::<Vec<_>>() },
            { "type": ["string", "integer"] },
        ] }),
        Kind::WordOrNames(words) => {
            let words = json!({ "enum": words.split('|').collect::<Vec<_>>() });
            json!({ "anyOf": [words, { "type": "array", "items": words, "minItems": 1 }] })
        }
        Kind::Addend => json!({ "type": ["integer", "string", "boolean"] }),
        Kind::Null => json!({ "type": "null" }),
    }
}

/// Returns the tables of keys for docs/configuration.md: a section for each root key that has keys below it.
pub fn markdown() -> String {
    let mut page = String::new();
    let head = "| key | type | default | meaning |\n|---|---|---|---|\n";
    let root = |key: &&Key| !key.path.contains('.') && !is_section(key);
    let _ = write!(page, "## The root\n\n{head}");
    for key in KEYS.iter().filter(root) {
        page.push_str(&row(key, key.path));
    }
    for section in KEYS.iter().filter(|key| is_section(key)) {
        let _ = write!(page, "\n## {}\n\n{}", section.path, section.meaning);
        if section.fallback == Fallback::Required || section.fallback == Fallback::RequiredOnce {
            page.push_str(" Required.");
        }
        let _ = write!(page, "\n\n{head}");
        for key in KEYS.iter() {
            let below = key.path.strip_prefix(section.path).and_then(|rest| rest.strip_prefix(['.', '[']));
            if below.is_some() {
                page.push_str(&row(key, key.path));
            }
        }
    }
    page
}

fn is_section(key: &Key) -> bool {
    !key.path.contains('.') && matches!(key.kind, Kind::Table | Kind::Tables | Kind::Map)
}

fn row(key: &Key, path: &str) -> String {
    let default = match key.fallback {
        Fallback::Required => "**required**".to_owned(),
        Fallback::RequiredOnce => "**required**, here or under its other name".to_owned(),
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Nothing => "–".to_owned(),
    };
    format!("| `{path}` | {} | {default} | {} |\n", type_name(key.kind), key.meaning)
}

fn type_name(kind: Kind) -> String {
    let words =
        |words: &mut dyn Iterator<Item = &str>| words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    match kind {
        Kind::Same(other) if is_list(other) => "list of tables".to_owned(),
        Kind::Table | Kind::Same(_) => "table".to_owned(),
        Kind::Tables => "list of tables".to_owned(),
        Kind::Map => "table of names".to_owned(),
        Kind::TableOr(&Kind::Null) => "table or nothing".to_owned(),
        Kind::TableOr(other) => format!("{} or table", type_name(*other)),
        Kind::Free => "any mapping".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Scalar => "one value".to_owned(),
        Kind::Secret => "text, secret".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Paths => "path or list of paths".to_owned(),
        Kind::TextOrNames => "name or list of names".to_owned(),
        Kind::Names => "list of names".to_owned(),
        Kind::Boolean => "`true` `false`".to_owned(),
        Kind::Whole | Kind::Signed => "whole number".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Milliseconds => "milliseconds".to_owned(),
        Kind::Bytes => "size".to_owned(),
        Kind::Choice(choices) | Kind::ChoiceOrNull(choices) => words(&mut choices.iter().copied()),
        Kind::WordOrText(text) => format!("{} or text", words(&mut text.split('|'))),
        Kind::WordOrNames(text) => format!("{} or a list of them", words(&mut text.split('|'))),
        Kind::Addend => "whole number, field or `true`".to_owned(),
        Kind::Null => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::parse::{parse_seen, tests};
    use std::collections::BTreeSet;
    use std::path::Path;

    fn docs(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
    }

    /// Returns the keys that the parser requests if every section is present in every form.
    fn parser_keys() -> BTreeSet<String> {
        let consumer = "acknowledge: { some.warning: why }\nconsumer: { retry_policy: {}, backpressure: {} }\n\
                        types: { a: { transforms: [{ component: x, ceiling: {}, routes: { r: { message: a.B, topic: t, \
                        postgres: { partitions: {}, delete: { key: {}, when: {} }, columns: { c: { as: { enum_name: {} } }, t: { as: { time: iso } } } } } } }], output: {}, \
                        accept_versions: { deprecated: { v: x }, removed: { w: x } }, \
                        postgres: { partitions: {}, delete: { key: {}, when: {} }, columns: { c: { as: { enum_name: {} } }, t: { as: { time: iso } } } } } }\n";
        let envelope = "contract:\n  envelope: { message: a.B, headers: { h: f }, idempotency_key: { of: [f] }, debezium: { headers: { h: f } } }\n";
        let text = format!("{}{consumer}", tests::FULL).replacen("contract:\n", envelope, 1);
        let (_, seen) = parse_seen(Path::new("p.yaml"), &text, &|_| Some("x:1".to_owned()));
        seen.keys
    }

    #[test]
    fn the_table_has_every_key_the_parser_knows_and_no_other() {
        let table: BTreeSet<String> = all_paths().into_iter().map(|(path, _)| path).collect();
        let parser = parser_keys();
        let missing: Vec<_> = parser.difference(&table).collect();
        let invented: Vec<_> = table.difference(&parser).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "missing in the table: {missing:?}; unknown to the parser: {invented:?}"
        );
    }

    #[test]
    fn the_documented_defaults_are_the_parsers_defaults() {
        let taken = tests::least().redacted_json();
        let mut compared = 0;
        for key in KEYS.iter() {
            let Fallback::Value(told) = key.fallback else { continue };
            let pointer = format!("/{}", key.path.replace('.', "/"));
            match taken.pointer(&pointer) {
                Some(Value::Null) | None => {}
                Some(_) if key.path == "lanes" => {}
                Some(value) => {
                    let taken = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    assert_eq!(taken, told, "{}", key.path);
                    compared += 1;
                }
            }
        }
        assert!(compared >= 25, "only {compared} defaults were compared");
    }

    #[test]
    fn the_published_schema_is_the_one_of_the_table() {
        golden("pipeline.schema.json", &(serde_json::to_string_pretty(&json_schema()).unwrap() + "\n"), None);
    }

    /// Returns whether a document fits a schema, for the features that ours uses. Patterns are not checked.
    fn fits(schema: &Value, document: &Value) -> bool {
        let is = |name: &Value| match (name.as_str().unwrap(), document) {
            ("object", Value::Object(_)) | ("array", Value::Array(_)) | ("string", Value::String(_)) => true,
            ("boolean", Value::Bool(_)) | ("null", Value::Null) | ("number", Value::Number(_)) => true,
            ("integer", Value::Number(number)) => number.is_i64() || number.is_u64(),
            _ => false,
        };
        let types = &schema["type"];
        let allowed = match types.as_array() {
            Some(types) => types.iter().any(is),
            None => types.is_null() || is(types),
        };
        let any = schema["anyOf"].as_array().is_none_or(|schemas| schemas.iter().any(|schema| fits(schema, document)));
        let listed = schema["enum"].as_array().is_none_or(|words| words.contains(document));
        let items = document
            .as_array()
            .is_none_or(|items| schema["items"].is_null() || items.iter().all(|item| fits(&schema["items"], item)));
        let keys = document.as_object().is_none_or(|keys| {
            let known =
                |(key, value): (&String, &Value)| match (&schema["properties"][key], &schema["additionalProperties"]) {
                    (Value::Null, Value::Bool(allowed)) => *allowed,
                    (Value::Null, Value::Null) => true,
                    (Value::Null, rest) => fits(rest, value),
                    (schema, _) => fits(schema, value),
                };
            let required = schema["required"].as_array();
            keys.iter().all(known)
                && required.is_none_or(|names| names.iter().all(|name| keys.contains_key(name.as_str().unwrap())))
        });
        allowed && any && listed && items && keys
    }

    fn document(text: &str) -> Value {
        let read = crate::reader::read_text("p", text, Path::new("."), &|name| Some(format!("${{{name}}}")), |table| {
            Some(table.any().into_iter().filter_map(|(key, field)| Some((key, field.json()?.value))).collect())
        });
        Value::Object(read.unwrap())
    }

    #[test]
    fn the_schema_accepts_what_the_parser_accepts() {
        let schema = json_schema();
        for good in [
            tests::FULL.to_owned(),
            tests::LEAST.to_owned(),
            format!("{}{}", tests::CLIENT_BLOCK, tests::CLIENT_POLICIES),
        ] {
            let mut document = document(&good);
            for (key, value) in self::document(tests::LEAST).as_object().unwrap() {
                document.as_object_mut().unwrap().entry(key.clone()).or_insert_with(|| value.clone());
            }
            assert!(fits(&schema, &document), "{document:#}");
            for (pointer, key) in
                [("", "colour"), ("/source", "topics"), ("/postgres", "colums"), ("/contract", "messages")]
            {
                let mut spoilt = document.clone();
                spoilt.pointer_mut(pointer).unwrap()[key] = json!(1);
                assert!(!fits(&schema, &spoilt), "{pointer}/{key}");
            }
            document["postgres"].as_object_mut().unwrap().remove("url");
            assert!(!fits(&schema, &document));
        }
    }

    #[test]
    fn the_page_has_every_key() {
        let marks = ("<!-- keys: made from host/config/src/keys.rs -->\n", "<!-- end of keys -->\n");
        golden("configuration.md", &markdown(), Some(marks));
    }

    /// Compares a file, or the part between two marks; `TOLLGATE_GOLDEN=update` rewrites it.
    fn golden(name: &str, expected: &str, marks: Option<(&str, &str)>) {
        let path = docs(name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let (before, now, after) = match marks {
            None => ("", text.as_str(), ""),
            Some((open, close)) => {
                let start = text.find(open).unwrap_or_else(|| panic!("{name} lacks {open}")) + open.len();
                let end = text.find(close).unwrap_or_else(|| panic!("{name} lacks {close}"));
                (&text[..start], &text[start..end], &text[end..])
            }
        };
        if std::env::var("TOLLGATE_GOLDEN").is_ok_and(|mode| mode == "update") {
            std::fs::write(&path, format!("{before}{expected}{after}")).unwrap();
        } else {
            assert!(
                now == expected,
                "docs/{name} is not up to date; TOLLGATE_GOLDEN=update cargo test -p tollgate schema writes it"
            );
        }
    }
}
