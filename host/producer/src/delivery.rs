//! The outcome of an event that was sent.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The acknowledgement of an event: all required replicas have stored it. Within a transaction it becomes visible on
/// commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
}

/// An event that the broker has not acknowledged: it rejected the event, or the delivery timeout or the producer's end
/// came first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not delivered to topic {topic}: {reason}")]
pub struct Undelivered {
    pub topic: Arc<str>,
    /// librdkafka's message.
    pub reason: String,
}

pub type Outcome = Result<Acknowledged, Undelivered>;

/// An event in flight. You may block on it, await it or drop it; the event is delivered in any case.
#[derive(Debug)]
pub struct Delivery(Arc<Cell>);

#[derive(Debug, Default)]
pub(crate) struct Cell {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Cell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settle(&self, outcome: Outcome) {
        let mut state = self.state();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        self.settled.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Delivery {
    pub(crate) fn new() -> (Delivery, Arc<Cell>) {
        let cell = Arc::new(Cell::default());
        (Delivery(Arc::clone(&cell)), cell)
    }

    /// Blocks until the outcome is known, which takes at most the delivery timeout.
    ///
    /// # Errors
    /// Fails if the event was not acknowledged.
    pub fn wait(self) -> Outcome {
        let mut state = self.0.state();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            state = self.0.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks at most this long. Returns `None` if the event is then still in flight.
    #[must_use]
    pub fn wait_for(&self, patience: Duration) -> Option<Outcome> {
        let until = Instant::now() + patience;
        let mut state = self.0.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.outcome.is_some() || left.is_zero() {
                return state.outcome.clone();
            }
            state = self.0.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.state();
        match &state.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_and_a_late_one_both_hear_of_it() {
        let outcome = Ok(Acknowledged { topic: "t".into(), partition: 3, offset: 9 });
        let (delivery, cell) = Delivery::new();
        assert_eq!(delivery.wait_for(Duration::ZERO), None);
        let waiting = std::thread::spawn(move || delivery.wait());
        cell.settle(outcome.clone());
        assert_eq!(waiting.join().unwrap(), outcome);
        let (delivery, cell) = Delivery::new();
        cell.settle(outcome.clone());
        assert_eq!(delivery.wait(), outcome);
    }
}
