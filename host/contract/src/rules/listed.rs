//! Lists of texts in `in` and `not_in`.

use crate::text::word_of_short;

/// The longest list that gets a table; longer lists are searched.
const MAX_PLACED: usize = 32;
/// A number that represents no short text.
const NONE: u64 = u64::MAX;

/// The texts of a list. Codes of a few letters, the usual case, are compared as numbers: each has its own place in a
/// table with more places than texts, so that one lookup shows whether a text is listed.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    places: Box<[u64]>,
    /// The factor of the multiplicative hash that gives each number its place.
    factor: u64,
    /// The shift that leaves as many bits as an index of the table needs.
    shift: u32,
    /// The longer texts, sorted.
    long: Box<[Box<[u8]>]>,
}

impl Listed {
    pub(super) fn new(texts: &[String]) -> Self {
        let mut short: Vec<u64> = texts.iter().filter_map(|text| packed(text.as_bytes())).collect();
        short.sort_unstable();
        short.dedup();
        let mut long: Vec<Box<[u8]>> = texts.iter().map(|text| text.as_bytes().into()).collect();
        long.sort_unstable();
        if short.len() > MAX_PLACED {
            return Self { places: Box::default(), factor: 0, shift: 0, long: long.into() };
        }
        long.retain(|text| packed(text).is_none());
        let (places, factor, shift) = place(&short);
        Self { places, factor, shift, long: long.into() }
    }

    #[inline]
    pub(super) fn contains(&self, text: &[u8]) -> bool {
        match packed(text) {
            Some(packed) if !self.places.is_empty() => {
                let place = packed.wrapping_mul(self.factor) >> self.shift;
                usize::try_from(place).ok().and_then(|place| self.places.get(place)) == Some(&packed)
            }
            _ => self.long.binary_search_by(|one| (**one).cmp(text)).is_ok(),
        }
    }
}

/// Encodes a text of less than eight bytes as a number, with its length in the top byte, which distinguishes "a" from
/// "a\0".
#[inline]
fn packed(text: &[u8]) -> Option<u64> {
    word_of_short(text).zip(u64::try_from(text.len()).ok()).map(|(word, length)| word | length << 56)
}

/// Finds a factor that gives each number its own place; with about a quarter as many places as pairs, one factor in ten
/// does.
fn place(numbers: &[u64]) -> (Box<[u64]>, u64, u32) {
    let mut bits = 1 + (numbers.len() * numbers.len() / 8).checked_ilog2().unwrap_or(0);
    loop {
        let mut factor = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..256 {
            if let Some(places) = try_place(numbers, factor, bits) {
                return (places, factor, 64 - bits);
            }
            // Odd factors, spread over all bits.
            factor = factor.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2) | 1;
        }
        // Doubling the places halves the collisions; since all numbers differ, this terminates.
        bits += 1;
    }
}

fn try_place(numbers: &[u64], factor: u64, bits: u32) -> Option<Box<[u64]>> {
    let mut places = vec![NONE; 1 << bits];
    for number in numbers {
        let place = places.get_mut(usize::try_from(number.wrapping_mul(factor) >> (64 - bits)).ok()?)?;
        if *place != NONE {
            return None;
        }
        *place = *number;
    }
    Some(places.into())
}

#[cfg(test)]
mod tests {
    use super::Listed;

    #[test]
    fn a_list_holds_what_it_was_made_of_and_nothing_else() {
        let texts = ["", "a", "a\0", "\0", "ab", "sevenby", "eight by", "a longer text", "ä"].map(str::to_owned);
        let listed = Listed::new(&texts);
        for text in &texts {
            assert!(listed.contains(text.as_bytes()), "{text:?}");
        }
        for text in ["\0a", "b", "a\0\0", "sevenbz", "eight bz", "a longer texts", "eight b", "\0\0", "ö"] {
            assert!(!listed.contains(text.as_bytes()), "{text:?}");
        }
        assert!(!Listed::new(&[]).contains(b""));
    }
}
