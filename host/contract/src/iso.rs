//! Dates, times and durations in ISO 8601 text. Strict: dates that do not exist are rejected, never carried over.

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// A parsed time, and its offset from UTC if the text has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// Microseconds since 1970 in the text's own time zone.
    pub micros: i64,
    /// Nanoseconds in addition to the microseconds, 0 to 999.
    pub nanos: i32,
    /// Microseconds ahead of UTC; `None` for a text without a zone.
    pub offset: Option<i64>,
}

/// A duration in PostgreSQL's three parts, which do not convert into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// Returns the days since 1970 of a date in years 1 to 9999.
#[must_use]
pub fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=9999).contains(&year) || !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is a year's last day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Returns the year, month and day of a number of days since 1970.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, if month < 10 { month + 3 } else { month - 9 });
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Parses `2026-02-28` to days since 1970.
#[must_use]
pub fn date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    days_of(number(text.get(..4)?)?, number(text.get(5..7)?)?, number(text.get(8..)?)?)
}

/// Parses `12:30`, `12:30:00`, `12:30:00.5` to microseconds of the day. At most nine fractional digits, of which six
/// are kept.
#[must_use]
pub fn time(text: &str) -> Option<i64> {
    clock(text).map(|(micros, _)| micros)
}

/// Like [`time`], with the nanoseconds in addition to the microseconds.
fn clock(text: &str) -> Option<(i64, i32)> {
    let (clock, nanos) = match text.split_once('.') {
        Some((clock, fraction)) if clock.len() == 8 => (clock, fraction_nanos(fraction)?),
        Some(_) => return None,
        None => (text, 0),
    };
    let mut parts = clock.split(':').map(|part| number(part).filter(|_| part.len() == 2));
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    let fits = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    let micros = (hour * 3_600 + minute * 60 + second) * 1_000_000 + nanos / 1_000;
    Some((micros, i32::try_from(nanos % 1_000).ok()?)).filter(|_| fits)
}

/// Parses `2026-02-28T12:30:00Z`, `…+01:00`, or without a zone.
#[must_use]
pub fn date_time(text: &str) -> Option<DateTime> {
    let day = date(text.get(..10)?)?;
    let rest = text.get(10..)?.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = match rest.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, Some(0)),
        None => match rest.rfind(['+', '-']) {
            Some(at) => (&rest[..at], Some(zone(&rest[at..])?)),
            None => (rest, None),
        },
    };
    let (micros, nanos) = self::clock(clock)?;
    Some(DateTime { micros: day * DAY + micros, nanos, offset })
}

/// Parses `+01:00`, `+0100`, `-05`.
fn zone(text: &str) -> Option<i64> {
    let (sign, digits) = (if text.starts_with('-') { -1 } else { 1 }, text.get(1..)?);
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => (digits.get(..2)?, digits.get(2..)?),
        5 if digits.as_bytes()[2] == b':' => (digits.get(..2)?, digits.get(3..)?),
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

/// Parses `P1Y2M3W4DT5H6M7.5S`, also negative as a whole.
#[must_use]
pub fn duration(text: &str) -> Option<Interval> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let rest = rest.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (rest, None),
    };
    if date.is_empty() && time.is_none() || time == Some("") {
        return None;
    }
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    parts(date, "YMWD", |unit, value, fraction| {
        let unit = match unit {
            'Y' => (&mut months, 12),
            'M' => (&mut months, 1),
            'W' => (&mut days, 7),
            _ => (&mut days, 1),
        };
        add(unit.0, value, unit.1).filter(|()| fraction.is_none())
    })?;
    parts(time.unwrap_or_default(), "HMS", |unit, value, fraction| {
        let unit_micros = match unit {
            'H' => 3_600_000_000,
            'M' => 60_000_000,
            _ => 1_000_000,
        };
        if unit != 'S' && fraction.is_some() {
            return None;
        }
        add(&mut micros, value, unit_micros)?;
        micros = micros.checked_add(fraction.unwrap_or_default())?;
        Some(())
    })?;
    Some(Interval {
        months: i32::try_from(sign * months).ok()?,
        days: i32::try_from(sign * days).ok()?,
        micros: sign * micros,
    })
}

fn add(sum: &mut i64, value: i64, unit: i64) -> Option<()> {
    *sum = sum.checked_add(value.checked_mul(unit)?)?;
    Some(())
}

/// Parses `1Y2M`: each unit at most once and in the order of `units`.
fn parts(mut text: &str, units: &str, mut each: impl FnMut(char, i64, Option<i64>) -> Option<()>) -> Option<()> {
    let mut left = units;
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_uppercase())?;
        let unit = text[end..].chars().next()?;
        left = &left[left.find(unit)? + 1..];
        let (whole, fraction) = match text[..end].split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction_nanos(fraction)? / 1_000)),
            None => (&text[..end], None),
        };
        each(unit, number(whole)?, fraction)?;
        text = &text[end + 1..];
    }
    Some(())
}

