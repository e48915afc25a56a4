//! Parses texts and numbers as a date or a time, in the forms that the mapping declares.

use super::binary;
use super::input::Input;
use super::unfit::Unfit;
use tollgate_config::{TimeForm, TimeSpec};
use tollgate_contract::iso::{self, DAY, Interval};
use tollgate_contract::{Moment, TimeInput};

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_SHIFT_DAYS: i64 = 10_957;

/// A column type that holds times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `timestamptz`: a text must include its zone.
    Instant,
    /// `timestamp`: a text with a zone is converted to UTC, one without is kept unchanged.
    Local,
    Date,
    TimeOfDay,
    Interval,
}

impl Target {
    pub fn of(type_name: &str) -> Option<Target> {
        Some(match type_name {
            "timestamptz" => Target::Instant,
            "timestamp" => Target::Local,
            "date" => Target::Date,
            "time" => Target::TimeOfDay,
            "interval" => Target::Interval,
            _ => return None,
        })
    }

    /// Returns whether the column can hold values in this form.
    pub fn takes(self, form: TimeForm) -> bool {
        match form {
            TimeForm::Iso => true,
            TimeForm::UnixSeconds | TimeForm::UnixMillis | TimeForm::UnixMicros => {
                matches!(self, Target::Instant | Target::Local)
            }
            TimeForm::UnixDays => self == Target::Date,
        }
    }
}

/// The conversion of `as: iso` and its variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    pub spec: TimeSpec,
    pub target: Target,
}

impl Times {
    /// Encodes the value with the first form that matches.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
    pub fn encode(&self, input: Input<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let told = match input {
            Input::Int(number) => TimeInput::number(number),
            Input::Text(text) => TimeInput::text(text.as_str()),
            Input::Bytes(bytes) => std::str::from_utf8(bytes).map_or(TimeInput::nothing(), TimeInput::text),
            _ => TimeInput::nothing(),
        };
        let found = self.spec.read(told, |text| self.iso(text));
        let start = out.len();
        let written = found.and_then(|(_, moment)| write(moment, out).ok());
        written.ok_or_else(|| {
            out.truncate(start);
            Unfit::Time { value: super::input::shown(input), expected: self.spec.to_string() }
        })
    }

    fn iso(&self, text: &str) -> Option<Moment> {
        Some(match self.target {
            Target::Instant => Moment::zoned(text)?,
            Target::Local => {
                let time = iso::date_time(text)?;
                Moment::Instant { micros: time.micros - time.offset.unwrap_or_default(), nanos: time.nanos }
            }
            Target::Date => Moment::Day(iso::date(text)?),
            Target::TimeOfDay => Moment::TimeOfDay(iso::time(text)?),
            Target::Interval => Moment::Interval(iso::duration(text)?),
        })
    }
}

fn write(moment: Moment, out: &mut Vec<u8>) -> Result<(), Unfit> {
    match moment {
        Moment::Instant { micros, .. } => binary::timestamp(micros, out)?,
        Moment::Day(days) => date(days, out)?,
        Moment::TimeOfDay(micros) => out.extend_from_slice(&micros.to_be_bytes()),
        Moment::Interval(of) => interval(of, out),
    }
    Ok(())
}

/// Encodes `date` from days since 1970.
pub fn date(days: i64, out: &mut Vec<u8>) -> Result<(), Unfit> {
    // These are the limits of PostgreSQL's dates, 4713 BC to 5874897 AD, in days from its epoch.
    let range = -2_451_545..2_145_031_949;
    let shifted = days.checked_sub(EPOCH_SHIFT_DAYS).filter(|days| range.contains(days));
    let shifted = shifted.and_then(|days| i32::try_from(days).ok());
    let shifted =
        shifted.ok_or_else(|| Unfit::Range { value: format!("{days} days since 1970"), into: "date".into() })?;
    out.extend_from_slice(&shifted.to_be_bytes());
    Ok(())
}

/// Encodes `time` from microseconds of the day.
pub fn time_of_day(micros: i64, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if !(0..DAY).contains(&micros) {
        return Err(Unfit::Range { value: format!("{micros} µs"), into: "time".into() });
    }
    out.extend_from_slice(&micros.to_be_bytes());
    Ok(())
}

