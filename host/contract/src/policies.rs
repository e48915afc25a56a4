//! What a contract allows beyond its types. Plain data; the pipeline's file is parsed elsewhere.
//!
//! Two groups. *Types*: what is unknown, how large, how deep; [`crate::Contract::check`] holds every payload against them, those
//! that a transform emits too. *Arrival*: what is noted and let pass, oneofs, the clock; only [`crate::Contract::admit`] looks at
//! these, since they say something about producers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{FieldPath, TimeSpec};

/// Field numbers and JSON keys that the contract does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownFields {
    /// Skipped and passed on untouched, so that producers may be newer than the gate.
    #[default]
    Allow,
    /// As [`UnknownFields::Allow`], and noted.
    Warn,
    Reject,
}

/// Enum numbers that the contract does not name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UnknownEnums {
    /// Refused: a number without a name cannot be stored by name.
    #[default]
    Reject,
    /// The number is kept. This holds for closed (proto2) enums too, which other parsers move to the unknown fields.
    Keep,
    /// Enum (full name) → name of the value that stands for what it does not name. Other enums' unknown numbers are refused.
    ///
    /// A check refuses all of them; [`crate::Contract::mend`] writes the payload that has the fallbacks in their places.
    Fallback(BTreeMap<String, String>),
}

/// A oneof of which nothing is set, in a message that carries nothing unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnsetOneofs {
    #[default]
    Allow,
    Reject,
}

/// A oneof of which nothing is set, in a message with field numbers that the contract does not have: so looks what a newer producer
/// sends whose oneof has one variant more. A new field beside the oneof looks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownVariants {
    Allow,
    /// Let pass and noted: it may be harmless, and nobody should find it out from empty columns.
    #[default]
    Warn,
    Reject,
}

/// What a column gets of a field without presence that is not on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// The type's default: zero, the empty text. So a reader of Protobuf would see it.
    #[default]
    Default,
    Null,
    Reject,
}

/// Members of a JSON object that stand for one field, or one map entry, twice: under one name, or under a field's own name and its
/// JSON name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DuplicateMembers {
    /// Refused: readers differ in which one they take, so the event would mean one thing here and another elsewhere.
    #[default]
    Reject,
    /// The last one counts.
    Last,
}

/// What becomes of an event that breaks a rule or a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It goes on, marked and counted, if it can be read at all.
    Observe,
    #[default]
    DeadLetter,
    /// The pipeline pauses.
    Halt,
}

/// How an integer tells a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Millis,
    Micros,
}

/// A timestamp field and how far from the batch's time it may lie. One that is not set is not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSkew {
    pub field: FieldPath,
    /// Of an integer since the epoch; none for `google.protobuf.Timestamp`.
    pub unit: Option<TimeUnit>,
    pub past: Option<Duration>,
    pub future: Option<Duration>,
}

/// A Timestamp field whose JSON may be in other forms than Protobuf's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coercion {
    /// Through messages, lists and the values of maps.
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
    /// The largest payload, in bytes, Protobuf or JSON.
    pub max_bytes: usize,
    /// How many levels messages may nest below the top one; map entries and unknown groups count. 1 to [`Policies::MAX_RECURSION`].
    pub recursion_limit: u32,
}

impl Policies {
    /// Protobuf's customary bound in every language, and the bound of the JSON transcoder behind this crate: a higher one would accept messages that cannot be shown.
    pub const MAX_RECURSION: u32 = 100;

    /// The same for a message type that does not arrive but leaves: without what is said of producers, and of enums and fields that
    /// this type need not have.
    #[must_use]
    pub fn leaving(&self) -> Self {
        let unknown_enums = match &self.unknown_enums {
            UnknownEnums::Keep => UnknownEnums::Keep,
            UnknownEnums::Reject | UnknownEnums::Fallback(_) => UnknownEnums::Reject,
        };
        Self { unknown_enums, clock_skew: Vec::new(), coerce: Vec::new(), ..self.clone() }
    }

    /// The same for the type that a foreign writer names: it is held against the schema's types and rules, and what the policies say
    /// of names that the reader lacks is the reader's own contract to tell.
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
            // Kafka's own default for a record batch (message.max.bytes).
            max_bytes: 1024 * 1024,
            recursion_limit: Self::MAX_RECURSION,
        }
    }
}
