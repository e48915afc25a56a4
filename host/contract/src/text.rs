//! Text as the walk returns it: bytes that are known to be UTF-8.
//!
//! Most readers need a text's bytes (a column, a rule on its length, a list of codes), and most texts are ASCII. So the
//! walk examines them once, eight bytes at a time, and records the result: for a *plain* text it answers everything
//! that rules on lengths and PostgreSQL need. A `str` is created on demand; without `unsafe` that reads the bytes
//! again, which only the rarer readers (patterns, JSON, keys) pay for.

use std::fmt;

use bstr::ByteSlice as _;

/// The text of a field: UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    bytes: &'a [u8],
    /// Whether the text is plain; derived from the bytes.
    plain: bool,
}

impl<'a> Text<'a> {
    /// Validates bytes as text. If they are not UTF-8, the error is the length of the valid prefix.
    #[inline(always)]
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, usize> {
        if is_plain(bytes) { Ok(Self { bytes, plain: true }) } else { Self::read_rare(bytes) }
    }

    #[inline(never)]
    fn read_rare(bytes: &'a [u8]) -> Result<Self, usize> {
        // Uses `bstr`: the standard library reads the ASCII of short texts byte by byte.
        bytes.to_str().map(|_| Self { bytes, plain: false }).map_err(|error| error.valid_up_to())
    }

    #[inline]
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the text as `str`. Reads all of it.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        // A text that is not UTF-8 cannot be constructed.
        self.bytes.to_str().unwrap_or_default()
    }

    /// Returns whether it is ASCII without NUL: every byte is a character that PostgreSQL can store.
    #[inline]
    #[must_use]
    pub fn is_plain(self) -> bool {
        self.plain
    }

    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the length in characters.
    #[inline]
    #[must_use]
    pub fn chars(self) -> usize {
        if self.plain {
            return self.bytes.len();
        }
        // Each character has exactly one byte that is not a continuation byte.
        self.bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        Self { bytes, plain: is_plain(bytes) }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Returns whether all bytes are plain, eight at a time. Events' texts are short, and a search optimized for long ones
/// spends its time on setup.
#[inline(always)]
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    // Bytes beyond ASCII have their high bit set; subtracting one sets it for a NUL, and for nothing before the first
    // NUL.
    let odd = |word: u64| word | word.wrapping_sub(ONES);
    let Some(last) = bytes.last_chunk::<8>() else {
        return word_of_short(bytes).is_some_and(|word| {
            // The bytes after the text are filled with ones.
            let filled = word | ONES << (8 * bytes.len());
            odd(filled) & HIGH == 0
        });
    };
    // The last eight bytes cover the rest after the whole chunks.
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().fold(odd(u64::from_le_bytes(*last)), |found, chunk| found | odd(u64::from_le_bytes(*chunk))) & HIGH
        == 0
}

/// Reads less than eight bytes as a little-endian number, in at most three loads that may overlap.
#[inline(always)]
pub(crate) fn word_of_short(bytes: &[u8]) -> Option<u64> {
    let at = |byte: u8, position: usize| u64::from(byte) << (8 * position);
    match (bytes, bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        _ if bytes.len() >= 8 => None,
        (_, Some(first), Some(last)) => {
            let (first, last) = (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
            Some(first | last << (8 * (bytes.len() - 4)))
        }
        ([], ..) => Some(0),
        ([only], ..) => Some(at(*only, 0)),
        ([first, second], ..) => Some(at(*first, 0) | at(*second, 1)),
        ([first, second, third, ..], ..) => Some(at(*first, 0) | at(*second, 1) | at(*third, 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Text, word_of_short};

    #[test]
    fn what_is_odd_is_found_wherever_it_stands() {
        for length in 0..40 {
            for odd in [0, 0x80, 0xff] {
                let mut bytes = vec![b'a'; length];
                assert!(Text::read(&bytes).unwrap().is_plain());
                for at in 0..length {
                    for beside in [1, 0x7f] {
                        bytes.fill(beside);
                        bytes[at] = odd;
                        let read = Text::read(&bytes);
                        assert!(!read.is_ok_and(Text::is_plain), "{odd} at {at} of {length}");
                        assert_eq!(read.is_ok(), odd == 0);
                    }
                }
            }
        }
    }

    #[test]
    fn short_texts_are_numbers() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        for length in 0..8 {
            let mut padded = [0; 8];
            padded[..length].copy_from_slice(&bytes[..length]);
            assert_eq!(word_of_short(&bytes[..length]), Some(u64::from_le_bytes(padded)));
        }
        assert_eq!(word_of_short(&bytes), None);
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_what_the_standard_library_says(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..24)) {
            match (Text::read(&bytes), std::str::from_utf8(&bytes)) {
                (Ok(text), Ok(known)) => {
                    proptest::prop_assert_eq!(text, Text::from(known));
                    proptest::prop_assert_eq!(text.as_str(), known);
                    proptest::prop_assert_eq!(text.chars(), known.chars().count());
                }
                (Err(valid), Err(error)) => proptest::prop_assert_eq!(valid, error.valid_up_to()),
                (read, known) => proptest::prop_assert!(false, "{read:?} is {known:?}"),
            }
        }

        #[test]
        fn characters_are_counted(known in ".{0,24}") {
            proptest::prop_assert_eq!(Text::from(&*known).chars(), known.chars().count());
        }
    }
}
