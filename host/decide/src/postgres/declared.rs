//! The rarer conversions. Each is checked in full before PostgreSQL receives the value. They are separate from
//! `cell.rs`, whose code is inlined for every kind of value.

use std::net::IpAddr;

use tollgate_contract::iso::{self, DAY, Interval};
use tollgate_contract::{
    Civil, Text, date_parts, date_time_parts, decimal_text, duration_parts, money_parts, time_of_day_parts,
};

use super::binary;
use super::decimal::{self, Keep};
use super::input::{Input, shown, utf8};
use super::times::{self, Target, Times};
use super::unfit::Unfit;

/// A message type whose values one of PostgreSQL's column types can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Date,
    TimeOfDay,
    DateTime,
    Money,
    Decimal,
    Duration,
}

impl Known {
    pub fn of(message: &str) -> Option<Known> {
        Some(match message {
            "google.type.Date" => Known::Date,
            "google.type.TimeOfDay" => Known::TimeOfDay,
            "google.type.DateTime" => Known::DateTime,
            "google.type.Money" => Known::Money,
            "google.type.Decimal" => Known::Decimal,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Known::Date => "a google.type.Date",
            Known::TimeOfDay => "a google.type.TimeOfDay",
            Known::DateTime => "a google.type.DateTime",
            Known::Money => "a google.type.Money",
            Known::Decimal => "a google.type.Decimal",
            Known::Duration => "a google.protobuf.Duration",
        }
    }

    /// Returns the column type that accepts its values by default.
    pub fn fits(self) -> &'static str {
        match self {
            Known::Date => "date or jsonb",
            Known::TimeOfDay => "time or jsonb",
            Known::DateTime => "timestamptz, timestamp or jsonb",
            Known::Money => "jsonb",
            Known::Decimal => "numeric or jsonb",
            Known::Duration => "interval or jsonb",
        }
    }

    /// Returns whether the column holds times of this kind.
    pub fn is(self, target: Target) -> bool {
        match self {
            Known::Date => target == Target::Date,
            Known::TimeOfDay => target == Target::TimeOfDay,
            Known::DateTime => matches!(target, Target::Instant | Target::Local),
            Known::Duration => target == Target::Interval,
            Known::Money | Known::Decimal => false,
        }
    }
}

/// The labels of an enum type, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    sql_type: String,
    labels: Vec<String>,
}

impl Labels {
    pub fn new(sql_type: &str, labels: &[String]) -> Labels {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        Labels { sql_type: sql_type.to_owned(), labels }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// `numeric` that does not fit into 128 bits, or keeps every digit. With `key`, equal numbers must be equal bytes.
    Number {
        keep: Keep,
        key: bool,
    },
    Times(Times),
    /// Text that must be a label of an enum type.
    Label(Labels),
    /// `inet`, or `cidr`: a network without bits to the right of its mask.
    Inet {
        cidr: bool,
    },
    JsonText {
        binary: bool,
    },
    /// A floating-point number in a key. PostgreSQL treats 0.0 and -0.0 as equal, and all NaNs as equal.
    KeyFloat {
        width: usize,
    },
    /// A message that represents a time.
    KnownTime {
        known: Known,
        target: Target,
    },
    /// A message that represents a number.
    KnownNumber {
        known: Known,
        keep: Keep,
        key: bool,
    },
}

impl Declared {
    /// Returns whether its input is a message's bytes.
    pub fn reads_message(&self) -> bool {
        matches!(self, Declared::KnownTime { .. } | Declared::KnownNumber { .. })
    }

