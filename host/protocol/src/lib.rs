//! How far a partition's effects reach, and where its owner goes on. Decisions only: no I/O, no clock, no state. The engine
//! does what they say, and the model in tests/model explores every order of events around these same functions.
//!
//! # Background
//!
//! Every batch of a partition, a range `[lo, hi)` of offsets, has effects on two sides: rows in PostgreSQL, and outputs
//! and dead letters in Kafka. Each side keeps its own next offset in the same transaction as its effects: D (`next_off`
//! of the progress row) and K (what the consumer group committed). PostgreSQL's commit is the decision; Kafka's
//! transaction is prepared before it and concluded after it, so D ≥ K, and both are equal or one batch apart.
//!
//! # Takeover
//!
//! A new owner waits until K is stable, raises the row's epoch (an older owner's commit then matches no row), and reads D:
//!
//! | found | meaning | what happens |
//! |---|---|---|
//! | neither | first start | the start policy |
//! | K = D | nothing is open | go on |
//! | prev ≤ K < D | it crashed between the two commits | `[K, D)` once more, to Kafka only |
//! | K > D | PostgreSQL lost commits (a failover) | `[D, K)` once more, to PostgreSQL only |
//! | K, no D | Tollgate's tables are new, or the group is not ours alone | halt |
//! | D, no K | the group's offsets are gone | halt |
//! | K < prev | the group's offsets were moved | halt |
//!
//! What is repeated to Kafka is not decided anew. The transaction that moves D stores the batch's redo plan in the same row
//! (`host/src/progress/plan.rs`), and `[K, D)` is produced from it: rows and outputs agree whatever has been swapped since.
//! What is repeated to PostgreSQL is decided by the revision that runs then, and its outputs have left before.

pub mod position;

use position::{NextOffset, Offset};

/// The progress row of a partition, as a takeover reads it after raising the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub next: NextOffset,
    pub prev: NextOffset,
}

/// Where a partition goes on, and what the two sides have had already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Rows reflect exactly the offsets below this.
    pub rows: NextOffset,
    /// Outputs and dead letters exist for exactly the offsets below this.
    pub outputs: NextOffset,
}

/// A combination that no run of the protocol leaves behind. Nobody but a person can say what is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error("the consumer group has committed offset {group}, but there is no progress row: Tollgate did not write it")]
    NoProgress { group: NextOffset },
    #[error("the progress row stands at offset {row}, but the consumer group has no committed offset")]
    NoGroupOffset { row: NextOffset },
    #[error("the consumer group stands at offset {group}, before the last batch [{prev}, {next}): somebody moved it")]
    GroupMoved { group: NextOffset, prev: NextOffset, next: NextOffset },
}

/// What a takeover has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Neither side has seen the partition: the start policy says where to begin.
    Start,
    /// The row was written and nothing else: the group's offset must be committed before the first batch, so that
    /// a group offset that is missing later means that it was lost.
    Establish(Resume),
    Resume(Resume),
}

/// The table above, for a pipeline that delivers effectively once.
pub fn takeover(group: Option<NextOffset>, row: Option<Row>) -> Result<Takeover, Halt> {
    match (group, row) {
        (None, None) => Ok(Takeover::Start),
        (Some(group), None) => Err(Halt::NoProgress { group }),
        (None, Some(row)) if row.prev == row.next => Ok(Takeover::Establish(Resume::at(row.next))),
        (None, Some(row)) => Err(Halt::NoGroupOffset { row: row.next }),
        (Some(group), Some(row)) if group < row.prev => Err(Halt::GroupMoved { group, prev: row.prev, next: row.next }),
        (Some(group), Some(row)) => Ok(Takeover::Resume(Resume { rows: row.next, outputs: group })),
    }
}

/// The same for `at_least_once`: rows are still guarded by the progress row, outputs were flushed before it moved,
/// and the group's offset is only a hint for other tools.
pub fn takeover_at_least_once(group: Option<NextOffset>, row: Option<Row>) -> Takeover {
    match (group, row) {
        (None, None) => Takeover::Start,
        (Some(group), None) => Takeover::Resume(Resume::at(group)),
        (_, Some(row)) => Takeover::Resume(Resume::at(row.next)),
    }
}

impl Resume {
    pub fn at(offset: NextOffset) -> Resume {
        Resume { rows: offset, outputs: offset }
    }

    /// Where to begin reading.
    pub fn begin(self) -> NextOffset {
        self.rows.min(self.outputs)
    }

    /// Below this the two sides are not level, and a batch must not cross it.
    pub fn level(self) -> NextOffset {
        self.rows.max(self.outputs)
    }

    /// Whether an attempt takes the record; `below`: it has taken one below the level. It ends at the level then: what lies
    /// beyond would move the row on while the group is still before its last batch, and a crash there cannot be mended.
    pub fn takes(self, offset: Offset, below: bool) -> bool {
        !self.begin().is_past(offset) && (self.level().is_past(offset) || !below)
    }

