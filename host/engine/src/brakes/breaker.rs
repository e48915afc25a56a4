//! A circuit breaker for each server that batches are written to.
//!
//! While a breaker is closed, every lane may attempt a batch. After a number of consecutive outages, counted over all
//! lanes and the keeper, it opens: nothing is attempted until a wait is over or the keeper reaches the server again.
//! Then it is half open, and one lane may attempt a batch. The result closes the breaker or opens it for longer.
//! Waiting costs only time: the poll thread keeps polling, and pauses the partitions once the backlog is full.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sink::{Heard, Sink, State};
use tollgate_config::limits;
use tollgate_config::{Backoff, Retry};

/// One server's breaker. It is pure: the caller passes the time.
struct Breaker {
    retry: Retry,
    backoff: Backoff,
    state: State,
    /// The number of consecutive outages while closed.
    outages: u32,
    /// The end of the wait while open.
    until: Instant,
}

impl Breaker {
    fn new(retry: &Retry, now: Instant) -> Breaker {
        let (retry, backoff) = (retry.clone(), Backoff::new(retry));
        Breaker { retry, backoff, state: State::Closed, outages: 0, until: now }
    }

    /// Returns whether the permitted attempt is the probe of a half-open breaker; otherwise how long to wait.
    fn admit(&mut self, now: Instant) -> Result<bool, Duration> {
        match self.state {
            State::Closed => Ok(false),
            State::HalfOpen => Err(limits::BREAKER_LOOK),
            State::Open if now < self.until => Err(self.until - now),
            State::Open => {
                self.state = State::HalfOpen;
                Ok(true)
            }
        }
    }

    /// Records what an attempt learned. `probe` means that it was the probe of a half-open breaker.
    fn learn(&mut self, probe: bool, heard: Heard, now: Instant) {
        match (heard, self.state) {
            // This includes an attempt that began before the breaker opened: the server responds.
            (Heard::Answer, _) => {
                self.outages = 0;
                self.state = State::Closed;
                self.backoff = Backoff::new(&self.retry);
            }
            (Heard::Outage, State::Closed) => {
                self.outages += 1;
                if self.outages >= self.retry.breaker_threshold {
                    self.open(now);
                }
            }
            (Heard::Outage, State::HalfOpen) if probe => self.open(now),
            // The probe learned nothing, so the next attempt may probe.
            (Heard::Nothing, State::HalfOpen) if probe => {
                self.state = State::Open;
                self.until = now;
            }
            (Heard::Outage | Heard::Nothing, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.until = now + self.backoff.next_wait();
    }

    /// Records that the server is reported to be back: the next attempt need not wait.
    fn nudge(&mut self, now: Instant) {
        self.until = self.until.min(now);
        self.backoff = Backoff::new(&self.retry);
    }

    /// Records that the server responds while no lane has a batch to probe it with, because its partitions have moved
    /// to other members.
    fn forget(&mut self, now: Instant) {
        if self.state == State::Open && now > self.until + limits::BREAKER_IDLE {
            self.outages = 0;
            self.state = State::Closed;
        }
    }
}

/// Permission to begin one attempt. It is returned to the breakers with what the attempt learned.
#[derive(Debug)]
#[must_use = "a half-open breaker waits for what its attempt heard"]
pub struct Leave([bool; 2]);

impl Leave {
    /// The permission of an attempt that bypasses the breakers: a takeover runs on one thread and has its own backoff.
    pub const UNASKED: Leave = Leave([false; 2]);
}

/// The breakers of a process.
pub struct Breakers {
    both: Mutex<[Breaker; 2]>,
    /// The number of times that a server was reported to be back.
    nudges: AtomicU64,
}

/// A change of one breaker's state, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    pub sink: Sink,
    pub from: State,
    pub to: State,
}

/// The changes made by one call.
pub type Transitions = Vec<Transition>;

impl Breakers {
    pub fn new(retry: &Retry) -> Breakers {
        let both = Sink::ALL.map(|_| Breaker::new(retry, Instant::now()));
        Breakers { both: Mutex::new(both), nudges: AtomicU64::new(0) }
    }

