//! Rules on values: protovalidate's `buf.validate` options, compiled.
//!
//! Two tiers share one model and one set of tests. The walk over the wire bytes (`check`) tests values in place, in the
//! form that [`typed`] gives the tests, and decides *passes* or *suspect* ([`fast`]). A suspect payload is decoded and
//! judged by the reference evaluator ([`evaluate`]), which names every violation. Most events pass, so most events are
//! never decoded; the others become dead letters, where a microsecond more does not matter. Types without rules have no
//! checks at all.

mod cel;
mod compile;
mod evaluate;
mod fast;
mod fault;
mod formats;
mod listed;
mod model;
mod pattern;
mod show;
mod standard;
mod test;
mod typed;

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor};

pub(crate) use evaluate::Findings;
pub(crate) use fast::{Checks, FieldCheck, MAX_COUNTS, NodeChecks, ValueCheck, checks};
pub(crate) use model::MAX_VIOLATIONS;
pub(crate) use test::Subject;

use model::MessageRules;

/// A rule that an event violates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule's id: `string.min_len`, `required`, or the one chosen by the contract's author.
    pub rule: String,
    /// Dotted path of the field, with `[index]` or `["key"]` inside lists and maps; empty for the top message itself.
    pub field: String,
    /// The rule's description of the violation.
    pub message: String,
    /// The position of the rule in the field's options (`repeated.items.string.min_len`); empty for rules on messages
    /// and oneofs.
    pub rule_path: String,
    /// Whether the map's key, not its value, violates the rule.
    pub for_key: bool,
}

/// The compiled rules of a contract.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The first one is the top message's.
    messages: Vec<MessageRules>,
    index: HashMap<String, usize>,
    needs_clock: bool,
    canonical: String,
}

impl Rules {
    fn new(messages: Vec<MessageRules>, index: HashMap<String, usize>, canonical: String) -> Self {
        let mut needs_clock = false;
        for message in &messages {
            needs_clock |= message.expressions.iter().any(|expression| expression.needs_clock);
            for field in &message.fields {
                field.value.walk(&mut |value| {
                    needs_clock |= value.tests.iter().any(|rule| rule.test.needs_clock());
                    needs_clock |= value.expressions.iter().any(|expression| expression.needs_clock);
                });
            }
        }
        Self { messages, index, needs_clock, canonical }
    }

    fn is_empty(&self) -> bool {
        self.messages.iter().all(MessageRules::is_empty)
    }

    /// Returns whether a rule compares with the current time.
    pub(crate) fn needs_clock(&self) -> bool {
        self.needs_clock
    }

    /// Returns the options behind the rules, as text: equal for contracts with equal rules.
    pub(crate) fn canonical(&self) -> &str {
        &self.canonical
    }

    fn root(&self) -> &MessageRules {
        &self.messages[0]
    }

    fn message(&self, index: usize) -> Option<&MessageRules> {
        self.messages.get(index)
    }

    fn messages(&self) -> impl Iterator<Item = &MessageRules> {
        self.messages.iter()
    }

    /// Iterates over all message types with their names.
    fn named(&self) -> impl Iterator<Item = (&str, &MessageRules)> {
        self.index.iter().filter_map(|(name, index)| Some((name.as_str(), self.messages.get(*index)?)))
    }
}

/// Returns whether a field is set as Protobuf defines it; minus zero is.
fn is_set(message: &DynamicMessage, field: &FieldDescriptor) -> bool {
    if field.supports_presence() || field.is_list() || field.is_map() {
        return message.has_field(field);
    }
    evaluate::scalar(&message.get_field(field)).is_some_and(|value| !value.is_zero())
}

/// Combines seconds and nanoseconds. 128 bits hold any pair, in range or not.
pub(crate) fn nanoseconds(seconds: i64, nanos: i32) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}
