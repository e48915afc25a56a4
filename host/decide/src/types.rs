//! Compares the message types that a component was compiled with to a contract's.
//!
//! `tollgate build` writes the types into the component, in a separate section that older releases ignore. A component
//! that was compiled with different types than the contract's reads and writes fields under other numbers, and the wire
//! format does not reveal this. So both are compared before the component receives an event. Differences that would
//! lose or distort data are rejected, and others are reported.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde::{Deserialize, Serialize};
use tollgate_contract::type_name;
use tollgate_sandbox::{Digest, Transform};

/// The section's format. A later format is not read.
const VERSION: u32 = 1;

/// Message types, including all types that their fields reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTypes {
    version: u32,
    /// The SHA-256 of the types below. Equal digests are equal types.
    digest: String,
    messages: BTreeMap<String, Vec<FieldType>>,
    enums: BTreeMap<String, BTreeMap<String, i32>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FieldType {
    number: u32,
    name: String,
    /// The type in `.proto` syntax, or `message` and `enum` for named types, whose name is in `of`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    presence: Presence,
}

/// The cardinality of a field, and whether its absence differs from its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Presence {
    Implicit,
    Optional,
    Required,
    Repeated,
}

/// A difference between a component's types and a contract's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    #[error("field `{message}.{field}` has number {component} in the component and {contract} in the contract")]
    Number { message: String, field: String, component: u32, contract: u32 },
    #[error("field `{message}.{field}` ({number}) is {component} in the component and {contract} in the contract")]
    Type { message: String, field: String, number: u32, component: String, contract: String },
    #[error("field `{message}.{field}` ({number}), which the component may set, is not in the contract")]
    Unwritable { message: String, field: String, number: u32 },
    #[error("field `{message}.{field}` ({number}) is not in the contract: the component reads it as unset")]
    Removed { message: String, field: String, number: u32 },
    #[error(
        "field `{message}.{field}` ({number}) is unknown to the component: it keeps the field of events that pass, but drops \
         it from events that it replaces"
    )]
    Added { message: String, field: String, number: u32 },
    #[error("field {number} of `{message}` is `{component}` in the component and `{contract}` in the contract")]
    Renamed { message: String, number: u32, component: String, contract: String },
    #[error("value `{value}` of enum `{name}` is {component} in the component and {contract} in the contract")]
    EnumNumber { name: String, value: String, component: i32, contract: i32 },
    #[error("value `{value}` of enum `{name}` is {holder}")]
    EnumValue { name: String, value: String, holder: &'static str },
}

impl Difference {
    /// Returns whether events keep their meaning despite it.
    pub fn compatible(&self) -> bool {
        match self {
            Difference::Number { .. }
            | Difference::Type { .. }
            | Difference::Unwritable { .. }
            | Difference::EnumNumber { .. } => false,
            Difference::Removed { .. }
            | Difference::Added { .. }
            | Difference::Renamed { .. }
            | Difference::EnumValue { .. } => true,
        }
    }
}

/// The error of a component that was compiled with types that are incompatible with the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    #[error("was compiled with message types that differ from the contract's: {}; run `tollgate build` again", list(.0))]
    Differs(Vec<Difference>),
    #[error("has a section `{section}` that cannot be read: {problem}", section = tollgate_sandbox::TYPES_SECTION)]
    Unreadable { problem: String },
}

/// Formats differences in one line. The first ones are enough to find the change.
fn list(differences: &[Difference]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<String> = differences.iter().take(SHOWN).map(Difference::to_string).collect();
    if differences.len() > SHOWN {
        text.push(format!("and {} more", differences.len() - SHOWN));
    }
    text.join("; ")
}

