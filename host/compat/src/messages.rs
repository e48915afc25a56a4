//! Compares messages: their fields in both versions, and what prevents the reuse of removed numbers.

use std::ops::Range;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use super::differ::{About, Differ};
use super::element::Element;
use super::numbers;
use super::rule::rules;

/// The highest field number, 2^29 − 1.
const MAX_FIELD: i64 = 536_870_911;

impl Differ<'_> {
    pub(super) fn all_messages(&mut self) {
        let (old_pool, new_pool) = (self.old, self.new);
        let own = |message: &MessageDescriptor| self.owns(&message.parent_file()) && !message.is_map_entry();
        for old in old_pool.all_messages().filter(own).collect::<Vec<_>>() {
            match new_pool.get_message_by_name(old.full_name()) {
                Some(new) => {
                    self.moved(&old, &new);
                    self.message(&old, &new);
                }
                // The content of a removed message was removed with it.
                None if old
                    .parent_message()
                    .is_some_and(|up| new_pool.get_message_by_name(up.full_name()).is_none()) => {}
                None => {
                    let about = self.about_gone(&old, old.parent_message().as_ref());
                    self.add(&rules::MESSAGE_DELETED, about, format!("message {} is gone", old.full_name()));
                }
            }
        }
    }

    /// Positions a finding at the message that contained the element, or at the file, whichever still exists.
    pub(super) fn about_gone(&self, element: &impl Element, parent: Option<&MessageDescriptor>) -> About {
        if let Some(up) = parent.and_then(|up| self.new.get_message_by_name(up.full_name())) {
            return About::gone(element, &up);
        }
        match self.new.get_file_by_name(element.file().name()) {
            Some(file) => About::gone(element, &file),
            None => About::lost(element),
        }
    }

    pub(super) fn moved(&mut self, old: &impl Element, new: &impl Element) {
        let (was, is) = (old.file(), new.file());
        if was.name() != is.name() {
            let message = format!("{} was in {}, now it is in {}", new.name(), was.name(), is.name());
            self.add(&rules::ELEMENT_MOVED, About::new(new), message);
        }
    }

    fn message(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        let numbers: Vec<Range<i64>> = new.reserved_ranges().map(wide).collect();
        let names: Vec<&str> = new.reserved_names().collect();
        for field in old.fields() {
            match new.get_field(field.number()) {
                Some(now) => self.field(&field, &now),
                None => self.field_gone(&field, new, &numbers, &names),
            }
        }
        for field in new.fields().filter(|field| old.get_field(field.number()).is_none()) {
            self.field_added(&field, old);
        }
        self.oneofs(old, new);
        self.message_constraints(old, new);
        self.message_reservations(old, new, &numbers, &names);
        self.json_format_of_message(old, new);
        self.message_options(old, new);
    }

    fn message_options(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        let accessor = |message: &MessageDescriptor| {
            message.descriptor_proto().options.as_ref().is_none_or(|options| !options.no_standard_descriptor_accessor())
        };
        if accessor(old) && !accessor(new) {
            let message = format!("message {}: no_standard_descriptor_accessor is set now", new.full_name());
            self.add(&rules::MESSAGE_ACCESSOR, About::new(new), message);
        }
        let set = |message: &MessageDescriptor| {
            message.descriptor_proto().options.as_ref().is_some_and(|options| options.message_set_wire_format())
        };
        if set(old) != set(new) {
            let message =
                format!("{}: message_set_wire_format was {}, now it is {}", new.full_name(), set(old), set(new));
            self.add(&rules::MESSAGE_SET, About::new(new), message);
        }
    }

    fn field_gone(
        &mut self,
        field: &FieldDescriptor,
        message: &MessageDescriptor,
        numbers: &[Range<i64>],
        names: &[&str],
    ) {
        let number = field.number();
        let what = format!("field {} = {number}", field.full_name());
        if let Some(now) = message.get_field_by_name(field.name()) {
            let message = format!("field {} had number {number}, now it has {}", field.full_name(), now.number());
            self.add(&rules::FIELD_RENUMBERED, About::new(&now), message);
            return;
        }
        if !numbers::contains(numbers, i64::from(number)) {
            let text = format!("{what} is gone, and number {number} is not reserved");
            self.add(&rules::FIELD_DELETED_NUMBER, About::gone(field, message), text);
        }
        if !names.contains(&field.name()) {
            let text = format!("{what} is gone, and its name is not reserved");
            self.add(&rules::FIELD_DELETED_NAME, About::gone(field, message), text);
        }
        if field.is_required() {
            let text = format!("{what} was required and is gone");
            self.add(&rules::FIELD_REQUIRED_REMOVED, About::gone(field, message), text);
        }
        self.add(&rules::FIELD_DELETED, About::gone(field, message), format!("{what} is gone"));
    }

    fn field_added(&mut self, field: &FieldDescriptor, old: &MessageDescriptor) {
        // This was already reported as renumbered.
        if old
            .get_field_by_name(field.name())
            .is_some_and(|was| field.parent_message().get_field(was.number()).is_none())
        {
            return;
        }
        if field.is_required() {
            let message = format!("field {} is new and required", field.full_name());
            self.add(&rules::FIELD_REQUIRED_ADDED, About::new(field), message);
        }
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        if let Some(oneof) = oneof.filter(|oneof| old.oneofs().any(|was| was.name() == oneof.name())) {
            let message = format!("oneof {} has a new variant: {}", oneof.full_name(), field.name());
            self.add(&rules::ONEOF_VARIANT, About::new(field), message);
        }
        self.new_field_constraints(field);
    }

    fn message_reservations(
        &mut self,
        old: &MessageDescriptor,
        new: &MessageDescriptor,
        numbers: &[Range<i64>],
        names: &[&str],
    ) {
        let was: Vec<Range<i64>> = old.reserved_ranges().map(wide).collect();
        for range in numbers::uncovered(&was, numbers) {
            let message = format!("{} no longer reserves {}", new.full_name(), numbers::show(&range, MAX_FIELD));
            self.add(&rules::RESERVED_NUMBER, About::new(new), message);
        }
        for name in old.reserved_names().filter(|name| !names.contains(name)) {
            let message = format!("{} no longer reserves \"{name}\"", new.full_name());
            self.add(&rules::RESERVED_NAME, About::new(new), message);
        }
        let was: Vec<Range<i64>> = old.extension_ranges().map(wide).collect();
        let is: Vec<Range<i64>> = new.extension_ranges().map(wide).collect();
        for range in numbers::uncovered(&was, &is) {
            let message =
                format!("{} no longer accepts extensions {}", new.full_name(), numbers::show(&range, MAX_FIELD));
            self.add(&rules::EXTENSION_RANGE, About::new(new), message);
        }
    }
}

fn wide(range: Range<u32>) -> Range<i64> {
    i64::from(range.start)..i64::from(range.end)
}
