//! Timestamp, Duration and similar types, read directly from their bytes.

use crate::wire::{Cursor, Malformed, WireType, truncate};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in epoch seconds: the range of `google.protobuf.Timestamp`.
pub(crate) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About ±10,000 years: the range of `google.protobuf.Duration`.
pub(crate) const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
pub(crate) const NANOS_MAX: i32 = 999_999_999;

/// Returns epoch seconds and nanoseconds (0 to 999,999,999) of a Timestamp's bytes; `None` if malformed or out of the
/// type's range.
#[must_use]
pub fn timestamp_parts(message: &[u8]) -> Option<(i64, i32)> {
    let (seconds, nanos) = seconds_and_nanos(message).ok()?;
    (TIMESTAMP_SECONDS.contains(&seconds) && (0..=NANOS_MAX).contains(&nanos)).then_some((seconds, nanos))
}

/// Returns epoch microseconds of a Timestamp's bytes, rounded down; `None` if malformed or out of the type's range.
#[must_use]
pub fn timestamp_micros(message: &[u8]) -> Option<i64> {
    // The result cannot overflow: 253,402,300,799 s are 2.5e17 µs.
    timestamp_parts(message).map(|(seconds, nanos)| seconds * 1_000_000 + i64::from(nanos / 1_000))
}

/// Returns seconds and nanoseconds (of equal sign) of a Duration's bytes; `None` if malformed or out of the type's
/// range.
#[must_use]
pub fn duration_parts(message: &[u8]) -> Option<(i64, i32)> {
    let (seconds, nanos) = seconds_and_nanos(message).ok()?;
    let same_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    (DURATION_SECONDS.contains(&seconds) && (-NANOS_MAX..=NANOS_MAX).contains(&nanos) && same_sign)
        .then_some((seconds, nanos))
}

/// Returns both fields of either type, in range or not.
pub(crate) fn seconds_and_nanos(message: &[u8]) -> Result<(i64, i32), Malformed> {
    let mut cursor = Cursor::new(message);
    let (mut seconds, mut nanos) = (0, 0);
    while !cursor.is_empty() {
        match cursor.tag()? {
            (1, WireType::Varint) => seconds = cursor.varint()?.cast_signed(),
            (2, WireType::Varint) => nanos = truncate(cursor.varint()?).cast_signed(),
            (number, wire) => cursor.skip(number, wire, crate::Policies::MAX_RECURSION)?,
        }
    }
    Ok((seconds, nanos))
}

/// A date in a message; the reader must check that it exists in the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
}

/// A `google.type.DateTime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CivilTime {
    pub date: Civil,
    /// Microseconds of the day, rounded down.
    pub micros: i64,
    /// The offset of the clock from UTC, if the message has one.
    pub offset_seconds: Option<i64>,
    /// Whether the message names a time zone instead.
    pub zoned: bool,
}

/// Returns year, month and day of a `google.type.Date`; `None` if the bytes are malformed.
#[must_use]
pub fn date_parts(message: &[u8]) -> Option<Civil> {
    let [year, month, day] = varints(message)?;
    Some(Civil { year, month, day })
}

/// Returns the microseconds of the day of a `google.type.TimeOfDay`, rounded down; `None` if malformed or not a time of
/// day.
#[must_use]
pub fn time_of_day_parts(message: &[u8]) -> Option<i64> {
    let [hour, minute, second, nanos] = varints(message)?;
    micros_of_day(hour, minute, second, nanos)
}

/// Reads a `google.type.DateTime`; `None` if the bytes are malformed or the time is not a time of day.
#[must_use]
pub fn date_time_parts(message: &[u8]) -> Option<CivilTime> {
    let [year, month, day, hour, minute, second, nanos] = varints(message)?;
    let (mut offset_seconds, mut zoned) = (None, false);
    let mut cursor = Cursor::new(message);
    while !cursor.is_empty() {
        match cursor.tag().ok()? {
            // Both are members of one oneof, so the last one counts.
            (8, WireType::Delimited) => {
                (offset_seconds, zoned) = (Some(duration_parts(cursor.delimited().ok()?)?.0), false);
            }
            (9, WireType::Delimited) => {
                cursor.delimited().ok()?;
                (offset_seconds, zoned) = (None, true);
            }
            (number, wire) => cursor.skip(number, wire, crate::Policies::MAX_RECURSION).ok()?,
        }
    }
    let micros = micros_of_day(hour, minute, second, nanos)?;
    Some(CivilTime { date: Civil { year, month, day }, micros, offset_seconds, zoned })
}

/// Returns units and nanos of a `google.type.Money`; `None` if the bytes are malformed.
#[must_use]
pub fn money_parts(message: &[u8]) -> Option<(i64, i64)> {
    let [_, units, nanos] = varints(message)?;
    Some((units, nanos))
}

/// Returns the value of a `google.type.Decimal`; `None` if the bytes are malformed.
#[must_use]
pub fn decimal_text(message: &[u8]) -> Option<&str> {
    let mut cursor = Cursor::new(message);
    let mut text = "";
    while !cursor.is_empty() {
        match cursor.tag().ok()? {
            (1, WireType::Delimited) => text = std::str::from_utf8(cursor.delimited().ok()?).ok()?,
            (number, wire) => cursor.skip(number, wire, crate::Policies::MAX_RECURSION).ok()?,
        }
    }
    Some(text)
}

/// Returns the varint values of the fields 1 to N; zero for missing ones.
fn varints<const N: usize>(message: &[u8]) -> Option<[i64; N]> {
    let mut cursor = Cursor::new(message);
    let mut values = [0; N];
    while !cursor.is_empty() {
        let (number, wire) = cursor.tag().ok()?;
        let place = usize::try_from(number).ok().and_then(|number| values.get_mut(number.checked_sub(1)?));
        match (place, wire) {
            (Some(place), WireType::Varint) => *place = cursor.varint().ok()?.cast_signed(),
            (_, wire) => cursor.skip(number, wire, crate::Policies::MAX_RECURSION).ok()?,
        }
    }
    Some(values)
}

fn micros_of_day(hour: i64, minute: i64, second: i64, nanos: i64) -> Option<i64> {
    let fits = (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..=i64::from(NANOS_MAX)).contains(&nanos);
    fits.then_some((hour * 3_600 + minute * 60 + second) * 1_000_000 + nanos / 1_000)
}
