//! buf.validate's rules in both versions: newly rejected and newly accepted values.
//!
//! The rules are read through the pool's own descriptors as a flat map, `string.min_len` → 3. So a version of
//! validate.proto with unknown rules is still compared: an unknown rule *may* tighten.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, OneofDescriptor, Value as ReflectValue};
use serde_json::Value;

use super::bounds::{is_zero, order};
use super::differ::{About, Differ};
use super::element::Element;
use super::rule::{Rule, rules};
use tollgate_contract::{Names, show_json_with};

/// The number of buf.validate's extension in each kind of options.
const EXTENSION: u32 = 1159;
const PACKAGE: &str = "buf.validate.";

/// Maps each dotted rule to its value. A CEL rule is `cel[id]`, and its value is the expression.
pub type Constraints = BTreeMap<String, Value>;

/// Returns the rules of a field; empty if all of them are ignored.
#[must_use]
pub fn constraints(field: &FieldDescriptor) -> Constraints {
    read(&field.options())
}

/// Returns the rules of a message as a whole.
#[must_use]
pub fn constraints_of_message(message: &MessageDescriptor) -> Constraints {
    read(&message.options())
}

/// Returns the rules of a oneof.
#[must_use]
pub fn constraints_of_oneof(oneof: &OneofDescriptor) -> Constraints {
    read(&oneof.options())
}

fn read(options: &DynamicMessage) -> Constraints {
    let mut found = Constraints::new();
    for (extension, value) in options.extensions() {
        let ReflectValue::Message(rules) = value else { continue };
        if extension.number() == EXTENSION && extension.full_name().starts_with(PACKAGE) {
            // Only a duration out of range or an invalid Any has no JSON form, and then there is nothing to compare.
            let json = show_json_with(rules, Names::Proto).ok().and_then(|json| serde_json::from_str(&json).ok());
            if let Some(json) = json {
                flatten("", &json, &mut found);
            }
        }
    }
    let off = found.get("ignore").and_then(Value::as_str) == Some("IGNORE_ALWAYS");
    if off || found.get("disabled") == Some(&Value::Bool(true)) { Constraints::new() } else { found }
}

fn flatten(prefix: &str, value: &Value, found: &mut Constraints) {
    let Value::Object(entries) = value else {
        found.insert(prefix.to_owned(), value.clone());
        return;
    };
    for (key, value) in entries {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (key.as_str(), value) {
            ("example", _) => {}
            ("cel", Value::Array(items)) => {
                for item in items {
                    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                    found.insert(format!("{path}[{}]", text("id")), Value::String(text("expression")));
                }
            }
            ("cel_expression", Value::Array(items)) => {
                for item in items.iter().filter_map(Value::as_str) {
                    found.insert(format!("{path}[{item}]"), Value::Bool(true));
                }
            }
            ("oneof", Value::Array(items)) => {
                for item in items {
                    let fields = item.get("fields").and_then(Value::as_array).into_iter().flatten();
                    let fields: Vec<&str> = fields.filter_map(Value::as_str).collect();
                    let required = item.get("required").cloned().unwrap_or(Value::Bool(false));
                    found.insert(format!("{path}[{}]", fields.join(", ")), required);
                }
            }
            _ => flatten(&path, value, found),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    RequiredAdded,
    RequiredRemoved,
    Tightened,
    Loosened,
    Unclear,
}

impl Effect {
    fn rule(self) -> &'static Rule {
        match self {
            Self::RequiredAdded => &rules::RULE_REQUIRED_ADDED,
            Self::RequiredRemoved => &rules::RULE_REQUIRED_REMOVED,
            Self::Tightened => &rules::RULE_TIGHTENED,
            Self::Loosened => &rules::RULE_LOOSENED,
            Self::Unclear => &rules::RULE_MAY_BE_TIGHTENED,
        }
    }
}

impl Differ<'_> {
    pub(super) fn field_constraints(&mut self, old: &FieldDescriptor, new: &FieldDescriptor) {
        self.constraints(&constraints(old), &constraints(new), new);
    }

    pub(super) fn message_constraints(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        self.constraints(&constraints_of_message(old), &constraints_of_message(new), new);
    }

    pub(super) fn oneof_constraints(&mut self, old: &OneofDescriptor, new: &OneofDescriptor) {
        self.constraints(&constraints_of_oneof(old), &constraints_of_oneof(new), new);
    }

    fn constraints(&mut self, old: &Constraints, new: &Constraints, element: &impl Element) {
        for (effect, text) in changes(old, new) {
            self.add(effect.rule(), About::new(element), format!("{}: {text}", element.name()));
        }
    }

    /// Compares the rules of a new field. Old events lack it, so rules that reject the empty value reject these events.
    pub(super) fn new_field_constraints(&mut self, field: &FieldDescriptor) {
        let rules = constraints(field);
        if rules.get("required") == Some(&Value::Bool(true)) {
            let message = format!("{}: new and required by a rule", field.full_name());
            self.add(&rules::RULE_REQUIRED_ADDED, About::new(field), message);
            return;
        }
        if field.supports_presence() || rules.contains_key("ignore") {
            return;
        }
        for (path, value) in &rules {
            let rule = match judges_zero(&rules, path, value) {
                Some(true) => &rules::RULE_REQUIRED_ADDED,
                Some(false) => continue,
                None => &rules::RULE_MAY_BE_TIGHTENED,
            };
            // Consumers with the old contract do not know the field.
            let sides = (rule.backward, None);
            let message = format!(
                "{}: new, and {path} ({}) applies to the empty value of old events",
                field.full_name(),
                show(value)
            );
            self.add_as(rule, About::new(field), message, sides);
        }
    }
}

