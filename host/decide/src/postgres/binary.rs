//! PostgreSQL's binary encoding of values. Every conversion that would lose information returns an error instead.

use super::decimal::Parsed;
use super::unfit::Unfit;
use tollgate_contract::Text;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_SHIFT_MICROS: i64 = 946_684_800_000_000;
/// The limits of PostgreSQL's timestamps, 4713 BC to 294276 AD, in microseconds from its epoch.
const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// Encodes `timestamptz` or `timestamp` from microseconds since 1970.
#[inline]
pub fn timestamp(unix_micros: i64, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let micros = unix_micros.checked_sub(EPOCH_SHIFT_MICROS).filter(|t| (TIMESTAMP_MIN..TIMESTAMP_END).contains(t));
    let micros = micros
        .ok_or_else(|| Unfit::Range { value: format!("{unix_micros} µs since 1970"), into: "timestamptz".into() })?;
    out.extend_from_slice(&micros.to_be_bytes());
    Ok(())
}

/// Encodes a timestamp in units of `unit` microseconds.
#[inline]
pub fn timestamp_in(value: i64, unit: i64, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let micros =
        value.checked_mul(unit).ok_or_else(|| Unfit::Range { value: value.to_string(), into: "timestamptz".into() })?;
    timestamp(micros, out)
}

/// Encodes text of at most `most` characters, without NUL, the one character that PostgreSQL rejects.
#[inline]
pub fn text(value: Text<'_>, most: Option<usize>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if !value.is_plain() || most.is_some() {
        fits(value, most)?;
    }
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

fn fits(value: Text<'_>, most: Option<usize>) -> Result<(), Unfit> {
    let length = value.chars();
    match most {
        Some(most) if length > most => Err(Unfit::TooLong { length, most }),
        _ if !value.is_plain() && value.as_bytes().contains(&0) => Err(Unfit::Nul),
        _ => Ok(()),
    }
}

/// Encodes jsonb: a version byte and the text.
pub fn jsonb(value: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    // An escaped NUL is valid JSON text, but an error for jsonb.
    if has_escaped_nul(value) {
        return Err(Unfit::Nul);
    }
    out.push(1);
    text(value.into(), None, out)
}

/// Returns whether valid JSON contains an escaped NUL.
fn has_escaped_nul(json: &str) -> bool {
    escaped_nuls(json).next().is_some()
}

/// Finds the escaped NULs in valid JSON. In `"\\u0000"` the backslash itself is escaped, and digits follow.
fn escaped_nuls(json: &str) -> impl Iterator<Item = usize> {
    let bytes = json.as_bytes();
    let escapes = json.match_indices("\\u0000").map(|(at, _)| at);
    escapes.filter(|at| bytes[..*at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0)
}

/// Replaces each escaped NUL in valid JSON.
pub fn replace_escaped_nul(json: &str, replacement: &str) -> String {
    let mut replaced = String::with_capacity(json.len());
    let mut rest = 0;
    for at in escaped_nuls(json) {
        replaced.push_str(&json[rest..at]);
        replaced.push_str(replacement);
        rest = at + "\\u0000".len();
    }
    replaced.push_str(&json[rest..]);
    replaced
}

/// Decodes a big-endian two's complement integer of up to eight bytes.
pub fn signed(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, byte| (value << 8) | i64::from(*byte))
}

/// Encodes the sixteen bytes of a UUID in its usual spelling, with optional hyphens.
pub fn uuid(value: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unfit = || Unfit::Format { value: value.chars().take(64).collect(), expected: "a UUID" };
    let mut digits = [0u8; 32];
    let mut count = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte == b'-' && matches!(at, 8 | 13 | 18 | 23) {
            continue;
        }
        let digit = char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(unfit)?;
        *digits.get_mut(count).ok_or_else(unfit)? = digit;
        count += 1;
    }
    if count != 32 {
        return Err(unfit());
    }
    out.extend(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
    Ok(())
}

