//! Compares one field or extension in both versions.

use prost_reflect::{FieldDescriptor, Kind, Value};

use super::differ::{About, Differ};
use super::rule::{Severity, rules};
use super::slot::Slot;
use super::types;

/// The number of values that a field has, and whether its absence differs from the empty value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cardinality {
    Implicit,
    Explicit,
    Required,
    Repeated,
    Map,
}

impl Cardinality {
    fn of(field: &impl Slot) -> Self {
        if field.is_map() {
            Self::Map
        } else if field.is_list() {
            Self::Repeated
        } else if field.is_required() {
            Self::Required
        } else if field.supports_presence() {
            Self::Explicit
        } else {
            Self::Implicit
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Implicit => "single",
            Self::Explicit => "optional",
            Self::Required => "required",
            Self::Repeated => "repeated",
            Self::Map => "a map",
        }
    }
}

impl Differ<'_> {
    pub(super) fn field(&mut self, old: &FieldDescriptor, new: &FieldDescriptor) {
        self.names(old, new);
        self.slot(old, new);
        self.oneof_of(old, new);
        self.field_constraints(old, new);
    }

    /// Compares the common properties of fields and extensions.
    pub(super) fn slot(&mut self, old: &impl Slot, new: &impl Slot) {
        self.cardinality(old, new);
        if old.is_map() || new.is_map() {
            // A change between a map and something that is not an entry is only one of cardinality.
            if let (Some(was), Some(is)) = (entry(old), entry(new)) {
                self.kind(&was.0, &is.0, (false, false), new, "the map's key ");
                self.kind(&was.1, &is.1, (false, false), new, "the map's value ");
            }
        } else {
            self.kind(&old.kind(), &new.kind(), (old.is_group(), new.is_group()), new, "");
        }
        self.default(old, new);
        self.options(old, new);
        self.texts(old, new);
    }

    fn names(&mut self, old: &FieldDescriptor, new: &FieldDescriptor) {
        let elsewhere = new.parent_message().get_field_by_name(old.name()).filter(|_| old.name() != new.name());
        if let Some(now) = elsewhere {
            // Another field has the number now, for example after a swap. Old values appear under a wrong name.
            let message = format!("field {} had number {}, now it has {}", old.full_name(), old.number(), now.number());
            self.add(&rules::FIELD_RENUMBERED, About::new(&now), message);
        } else if old.name() != new.name() {
            let message = format!("field {} = {} is now called {}", old.full_name(), old.number(), new.name());
            self.add(&rules::FIELD_RENAMED, About::new(new), message);
        } else if old.json_name() != new.json_name() {
            let message = format!(
                "field {} was \"{}\" in JSON, now it is \"{}\"",
                new.full_name(),
                old.json_name(),
                new.json_name()
            );
            self.add(&rules::FIELD_JSON_NAME, About::new(new), message);
        }
    }

    fn cardinality(&mut self, old: &impl Slot, new: &impl Slot) {
        use Cardinality::{Explicit, Implicit, Map, Repeated, Required};
        let (was, is) = (Cardinality::of(old), Cardinality::of(new));
        let rule = match (was, is) {
            _ if was == is => return,
            // Moving into a oneof gives presence; that move is reported as such.
            (Implicit, Explicit) | (Explicit, Implicit) if old.in_oneof() || new.in_oneof() => return,
            (Implicit, Explicit) | (Explicit, Implicit) => &rules::FIELD_PRESENCE,
            (Implicit | Explicit, Required) => &rules::FIELD_REQUIRED_ADDED,
            (Required, Implicit | Explicit) => &rules::FIELD_REQUIRED_REMOVED,
            (Map, Repeated) | (Repeated, Map) if entry(old).is_some() && entry(new).is_some() => {
                &rules::FIELD_CARDINALITY_JSON
            }
            _ => &rules::FIELD_CARDINALITY,
        };
        let message = format!("field {} was {}, now it is {}", new.name(), was.name(), is.name());
        self.add(rule, About::new(new), message);
    }

    fn kind(&mut self, old: &Kind, new: &Kind, groups: (bool, bool), field: &impl Slot, part: &str) {
        let change = types::compare(old, new, groups);
        let shown = |kind: &Kind, group: bool| {
            format!("{}{}", if group { "group " } else { "" }, tollgate_contract::type_name(kind))
        };
        let (was, is) = (shown(old, groups.0), shown(new, groups.1));
        let what = format!("field {}: {part}was {was}, now it is {is}", field.name());
        let error = |bad: bool| bad.then_some(Severity::Error);
        let sides = (error(change.unreadable_backward), error(change.unreadable_forward));
        let told = change.refused.as_ref().map_or_else(|| what.clone(), |reason| format!("{what}; {reason}"));
        self.add_as(&rules::FIELD_TYPE, About::new(field), told, sides);
        for (reason, backward) in [(&change.narrowed_backward, true), (&change.narrowed_forward, false)] {
            let Some(reason) = reason else { continue };
            let warning = Some(Severity::Warning);
            let sides = if backward { (warning, None) } else { (None, warning) };
            let reader = if backward { "old events" } else { "new events" };
            self.add_as(&rules::FIELD_TYPE_NARROWED, About::new(field), format!("{what}; {reader}: {reason}"), sides);
        }
        if change.json {
            self.add(&rules::FIELD_TYPE_JSON, About::new(field), format!("{what}, which JSON writes differently"));
        }
        if change.source {
            self.add(&rules::FIELD_TYPE_SOURCE, About::new(field), what);
        }
    }

    fn default(&mut self, old: &impl Slot, new: &impl Slot) {
        let (was, is) = (&old.proto().default_value, &new.proto().default_value);
        // A declared default that equals the implicit one changes nothing.
        let differs = was != is && !same_default(&old.default_value(), &new.default_value());
        if differs && !old.is_list() && !new.is_list() {
            let shown = |default: &Option<String>| default.clone().unwrap_or_else(|| "not declared".to_owned());
            let message = format!("field {}: the default was {}, now it is {}", new.name(), shown(was), shown(is));
            self.add(&rules::FIELD_DEFAULT, About::new(new), message);
        }
    }

    fn options(&mut self, old: &impl Slot, new: &impl Slot) {
        if old.is_list() && new.is_list() && old.is_packed() != new.is_packed() {
            let shown = |packed: bool| if packed { "packed" } else { "not packed" };
            let message =
                format!("field {} was {}, now it is {}", new.name(), shown(old.is_packed()), shown(new.is_packed()));
            self.add(&rules::FIELD_PACKING, About::new(new), message);
        }
        let (was, is) = (jstype(old), jstype(new));
        if was != is {
            let message = format!("field {}: jstype was {was}, now it is {is}", new.name());
            self.add(&rules::FIELD_JSTYPE, About::new(new), message);
        }
    }
}