/// Returns whether an event without the field is rejected: by `required`, or by a rule that applies to the empty value.
#[must_use]
pub fn is_needed(field: &FieldDescriptor) -> bool {
    let rules = constraints(field);
    let judged = !field.supports_presence() && !rules.contains_key("ignore");
    field.is_required()
        || rules.get("required") == Some(&Value::Bool(true))
        || judged && rules.iter().any(|(path, value)| judges_zero(&rules, path, value) == Some(true))
}

/// Like [`refuses_zero`] in the context of the field's other rules: a range whose lower bound is above the upper one
/// means "outside of both", and a value that satisfies one of them is accepted.
fn judges_zero(rules: &Constraints, path: &str, value: &Value) -> Option<bool> {
    let refuses = refuses_zero(path, value);
    let (lower, others) = match leaf(path) {
        "gt" | "gte" => (true, ["lt", "lte"]),
        "lt" | "lte" => (false, ["gt", "gte"]),
        _ => return refuses,
    };
    let other = others.iter().find_map(|other| rules.get_key_value(&format!("{}{other}", stem(path))));
    let Some((other_path, other)) = other else { return refuses };
    let (low, high) = if lower { (value, other) } else { (other, value) };
    if order(low, high) == Some(Ordering::Greater) {
        return Some(refuses == Some(true) && refuses_zero(other_path, other) == Some(true));
    }
    refuses
}

/// Returns whether a rule rejects the value of an unset field; `None` if that cannot be determined.
fn refuses_zero(path: &str, value: &Value) -> Option<bool> {
    // Rules of items, keys and values do not apply to an empty list.
    if ["repeated.items.", "map.keys.", "map.values."].iter().any(|inner| path.starts_with(inner)) {
        return Some(false);
    }
    let zero = Value::from(0);
    let against = |wanted: &[Ordering]| Some(order(value, &zero).is_some_and(|found| wanted.contains(&found)));
    match leaf(path) {
        "gt" => against(&[Ordering::Equal, Ordering::Greater]),
        "gte" | "min_len" | "min_bytes" | "min_items" | "min_pairs" | "len" | "len_bytes" => {
            against(&[Ordering::Greater])
        }
        "lt" => against(&[Ordering::Less, Ordering::Equal]),
        "lte" => against(&[Ordering::Less]),
        "const" | "prefix" | "suffix" | "contains" => Some(!is_zero(value)),
        "in" => Some(!value.as_array().is_some_and(|items| items.iter().any(is_zero))),
        "not_in" => Some(value.as_array().is_some_and(|items| items.iter().any(is_zero))),
        "max_len" | "max_bytes" | "max_items" | "max_pairs" | "unique" | "finite" | "defined_only" | "not_contains"
        | "strict" | "uri_ref" | "within" => Some(false),
        _ if value == &Value::Bool(true) && path.starts_with("string.") => Some(true),
        _ => None,
    }
}

