//! The reasons why a value does not fit its column.

pub mod mapping;

/// The reason why a column cannot hold a value. The event becomes a dead letter before any server receives the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("{value} is out of the range of {into}")]
    Range { value: String, into: String },
    /// `scale`: the number of fractional digits that the column keeps.
    #[error("{value} has more digits than a column of scale {scale} keeps; `as: \"numeric(p,s)\"` rounds")]
    Digits { value: String, scale: i16 },
    #[error("the text holds a NUL character, which PostgreSQL cannot store")]
    Nul,
    #[error("{value:?} is not {expected}")]
    Format { value: String, expected: &'static str },
    #[error("{value:?} is not {expected}")]
    Time { value: String, expected: String },
    #[error("an element of the list has no value that an array accepts")]
    Element,
    #[error("the column is NOT NULL, and the event has no value for it")]
    Null,
    #[error("the field is not set, and `absent: reject` requires it")]
    Absent,
    #[error("the text has {length} characters, but the column accepts at most {most}")]
    TooLong { length: usize, most: usize },
    #[error("the value has no JSON form: {0}")]
    NoJson(String),
    #[error("the enum has no name for the number {number}")]
    NoName { number: i32 },
    #[error("{label:?} is not a label of the enum type {into}")]
    NoLabel { label: String, into: String },
}
