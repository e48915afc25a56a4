//! The plan of one attempt at a batch.

use crate::progress::store;

/// The steps of an attempt, partition by partition.
pub(super) struct CommitPlan {
    /// Progress rows to move.
    pub rows: Vec<store::Step>,
    /// Offsets to commit for the group.
    pub outputs: Vec<store::Step>,
    /// Records whose outputs come from a redo plan.
    pub again: Vec<usize>,
}