fn leaf(path: &str) -> &str {
    // A CEL rule's id may contain dots.
    let head = path.split('[').next().unwrap_or(path);
    head.rsplit('.').next().unwrap_or(head)
}

/// Returns everything above the leaf: `repeated.items.string.`.
fn stem(path: &str) -> &str {
    let head = path.split('[').next().unwrap_or(path);
    &head[..head.len() - leaf(head).len()]
}

fn changes(old: &Constraints, new: &Constraints) -> Vec<(Effect, String)> {
    let mut found = Vec::new();
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let stems: BTreeSet<&str> =
        paths.iter().filter(|path| matches!(leaf(path), "gt" | "gte" | "lt" | "lte")).map(|path| stem(path)).collect();
    for stem in stems {
        range(stem, old, new, &mut found);
    }
    for path in paths {
        if matches!(leaf(path), "gt" | "gte" | "lt" | "lte") {
            continue;
        }
        let (was, is) = (old.get(path), new.get(path));
        if was != is {
            let text = describe(path, was, is);
            found.extend(effects(path, was, is).into_iter().map(|effect| (effect, text.clone())));
        }
    }
    found
}

fn describe(path: &str, was: Option<&Value>, is: Option<&Value>) -> String {
    match (was, is) {
        (Some(was), Some(is)) => format!("{path} was {}, now it is {}", show(was), show(is)),
        (None, Some(is)) => format!("{path} is new: {}", show(is)),
        (Some(was), None) => format!("{path} is gone; it was {}", show(was)),
        (None, None) => path.to_owned(),
    }
}

fn show(value: &Value) -> String {
    value.to_string()
}

/// One end of a range: its value, and whether the value itself is excluded.
type End<'v> = Option<(&'v Value, bool)>;

fn end<'v>(rules: &'v Constraints, stem: &str, open: &str, closed: &str) -> End<'v> {
    let get = |leaf: &str| rules.get(&format!("{stem}{leaf}"));
    get(open).map(|value| (value, true)).or_else(|| get(closed).map(|value| (value, false)))
}

fn range(stem: &str, old: &Constraints, new: &Constraints, found: &mut Vec<(Effect, String)>) {
    let ends = |rules| (end(rules, stem, "gt", "gte"), end(rules, stem, "lt", "lte"));
    let ((old_low, old_high), (new_low, new_high)) = (ends(old), ends(new));
    // gt above lt means "outside of", so raising an end may tighten or loosen.
    let inverted = |low: End<'_>, high: End<'_>| match (low, high) {
        (Some((low, _)), Some((high, _))) => order(low, high) != Some(Ordering::Less),
        _ => false,
    };
    let outside =
        (inverted(old_low, old_high) || inverted(new_low, new_high)) && (old_low, old_high) != (new_low, new_high);
    for (was, is, words, tighter) in
        [(old_low, new_low, ["gt", "gte"], Ordering::Less), (old_high, new_high, ["lt", "lte"], Ordering::Greater)]
    {
        if was == is {
            continue;
        }
        let shown = |end: End<'_>| match end {
            Some((value, open)) => format!("{stem}{} {}", if open { words[0] } else { words[1] }, show(value)),
            None => "no bound".to_owned(),
        };
        let effect = match (was, is) {
            _ if outside => Effect::Unclear,
            (None, _) => Effect::Tightened,
            (_, None) => Effect::Loosened,
            (Some((was, was_open)), Some((is, is_open))) => match order(was, is) {
                Some(Ordering::Equal) if is_open && !was_open => Effect::Tightened,
                Some(Ordering::Equal) => Effect::Loosened,
                Some(order) if order == tighter => Effect::Tightened,
                Some(_) => Effect::Loosened,
                None => Effect::Unclear,
            },
        };
        found.push((effect, format!("{} is now {}", shown(was), shown(is))));
    }
}

