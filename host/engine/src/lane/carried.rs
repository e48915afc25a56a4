//! What a lane carries: its partitions, and the batch in work.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::doubt::Doubt;
use super::overdue::Overdues;
use crate::position::Partition;
use crate::progress::plan::Plan;
use crate::progress::{Numbers, Position, Resume, Sides};
use tollgate_decide::batch::{Record, RecordBatch};
use tollgate_decide::gate::Revision;

/// A partition in a lane's hands.
#[derive(Debug)]
pub(super) struct Owned {
    pub epoch: i64,
    pub resume: Resume,
    /// The last commit of each side.
    pub numbers: Numbers,
    pub assignment: u64,
    /// The group's offset is not committed yet.
    pub establish: bool,
    /// Where the rows are ahead: what was decided about the offsets up to there.
    pub plan: Option<Plan>,
}

impl Owned {
    pub(super) fn position(&self) -> Position {
        Position { resume: self.resume, numbers: self.numbers }
    }
}

/// Which sides a record still has to reach; neither, where its partition is not held.
pub(super) fn needs(partitions: &BTreeMap<Partition, Owned>, record: &Record) -> Sides {
    let owned = partitions.get(&record.partition);
    owned.map_or(Sides { rows: false, outputs: false }, |owned| owned.resume.needs(record.offset))
}

/// A batch that is under way: what must stay the same from attempt to attempt.
pub(super) struct Carried<'a> {
    pub batch: &'a RecordBatch,
    pub revision: Arc<Revision>,
    /// Unix milliseconds.
    pub time: i64,
    /// How often it was refused by what may be its events' fault or the server's.
    pub tried: u32,
    /// Its events that were interrupted at their deadline.
    pub overdue: Overdues,
    /// Since when Kafka fails all attempts.
    pub doubt: Doubt,
}
