//! The levels of a transform's log lines.

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the transform's author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd, but the event continues.
    Warn,
    /// Something is wrong.
    Error,
}
