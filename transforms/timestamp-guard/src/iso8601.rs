//! ISO 8601 times as they occur in messages: `2026-01-01T00:00:00.123+01:00`, and less of it.

/// What a text without a zone means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// UTC.
    AssumeUtc,
    /// Nothing: a local time is no time.
    Demand,
}

/// Unix milliseconds of a date, a time to the minute, the second or a fraction, with `Z`, `+hh:mm` or `+hhmm` behind it.
/// A date alone is midnight UTC. Finer than milliseconds is cut off.
pub fn millis(text: &str, zone: Zone) -> Option<i64> {
    let mut reader = Reader(text.as_bytes());
    let year = reader.digits(4)?;
    reader.one(b'-')?;
    let month = reader.digits(2)?;
    reader.one(b'-')?;
    let day = reader.digits(2)?;
    if !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * 86_400_000;
    if reader.0.is_empty() {
        return (zone == Zone::AssumeUtc).then_some(midnight);
    }
    reader.one(b'T').or_else(|| reader.one(b't')).or_else(|| reader.one(b' '))?;
    let hour = reader.digits(2)?;
    reader.one(b':')?;
    let minute = reader.digits(2)?;
    let (mut second, mut fraction) = (0, 0);
    if reader.one(b':').is_some() {
        second = reader.digits(2)?;
        if reader.one(b'.').or_else(|| reader.one(b',')).is_some() {
            fraction = reader.fraction()?;
        }
    }
    // A leap second has no number of its own in Unix time.
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = reader.offset(zone)?;
    Some(midnight + ((hour * 60 + minute - offset) * 60 + second) * 1000 + fraction)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn one(&mut self, wanted: u8) -> Option<()> {
        let (&first, rest) = self.0.split_first()?;
        (first == wanted).then(|| self.0 = rest)
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        number.iter().try_fold(0, |sum, byte| Some(sum * 10 + digit(*byte)?))
    }

    /// One digit or more behind the point, as milliseconds.
    fn fraction(&mut self) -> Option<i64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.0.split_at(length);
        self.0 = rest;
        let padded = fraction.iter().copied().chain([b'0'; 3]).take(3);
        (length > 0).then(|| padded.filter_map(digit).fold(0, |sum, digit| sum * 10 + digit))
    }

    /// Minutes east of UTC; nothing may follow.
    fn offset(&mut self, zone: Zone) -> Option<i64> {
        let sign = match self.0.split_first() {
            None => return (zone == Zone::AssumeUtc).then_some(0),
            Some((b'Z' | b'z', [])) => return Some(0),
            Some((b'+', rest)) => (1, rest),
            Some((b'-', rest)) => (-1, rest),
            Some(_) => return None,
        };
        self.0 = sign.1;
        let hours = self.digits(2)?;
        let minutes = match self.0 {
            [] => 0,
            [b':', ..] => {
                self.one(b':')?;
                self.digits(2)?
            }
            _ => self.digits(2)?,
        };
        (self.0.is_empty() && hours <= 23 && minutes <= 59).then_some(sign.0 * (hours * 60 + minutes))
    }
}

fn digit(byte: u8) -> Option<i64> {
    char::from(byte).to_digit(10).map(i64::from)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Months from March on have 31, 30, 31, 30, 31 days, and again: 153 in five.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-01T00:00Z", 1_767_225_600_000),
            ("2026-01-01T00:00:00.1Z", 1_767_225_600_100),
            ("2026-01-01 00:00:00,123456789Z", 1_767_225_600_123),
            ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
            ("2025-12-31T18:30:00-0530", 1_767_225_600_000),
            ("2025-12-31T19:00:00-05", 1_767_225_600_000),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(millis(text, Zone::Demand), Some(expected), "{text}");
        }
        assert_eq!(millis("2026-01-01", Zone::AssumeUtc), Some(1_767_225_600_000));
        assert_eq!(millis("2026-01-01T00:00:00", Zone::AssumeUtc), Some(1_767_225_600_000));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = days(1899, 12, 31);
        for year in 1900..2101 {
            for month in 1..=12 {
                for day in 1..=month_length(year, month) {
                    let number = days(year, month, day);
                    assert_eq!(number, last + 1, "{year}-{month}-{day}");
                    last = number;
                }
            }
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026",
            "2026-13-01T00:00Z",
            "2026-02-29T00:00Z",
            "2026-01-32T00:00Z",
            "2026-01-01T24:00Z",
            "2026-01-01T00:60Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Zx",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00",
            "2026-01-01",
            "26-01-01T00:00Z",
            "２026-01-01T00:00Z",
            "2026-01-01X00:00Z",
            "2026-01-01T00:00:00+01:0",
        ] {
            assert_eq!(millis(text, Zone::Demand), None, "{text}");
        }
    }
}
