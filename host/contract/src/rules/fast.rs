//! The rules as the walk over the wire bytes checks them.
//!
//! The walk only decides *passes* or *suspect*. A suspect payload is decoded as a whole and judged by the reference
//! evaluator, which also lists the violations. So the walk may err in one direction only. It never lets a bad payload
//! pass, because:
//!
//! - *A singular field twice, a map's key twice.* The last one counts. Every one is tested, so if all pass, the last
//!   one does.
//! - *A oneof's member replaced by another.* The replaced one's tests have passed and do no harm; its seen bit is
//!   cleared, so that a rule that requires it finds it missing.
//! - *A split message.* Every part is walked like a message. What holds in each part holds in the merged message if it
//!   is about single values and their presence: a field set in the merged message was set, and tested, in one of the
//!   parts. It does not hold for what accumulates over parts: upper limits of counts, uniqueness, the two halves of a
//!   Timestamp. For types with such rules ([`sensitive`]) a second part is suspect.
//! - *Everything else* (expressions, groups of fields, wrappers, `Any`, field masks) makes its place suspect by its
//!   presence.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind as ReflectKind, MessageDescriptor};

use super::Rules;
use super::evaluate::scalar;
use super::model::{FieldRules, MessageRules, ValueRules};
use super::test::{Subject, Test};
use super::typed::Tests;

/// The maximum number of counts of one message type on the walk's stack.
pub(crate) const MAX_COUNTS: usize = 8;
/// The bits of the mask in which the walk records what it has seen.
const MAX_BITS: u32 = 64;

/// The checks of a message type, besides its fields' values.
#[derive(Debug, Default)]
pub(crate) struct NodeChecks {
    /// Whether only the reference evaluator can judge the message.
    pub opaque: bool,
    /// Fields that must be set.
    pub demanded: u64,
    /// For each mask, one of its fields must be set.
    pub oneofs: Box<[u64]>,
    pub counts: Box<[Count]>,
}

/// The number of a repeated field's elements.
#[derive(Debug)]
pub(crate) struct Count {
    min: u64,
    max: u64,
    unique: bool,
    can_be_empty: bool,
}

impl Count {
    #[inline]
    pub(crate) fn passes(&self, count: u64) -> bool {
        if count == 0 && self.can_be_empty {
            return true;
        }
        (self.min..=self.max).contains(&count) && !(self.unique && count > 1)
    }
}

/// The checks of a field during the walk.
#[derive(Debug, Default)]
pub(crate) struct FieldCheck {
    /// Recorded when the field is set; zero if no rule needs it.
    pub bit: u64,
    /// The bits of the other members of its oneof.
    pub clears: u64,
    /// The index of its count, if there is one.
    pub count: Option<usize>,
    /// Whether the walk cannot judge the field if it is present.
    pub opaque: bool,
    /// Whether the walk cannot judge a second part.
    pub whole: bool,
    /// Whether the rules apply to the message in it.
    pub enters: bool,
    /// Whether the field has no presence, so that zero means "not set".
    pub implicit: bool,
    /// The check of the value, or of a list's items or a map's values.
    pub value: ValueCheck,
    pub key: ValueCheck,
}

impl FieldCheck {
    /// Counts one more element.
    #[inline]
    pub(crate) fn tally(&self, counts: &mut [u64; MAX_COUNTS]) {
        if let Some(count) = self.count.and_then(|place| counts.get_mut(place)) {
            *count += 1;
        }
    }

    /// Returns what has been seen including this field. `unset` means that it was the zero that counts as not set.
    #[inline]
    pub(crate) fn note(&self, seen: u64, unset: bool) -> u64 {
        if unset { seen & !self.clears & !self.bit } else { seen & !self.clears | self.bit }
    }
}

/// The checks of one value.
#[derive(Debug, Default)]
pub(crate) struct ValueCheck {
    skip_zero: bool,
    tests: Tests,
    /// Whether it is a Timestamp or a Duration.
    pub time: bool,
}

