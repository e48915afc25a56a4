//! `deprecate_for`: a field or enum value may be removed only if it was deprecated in the last released versions.

use std::collections::BTreeSet;
use std::path::Path;

use prost_reflect::{DescriptorPool, EnumDescriptor, Kind, MessageDescriptor};
use tollgate_compat::{Element, Finding, Severity, Side, place, rules};

use super::lock::{self, Lock};
use tollgate_config::error::Failure;

/// A message, and every message and enum that it reaches.
struct Reach {
    messages: Vec<MessageDescriptor>,
    enums: Vec<EnumDescriptor>,
}

impl Reach {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
    fn of(root: &MessageDescriptor) -> Reach {
        let mut reach = Reach { messages: vec![root.clone()], enums: Vec::new() };
        let mut next = 0;
        while let Some(message) = reach.messages.get(next).cloned() {
            next += 1;
            for field in message.fields() {
                match field.kind() {
                    Kind::Message(inner) if !reach.messages.contains(&inner) => reach.messages.push(inner),
                    Kind::Enum(inner) if !reach.enums.contains(&inner) => reach.enums.push(inner),
                    _ => {}
                }
            }
        }
        reach
    }
}

/// Returns the deprecated fields and enum values of a message and of all messages and enums that it reaches.
pub fn deprecated(root: &MessageDescriptor) -> BTreeSet<String> {
    let reach = Reach::of(root);
    let mut names = BTreeSet::new();
    for field in reach.messages.iter().flat_map(MessageDescriptor::fields) {
        let options = field.field_descriptor_proto().options.clone();
        names.extend(options.is_some_and(|options| options.deprecated()).then(|| Element::name(&field)));
    }
    for value in reach.enums.iter().flat_map(|descriptor| descriptor.values().collect::<Vec<_>>()) {
        let options = value.enum_value_descriptor_proto().options.clone();
        names.extend(options.is_some_and(|options| options.deprecated()).then(|| Element::name(&value)));
    }
    names
}

/// Returns a finding for each element that was removed from the released contracts without having been deprecated in
/// each of the last `releases` versions.
///
/// # Errors
/// Fails if the lock file is missing or cannot be read. Without it, the released versions are unknown.
pub fn removed(
    releases: u32,
    file: Option<&Path>,
    old: &DescriptorPool,
    new: &DescriptorPool,
) -> Result<Vec<Finding>, Failure> {
    let Some(file) = file else {
        let message = "deprecate_for needs a contracts.lock, which lists the released versions: `tollgate contract lock` writes it";
        return Err(Failure::configuration("check.lock", message));
    };
    let lock = Lock::read(file)?;
    let mut findings: Vec<Finding> = Vec::new();
    for name in lock.messages.keys() {
        let (Some(was), Some(is)) = (old.get_message_by_name(name), new.get_message_by_name(name)) else { continue };
        let notice = Notice { lock: &lock, name, releases, now: lock::digest(&is) };
        let reach = Reach::of(&was);
        for (before, after) in
            reach.messages.iter().filter_map(|one| Some((one, new.get_message_by_name(one.full_name())?)))
        {
            for field in before.fields().filter(|field| after.get_field(field.number()).is_none()) {
                notice.judge(&field, &mut findings);
            }
        }
        for (before, after) in reach.enums.iter().filter_map(|one| Some((one, new.get_enum_by_name(one.full_name())?)))
        {
            for value in before.values().filter(|value| after.get_value(value.number()).is_none()) {
                notice.judge(&value, &mut findings);
            }
        }
    }
    Ok(findings)
}

/// Checks the removals from one contract against its released versions.
struct Notice<'a> {
    lock: &'a Lock,
    name: &'a str,
    releases: u32,
    /// The digest of the contract as it is now. A version with this digest contains the removal itself.
    now: String,
}

impl Notice<'_> {
    fn judge(&self, element: &impl Element, findings: &mut Vec<Finding>) {
        let gone = element.name();
        let Some(versions) = self.lock.messages.get(self.name) else { return };
        let before = versions.values().rev().skip_while(|released| released.digest == self.now);
        let wanted = usize::try_from(self.releases).unwrap_or(usize::MAX);
        let noticed =
            |released: &&lock::Released| released.deprecated.as_ref().is_some_and(|list| list.contains(&gone));
        let given = before.take(wanted).take_while(noticed).count();
        if given >= wanted || findings.iter().any(|known| known.element == gone) {
            return;
        }
        let rule = &rules::FIELD_REMOVED_WITHOUT_NOTICE;
        let message = format!(
            "{gone} was removed, but was deprecated in {given} of the last {wanted} released versions of {} \
             (deprecate_for)",
            self.name
        );
        findings.push(Finding {
            rule,
            severity: rule.backward.unwrap_or(Severity::Error),
            element: gone,
            place: place(Side::Old, element),
            was: None,
            message,
        });
    }
}