    /// Returns permission for one attempt, which uses both servers; otherwise how long to wait before asking again.
    pub fn admit(&self) -> (Result<Leave, Duration>, Transitions) {
        self.change(|breakers| {
            let now = Instant::now();
            let mut leave = Leave::UNASKED;
            for at in 0..breakers.len() {
                match breakers[at].admit(now) {
                    Ok(probe) => leave.0[at] = probe,
                    Err(wait) => {
                        // Release the probes that the other breakers granted.
                        for (breaker, probe) in breakers.iter_mut().zip(leave.0) {
                            breaker.learn(probe, Heard::Nothing, now);
                        }
                        return Err(wait.min(limits::BREAKER_LOOK));
                    }
                }
            }
            Ok(leave)
        })
    }

    /// Records what an attempt learned about each server, in the order of [`Sink::ALL`].
    pub fn learn(&self, leave: Leave, heard: [Heard; 2]) -> Transitions {
        let learn = |breakers: &mut [Breaker; 2]| {
            for ((breaker, probe), heard) in breakers.iter_mut().zip(leave.0).zip(heard) {
                breaker.learn(probe, heard, Instant::now());
            }
        };
        self.change(learn).1
    }

    /// Lets the next attempt begin at once: a thread other than the lanes has reached the server again.
    pub fn nudge(&self, sink: Sink) {
        self.locked()[sink.index()].nudge(Instant::now());
        self.nudges.fetch_add(1, Ordering::AcqRel);
    }

    /// Closes a breaker that no lane has used for a long time: another thread has reached the server.
    pub fn forget(&self, sink: Sink) -> Transitions {
        self.change(|breakers| breakers[sink.index()].forget(Instant::now())).1
    }