impl MessageTypes {
    /// Returns these messages and all that their fields reach, except Google's well-known types, which never change.
    pub fn of<'a>(roots: impl IntoIterator<Item = &'a MessageDescriptor>) -> MessageTypes {
        let mut open: Vec<MessageDescriptor> = roots.into_iter().cloned().collect();
        let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
        while let Some(message) = open.pop() {
            if messages.contains_key(message.full_name()) || message.full_name().starts_with("google.protobuf.") {
                continue;
            }
            let mut fields = Vec::new();
            for field in message.fields() {
                let value = value_kind(&field);
                match &value {
                    Kind::Message(inner) => open.push(inner.clone()),
                    Kind::Enum(values) => drop(enums.insert(values.full_name().to_owned(), values_of(values))),
                    _ => {}
                }
                fields.push(FieldType::of(&field, &value));
            }
            fields.sort_by_key(|field| field.number);
            messages.insert(message.full_name().to_owned(), fields);
        }
        let text = serde_json::to_vec(&(&messages, &enums)).unwrap_or_default();
        MessageTypes { version: VERSION, digest: Digest::of(&text).to_string(), messages, enums }
    }

    /// Returns the SHA-256 of the types.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Encodes the types for the component's section.
    pub fn to_section(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Returns the types that a component was compiled with. Returns `None` if it does not contain them, or has them in
    /// a later format.
    ///
    /// # Errors
    /// Fails if the section is not one that `tollgate build` writes.
    pub fn of_component(transform: &Transform) -> Result<Option<MessageTypes>, Stale> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let Some(section) = transform.types() else { return Ok(None) };
        let unreadable = |error: serde_json::Error| Stale::Unreadable { problem: error.to_string() };
        let form: Form = serde_json::from_slice(section).map_err(unreadable)?;
        if form.version > VERSION {
            return Ok(None);
        }
        serde_json::from_slice(section).map(Some).map_err(unreadable)
    }

    /// Returns how a component's types differ from a contract's. `emitted` are the message types that the component
    /// emits.
    pub fn differences(&self, contract: &MessageTypes, emitted: &[&str]) -> Vec<Difference> {
        if self.digest == contract.digest {
            return Vec::new();
        }
        let written: BTreeSet<&str> = emitted.iter().flat_map(|message| self.reach(message)).collect();
        let mut found = Vec::new();
        for (message, own) in &self.messages {
            // A type that is missing in the contract shows up as a different type at the field that uses it, unless no
            // field reaches it.
            let Some(theirs) = contract.messages.get(message) else { continue };
            compare_fields(message, own, theirs, written.contains(message.as_str()), &mut found);
        }
        for (name, own) in &self.enums {
            if let Some(theirs) = contract.enums.get(name) {
                compare_values(name, own, theirs, &mut found);
            }
        }
        found.sort_by_key(Difference::compatible);
        found
    }

    /// Returns the messages contained in `root`.
    fn reach<'a>(&'a self, root: &'a str) -> BTreeSet<&'a str> {
        let (mut open, mut reached) = (vec![root], BTreeSet::new());
        while let Some(message) = open.pop() {
            let Some(fields) = self.messages.get(message).filter(|_| reached.insert(message)) else { continue };
            open.extend(fields.iter().filter_map(|field| field.of.as_deref()));
        }
        reached
    }
}

/// Compares a component with the types of the same names in `pool`. Returns warnings about an accepted component.
///
/// # Errors
/// Fails if a difference would lose or distort what the component reads or writes.
pub fn compare(transform: &Transform, pool: &DescriptorPool) -> Result<Vec<String>, Stale> {
    let Some(own) = MessageTypes::of_component(transform)? else {
        return Ok(vec![UNKNOWN.to_owned()]);
    };
    let manifest = transform.manifest();
    let emitted: Vec<&str> = manifest.emitted().collect();
    let named = std::iter::once(manifest.input.as_str()).chain(emitted.iter().copied());
    let named: Vec<MessageDescriptor> = named.filter_map(|name| pool.get_message_by_name(name)).collect();
    let mut differences = own.differences(&MessageTypes::of(&named), &emitted);
    if differences.iter().all(Difference::compatible) {
        return Ok(differences.iter().map(Difference::to_string).collect());
    }
    differences.retain(|difference| !difference.compatible());
    Err(Stale::Differs(differences))
}

/// The warning for a component that was built before `tollgate build` added types, or by another tool.
const UNKNOWN: &str = "it does not contain the message types it was compiled with, so they cannot be compared with the \
    contract's: run `tollgate build` again";

