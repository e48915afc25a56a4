//! Timestamp and Duration, read straight from their bytes.

use crate::wire::{Cursor, Malformed, WireType, truncate};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in epoch seconds: the range of `google.protobuf.Timestamp`.
pub(crate) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About ±10,000 years: the range of `google.protobuf.Duration`.
pub(crate) const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
pub(crate) const NANOS_MAX: i32 = 999_999_999;

/// Epoch seconds and nanoseconds (0 to 999,999,999) of a Timestamp's bytes; nothing if they are malformed or out of the type's range.
#[must_use]
pub fn timestamp_parts(message: &[u8]) -> Option<(i64, i32)> {
    let (seconds, nanos) = seconds_and_nanos(message).ok()?;
    (TIMESTAMP_SECONDS.contains(&seconds) && (0..=NANOS_MAX).contains(&nanos)).then_some((seconds, nanos))
}

/// Epoch microseconds of a Timestamp's bytes, rounded down; nothing if they are malformed or out of the type's range.
#[must_use]
pub fn timestamp_micros(message: &[u8]) -> Option<i64> {
    // In range by construction: 253,402,300,799 s are 2.5e17 µs.
    timestamp_parts(message).map(|(seconds, nanos)| seconds * 1_000_000 + i64::from(nanos / 1_000))
}

/// Seconds and nanoseconds (of equal sign) of a Duration's bytes; nothing if they are malformed or out of the type's range.
#[must_use]
pub fn duration_parts(message: &[u8]) -> Option<(i64, i32)> {
    let (seconds, nanos) = seconds_and_nanos(message).ok()?;
    let same_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    (DURATION_SECONDS.contains(&seconds) && (-NANOS_MAX..=NANOS_MAX).contains(&nanos) && same_sign)
        .then_some((seconds, nanos))
}

/// Both fields of either type, in range or not.
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

/// A date as a message says it; whether the calendar has it is for the reader to check.
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
    /// How far the clock is ahead of UTC, where the message says it as an offset.
    pub offset_seconds: Option<i64>,
    /// Whether the message names a time zone instead.
    pub zoned: bool,
}

/// Year, month and day of a `google.type.Date`; nothing if the bytes are malformed.
#[must_use]
pub fn date_parts(message: &[u8]) -> Option<Civil> {
    let [year, month, day] = varints(message)?;
    Some(Civil { year, month, day })
}

/// Microseconds of the day of a `google.type.TimeOfDay`, rounded down; nothing if the bytes are malformed or no time of a day.
#[must_use]
pub fn time_of_day_parts(message: &[u8]) -> Option<i64> {
    let [hour, minute, second, nanos] = varints(message)?;
    micros_of_day(hour, minute, second, nanos)
}

/// A `google.type.DateTime`; nothing if the bytes are malformed or the time is none of a day.
#[must_use]
pub fn date_time_parts(message: &[u8]) -> Option<CivilTime> {
    let [year, month, day, hour, minute, second, nanos] = varints(message)?;
    let (mut offset_seconds, mut zoned) = (None, false);
    let mut cursor = Cursor::new(message);
    while !cursor.is_empty() {
        match cursor.tag().ok()? {
            // Both are members of one oneof: the last one counts.
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

/// Units and nanos of a `google.type.Money`; nothing if the bytes are malformed.
#[must_use]
pub fn money_parts(message: &[u8]) -> Option<(i64, i64)> {
    let [_, units, nanos] = varints(message)?;
    Some((units, nanos))
}

/// The value of a `google.type.Decimal`; nothing if the bytes are malformed.
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

/// The values of the fields 1 to N that are varints; zero where one is not there.
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