    /// Sleeps until a server is back, `enough` returns true, or the duration has passed.
    pub fn sleep(&self, duration: Duration, enough: impl Fn() -> bool) {
        let (until, nudges) = (Instant::now() + duration, self.nudges.load(Ordering::Acquire));
        while Instant::now() < until && !enough() && self.nudges.load(Ordering::Acquire) == nudges {
            std::thread::sleep(limits::BREAKER_LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    pub fn state(&self, sink: Sink) -> State {
        self.locked()[sink.index()].state
    }

    fn change<T>(&self, change: impl FnOnce(&mut [Breaker; 2]) -> T) -> (T, Transitions) {
        let mut breakers = self.locked();
        let before = Sink::ALL.map(|sink| breakers[sink.index()].state);
        let result = change(&mut breakers);
        let changed = Sink::ALL.into_iter().zip(before).filter_map(|(sink, from)| {
            let to = breakers[sink.index()].state;
            (from != to).then_some(Transition { sink, from, to })
        });
        (result, changed.collect())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, [Breaker; 2]> {
        // No code that holds this lock can panic.
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::only;
    use super::*;

    const STEP: Duration = Duration::from_secs(1);

    fn retry() -> Retry {
        Retry {
            max_retries: 3,
            initial_backoff: STEP,
            max_backoff: STEP * 8,
            multiplier: 2.0,
            breaker_threshold: 3,
            foreign_key_window: None,
            unique_window: None,
        }
    }

    /// Returns an open breaker and the time at which it opened.
    fn opened() -> (Breaker, Instant) {
        let now = Instant::now();
        let mut breaker = Breaker::new(&retry(), now);
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(false));
            breaker.learn(false, Heard::Outage, now);
        }
        assert_eq!(breaker.state, State::Open);
        (breaker, now)
    }

    #[test]
    fn only_outages_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(&retry(), now);
        for heard in [Heard::Outage, Heard::Outage, Heard::Answer, Heard::Outage, Heard::Nothing, Heard::Outage] {
            breaker.learn(false, heard, now);
            assert_eq!(breaker.state, State::Closed);
        }
        breaker.learn(false, Heard::Outage, now);
        assert_eq!(breaker.state, State::Open);
    }

    #[test]
    fn open_it_waits_longer_each_time_and_lets_one_attempt_through() {
        let (mut breaker, mut now) = opened();
        for step in [1, 2, 4, 8, 8] {
            let wait = breaker.admit(now).unwrap_err();
            assert!(wait >= STEP * step / 2 && wait <= STEP * step, "{wait:?} of {step} s");
            assert!(breaker.admit(now + wait - Duration::from_millis(1)).is_err());
            now += wait;
            assert_eq!(breaker.admit(now), Ok(true));
            assert_eq!(breaker.state, State::HalfOpen);
            assert!(breaker.admit(now).is_err(), "a second one has to wait for what the first one hears");
            // An attempt that began before it opened.
            breaker.learn(false, Heard::Outage, now);
            assert_eq!(breaker.state, State::HalfOpen);
            breaker.learn(true, Heard::Outage, now);
            assert_eq!(breaker.state, State::Open);
        }
    }

    #[test]
    fn an_answer_closes_it_and_the_next_outage_begins_anew() {
        let (mut breaker, now) = opened();
        let wait = breaker.admit(now).unwrap_err();
        assert_eq!(breaker.admit(now + wait), Ok(true));
        breaker.learn(true, Heard::Answer, now + wait);
        assert_eq!((breaker.state, breaker.admit(now)), (State::Closed, Ok(false)));
        breaker.learn(false, Heard::Outage, now);
        assert_eq!(breaker.state, State::Closed);
        let (mut breaker, now) = opened();
        breaker.learn(false, Heard::Answer, now);
        assert_eq!(breaker.state, State::Closed, "of an attempt that began before it opened");
    }

    #[test]
    fn an_attempt_that_heard_nothing_leaves_it_to_the_next() {
        let (mut breaker, now) = opened();
        let later = now + STEP;
        assert_eq!(breaker.admit(later), Ok(true));
        breaker.learn(true, Heard::Nothing, later);
        assert_eq!(breaker.state, State::Open);
        assert_eq!(breaker.admit(later), Ok(true));
    }

    #[test]
    fn a_server_that_is_back_is_asked_at_once() {
        let (mut breaker, now) = opened();
        assert!(breaker.admit(now).is_err());
        breaker.nudge(now);
        assert_eq!(breaker.admit(now), Ok(true));
    }

    #[test]
    fn one_that_nobody_asks_any_more_is_forgotten() {
        let (mut breaker, now) = opened();
        breaker.forget(now + STEP);
        assert_eq!(breaker.state, State::Open, "a lane may be about to ask");
        breaker.forget(now + STEP * 2 + limits::BREAKER_IDLE);
        assert_eq!((breaker.state, breaker.outages), (State::Closed, 0));
    }

    #[test]
    fn an_attempt_needs_leave_of_both_and_keeps_none_that_it_cannot_use() {
        let quick = Retry { initial_backoff: Duration::ZERO, ..retry() };
        let breakers = Breakers::new(&quick);
        let fail = |sink| breakers.learn(Leave::UNASKED, only(sink, Heard::Outage));
        // Do not wait: the PostgreSQL breaker's wait would end in a permitted attempt.
        let changed: Vec<Transition> = (0..3).flat_map(|_| fail(Sink::Postgres)).collect();
        let transition = |sink, from, to| Transition { sink, from, to };
        assert_eq!(changed, [transition(Sink::Postgres, State::Closed, State::Open)]);
        let (probe, changed) = breakers.admit();
        let probe = probe.unwrap();
        assert_eq!(changed, [transition(Sink::Postgres, State::Open, State::HalfOpen)]);
        assert_eq!((probe.0, breakers.state(Sink::Postgres)), ([true, false], State::HalfOpen));
        assert!(breakers.admit().0.is_err());
        (0..3).for_each(|_| drop(fail(Sink::Kafka)));
        breakers.learn(probe, only(Sink::Kafka, Heard::Outage));
        assert_eq!(breakers.state(Sink::Postgres), State::Open, "nothing was heard of it");
        breakers.locked()[Sink::Kafka.index()].until += STEP;
        assert!(breakers.admit().0.is_err());
        assert_eq!(breakers.state(Sink::Postgres), State::Open, "its leave was given back");
        breakers.nudge(Sink::Kafka);
        let probe = breakers.admit().0.unwrap();
        let changed = breakers.learn(probe, [Heard::Answer; 2]);
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert_eq!(Sink::ALL.map(|sink| breakers.state(sink)), [State::Closed; 2]);
    }
}
