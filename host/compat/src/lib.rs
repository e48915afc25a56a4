//! What changed between two versions of a set of contracts, and whom it breaks: two descriptor pools in, findings out.
//!
//! Three questions are kept apart, because different people ask them:
//!
//! * *In which form?* A [`Category`] says where a change hurts: in the bytes, in JSON, in generated code, in the table behind
//!   a pipeline. The first four contain each other as `buf breaking`'s do (wire ⊂ wire-json ⊂ package ⊂ file), so a
//!   project chooses how strict it is by naming one.
//! * *To whom?* A [`Mode`] says who must go on working, in the words of schema registries: `backward`: consumers with the
//!   new contract read events of the old one; `forward`: consumers with the old contract read events of the new one;
//!   `full`: both. A rule carries a [`Severity`] for each side, and what concerns nobody in the chosen mode is not reported.
//! * *How badly?* `error`: events or programs that worked stop working. `warning`: they may, depending on the values that
//!   occur or on a consumer's policies. `info`: worth knowing.
//!
//! Elements are matched by full name, fields and enum values by number: that is what stands on the wire. A change is
//! reported where it has one cause: a field with another number under its old name is renumbered, not deleted and added.
//!
//! Not covered: whether two CEL expressions or two regular expressions accept the same values (a change of either *may*
//! tighten), options of plugins other than buf.validate, and what another edition changes beyond the features that a file
//! can set.

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

/// Who must go on working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New consumers read old events.
    Backward,
    /// Old consumers read new events.
    Forward,
    Full,
}

/// How strict a comparison is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The widest of wire, wire-json, package and file that counts; findings about the sink are never left out.
    pub level: Category,
    pub mode: Mode,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Category::WireJson, mode: Mode::Full }
    }
}

/// Which version of the contracts a place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Old,
    New,
}

/// A place in a `.proto` file. Line and column count from 1; both are 0 where the descriptors carry no source information.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub side: Side,
    /// As imports write it.
    pub file: String,
    pub line: usize,
    pub column: usize,
}

/// One change, and what to do about it ([`Rule::advice`]).
#[derive(Debug, Clone)]
pub struct Finding {
    pub rule: &'static Rule,
    /// The rule's, in the direction that was asked for.
    pub severity: Severity,
    /// Full name; of a file, its name. Enum values stand below their enum.
    pub element: String,
    /// Of the element in the new version; where it is gone, of what it was in.
    pub place: Place,
    /// Of the element in the old version, where it is gone.
    pub was: Option<Place>,
    pub message: String,
}

/// All findings, in the order of files and lines.
#[must_use]
pub fn compare(old: &DescriptorPool, new: &DescriptorPool, options: Options) -> Vec<Finding> {
    differ::Differ::new(old, new, None, options).run()
}

/// As [`compare`], where it is known which files of the old version are its own: those that `files` names, and no others. So a
/// copy of google's files counts that lies among them, and what an import finds elsewhere does not.
#[must_use]
pub fn compare_files(
    old: &DescriptorPool,
    files: &BTreeSet<String>,
    new: &DescriptorPool,
    options: Options,
) -> Vec<Finding> {
    differ::Differ::new(old, new, Some(files), options).run()
}

/// Whether a file is part of somebody's contracts: protobuf's own and buf.validate's come with the tools.
#[must_use]
pub fn is_own(file: &FileDescriptor) -> bool {
    !matches!(file.package_name(), "google.protobuf" | "buf.validate" | "google.protobuf.compiler")
}
