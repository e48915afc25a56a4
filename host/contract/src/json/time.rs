//! Timestamps and durations as text, both ways.

use crate::iso;
use crate::well_known::{DURATION_SECONDS, NANOS_MAX, TIMESTAMP_SECONDS};

const NANOS: i32 = NANOS_MAX + 1;
const DAY: i64 = 86_400;

/// Parses RFC 3339 as Protobuf requires: a capital T and Z, an offset with a colon, at most nine fractional digits, no
/// leap second. Returns epoch seconds and nanoseconds.
pub(super) fn timestamp(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.split_once('T')?;
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    if date.next().is_some() {
        return None;
    }
    let days = iso::days_of(year, month, day)?;
    let end = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(end);
    let (clock, nanos) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, nanos(fraction)?),
        None => (clock, 0),
    };
    let mut clock = clock.split(':');
    let (hour, minute, second) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    if clock.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days * DAY + hour * 3_600 + minute * 60 + second - offset(zone)?;
    TIMESTAMP_SECONDS.contains(&seconds).then_some((seconds, nanos))
}

/// Parses `Z`, or an offset in seconds ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, zone) = match zone.strip_prefix('-') {
        Some(zone) => (-1, zone),
        None => (1, zone.strip_prefix('+')?),
    };
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Parses seconds with at most nine fractional digits, and an `s`. Returns seconds and nanoseconds of the same sign.
pub(super) fn duration(text: &str) -> Option<(i64, i32)> {
    let unsigned = text.strip_suffix('s')?;
    let (sign, unsigned) = match unsigned.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, unsigned),
    };
    let (whole, nanos) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, nanos(fraction)?),
        None => (unsigned, 0),
    };
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = whole.parse::<i64>().ok()?;
    DURATION_SECONDS.contains(&seconds).then_some((i64::from(sign) * seconds, sign * nanos))
}

/// Formats `2026-01-31T12:00:00Z`, with three, six or nine fractional digits if they are not all zero. `None` for
/// values out of the type's range.
pub(super) fn show_timestamp(seconds: i64, nanos: i32) -> Option<String> {
    if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..NANOS).contains(&nanos) {
        return None;
    }
    let (year, month, day) = iso::civil(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let fraction = fraction(nanos);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// Formats `-1.500s`. `None` for values out of the type's range, or with different signs.
pub(super) fn show_duration(seconds: i64, nanos: i32) -> Option<String> {
    let fits = DURATION_SECONDS.contains(&seconds) && (-NANOS_MAX..=NANOS_MAX).contains(&nanos);
    if !fits || seconds.signum() * i64::from(nanos.signum()) < 0 {
        return None;
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    Some(format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.abs())))
}

fn fraction(nanos: i32) -> String {
    match (nanos % 1_000_000, nanos % 1_000) {
        _ if nanos == 0 => String::new(),
        (0, _) => format!(".{:03}", nanos / 1_000_000),
        (_, 0) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

/// Parses a number of exactly `digits` digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Parses one to nine digits after a point.
fn nanos(fraction: &str) -> Option<i32> {
    if !(1..=9).contains(&fraction.len()) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = u32::try_from(9 - fraction.len()).ok()?;
    fraction.parse::<i32>().ok()?.checked_mul(10_i32.checked_pow(scale)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn times_come_back(seconds in TIMESTAMP_SECONDS, nanos in 0..NANOS) {
            let text = show_timestamp(seconds, nanos).unwrap();
            proptest::prop_assert_eq!(timestamp(&text), Some((seconds, nanos)));
            let reference = prost_types::Timestamp { seconds, nanos }.to_string();
            proptest::prop_assert_eq!(&text, &reference);
        }

        #[test]
        fn durations_come_back(seconds in DURATION_SECONDS, nanos in -NANOS_MAX..=NANOS_MAX) {
            let nanos = if seconds < 0 { -nanos.abs() } else if seconds > 0 { nanos.abs() } else { nanos };
            let text = show_duration(seconds, nanos).unwrap();
            proptest::prop_assert_eq!(duration(&text), Some((seconds, nanos)));
        }
    }
}
