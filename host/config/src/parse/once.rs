//! Settings that may be in one of several places, because the configurations of Kafka clients have them in other
//! places.

use crate::reader::{Complaint, Table};

/// A setting with several keys, of which at most one may be present.
#[derive(Debug)]
pub(super) struct Once<T> {
    value: Option<T>,
    /// The path of the key that set it, even if its value was refused.
    from: Option<String>,
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once { value: None, from: None }
    }
}

impl<T> Once<T> {
    /// Takes the scalar of `key` if it is present; a second key is an error that names the first.
    pub(super) fn offer(&mut self, table: &Table<'_>, key: &str, kind: impl Fn(&str) -> Result<T, Complaint>) {
        let Some(field) = table.field(key) else { return };
        self.put(table, key, field.scalar(kind));
    }

    /// Takes a value that was read from `key`; `None` if the value was refused.
    pub(super) fn put(&mut self, table: &Table<'_>, key: &str, value: Option<T>) {
        if let Some(first) = &self.from {
            table.error(key, format!("is already set by {first}; keep one of the two"));
            return;
        }
        self.from = Some(if table.path().is_empty() { key.to_owned() } else { format!("{}.{key}", table.path()) });
        self.value = value;
    }

    /// Returns the path of the key that set it.
    pub(super) fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.value.take()
    }

    /// Returns the value. Reports that `key` is missing, unless a key was present whose value was refused.
    pub(super) fn need(&mut self, table: &Table<'_>, key: &str) -> Option<T> {
        if self.from.is_none() {
            table.error(key, "required key is missing");
        }
        self.value.take()
    }
}
