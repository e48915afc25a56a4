//! Rules during the walk: what is recorded about a message, and what makes it suspect.

use super::Walk;
use crate::Value;
use crate::plan::{FieldPlan, Node};
use crate::rules::{MAX_COUNTS, Subject, ValueCheck, nanoseconds};
use crate::well_known::seconds_and_nanos;

/// The facts about the current message that the rules depend on.
#[derive(Default)]
pub(super) struct Marks {
    /// The fields that are set, as the bits of their checks.
    seen: u64,
    /// The number of elements of repeated fields.
    counts: [u64; MAX_COUNTS],
}

impl<const RULES: bool> Walk<'_, RULES> {
    pub(super) fn suspect(self) {
        self.signals.suspect.set(true);
    }

    /// Tests the presence and the counts of a message's fields at its end.
    pub(super) fn judge_message(self, node: &Node, marks: &Marks) {
        let Some(checks) = self.contract.plan.node_checks.get(node.check as usize) else { return };
        let counts = checks.counts.iter().zip(&marks.counts);
        if checks.opaque
            || marks.seen & checks.demanded != checks.demanded
            || checks.oneofs.iter().any(|oneof| marks.seen & oneof == 0)
            || counts.into_iter().any(|(check, count)| !check.passes(*count))
        {
            self.suspect();
        }
    }

    /// Tests a single value of a field or a list element. Inlined where the value's type is known.
    #[inline(always)]
    pub(super) fn judge(self, field: &FieldPlan, value: Value<'_>, marks: &mut Marks) {
        let Some(check) = self.contract.plan.field_checks.get(field.check as usize) else { return };
        let Some(subject) = Subject::of(value) else { return };
        if field.repeated {
            check.tally(&mut marks.counts);
        } else {
            marks.seen = check.note(marks.seen, check.implicit && subject.is_zero());
        }
        if check.opaque || !check.value.passes(subject, self.now) {
            self.suspect();
        }
    }

    /// Tests the properties of an inner message that its field shows.
    pub(super) fn judge_inner(self, field: &FieldPlan, bytes: &[u8], marks: &mut Marks) {
        let Some(check) = self.contract.plan.field_checks.get(field.check as usize) else { return };
        let mut opaque = check.opaque;
        if field.repeated {
            check.tally(&mut marks.counts);
        } else {
            opaque |= check.whole && marks.seen & check.bit != 0;
            marks.seen = check.note(marks.seen, false);
        }
        if check.value.time {
            let time = seconds_and_nanos(bytes).map(|(seconds, nanos)| Subject::Time(nanoseconds(seconds, nanos)));
            opaque |= !time.is_ok_and(|time| check.value.passes(time, self.now));
        }
        if opaque {
            self.suspect();
        }
    }

    /// Tests a map's entry.
    pub(super) fn judge_entry(self, field: &FieldPlan, key: Value<'_>, value: Value<'_>, marks: &mut Marks) {
        let Some(check) = self.contract.plan.field_checks.get(field.check as usize) else { return };
        check.tally(&mut marks.counts);
        let passes = |check: &ValueCheck, value| {
            check.is_empty() || Subject::of(value).is_none_or(|subject| check.passes(subject, self.now))
        };
        if check.opaque || !passes(&check.key, key) || !passes(&check.value, value) {
            self.suspect();
        }
    }
}