/// Returns whether two defaults are equal, even if one is written as a boolean and the other as a number.
fn same_default(old: &Value, new: &Value) -> bool {
    let integer = |value: &Value| match *value {
        Value::Bool(value) => Some(i128::from(value)),
        Value::I32(value) | Value::EnumNumber(value) => Some(value.into()),
        Value::I64(value) => Some(value.into()),
        Value::U32(value) => Some(value.into()),
        Value::U64(value) => Some(value.into()),
        _ => None,
    };
    integer(old).map_or_else(|| old == new, |number| integer(new) == Some(number))
}

fn jstype(field: &impl Slot) -> &'static str {
    field.proto().options.as_ref().map_or("JS_NORMAL", |options| options.jstype().as_str_name())
}

/// Returns key and value types of a map, or of a list of messages with the same wire format as a map's entries.
fn entry(field: &impl Slot) -> Option<(Kind, Kind)> {
    let Kind::Message(message) = field.kind() else { return None };
    if field.is_map() {
        return Some((message.map_entry_key_field().kind(), message.map_entry_value_field().kind()));
    }
    let single = |number| message.get_field(number).filter(|it| !it.is_list() && !it.is_map() && !it.is_group());
    let (key, value) = (single(1)?, single(2)?);
    let same = field.is_list() && !field.is_group() && message.fields().len() == 2;
    same.then(|| (key.kind(), value.kind()))
}
