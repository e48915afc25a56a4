//! Compares oneofs, which determine the fields that exclude each other.
//!
//! On the wire a oneof is nothing but its members. A change affects which of two members survives when both are
//! present. Old events may contain two members that are now in the same oneof (backward). New events may contain two
//! members that no longer are (forward).

use prost_reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor};

use super::differ::{About, Differ};
use super::rule::rules;

fn real(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

fn named(message: &MessageDescriptor, name: &str) -> Option<OneofDescriptor> {
    message.oneofs().find(|oneof| !oneof.is_synthetic() && oneof.name() == name)
}

/// Returns the members' numbers that are also fields of `other`.
fn shared(oneof: &OneofDescriptor, other: &MessageDescriptor) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        oneof.fields().map(|field| field.number()).filter(|number| other.get_field(*number).is_some()).collect();
    numbers.sort_unstable();
    numbers
}

/// Returns whether a oneof with a new name has the old one's remaining members, and no other field.
fn is_renamed(was: &OneofDescriptor, is: &OneofDescriptor) -> bool {
    let (old, new) = (was.parent_message(), is.parent_message());
    named(old, is.name()).is_none() && named(new, was.name()).is_none() && {
        let left = shared(was, new);
        !left.is_empty() && left == shared(is, old)
    }
}

impl Differ<'_> {
    pub(super) fn oneof_of(&mut self, old: &FieldDescriptor, new: &FieldDescriptor) {
        let what = format!("field {}", new.full_name());
        match (real(old), real(new)) {
            (None, None) => {}
            (None, Some(is)) => {
                let alone =
                    named(old.parent_message(), is.name()).is_none() && shared(&is, old.parent_message()).len() == 1;
                let rule = if alone { &rules::FIELD_INTO_NEW_ONEOF } else { &rules::FIELD_INTO_ONEOF };
                self.add(rule, About::new(new), format!("{what} is now in oneof {}", is.name()));
            }
            (Some(was), None) => {
                self.add(&rules::FIELD_OUT_OF_ONEOF, About::new(new), format!("{what} has left oneof {}", was.name()));
            }
            (Some(was), Some(is)) if was.name() == is.name() || is_renamed(&was, &is) => {}
            (Some(was), Some(is)) => {
                let message = format!("{what} was in oneof {}, now it is in {}", was.name(), is.name());
                self.add(&rules::FIELD_BETWEEN_ONEOFS, About::new(new), message);
            }
        }
    }

    pub(super) fn oneofs(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        for was in old.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            if let Some(is) = named(new, was.name()) {
                self.oneof_constraints(&was, &is);
                continue;
            }
            match new.oneofs().find(|is| !is.is_synthetic() && is_renamed(&was, is)) {
                Some(is) => {
                    let message = format!("oneof {} is now called {}", was.full_name(), is.name());
                    self.add(&rules::ONEOF_RENAMED, About::new(&is), message);
                    self.oneof_constraints(&was, &is);
                }
                None => {
                    let message = format!("oneof {} is gone", was.full_name());
                    self.add(&rules::ONEOF_DELETED, About::gone(&was, new), message);
                }
            }
        }
    }
}
