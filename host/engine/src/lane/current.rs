//! A lane's state: its partitions and the current batch.

use std::sync::Arc;

use super::overdue::Overdues;
use super::stuck::StuckOutage;
use crate::position::Epoch;
use crate::progress::plan::Plan;
use crate::progress::{CommitNumbers, Position, Resume};
use tollgate_decide::batch::{Batch, RecordBatch};
use tollgate_decide::gate::Revision;

/// A partition owned by a lane.
#[derive(Debug)]
pub(super) struct Owned {
    pub epoch: Epoch,
    pub resume: Resume,
    /// The number of the last commit of each side.
    pub numbers: CommitNumbers,
    pub assignment: u64,
    /// Whether the group's offset is not committed yet.
    pub establish: bool,
    /// The redo plan of the offsets by which the rows are ahead of the outputs.
    pub plan: Option<Plan>,
}

impl Owned {
    pub(super) fn position(&self) -> Position {
        Position { resume: self.resume, numbers: self.numbers }
    }
}

/// The current batch: everything that must stay the same across attempts.
pub(super) struct Current<'a> {
    pub batch: &'a RecordBatch,
    pub revision: Arc<Revision>,
    /// The batch's time in Unix milliseconds.
    pub time: i64,
    /// The number of times that it was rejected with an error that may be the fault of its events or of the server.
    pub tried: u32,
    /// The events that were interrupted at their deadline.
    pub overdue: Overdues,
    /// The time for which all attempts have failed in Kafka.
    pub stuck: StuckOutage,
}

impl Current<'_> {
    /// Returns these records of the batch, by their indexes.
    pub(super) fn batch<'b>(&'b self, work: &'b [usize]) -> Batch<'b> {
        Batch { records: self.batch, work, time: self.time }
    }
}
