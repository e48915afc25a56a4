//! The decision about a record.

use std::ops::Range;

use super::notice::Notice;
use crate::dead_letter::Reason;
use crate::postgres::Staged;

/// The verdict on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Outputs of the chain: a range in its group's results.
    Outputs(Range<u32>),
    /// A tombstone, or a change event, that deletes.
    Delete,
    Dropped,
    Dead(Box<Reason>),
}

impl Verdict {
    /// Returns whether it changes the table.
    pub fn has_effects(&self) -> bool {
        matches!(self, Verdict::Outputs(_) | Verdict::Delete)
    }
}

/// A record of the batch and its verdict.
pub struct Decision {
    /// Index in the batch.
    pub record: usize,
    /// Index in [`Gate::types`]; `None` if the type could not be determined.
    pub kind: Option<usize>,
    /// Index in [`Decided::groups`]; meaningless if the record never reached the chain.
    pub(super) group: usize,
    /// Index in the group's events; meaningless if the record never reached the chain.
    pub(super) event: usize,
    pub verdict: Verdict,
    pub fuel: u64,
    /// The row of the input event, for a chain that passes it; or the one that a change event deletes.
    pub(super) staged: Option<Staged>,
    /// Its headers in [`Decided::passed`].
    pub(super) passed: Range<usize>,
    /// The violation despite which it was accepted.
    pub notice: Option<Box<Notice>>,
}

impl Decision {
    /// The decision on a record that becomes no event: the chain does not see it.
    pub(super) fn without_event(record: usize, kind: Option<usize>, verdict: Verdict) -> Decision {
        Decision { record, kind, group: 0, event: 0, verdict, fuel: 0, staged: None, passed: 0..0, notice: None }
    }
}
