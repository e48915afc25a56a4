//! `as: iso` and its relatives: the forms in which a text or a number may say a time.

use std::fmt;

use crate::iso;

/// The forms of a time, of which the first that fits is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeSpec {
    pub forms: Vec<TimeForm>,
    /// `between:` what lies outside is in another form, or no time.
    pub between: Option<Between>,
}

/// A span in microseconds since 1970; `until` lies outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    pub from: i64,
    pub until: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// ISO 8601, as the column's type needs it: a date, a time of day, both with a zone, a duration.
    Iso,
    UnixSeconds,
    UnixMillis,
    UnixMicros,
    /// Days since 1970-01-01.
    UnixDays,
}

impl TimeForm {
    pub const ALL: [(&'static str, TimeForm); 5] = [
        ("iso", TimeForm::Iso),
        ("unix_s", TimeForm::UnixSeconds),
        ("unix_ms", TimeForm::UnixMillis),
        ("unix_us", TimeForm::UnixMicros),
        ("unix_days", TimeForm::UnixDays),
    ];

    pub fn name(self) -> &'static str {
        TimeForm::ALL.iter().find(|(_, form)| *form == self).map_or("", |(name, _)| name)
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
        write!(f, " between {} and {}", moment(from), moment(until))
    }
}

/// A bound as one would write it: a date where it is midnight.
fn moment(micros: i64) -> String {
    if micros % iso::DAY == 0 { iso::show_date(micros / iso::DAY) } else { iso::show_date_time(micros, "Z") }
}
