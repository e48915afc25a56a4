//! The reason why the contract rejected a payload: a stable code, the field, and a sentence for the person who fixes
//! it.

use std::fmt;

use crate::Violation;
use crate::rules::Findings;

/// The stable name of a reason. Each has a page in `docs/reasons/<code>.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonCode {
    /// The bytes are not a Protobuf message at all.
    Undecodable,
    /// A field of the contract arrived with another wire type.
    WrongWireType,
    /// A `string` that is not UTF-8.
    InvalidUtf8,
    /// A field number (or JSON key) that the contract does not have, if the policy rejects these.
    UnknownField,
    /// An enum number (or JSON name) that the contract does not have.
    UnknownEnum,
    /// A proto2 `required` field that is not set.
    MissingRequired,
    /// A proto2 group (or an editions field with delimited encoding) that the contract declares.
    GroupField,
    /// More bytes than the contract allows.
    TooLarge,
    /// Messages nested deeper than the contract allows.
    RecursionLimit,
    /// Text that is not JSON.
    JsonInvalid,
    /// JSON whose value does not fit the field's type.
    JsonWrongType,
    /// Two JSON members for one field, if the policy rejects these.
    JsonDuplicateMember,
    /// A valid message that Protobuf's JSON mapping cannot express.
    NoJsonForm,
    /// A valid message whose values violate the contract's rules.
    RuleViolated,
    /// A rule that cannot be evaluated on this message.
    RuleFailed,
    /// An unset oneof, if the policy rejects these.
    OneofUnset,
    /// An unset oneof next to a field number that the contract does not have.
    UnknownVariant,
    /// A timestamp too far from the batch's time.
    ClockSkew,
}

impl ReasonCode {
    /// All codes: for the test that compares them with the pages, and for metrics that have all labels from the start.
    pub const ALL: [Self; 18] = [
        Self::Undecodable,
        Self::WrongWireType,
        Self::InvalidUtf8,
        Self::UnknownField,
        Self::UnknownEnum,
        Self::MissingRequired,
        Self::GroupField,
        Self::TooLarge,
        Self::RecursionLimit,
        Self::JsonInvalid,
        Self::JsonWrongType,
        Self::JsonDuplicateMember,
        Self::NoJsonForm,
        Self::RuleViolated,
        Self::RuleFailed,
        Self::OneofUnset,
        Self::UnknownVariant,
        Self::ClockSkew,
    ];

    /// Returns whether a payload with this rejection can be read anyway: a rule or a policy rejects it, not the
    /// decoder.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        match self {
            Self::UnknownField
            | Self::UnknownEnum
            | Self::JsonDuplicateMember
            | Self::RuleViolated
            | Self::RuleFailed
            | Self::OneofUnset
            | Self::UnknownVariant
            | Self::ClockSkew => true,
            Self::Undecodable
            | Self::WrongWireType
            | Self::InvalidUtf8
            | Self::MissingRequired
            | Self::GroupField
            | Self::TooLarge
            | Self::RecursionLimit
            | Self::JsonInvalid
            | Self::JsonWrongType
            | Self::NoJsonForm => false,
        }
    }

    /// Returns the code as written in headers, metrics and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::WrongWireType => "wrong-wire-type",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::UnknownField => "unknown-field",
            Self::UnknownEnum => "unknown-enum",
            Self::MissingRequired => "missing-required",
            Self::GroupField => "group-field",
            Self::TooLarge => "too-large",
            Self::RecursionLimit => "recursion-limit",
            Self::JsonInvalid => "json-invalid",
            Self::JsonWrongType => "json-wrong-type",
            Self::JsonDuplicateMember => "json-duplicate-member",
            Self::NoJsonForm => "no-json-form",
            Self::RuleViolated => "rule-violated",
            Self::RuleFailed => "rule-failed",
            Self::OneofUnset => "oneof-unset",
            Self::UnknownVariant => "unknown-variant",
            Self::ClockSkew => "clock-skew",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The payload's fault (poison): which rule it violates, where, and a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}{}{message}", .field, if .field.is_empty() { "" } else { ": " })]
pub struct Rejection {
    pub code: ReasonCode,
    /// The dotted path of the field, with `[index]` or `["key"]` inside lists and maps. It is empty if the whole
    /// payload is at fault.
    pub field: String,
    /// A description in lower case without a full stop. It is safe to show: it contains names and numbers of the
    /// schema, and how far a timestamp is off, but no field values. The text of a rule written in CEL is its author's.
    pub message: String,
    /// Every rule that the message violates, up to 20; empty for other codes. The code, field and message above
    /// describe the first.
    pub violations: Vec<Violation>,
}

impl Rejection {
    /// Creates a rejection that is not caused by a rule.
    pub(crate) fn new(code: ReasonCode, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, field: field.into(), message: message.into(), violations: Vec::new() }
    }

    /// Returns the id of the first rule that the message violates.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.violations.first().map(|violation| violation.rule.as_str())
    }

    /// Converts the findings of the rules' evaluation, if there are any.
    pub(crate) fn of(findings: Findings) -> Option<Self> {
        let (code, violations) = match findings.failure {
            Some(failure) => (ReasonCode::RuleFailed, vec![failure]),
            None => (ReasonCode::RuleViolated, findings.violations),
        };
        let first = violations.first()?;
        let more = match violations.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        let message = format!("{} ({}){more}", first.message, first.rule);
        Some(Self { code, field: first.field.clone(), message, violations })
    }
}

/// A rejection on its way out of nested messages: every level adds its step, innermost first.
#[derive(Debug)]
pub(crate) struct Fault {
    pub code: ReasonCode,
    pub message: String,
    steps: Vec<String>,
}

impl Fault {
    #[cold]
    pub(crate) fn new(code: ReasonCode, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, message: message.into(), steps: Vec::new() })
    }

    /// Adds the next outer step; an empty one (a map entry's value, which its key already names) adds nothing.
    #[cold]
    pub(crate) fn within(mut self: Box<Self>, step: impl Into<String>) -> Box<Self> {
        let step = step.into();
        if !step.is_empty() {
            self.steps.push(step);
        }
        self
    }

    pub(crate) fn into_rejection(self) -> Rejection {
        let mut field = String::new();
        for step in self.steps.iter().rev() {
            if !field.is_empty() && !step.starts_with('[') {
                field.push('.');
            }
            field.push_str(step);
        }
        Rejection::new(self.code, field, self.message)
    }
}
