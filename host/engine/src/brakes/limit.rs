//! `dead_letter.limit`: a share of dead letters that is too high for a healthy topic pauses the pipeline, so that a bad
//! deployment does not turn the whole topic into dead letters.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tollgate_config::DeadLetterLimit;

/// The counts of all lanes over the last `within`, in slices.
pub struct Limit {
    config: Option<DeadLetterLimit>,
    window: Mutex<VecDeque<Slice>>,
    suspended: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    at: Instant,
    total: u64,
    dead: u64,
}

/// The number of slices of a window: a tenth of the window expires at a time.
const SLICES: u32 = 10;

impl Limit {
    pub fn new(config: Option<DeadLetterLimit>) -> Limit {
        Limit { config, window: Mutex::default(), suspended: Mutex::default() }
    }

    /// Returns a message if a batch with so many dead letters would cross the limit.
    pub fn crossed(&self, total: usize, dead: usize) -> Option<String> {
        self.crossed_at(Instant::now(), total, dead)
    }

    fn crossed_at(&self, now: Instant, total: usize, dead: usize) -> Option<String> {
        let config = self.config?;
        if self.suspended.lock().ok()?.is_some_and(|until| now < until) {
            return None;
        }
        let window = self.window.lock().ok()?;
        let recent = window.iter().filter(|slice| now.duration_since(slice.at) < config.within);
        let (mut all, mut bad) = (wide(total), wide(dead));
        for slice in recent {
            all += slice.total;
            bad += slice.dead;
        }
        #[allow(clippy::cast_precision_loss, reason = "a share; the counts are far below 2^53")]
        let crossed = dead > 0 && all >= config.of_at_least && bad as f64 > config.share * all as f64;
        crossed.then(|| {
            format!(
                "{bad} of the last {all} events are dead letters, the limit is {} % (dead_letter.limit); run `tollgate \
                 resume` or deploy a fixed transform to continue",
                config.share * 100.0
            )
        })
    }

    /// Counts a committed batch.
    pub fn count(&self, total: usize, dead: usize) {
        self.count_at(Instant::now(), total, dead);
    }

    fn count_at(&self, now: Instant, total: usize, dead: usize) {
        let (Some(config), Ok(mut window)) = (self.config, self.window.lock()) else { return };
        while window.front().is_some_and(|slice| now.duration_since(slice.at) >= config.within) {
            window.pop_front();
        }
        let grain: Duration = config.within / SLICES;
        match window.back_mut().filter(|slice| now.duration_since(slice.at) < grain) {
            Some(slice) => {
                slice.total += wide(total);
                slice.dead += wide(dead);
            }
            None => window.push_back(Slice { at: now, total: wide(total), dead: wide(dead) }),
        }
    }

    /// Suspends the limit for the rest of one window that began `since` ago.
    pub fn suspend(&self, since: Duration) {
        if let (Some(config), Ok(mut suspended)) = (self.config, self.suspended.lock()) {
            *suspended = Some(Instant::now() + config.within.saturating_sub(since));
        }
    }

    /// Starts a new window with the limit in force: after a resume or a swap the earlier counts are meaningless.
    pub fn reset(&self) {
        if let (Ok(mut window), Ok(mut suspended)) = (self.window.lock(), self.suspended.lock()) {
            window.clear();
            *suspended = None;
        }
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> Limit {
        Limit::new(Some(DeadLetterLimit { share: 0.5, of_at_least: 1_000, within: Duration::from_secs(60) }))
    }

    #[test]
    fn few_events_never_cross_it() {
        assert_eq!(limit().crossed(999, 999), None);
        assert!(limit().crossed(1_000, 501).is_some());
        assert_eq!(limit().crossed(1_000, 500), None, "half is not more than half");
    }

    #[test]
    fn what_came_before_counts_until_it_is_old() {
        let (limit, now) = (limit(), Instant::now());
        limit.count_at(now, 900, 800);
        assert!(limit.crossed_at(now, 100, 1).is_some());
        assert_eq!(limit.crossed_at(now, 100, 0), None, "a batch without dead letters crosses nothing");
        assert_eq!(limit.crossed_at(now + Duration::from_secs(61), 100, 100), None);
        limit.reset();
        assert_eq!(limit.crossed_at(now, 100, 100), None);
    }

    #[test]
    fn a_resume_lets_one_window_pass() {
        let limit = limit();
        limit.suspend(Duration::ZERO);
        assert_eq!(limit.crossed(5_000, 5_000), None);
        assert!(limit.crossed_at(Instant::now() + Duration::from_secs(61), 5_000, 5_000).is_some());
        limit.suspend(Duration::from_secs(59));
        assert_eq!(limit.crossed(5_000, 5_000), None, "a process that started later has the rest of it");
        limit.suspend(Duration::from_secs(60));
        assert!(limit.crossed(5_000, 5_000).is_some());
    }

    #[test]
    fn a_swap_ends_what_a_resume_allowed() {
        let limit = limit();
        limit.suspend(Duration::ZERO);
        limit.reset();
        assert!(limit.crossed(5_000, 5_000).is_some());
    }

    #[test]
    fn no_limit_is_never_crossed() {
        assert_eq!(Limit::new(None).crossed(10_000, 10_000), None);
    }
}
