//! Positions in a partition: the offset of a processed record and the next offset to read are different types, and one
//! function converts between them.

use std::fmt;

/// A partition's number in the source topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(i32);

/// The offset of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

/// The offset to read next: the value that Kafka commits and that the progress row stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(i64);

/// Gives a number its type, and the number back, for the places where it comes from or goes to Kafka or PostgreSQL.
macro_rules! number {
    ($type:ident, $number:ty) => {
        impl $type {
            #[must_use]
            #[inline]
            pub const fn new(number: $number) -> $type {
                $type(number)
            }

            #[must_use]
            #[inline]
            pub const fn get(self) -> $number {
                self.0
            }
        }
    };
}

number!(Partition, i32);
number!(Offset, i64);
number!(NextOffset, i64);
number!(CommitNumber, i64);
number!(Epoch, i64);

impl Offset {
    /// Returns the offset after this one. No other function adds one to an offset.
    #[inline]
    pub fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

/// Counts the takeovers of a partition. Only the owner at the current epoch may commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

impl Epoch {
    /// Of a halt whose partition was not taken over.
    pub const NONE: Epoch = Epoch(0);
}

/// The number of a partition's commit. Inserting the progress row is the first; every later commit raises it by one,
/// even one that moves no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(i64);

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
    #[inline]
    pub fn is_past(self, offset: Offset) -> bool {
        offset.0 < self.0
    }

    /// Returns whether the record at `offset` still has to be processed.
    #[inline]
    pub fn lacks(self, offset: Offset) -> bool {
        !self.is_past(offset)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