impl ValueCheck {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.tests, Tests::None)
    }

    /// Returns whether the value passes. If the check has no result, the value does not pass. If the subject's type is
    /// known, one arm is left after inlining.
    #[inline(always)]
    pub(crate) fn passes(&self, subject: Subject<'_>, now: Option<i128>) -> bool {
        self.skip_zero && subject.is_zero() || self.tests.hold(subject, now)
    }

    fn new(rules: &ValueRules, skip_zero: bool) -> Self {
        let time = rules.tests.iter().any(|rule| matches!(rule.test, Test::Time(_) | Test::Now(_)));
        let tests = rules.tests.iter().map(|rule| rule.test.clone()).collect();
        Self { skip_zero: skip_zero || rules.skip_zero, tests: Tests::new(tests), time }
    }
}

/// The checks of one message type, fields by number.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub node: NodeChecks,
    pub fields: HashMap<u32, FieldCheck>,
}

/// Returns the checks of all message types with rules, by full name.
pub(crate) fn checks(rules: &Rules) -> HashMap<String, Checks> {
    let sensitive = sensitive(rules);
    rules
        .named()
        .filter(|(_, message)| !message.is_empty())
        .map(|(name, message)| (name.to_owned(), Builder::new(&sensitive).message(message)))
        .collect()
}

/// Returns which message types have rules that may fail for the whole although they hold for its parts.
fn sensitive(rules: &Rules) -> Vec<bool> {
    let adds_up = |field: &FieldRules| {
        field.value.tests.iter().any(|rule| match rule.test {
            Test::Count { max, .. } => max != u64::MAX,
            Test::Unique | Test::Time(_) | Test::Now(_) => true,
            _ => false,
        })
    };
    let messages: Vec<&MessageRules> = rules.messages().collect();
    let mut found: Vec<bool> = messages.iter().map(|message| message.fields.iter().any(adds_up)).collect();
    loop {
        let mut changed = false;
        for (index, message) in messages.iter().enumerate() {
            let below = message.fields.iter().any(|field| field.value.message.is_some_and(|inner| found[inner]));
            changed |= below && !found[index];
            found[index] |= below;
        }
        if !changed {
            return found;
        }
    }
}

struct Builder<'a> {
    sensitive: &'a [bool],
    checks: Checks,
    counts: Vec<Count>,
    bits: u32,
}

impl<'a> Builder<'a> {
    fn new(sensitive: &'a [bool]) -> Self {
        Self { sensitive, checks: Checks::default(), counts: Vec::new(), bits: 0 }
    }

    fn message(mut self, rules: &MessageRules) -> Checks {
        self.checks.node.opaque = !rules.expressions.is_empty() || !rules.groups.is_empty();
        for field in &rules.fields {
            self.field(field);
        }
        let mut oneofs = Vec::new();
        for oneof in &rules.required {
            oneofs.push(oneof.fields().fold(0, |mask, field| mask | self.bit(field.number())));
        }
        self.rivals(rules);
        self.checks.node.oneofs = oneofs.into();
        self.checks.node.opaque |= self.counts.len() > MAX_COUNTS || self.bits > MAX_BITS;
        self.checks.node.counts = self.counts.into();
        self.checks
    }

    fn check(&mut self, number: u32) -> &mut FieldCheck {
        self.checks.fields.entry(number).or_default()
    }

    /// Returns the field's bit, a new one if it has none.
    fn bit(&mut self, number: u32) -> u64 {
        if self.check(number).bit == 0 {
            // Beyond the last bit the node becomes opaque, and the bits are no longer used.
            self.check(number).bit = 1_u64.checked_shl(self.bits).unwrap_or(1);
            self.bits += 1;
        }
        self.check(number).bit
    }