/// Encodes an integer of the column's width: 2, 4 or 8 bytes.
#[inline]
pub fn integer(value: i128, width: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let range = |into: &str| Unfit::Range { value: value.to_string(), into: into.into() };
    match width {
        2 => out.extend_from_slice(&i16::try_from(value).map_err(|_| range("smallint"))?.to_be_bytes()),
        4 => out.extend_from_slice(&i32::try_from(value).map_err(|_| range("integer"))?.to_be_bytes()),
        _ => out.extend_from_slice(&i64::try_from(value).map_err(|_| range("bigint"))?.to_be_bytes()),
    }
    Ok(())
}

/// Powers of ten up to the largest of 128 bits.
const POWERS: [u128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// Encodes `numeric` from an integer number of units of 10^-scale.
#[inline]
pub fn numeric(unscaled: i128, scale: u16, out: &mut Vec<u8>) {
    // The digits are of base 10000 and aligned at the decimal point. The last one is padded with zeros.
    let fill = [1, 1_000, 100, 10][usize::from(scale % 4)];
    match u64::try_from(unscaled.unsigned_abs()).ok().and_then(|magnitude| magnitude.checked_mul(fill)) {
        Some(rest) => numeric_of_64(rest, unscaled < 0, scale, out),
        None => numeric_of_128(unscaled, scale, out),
    }
}

/// Encodes 64-bit numbers, which are nearly all numbers. They have up to five digits, which are computed in a register
/// and written at once.
#[inline]
fn numeric_of_64(mut rest: u64, negative: bool, scale: u16, out: &mut Vec<u8>) {
    let (mut digits, mut count, mut stored) = (0u128, 0u16, 0u16);
    while rest != 0 {
        let digit = rest % 10_000;
        rest /= 10_000;
        digits = digits >> 16 | u128::from(digit) << 112;
        count += 1;
        // Trailing zeros are omitted.
        stored += u16::from(stored != 0 || digit != 0);
    }
    out.extend_from_slice(&numeric_head(count, stored, negative, scale).to_be_bytes());
    let end = out.len() + 2 * usize::from(stored);
    out.extend_from_slice(&digits.to_be_bytes());
    out.truncate(end);
}

#[cold]
fn numeric_of_128(unscaled: i128, scale: u16, out: &mut Vec<u8>) {
    // Each is below 10000.
    let narrow = |digit: u128| u16::try_from(digit).unwrap_or_default();
    let fraction = 10u16.pow(u32::from(scale % 4));
    let mut digits = [0u16; 12];
    let (mut rest, mut count) = (unscaled.unsigned_abs(), 0);
    if fraction > 1 {
        digits[0] = narrow(rest % u128::from(fraction)) * (10_000 / fraction);
        rest /= u128::from(fraction);
        count = 1;
    }
    while rest != 0 && count < digits.len() {
        digits[count] = narrow(rest % 10_000);
        rest /= 10_000;
        count += 1;
    }
    let skip = digits[..count].iter().take_while(|digit| **digit == 0).count();
    let stored = &digits[skip..count];
    let narrow = |count: usize| u16::try_from(count).unwrap_or_default();
    let head = numeric_head(narrow(count), narrow(stored.len()), unscaled < 0, scale);
    out.extend_from_slice(&head.to_be_bytes());
    stored.iter().rev().for_each(|digit| out.extend_from_slice(&digit.to_be_bytes()));
}

/// Writes the four words before the digits: how many of `count` are stored, the first one's power of 10000, the sign,
/// and the scale.
#[inline]
fn numeric_head(count: u16, stored: u16, negative: bool, scale: u16) -> u64 {
    // A negative power is stored in two's complement; zero has none.
    let weight = if stored == 0 { 0 } else { count.wrapping_sub(1).wrapping_sub(scale.div_ceil(4)) };
    let sign = if negative { 0x4000 } else { 0 };
    let wide = |half: u16, place: u32| u64::from(half) << (16 * place);
    wide(stored, 3) | wide(weight, 2) | wide(sign, 1) | wide(scale, 0)
}

/// Converts `double → numeric(precision, scale)`, rounded half to even from the double's decimal form (the shortest
/// that parses to the same double, which is what the producer wrote).
pub fn numeric_from_f64(value: f64, precision: u16, scale: u16, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unscaled = match scaled_exactly(value, scale) {
        Some(unscaled) => i128::from(unscaled),
        None => scaled_by_digits(value, scale).ok_or_else(|| out_of_range(&value, precision, scale))?,
    };
    numeric_within(unscaled, precision, scale, &value, out)
}

/// Encodes an integer as `numeric(precision, scale)`.
pub fn numeric_from_int(value: i128, precision: u16, scale: u16, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unit = POWERS.get(usize::from(scale)).and_then(|unit| i128::try_from(*unit).ok());
    let unscaled = unit.and_then(|unit| value.checked_mul(unit)).or((value == 0).then_some(0));
    let unscaled = unscaled.ok_or_else(|| out_of_range(&value, precision, scale))?;
    numeric_within(unscaled, precision, scale, &value, out)
}

/// Encodes decimal text (an optional sign, digits, an optional fraction and exponent), rounded half to even.
pub fn numeric_from_text(value: &str, precision: u16, scale: u16, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unfit = || Unfit::Format { value: value.chars().take(64).collect(), expected: "a decimal number" };
    let parsed = Parsed::read(value).ok_or_else(unfit)?;
    let unscaled = round_digits(parsed.digits(), parsed.point(), scale);
    let unscaled = unscaled.ok_or_else(|| out_of_range(&value, precision, scale))?;
    numeric_within(if parsed.negative { -unscaled } else { unscaled }, precision, scale, &value, out)
}

fn out_of_range(value: &dyn std::fmt::Display, precision: u16, scale: u16) -> Unfit {
    Unfit::Range { value: value.to_string(), into: format!("numeric({precision},{scale})") }
}

fn numeric_within(
    unscaled: i128,
    precision: u16,
    scale: u16,
    value: &dyn std::fmt::Display,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    // Precisions beyond the table exceed what 128 bits can hold anyway.
    if POWERS.get(usize::from(precision)).is_some_and(|bound| unscaled.unsigned_abs() >= *bound) {
        return Err(out_of_range(value, precision, scale));
    }
    numeric(unscaled, scale, out);
    Ok(())
}

/// Handles the common case without formatting: the double is a decimal number of at most `scale` fractional digits. r /
/// 10^scale rounds correctly. So if it yields the same double, r is what the producer wrote.
#[allow(clippy::cast_possible_truncation, reason = "the bounds below keep the value within 2^53, where it is exact")]
#[allow(clippy::float_cmp, reason = "the comparison is the proof that nothing was lost")]
fn scaled_exactly(value: f64, scale: u16) -> Option<i64> {
    const EXACT: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
    let unit = *EXACT.get(usize::from(scale))?;
    let scaled = value * unit;
    let rounded = match scaled.abs() {
        // The value is rounded manually if adding half a unit is exact (below 2^51), because the function costs a call.
        ..2.0e15 => (scaled + 0.5f64.copysign(scaled)) as i64,
        ..9.0e15 => scaled.round() as i64,
        _ => return None,
    };
    (rounded as f64 / unit == value).then_some(rounded)
}

fn scaled_by_digits(value: f64, scale: u16) -> Option<i128> {
    if !value.is_finite() {
        return None;
    }
    // {:e} prints the shortest digits that parse to the same double: d.ddde±x
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e')?;
    let digits = mantissa.bytes().filter(|byte| *byte != b'.');
    let unscaled = round_digits(digits, exponent.parse::<i32>().ok()?.checked_add(1)?, scale)?;
    Some(if value < 0.0 { -unscaled } else { unscaled })
}

/// Rounds the digits d1 d2 d3 … with the decimal point after digit `point` to units of 10^-scale, half to even. Returns
/// `None` if the result exceeds what any numeric column here can hold (38 digits).
fn round_digits(digits: impl Iterator<Item = u8>, point: i32, scale: u16) -> Option<i128> {
    let keep = point.checked_add(i32::from(scale))?;
    let (mut unscaled, mut seen) = (0i128, 0i32);
    let (mut half, mut sticky) = (0u8, false);
    for digit in digits {
        let digit = digit - b'0';
        if seen < keep {
            unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit))?;
        } else if seen == keep {
            half = digit;
        } else {
            sticky |= digit != 0;
        }
        seen += 1;
    }
    if unscaled != 0 {
        for _ in seen..keep {
            unscaled = unscaled.checked_mul(10)?;
        }
    }
    let up = half > 5 || (half == 5 && (sticky || unscaled % 2 == 1));
    let up = up && keep >= 0;
    (unscaled < 10i128.pow(38) - 1).then_some(unscaled + i128::from(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes numeric's binary form as PostgreSQL prints it.
    fn printed(bytes: &[u8]) -> String {
        let word = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (count, weight, sign, scale) = (word(0), word(2), word(4), word(6));
        assert_eq!(bytes.len(), 8 + 2 * usize::try_from(count).unwrap());
        let digit = |position: i16| {
            let index = weight - position;
            if (0..count).contains(&index) { word(8 + 2 * usize::try_from(index).unwrap()) } else { 0 }
        };
        let whole: String = (0..=weight.max(0)).rev().map(|position| format!("{:04}", digit(position))).collect();
        let whole = whole.trim_start_matches('0');
        let fraction: String = (1..=(scale + 3) / 4).map(|position| format!("{:04}", digit(-position))).collect();
        let fraction = &fraction[..usize::try_from(scale).unwrap()];
        let sign = if sign == 0x4000 { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    #[test]
    fn only_a_real_escape_of_nul_is_refused_by_jsonb() {
        for (json, legal) in [
            (r#""\u0000""#, false),
            (r#""a\\\u0000""#, false),
            (r#"{"a":["\\u0000","\u0000"]}"#, false),
            (r#""\\u0000""#, true),
            (r#""\\\\u0000""#, true),
            (r#""C:\\u0000\u00e9""#, true),
            ("0", true),
        ] {
            let mut out = Vec::new();
            assert_eq!(jsonb(json, &mut out).is_ok(), legal, "{json}");
            assert_eq!(out.len(), if legal { json.len() + 1 } else { 0 }, "{json}");
        }
    }

    fn from_f64(value: f64, scale: u16) -> String {
        let mut out = Vec::new();
        numeric_from_f64(value, 18, scale, &mut out).unwrap();
        printed(&out)
    }

    #[test]
    fn doubles_become_the_decimals_that_were_meant() {
        for (value, scale, expected) in [
            (0.0, 2, "0.00"),
            (12.34, 2, "12.34"),
            (-12.3, 2, "-12.30"),
            (10_000.0, 2, "10000.00"),
            (0.005, 2, "0.00"),
            (0.015, 2, "0.02"),
            (0.025, 2, "0.02"),
            (1.005, 2, "1.00"),
            (2.675, 2, "2.68"),
            (0.0051, 2, "0.01"),
            (99_999_999.995, 2, "100000000.00"),
            (123_456.789_1, 4, "123456.7891"),
            (1e-7, 2, "0.00"),
            (2.5, 0, "2"),
            (3.5, 0, "4"),
            (1e15, 2, "1000000000000000.00"),
            (0.05, 1, "0.0"),
            (0.15, 1, "0.2"),
            (0.06, 0, "0"),
            (0.6, 0, "1"),
        ] {
            assert_eq!(from_f64(value, scale), expected, "{value} at scale {scale}");
        }
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let mut out = Vec::new();
        for value in [f64::NAN, f64::INFINITY, 1e17, -1e17] {
            assert!(matches!(numeric_from_f64(value, 18, 2, &mut out), Err(Unfit::Range { .. })), "{value}");
        }
        assert!(numeric_from_f64(9_999_999.995, 9, 2, &mut out).is_err(), "rounding may push it over the bound");
        assert!(matches!(integer(32_768, 2, &mut out), Err(Unfit::Range { .. })));
        assert!(matches!(text("a\0b".into(), None, &mut out), Err(Unfit::Nul)));
        assert!(matches!(timestamp(i64::MIN, &mut out), Err(Unfit::Range { .. })));
        assert!(matches!(timestamp_in(i64::MAX, 1_000_000, &mut out), Err(Unfit::Range { .. })));
        assert!(matches!(numeric_from_text("12,5", 10, 2, &mut out), Err(Unfit::Format { .. })));
        for bad in ["", "123", "6f9619ff-8b86-d011-b42d-00c04fc964fg", "6f9619ff8b86d011b42d00c04fc964ff0"] {
            assert!(matches!(uuid(bad, &mut out), Err(Unfit::Format { .. })), "{bad}");
        }
    }

    #[test]
    fn the_longest_numbers_keep_every_digit() {
        let text = |value: &str, precision, scale| {
            let mut out = Vec::new();
            numeric_from_text(value, precision, scale, &mut out).map(|()| printed(&out))
        };
        for (value, scale) in [
            ("1234567890123456789012345678901234567", 0),
            ("123456789012345678901234567890123456.7", 1),
            ("-12345678901234567890123456789012345.67", 2),
            ("18446744073709551615", 0),
            ("1844674407370955161.6", 1),
            ("0.00001", 5),
        ] {
            assert_eq!(text(value, 38, scale).as_deref(), Ok(value));
        }
        assert_eq!(text("7", 1_000, 0).as_deref(), Ok("7"), "a bound beyond 128 bits bounds nothing");
        assert!(text("1234", 3, 0).is_err());
        let mut out = Vec::new();
        assert!(numeric_from_int(1, 1_000, 60, &mut out).is_err() && numeric_from_int(0, 1_000, 60, &mut out).is_ok());
    }

    #[test]
    fn text_numbers_round_half_to_even() {
        for (value, expected) in [
            ("1.005", "1.00"),
            ("1.015", "1.02"),
            ("-7", "-7.00"),
            ("1e3", "1000.00"),
            ("12e-1", "1.20"),
            ("+.5", "0.50"),
        ] {
            let mut out = Vec::new();
            numeric_from_text(value, 18, 2, &mut out).unwrap();
            assert_eq!(printed(&out), expected, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn both_ways_to_a_number_give_the_same(unscaled: i64, tens in 0_u32..19, scale in 0_u16..40) {
            // The number has trailing zeros, which are omitted, and zeros further left, which are not.
            let unscaled = i128::from(unscaled) / 10_i128.pow(tens) * 10_i128.pow(tens / 2);
            let (mut short, mut long) = (Vec::new(), Vec::new());
            numeric(unscaled, scale, &mut short);
            if unscaled != 0 {
                numeric_of_128(unscaled, scale, &mut long);
                proptest::prop_assert_eq!(&short, &long);
            }
            let places = usize::from(scale);
            let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let sign = if unscaled < 0 { "-" } else { "" };
            let point = if scale == 0 { "" } else { "." };
            proptest::prop_assert_eq!(printed(&short), format!("{sign}{whole}{point}{fraction}"));
        }

        #[test]
        fn cents_survive(cents in -999_999_999_999i64..999_999_999_999) {
            #[allow(clippy::cast_precision_loss, reason = "the range is within 2^53")]
            let text = from_f64(cents as f64 / 100.0, 2);
            let expected = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
            proptest::prop_assert_eq!(text, expected);
        }
    }
}
