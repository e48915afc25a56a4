//! The four classes of errors, and the reaction to each.

use std::fmt;

/// The consequence of an error for the event, the lane and the process. Every error type maps to a class in one
/// exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The event is at fault: it becomes a dead letter, and processing continues.
    Poison,
    /// A server or the network is at fault: back off, do not advance, never dead-letter.
    Transient,
    /// The event or a server is at fault: retry a limited number of times. Events that still fail alone become dead
    /// letters.
    Unknown,
    /// The program or its configuration is at fault: stop with a message.
    Fatal,
}

/// The exit codes of the process, as in docs/exit-codes.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Configuration = 2,
    Environment = 3,
}

/// An error reported by the command line: its message and exit code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// A stable code with dots, for `--output json`.
    pub code: &'static str,
    pub message: String,
    /// Results to print in spite of the error, as in the command line's `Success`.
    pub result: serde_json::Value,
    pub text: String,
}

impl Failure {
    fn new(exit: Exit, code: &'static str, message: &dyn fmt::Display) -> Failure {
        Failure { exit, code, message: message.to_string(), result: serde_json::Value::Null, text: String::new() }
    }

    /// Adds a report for stdout, as JSON and as text.
    #[must_use]
    pub fn with(mut self, result: serde_json::Value, text: String) -> Failure {
        self.result = result;
        self.text = text;
        self
    }

    pub fn failed(code: &'static str, message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Failed, code, &message)
    }

    pub fn configuration(code: &'static str, message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Configuration, code, &message)
    }

    pub fn environment(code: &'static str, message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Environment, code, &message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
