//! Exports a contract as JSON Schema, draft 2020-12.

use crate::comment;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{ALWAYS, Rules, Types, WellKnown, is_inherited, well_known, zero};
use crate::describe::is_deprecated;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const INTEGER: &str = "^-?[0-9]+$";
const BASE64: &str = "^[A-Za-z0-9+/_-]*={0,2}$";
const SAID: [&str; 32] = [
    "min_len",
    "max_len",
    "len",
    "pattern",
    "prefix",
    "suffix",
    "contains",
    "in",
    "not_in",
    "const",
    "gt",
    "gte",
    "lt",
    "lte",
    "min_items",
    "max_items",
    "unique",
    "min_pairs",
    "max_pairs",
    "defined_only",
    "email",
    "uuid",
    "uri",
    "uri_ref",
    "ipv4",
    "ipv6",
    "hostname",
    "finite",
    "not_contains",
    "required",
    "ignore",
    "strict",
];

/// Returns one document: the message itself, or a choice if several were requested.
pub fn render(types: &Types) -> Value {
    let mut defs = Map::new();
    for (name, descriptor) in &types.messages {
        defs.insert(name.clone(), message(types, descriptor));
    }
    for (name, descriptor) in &types.enums {
        defs.insert(name.clone(), an_enum(descriptor));
    }
    let mut document = Map::new();
    document.insert("$schema".into(), json!(DIALECT));
    match types.roots.as_slice() {
        [one] => _ = document.insert("$ref".into(), json!(format!("#/$defs/{}", one.full_name()))),
        several => {
            let choices = several.iter().map(|one| json!({ "$ref": format!("#/$defs/{}", one.full_name()) }));
            document.insert("anyOf".into(), choices.collect());
        }
    }
    document.insert("$defs".into(), Value::Object(defs));
    Value::Object(document)
}

fn message(types: &Types, message: &MessageDescriptor) -> Value {
    let mut schema = json!({ "title": message.full_name(), "type": "object" });
    describe(&mut schema, &comment(message));
    let (inherited, plain): (Vec<FieldDescriptor>, Vec<FieldDescriptor>) =
        message.fields().partition(|field| is_inherited(field.json_name()));
    let properties: Map<String, Value> = plain.iter().map(|one| (one.json_name().to_owned(), field(one))).collect();
    schema["properties"] = Value::Object(properties);
    if !inherited.is_empty() {
        // A JavaScript validator also finds inherited properties when it looks one up; patterns match only own names.
        let patterns: Map<String, Value> =
            inherited.iter().map(|one| (format!("^{}$", one.json_name()), field(one))).collect();
        schema["patternProperties"] = Value::Object(patterns);
    }
    let needed: Vec<&str> = plain.iter().filter(|field| types.needs(field)).map(FieldDescriptor::json_name).collect();
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    let needed = inherited.iter().filter(|field| types.needs(field));
    let mut all: Vec<Value> = needed.map(|field| there(field.json_name())).collect();
    let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic()).map(|oneof| {
        let members: Vec<Value> = oneof.fields().map(|field| there(field.json_name())).collect();
        let none = json!({ "not": { "anyOf": members } });
        let required = oneof_is_required(&oneof);
        let choices: Vec<Value> = members.into_iter().chain((!required).then_some(none)).collect();
        json!({ "title": oneof.name(), "oneOf": choices })
    });
    all.extend(oneofs);
    if !all.is_empty() {
        schema["allOf"] = json!(all);
    }
    let rules = crate::constraints_of_message(message);
    note(&mut schema, &crate::describe::rules(&rules));
    schema
}

/// Returns a schema that requires this property of an object.
fn there(name: &str) -> Value {
    if is_inherited(name) {
        return json!({ "not": { "propertyNames": { "not": { "const": name } } } });
    }
    json!({ "required": [name] })
}

pub(super) fn oneof_is_required(oneof: &prost_reflect::OneofDescriptor) -> bool {
    let rules = crate::constraints_of_oneof(oneof);
    rules.get("required") == Some(&Value::Bool(true))
}

fn describe(schema: &mut Value, text: &str) {
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
}

/// Adds rules that no keyword can express.
fn note(schema: &mut Value, rules: &[String]) {
    if !rules.is_empty() {
        schema["$comment"] = json!(format!("also checked: {}", rules.join("; ")));
    }
}

fn an_enum(descriptor: &EnumDescriptor) -> Value {
    let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
    let mut schema = json!({ "title": descriptor.full_name(), "type": "string", "enum": names });
    describe(&mut schema, &comment(descriptor));
    schema
}

