//! `postgres.partitions:` partitions by time that are created ahead.

/// Partitions by range of a time column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// `column:` a key column; timestamptz, timestamp or date.
    pub column: String,
    /// `every:` how much time a partition holds.
    pub every: Every,
    /// `ahead:` how many partitions there are after the one of now.
    pub ahead: u32,
}

/// A span of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    Day,
    /// From Monday, as ISO 8601 counts weeks.
    Week,
    Month,
    Year,
}

impl Every {
    pub const ALL: [(&'static str, Every); 4] =
        [("day", Every::Day), ("week", Every::Week), ("month", Every::Month), ("year", Every::Year)];
}
