//! A hash over a canonical, versioned encoding: equal values give equal digests in every build.

use sha2::{Digest as _, Sha256};

/// Hashes values in a form in which different sequences of values never have the same bytes.
#[derive(Debug)]
pub struct CanonicalHash(Sha256);

impl CanonicalHash {
    /// `form` names the encoding and its version; raise the version when the meaning of the values changes.
    #[must_use]
    pub fn new(form: &str) -> CanonicalHash {
        let mut hash = CanonicalHash(Sha256::new());
        hash.text(form);
        hash
    }

    /// Adds a text, with its length.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds bytes, with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    /// Adds the number of values that follow.
    pub fn count(&mut self, count: usize) {
        self.number(i128::try_from(count).unwrap_or(i128::MAX));
    }

    pub fn number(&mut self, number: impl Into<i128>) {
        self.0.update(number.into().to_be_bytes());
    }

    pub fn flag(&mut self, flag: bool) {
        self.0.update([u8::from(flag)]);
    }

    /// Adds a value, or that there is none.
    pub fn optional<T>(&mut self, value: Option<T>, add: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            add(self, value);
        }
    }

    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: impl FnOnce(&mut CanonicalHash)) -> [u8; 32] {
        let mut hash = CanonicalHash::new("test/1");
        add(&mut hash);
        hash.finish()
    }

    #[test]
    fn different_values_have_different_bytes() {
        let two = |one: &str, other: &str| {
            of(|hash| {
                hash.text(one);
                hash.text(other);
            })
        };
        assert_ne!(two("ab", "c"), two("a", "bc"));
        assert_ne!(
            of(|hash| hash.optional(None::<&str>, CanonicalHash::text)),
            of(|hash| hash.optional(Some(""), CanonicalHash::text))
        );
        assert_ne!(of(|hash| hash.number(1)), of(|hash| hash.number(2)));
    }
}
