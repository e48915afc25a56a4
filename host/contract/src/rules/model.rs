//! The rules of one contract, compiled: per message type, per field, per value.

use std::sync::Arc;

use prost_reflect::{FieldDescriptor, OneofDescriptor};

use super::cel::Expression;
use super::test::Test;

/// The most violations that one rejection lists; a thousand bad items say no more than the first ones.
pub(crate) const MAX_VIOLATIONS: usize = 20;

/// A rule of an event: which one, and what is said when it is broken.
#[derive(Debug)]
pub(crate) struct Rule {
    /// `string.min_len`.
    pub id: String,
    pub message: String,
    /// Where the option stands in the field's options: `repeated.items.string.min_len`.
    pub path: String,
    pub test: Test,
}

/// The rules of a message type.
#[derive(Debug, Default)]
pub(crate) struct MessageRules {
    pub expressions: Vec<Expression>,
    pub groups: Vec<Group>,
    /// The oneofs of which a member must be set.
    pub required: Vec<OneofDescriptor>,
    pub fields: Vec<FieldRules>,
}

/// Fields of which at most one may be set (`message.oneof`).
#[derive(Debug)]
pub(crate) struct Group {
    pub fields: Vec<FieldDescriptor>,
    pub required: bool,
}

#[derive(Debug)]
pub(crate) struct FieldRules {
    pub field: FieldDescriptor,
    pub required: bool,
    /// Whether the rules leave the field alone while it is not set: it has presence, or the rules say so.
    pub skip_unset: bool,
    pub value: ValueRules,
}

/// The rules of a field's value, of a list's items, or of a map's keys or values.
#[derive(Debug, Default)]
pub(crate) struct ValueRules {
    pub tests: Vec<Arc<Rule>>,
    pub expressions: Vec<Expression>,
    /// Whether the value is one of the wrapper messages, and the rules mean what is in it.
    pub wrapped: bool,
    /// Whether a zero is left alone (items, keys and values only; a field's own zero is not set).
    pub skip_zero: bool,
    /// The rules of the message type that the value has.
    pub message: Option<usize>,
    /// A list's items, or a map's values.
    pub items: Option<Box<ValueRules>>,
    /// A map's keys.
    pub keys: Option<Box<ValueRules>>,
}

impl MessageRules {
    /// Whether anything is asked of the type, fields' messages included.
    pub(super) fn is_empty(&self) -> bool {
        self.expressions.is_empty() && self.groups.is_empty() && self.required.is_empty() && self.fields.is_empty()
    }
}

impl FieldRules {
    pub(super) fn is_empty(&self) -> bool {
        !self.required && self.value.is_empty()
    }
}

impl ValueRules {
    pub(super) fn is_empty(&self) -> bool {
        self.tests.is_empty()
            && self.expressions.is_empty()
            && self.message.is_none()
            && self.items.is_none()
            && self.keys.is_none()
    }

    /// Itself and what is in it.
    pub(super) fn walk<'r>(&'r self, visit: &mut dyn FnMut(&'r Self)) {
        visit(self);
        for inner in self.items.iter().chain(&self.keys) {
            inner.walk(visit);
        }
    }

    /// Drops messages without rules, and what is empty then.
    pub(super) fn prune(&mut self, live: &[bool]) {
        self.message = self.message.filter(|index| live.get(*index).copied().unwrap_or(false));
        for inner in [&mut self.items, &mut self.keys] {
            if let Some(rules) = inner {
                rules.prune(live);
                if rules.is_empty() {
                    *inner = None;
                }
            }
        }
    }
}
