//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_config::Retry;

/// Exponential backoff with jitter, as `retry_policy` says.
pub struct Backoff {
    next: Duration,
    most: Duration,
    factor: f64,
}

impl Backoff {
    pub fn new(retry: &Retry) -> Backoff {
        Backoff { next: retry.initial_backoff, most: retry.max_backoff, factor: retry.multiplier.max(1.0) }
    }

    /// The same with no wait longer than this.
    pub fn at_most(self, most: Duration) -> Backoff {
        Backoff { next: self.next.min(most), most: self.most.min(most), ..self }
    }

    /// The next wait: between half and the whole of the step, so that many processes do not come back at once.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.mul_f64(self.factor).min(self.most);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        step / 2 + (step / 2).mul_f64(f64::from(nanos % 1_000) / 1_000.0)
    }
}
