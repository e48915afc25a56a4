//! The decimal number that a 32-bit float represents.

use std::fmt::Write as _;

/// From here on, not every integer is a 32-bit float.
const EXACT: f32 = 16_777_216.0;

/// Returns the double whose shortest decimal form is the shortest decimal form of this float: 0.1 for `0.1f32`, where
/// widening gives 0.10000000149011612. NaN and the infinities are unchanged.
///
/// All code that shows a float as a decimal number uses this: rows, JSON, messages. Only a `double precision` column
/// gets the widened value, which is the same point on the number line.
#[must_use]
#[allow(clippy::float_cmp, reason = "whole numbers below 2^24 are exact")]
pub fn decimal(value: f32) -> f64 {
    let widened = f64::from(value);
    if !value.is_finite() || (value.abs() < EXACT && value.trunc() == value) {
        return widened;
    }
    let mut digits = Digits::default();
    // The longest text is `-1.17549435e-38`. A longer one would fall back to the widened value.
    match write!(digits, "{value:e}") {
        Ok(()) => digits.as_str().parse().unwrap_or(widened),
        Err(_) => widened,
    }
}

/// Formats a double: the shortest decimal form, or `NaN`, `Infinity`, `-Infinity` as in Protobuf's JSON.
#[must_use]
pub fn double_text(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => value.to_string(),
    }
}

/// A short text on the stack, so that rows are written without allocating.
#[derive(Default)]
struct Digits {
    bytes: [u8; 24],
    length: usize,
}

impl Digits {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl std::fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn a_float_is_the_decimal_that_was_written() {
        for (float, expected) in [
            (0.1_f32, "0.1"),
            (2.675, "2.675"),
            (-0.3, "-0.3"),
            (1.0e-45, "0.000000000000000000000000000000000000000000001"),
            (16_777_216.0, "16777216"),
            (16_777_217.0, "16777216"),
            (7.0, "7"),
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(decimal(float).to_string(), expected);
        }
        assert_eq!(decimal(f32::MAX), 3.402_823_5e38);
        assert!(decimal(-0.0).is_sign_negative());
    }

    proptest::proptest! {
        #[test]
        fn both_have_the_same_digits_and_the_double_narrows_back(bits: u32) {
            let float = f32::from_bits(bits);
            let double = decimal(float);
            proptest::prop_assert_eq!(float.to_string(), double.to_string());
            if !float.is_nan() {
                #[allow(clippy::cast_possible_truncation, reason = "that is what is tested")]
                let back = double as f32;
                proptest::prop_assert_eq!(back.to_bits(), bits);
            }
        }
    }
}