fn field(field: &FieldDescriptor) -> Value {
    let rules = Rules::of(field);
    // Without presence, a required field must not be empty.
    let filled = rules.on("required") && !field.supports_presence();
    let mut schema = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let key = entry.map_entry_key_field().kind();
        let keys = match &key {
            Kind::String => value(&key, &rules.below("map.keys.")),
            Kind::Bool => json!({ "enum": ["true", "false"] }),
            _ => json!({ "pattern": INTEGER }),
        };
        let values = value(&entry.map_entry_value_field().kind(), &rules.below("map.values."));
        let map = json!({ "type": "object", "propertyNames": keys, "additionalProperties": values });
        collection(map, &rules, filled, [("min_pairs", "minProperties"), ("max_pairs", "maxProperties")])
    } else if field.is_list() {
        let mut list = json!({ "type": "array", "items": value(&field.kind(), &rules.below("repeated.items.")) });
        if rules.on("unique") {
            list["uniqueItems"] = json!(true);
        }
        collection(list, &rules, filled, [("min_items", "minItems"), ("max_items", "maxItems")])
    } else {
        let schema = value(&field.kind(), &rules);
        match zero(&field.kind()).filter(|_| filled) {
            Some(zero) => json!({ "allOf": [schema], "not": { "const": zero } }),
            None => schema,
        }
    };
    describe(&mut schema, &comment(field));
    if is_deprecated(field) {
        schema["deprecated"] = json!(true);
    }
    if let Some(default) = &field.field_descriptor_proto().default_value {
        note(&mut schema, &[format!("an event without it has {default}")]);
    }
    schema
}

/// Builds a list or a map with its bounds.
fn collection(mut schema: Value, rules: &Rules, filled: bool, pairs: [(&str, &str); 2]) -> Value {
    bounds(&mut schema, rules, &pairs);
    let [(_, least), (_, most)] = pairs;
    if filled && schema[least].as_u64().is_none_or(|least| least == 0) {
        schema[least] = json!(1);
    }
    if rules.skips_zero() {
        let mut empty = json!({});
        empty[most] = json!(0);
        return json!({ "anyOf": [empty, schema] });
    }
    schema
}

/// Builds one value with its rules, or the empty value if the rules do not apply to it.
fn value(kind: &Kind, rules: &Rules) -> Value {
    let schema = scalar(kind, rules);
    match zero(kind).filter(|_| rules.skips_zero()) {
        Some(zero) => json!({ "anyOf": [{ "const": zero }, schema] }),
        None => schema,
    }
}

fn bounds(schema: &mut Value, rules: &Rules, pairs: &[(&str, &str)]) {
    for (rule, keyword) in pairs {
        if let Some(value) = rules.number(rule) {
            schema[*keyword] = value;
        }
    }
}

/// Builds one value with its rules.
fn scalar(kind: &Kind, rules: &Rules) -> Value {
    let mut schema = match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX })
        }
        Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        // The number is written as text, since a double holds 53 bits. When reading, numbers are accepted.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": ["string", "integer"], "pattern": INTEGER }),
        Kind::Uint64 | Kind::Fixed64 => json!({ "type": ["string", "integer"], "pattern": "^[0-9]+$", "minimum": 0 }),
        Kind::Float | Kind::Double => return float(rules),
        Kind::String => return text(rules),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64", "pattern": BASE64 }),
        Kind::Enum(descriptor) => return enum_value(descriptor, rules),
        Kind::Message(message) => return inner(message, rules),
    };
    limits(&mut schema, rules);
    choices(&mut schema, rules);
    // The length of bytes is not that of their text, and the bounds of 64-bit numbers apply only to numbers, not to
    // text.
    let said: &[&str] = match kind {
        Kind::Bytes | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => &ALWAYS,
        _ => &SAID,
    };
    note(&mut schema, &rules.unsaid(said));
    schema
}

fn limits(schema: &mut Value, rules: &Rules) {
    let keyword = |rule: &str| match rule {
        "gte" => "minimum",
        "lte" => "maximum",
        "gt" => "exclusiveMinimum",
        _ => "exclusiveMaximum",
    };
    let range = rules.range();
    if range.outside {
        let sides =
            range.bounds().map(|(rule, bound)| Value::Object(Map::from_iter([(keyword(rule).into(), bound.clone())])));
        schema["anyOf"] = sides.collect();
        return;
    }
    for (rule, bound) in range.bounds() {
        schema[keyword(rule)] = bound.clone();
    }
}

fn choices(schema: &mut Value, rules: &Rules) {
    if let Some(value) = rules.get("const") {
        schema["const"] = value.clone();
    }
    if let Some(list) = rules.list("in") {
        schema["enum"] = json!(list);
    }
    if let Some(list) = rules.list("not_in") {
        schema["not"] = json!({ "enum": list });
    }
}

