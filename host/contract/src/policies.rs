//! A contract's policies beyond its types. Plain data; the pipeline's file is parsed elsewhere.
//!
//! There are two groups. *Types* (unknown fields and values, size, depth) are applied by [`crate::Contract::check`] to
//! every payload, including a transform's output. *Arrival* (accepted with a note, oneofs, the clock) is applied only
//! by [`crate::Contract::admit`], since these policies are about producers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{FieldPath, TimeSpec};

/// Field numbers and JSON keys that the contract does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownFields {
    /// They are skipped and passed on unchanged, so that producers may be newer than the gate.
    #[default]
    Allow,
    /// They are treated as with [`UnknownFields::Allow`], and noted.
    Warn,
    Reject,
}

/// Enum numbers that the contract does not name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UnknownEnums {
    /// They are rejected, because a number without a name cannot be stored by name.
    #[default]
    Reject,
    /// The number is kept. This holds for closed (proto2) enums too, which other parsers move to the unknown fields.
    Keep,
    /// Each enum (by full name) has the name of a value that replaces unknown ones. Unknown numbers of other enums are
    /// rejected.
    ///
    /// A check rejects all of them; [`crate::Contract::apply_fallbacks`] writes the payload with the fallbacks in their places.
    Fallback(BTreeMap<String, String>),
}

/// An unset oneof in a message without unknown fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnsetOneofs {
    #[default]
    Allow,
    Reject,
}

/// An unset oneof in a message with unknown field numbers: a newer producer's message looks like this if its oneof has
/// an additional variant. An additional field outside the oneof looks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownVariants {
    Allow,
    /// They are accepted with a note: this may be harmless, but it should not first be noticed by empty columns.
    #[default]
    Warn,
    Reject,
}

/// The column value of a field without presence that is not on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// The type's default (zero, the empty text), as Protobuf readers see it.
    #[default]
    Default,
    Null,
    Reject,
}

/// Duplicate members of a JSON object for one field or map entry: under one name, or under a field's own name and its
/// JSON name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DuplicateMembers {
    /// They are rejected: readers differ in which one they use, so the event would have different meanings in different
    /// places.
    #[default]
    Reject,
    /// The last one counts.
    Last,
}

/// What to do with an event that violates a rule or a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The event is accepted, marked and counted, if it can be read at all.
    Observe,
    #[default]
    DeadLetter,
    /// The pipeline pauses.
    Halt,
}

/// The way in which an integer encodes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Millis,
    Micros,
}

/// A timestamp field, and how far it may lie from the batch's time. An unset field is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSkew {
    pub field: FieldPath,
    /// The unit of an integer since the epoch; `None` for `google.protobuf.Timestamp`.
    pub unit: Option<TimeUnit>,
    pub past: Option<Duration>,
    pub future: Option<Duration>,
}

/// A Timestamp field whose JSON may have other forms than Protobuf's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coercion {
    /// The path through messages, lists and the values of maps.
    pub field: FieldPath,
    pub time: TimeSpec,
}

/// The policies of one contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    pub unknown_fields: UnknownFields,
    pub unknown_enums: UnknownEnums,
    pub unset_oneofs: UnsetOneofs,
    pub unknown_variants: UnknownVariants,
    pub duplicate_members: DuplicateMembers,
    pub absent: Absent,
    pub clock_skew: Vec<ClockSkew>,
    pub coerce: Vec<Coercion>,
    pub mode: Mode,
    /// The maximum size of a payload in bytes, as Protobuf or as JSON.
    pub max_bytes: usize,
    /// The number of levels that messages may nest below the top one, including map entries and unknown groups. It is 1
    /// to [`Policies::MAX_RECURSION`].
    pub recursion_limit: u32,
}

impl Policies {
    /// The usual limit of Protobuf and of this crate's JSON transcoder. With a higher limit some messages could not be
    /// shown.
    pub const MAX_RECURSION: u32 = 100;

    /// Returns the policies for an output message type. Policies about producers are left out, as are those about enums
    /// and fields that this type may lack.
    #[must_use]
    pub fn leaving(&self) -> Self {
        let unknown_enums = match &self.unknown_enums {
            UnknownEnums::Keep => UnknownEnums::Keep,
            UnknownEnums::Reject | UnknownEnums::Fallback(_) => UnknownEnums::Reject,
        };
        Self { unknown_enums, clock_skew: Vec::new(), coerce: Vec::new(), ..self.clone() }
    }

    /// Returns the policies for a foreign writer's type: it is checked against the schema's types and rules, and
    /// policies about names that only the reader's contract has do not apply.
    #[must_use]
    pub fn foreign(&self) -> Self {
        let unknown_enums = match &self.unknown_enums {
            UnknownEnums::Reject => UnknownEnums::Reject,
            UnknownEnums::Keep | UnknownEnums::Fallback(_) => UnknownEnums::Keep,
        };
        Self { unknown_enums, clock_skew: Vec::new(), coerce: Vec::new(), ..self.clone() }
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            unknown_fields: UnknownFields::default(),
            unknown_enums: UnknownEnums::default(),
            unset_oneofs: UnsetOneofs::default(),
            unknown_variants: UnknownVariants::default(),
            duplicate_members: DuplicateMembers::default(),
            absent: Absent::default(),
            clock_skew: Vec::new(),
            coerce: Vec::new(),
            mode: Mode::default(),
            // Kafka's default for a record batch (message.max.bytes).
            max_bytes: 1024 * 1024,
            recursion_limit: Self::MAX_RECURSION,
        }
    }
}
