//! The wait before the next attempt: the one policy of every retry loop.

use std::time::Duration;

use crate::Retry;

/// Exponential backoff with jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    most: Duration,
    factor: f64,
}

impl Backoff {
    /// Returns a backoff that begins with `first` and doubles up to `most`.
    pub fn doubling(first: Duration, most: Duration) -> Backoff {
        Backoff { next: first.min(most), most, factor: 2.0 }
    }

    /// Returns the backoff that `retry_policy` configures.
    pub fn new(retry: &Retry) -> Backoff {
        Backoff { next: retry.initial_backoff, most: retry.max_backoff, factor: retry.multiplier.max(1.0) }
    }

    /// Returns this backoff with every wait capped at `most`.
    #[must_use]
    pub fn at_most(self, most: Duration) -> Backoff {
        Backoff { next: self.next.min(most), most: self.most.min(most), ..self }
    }

    /// Returns the next wait: between half and the whole of the step, so that many processes do not retry at the same moment.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.mul_f64(self.factor).min(self.most);
        step / 2 + (step / 2).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_differ() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut waits = BTreeSet::new();
        for _ in 0..20 {
            let mut backoff = Backoff::doubling(first, most);
            for step in [100, 200, 400, 800, 1_600, 2_000, 2_000].map(Duration::from_millis) {
                let wait = backoff.next_wait();
                assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
                waits.insert(wait);
            }
        }
        assert!(waits.len() > 100, "{}", waits.len());
        assert!(Backoff::doubling(first, most).at_most(first / 2).next_wait() <= first / 2);
    }
}
