//! Exports contracts to the languages of their users.
//!
//! All exports describe Protobuf's JSON mapping as written: lowerCamelCase names, 64-bit integers as strings, enums by
//! name, bytes in base64, empty fields omitted. Rules of buf.validate are included if the target can express them;
//! others appear as comments.

pub mod jsonschema;
pub mod typescript;
pub mod zod;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;
use tollgate_contract::{Contract, Fields, Policies};

use crate::{Constraints, is_needed};

/// The requested messages, and all types that they reach, by full name.
pub struct Types {
    pub roots: Vec<MessageDescriptor>,
    pub messages: BTreeMap<String, MessageDescriptor>,
    pub enums: BTreeMap<String, EnumDescriptor>,
    names: BTreeMap<String, String>,
    /// Full names of the fields without which an event is rejected.
    needed: BTreeSet<String>,
}

impl Types {
    pub fn reach(roots: &[MessageDescriptor]) -> Types {
        let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
        let mut queue = roots.to_vec();
        while let Some(message) = queue.pop() {
            if well_known(message.full_name()).is_some() || messages.contains_key(message.full_name()) {
                continue;
            }
            for field in message.fields() {
                match value_kind(&field) {
                    Kind::Message(inner) => queue.push(inner),
                    Kind::Enum(inner) => _ = enums.insert(inner.full_name().to_owned(), inner),
                    _ => {}
                }
            }
            messages.insert(message.full_name().to_owned(), message);
        }
        let needed = messages.values().flat_map(needed).collect();
        let mut types = Types { roots: roots.to_vec(), messages, enums, names: BTreeMap::new(), needed };
        types.names = types.identifiers();
        types
    }

    /// Maps each full name to an identifier: without the package if that is unambiguous, and `Order_Line` for nested
    /// types.
    fn identifiers(&self) -> BTreeMap<String, String> {
        let package = |full: &str| match (self.messages.get(full), self.enums.get(full)) {
            (Some(message), _) => message.package_name().to_owned(),
            (_, Some(descriptor)) => descriptor.package_name().to_owned(),
            _ => String::new(),
        };
        let all: Vec<&String> = self.messages.keys().chain(self.enums.keys()).collect();
        let short = |full: &str| {
            let package = package(full);
            let rest = full.strip_prefix(&package).unwrap_or(full).trim_start_matches('.');
            rest.replace('.', "_")
        };
        let clear = |full: &str| all.iter().filter(|other| short(other) == short(full)).count() == 1;
        let name = |full: &str| if clear(full) { short(full) } else { full.replace('.', "_") };
        all.iter().map(|full| ((*full).clone(), name(full))).collect()
    }

    /// Returns whether an event without the field is rejected.
    pub fn needs(&self, field: &FieldDescriptor) -> bool {
        self.needed.contains(field.full_name())
    }

    /// Returns a type's name in code.
    pub fn name<'t>(&'t self, full: &'t str) -> &'t str {
        self.names.get(full).map_or(full, String::as_str)
    }
}

/// Returns the full names of the fields without which a message is rejected: the gate itself checks the empty message.
/// Since it lists a limited number of violations, the rules supply the rest.
fn needed(message: &MessageDescriptor) -> Vec<String> {
    let compiled = Contract::compile(message.parent_pool(), message.full_name(), Policies::default(), &[]);
    let refusal =
        compiled.ok().and_then(|contract| contract.check_at(&[], &mut Fields::new(), SystemTime::now()).err());
    let violations = refusal.map(|refusal| refusal.violations).unwrap_or_default();
    let judged = |field: &FieldDescriptor| violations.iter().any(|violation| violation.field == field.name());
    message
        .fields()
        .filter(|field| is_needed(field) || judged(field))
        .map(|field| field.full_name().to_owned())
        .collect()
}

/// Returns whether every JavaScript object inherits a property of this name, so that code must check for its own.
pub fn is_inherited(name: &str) -> bool {
    const INHERITED: [&str; 7] = [
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    ];
    INHERITED.contains(&name)
}

/// Returns the empty value of a kind in JSON; messages have none.
pub fn zero(kind: &Kind) -> Option<Value> {
    Some(match kind {
        Kind::String | Kind::Bytes => "".into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => "0".into(),
        Kind::Bool => false.into(),
        Kind::Enum(descriptor) => descriptor.get_value(0)?.name().into(),
        Kind::Message(_) => return None,
        _ => 0.into(),
    })
}

/// Returns a field's type; for a map, its values' type.
pub fn value_kind(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// Google's types with their own JSON form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WellKnown {
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    Value,
    List,
    Any,
    Empty,
    /// A wrapper: the scalar or null.
    Double,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Bool,
    String,
    Bytes,
}

