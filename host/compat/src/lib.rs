//! Compares two versions of a set of contracts and reports what a change breaks: two descriptor pools in, findings out.
//!
//! Three questions are separate, because different people ask them:
//!
//! * *In which form?* A [`Category`] tells what a change affects: the bytes, JSON, generated code, or the table behind
//!   a pipeline. The first four include each other like those of `buf breaking` (wire ⊂ wire-json ⊂ package ⊂ file), so
//!   a project chooses its strictness by naming one.
//! * *For whom?* A [`Mode`] tells who must keep working, in the terms of schema registries. `backward`: consumers with
//!   the new contract read events of the old one; `forward`: consumers with the old contract read events of the new
//!   one; `full`: both. A rule has a [`Severity`] for each side, and changes that affect nobody in the chosen mode are
//!   not reported.
//! * *How badly?* `error`: events or programs stop working. `warning`: they may, depending on the actual values or on a
//!   consumer's policies. `info`: worth knowing.
//!
//! Elements are matched by full name, fields and enum values by number, since the number is on the wire. A change with
//! one cause is reported once: a field with another number under its old name is renumbered, not deleted and added.
//!
//! Not covered: whether two CEL expressions or two regular expressions accept the same values (a change of either *may*
//! tighten), options of plugins other than buf.validate, and changes of an edition beyond the features that a file can
//! set.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

mod bounds;
mod constraints;
pub mod describe;
mod differ;
mod element;
mod enums;
pub mod export;
mod extensions;
mod features;
mod fields;
mod files;
mod fingerprint;
mod messages;
mod numbers;
mod oneofs;
pub mod pages;
mod rule;
mod services;
mod slot;
mod types;

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, FileDescriptor};
use serde::Serialize;

pub use constraints::{Constraints, constraints, constraints_of_message, constraints_of_oneof, is_needed};
pub use element::{Element, comment, place};
pub use fingerprint::fingerprint;
pub use rule::{Category, RULES, Rule, Severity, find, rules};

/// The consumers that must keep working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New consumers read old events.
    Backward,
    /// Old consumers read new events.
    Forward,
    Full,
}

/// The strictness of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The widest of wire, wire-json, package and file that counts; findings about the sink are always reported.
    pub level: Category,
    pub mode: Mode,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Category::WireJson, mode: Mode::Full }
    }
}

/// The version of the contracts that contains a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Old,
    New,
}

/// A position in a `.proto` file. Line and column count from 1; both are 0 if the descriptors have no source
/// information.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub side: Side,
    /// The import name.
    pub file: String,
    pub line: usize,
    pub column: usize,
}

/// A change, and what to do about it ([`Rule::advice`]).
#[derive(Debug, Clone)]
pub struct Finding {
    pub rule: &'static Rule,
    /// The rule's severity for the chosen direction.
    pub severity: Severity,
    /// The full name; for a file, its name. Enum values are named below their enum.
    pub element: String,
    /// The element's position in the new version; if it was removed, the position of what contained it.
    pub place: Place,
    /// The element's position in the old version, if it was removed.
    pub was: Option<Place>,
    pub message: String,
}

/// Returns all findings, in the order of files and lines.
#[must_use]
pub fn compare(old: &DescriptorPool, new: &DescriptorPool, options: Options) -> Vec<Finding> {
    differ::Differ::new(old, new, None, options).run()
}

/// Works like [`compare`], but only on those files of the old version that are in `files`. So copies of Google's files
/// among them are compared, and imports found elsewhere are not.
#[must_use]
pub fn compare_files(
    old: &DescriptorPool,
    files: &BTreeSet<String>,
    new: &DescriptorPool,
    options: Options,
) -> Vec<Finding> {
    differ::Differ::new(old, new, Some(files), options).run()
}

/// Returns whether a file belongs to a user's contracts. Protobuf's own files and buf.validate's do not.
#[must_use]
pub fn is_own(file: &FileDescriptor) -> bool {
    !matches!(file.package_name(), "google.protobuf" | "buf.validate" | "google.protobuf.compiler")
}
