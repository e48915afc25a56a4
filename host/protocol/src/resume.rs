//! Where a partition continues: which records rows and outputs still lack, and the number of the next commit.

use crate::position::{CommitNumber, NextOffset, Offset};

/// The position at which a partition continues, and how far each side has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Rows contain exactly the offsets below this.
    pub rows: NextOffset,
    /// Outputs and dead letters exist for exactly the offsets below this.
    pub outputs: NextOffset,
}

impl Resume {
    pub fn at(offset: NextOffset) -> Resume {
        Resume { rows: offset, outputs: offset }
    }

    /// Returns where to begin reading.
    pub fn begin(self) -> NextOffset {
        self.rows.min(self.outputs)
    }

    /// Returns the offset up to which the two sides differ; a batch must not cross it.
    pub fn level(self) -> NextOffset {
        self.rows.max(self.outputs)
    }

    /// Returns whether an attempt takes the record. `below` means that it has already taken one below the level; it
    /// then ends at the level. Records beyond the level would move the row while the group is still before its last
    /// batch, and a crash then could not be repaired.
    pub fn takes(self, offset: Offset, below: bool) -> bool {
        !self.begin().is_past(offset) && (self.level().is_past(offset) || !below)
    }
}

/// The number of the last commit on each side. They differ while one side lacks what the other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitNumbers {
    pub rows: CommitNumber,
    pub outputs: CommitNumber,
}

impl CommitNumbers {
    pub fn at(number: CommitNumber) -> CommitNumbers {
        CommitNumbers { rows: number, outputs: number }
    }
}

/// Offsets and numbers of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub resume: Resume,
    pub numbers: CommitNumbers,
}

impl Position {
    /// Returns a position with both sides at the same offset, by the same commit.
    pub fn level(offset: NextOffset, number: CommitNumber) -> Position {
        Position { resume: Resume::at(offset), numbers: CommitNumbers::at(number) }
    }

    /// Returns the number of the commit whose last record is `last`.
    ///
    /// If rows and outputs both lack the record, the commit gets a new number. A repeat to one of them is not a new commit: that
    /// one keeps its number until it has caught up with the other, and then takes the other's number. So an interrupted repeat
    /// is recognized as one, whatever the sizes of its batches.
    pub fn number(self, last: Offset) -> CommitNumber {
        let Position { resume, numbers } = self;
        let hi = last.next();
        match (resume.rows.lacks(last), resume.outputs.lacks(last)) {
            (true, true) => numbers.rows.max(numbers.outputs).next(),
            (true, false) if hi >= resume.outputs => numbers.outputs,
            (false, true) if hi < resume.rows => numbers.outputs,
            (true, false) | (false, true) | (false, false) => numbers.rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(rows: (i64, i64), outputs: (i64, i64)) -> Position {
        Position {
            resume: Resume { rows: NextOffset::new(rows.0), outputs: NextOffset::new(outputs.0) },
            numbers: CommitNumbers { rows: CommitNumber::new(rows.1), outputs: CommitNumber::new(outputs.1) },
        }
    }

    #[test]
    fn each_side_gets_each_record_once() {
        let resume = Resume { rows: NextOffset::new(20), outputs: NextOffset::new(15) };
        assert_eq!(resume.begin(), NextOffset::new(15));
        assert_eq!(resume.level(), NextOffset::new(20));
        for offset in 0..30 {
            assert_eq!(resume.rows.lacks(Offset::new(offset)), offset >= 20);
            assert_eq!(resume.outputs.lacks(Offset::new(offset)), offset >= 15);
        }
    }

    #[test]
    fn an_attempt_ends_where_the_sides_are_level() {
        let behind = Resume { rows: NextOffset::new(20), outputs: NextOffset::new(15) };
        let taken = |resume: Resume, below| {
            (10..25).filter(|offset| resume.takes(Offset::new(*offset), below)).collect::<Vec<_>>()
        };
        assert_eq!(taken(behind, true), (15..20).collect::<Vec<_>>());
        assert_eq!(taken(behind, false), (15..25).collect::<Vec<_>>(), "nothing below the level is left");
        assert_eq!(taken(Resume::at(NextOffset::new(20)), false), (20..25).collect::<Vec<_>>());
    }

    #[test]
    fn a_commit_of_both_sides_raises_the_number_and_a_repeat_takes_the_others() {
        let number = |position: Position, hi: i64| position.number(Offset::new(hi - 1)).get();
        let level = position((20, 5), (20, 5));
        assert_eq!(number(level, 30), 6);
        let before_kafka = position((20, 5), (10, 4));
        assert_eq!(number(before_kafka, 15), 4, "cut short");
        assert_eq!(number(before_kafka, 20), 5);
        let lost_commits = position((20, 5), (60, 8));
        assert_eq!(number(lost_commits, 30), 5, "cut short");
        assert_eq!(number(lost_commits, 60), 8);
        assert_eq!(number(lost_commits, 70), 9, "no record was left to repeat");
    }
}