impl FieldType {
    fn of(field: &FieldDescriptor, value: &Kind) -> FieldType {
        let of = match value {
            Kind::Message(message) => Some(message.full_name().to_owned()),
            Kind::Enum(values) => Some(values.full_name().to_owned()),
            _ => None,
        };
        let mut kind = kind_name(value, field.is_group()).to_owned();
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            kind = format!("map<{}, {kind}>", kind_name(&entry.map_entry_key_field().kind(), false));
        }
        let presence = match field.cardinality() {
            Cardinality::Repeated => Presence::Repeated,
            Cardinality::Required => Presence::Required,
            Cardinality::Optional if field.supports_presence() => Presence::Optional,
            Cardinality::Optional => Presence::Implicit,
        };
        FieldType { number: field.number(), name: field.name().to_owned(), kind, of, presence }
    }

    /// Returns the type in `.proto` syntax.
    fn shown(&self) -> String {
        let repeated =
            if self.presence == Presence::Repeated && !self.kind.starts_with("map<") { "repeated " } else { "" };
        match &self.of {
            Some(of) => format!("{repeated}{} {of}", self.kind),
            None => format!("{repeated}{}", self.kind),
        }
    }

    fn same_type(&self, other: &FieldType) -> bool {
        let repeats = |field: &FieldType| field.presence == Presence::Repeated;
        self.kind == other.kind && self.of == other.of && repeats(self) == repeats(other)
    }
}

