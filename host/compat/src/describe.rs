//! Describes the elements of a contract in `.proto` syntax, for diffs and pages.

use std::collections::BTreeMap;

use crate::{Constraints, constraints, constraints_of_message};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// Returns a line for each element by its sort key. Keys begin with the number, so that lines are in the order of
/// numbers.
pub fn message(message: &MessageDescriptor) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for field in message.fields() {
        let mut line = format!("{} {} = {}", type_name(&field), field.name(), field.number());
        let mut notes = Vec::new();
        if let Some(default) = &field.field_descriptor_proto().default_value {
            notes.push(format!("default = {default}"));
        }
        notes.extend(own_json_name(&field));
        if is_deprecated(&field) {
            notes.push("deprecated".to_owned());
        }
        notes.extend(rules(&constraints(&field)));
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            notes.push(format!("in oneof {}", oneof.name()));
        }
        if !notes.is_empty() {
            line += &format!("  [{}]", notes.join(", "));
        }
        lines.insert(format!("{:010} {}", field.number(), field.name()), line);
    }
    for rule in rules(&constraints_of_message(message)) {
        lines.insert(format!("~rule {rule}"), format!("rule {rule}"));
    }
    for reserved in reserved(message) {
        lines.insert(format!("~~reserved {reserved}"), format!("reserved {reserved}"));
    }
    lines
}

/// Returns a line for each value by its sort key.
pub fn an_enum(descriptor: &EnumDescriptor) -> BTreeMap<String, String> {
    let key = |number: i32, name: &str| format!("{:011} {name}", i64::from(number) - i64::from(i32::MIN));
    descriptor
        .values()
        .map(|value| (key(value.number(), value.name()), format!("{} = {}", value.name(), value.number())))
        .collect()
}

/// Returns what a message reserves, in `.proto` syntax.
pub fn reserved(message: &MessageDescriptor) -> Vec<String> {
    let range = |range: std::ops::Range<u32>| match range.end - 1 {
        last if last == range.start => last.to_string(),
        last => format!("{} to {last}", range.start),
    };
    message.reserved_ranges().map(range).chain(message.reserved_names().map(|name| format!("\"{name}\""))).collect()
}

/// Returns the rules, each as `string.min_len = 3`.
pub fn rules(rules: &Constraints) -> Vec<String> {
    rules.iter().map(|(path, value)| format!("{path} = {}", shown(path, value))).collect()
}

/// Formats a rule's value. 64-bit numbers are text in JSON; here they are shown as numbers.
fn shown(path: &str, value: &serde_json::Value) -> String {
    let text_rule = ["const", "pattern", "prefix", "suffix", "contains"].iter().any(|leaf| path.ends_with(leaf));
    match value.as_str() {
        Some(text) if text.parse::<i128>().is_ok() && !(text_rule && path.contains("string.")) => text.to_owned(),
        _ => value.to_string(),
    }
}

/// Returns the field's JSON name, if the file sets one.
pub fn own_json_name(field: &FieldDescriptor) -> Option<String> {
    (field.json_name() != implied_json_name(field.name())).then(|| format!("json_name = \"{}\"", field.json_name()))
}

/// Returns the type as `repeated string`, `map<string, shop.v1.Money>` or `optional int32`.
pub fn type_name(field: &FieldDescriptor) -> String {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        return format!("map<{}, {}>", tollgate_contract::type_name(&key), tollgate_contract::type_name(&value));
    }
    let optional = field.field_descriptor_proto().proto3_optional();
    let label = match () {
        () if field.is_list() => "repeated ",
        () if field.is_required() => "required ",
        () if optional => "optional ",
        () => "",
    };
    format!("{label}{}", tollgate_contract::type_name(&field.kind()))
}

pub fn is_deprecated(field: &FieldDescriptor) -> bool {
    field.field_descriptor_proto().options.as_ref().is_some_and(|options| options.deprecated())
}

/// Returns the JSON name that Protobuf gives a field by default.
fn implied_json_name(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}