    fn field(&mut self, rules: &FieldRules) {
        let (field, number) = (&rules.field, rules.field.number());
        if field.is_list() || field.is_map() {
            return self.repeated(rules);
        }
        let value = &rules.value;
        let implicit = !field.supports_presence();
        let opaque = !value.expressions.is_empty() || is_opaque(value);
        let check = self.check(number);
        check.implicit = implicit;
        check.opaque = opaque;
        // Its zero is not set: the rules ignore it, or judge it when the message ends.
        check.value = ValueCheck::new(value, implicit && rules.skip_unset);
        let whole = check.value.time || value.message.is_some_and(|inner| self.sensitive[inner]);
        self.check(number).whole = whole;
        self.check(number).enters = value.message.is_some();
        let wants_value = implicit && !rules.skip_unset && (opaque || !zero_passes(field, value));
        if rules.required || wants_value {
            self.checks.node.demanded |= self.bit(number);
        }
        if whole {
            self.bit(number);
        }
    }

    fn repeated(&mut self, rules: &FieldRules) {
        let mut count = Count {
            min: u64::from(rules.required),
            max: u64::MAX,
            unique: false,
            can_be_empty: rules.skip_unset && !rules.required,
        };
        for rule in &rules.value.tests {
            match rule.test {
                Test::Count { min, max } => {
                    count.min = count.min.max(min);
                    count.max = count.max.min(max);
                }
                Test::Unique => count.unique = true,
                _ => {}
            }
        }
        // Equal keys are one pair, so several entries may still be too few pairs.
        count.unique |= rules.field.is_map() && count.min > 1;
        let (items, keys) = (rules.value.items.as_deref(), rules.value.keys.as_deref());
        let inner_opaque =
            |rules: Option<&ValueRules>| rules.is_some_and(|rules| !rules.expressions.is_empty() || is_opaque(rules));
        let timed = |check: &ValueCheck| check.time && rules.field.is_map();
        let asks = count.min > 0 || count.max < u64::MAX || count.unique;
        let position = asks.then_some(self.counts.len());
        if asks {
            self.counts.push(count);
        }
        // An expression also has a result for an empty list.
        self.checks.node.opaque |= !rules.value.expressions.is_empty() && !rules.skip_unset;
        let check = self.check(rules.field.number());
        check.count = position;
        check.enters = items.is_some_and(|items| items.message.is_some());
        check.value = items.map(|items| ValueCheck::new(items, false)).unwrap_or_default();
        check.key = keys.map(|keys| ValueCheck::new(keys, false)).unwrap_or_default();
        check.opaque =
            !rules.value.expressions.is_empty() || inner_opaque(items) || inner_opaque(keys) || timed(&check.value);
    }

    /// Members of a oneof replace each other.
    fn rivals(&mut self, rules: &MessageRules) {
        let Some(message) = rules
            .fields
            .first()
            .map(|rules| rules.field.parent_message().clone())
            .or_else(|| rules.required.first().map(|oneof| oneof.parent_message().clone()))
        else {
            return;
        };
        for members in members(&message) {
            let mask = |checks: &Checks, number: u32| checks.fields.get(&number).map_or(0, |check| check.bit);
            let all = members.iter().fold(0, |all, number| all | mask(&self.checks, *number));
            if all != 0 {
                for number in members {
                    let own = mask(&self.checks, number);
                    self.check(number).clears = all & !own;
                }
            }
        }
    }
}

/// Returns the field numbers of each oneof.
fn members(message: &MessageDescriptor) -> Vec<Vec<u32>> {
    message.oneofs().map(|oneof| oneof.fields().map(|field| field.number()).collect()).collect()
}

/// Returns whether the walk cannot read what the tests need.
fn is_opaque(rules: &ValueRules) -> bool {
    rules.wrapped || rules.tests.iter().any(|rule| matches!(rule.test, Test::AnyUrl { .. } | Test::Mask(_)))
}

/// Returns whether a field without presence passes when it is not on the wire.
fn zero_passes(field: &FieldDescriptor, rules: &ValueRules) -> bool {
    if matches!(field.kind(), ReflectKind::Message(_)) {
        return true;
    }
    let zero = field.default_value();
    scalar(&zero).is_none_or(|zero| rules.tests.iter().all(|rule| rule.test.holds(zero, None) == Ok(true)))
}
