//! Measures how long an event that runs alone has been running: by wall clock, and by the CPU time of its thread.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use crate::limits;

/// The start of an event's run.
pub(crate) struct Watch {
    began: Instant,
    cpu: Duration,
    /// Whether it was interrupted after its thread had used the deadline.
    pub spent: bool,
}

impl Watch {
    pub(crate) fn start() -> Watch {
        Watch { began: Instant::now(), cpu: thread_time(), spent: false }
    }

    /// Decides whether to continue after `deadline` has passed by wall clock: a thread that got less CPU time
    /// continues, up to [`limits::DEADLINE_PATIENCE`] deadlines.
    pub(crate) fn at_deadline(&mut self, deadline: Duration) -> UpdateDeadline {
        let left = deadline.saturating_sub(thread_time().saturating_sub(self.cpu));
        self.spent = left.is_zero();
        if self.spent || self.began.elapsed() > deadline * limits::DEADLINE_PATIENCE {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Continue(limits::ticks(left))
        }
    }
}

/// Returns the CPU time of this thread since it started.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_goes_on_and_one_that_works_is_interrupted() {
        let deadline = Duration::from_millis(40);
        let mut watch = Watch::start();
        std::thread::sleep(deadline);
        assert!(matches!(watch.at_deadline(deadline), UpdateDeadline::Continue(_)) && !watch.spent);
        let from = thread_time();
        while thread_time() - from < deadline {}
        assert!(matches!(watch.at_deadline(deadline), UpdateDeadline::Interrupt) && watch.spent);
    }

    #[test]
    fn a_thread_that_gets_no_time_is_interrupted_all_the_same() {
        let deadline = Duration::from_millis(20);
        let mut watch = Watch::start();
        std::thread::sleep(deadline * (limits::DEADLINE_PATIENCE + 1));
        assert!(matches!(watch.at_deadline(deadline), UpdateDeadline::Interrupt) && !watch.spent);
    }
}