pub fn well_known(name: &str) -> Option<WellKnown> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => WellKnown::Timestamp,
        "Duration" => WellKnown::Duration,
        "FieldMask" => WellKnown::FieldMask,
        "Struct" => WellKnown::Struct,
        "Value" => WellKnown::Value,
        "ListValue" => WellKnown::List,
        "Any" => WellKnown::Any,
        "Empty" => WellKnown::Empty,
        "DoubleValue" | "FloatValue" => WellKnown::Double,
        "Int32Value" => WellKnown::Int32,
        "UInt32Value" => WellKnown::Uint32,
        "Int64Value" => WellKnown::Int64,
        "UInt64Value" => WellKnown::Uint64,
        "BoolValue" => WellKnown::Bool,
        "StringValue" => WellKnown::String,
        "BytesValue" => WellKnown::Bytes,
        _ => return None,
    })
}

/// The rules of one value, by their leaf: of a field, of a list's items, of a map's keys or values.
pub struct Rules {
    rules: Constraints,
}

impl Rules {
    pub fn of(field: &FieldDescriptor) -> Rules {
        Rules::judging(crate::constraints(field))
    }

    /// Returns the rules below a path, such as `repeated.items.`.
    pub fn below(&self, path: &str) -> Rules {
        let below =
            self.rules.iter().filter_map(|(key, value)| Some((key.strip_prefix(path)?.to_owned(), value.clone())));
        Rules::judging(below.collect())
    }

    /// Removes the rules that are never evaluated.
    fn judging(mut rules: Constraints) -> Rules {
        match rules.get("ignore").and_then(Value::as_str) {
            Some("IGNORE_ALWAYS") => rules.clear(),
            Some("IGNORE_UNSPECIFIED") => drop(rules.remove("ignore")),
            _ => {}
        }
        Rules { rules }
    }

    /// Returns the bounds of a number.
    pub fn range(&self) -> Range {
        let bound = |rules: [&'static str; 2]| rules.into_iter().find_map(|rule| Some((rule, self.number(rule)?)));
        let (lower, upper) = (bound(["gt", "gte"]), bound(["lt", "lte"]));
        let outside = match (&lower, &upper) {
            (Some((_, low)), Some((_, high))) => exceeds(low, high),
            _ => false,
        };
        Range { lower, upper, outside }
    }

    /// Returns a rule by its last word, for any type; excludes those of items, keys and values.
    pub fn get(&self, leaf: &str) -> Option<&Value> {
        self.own()
            .find(|(path, _)| path.rsplit('.').next() == Some(leaf) && !path.contains('['))
            .map(|(_, value)| value)
    }

    pub fn on(&self, leaf: &str) -> bool {
        self.get(leaf) == Some(&Value::Bool(true))
    }

    /// Returns a number, even if JSON has it as text.
    pub fn number(&self, leaf: &str) -> Option<Value> {
        let value = self.get(leaf)?;
        match value {
            Value::Number(_) => Some(value.clone()),
            Value::String(text) => serde_json::from_str::<serde_json::Number>(text).ok().map(Value::Number),
            _ => None,
        }
    }

    pub fn list(&self, leaf: &str) -> Option<&Vec<Value>> {
        self.get(leaf).and_then(Value::as_array)
    }

    fn own(&self) -> impl Iterator<Item = (&String, &Value)> {
        let inner = ["repeated.items.", "map.keys.", "map.values."];
        self.rules.iter().filter(move |(path, _)| !inner.iter().any(|head| path.starts_with(head)))
    }

    /// Returns whether the empty value passes regardless of the other rules.
    pub fn skips_zero(&self) -> bool {
        self.get("ignore").is_some()
    }

    /// Returns the rules that `said` does not list, each as `path = value`.
    pub fn unsaid(&self, said: &[&str]) -> Vec<String> {
        let leaf =
            |path: &str| path.split('[').next().and_then(|head| head.rsplit('.').next()).unwrap_or_default().to_owned();
        let left = self.own().filter(|(path, _)| path.contains('[') || !said.contains(&leaf(path).as_str()));
        left.map(|(path, value)| format!("{path} = {value}")).collect()
    }
}

/// The bounds of a number, each with its rule.
pub struct Range {
    pub lower: Option<(&'static str, Value)>,
    pub upper: Option<(&'static str, Value)>,
    /// Whether the lower bound is above the upper one, so that a value must lie outside of both.
    pub outside: bool,
}

impl Range {
    pub fn bounds(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.lower.iter().chain(&self.upper)
    }
}

fn exceeds(low: &Value, high: &Value) -> bool {
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (whole(low), whole(high)) {
        (Some(low), Some(high)) => low > high,
        _ => low.as_f64() > high.as_f64(),
    }
}

/// Rules that need no export: `required` and `ignore` are handled with the fields.
pub const ALWAYS: [&str; 3] = ["required", "ignore", "strict"];
