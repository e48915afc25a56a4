//! How an event is settled.

use std::borrow::Cow;

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an event is settled by the verdict that the transform returns"]
pub enum Verdict {
    /// The event goes on with the very bytes it came with: changes to `event` are not sent, those by
    /// `set_key` and `set_header` are. Nothing may have been emitted.
    Pass,
    /// What was emitted goes on in the event's place. Where nothing was emitted to the main output, the event itself does,
    /// encoded anew: what was emitted to routes goes beside it.
    Replace,
    /// Only what was emitted goes on, at least one output: an event that was emitted to routes alone is withheld from the main
    /// output.
    Emitted,
    /// The event ends here and is counted.
    Drop,
    /// The event becomes a dead letter.
    Reject(Rejection),
}

/// Why an event is refused: what the dead letter says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What programs go by: lower case letters, digits, `_`, `-` and `.`, at most 64 bytes.
    pub code: Cow<'static, str>,
    /// The path of the field at fault, empty where it is no single field's.
    pub field: Cow<'static, str>,
    /// A sentence for a person.
    pub message: Cow<'static, str>,
}

impl Rejection {
    /// A reason with its code, the field at fault and a sentence; see the fields for their rules.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code: code.into(), field: field.into(), message: message.into() }
    }
}

impl From<Rejection> for Verdict {
    fn from(reason: Rejection) -> Self {
        Self::Reject(reason)
    }
}

/// So that checks can be small functions joined by `?`.
impl From<Result<(), Rejection>> for Verdict {
    fn from(checked: Result<(), Rejection>) -> Self {
        checked.map_or_else(Self::Reject, |()| Self::Pass)
    }
}

/// So that an enrichment can refuse by `?` and say otherwise how the event goes on.
impl From<Result<Verdict, Rejection>> for Verdict {
    fn from(settled: Result<Verdict, Rejection>) -> Self {
        settled.unwrap_or_else(Self::Reject)
    }
}
