//! Exports the TypeScript types of Protobuf's JSON mapping.

use std::fmt::Write as _;

use crate::{Element, comment};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{Types, WellKnown, value_kind, well_known};
use crate::describe::is_deprecated;

pub const HEAD: &str = "// Written by `tollgate contract export`; change the contract, not this file.\n";

pub fn render(types: &Types) -> String {
    let mut text = HEAD.to_owned();
    for (full, descriptor) in &types.enums {
        text += &doc(descriptor, false, "");
        let names: Vec<String> = descriptor.values().map(|value| format!("\"{}\"", value.name())).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "export type {} = {};", types.name(full), names.join(" | "));
    }
    for (full, descriptor) in &types.messages {
        text += &message(types, full, descriptor);
    }
    text
}

fn message(types: &Types, full: &str, message: &MessageDescriptor) -> String {
    let mut text = doc(message, false, "");
    let free: Vec<FieldDescriptor> = message.fields().filter(|field| real_oneof(field).is_none()).collect();
    let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
    let name = types.name(full);
    if oneofs.is_empty() {
        let _ = writeln!(text, "export interface {name} {{\n{}}}", fields(types, &free));
        return text;
    }
    let _ = write!(text, "export type {name} = {{\n{}}}", fields(types, &free));
    for oneof in oneofs {
        let members: Vec<FieldDescriptor> = oneof.fields().collect();
        let others = |but: Option<&FieldDescriptor>| {
            let absent = members.iter().filter(|member| but.is_none_or(|but| but.number() != member.number()));
            absent.map(|member| format!("{}?: undefined", property(member))).collect::<Vec<_>>()
        };
        let mut choices: Vec<String> = members
            .iter()
            .map(|member| {
                let own = format!("{}: {}", property(member), field_type(types, member));
                format!("{{ {} }}", [vec![own], others(Some(member))].concat().join("; "))
            })
            .collect();
        if !super::jsonschema::oneof_is_required(&oneof) {
            choices.push(format!("{{ {} }}", others(None).join("; ")));
        }
        let _ = write!(text, " & (\n  // oneof {}\n  | {}\n)", oneof.name(), choices.join("\n  | "));
    }
    text += ";\n";
    text
}

pub fn real_oneof(field: &FieldDescriptor) -> Option<prost_reflect::OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

pub fn fields(types: &Types, fields: &[FieldDescriptor]) -> String {
    let mut text = String::new();
    for field in fields {
        text += &doc(field, is_deprecated(field), "  ");
        let optional = if types.needs(field) { "" } else { "?" };
        let _ = writeln!(text, "  {}{optional}: {};", property(field), field_type(types, field));
    }
    text
}

/// Formats a comment as JSDoc.
pub fn doc(element: &impl Element, deprecated: bool, indent: &str) -> String {
    let mut lines: Vec<String> = comment(element).lines().map(|line| line.replace("*/", "* /")).collect();
    if deprecated {
        lines.push("@deprecated".to_owned());
    }
    match lines.as_slice() {
        [] => String::new(),
        [one] => format!("{indent}/** {one} */\n"),
        lines => {
            let body: String =
                lines.iter().map(|line| format!("{indent} * {line}").trim_end().to_owned() + "\n").collect();
            format!("{indent}/**\n{body}{indent} */\n")
        }
    }
}

/// Returns a property's name, quoted if necessary.
pub fn property(field: &FieldDescriptor) -> String {
    let name = field.json_name();
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if plain && !name.starts_with(|c: char| c.is_ascii_digit()) { name.to_owned() } else { format!("{name:?}") }
}

pub fn field_type(types: &Types, field: &FieldDescriptor) -> String {
    let one = kind(types, &value_kind(field));
    if field.is_map() {
        return format!("Record<string, {one}>");
    }
    match field.is_list() {
        true if one.contains(' ') => format!("({one})[]"),
        true => format!("{one}[]"),
        false => one,
    }
}

fn kind(types: &Types, kind: &Kind) -> String {
    match kind {
        Kind::Bool => "boolean".into(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => "number".into(),
        Kind::Float | Kind::Double => "number | \"NaN\" | \"Infinity\" | \"-Infinity\"".into(),
        // 64-bit integers are text: a number holds 53 bits.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 | Kind::String | Kind::Bytes => {
            "string".into()
        }
        Kind::Enum(descriptor) => types.name(descriptor.full_name()).to_owned(),
        Kind::Message(message) => match well_known(message.full_name()) {
            None => types.name(message.full_name()).to_owned(),
            Some(known) => self::known(known).to_owned(),
        },
    }
}

fn known(known: WellKnown) -> &'static str {
    match known {
        WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask => "string",
        WellKnown::Struct => "Record<string, unknown>",
        WellKnown::Value => "unknown",
        WellKnown::List => "unknown[]",
        WellKnown::Any => "{ \"@type\": string; [key: string]: unknown }",
        WellKnown::Empty => "Record<string, never>",
        WellKnown::Double => "number | \"NaN\" | \"Infinity\" | \"-Infinity\" | null",
        WellKnown::Int32 | WellKnown::Uint32 => "number | null",
        WellKnown::Int64 | WellKnown::Uint64 | WellKnown::String | WellKnown::Bytes => "string | null",
        WellKnown::Bool => "boolean | null",
    }
}
