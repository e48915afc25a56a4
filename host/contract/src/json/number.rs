//! JSON numbers, parsed from their text without losing or inventing digits.

/// A decimal number as written: digits without the point, and a power of ten.
struct Decimal<'t> {
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
    exponent: i64,
}

/// The reason why a text does not fit a numeric field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Not a number.
    Format,
    /// A number with a fraction for an integer field.
    Fraction,
    Range,
}

/// Parses an integer. Protobuf's JSON mapping allows numbers and strings, also `1.0` and `1e2`. A leading plus sign,
/// leading zeros and a point at either end are allowed only in strings, where other readers accept them too.
pub(super) fn integer<T: TryFrom<i128>>(text: &str) -> Result<T, Misfit> {
    let decimal = decimal(text).ok_or(Misfit::Format)?;
    let fraction = decimal.fraction.trim_end_matches('0');
    let whole = decimal.whole.trim_start_matches('0');
    let digits = || whole.bytes().chain(fraction.bytes());
    let zeros = digits().rev().take_while(|digit| *digit == b'0').count();
    let count = whole.len() + fraction.len() - zeros;
    if digits().all(|digit| digit == b'0') {
        return T::try_from(0).map_err(|_| Misfit::Range);
    }
    let lengths = [zeros, fraction.len()].map(|length| i64::try_from(length).unwrap_or(i64::MAX));
    let power = decimal.exponent.saturating_add(lengths[0]).saturating_sub(lengths[1]);
    let power = u32::try_from(power).map_err(|_| if power < 0 { Misfit::Fraction } else { Misfit::Range })?;
    let magnitude = digits()
        .take(count)
        .try_fold(0_i128, |number, digit| number.checked_mul(10)?.checked_add(i128::from(digit - b'0')))
        .and_then(|number| number.checked_mul(10_i128.checked_pow(power)?))
        .ok_or(Misfit::Range)?;
    T::try_from(if decimal.negative { -magnitude } else { magnitude }).map_err(|_| Misfit::Range)
}

/// Parses a double, or in a string `NaN`, `Infinity` and `-Infinity`.
pub(super) fn double(text: &str, quoted: bool) -> Result<f64, Misfit> {
    if let Some(special) = special(text).filter(|_| quoted) {
        return Ok(special);
    }
    decimal(text).ok_or(Misfit::Format)?;
    let value: f64 = text.parse().map_err(|_| Misfit::Format)?;
    if value.is_finite() { Ok(value) } else { Err(Misfit::Range) }
}

/// Parses a float with one rounding: going through a double would round twice.
#[allow(clippy::cast_possible_truncation, reason = "NaN and the infinities have a float each")]
pub(super) fn float(text: &str, quoted: bool) -> Result<f32, Misfit> {
    if let Some(special) = special(text).filter(|_| quoted) {
        return Ok(special as f32);
    }
    decimal(text).ok_or(Misfit::Format)?;
    let value: f32 = text.parse().map_err(|_| Misfit::Format)?;
    if value.is_finite() { Ok(value) } else { Err(Misfit::Range) }
}

fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn decimal(text: &str) -> Option<Decimal<'_>> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, power(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    let is_number = digits().next().is_some() && digits().all(|byte| byte.is_ascii_digit());
    is_number.then_some(Decimal { negative, whole, fraction, exponent })
}

/// Parses the exponent after `e`; a value beyond 64 bits is clamped.
fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse().unwrap_or(i64::MAX);
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_all_their_forms() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("1e2", Ok(100)),
            ("1.0", Ok(1)),
            ("-1.50e1", Ok(-15)),
            ("100000.000", Ok(100_000)),
            ("2.147483647e9", Ok(i32::MAX)),
            ("-2147483648", Ok(i32::MIN)),
            ("1000e-3", Ok(1)),
            ("0e999999999999999999999", Ok(0)),
            ("0.0e-5", Ok(0)),
            ("007", Ok(7)),
            ("+7", Ok(7)),
            ("2147483648", Err(Misfit::Range)),
            ("1e536870000", Err(Misfit::Range)),
            ("1e99999999999999999999", Err(Misfit::Range)),
            ("0.5", Err(Misfit::Fraction)),
            ("1e-1", Err(Misfit::Fraction)),
            ("1e-99999999999999999999", Err(Misfit::Fraction)),
            ("", Err(Misfit::Format)),
            ("-", Err(Misfit::Format)),
            (" 1", Err(Misfit::Format)),
            ("1 ", Err(Misfit::Format)),
            ("12abc", Err(Misfit::Format)),
            ("1.", Ok(1)),
            (".5", Err(Misfit::Fraction)),
            (".", Err(Misfit::Format)),
            ("0x10", Err(Misfit::Format)),
            ("1e", Err(Misfit::Format)),
            ("NaN", Err(Misfit::Format)),
        ] {
            assert_eq!(integer::<i32>(text), expected, "{text}");
        }
        assert_eq!(integer("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(integer::<u64>("-1"), Err(Misfit::Range));
        assert_eq!(integer("1844674407370955161500000000000000000000e-20"), Ok(u64::MAX));
        assert_eq!(integer::<u64>("1844674407370955161500000000000000000000e-21"), Err(Misfit::Fraction));
    }

    #[test]
    fn floats_are_rounded_once() {
        // Slightly above the midpoint of two floats: a double would lose the difference.
        assert_eq!(float("1.000000059604644775390626", false).map(f32::to_bits), Ok(1.0_f32.to_bits() + 1));
        assert_eq!(float("3.502823e+38", false), Err(Misfit::Range));
        assert_eq!(double("1.89769e+308", false), Err(Misfit::Range));
        assert_eq!(double("-Infinity", true), Ok(f64::NEG_INFINITY));
        for wrong in ["nan", "inf", "infinity", "+Infinity", "", "1,5", "1e", "0x1p3"] {
            assert_eq!(double(wrong, true), Err(Misfit::Format), "{wrong}");
            assert_eq!(float(wrong, true), Err(Misfit::Format), "{wrong}");
        }
        assert_eq!(double("NaN", false), Err(Misfit::Format));
        assert!(double("-0", false).is_ok_and(f64::is_sign_negative));
    }
}
