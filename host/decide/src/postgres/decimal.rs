//! Encodes decimal numbers of any length in the binary form of `numeric`. This is for columns of more than 38 digits,
//! which 128 bits cannot hold, and for `as: numeric`, which keeps every digit.

use super::unfit::Unfit;
use tollgate_config::limits;

/// A parsed decimal number: an optional sign, digits, an optional fraction and exponent.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<'a> {
    pub negative: bool,
    pub whole: &'a str,
    pub fraction: &'a str,
    pub exponent: i32,
}

impl<'a> Parsed<'a> {
    /// Parses a text. Returns `None` if it is not a decimal number; blanks are not allowed.
    pub fn read(text: &'a str) -> Option<Parsed<'a>> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let parsed = Parsed { negative, whole, fraction, exponent };
        let numeric = parsed.digits().next().is_some() && parsed.digits().all(|byte| byte.is_ascii_digit());
        numeric.then_some(parsed)
    }

    /// Iterates over all digits, without the point.
    pub fn digits(self) -> impl Iterator<Item = u8> + 'a {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    /// Returns the number of digits before the point. It is negative if zeros follow the point.
    pub fn point(self) -> i32 {
        i32::try_from(self.whole.len()).unwrap_or(i32::MAX).saturating_add(self.exponent)
    }

    /// Returns the number of fractional digits as written.
    fn scale(self) -> i64 {
        let fraction = i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
        fraction.saturating_sub(i64::from(self.exponent)).max(0)
    }
}

/// The digits of a number that its column keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// `as: "numeric(p,s)"`, which rounds half to even.
    Rounded { precision: u16, scale: u16 },
    /// `as: numeric`, which keeps every digit. `within` are the precision and scale of the column, if it has them.
    Exact { within: Option<(u16, i16)> },
}

/// A number without leading and trailing zeros: `0.d1d2d3… × 10^point`.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
    /// The number of fractional digits that are shown.
    scale: i64,
}

impl Digits {
    fn new(parsed: Parsed<'_>) -> Digits {
        let mut digits = Digits {
            negative: parsed.negative,
            digits: parsed.digits().map(|digit| digit - b'0').collect(),
            point: i64::from(parsed.point()),
            scale: parsed.scale(),
        };
        digits.trim();
        digits
    }

    fn trim(&mut self) {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        self.point -= length(zeros);
        if self.digits.is_empty() {
            (self.negative, self.point) = (false, 0);
        }
    }

    /// Returns the number of fractional digits without trailing zeros.
    fn significant_scale(&self) -> i64 {
        (length(self.digits.len()) - self.point).max(0)
    }

    /// Rounds to `scale` fractional digits, half to even.
    fn round(&mut self, scale: i64) {
        self.scale = self.scale.min(scale.max(0));
        let keep = self.point + scale;
        let Ok(kept) = usize::try_from(keep) else {
            self.digits.clear();
            return self.trim();
        };
        let Some(rest) = self.digits.get(kept..).filter(|rest| !rest.is_empty()) else { return };
        let odd = kept.checked_sub(1).is_some_and(|last| self.digits[last] % 2 == 1);
        let up = rest[0] > 5 || rest[0] == 5 && (rest.len() > 1 || odd);
        self.digits.truncate(kept);
        if up {
            self.raise();
        }
        self.trim();
    }

    /// Adds one to the last digit.
    fn raise(&mut self) {
        for digit in self.digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.digits.insert(0, 1);
        self.point += 1;
    }

