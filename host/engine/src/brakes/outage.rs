//! An outage in the log: one line when it begins, one when it ends, and a reminder in between. All threads meet the same outage,
//! each many times; what each of them met is logged at `debug`.

use std::time::{Duration, Instant};

use tollgate_config::limits;

/// What the log knows of one server's outage.
#[derive(Debug, Default)]
pub struct Outage {
    lasts: Option<Lasts>,
}

#[derive(Debug)]
struct Lasts {
    began: Instant,
    /// When the last line was written.
    told: Instant,
    /// When somebody met it last.
    met: Instant,
}

/// A line to write.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Began,
    /// For so long by now.
    Lasts(Duration),
}

impl Outage {
    /// Somebody met it. Returns the line that this is worth.
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

    /// The server did what it was asked for. Returns how long the outage was, if there was one.
    pub fn over(&mut self, now: Instant) -> Option<Duration> {
        self.lasts.take().map(|lasts| now - lasts.began)
    }

    /// The server answers, which says little where others still meet the outage. Returns how long it was, if it is over.
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
