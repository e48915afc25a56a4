//! The startup deadline, and what startup currently waits for. Every step records itself, so that a step that does not
//! end can be named, whichever call it is in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tollgate_config::error::Failure;

/// The state shared between startup and the code that watches it.
#[derive(Debug, Clone)]
pub struct Waiting {
    deadline: Duration,
    until: Instant,
    step: Arc<Mutex<String>>,
}

impl Waiting {
    pub fn new(deadline: Duration) -> Waiting {
        Waiting { deadline, until: Instant::now() + deadline, step: Arc::default() }
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    /// Returns the time left; 0 after the deadline.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Records what startup waits for from now on.
    pub fn waits_for(&self, step: impl Into<String>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step.into();
    }

    /// Returns the failure of a startup that missed its deadline: exit code 3. `last` is the last error, if there was
    /// one.
    pub fn over(&self, last: Option<&dyn std::fmt::Display>) -> Failure {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last = last.map(|error| format!(": {error}")).unwrap_or_default();
        let seconds = self.deadline.as_secs_f64();
        Failure::environment(
            "environment.start",
            format!("startup took longer than start_deadline ({seconds} s), waiting for {step}{last}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_waited_for() {
        let waiting = Waiting::new(Duration::from_secs(5));
        waiting.waits_for("PostgreSQL");
        waiting.clone().waits_for("a slot");
        assert!(waiting.left() > Duration::from_secs(4));
        let failure = waiting.over(Some(&"it is locked"));
        let said = "startup took longer than start_deadline (5 s), waiting for a slot: it is locked";
        assert_eq!((failure.to_string().as_str(), failure.code), (said, "environment.start"));
    }
}