    /// Encodes the number: its header, and its digits of base 10000, which are aligned at the point.
    fn write(&self, out: &mut Vec<u8>) {
        let lead = usize::try_from((-self.point).rem_euclid(4)).unwrap_or_default();
        let groups = (lead + self.digits.len()).div_ceil(4);
        let weight = if groups == 0 { 0 } else { (self.point + length(lead)) / 4 - 1 };
        // The caller has checked both limits.
        let narrow = |value: i64| i16::try_from(value).unwrap_or_default();
        out.extend_from_slice(&narrow(length(groups)).to_be_bytes());
        out.extend_from_slice(&narrow(weight).to_be_bytes());
        out.extend_from_slice(&(if self.negative { NEGATIVE } else { 0 }).to_be_bytes());
        out.extend_from_slice(&narrow(self.scale).to_be_bytes());
        for group in 0..groups {
            let digit = |place: usize| {
                let at = (4 * group + place).checked_sub(lead)?;
                self.digits.get(at).copied()
            };
            let value = (0..4).fold(0, |value, place| value * 10 + u16::from(digit(place).unwrap_or_default()));
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITE: u16 = 0xd000;
const MINUS_INFINITE: u16 = 0xf000;

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Encodes a decimal number in text. With `key`, equal numbers must be equal bytes, so trailing zeros are not shown.
pub fn from_text(text: &str, keep: Keep, key: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unfit = || Unfit::Format { value: text.chars().take(64).collect(), expected: "a decimal number" };
    let parsed = Parsed::read(text).ok_or_else(unfit)?;
    let mut number = Digits::new(parsed);
    let range = |into: String| Unfit::Range { value: text.chars().take(64).collect(), into };
    let whole = match keep {
        Keep::Rounded { precision, scale } => {
            number.round(i64::from(scale));
            i64::from(precision) - i64::from(scale)
        }
        Keep::Exact { within: Some((precision, scale)) } => {
            if number.significant_scale() > i64::from(scale).max(0) || number.point > 0 && scale < 0 {
                return Err(Unfit::Digits { value: text.chars().take(64).collect(), scale });
            }
            number.scale = number.scale.min(i64::from(scale).max(0));
            i64::from(precision) - i64::from(scale)
        }
        Keep::Exact { within: None } => limits::NUMERIC_WHOLE,
    };
    let zero = number.digits.is_empty();
    if !zero && number.point > whole || number.significant_scale() > limits::NUMERIC_FRACTION {
        return Err(range(match keep {
            Keep::Rounded { precision, scale } => format!("numeric({precision},{scale})"),
            Keep::Exact { within: Some((precision, scale)) } => format!("numeric({precision},{scale})"),
            Keep::Exact { within: None } => "numeric".to_owned(),
        }));
    }
    number.scale = if key { number.significant_scale() } else { number.scale.min(limits::NUMERIC_FRACTION) };
    number.write(out);
    Ok(())
}

/// Encodes a floating-point number by its shortest decimal form. A column without precision can also hold NaN and
/// infinities.
pub fn from_f64(value: f64, keep: Keep, key: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if value.is_finite() {
        return from_text(&format!("{value}"), keep, key, out);
    }
    if keep != (Keep::Exact { within: None }) {
        let into = match keep {
            Keep::Rounded { precision, scale } => format!("numeric({precision},{scale})"),
            Keep::Exact { .. } => "a numeric with a precision".to_owned(),
        };
        return Err(Unfit::Range { value: value.to_string(), into });
    }
    let sign = if value.is_nan() {
        NAN
    } else if value > 0.0 {
        INFINITE
    } else {
        MINUS_INFINITE
    };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    Ok(())
}

/// Decodes a number's binary form to decimal text, as used in array literals.
pub fn show(bytes: &[u8]) -> String {
    let word = |at: usize| bytes.get(at..at + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]));
    match word(4) {
        NAN => return "NaN".to_owned(),
        INFINITE => return "Infinity".to_owned(),
        MINUS_INFINITE => return "-Infinity".to_owned(),
        _ => {}
    }
    let (count, weight, scale) = (i64::from(word(0)), i64::from(word(2).cast_signed()), usize::from(word(6)));
    let group = |power: i64| {
        let index = usize::try_from(weight - power).ok().filter(|_| power <= weight && weight - power < count);
        index.map_or(0, |index| word(8 + 2 * index))
    };
    let whole: String = (0..=weight.max(0)).rev().map(|power| format!("{:04}", group(power))).collect();
    let whole = whole.trim_start_matches('0');
    let mut text = String::from(if word(4) == NEGATIVE { "-" } else { "" });
    text += if whole.is_empty() { "0" } else { whole };
    if scale > 0 {
        let groups = i64::try_from(scale.div_ceil(4)).unwrap_or_default();
        let fraction: String = (1..=groups).map(|power| format!("{:04}", group(-power))).collect();
        text.push('.');
        text += &fraction[..scale];
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn text(value: &str, keep: Keep) -> Result<String, Unfit> {
        let mut out = Vec::new();
        from_text(value, keep, false, &mut out).map(|()| show(&out))
    }

    const WIDE: Keep = Keep::Rounded { precision: 1_000, scale: 500 };
    const EXACT: Keep = Keep::Exact { within: None };

    #[test]
    fn numbers_beyond_38_digits_keep_every_digit() {
        let long = "1234567890".repeat(50);
        for value in
            ["0.123456789012345678901234567890", "-92233720368547758.08", "1", "0", "1.50", &long, "100000000.0001"]
        {
            assert_eq!(text(value, WIDE).as_deref(), Ok(value));
            assert_eq!(text(value, EXACT).as_deref(), Ok(value));
        }
        assert_eq!(text("1e3", WIDE).as_deref(), Ok("1000"));
        assert_eq!(text("1e-18", EXACT).as_deref(), Ok("0.000000000000000001"));
        assert_eq!(text("-0.00", EXACT).as_deref(), Ok("0.00"));
        assert_eq!(
            text(&format!("{long}0"), WIDE),
            Err(Unfit::Range { value: format!("{long}0")[..64].into(), into: "numeric(1000,500)".into() })
        );
        assert!(matches!(text("1e131073", EXACT), Err(Unfit::Range { .. })));
        assert!(matches!(text("1e-16384", EXACT), Err(Unfit::Range { .. })));
        assert!(matches!(text("1e2147483647", EXACT), Err(Unfit::Range { .. })), "nothing that long is ever allocated");
        for bad in ["", " 1.5 ", "1,5", "NaN", "1e", "--1", "."] {
            assert!(matches!(text(bad, EXACT), Err(Unfit::Format { .. })), "{bad:?}");
        }
    }

    #[test]
    fn wide_numbers_round_half_to_even() {
        let at = |scale| Keep::Rounded { precision: 60, scale };
        for (value, scale, expected) in [
            ("1.005", 2, "1.00"),
            ("1.015", 2, "1.02"),
            ("1.0050000001", 2, "1.01"),
            ("9.995", 2, "10.00"),
            ("0.5", 0, "0"),
            ("1.5", 0, "2"),
            ("0.0000000000000000005", 18, "0.000000000000000000"),
            ("0.06", 0, "0"),
        ] {
            assert_eq!(text(value, at(scale)).as_deref(), Ok(expected), "{value} at {scale}");
        }
    }

    #[test]
    fn an_exact_number_is_never_rounded() {
        let within = Keep::Exact { within: Some((6, 2)) };
        assert_eq!(text("1234.50", within).as_deref(), Ok("1234.50"));
        assert_eq!(text("1234.500", within).as_deref(), Ok("1234.50"), "a zero at the end is no digit that is lost");
        assert!(matches!(text("1234.505", within), Err(Unfit::Digits { .. })));
        assert!(matches!(text("12345", within), Err(Unfit::Range { .. })));
    }

    #[test]
    fn equal_keys_are_equal_bytes() {
        let key = |value: &str| {
            let mut out = Vec::new();
            from_text(value, EXACT, true, &mut out).map(|()| out)
        };
        assert_eq!(key("1.0"), key("1.000"));
        assert_eq!(key("-0"), key("0.0"));
        assert_ne!(key("1.0"), key("1.01"));
    }

    #[test]
    fn what_is_not_a_number_stands_only_where_no_precision_is() {
        let float = |value, keep| {
            let mut out = Vec::new();
            from_f64(value, keep, false, &mut out).map(|()| show(&out))
        };
        assert_eq!(float(f64::NAN, EXACT).as_deref(), Ok("NaN"));
        assert_eq!(float(f64::NEG_INFINITY, EXACT).as_deref(), Ok("-Infinity"));
        assert_eq!(float(0.1, WIDE).as_deref(), Ok("0.1"));
        assert_eq!(float(1e300, Keep::Rounded { precision: 700, scale: 350 }).map(|text| text.len()), Ok(301));
        assert_eq!(float(1e-300, WIDE).map(|text| text.len()), Ok(302));
        assert!(float(f64::NAN, WIDE).is_err() && float(f64::INFINITY, Keep::Exact { within: Some((9, 0)) }).is_err());
    }

    proptest::proptest! {
        #[test]
        fn both_ways_to_a_number_show_the_same(unscaled: i128, scale in 0_u16..30) {
            let unscaled = unscaled / 10_000;
            let places = usize::from(scale);
            let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let number = format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" });
            let (mut short, mut long) = (Vec::new(), Vec::new());
            super::super::binary::numeric(unscaled, scale, &mut short);
            from_text(&number, EXACT, false, &mut long).unwrap();
            proptest::prop_assert_eq!(short, long);
        }
    }
}
