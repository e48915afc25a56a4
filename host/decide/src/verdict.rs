//! What is decided about a record.

use std::ops::Range;

use super::notice::Notice;
use crate::dead_letter::Reason;
use crate::postgres::Staged;

/// What becomes of a record.
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
    /// Whether the table changes by it.
    pub fn has_effects(&self) -> bool {
        matches!(self, Verdict::Outputs(_) | Verdict::Delete)
    }
}

/// A record of the batch and its verdict.
pub struct Decision {
    /// Index in the batch.
    pub record: usize,
    /// Index in [`Gate::types`]; none where it could not be told.
    pub kind: Option<usize>,
    /// Index in [`Decided::groups`]; meaningless where it never got to the chain.
    pub(super) group: usize,
    /// Index in the group's events; meaningless where it never got to the chain.
    pub(super) event: usize,
    pub verdict: Verdict,
    pub fuel: u64,
    /// The row of the event as it came in, for a chain that passes it; or the one that a change event deletes.
    pub(super) staged: Option<Staged>,
    /// Its headers in [`Decided::passed`].
    pub(super) passed: Range<usize>,
    /// What it is let pass in spite of.
    pub notice: Option<Box<Notice>>,
}

impl Decision {
    /// Of a record that becomes no event: the chain does not see it.
    pub(super) fn without_event(record: usize, kind: Option<usize>, verdict: Verdict) -> Decision {
        Decision { record, kind, group: 0, event: 0, verdict, fuel: 0, staged: None, passed: 0..0, notice: None }
    }
}
