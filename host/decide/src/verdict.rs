//! The decision about a record.

use std::ops::Range;

use super::notice::Notice;
use crate::dead_letter::Reason;
use crate::postgres::Staged;

/// The verdict on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The outputs of the chain, as a range in its group's results.
    Outputs(Range<u32>),
    /// A deletion, by a tombstone or a change event.
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
    /// The index in the batch.
    pub record: usize,
    /// The index in [`Gate::types`], or `None` if the type could not be determined.
    pub kind: Option<usize>,
    /// The index in [`Decided::groups`]. It is meaningless if the record never reached the chain.
    pub(super) group: usize,
    /// The index in the group's events. It is meaningless if the record never reached the chain.
    pub(super) event: usize,
    pub verdict: Verdict,
    pub fuel: u64,
    /// The row of the input event, for a chain that passes it, or the row that a change event deletes.
    pub(super) staged: Option<Staged>,
    /// Its headers in [`Decided::passed`].
    pub(super) passed: Range<usize>,
    /// The violation despite which it was accepted.
    pub notice: Option<Box<Notice>>,
}

impl Decision {
    /// Returns the decision on a record that does not become an event, so that the chain does not receive it.
    pub(super) fn without_event(record: usize, kind: Option<usize>, verdict: Verdict) -> Decision {
        Decision { record, kind, group: 0, event: 0, verdict, fuel: 0, staged: None, passed: 0..0, notice: None }
    }
}
