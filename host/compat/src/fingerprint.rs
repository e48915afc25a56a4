//! The identity of a released contract. It depends on everything that determines its events, and on nothing else.
//!
//! Unlike [`tollgate_contract::Contract::digest`] it excludes policies, which belong to a pipeline, and includes the
//! rules and the reservations, which are part of the promise. Its text form is independent, so that lock files outlive
//! releases.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use sha2::{Digest as _, Sha256};

use super::constraints::{Constraints, constraints, constraints_of_message};
use tollgate_contract::is_closed;

/// Identifies the text form. Change it when the meaning of the text changes.
const FORM: &str = "tollgate-release/1";

/// Returns the SHA-256 of the message, all types that it reaches, and their rules. It excludes comments, file names and
/// the order of declarations.
#[must_use]
pub fn fingerprint(message: &MessageDescriptor) -> [u8; 32] {
    let mut types = BTreeMap::new();
    let mut queue = vec![message.clone()];
    while let Some(message) = queue.pop() {
        if types.contains_key(message.full_name()) {
            continue;
        }
        let text = describe(&message, &mut queue, &mut types);
        types.insert(message.full_name().to_owned(), text);
    }
    let mut hash = Sha256::new();
    hash.update(format!("{FORM}\nmessage {}\n", message.full_name()));
    for (name, text) in types {
        hash.update(format!("type {name}\n{text}"));
    }
    hash.finalize().into()
}

fn describe(
    message: &MessageDescriptor,
    queue: &mut Vec<MessageDescriptor>,
    types: &mut BTreeMap<String, String>,
) -> String {
    let mut text = String::new();
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    for field in &fields {
        match field.kind() {
            Kind::Message(inner) => queue.push(inner),
            Kind::Enum(inner) => {
                types.entry(inner.full_name().to_owned()).or_insert_with(|| enum_text(&inner));
            }
            _ => {}
        }
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "field {} {} {} {} list={} required={} presence={} group={} oneof={} default={} {}",
            field.number(),
            field.name(),
            field.json_name(),
            tollgate_contract::type_name(&field.kind()),
            field.is_list(),
            field.is_required(),
            field.supports_presence(),
            field.is_group(),
            oneof.as_ref().map_or("-", |oneof| oneof.name()),
            field.field_descriptor_proto().default_value.as_deref().unwrap_or("-"),
            rules(&constraints(field))
        );
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let _ = writeln!(text, "oneof {} {}", oneof.name(), rules(&super::constraints::constraints_of_oneof(&oneof)));
    }
    let mut reserved: Vec<String> = message.reserved_names().map(str::to_owned).collect();
    reserved.extend(message.reserved_ranges().map(|range| format!("{range:?}")));
    reserved.sort();
    let _ = writeln!(text, "reserved {reserved:?}\nrules {}", rules(&constraints_of_message(message)));
    text
}

fn rules(rules: &Constraints) -> String {
    rules.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>().join(" ")
}

fn enum_text(descriptor: &EnumDescriptor) -> String {
    let mut text = format!("closed={}\n", is_closed(descriptor));
    // Values are in declaration order: the first one is the default, and the first alias is the displayed name.
    text.extend(descriptor.values().map(|value| format!("value {} {}\n", value.number(), value.name())));
    text
}