/// Returns the type of a field's value. For a map, this is the type of its values.
fn value_kind(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// Returns a type in `.proto` syntax, without the names of messages and enums.
fn kind_name(kind: &Kind, group: bool) -> &str {
    match kind {
        Kind::Message(_) if group => "group",
        Kind::Message(_) => "message",
        Kind::Enum(_) => "enum",
        scalar => type_name(scalar),
    }
}

fn values_of(values: &EnumDescriptor) -> BTreeMap<String, i32> {
    values.values().map(|value| (value.name().to_owned(), value.number())).collect()
}

fn compare_fields(message: &str, own: &[FieldType], theirs: &[FieldType], written: bool, found: &mut Vec<Difference>) {
    let message = || message.to_owned();
    for field in own {
        let (name, number) = (field.name.clone(), field.number);
        let namesake = theirs.iter().find(|other| other.name == field.name);
        if let Some(other) = namesake.filter(|other| other.number != number) {
            found.push(Difference::Number {
                message: message(),
                field: name,
                component: number,
                contract: other.number,
            });
            continue;
        }
        let Some(other) = theirs.iter().find(|other| other.number == number) else {
            found.push(if written {
                Difference::Unwritable { message: message(), field: name, number }
            } else {
                Difference::Removed { message: message(), field: name, number }
            });
            continue;
        };
        if !field.same_type(other) {
            let (component, contract) = (field.shown(), other.shown());
            found.push(Difference::Type { message: message(), field: name, number, component, contract });
        } else if namesake.is_none() {
            let (component, contract) = (name, other.name.clone());
            found.push(Difference::Renamed { message: message(), number, component, contract });
        }
    }
    for other in theirs {
        let known = own.iter().any(|field| field.number == other.number || field.name == other.name);
        if !known {
            found.push(Difference::Added { message: message(), field: other.name.clone(), number: other.number });
        }
    }
}

fn compare_values(
    name: &str,
    own: &BTreeMap<String, i32>,
    theirs: &BTreeMap<String, i32>,
    found: &mut Vec<Difference>,
) {
    for (value, &component) in own {
        let (name, value) = (name.to_owned(), value.clone());
        match theirs.get(&value) {
            Some(&contract) if contract != component => {
                found.push(Difference::EnumNumber { name, value, component, contract });
            }
            Some(_) => {}
            None => found.push(Difference::EnumValue { name, value, holder: "known only to the component" }),
        }
    }
    for value in theirs.keys().filter(|value| !own.contains_key(*value)) {
        let (name, value) = (name.to_owned(), value.clone());
        found.push(Difference::EnumValue { name, value, holder: "unknown to the component" });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const CONTRACT: &str = "syntax = \"proto3\"; package a;
        message In { string id = 1; Depot depot = 2; repeated int32 codes = 3; State state = 4; map<string, Depot> all = 5; }
        message Out { string id = 1; int64 last_depot = 15; Depot depot = 2; }
        message Depot { string name = 1; }
        enum State { NEW = 0; SENT = 1; }";

    fn types(proto: &str) -> MessageTypes {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.proto"), proto).unwrap();
        let pool = tollgate_protos::load(&[folder.path().to_path_buf()]).unwrap();
        let message = |name: &str| pool.get_message_by_name(name).unwrap();
        MessageTypes::of([&message("a.In"), &message("a.Out")])
    }

    /// Returns the differences of a component that was compiled with a changed contract.
    fn differences(from: &str, to: &str) -> Vec<(bool, String)> {
        assert!(CONTRACT.contains(from), "{from}");
        let found = types(&CONTRACT.replace(from, to)).differences(&types(CONTRACT), &["a.Out"]);
        found.iter().map(|difference| (difference.compatible(), difference.to_string())).collect()
    }

    #[test]
    fn a_change_that_would_lose_or_distort_data_is_named_by_its_field() {
        for (from, to, says) in [
            (
                "last_depot = 15",
                "last_depot = 13",
                "field `a.Out.last_depot` has number 13 in the component and 15 in the contract",
            ),
            ("int64 last_depot", "int32 last_depot", "`a.Out.last_depot` (15) is int32 in the component and int64 in"),
            ("repeated int32 codes", "int32 codes", "`a.In.codes` (3) is int32 in the component and repeated int32 in"),
            (
                "map<string, Depot>",
                "map<int32, Depot>",
                "is map<int32, message> a.Depot in the component and map<string, message>",
            ),
            (
                "Depot depot = 2; repeated",
                "string depot = 2; repeated",
                "is string in the component and message a.Depot in",
            ),
            (
                "Depot depot = 2; }",
                "Depot depot = 2; string note = 9; }",
                "`a.Out.note` (9), which the component may set, is not in",
            ),
            // Messages inside the output are written like the output itself.
            (
                "string name = 1;",
                "string name = 1; string city = 2;",
                "`a.Depot.city` (2), which the component may set",
            ),
            ("SENT = 1;", "SENT = 2;", "value `SENT` of enum `a.State` is 2 in the component and 1 in the contract"),
        ] {
            let found = differences(from, to);
            assert!(!found[0].0 && found[0].1.contains(says), "{to}: {found:?}");
        }
        // Two names are swapped: each field keeps a compatible type, but has another meaning.
        let found = differences("string id = 1; int64 last_depot = 15;", "string id = 15; int64 last_depot = 1;");
        assert_eq!(found.iter().filter(|(compatible, _)| !compatible).count(), 2, "{found:?}");
    }

    #[test]
    fn a_change_that_keeps_the_meaning_is_told_and_accepted() {
        for (from, to, says) in [
            (
                "string id = 1; int64",
                "int64",
                "`a.Out.id` (1) is unknown to the component: it keeps the field of events that pass, but drops it",
            ),
            (
                "Depot depot = 2; repeated",
                "Depot depot = 2; string note = 9; repeated",
                "`a.In.note` (9) is not in the contract",
            ),
            ("last_depot = 15", "depot_id = 15", "field 15 of `a.Out` is `depot_id` in the component and `last_depot`"),
            ("SENT = 1;", "SENT = 1; LOST = 2;", "value `LOST` of enum `a.State` is known only to the component"),
            ("SENT = 1;", "", "value `SENT` of enum `a.State` is unknown to the component"),
        ] {
            let found = differences(from, to);
            assert!(found.len() == 1 && found[0].0 && found[0].1.contains(says), "{to}: {found:?}");
        }
        assert_eq!(
            differences("string id = 1; Depot", "optional string id = 1; Depot"),
            [],
            "presence is no difference of meaning"
        );
        assert_eq!(types(CONTRACT).digest(), types(&format!("// A comment.\n{CONTRACT}")).digest());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let types = types(CONTRACT);
        let read: MessageTypes = serde_json::from_slice(&types.to_section().unwrap()).unwrap();
        assert_eq!(read, types);
        assert_eq!(read.digest().len(), 64);
    }
}
