//! Positions in a partition: the offset of a processed record and the next offset to read are different types, and one
//! function converts between them.

use std::fmt;

/// A partition's number in the source topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// The offset of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// The offset to read next: the value that Kafka commits and that the progress row stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(pub i64);

impl Offset {
    /// Returns the offset after this one. No other function adds one to an offset.
    pub fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

/// The number of a partition's commit. Inserting the progress row is the first; every later commit raises it by one,
/// even one that moves no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(pub i64);

impl CommitNumber {
    pub const FIRST: CommitNumber = CommitNumber(1);

    #[must_use]
    pub fn next(self) -> CommitNumber {
        CommitNumber(self.0.saturating_add(1))
    }

    #[must_use]
    pub fn before(self) -> CommitNumber {
        CommitNumber(self.0.saturating_sub(1))
    }
}

impl NextOffset {
    /// Returns whether the record at `offset` lies before this position and so has been processed.
    pub fn is_past(self, offset: Offset) -> bool {
        offset.0 < self.0
    }

    /// Returns whether the record at `offset` still has to be processed.
    pub fn lacks(self, offset: Offset) -> bool {
        !self.is_past(offset)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CommitNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
