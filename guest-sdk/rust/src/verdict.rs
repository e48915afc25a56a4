//! The way in which an event is settled.

use std::borrow::Cow;

/// The verdict on an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an event is settled by the verdict that the transform returns"]
pub enum Verdict {
    /// The event continues with its original bytes: changes to `event` are not sent, those by `set_key` and
    /// `set_header` are. Nothing may have been emitted.
    Pass,
    /// The emitted outputs continue in the event's place. If nothing was emitted to the main output, the event itself
    /// is sent there, encoded again; outputs to routes are sent in addition.
    Replace,
    /// Only the emitted outputs continue, at least one: an event that was emitted only to routes is withheld from the
    /// main output.
    Emitted,
    /// The event is discarded; only a counter records it.
    Drop,
    /// The event becomes a dead letter.
    Reject(Rejection),
}

/// The reason why an event is rejected, as shown in the dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The code for programs: lower case letters, digits, `_`, `-` and `.`, at most 64 bytes.
    pub code: Cow<'static, str>,
    /// The path of the field at fault, empty if it is not a single field's.
    pub field: Cow<'static, str>,
    /// A sentence for a person.
    pub message: Cow<'static, str>,
}

impl Rejection {
    /// Creates a reason with its code, the field at fault and a sentence; see the fields for their rules.
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

/// Lets checks be small functions joined by `?`.
impl From<Result<(), Rejection>> for Verdict {
    fn from(checked: Result<(), Rejection>) -> Self {
        checked.map_or_else(Self::Reject, |()| Self::Pass)
    }
}

/// Lets an enrichment reject with `?` and otherwise return any verdict.
impl From<Result<Verdict, Rejection>> for Verdict {
    fn from(settled: Result<Verdict, Rejection>) -> Self {
        settled.unwrap_or_else(Self::Reject)
    }
}
