//! Measures how long takeovers took in a chaos run, grouped by what else was wrong at the time.
//!
//! The times are read from the engines' logs. Unlike the histogram `tollgate_takeover_seconds`, whose observations are
//! logged too, the logs survive a kill -9.

use std::time::{Duration, Instant};

use crate::engine::Engine;

/// The text before the seconds in the log line of a takeover.
const LINE: &str = "takeover complete ";

/// The time after a server's return until clients are connected again and the broker has loaded its coordinators.
const SETTLED: Duration = Duration::from_secs(5);

/// The condition of the system during a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// All servers were healthy, and every member ran or was dead.
    Nothing,
    /// A member was paused. Its open transaction holds the group's offset until its timeout.
    Still,
    /// A server was unavailable, or had just returned.
    Server,
}

#[derive(Debug, Default)]
pub struct Takeovers {
    /// The periods in which something was wrong.
    times: Vec<(Matter, Instant, Instant)>,
    /// When each takeover ended, and how long it took.
    ended: Vec<(Instant, Duration)>,
}

/// Durations of a group of takeovers in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
}

impl Takeovers {
    /// Records that a server was unavailable from `since` until now.
    pub fn server_away(&mut self, since: Instant) {
        self.times.push((Matter::Server, since, Instant::now() + SETTLED));
    }

    /// Records that a member is paused until `until`. Its open transaction may last `timeout` longer.
    pub fn stands_still(&mut self, until: Instant, timeout: Duration) {
        self.times.push((Matter::Still, Instant::now(), until + timeout));
    }

    /// Reads new lines of an engine's log from `byte`, which is advanced.
    pub fn read(&mut self, engine: &Engine, byte: &mut usize) {
        let text = engine.log_from(*byte);
        *byte += text.len();
        for line in text.lines().filter(|line| line.contains(LINE)) {
            let seconds = line.rsplit("seconds=").next().and_then(|word| word.parse().ok());
            self.ended.push((Instant::now(), Duration::from_secs_f64(seconds.unwrap())));
        }
    }

    /// Returns figures of the takeovers during which nothing worse than `most` was wrong, or `None` if there were none.
    pub fn figures(&self, most: Matter) -> Option<Figures> {
        let mut took: Vec<f64> =
            self.ended.iter().filter(|one| self.matter(one) <= most).map(|one| one.1.as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        // The nearest-rank percentile.
        let rank = |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Figures { count: took.len(), p50: rank(50)?, p99: rank(99)? })
    }

    fn matter(&self, (end, took): &(Instant, Duration)) -> Matter {
        let during = |(_, from, to): &&(Matter, Instant, Instant)| {
            *from <= *end && end.checked_sub(*took).is_none_or(|begin| begin <= *to)
        };
        self.times.iter().filter(during).map(|(matter, ..)| *matter).max().unwrap_or(Matter::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_judged_by_what_was_the_matter_while_it_lasted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut takeovers = Takeovers {
            times: vec![(Matter::Server, at(10), at(20)), (Matter::Still, at(18), at(30))],
            ended: [(5, 1), (11, 2), (19, 1), (29, 3), (40, 4)]
                .map(|(end, took)| (at(end), Duration::from_secs(took)))
                .into(),
        };
        let figures = |takeovers: &Takeovers, most| takeovers.figures(most).map(|of| (of.count, of.p50, of.p99));
        assert_eq!(figures(&takeovers, Matter::Nothing), Some((2, 1.0, 4.0)));
        assert_eq!(figures(&takeovers, Matter::Still), Some((3, 3.0, 4.0)));
        assert_eq!(figures(&takeovers, Matter::Server), Some((5, 2.0, 4.0)));
        takeovers.ended.clear();
        assert_eq!(figures(&takeovers, Matter::Server), None);
    }
}
