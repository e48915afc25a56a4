//! The error type of xtask. Its messages are for people: what happened, to what, and what to do.

use std::fmt;

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A message for the user and the exit code of the program: 1 for a failure, 2 for wrong arguments, 3 for a missing
/// part of the environment.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub code: u8,
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Self {
        Failure { message: message.into(), code: 1 }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Failure { message: message.into(), code: 2 }
    }

    pub fn environment(message: impl Into<String>) -> Self {
        Failure { message: message.into(), code: 3 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Adds to an I/O error what it happened to.
pub trait Context<T> {
    /// Returns an environment failure (exit code 3) with `what` before the cause. `what` is only formatted on failure.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Failure::environment(format!("{}: {cause}", what())))
    }
}
