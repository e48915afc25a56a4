//! The wait before the next attempt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_config::Retry;

/// Exponential backoff with jitter, configured by `retry_policy`.
pub struct Backoff {
    next: Duration,
    most: Duration,
    factor: f64,
}

impl Backoff {
    pub fn new(retry: &Retry) -> Backoff {
        Backoff { next: retry.initial_backoff, most: retry.max_backoff, factor: retry.multiplier.max(1.0) }
    }

    /// Returns this backoff with every wait capped at `most`.
    pub fn at_most(self, most: Duration) -> Backoff {
        Backoff { next: self.next.min(most), most: self.most.min(most), ..self }
    }

    /// Returns the next wait: between half and the whole of the step, so that many processes do not retry at the same
    /// moment.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.mul_f64(self.factor).min(self.most);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        step / 2 + (step / 2).mul_f64(f64::from(nanos % 1_000) / 1_000.0)
    }
}
