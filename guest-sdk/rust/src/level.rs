//! The levels of a transform's log lines.

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever wrote the transform.
    Debug,
    /// For whoever runs it.
    Info,
    /// Something is odd, the event goes on.
    Warn,
    /// Something is wrong.
    Error,
}
