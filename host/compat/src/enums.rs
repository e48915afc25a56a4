//! Enums: numbers and their names.

use std::ops::{Range, RangeInclusive};

use prost_reflect::{EnumDescriptor, EnumValueDescriptor};

use super::differ::{About, Differ};
use super::numbers;
use super::rule::rules;
use tollgate_contract::is_closed;

impl Differ<'_> {
    pub(super) fn all_enums(&mut self) {
        let (old_pool, new_pool) = (self.old, self.new);
        for old in old_pool.all_enums().filter(|descriptor| self.owns(&descriptor.parent_file())).collect::<Vec<_>>() {
            match new_pool.get_enum_by_name(old.full_name()) {
                Some(new) => {
                    self.moved(&old, &new);
                    self.an_enum(&old, &new);
                }
                None if old
                    .parent_message()
                    .is_some_and(|up| new_pool.get_message_by_name(up.full_name()).is_none()) => {}
                None => {
                    let about = self.about_gone(&old, old.parent_message().as_ref());
                    self.add(&rules::ENUM_DELETED, about, format!("enum {} is gone", old.full_name()));
                }
            }
        }
    }

    fn an_enum(&mut self, old: &EnumDescriptor, new: &EnumDescriptor) {
        if is_closed(old) != is_closed(new) {
            let shown = |closed: bool| if closed { "closed" } else { "open" };
            let (was, is) = (shown(is_closed(old)), shown(is_closed(new)));
            let message = format!("enum {} was {was}, now it is {is}", new.full_name());
            self.add(&rules::ENUM_CLOSEDNESS, About::new(new), message.clone());
            self.add(&rules::ENUM_CLOSEDNESS_SOURCE, About::new(new), message);
        }
        self.json_format_of_enum(old, new);
        self.enum_default(old, new);
        let numbers: Vec<Range<i64>> = new.reserved_ranges().map(|range| wide(&range)).collect();
        let names: Vec<String> = new.reserved_names().map(str::to_owned).collect();
        for value in old.values() {
            self.enum_value(&value, new, &numbers, &names);
        }
        for value in new.values() {
            let known = old.get_value(value.number()).is_some() || old.get_value_by_name(value.name()).is_some();
            if !known {
                let message =
                    format!("enum {} has a new value: {} = {}", new.full_name(), value.name(), value.number());
                self.add(&rules::ENUM_VALUE_ADDED, About::new(&value), message);
            }
        }
        let was: Vec<Range<i64>> = old.reserved_ranges().map(|range| wide(&range)).collect();
        for range in numbers::uncovered(&was, &numbers) {
            let shown = numbers::show(&range, i64::from(i32::MAX));
            let message = format!("enum {} no longer reserves {shown}", new.full_name());
            self.add(&rules::RESERVED_NUMBER, About::new(new), message);
        }
        for name in old.reserved_names().filter(|name| !names.iter().any(|kept| kept == name)) {
            let message = format!("enum {} no longer reserves \"{name}\"", new.full_name());
            self.add(&rules::RESERVED_NAME, About::new(new), message);
        }
    }

    /// Compares the number of an unset field. A changed name for it is reported with the value.
    fn enum_default(&mut self, old: &EnumDescriptor, new: &EnumDescriptor) {
        let (was, is) = (old.default_value(), new.default_value());
        if was.number() == is.number() {
            return;
        }
        let message = format!(
            "enum {}: an unset field read as {} = {}, now as {} = {}",
            new.full_name(),
            was.name(),
            was.number(),
            is.name(),
            is.number()
        );
        self.add(&rules::ENUM_DEFAULT, About::new(&is), message);
    }

    fn enum_value(
        &mut self,
        value: &EnumValueDescriptor,
        new: &EnumDescriptor,
        numbers: &[Range<i64>],
        names: &[String],
    ) {
        let number = value.number();
        if has(new, number, value.name()) {
            return;
        }
        let what = format!("enum value {} = {number}", value.name());
        let full = value.name().to_owned();
        let about = || About::gone(value, new).named(super::Element::name(value));
        if let Some(now) = new.get_value_by_name(&full) {
            let message = format!("{what} of {} now has number {}", new.full_name(), now.number());
            self.add(&rules::ENUM_VALUE_RENUMBERED, About::new(&now), message);
            return;
        }
        if let Some(now) = new.get_value(number) {
            let message = format!("{what} of {} is now called {}", new.full_name(), now.name());
            self.add(&rules::ENUM_VALUE_RENAMED, About::new(&now), message);
            return;
        }
        let what = format!("{what} of {}", new.full_name());
        if !numbers::contains(numbers, i64::from(number)) {
            let message = format!("{what} is gone, and number {number} is not reserved");
            self.add(&rules::ENUM_VALUE_NUMBER, about(), message);
        }
        if !names.contains(&full) {
            self.add(&rules::ENUM_VALUE_NAME, about(), format!("{what} is gone, and its name is not reserved"));
        }
        self.add(&rules::ENUM_VALUE_IN_EVENTS, about(), format!("{what} is gone; old events may hold it"));
        self.add(&rules::ENUM_VALUE_DELETED, about(), format!("{what} is gone"));
    }
}

/// Returns whether a number has this name, also as an alias.
fn has(descriptor: &EnumDescriptor, number: i32, name: &str) -> bool {
    descriptor.get_value_by_name(name).is_some_and(|value| value.number() == number)
}

fn wide(range: &RangeInclusive<i32>) -> Range<i64> {
    i64::from(*range.start())..i64::from(*range.end()) + 1
}