    #[cold]
    #[inline(never)]
    pub fn encode(&self, input: Input<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let format = |expected| Unfit::Format { value: shown(input), expected };
        match (self, input) {
            (Declared::Times(times), input) => times.encode(input, out),
            (Declared::Number { keep, key }, Input::Float(value)) => decimal::from_f64(value, *keep, *key, out),
            (Declared::Number { keep, key }, Input::Int(value)) => {
                decimal::from_text(&value.to_string(), *keep, *key, out)
            }
            (Declared::Number { keep, key }, input) => decimal::from_text(&text(input)?, *keep, *key, out),
            (Declared::Label(Labels { sql_type, labels }), input) => {
                let label = text(input)?;
                if labels.binary_search_by(|known| known.as_str().cmp(&label)).is_err() {
                    return Err(Unfit::NoLabel { label: label.chars().take(64).collect(), into: sql_type.clone() });
                }
                out.extend_from_slice(label.as_bytes());
                Ok(())
            }
            (Declared::Inet { cidr }, input) => {
                let expected = if *cidr { "a network such as 10.0.0.0/8" } else { "an IP address" };
                inet(&text(input)?, *cidr, out).ok_or_else(|| format(expected))
            }
            (Declared::JsonText { binary }, input) => json(&text(input)?, *binary, out),
            (Declared::KeyFloat { width }, Input::Float(value)) => key_float(value, *width, out),
            (Declared::KnownTime { known, target }, Input::Message(bytes)) => known_time(*known, *target, bytes, out),
            (Declared::KnownNumber { known, keep, key }, Input::Message(bytes)) => {
                let number = known_number(*known, bytes).ok_or_else(|| format("a number"))?;
                decimal::from_text(&number, *keep, *key, out)
            }
            // The kinds were matched when the pipeline started.
            (Declared::KeyFloat { .. } | Declared::KnownTime { .. } | Declared::KnownNumber { .. }, _) => {
                Err(format("a value of the column's type"))
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn text(input: Input<'_>) -> Result<std::borrow::Cow<'_, str>, Unfit> {
    Ok(match input {
        Input::Text(text) => text.as_str().into(),
        Input::Bytes(bytes) => utf8(bytes)?.into(),
        other => shown(other).into(),
    })
}

/// Encodes the binary form: family, bits of the mask, whether it is a cidr, and the length and bytes of the address.
fn inet(text: &str, cidr: bool, out: &mut Vec<u8>) -> Option<()> {
    const FAMILY_4: u8 = 2;
    const FAMILY_6: u8 = 3;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let (family, bytes) = match address {
        IpAddr::V4(address) => (FAMILY_4, address.octets().to_vec()),
        IpAddr::V6(address) => (FAMILY_6, address.octets().to_vec()),
    };
    let longest = u8::try_from(bytes.len() * 8).ok()?;
    let bits = match bits {
        Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            bits.parse().ok().filter(|bits| *bits <= longest)?
        }
        Some(_) => return None,
        None => longest,
    };
    let host = |(at, byte): (usize, &u8)| {
        let kept = usize::from(bits).saturating_sub(at * 8).min(8);
        u32::from(*byte) << kept & 0xff != 0
    };
    if cidr && bytes.iter().enumerate().any(host) {
        return None;
    }
    out.extend_from_slice(&[family, bits, u8::from(cidr), u8::try_from(bytes.len()).ok()?]);
    out.extend_from_slice(&bytes);
    Some(())
}

/// Encodes a JSON document without reformatting it.
fn json(text: &str, binary: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unfit = |_| Unfit::Format { value: text.chars().take(64).collect(), expected: "a JSON document" };
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(unfit)?;
    if binary && !surrogates_pair(text) {
        return Err(Unfit::Format {
            value: text.chars().take(64).collect(),
            expected: "JSON whose escapes are all characters",
        });
    }
    if binary { binary::jsonb(text, out) } else { binary::text(Text::from(text), None, out) }
}

/// Returns whether every escaped surrogate has its other half. jsonb stores characters, while json keeps the escapes.
fn surrogates_pair(json: &str) -> bool {
    let mut rest = json;
    let mut high = false;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at + 1..];
        let unit = escape.strip_prefix('u').and_then(|digits| u16::from_str_radix(digits.get(..4)?, 16).ok());
        match unit {
            Some(0xdc00..=0xdfff) if high && at == 0 => high = false,
            _ if high => return false,
            Some(0xdc00..=0xdfff) => return false,
            Some(0xd800..=0xdbff) => high = true,
            Some(_) | None => {}
        }
        // An escape is the backslash and one character, or `u` and four digits.
        rest = escape.get(if unit.is_some() { 5 } else { 1 }..).unwrap_or_default();
    }
    !high
}

#[allow(clippy::cast_possible_truncation, reason = "the check after the cast finds what overflowed")]
fn key_float(value: f64, width: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let value = match value {
        value if value.is_nan() => f64::NAN,
        // Minus zero becomes zero.
        value => value + 0.0,
    };
    if width == 8 {
        out.extend_from_slice(&value.to_be_bytes());
        return Ok(());
    }
    let narrow = value as f32 + 0.0;
    if narrow.is_infinite() && value.is_finite() {
        return Err(Unfit::Range { value: value.to_string(), into: "real".into() });
    }
    out.extend_from_slice(&narrow.to_be_bytes());
    Ok(())
}

fn known_time(known: Known, target: Target, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    let unfit = |expected| Unfit::Format { value: known.name().to_owned(), expected };
    match known {
        Known::Date => {
            let days = date_parts(bytes).and_then(|Civil { year, month, day }| iso::days_of(year, month, day));
            times::date(days.ok_or_else(|| unfit("a full date of the calendar"))?, out)
        }
        Known::TimeOfDay => {
            let micros = time_of_day_parts(bytes).ok_or_else(|| unfit("a time of day"))?;
            times::time_of_day(micros, out)
        }
        Known::DateTime => {
            let parts = date_time_parts(bytes).ok_or_else(|| unfit("a date and time"))?;
            let Civil { year, month, day } = parts.date;
            let days = iso::days_of(year, month, day).ok_or_else(|| unfit("a full date of the calendar"))?;
            let offset = match (parts.offset_seconds, target) {
                (Some(offset), _) => offset,
                (None, Target::Local) if !parts.zoned => 0,
                (None, _) => return Err(unfit("a time with a utc_offset")),
            };
            binary::timestamp(days * DAY + parts.micros - offset * 1_000_000, out)
        }
        Known::Duration => {
            let (seconds, nanos) = duration_parts(bytes).ok_or_else(|| unfit("in a Duration's range"))?;
            times::interval(
                Interval { micros: seconds * 1_000_000 + i64::from(nanos / 1_000), ..Interval::default() },
                out,
            );
            Ok(())
        }
        Known::Money | Known::Decimal => Err(unfit("a time")),
    }
}

/// Returns the number as decimal text.
fn known_number(known: Known, bytes: &[u8]) -> Option<String> {
    if known == Known::Decimal {
        // An empty value is zero, as the type's documentation defines.
        let text = decimal_text(bytes)?;
        return Some(if text.is_empty() { "0".to_owned() } else { text.to_owned() });
    }
    let (units, nanos) = money_parts(bytes)?;
    if known != Known::Money || nanos.unsigned_abs() > 999_999_999 || units > 0 && nanos < 0 || units < 0 && nanos > 0 {
        return None;
    }
    let sign = if units < 0 || nanos < 0 { "-" } else { "" };
    let number = format!("{sign}{}.{:09}", units.unsigned_abs(), nanos.unsigned_abs());
    Some(number.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn encoded(declared: &Declared, input: Input<'_>) -> Result<Vec<u8>, Unfit> {
        let mut out = Vec::new();
        declared.encode(input, &mut out).map(|()| out)
    }

    #[test]
    fn texts_that_the_enum_type_lacks_are_refused() {
        let roles = Declared::Label(Labels::new("role_t", &["user".to_owned(), "admin".to_owned()]));
        assert_eq!(encoded(&roles, Input::Text("admin".into())).as_deref(), Ok(&b"admin"[..]));
        assert_eq!(encoded(&roles, Input::Bytes(b"user")).as_deref(), Ok(&b"user"[..]));
        let refused = encoded(&roles, Input::Text("nobody".into())).unwrap_err();
        assert_eq!(refused.to_string(), "\"nobody\" is not a label of the enum type role_t");
    }

    #[test]
    fn addresses_are_one_value_in_one_spelling() {
        let inet = |text: &str| encoded(&Declared::Inet { cidr: false }, Input::Text(text.into()));
        let cidr = |text: &str| encoded(&Declared::Inet { cidr: true }, Input::Text(text.into()));
        assert_eq!(inet("10.0.0.1").as_deref(), Ok(&[2, 32, 0, 4, 10, 0, 0, 1][..]));
        assert_eq!(inet("10.0.0.1"), inet("10.0.0.1/32"));
        assert_eq!(inet("2001:DB8::1"), inet("2001:db8:0:0:0:0:0:1/128"));
        assert_eq!(cidr("10.0.0.0/9").as_deref(), Ok(&[2, 9, 1, 4, 10, 0, 0, 0][..]));
        for bad in ["10.0.0", "10.0.0.1/33", "10.0.0.1/+8", "::1/129", "", "host"] {
            assert!(inet(bad).is_err(), "{bad}");
        }
        assert!(cidr("10.1.0.0/15").is_err() && cidr("10.128.0.0/9").is_ok(), "no bits to the right of the mask");
    }

    #[test]
    fn json_text_is_kept_as_it_is_written() {
        let json = |text: &str, binary| encoded(&Declared::JsonText { binary }, Input::Text(text.into()));
        assert_eq!(json("{\"x\": 1.10}", true).as_deref(), Ok(&b"\x01{\"x\": 1.10}"[..]));
        assert_eq!(json("[1e999]", false).as_deref(), Ok(&b"[1e999]"[..]));
        for bad in ["", "not json", "{\"x\":1} 2", "{'x':1}", "nul"] {
            assert!(matches!(json(bad, true), Err(Unfit::Format { .. })), "{bad}");
        }
        assert_eq!(json(r#""\u0000""#, true), Err(Unfit::Nul));
        for (text, legal) in [
            (r#""\ud83d\ude00""#, true),
            (r#""\\ud83d""#, true),
            (r#""\ud83d""#, false),
            (r#""\ud83dx\ude00""#, false),
            (r#""\ude00\ud83d""#, false),
            (r#""\ud83d\n""#, false),
        ] {
            assert_eq!(json(text, true).is_ok(), legal, "{text}");
        }
    }

    #[test]
    fn equal_floats_in_a_key_are_equal_bytes() {
        for width in [4, 8] {
            let key = |value: f64| encoded(&Declared::KeyFloat { width }, Input::Float(value)).unwrap();
            assert_eq!(key(0.0), key(-0.0));
            assert_eq!(key(f64::NAN), key(-f64::NAN));
            assert_ne!(key(1.0), key(-1.0));
            assert_eq!(key(1.5).len(), width);
        }
        let tiny = |value| encoded(&Declared::KeyFloat { width: 4 }, Input::Float(value)).unwrap();
        assert_eq!(tiny(-1e-60), tiny(0.0), "what becomes zero as it is narrowed");
    }

    /// Encodes fields 1, 2, … as varints.
    fn varints(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, value) in values.iter().enumerate() {
            prost::encoding::int64::encode(u32::try_from(at + 1).unwrap(), value, &mut out);
        }
        out
    }

    #[test]
    fn messages_of_google_type_are_the_values_that_they_mean() {
        let time = |known, target, bytes: &[u8]| {
            let out = encoded(&Declared::KnownTime { known, target }, Input::Message(bytes));
            out.map(|out| times::show(target, &out).unwrap())
        };
        let date = varints(&[2026, 2, 28]);
        assert_eq!(time(Known::Date, Target::Date, &date).as_deref(), Ok("2026-02-28"));
        assert!(time(Known::Date, Target::Date, &varints(&[2026, 2, 30])).is_err());
        assert!(time(Known::Date, Target::Date, &varints(&[2026, 2])).is_err(), "a month is no date");
        let clock = varints(&[12, 30, 5, 1_500]);
        assert_eq!(time(Known::TimeOfDay, Target::TimeOfDay, &clock).as_deref(), Ok("12:30:05.000001"));
        assert!(time(Known::TimeOfDay, Target::TimeOfDay, &varints(&[24, 0])).is_err());
        let moment = varints(&[2026, 1, 31, 13]);
        assert_eq!(time(Known::DateTime, Target::Local, &moment).as_deref(), Ok("2026-01-31 13:00:00.000000"));
        assert!(time(Known::DateTime, Target::Instant, &moment).is_err(), "no zone is guessed");
        let duration = varints(&[-3_600, -500_000_000]);
        assert_eq!(
            time(Known::Duration, Target::Interval, &duration).as_deref(),
            Ok("0 mons 0 days -3600500000 microseconds")
        );
    }
    #[test]
    fn money_and_decimals_are_numbers() {
        let keep = Keep::Exact { within: None };
        let number = |known, bytes: &[u8]| {
            let out = encoded(&Declared::KnownNumber { known, keep, key: false }, Input::Message(bytes));
            out.map(|out| decimal::show(&out))
        };
        let money = |units: i64, nanos: i64| {
            let mut bytes = Vec::new();
            prost::encoding::string::encode(1, &"EUR".to_owned(), &mut bytes);
            prost::encoding::int64::encode(2, &units, &mut bytes);
            prost::encoding::int64::encode(3, &nanos, &mut bytes);
            number(Known::Money, &bytes)
        };
        for (units, nanos, expected) in [
            (12, 500_000_000, "12.5"),
            (-12, -1, "-12.000000001"),
            (0, -10_000_000, "-0.01"),
            (0, 0, "0"),
            (100, 0, "100"),
        ] {
            assert_eq!(money(units, nanos).as_deref(), Ok(expected));
        }
        assert!(money(1, -1).is_err() && money(-1, 1).is_err() && money(0, 1_000_000_000).is_err());
        let decimal = |value: &str| {
            let mut bytes = Vec::new();
            prost::encoding::string::encode(1, &value.to_owned(), &mut bytes);
            number(Known::Decimal, &bytes)
        };
        assert_eq!(decimal("1.2300e2").as_deref(), Ok("123.00"));
        assert_eq!(decimal("").as_deref(), Ok("0"));
        assert!(decimal("1,5").is_err());
    }
}
