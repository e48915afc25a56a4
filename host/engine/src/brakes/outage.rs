//! Logging of an outage: one line when it begins, one when it ends, and reminders in between. All threads meet the same
//! outage, each many times; the individual failures are logged at `debug`.

use std::time::{Duration, Instant};

use tollgate_config::limits;

/// The logging state of one server's outage.
#[derive(Debug, Default)]
pub struct Outage {
    lasts: Option<Lasts>,
}

#[derive(Debug)]
struct Lasts {
    began: Instant,
    /// When the last line was written.
    told: Instant,
    /// When a thread last met the outage.
    met: Instant,
}

/// A line to log.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Began,
    /// The outage has lasted this long.
    Lasts(Duration),
}

impl Outage {
    /// Records that a thread met the outage. Returns the line to log, if one is due.
    pub fn met(&mut self, now: Instant) -> Option<Line> {
        let Some(lasts) = &mut self.lasts else {
            self.lasts = Some(Lasts { began: now, told: now, met: now });
            return Some(Line::Began);
        };
        lasts.met = now;
        if now - lasts.told < limits::OUTAGE_REMINDER {
            return None;
        }
        lasts.told = now;
        Some(Line::Lasts(now - lasts.began))
    }

    /// Records that the server completed a request. Returns how long the outage lasted, if there was one.
    pub fn over(&mut self, now: Instant) -> Option<Duration> {
        self.lasts.take().map(|lasts| now - lasts.began)
    }

    /// Records that the server responds, which proves little while other threads still meet the outage. Returns the
    /// outage's duration if it is over.
    pub fn answers(&mut self, now: Instant) -> Option<Duration> {
        let quiet = self.lasts.as_ref().is_some_and(|lasts| now - lasts.met > limits::OUTAGE_QUIET);
        if quiet { self.over(now) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_begins_it_one_ends_it_and_reminders_lie_between() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        assert_eq!(outage.over(began), None);
        let lines: Vec<Line> = (0..150).filter_map(|second| outage.met(after(second))).collect();
        assert_eq!(lines, [Line::Began, Line::Lasts(Duration::from_secs(60)), Line::Lasts(Duration::from_secs(120))]);
        assert_eq!(outage.over(after(150)), Some(Duration::from_secs(150)));
        assert_eq!(outage.over(after(151)), None);
    }

    #[test]
    fn an_answer_ends_it_once_nobody_meets_it_any_more() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        outage.met(began);
        assert_eq!(outage.answers(began + limits::OUTAGE_QUIET), None);
        let later = began + limits::OUTAGE_QUIET + Duration::from_millis(1);
        assert!(outage.answers(later).is_some());
    }
}
