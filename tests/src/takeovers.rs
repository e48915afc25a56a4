//! How long the engines of a bout took partitions over, by what else was the matter then.
//!
//! Read from the engines' logs, which outlive a kill -9 as the histogram `tollgate_takeover_seconds` does not: each of its
//! observations is a line there.

use std::time::{Duration, Instant};

use crate::engine::Engine;

/// What the line of a takeover says before its seconds.
const LINE: &str = "takeover complete ";

/// After a server is back: clients connect again within a second, and the broker loads its coordinators.
const SETTLED: Duration = Duration::from_secs(5);

/// What was the matter while a takeover lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// All servers were well, and every member ran or was dead.
    Nothing,
    /// A member stood still. The transaction that it had open holds the group's offset until its timeout.
    Still,
    /// A server was away, or just back.
    Server,
}

#[derive(Debug, Default)]
pub struct Takeovers {
    /// When something was the matter.
    times: Vec<(Matter, Instant, Instant)>,
    /// When each ended, and how long it took.
    ended: Vec<(Instant, Duration)>,
}

/// Of some takeovers, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
}

impl Takeovers {
    /// A server was away from then until now.
    pub fn server_away(&mut self, since: Instant) {
        self.times.push((Matter::Server, since, Instant::now() + SETTLED));
    }

    /// A member stands still until then; what it had open may last for `timeout` more.
    pub fn stands_still(&mut self, until: Instant, timeout: Duration) {
        self.times.push((Matter::Still, Instant::now(), until + timeout));
    }

    /// Reads what an engine's log has to say since this byte, which is moved on.
    pub fn read(&mut self, engine: &Engine, byte: &mut usize) {
        let text = engine.log_from(*byte);
        *byte += text.len();
        for line in text.lines().filter(|line| line.contains(LINE)) {
            let seconds = line.rsplit("seconds=").next().and_then(|word| word.parse().ok());
            self.ended.push((Instant::now(), Duration::from_secs_f64(seconds.unwrap())));
        }
    }

    /// Of the takeovers during which no more than this was the matter. `None`: there were none.
    pub fn figures(&self, most: Matter) -> Option<Figures> {
        let mut took: Vec<f64> =
            self.ended.iter().filter(|one| self.matter(one) <= most).map(|one| one.1.as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        // The smallest that so many per cent do not exceed.
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
