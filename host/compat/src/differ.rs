//! Walks both pools. This is the only module that creates findings.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, FileDescriptor};

use super::element::{Element, place};
use super::{Category, Finding, Mode, Options, Place, Rule, Severity, Side, is_own};

/// A comparison in progress.
pub(super) struct Differ<'p> {
    pub old: &'p DescriptorPool,
    pub new: &'p DescriptorPool,
    /// The names of the old version's own files, if they are known.
    files: Option<&'p BTreeSet<String>>,
    options: Options,
    findings: Vec<Finding>,
}

/// The subject of a finding, and its position.
pub(super) struct About {
    element: String,
    place: Place,
    was: Option<Place>,
}

impl About {
    /// Creates the subject for an element of the new version.
    pub(crate) fn new(element: &impl Element) -> Self {
        Self { element: element.name(), place: place(Side::New, element), was: None }
    }

    /// Creates the subject for a removed element. `parent` is the element of the new version that would contain it.
    pub(crate) fn gone(element: &impl Element, parent: &impl Element) -> Self {
        Self { element: element.name(), place: place(Side::New, parent), was: Some(place(Side::Old, element)) }
    }

    /// Creates the subject for an element that was removed with its file.
    pub(crate) fn lost(element: &impl Element) -> Self {
        let was = place(Side::Old, element);
        Self { element: element.name(), place: was.clone(), was: Some(was) }
    }

    /// Returns the same position under another name: for something without a descriptor, such as a package.
    pub(crate) fn named(self, element: impl Into<String>) -> Self {
        Self { element: element.into(), ..self }
    }
}

impl<'p> Differ<'p> {
    pub(crate) fn new(
        old: &'p DescriptorPool,
        new: &'p DescriptorPool,
        files: Option<&'p BTreeSet<String>>,
        options: Options,
    ) -> Self {
        Self { old, new, files, options, findings: Vec::new() }
    }

    /// Returns whether a file of the old version is compared.
    pub(crate) fn owns(&self, file: &FileDescriptor) -> bool {
        self.files.map_or_else(|| is_own(file), |files| files.contains(file.name()))
    }

    pub(crate) fn run(mut self) -> Vec<Finding> {
        self.files();
        self.all_messages();
        self.all_enums();
        self.all_services();
        self.all_extensions();
        self.findings.sort_by(|a, b| {
            let key = |finding: &Finding| (finding.place.clone(), finding.rule.id, finding.element.clone());
            key(a).cmp(&key(b))
        });
        self.findings
    }

    pub(crate) fn add(&mut self, rule: &'static Rule, about: About, message: impl Into<String>) {
        self.add_as(rule, about, message, (rule.backward, rule.forward));
    }

    /// Adds a finding with its own backward and forward severities: for a rule that breaks different sides in different
    /// cases.
    pub(crate) fn add_as(
        &mut self,
        rule: &'static Rule,
        about: About,
        message: impl Into<String>,
        (backward, forward): (Option<Severity>, Option<Severity>),
    ) {
        let counts = rule.category <= self.options.level || rule.category == Category::Sink;
        let severity = match self.options.mode {
            Mode::Backward => backward,
            Mode::Forward => forward,
            Mode::Full => backward.max(forward),
        };
        if let Some(severity) = severity.filter(|_| counts) {
            let About { element, place, was } = about;
            self.findings.push(Finding { rule, severity, element, place, was, message: message.into() });
        }
    }
}
