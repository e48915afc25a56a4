//! The walk over both pools, and the one place where a finding is made.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, FileDescriptor};

use super::element::{Element, place};
use super::{Category, Finding, Mode, Options, Place, Rule, Severity, Side, is_own};

/// One comparison under way.
pub(super) struct Differ<'p> {
    pub old: &'p DescriptorPool,
    pub new: &'p DescriptorPool,
    /// The names of the old version's own files, where they are known.
    files: Option<&'p BTreeSet<String>>,
    options: Options,
    findings: Vec<Finding>,
}

/// What a finding is about, and where it is shown.
pub(super) struct About {
    element: String,
    place: Place,
    was: Option<Place>,
}

impl About {
    /// Something that is in the new version.
    pub(crate) fn new(element: &impl Element) -> Self {
        Self { element: element.name(), place: place(Side::New, element), was: None }
    }

    /// Something that is gone; `parent` is what it was in, as it is now.
    pub(crate) fn gone(element: &impl Element, parent: &impl Element) -> Self {
        Self { element: element.name(), place: place(Side::New, parent), was: Some(place(Side::Old, element)) }
    }

    /// Something that is gone with its file.
    pub(crate) fn lost(element: &impl Element) -> Self {
        let was = place(Side::Old, element);
        Self { element: element.name(), place: was.clone(), was: Some(was) }
    }

    /// The same place, under another name: for what has no descriptor of its own, as a package.
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

    /// Whether a file of the old version is compared.
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

    /// With severities, backward and forward, of its own: where a rule hurts one side in one case and the other in another.
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
