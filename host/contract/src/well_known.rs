//! Timestamp and Duration, read straight from their bytes.

use crate::wire::{Cursor, Malformed, WireType};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in epoch seconds: the range of `google.protobuf.Timestamp`.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About ±10,000 years: the range of `google.protobuf.Duration`.
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
const NANOS_MAX: i32 = 999_999_999;

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
            (2, WireType::Varint) => nanos = crate::check::truncate(cursor.varint()?).cast_signed(),
            (number, wire) => cursor.skip(number, wire, crate::Policies::MAX_RECURSION)?,
        }
    }
    Ok((seconds, nanos))
}
