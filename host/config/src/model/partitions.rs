//! `postgres.partitions:` partitions by time that are created in advance.

/// Partitions by ranges of a time column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// `column:` a key column; timestamptz, timestamp or date.
    pub column: String,
    /// `every:` the time span of a partition.
    pub every: Every,
    /// `ahead:` the number of partitions after the current one.
    pub ahead: u32,
}

/// A span of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    Day,
    /// Begins on Monday, as in ISO 8601.
    Week,
    Month,
    Year,
}

impl Every {
    pub const ALL: [(&'static str, Every); 4] =
        [("day", Every::Day), ("week", Every::Week), ("month", Every::Month), ("year", Every::Year)];
}
