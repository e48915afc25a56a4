//! Why a rule cannot be compiled, or an expression not be evaluated.

use cel::{DeclarationError, ExecutionError};

/// Why a rule cannot be compiled. The contract's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuleFault {
    #[error("{}", pattern(.0))]
    Pattern(#[from] regex::Error),
    #[error("the rule names no fields; name at least one")]
    NoFields,
    #[error("the message has no field {0}")]
    UnknownField(String),
    #[error("{0} is named twice; name it once")]
    FieldTwice(String),
    /// Our own functions do not fit the CEL library: a bug.
    #[error("{0}")]
    Environment(&'static DeclarationError),
    /// The parser's message has several lines and marks the position with an arrow.
    #[error("{}", .0.split_whitespace().collect::<Vec<_>>().join(" "))]
    Syntax(String),
    /// The expression fails on every value of its type.
    #[error("{0}")]
    Expression(#[from] ExecutionError),
    /// The expression selects a field that its message does not have.
    #[error("{0}")]
    Selection(String),
}

/// Why an expression has no result for a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unevaluated {
    #[error("{}", super::test::Unknown::NoClock.message())]
    NoClock,
    #[error("the value cannot be converted to CEL: {0}")]
    Value(ExecutionError),
    #[error("the expression cannot be evaluated: {0}")]
    Failed(#[from] ExecutionError),
}

/// The crate's message for a syntax error has several lines and an arrow; the last line has the reason.
fn pattern(error: &regex::Error) -> String {
    let text = error.to_string();
    match error {
        regex::Error::Syntax(_) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        _ => text,
    }
}