    /// Which sides still need the record.
    pub fn needs(self, offset: Offset) -> Sides {
        Sides { rows: !self.rows.is_past(offset), outputs: !self.outputs.is_past(offset) }
    }
}

/// What a lane learns when it asks the progress row of a partition that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Rows reach this far: a commit whose reply was lost has moved the row, or has not.
    At(NextOffset),
    /// The row went back to this: PostgreSQL has lost commits. Only a takeover knows what to repeat.
    WentBack(NextOffset),
    /// Another owner has raised the epoch.
    Fenced,
}

/// How to read the row's epoch and next offset, as found, for a lane that holds the partition at `epoch` and left it at `at`.
pub fn standing(epoch: i64, at: NextOffset, found: Option<(i64, NextOffset)>) -> Standing {
    match found {
        Some((now, next)) if now == epoch && next >= at => Standing::At(next),
        Some((now, next)) if now == epoch => Standing::WentBack(next),
        _ => Standing::Fenced,
    }
}

/// Which of the two sides a record still has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    pub rows: bool,
    pub outputs: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prev: i64, next: i64) -> Option<Row> {
        Some(Row { next: NextOffset(next), prev: NextOffset(prev) })
    }

    fn group(offset: i64) -> Option<NextOffset> {
        Some(NextOffset(offset))
    }

    fn resume(rows: i64, outputs: i64) -> Result<Takeover, Halt> {
        Ok(Takeover::Resume(Resume { rows: NextOffset(rows), outputs: NextOffset(outputs) }))
    }

    #[test]
    fn every_line_of_the_takeover_table() {
        assert_eq!(takeover(None, None), Ok(Takeover::Start));
        assert_eq!(takeover(group(20), row(10, 20)), resume(20, 20));
        assert_eq!(takeover(group(10), row(10, 20)), resume(20, 10));
        assert_eq!(takeover(group(15), row(10, 20)), resume(20, 15), "a repeat that was cut short");
        assert_eq!(takeover(group(30), row(10, 20)), resume(20, 30));
        assert_eq!(takeover(None, row(7, 7)), Ok(Takeover::Establish(Resume::at(NextOffset(7)))));
        assert_eq!(takeover(group(5), None), Err(Halt::NoProgress { group: NextOffset(5) }));
        assert_eq!(takeover(None, row(10, 20)), Err(Halt::NoGroupOffset { row: NextOffset(20) }));
        let moved = Halt::GroupMoved { group: NextOffset(9), prev: NextOffset(10), next: NextOffset(20) };
        assert_eq!(takeover(group(9), row(10, 20)), Err(moved));
    }

    #[test]
    fn each_side_gets_each_record_once() {
        let resume = Resume { rows: NextOffset(20), outputs: NextOffset(15) };
        assert_eq!(resume.begin(), NextOffset(15));
        assert_eq!(resume.level(), NextOffset(20));
        for offset in 0..30 {
            let sides = resume.needs(Offset(offset));
            assert_eq!(sides.rows, offset >= 20);
            assert_eq!(sides.outputs, offset >= 15);
        }
    }

    #[test]
    fn an_attempt_ends_where_the_sides_are_level() {
        let behind = Resume { rows: NextOffset(20), outputs: NextOffset(15) };
        let taken =
            |resume: Resume, below| (10..25).filter(|offset| resume.takes(Offset(*offset), below)).collect::<Vec<_>>();
        assert_eq!(taken(behind, true), (15..20).collect::<Vec<_>>());
        assert_eq!(taken(behind, false), (15..25).collect::<Vec<_>>(), "nothing below the level is left");
        assert_eq!(taken(Resume::at(NextOffset(20)), false), (20..25).collect::<Vec<_>>());
    }

    #[test]
    fn every_answer_of_the_row() {
        let at = |next| Some((7, NextOffset(next)));
        assert_eq!(standing(7, NextOffset(20), at(20)), Standing::At(NextOffset(20)));
        assert_eq!(standing(7, NextOffset(20), at(30)), Standing::At(NextOffset(30)));
        assert_eq!(standing(7, NextOffset(20), at(10)), Standing::WentBack(NextOffset(10)));
        assert_eq!(standing(6, NextOffset(20), at(20)), Standing::Fenced);
        assert_eq!(standing(7, NextOffset(20), None), Standing::Fenced);
    }

    #[test]
    fn at_least_once_trusts_the_row_before_the_group() {
        assert_eq!(takeover_at_least_once(None, None), Takeover::Start);
        assert_eq!(takeover_at_least_once(group(9), row(10, 20)), Takeover::Resume(Resume::at(NextOffset(20))));
        assert_eq!(takeover_at_least_once(group(9), None), Takeover::Resume(Resume::at(NextOffset(9))));
    }
}
