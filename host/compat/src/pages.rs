//! A contract as a page for its readers: the contents, and two formats.

pub mod html;
pub mod markdown;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::export::{Types, value_kind, well_known};
use crate::{comment, constraints, constraints_of_message, constraints_of_oneof, describe};

/// The contents of a page, for both formats.
pub struct Page {
    pub name: String,
    pub comment: String,
    /// Pairs of a label and a value.
    pub facts: Vec<(String, String)>,
    pub types: Vec<Section>,
    pub enums: Vec<Section>,
    /// The pipeline's policies, each with its key and meaning.
    pub policies: Vec<(String, String)>,
    /// Each column and its source.
    pub columns: Vec<(String, String)>,
    pub changes: Vec<Change>,
    /// The version since which changes are listed.
    pub since: Option<String>,
}

pub struct Section {
    pub name: String,
    pub comment: String,
    pub rows: Vec<Row>,
    /// Rules of the message, reserved numbers and names.
    pub notes: Vec<String>,
}

/// A field or an enum value.
pub struct Row {
    pub number: i64,
    pub name: String,
    /// The type of a field; empty for enum values.
    pub type_name: String,
    /// The section of the type on this page.
    pub link: Option<String>,
    pub comment: String,
    pub rules: Vec<String>,
    pub deprecated: bool,
}

pub struct Change {
    pub severity: &'static str,
    pub id: &'static str,
    pub message: String,
}

pub fn section(message: &MessageDescriptor, types: &Types) -> Section {
    let mut notes: Vec<String> = describe::rules(&constraints_of_message(message));
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let members: Vec<String> = oneof.fields().map(|field| field.name().to_owned()).collect();
        let required = constraints_of_oneof(&oneof).contains_key("required");
        let how = if required { "exactly one" } else { "at most one" };
        notes.push(format!("oneof {}: {how} of {}", oneof.name(), members.join(", ")));
    }
    let reserved = describe::reserved(message);
    if !reserved.is_empty() {
        notes.push(format!("reserved: {}", reserved.join(", ")));
    }
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    let rows = fields.iter().map(|field| row(field, types)).collect();
    Section { name: message.full_name().to_owned(), comment: comment(message), rows, notes }
}

fn row(field: &FieldDescriptor, types: &Types) -> Row {
    let link = match value_kind(field) {
        Kind::Message(inner) if well_known(inner.full_name()).is_none() => Some(inner.full_name().to_owned()),
        Kind::Enum(inner) => Some(inner.full_name().to_owned()),
        _ => None,
    };
    let mut rules = describe::rules(&constraints(field));
    if let Some(default) = &field.field_descriptor_proto().default_value {
        rules.push(format!("default {default}"));
    }
    rules.extend(describe::own_json_name(field));
    Row {
        number: i64::from(field.number()),
        name: field.name().to_owned(),
        type_name: describe::type_name(field),
        link: link.filter(|name| types.messages.contains_key(name) || types.enums.contains_key(name)),
        comment: comment(field),
        rules,
        deprecated: describe::is_deprecated(field),
    }
}

pub fn enum_section(descriptor: &EnumDescriptor) -> Section {
    let rows = descriptor.values().map(|value| Row {
        number: i64::from(value.number()),
        name: value.name().to_owned(),
        type_name: String::new(),
        link: None,
        comment: comment(&value),
        rules: Vec::new(),
        deprecated: value.enum_value_descriptor_proto().options.as_ref().is_some_and(|options| options.deprecated()),
    });
    Section {
        name: descriptor.full_name().to_owned(),
        comment: comment(descriptor),
        rows: rows.collect(),
        notes: Vec::new(),
    }
}
