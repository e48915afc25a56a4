//! One error type for a tool that a person reads: what happened, to what, what to do.

use std::fmt;

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A message for the person at the terminal and the exit code it ends in: 1 failed, 2 wrong arguments, 3 environment.
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

/// Says to what an I/O error happened.
pub trait Context<T> {
    /// An environment failure (exit code 3) with `what` before the cause; `what` is only formatted on failure.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Failure::environment(format!("{}: {cause}", what())))
    }
}
