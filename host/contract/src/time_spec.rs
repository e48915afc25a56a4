//! The accepted forms of a time in text or numbers: `as: { time: … }` of a column, and `contract.coerce` of JSON.

use std::fmt;

use crate::iso::{self, DAY, Interval};

/// The forms of a time; the first one that matches is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeSpec {
    pub forms: Vec<TimeForm>,
    /// The setting `between:`. A time outside of it has another form, or is invalid.
    pub between: Option<Between>,
}

/// A span in microseconds since 1970; `until` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    pub from: i64,
    pub until: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// ISO 8601, as the time's type requires: a date, a time of day, a date with a time (with a zone if the type has
    /// one), or a duration.
    Iso,
    UnixSeconds,
    UnixMillis,
    UnixMicros,
    /// Days since 1970-01-01.
    UnixDays,
}

/// A value that may be a time: a text, an integer, or a text of digits, which is both.
#[derive(Debug, Clone, Copy)]
pub struct TimeInput<'t> {
    text: Option<&'t str>,
    number: Option<i64>,
}

/// A parsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Microseconds since 1970, and nanoseconds in addition to them, 0 to 999.
    Instant {
        micros: i64,
        nanos: i32,
    },
    /// Days since 1970.
    Day(i64),
    /// Microseconds of the day.
    TimeOfDay(i64),
    Interval(Interval),
}

impl<'t> TimeInput<'t> {
    #[must_use]
    pub fn text(text: &'t str) -> Self {
        let number = if text.starts_with('+') { None } else { text.parse().ok() };
        Self { text: Some(text), number }
    }

    #[must_use]
    pub fn number(number: i128) -> Self {
        Self { text: None, number: i64::try_from(number).ok() }
    }

    /// Returns an input that is never a time.
    #[must_use]
    pub fn nothing() -> Self {
        Self { text: None, number: None }
    }
}

impl TimeForm {
    pub const ALL: [(&'static str, Self); 5] = [
        ("iso", Self::Iso),
        ("unix_s", Self::UnixSeconds),
        ("unix_ms", Self::UnixMillis),
        ("unix_us", Self::UnixMicros),
        ("unix_days", Self::UnixDays),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, form)| *form == self).map_or("", |(name, _)| name)
    }
}

impl TimeSpec {
    /// Returns the time in the first matching form within the bounds, and that form. `iso` parses the text of the
    /// wanted type.
    pub fn read(&self, input: TimeInput<'_>, iso: impl Fn(&str) -> Option<Moment>) -> Option<(TimeForm, Moment)> {
        let unix = |micros: i64| {
            let micros = input.number?.checked_mul(micros)?;
            Some(Moment::Instant { micros, nanos: 0 })
        };
        self.forms.iter().find_map(|form| {
            let moment = match form {
                TimeForm::Iso => iso(input.text?)?,
                TimeForm::UnixSeconds => unix(1_000_000)?,
                TimeForm::UnixMillis => unix(1_000)?,
                TimeForm::UnixMicros => unix(1)?,
                TimeForm::UnixDays => Moment::Day(input.number?),
            };
            self.holds(moment).then_some((*form, moment))
        })
    }

    /// Returns whether a time lies within the bounds. The bounds do not apply to a time of day or a duration.
    fn holds(&self, moment: Moment) -> bool {
        let Some(Between { from, until }) = self.between else { return true };
        match moment {
            Moment::Instant { micros, .. } => (from..until).contains(&micros),
            Moment::Day(day) => day.checked_mul(DAY).is_some_and(|micros| (from..until).contains(&micros)),
            Moment::TimeOfDay(_) | Moment::Interval(_) => true,
        }
    }
}

impl Moment {
    /// Parses a point in time from ISO 8601, which must include its zone.
    #[must_use]
    pub fn zoned(text: &str) -> Option<Self> {
        let time = iso::date_time(text)?;
        Some(Self::Instant { micros: time.micros - time.offset?, nanos: time.nanos })
    }
}

impl fmt::Display for TimeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.forms.iter().map(|form| form.name()).collect();
        match names.as_slice() {
            [one] => f.write_str(one)?,
            several => write!(f, "one of {}", several.join(", "))?,
        }
        let Some(Between { from, until }) = self.between else { return Ok(()) };
        write!(f, " between {} and {}", bound(from), bound(until))
    }
}

/// Formats a bound for messages: a date if it is midnight.
fn bound(micros: i64) -> String {
    if micros % DAY == 0 { iso::show_date(micros / DAY) } else { iso::show_date_time(micros, "Z") }
}
