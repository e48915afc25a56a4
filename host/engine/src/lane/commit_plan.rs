//! What one attempt at a batch moves.

use crate::progress::store;

/// What an attempt moves, partition by partition.
pub(super) struct CommitPlan {
    /// Progress rows to move.
    pub rows: Vec<store::Step>,
    /// Offsets for the group.
    pub outputs: Vec<store::Step>,
    /// Records whose letters are in a redo plan.
    pub again: Vec<usize>,
}
