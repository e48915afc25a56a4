//! Checks bytes against a Protobuf contract and reads the fields that a sink needs. No I/O.
//!
//! [`Contract::compile`] turns a message descriptor, the policies and the wanted field paths into a plan;
//! [`Contract::check`] walks the wire bytes once and leaves the wanted values in [`Fields`], borrowed from the payload;
//! [`Contract::admit`] does the same for an arriving payload, with additional policies.
//! [`Contract::transcode_json`] converts JSON to the same wire bytes, [`Contract::to_json`] converts them to text.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

// I14: no dependency of this crate does I/O, which `cargo xtask tidy` checks.
mod check;
mod contract;
mod decimal;
mod digest;
mod editions;
mod encoding;
mod error;
mod fields;
pub mod frame;
pub mod iso;
mod json;
mod key;
mod member;
mod notes;
mod plan;
mod policies;
mod rejection;
mod rules;
mod schema;
mod source;
mod text;
mod time_spec;
mod type_name;
mod visible;
mod well_known;
mod wire;

pub use contract::Contract;
pub use decimal::{decimal, double_text};
pub use editions::{UnknownEdition, edition_source, features_of_options, flag, is_closed, lower_editions, syntax};
pub use encoding::CanonicalHash;
pub use error::CompileError;
pub use fields::{Fields, List, Slot, Value};
pub use json::{Names, read_json, show_json, show_json_with};
pub use key::{IdempotencyHash, record_key, text_of};
pub use member::{find_member, find_members};
pub use notes::{Member, Note, Notes, Policy, Replaced};
pub use policies::{
    Absent, ClockSkew, Coercion, DuplicateMembers, Mode, Policies, TimeUnit, UnknownEnums, UnknownFields,
    UnknownVariants, UnsetOneofs,
};
pub use rejection::{ReasonCode, Rejection};
pub use rules::Violation;
pub use schema::{EnumTable, FieldInfo, FieldPath, Kind, Presence};
pub use source::{CompileSchema, InvalidSchema, ProtoFile, Source};
pub use text::Text;
pub use time_spec::{Between, Moment, TimeForm, TimeInput, TimeSpec};
pub use type_name::type_name;
pub use visible::{escape_marks, visible};
pub use well_known::{
    Civil, CivilTime, date_parts, date_time_parts, decimal_text, duration_parts, money_parts, time_of_day_parts,
    timestamp_micros, timestamp_parts,
};