/// Returns the effects of a changed rule; several if it rejects some values and accepts others.
fn effects(path: &str, was: Option<&Value>, is: Option<&Value>) -> Vec<Effect> {
    use Effect::{Loosened, RequiredAdded, RequiredRemoved, Tightened, Unclear};
    let on = |value: Option<&Value>| value == Some(&Value::Bool(true));
    match leaf(path) {
        "required" if path == "required" => vec![if on(is) { RequiredAdded } else { RequiredRemoved }],
        "ignore" => vec![if rank(is) > rank(was) { Loosened } else { Tightened }],
        // This is the only rule that is on by default.
        "strict" => vec![if is == Some(&Value::Bool(false)) { Loosened } else { Tightened }],
        "in" | "not_in" => lists(leaf(path) == "in", was, is),
        "min_len" | "min_bytes" | "min_items" | "min_pairs" => vec![bound(was, is, Ordering::Less)],
        "max_len" | "max_bytes" | "max_items" | "max_pairs" | "within" => vec![bound(was, is, Ordering::Greater)],
        name => vec![match (was, is) {
            (None | Some(Value::Bool(false)), Some(Value::Bool(true))) => Tightened,
            (Some(Value::Bool(true)), None | Some(Value::Bool(false))) => Loosened,
            // A message's oneof rule without `required` still forbids two fields at once.
            (None, Some(_)) => Tightened,
            (Some(_), None) => Loosened,
            (Some(Value::String(was)), Some(Value::String(is))) => return texts(name, was, is),
            (Some(_), Some(_)) if matches!(name, "const" | "len" | "len_bytes") => return vec![Tightened, Loosened],
            _ => Unclear,
        }],
    }
}

fn rank(ignore: Option<&Value>) -> u8 {
    match ignore.and_then(Value::as_str) {
        None | Some("IGNORE_UNSPECIFIED") => 0,
        Some("IGNORE_ALWAYS") => 2,
        Some(_) => 1,
    }
}

fn bound(was: Option<&Value>, is: Option<&Value>, tighter: Ordering) -> Effect {
    match (was, is) {
        (None, _) => Effect::Tightened,
        (_, None) => Effect::Loosened,
        (Some(was), Some(is)) if order(was, is) == Some(tighter) => Effect::Tightened,
        _ => Effect::Loosened,
    }
}

fn lists(allowed: bool, was: Option<&Value>, is: Option<&Value>) -> Vec<Effect> {
    let (Some(was), Some(is)) = (was.and_then(Value::as_array), is.and_then(Value::as_array)) else {
        return vec![if was.is_none() { Effect::Tightened } else { Effect::Loosened }];
    };
    let mut effects = Vec::new();
    if is.iter().any(|item| !was.contains(item)) {
        effects.push(if allowed { Effect::Loosened } else { Effect::Tightened });
    }
    if was.iter().any(|item| !is.contains(item)) {
        effects.push(if allowed { Effect::Tightened } else { Effect::Loosened });
    }
    effects
}

fn texts(name: &str, was: &str, is: &str) -> Vec<Effect> {
    let (tighter, looser) = match name {
        "prefix" => (is.starts_with(was), was.starts_with(is)),
        "suffix" => (is.ends_with(was), was.ends_with(is)),
        "contains" => (is.contains(was), was.contains(is)),
        "not_contains" => (was.contains(is), is.contains(was)),
        "const" => return vec![Effect::Tightened, Effect::Loosened],
        // These are patterns and CEL.
        _ => return vec![Effect::Unclear],
    };
    match (tighter, looser) {
        (true, _) => vec![Effect::Tightened],
        (_, true) => vec![Effect::Loosened],
        _ => vec![Effect::Tightened, Effect::Loosened],
    }
}
