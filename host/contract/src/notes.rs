//! Notes about what was accepted despite a policy: counted over a batch, so that repeated ones allocate nothing.

use std::borrow::Cow;
use std::fmt;

use crate::visible::visible;

/// The maximum number of different notes; further ones count as `other`. Producers choose field numbers and JSON keys.
const MAX_NOTES: usize = 200;
/// The maximum number of replaced numbers of one payload that are reported individually.
const MAX_REPLACED: usize = 20;
/// The maximum number of characters of a JSON key or name.
const MAX_CHARS: usize = 64;

/// The policy that accepted a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    UnknownFields,
    UnknownVariants,
    UnknownEnums,
    /// A JSON value that was coerced to its field's type. The note's type is the field's path, its member the form.
    Coerce,
}

impl Policy {
    /// Returns the name in configuration and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownFields => "unknown_fields",
            Self::UnknownVariants => "unknown_variants",
            Self::UnknownEnums => "unknown_enums",
            Self::Coerce => "coerce",
        }
    }
}

/// A field, a oneof or a value, by its number if the contract has no name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member<'a> {
    Number(i64),
    Name(Cow<'a, str>),
}

impl Member<'_> {
    fn kept(&self) -> Member<'static> {
        match self {
            Self::Number(number) => Member::Number(*number),
            Self::Name(name) => Member::Name(Cow::Owned(short(name))),
        }
    }
}

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// One kind of finding, and its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub policy: Policy,
    /// The full name of the message type, or of the enum; for a coercion the field's path.
    pub type_name: String,
    /// The unknown field, the oneof that may have an unknown variant, or the unknown value.
    pub member: Member<'static>,
    pub count: u64,
}

/// An enum value that a fallback has replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The path of the field, by names only.
    pub field: String,
    /// The number, or in JSON the name, that the producer sent.
    pub was: Member<'static>,
}

/// The notes of a batch, and the replacements in the current payload.
#[derive(Debug, Default)]
pub struct Notes {
    notes: Vec<Note>,
    replaced: Vec<Replaced>,
}

impl Notes {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Clears the notes and keeps the memory.
    pub fn clear(&mut self) {
        self.notes.clear();
        self.replaced.clear();
    }

    /// Iterates over the notes since the last [`Notes::clear`].
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Returns the replacements since the last call, at most 20.
    pub fn take_replaced(&mut self) -> Vec<Replaced> {
        std::mem::take(&mut self.replaced)
    }

    pub(crate) fn add(&mut self, policy: Policy, type_name: &str, member: &Member<'_>) {
        let known =
            |note: &&mut Note| note.policy == policy && note.type_name == type_name && same(&note.member, member);
        if let Some(note) = self.notes.iter_mut().find(known) {
            note.count += 1;
        } else if self.notes.len() < MAX_NOTES {
            self.notes.push(Note { policy, type_name: type_name.to_owned(), member: member.kept(), count: 1 });
        } else {
            self.other(policy);
        }
    }

    fn other(&mut self, policy: Policy) {
        const OTHER: &str = "other";
        let known = |note: &&mut Note| note.policy == policy && note.type_name == OTHER;
        match self.notes.iter_mut().find(known) {
            Some(note) => note.count += 1,
            None => {
                let member = Member::Name(Cow::Borrowed(OTHER));
                self.notes.push(Note { policy, type_name: OTHER.to_owned(), member, count: 1 });
            }
        }
    }

    pub(crate) fn replace(&mut self, field: &str, type_name: &str, was: &Member<'_>) {
        self.add(Policy::UnknownEnums, type_name, was);
        if self.replaced.len() < MAX_REPLACED {
            self.replaced.push(Replaced { field: field.to_owned(), was: was.kept() });
        }
    }
}

fn same(kept: &Member<'_>, met: &Member<'_>) -> bool {
    match (kept, met) {
        (Member::Name(kept), Member::Name(met)) if met.len() > MAX_CHARS => **kept == short(met),
        (kept, met) => kept == met,
    }
}

/// Truncates a name and removes control characters: names end up in logs and labels.
fn short(name: &str) -> String {
    name.chars().take(MAX_CHARS).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_notes_are_one_and_too_many_are_other() {
        let mut notes = Notes::new();
        for _ in 0..3 {
            notes.add(Policy::UnknownFields, "a.A", &Member::Number(9));
            notes.add(Policy::UnknownFields, "a.A", &Member::Name(Cow::Owned("x".repeat(100))));
        }
        let counts: Vec<u64> = notes.iter().map(|note| note.count).collect();
        assert_eq!(counts, [3, 3]);
        for number in 0..1_000 {
            notes.add(Policy::UnknownFields, "a.A", &Member::Number(number));
        }
        assert_eq!(notes.iter().count(), MAX_NOTES + 1);
        assert_eq!(notes.iter().map(|note| note.count).sum::<u64>(), 1_006, "none is lost");
    }

    #[test]
    fn names_are_short_and_printable() {
        let mut notes = Notes::new();
        notes.replace("a", "a.E", &Member::Name(Cow::Borrowed("x\u{1b}[31m")));
        assert_eq!(notes.take_replaced()[0].was.to_string(), "x\u{fffd}[31m");
        assert!(notes.take_replaced().is_empty());
    }
}
