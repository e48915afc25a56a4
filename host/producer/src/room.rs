//! The limit on records in flight, by number and by bytes. A sender takes room, and a report returns it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The records in flight, or the limit on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub records: usize,
    /// The bytes of keys, values and headers, and the overhead of records.
    pub bytes: usize,
}

pub(crate) struct Budget {
    most: Load,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    taken: Load,
    /// The number of threads that wait on the condition variable.
    waiting: usize,
    /// The tasks that wait.
    wakers: Vec<Waker>,
}

impl State {
    fn try_take(&mut self, bytes: usize, most: Load) -> bool {
        // A record larger than the whole limit is sent alone, because it would otherwise wait forever.
        let alone = self.taken.records == 0;
        let fits = self.taken.records < most.records && self.taken.bytes.saturating_add(bytes) <= most.bytes;
        if alone || fits {
            self.taken.records += 1;
            self.taken.bytes = self.taken.bytes.saturating_add(bytes);
        }
        alone || fits
    }
}

impl Budget {
    pub(crate) fn new(most: Load) -> Budget {
        Budget { most, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Locks the state, even after a panic. Every change under this lock is complete, so the panic of a thread that
    /// held it does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for one record, waiting until `deadline` (forever without one). Returns whether there was room.
    pub(crate) fn take(&self, bytes: usize, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        while !state.try_take(bytes, self.most) {
            let Some(guard) = self.wait(state, deadline) else { return false };
            state = guard;
        }
        true
    }

    /// Works like [`Budget::take`] for a task, whose waker is called when there may be room.
    pub(crate) fn poll_take(&self, bytes: usize, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.try_take(bytes, self.most) {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Returns one record's room.
    pub(crate) fn give(&self, bytes: usize) {
        let mut state = self.state();
        state.taken.records = state.taken.records.saturating_sub(1);
        state.taken.bytes = state.taken.bytes.saturating_sub(bytes);
        // Waking for each record would cost a context switch each; an eighth of the limit is worth one.
        let low = |taken: usize, most: usize| taken <= most - most / 8;
        if low(state.taken.records, self.most.records) && low(state.taken.bytes, self.most.bytes) {
            let wakers = std::mem::take(&mut state.wakers);
            if state.waiting > 0 {
                self.freed.notify_all();
            }
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn load(&self) -> Load {
        self.state().taken
    }

    /// Waits until nothing is in flight or the deadline has passed. Returns how many records are still in flight.
    pub(crate) fn wait_empty(&self, deadline: Instant) -> usize {
        let mut state = self.state();
        loop {
            let left = state.taken.records;
            if left == 0 {
                return 0;
            }
            let Some(guard) = self.wait(state, Some(deadline)) else { return left };
            state = guard;
        }
    }

    /// Waits for a change. Returns `None` after the deadline.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, deadline: Option<Instant>) -> Option<MutexGuard<'a, State>> {
        state.waiting += 1;
        let mut state = match deadline {
            None => self.freed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.waiting -= 1;
                    return None;
                }
                self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.waiting -= 1;
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(10))
    }

    #[test]
    fn both_bounds_hold() {
        let room = Budget::new(Load { records: 3, bytes: 100 });
        assert!(room.take(10, None) && room.take(10, None) && room.take(10, None));
        assert!(!room.take(10, soon()), "a fourth record");
        room.give(10);
        assert!(!room.take(90, soon()), "more than 100 bytes");
        assert!(room.take(80, soon()));
        assert_eq!(room.load(), Load { records: 3, bytes: 100 });
    }

    #[test]
    fn a_record_larger_than_the_bound_goes_alone() {
        let room = Budget::new(Load { records: 3, bytes: 100 });
        assert!(room.take(1_000, soon()));
        assert!(!room.take(1, soon()));
        room.give(1_000);
        assert!(room.take(1, soon()));
    }

    #[test]
    fn who_waits_goes_on_when_there_is_room() {
        let room = Arc::new(Budget::new(Load { records: 1, bytes: 100 }));
        assert!(room.take(10, None));
        let other = Arc::clone(&room);
        let waiting = std::thread::spawn(move || other.take(10, None));
        while room.state().waiting == 0 {
            std::thread::yield_now();
        }
        room.give(10);
        assert!(waiting.join().unwrap());
        let past = Instant::now();
        assert_eq!(room.wait_empty(past), 1);
        room.give(10);
        assert_eq!(room.wait_empty(past), 0);
    }
}