pub fn interval(of: Interval, out: &mut Vec<u8>) {
    out.extend_from_slice(&of.micros.to_be_bytes());
    out.extend_from_slice(&of.days.to_be_bytes());
    out.extend_from_slice(&of.months.to_be_bytes());
}

/// Decodes a value of one of these types to text, as used in array literals.
pub fn show(target: Target, bytes: &[u8]) -> Option<String> {
    let long = |bytes: &[u8]| bytes.first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
    let since_1970 = |bytes| long(bytes).map(|micros| micros + EPOCH_SHIFT_DAYS * DAY);
    Some(match target {
        Target::Instant => iso::show_date_time(since_1970(bytes)?, "+00"),
        Target::Local => iso::show_date_time(since_1970(bytes)?, ""),
        Target::Date => {
            let days = bytes.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))?;
            iso::show_date(i64::from(days) + EPOCH_SHIFT_DAYS)
        }
        Target::TimeOfDay => iso::show_time(long(bytes)?),
        Target::Interval => {
            let word = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
            format!("{} mons {} days {} microseconds", word(12)?, word(8)?, long(bytes)?)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tollgate_config::Between;

    fn read(forms: &[TimeForm], target: Target, input: Input<'_>) -> Result<String, Unfit> {
        let between = Between { from: 946_684_800_000_000, until: 4_102_444_800_000_000 };
        let between = (forms.len() > 1).then_some(between);
        let mut out = Vec::new();
        let times = Times { spec: TimeSpec { forms: forms.to_vec(), between }, target };
        times.encode(input, &mut out).map(|()| show(target, &out).unwrap())
    }

    #[test]
    fn texts_become_the_times_that_they_say() {
        let iso = |target, text: &str| read(&[TimeForm::Iso], target, Input::Text(text.into()));
        for (target, text, expected) in [
            (Target::Instant, "2026-01-31T13:00:00.5+01:00", "2026-01-31 12:00:00.500000+00"),
            (Target::Local, "2026-01-31T13:00:00", "2026-01-31 13:00:00.000000"),
            (Target::Local, "2026-01-31T13:00:00+01:00", "2026-01-31 12:00:00.000000"),
            (Target::Date, "2026-02-28", "2026-02-28"),
            (Target::TimeOfDay, "12:30:00", "12:30:00.000000"),
            (Target::Interval, "P1Y2DT1H", "12 mons 2 days 3600000000 microseconds"),
        ] {
            assert_eq!(iso(target, text).as_deref(), Ok(expected), "{text}");
        }
        for (target, text) in [
            (Target::Instant, "infinity"),
            (Target::Instant, "2026-01-31T13:00:00"),
            (Target::Instant, "2026-01-31"),
            (Target::Date, "2026-02-30"),
            (Target::Date, "2026-02-28T00:00:00Z"),
            (Target::TimeOfDay, "25:00"),
            (Target::Interval, "one hour"),
        ] {
            assert!(matches!(iso(target, text), Err(Unfit::Time { .. })), "{text}");
        }
        assert_eq!(read(&[TimeForm::UnixDays], Target::Date, Input::Int(20_454)).as_deref(), Ok("2026-01-01"));
        assert!(read(&[TimeForm::UnixDays], Target::Date, Input::Int(1 << 40)).is_err());
    }

    #[test]
    fn of_several_forms_the_first_that_fits_is_taken() {
        let forms = [TimeForm::Iso, TimeForm::UnixSeconds, TimeForm::UnixMillis];
        let expected = Ok("2026-01-01 00:00:00.000000+00");
        for text in ["2026-01-01T00:00:00Z", "1767225600", "1767225600000"] {
            assert_eq!(read(&forms, Target::Instant, Input::Text(text.into())).as_deref(), expected, "{text}");
        }
        for number in [1_767_225_600, 1_767_225_600_000] {
            assert_eq!(read(&forms, Target::Instant, Input::Int(number)).as_deref(), expected);
        }
        assert_eq!(read(&forms, Target::Instant, Input::Bytes(b"1767225600")).as_deref(), expected, "a header");
        for outside in
            ["1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "0", "17672256000000000", "+1767225600", "\u{ff11}"]
        {
            let refused = read(&forms, Target::Instant, Input::Text(outside.into()));
            let expected = "one of iso, unix_s, unix_ms between 2000-01-01 and 2100-01-01";
            assert_eq!(refused, Err(Unfit::Time { value: outside.into(), expected: expected.into() }), "{outside}");
        }
    }
}