fn float(rules: &Rules) -> Value {
    let mut number = json!({ "type": "number" });
    limits(&mut number, rules);
    choices(&mut number, rules);
    note(&mut number, &rules.unsaid(&SAID));
    let judged = ["gt", "gte", "lt", "lte", "const", "in", "finite"].iter().any(|rule| rules.get(rule).is_some());
    if judged { number } else { json!({ "anyOf": [number, { "enum": ["NaN", "Infinity", "-Infinity"] }] }) }
}

fn text(rules: &Rules) -> Value {
    let mut schema = json!({ "type": "string" });
    bounds(
        &mut schema,
        rules,
        &[("min_len", "minLength"), ("max_len", "maxLength"), ("len", "minLength"), ("len", "maxLength")],
    );
    let quoted = |leaf: &str| rules.get(leaf).and_then(Value::as_str).map(escape);
    let patterns = [
        rules.get("pattern").and_then(Value::as_str).map(str::to_owned),
        quoted("prefix").map(|text| format!("^{text}")),
        quoted("suffix").map(|text| format!("{text}$")),
        quoted("contains"),
    ];
    let patterns: Vec<Value> = patterns.into_iter().flatten().map(|pattern| json!({ "pattern": pattern })).collect();
    match patterns.as_slice() {
        [] => {}
        [one] => schema["pattern"] = one["pattern"].clone(),
        _ => schema["allOf"] = json!(patterns),
    }
    for (rule, format) in [
        ("email", "email"),
        ("uuid", "uuid"),
        ("uri", "uri"),
        ("uri_ref", "uri-reference"),
        ("ipv4", "ipv4"),
        ("ipv6", "ipv6"),
        ("hostname", "hostname"),
    ] {
        if rules.on(rule) {
            schema["format"] = json!(format);
        }
    }
    choices(&mut schema, rules);
    if let Some(text) = quoted("not_contains") {
        schema["not"] = json!({ "pattern": text });
    }
    note(&mut schema, &rules.unsaid(&SAID));
    schema
}

/// Escapes a text for use in a regular expression.
pub(super) fn escape(text: &str) -> String {
    text.chars().flat_map(|c| (r"\^$.|?*+()[]{}/".contains(c)).then_some('\\').into_iter().chain([c])).collect()
}

fn enum_value(descriptor: &EnumDescriptor, rules: &Rules) -> Value {
    let names = enum_names(descriptor, rules);
    let mut schema = match names {
        Some(names) => json!({ "type": "string", "enum": names }),
        None => json!({ "$ref": format!("#/$defs/{}", descriptor.full_name()) }),
    };
    note(&mut schema, &rules.unsaid(&SAID));
    schema
}

/// Returns the enum names that the rules allow, if they exclude some.
pub(super) fn enum_names(descriptor: &EnumDescriptor, rules: &Rules) -> Option<Vec<String>> {
    let number = |value: &Value| value.as_i64();
    let holds = |list: &[Value], wanted: i32| list.iter().any(|item| number(item) == Some(i64::from(wanted)));
    let (only, among, not) = (rules.get("const"), rules.list("in"), rules.list("not_in"));
    if only.is_none() && among.is_none() && not.is_none() {
        return None;
    }
    let allowed = |wanted: i32| {
        only.is_none_or(|only| number(only) == Some(i64::from(wanted)))
            && among.is_none_or(|list| holds(list, wanted))
            && !not.is_some_and(|list| holds(list, wanted))
    };
    Some(descriptor.values().filter(|value| allowed(value.number())).map(|value| value.name().to_owned()).collect())
}

fn inner(message: &MessageDescriptor, rules: &Rules) -> Value {
    let Some(known) = well_known(message.full_name()) else {
        let mut schema = json!({ "$ref": format!("#/$defs/{}", message.full_name()) });
        note(&mut schema, &rules.unsaid(&ALWAYS));
        return schema;
    };
    let nullable = |kind: Kind| json!({ "anyOf": [scalar(&kind, rules), { "type": "null" }] });
    let mut schema = match known {
        WellKnown::Timestamp => json!({ "type": "string", "format": "date-time" }),
        WellKnown::Duration => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
        WellKnown::FieldMask => json!({ "type": "string" }),
        WellKnown::Struct | WellKnown::Empty => json!({ "type": "object" }),
        WellKnown::Value => json!({}),
        WellKnown::List => json!({ "type": "array" }),
        WellKnown::Any => {
            json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] })
        }
        WellKnown::Double => return nullable(Kind::Double),
        WellKnown::Int32 => return nullable(Kind::Int32),
        WellKnown::Uint32 => return nullable(Kind::Uint32),
        WellKnown::Int64 => return nullable(Kind::Int64),
        WellKnown::Uint64 => return nullable(Kind::Uint64),
        WellKnown::Bool => return nullable(Kind::Bool),
        WellKnown::String => return nullable(Kind::String),
        WellKnown::Bytes => return nullable(Kind::Bytes),
    };
    note(&mut schema, &rules.unsaid(&ALWAYS));
    schema
}
