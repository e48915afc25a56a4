//! Four classes of error, and who does what about them.

use std::fmt;

/// What an error means for the event, the lane and the process. Every error type says its class in one exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The event's fault: a dead letter, and on.
    Poison,
    /// The world's: back off, do not advance, never dead-letter.
    Transient,
    /// The event's fault or the world's: some attempts tell. Events that are refused alone after those are dead letters.
    Unknown,
    /// Ours or the operator's: stop with a message.
    Fatal,
}

/// How the process ends: the exit codes of docs/exit-codes.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Configuration = 2,
    Environment = 3,
}

/// An error at the command line's edge: what happened and the exit code it means.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// A stable dotted code for `--output json`.
    pub code: &'static str,
    pub message: String,
    /// What there is to show all the same, as for a the command line's `Success`.
    pub result: serde_json::Value,
    pub text: String,
}

impl Failure {
    fn new(exit: Exit, code: &'static str, message: &dyn fmt::Display) -> Failure {
        Failure { exit, code, message: message.to_string(), result: serde_json::Value::Null, text: String::new() }
    }

    /// With a report that stands on stdout, as JSON or as text.
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
