//! Determines how long a batch waits for more events. Every commit costs PostgreSQL and Kafka a fixed amount. A batch
//! that waits as long as the latency target allows shares this cost among more events.

use std::time::Duration;

use tollgate_config::BatchWait;

/// The duration of a lane's recent commits.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// The number of completed batches at the last check.
    through: u64,
    /// The longest recent duration: a shorter one lowers it by a fiftieth, so that about one batch in fifty takes
    /// longer.
    took: Duration,
}

impl Linger {
    /// Returns how long to wait now. `through` is the number of completed batches, and the duration of the last of
    /// them.
    pub(super) fn wait(&mut self, wait: BatchWait, (through, took): (u64, Duration)) -> Duration {
        let target = match wait {
            BatchWait::Most(most) => return most,
            BatchWait::Target(target) => target,
        };
        if self.through != through {
            self.through = through;
            // An outage predicts nothing about later commits, so it is forgotten as fast as a slow commit.
            self.took = took.min(target).max(self.took - self.took / 50);
        }
        // A tenth is reserved for the time in between: the poll thread's round and waking the lane.
        (target - target / 10).saturating_sub(self.took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Simulates commits of these durations in sequence. Returns the waits before each and after the last.
    fn waits(target: u64, commits: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        let mut linger = Linger::default();
        let commits = std::iter::once(0).chain(commits);
        (0..).zip(commits).map(|(at, took)| linger.wait(BatchWait::Target(MS(target)), (at, MS(took)))).collect()
    }

    #[test]
    fn what_a_commit_leaves_of_the_target_is_waited() {
        assert_eq!(waits(100, [30, 10]), [MS(90), MS(60), Duration::from_micros(60_600)]);
        assert_eq!(Linger::default().wait(BatchWait::Most(MS(7)), (3, MS(500))), MS(7));
    }

    #[test]
    fn commits_that_take_the_whole_target_leave_no_wait_and_are_forgotten() {
        let waits = waits(100, [60_000].into_iter().chain(std::iter::repeat_n(5, 200)));
        assert_eq!(waits[1], Duration::ZERO);
        assert!(waits[60] > MS(50), "a minute's outage holds the waits down for seconds at most: {:?}", waits[60]);
        assert_eq!(waits[200], MS(85));
    }

    /// A batch that waits longer is larger and takes longer: the two must not escalate each other.
    #[test]
    fn the_wait_settles_where_wait_and_commit_make_the_target() {
        let mut linger = Linger::default();
        let mut wait = Duration::ZERO;
        for at in 1..500 {
            let commit = MS(5) + wait.mul_f64(0.5);
            wait = linger.wait(BatchWait::Target(MS(100)), (at, commit));
        }
        let total = wait + MS(5) + wait.mul_f64(0.5);
        assert!(MS(75) < total && total <= MS(100), "{total:?}");
    }
}
