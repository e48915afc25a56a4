//! A circuit breaker for each server that batches are written to.
//!
//! While a breaker is closed, every lane may attempt a batch. After a number of consecutive outages, counted over all
//! lanes and the keeper, it opens: nothing is attempted until a wait is over or the keeper reaches the server again.
//! Then it is half open, and one lane may attempt a batch. The result closes the breaker or opens it for longer.
//! Waiting costs only time: the poll thread keeps polling, and pauses the partitions once the backlog is full.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sink::{Observation, PerSink, Sink, State};
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
    fn learn(&mut self, probe: bool, heard: Observation, now: Instant) {
        match (heard, self.state) {
            // This includes an attempt that began before the breaker opened: the server responds.
            (Observation::Answer, _) => {
                self.outages = 0;
                self.state = State::Closed;
                self.backoff = Backoff::new(&self.retry);
            }
            (Observation::Outage, State::Closed) => {
                self.outages += 1;
                if self.outages >= self.retry.breaker_threshold {
                    self.open(now);
                }
            }
            (Observation::Outage, State::HalfOpen) if probe => self.open(now),
            // The probe learned nothing, so the next attempt may probe.
            (Observation::Nothing, State::HalfOpen) if probe => {
                self.state = State::Open;
                self.until = now;
            }
            (Observation::Outage | Observation::Nothing, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.until = now + self.backoff.next_wait();
    }

    /// Records that the server is reported to be back: the next attempt need not wait.
    fn retry_now(&mut self, now: Instant) {
        self.until = self.until.min(now);
        self.backoff = Backoff::new(&self.retry);
    }

    /// Records that the server responds while no lane has a batch to probe it with, because its partitions have moved
    /// to other members.
    fn close_idle(&mut self, now: Instant) {
        if self.state == State::Open && now > self.until + limits::BREAKER_IDLE {
            self.outages = 0;
            self.state = State::Closed;
        }
    }
}

/// Permission to begin one attempt. It is returned to the breakers with what the attempt learned.
#[derive(Debug)]
#[must_use = "a half-open breaker waits for what its attempt heard"]
pub struct Permit(PerSink<bool>);

impl Permit {
    /// The permission of an attempt that bypasses the breakers: a takeover runs on one thread and has its own backoff.
    pub const UNASKED: Permit = Permit(PerSink { postgres: false, kafka: false });
}

/// The breakers of a process.
pub struct Breakers {
    both: Mutex<PerSink<Breaker>>,
    /// The number of times that a server was reported to be back.
    returns: AtomicU64,
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
        let both = PerSink::new(|_| Breaker::new(retry, Instant::now()));
        Breakers { both: Mutex::new(both), returns: AtomicU64::new(0) }
    }

    /// Returns permission for one attempt, which uses both servers; otherwise how long to wait before asking again.
    pub fn admit(&self) -> (Result<Permit, Duration>, Transitions) {
        self.change(|breakers| {
            let now = Instant::now();
            let mut permit = Permit::UNASKED;
            for sink in Sink::ALL {
                match breakers.get_mut(sink).admit(now) {
                    Ok(probe) => *permit.0.get_mut(sink) = probe,
                    Err(wait) => {
                        // Release the probes that the other breakers granted.
                        for sink in Sink::ALL {
                            breakers.get_mut(sink).learn(*permit.0.get(sink), Observation::Nothing, now);
                        }
                        return Err(wait.min(limits::BREAKER_LOOK));
                    }
                }
            }
            Ok(permit)
        })
    }

    /// Records what an attempt learned about each server.
    pub fn learn(&self, permit: Permit, observed: PerSink<Observation>) -> Transitions {
        self.change(|breakers| {
            for sink in Sink::ALL {
                breakers.get_mut(sink).learn(*permit.0.get(sink), *observed.get(sink), Instant::now());
            }
        })
        .1
    }

    /// Lets the next attempt begin at once: a thread other than the lanes has reached the server again.
    pub fn retry_now(&self, sink: Sink) {
        self.locked().get_mut(sink).retry_now(Instant::now());
        self.returns.fetch_add(1, Ordering::AcqRel);
    }

    /// Closes a breaker that no lane has used for a long time: another thread has reached the server.
    pub fn close_idle(&self, sink: Sink) -> Transitions {
        self.change(|breakers| breakers.get_mut(sink).close_idle(Instant::now())).1
    }

    /// Sleeps until a server is back, `enough` returns true, or the duration has passed.
    pub fn sleep(&self, duration: Duration, enough: impl Fn() -> bool) {
        let (until, returns) = (Instant::now() + duration, self.returns.load(Ordering::Acquire));
        while Instant::now() < until && !enough() && self.returns.load(Ordering::Acquire) == returns {
            std::thread::sleep(limits::BREAKER_LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    pub fn state(&self, sink: Sink) -> State {
        self.locked().get(sink).state
    }

    fn change<T>(&self, change: impl FnOnce(&mut PerSink<Breaker>) -> T) -> (T, Transitions) {
        let mut breakers = self.locked();
        let before = PerSink::new(|sink| breakers.get(sink).state);
        let result = change(&mut breakers);
        let changed = Sink::ALL.into_iter().filter_map(|sink| {
            let (from, to) = (*before.get(sink), breakers.get(sink).state);
            (from != to).then_some(Transition { sink, from, to })
        });
        (result, changed.collect())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, PerSink<Breaker>> {
        // No code that holds this lock can panic.
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
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
            breaker.learn(false, Observation::Outage, now);
        }
        assert_eq!(breaker.state, State::Open);
        (breaker, now)
    }

    #[test]
    fn only_outages_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(&retry(), now);
        for heard in [
            Observation::Outage,
            Observation::Outage,
            Observation::Answer,
            Observation::Outage,
            Observation::Nothing,
            Observation::Outage,
        ] {
            breaker.learn(false, heard, now);
            assert_eq!(breaker.state, State::Closed);
        }
        breaker.learn(false, Observation::Outage, now);
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
            breaker.learn(false, Observation::Outage, now);
            assert_eq!(breaker.state, State::HalfOpen);
            breaker.learn(true, Observation::Outage, now);
            assert_eq!(breaker.state, State::Open);
        }
    }

    #[test]
    fn an_answer_closes_it_and_the_next_outage_begins_anew() {
        let (mut breaker, now) = opened();
        let wait = breaker.admit(now).unwrap_err();
        assert_eq!(breaker.admit(now + wait), Ok(true));
        breaker.learn(true, Observation::Answer, now + wait);
        assert_eq!((breaker.state, breaker.admit(now)), (State::Closed, Ok(false)));
        breaker.learn(false, Observation::Outage, now);
        assert_eq!(breaker.state, State::Closed);
        let (mut breaker, now) = opened();
        breaker.learn(false, Observation::Answer, now);
        assert_eq!(breaker.state, State::Closed, "of an attempt that began before it opened");
    }

    #[test]
    fn an_attempt_that_heard_nothing_leaves_it_to_the_next() {
        let (mut breaker, now) = opened();
        let later = now + STEP;
        assert_eq!(breaker.admit(later), Ok(true));
        breaker.learn(true, Observation::Nothing, later);
        assert_eq!(breaker.state, State::Open);
        assert_eq!(breaker.admit(later), Ok(true));
    }

    #[test]
    fn a_server_that_is_back_is_asked_at_once() {
        let (mut breaker, now) = opened();
        assert!(breaker.admit(now).is_err());
        breaker.retry_now(now);
        assert_eq!(breaker.admit(now), Ok(true));
    }

    #[test]
    fn one_that_nobody_asks_any_more_is_forgotten() {
        let (mut breaker, now) = opened();
        breaker.close_idle(now + STEP);
        assert_eq!(breaker.state, State::Open, "a lane may be about to ask");
        breaker.close_idle(now + STEP * 2 + limits::BREAKER_IDLE);
        assert_eq!((breaker.state, breaker.outages), (State::Closed, 0));
    }

    #[test]
    fn an_attempt_needs_leave_of_both_and_keeps_none_that_it_cannot_use() {
        let quick = Retry { initial_backoff: Duration::ZERO, ..retry() };
        let breakers = Breakers::new(&quick);
        let fail = |sink| breakers.learn(Permit::UNASKED, PerSink::only(sink, Observation::Outage));
        // Do not wait: the PostgreSQL breaker's wait would end in a permitted attempt.
        let changed: Vec<Transition> = (0..3).flat_map(|_| fail(Sink::Postgres)).collect();
        let transition = |sink, from, to| Transition { sink, from, to };
        assert_eq!(changed, [transition(Sink::Postgres, State::Closed, State::Open)]);
        let (probe, changed) = breakers.admit();
        let probe = probe.unwrap();
        assert_eq!(changed, [transition(Sink::Postgres, State::Open, State::HalfOpen)]);
        assert_eq!(
            (probe.0, breakers.state(Sink::Postgres)),
            (PerSink { postgres: true, kafka: false }, State::HalfOpen)
        );
        assert!(breakers.admit().0.is_err());
        (0..3).for_each(|_| drop(fail(Sink::Kafka)));
        breakers.learn(probe, PerSink::only(Sink::Kafka, Observation::Outage));
        assert_eq!(breakers.state(Sink::Postgres), State::Open, "nothing was heard of it");
        breakers.locked().kafka.until += STEP;
        assert!(breakers.admit().0.is_err());
        assert_eq!(breakers.state(Sink::Postgres), State::Open, "its leave was given back");
        breakers.retry_now(Sink::Kafka);
        let probe = breakers.admit().0.unwrap();
        let changed = breakers.learn(probe, PerSink::ANSWERS);
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert_eq!(Sink::ALL.map(|sink| breakers.state(sink)), [State::Closed; 2]);
    }
}
