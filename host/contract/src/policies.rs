//! What a contract allows beyond its types. Plain data; the pipeline's file is parsed elsewhere.

/// Field numbers and JSON keys that the contract does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownFields {
    /// Skipped and passed on untouched, so that producers may be newer than the gate.
    #[default]
    Allow,
    Reject,
}

/// Enum numbers that the contract does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownEnums {
    /// Refused: a number without a name cannot be stored by name.
    #[default]
    Reject,
    /// The number is kept. This holds for closed (proto2) enums too, which other parsers move to the unknown fields.
    Keep,
}

/// The policies of one contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policies {
    pub unknown_fields: UnknownFields,
    pub unknown_enums: UnknownEnums,
    /// The largest payload, in bytes, Protobuf or JSON.
    pub max_bytes: usize,
    /// How many levels messages may nest below the top one; map entries and unknown groups count. 1 to [`Policies::MAX_RECURSION`].
    pub recursion_limit: u32,
}

impl Policies {
    /// Protobuf's customary bound in every language, and the bound of the JSON transcoder behind this crate: a higher one would accept messages that cannot be shown.
    pub const MAX_RECURSION: u32 = 100;
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            unknown_fields: UnknownFields::default(),
            unknown_enums: UnknownEnums::default(),
            // Kafka's own default for a record batch (message.max.bytes).
            max_bytes: 1024 * 1024,
            recursion_limit: Self::MAX_RECURSION,
        }
    }
}
