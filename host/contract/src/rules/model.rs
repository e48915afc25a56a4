//! The rules of one contract, compiled: per message type, per field, per value.

use std::sync::Arc;

use prost_reflect::{FieldDescriptor, OneofDescriptor};

use super::cel::Expression;
use super::test::Test;

/// The maximum number of violations in a rejection; a thousand bad items add nothing to the first ones.
pub(crate) const MAX_VIOLATIONS: usize = 20;

/// A rule: its id, and its message when it is violated.
#[derive(Debug)]
pub(crate) struct Rule {
    /// `string.min_len`.
    pub id: String,
    pub message: String,
    /// The position of the option in the field's options: `repeated.items.string.min_len`.
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
    /// Whether the rules ignore the field while it is not set: it has presence, or the rules say so.
    pub skip_unset: bool,
    pub value: ValueRules,
}

/// The rules of a field's value, of a list's items, or of a map's keys or values.
#[derive(Debug, Default)]
pub(crate) struct ValueRules {
    pub tests: Vec<Arc<Rule>>,
    pub expressions: Vec<Expression>,
    /// Whether the value is one of the wrapper messages, and the rules are about its content.
    pub wrapped: bool,
    /// Whether a zero is ignored (items, keys and values only; a field's own zero is not set).
    pub skip_zero: bool,
    /// The rules of the value's message type.
    pub message: Option<usize>,
    /// A list's items, or a map's values.
    pub items: Option<Box<ValueRules>>,
    /// A map's keys.
    pub keys: Option<Box<ValueRules>>,
}

impl MessageRules {
    /// Returns whether the type has no rules, including its fields' messages.
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

    /// Visits this and everything in it.
    pub(super) fn walk<'r>(&'r self, visit: &mut dyn FnMut(&'r Self)) {
        visit(self);
        for inner in self.items.iter().chain(&self.keys) {
            inner.walk(visit);
        }
    }

    /// Drops messages without rules, and everything that becomes empty.
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