/// Parses digits only, and too few to overflow.
fn number(text: &str) -> Option<i64> {
    let digits = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn fraction_nanos(text: &str) -> Option<i64> {
    if !(1..=9).contains(&text.len()) {
        return None;
    }
    Some(number(text)? * 10_i64.pow(u32::try_from(9 - text.len()).ok()?))
}

/// Formats a date: `2026-02-28`.
#[must_use]
pub fn show_date(days: i64) -> String {
    let (year, month, day) = civil(days);
    if year > 0 { format!("{year:04}-{month:02}-{day:02}") } else { format!("{:04}-{month:02}-{day:02} BC", 1 - year) }
}

/// Formats a time of day: `12:30:00.500000`.
#[must_use]
pub fn show_time(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000)
}

/// Formats microseconds since 1970, followed by `zone`: `2026-02-28 12:30:00.000000+00`.
#[must_use]
pub fn show_date_time(micros: i64, zone: &str) -> String {
    let date = show_date(micros.div_euclid(DAY));
    let (date, era) = date.strip_suffix(" BC").map_or((date.as_str(), ""), |date| (date, " BC"));
    format!("{date} {}{zone}{era}", show_time(micros.rem_euclid(DAY)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-03-01", 11_017),
            ("2026-02-28", 20_512),
            ("0001-01-01", -719_162),
            ("2024-02-29", 19_782),
        ] {
            assert_eq!(date(text), Some(days), "{text}");
            assert_eq!(show_date(days), text);
        }
        for bad in [
            "2026-02-30",
            "2026-13-01",
            "2025-02-29",
            "0000-01-01",
            "2026-2-28",
            "2026-02-28Z",
            "+026-02-28",
            "infinity",
            "é026-02-2",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_the_years_is_a_day_and_no_other() {
        let mut next = days_of(1, 1, 1).unwrap();
        for year in 1..=9_999 {
            for month in 1..=12 {
                for day in (1..=31).filter_map(|day| days_of(year, month, day)) {
                    assert_eq!(day, next, "{year}-{month}");
                    assert_eq!((civil(day).0, civil(day).1), (year, month));
                    next += 1;
                }
            }
        }
        assert_eq!(days_of(10_000, 1, 1), None);
    }

    #[test]
    fn times_say_their_zone_or_have_none() {
        let half = date("2026-01-31").unwrap() * DAY + 13 * 3_600_000_000 + 500_000;
        let hour = 3_600_000_000;
        for (text, expected) in [
            ("2026-01-31T13:00:00.5+01:00", Some((half, Some(hour)))),
            ("2026-01-31 13:00:00.500-0530", Some((half, Some(-5 * hour - hour / 2)))),
            ("2026-01-31T13:00:00.5Z", Some((half, Some(0)))),
            ("2026-01-31T13:00:00.500000999", Some((half, None))),
            ("2026-01-31t13:00+01", Some((half - 500_000, Some(hour)))),
            ("2026-01-31T13:00:60Z", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T13:00:00.5000000001Z", None),
            ("2026-01-31T1:00:00Z", None),
            ("2026-01-31", None),
            ("2026-01-31T13:00:00+99:00", None),
        ] {
            let read = date_time(text).map(|time| (time.micros, time.offset));
            assert_eq!(read, expected, "{text}");
        }
        assert_eq!(time("12:30"), Some(45_000_000_000));
        assert_eq!(time("12:30:0"), None);
    }

    #[test]
    fn durations_keep_their_parts() {
        let of = |months, days, micros| Some(Interval { months, days, micros });
        for (text, expected) in [
            ("PT1H", of(0, 0, 3_600_000_000)),
            ("P1Y2M3W4DT5H6M7.5S", of(14, 25, 18_367_500_000)),
            ("-P1DT0.000001S", of(0, -1, -1)),
            ("P", None),
            ("PT", None),
            ("P1H", None),
            ("PT1M1H", None),
            ("P0.5D", None),
            ("P1Y1Y", None),
            ("1H", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_reads_back(micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            proptest::prop_assert_eq!(date_time(&show_date_time(micros, "Z")), Some(DateTime { micros, nanos: 0, offset: Some(0) }));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}", durations in "-?P[0-9.YMWDTHS]{0,24}") {
            for text in [text, durations] {
                let _ = (date(&text), time(&text), date_time(&text), duration(&text));
            }
        }
    }
}
