//! The brakes slow the engine down or stop it: backoff between attempts, circuit breakers, outages, the dead letter
//! limit, the pause of a pipeline and the halts of its partitions.
//!
//! The child modules make pure decisions. [`Brakes`] holds their state for all threads, writes logs and counts metrics.

pub mod breaker;
pub mod halt;
pub mod limit;
pub mod outage;
pub mod pause;
pub mod sink;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::breaker::{Breakers, Permit, Transition, Transitions};
use self::halt::Halts;
use self::limit::Limit;
use self::outage::{Line, Outage};
use self::pause::{Mark, Pause, Synced};
use self::sink::{Observation, PerSink, Sink, State};
use crate::metrics::Metrics;
use crate::position::{Offset, Partition};
use crate::progress::halts::{self, Halt, Resumed};
use tollgate_config::{Backoff, DeadLetterLimit, Retry};

/// The brakes of one process.
pub struct Brakes {
    pub limit: Limit,
    pub breakers: Breakers,
    retry: Retry,
    metrics: Arc<Metrics>,
    pause: Mutex<Pause>,
    halts: Mutex<Halts>,
    /// Per partition, the last event after which an operator resumed, under `contract.mode: halt`.
    acknowledged: Mutex<BTreeMap<Partition, Offset>>,
    outages: PerSink<Mutex<Outage>>,
}

impl Brakes {
    pub fn new(retry: &Retry, limit: Option<DeadLetterLimit>, metrics: Arc<Metrics>) -> Brakes {
        Brakes {
            limit: Limit::new(limit),
            breakers: Breakers::new(retry),
            retry: retry.clone(),
            metrics,
            pause: Mutex::default(),
            halts: Mutex::default(),
            acknowledged: Mutex::default(),
            outages: Default::default(),
        }
    }

    pub fn backoff(&self) -> Backoff {
        Backoff::new(&self.retry)
    }

    /// Returns permission for one attempt at a batch, or how long to wait before asking again.
    pub fn admit(&self) -> Result<Permit, Duration> {
        let (permit, transitions) = self.breakers.admit();
        self.record(&transitions);
        permit
    }

    /// Records what the attempt learned about the servers.
    pub fn observe(&self, permit: Permit, observed: PerSink<Observation>) {
        for sink in Sink::ALL {
            if *observed.get(sink) == Observation::Answer {
                self.outage_over(sink, Outage::over);
            }
        }
        self.record(&self.breakers.learn(permit, observed));
    }

    /// Records a successful probe by another thread: closes a breaker that no lane has used for a long time.
    pub fn close_idle(&self, sink: Sink) {
        self.record(&self.breakers.close_idle(sink));
    }

    fn record(&self, transitions: &Transitions) {
        for Transition { sink, from, to } in transitions {
            self.metrics.transition(*sink, *to);
            let sink = sink.as_str();
            match to {
                State::Open if *from == State::Closed => {
                    tracing::error!(sink, "circuit breaker open: one attempt at a time until it answers");
                }
                State::Closed => tracing::info!(sink, "circuit breaker closed"),
                State::Open | State::HalfOpen => {}
            }
        }
    }

    /// Records an outage or a rejected login. It is logged once, then as a reminder.
    pub fn outage(&self, sink: Sink, error: &dyn fmt::Display) {
        let line = self.outages.get(sink).lock().ok().and_then(|mut outage| outage.met(Instant::now()));
        let server = sink.as_str();
        match line {
            Some(Line::Began) => tracing::warn!(server, %error, "outage: retrying until the server is back"),
            Some(Line::Lasts(lasted)) => {
                tracing::warn!(server, %error, seconds = lasted.as_secs(), "the outage continues");
            }
            None => tracing::debug!(server, %error, "outage"),
        }
    }

    /// Records that the keeper has reached the server.
    pub fn answers(&self, sink: Sink) {
        self.outage_over(sink, Outage::answers);
    }

    fn outage_over(&self, sink: Sink, over: impl FnOnce(&mut Outage, Instant) -> Option<Duration>) {
        let lasted = self.outages.get(sink).lock().ok().and_then(|mut outage| over(&mut outage, Instant::now()));
        if let Some(lasted) = lasted {
            tracing::info!(server = sink.as_str(), seconds = lasted.as_secs_f64(), "the outage is over");
        }
    }

    /// Halts a partition: its owner skips it from now on, and all other partitions continue. Any thread may call this.
    /// If a partition is halted several times, only the first cause is kept.
    pub fn halt(&self, halt: Halt) {
        let Halt { partition, code, offset, epoch, message } = &halt;
        let said = format!("partition {partition} is halted: {message}; the others continue");
        let (partition, offset, epoch, code) = (*partition, *offset, *epoch, code.clone());
        if self.locked_halts().begin(halt) {
            tracing::error!(%partition, %offset, %epoch, code, "{said}");
        }
    }

    /// Adds halts that a takeover found in PostgreSQL.
    pub fn add_stored_halts(&self, halts: Vec<Halt>) {
        self.locked_halts().add_stored(halts);
    }

    pub fn is_halted(&self, partition: Partition) -> bool {
        self.locked_halts().contains(partition)
    }

    /// Returns a mark to take before reading the stored halts from PostgreSQL. It changes whenever a halt begins or
    /// ends.
    pub fn halts_mark(&self) -> halt::Mark {
        self.locked_halts().mark()
    }

    /// Returns the halts that are not stored in PostgreSQL yet.
    pub fn unstored_halts(&self) -> Vec<Halt> {
        self.locked_halts().unstored()
    }

    pub fn stored_halt(&self, partition: Partition) {
        self.locked_halts().stored(partition);
    }

    /// Applies the halts stored in PostgreSQL, which were read after `mark` was taken.
    pub fn sync_halts(&self, mark: halt::Mark, stored: Vec<Halt>) {
        self.locked_halts().sync(mark, stored);
    }

    fn locked_halts(&self) -> MutexGuard<'_, Halts> {
        // No code that holds this lock can panic.
        self.halts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why the pipeline is paused, if it is.
    pub fn paused(&self) -> Option<String> {
        self.locked_pause().reason().map(str::to_owned)
    }

    /// Returns a mark to take before reading the stored pause from PostgreSQL.
    pub fn pause_mark(&self) -> Mark {
        self.locked_pause().mark()
    }

    /// Pauses the pipeline. The pause must be stored already: the keeper ends a pause that is not.
    pub fn pause(&self, stored: halts::Pause) {
        tracing::error!(code = stored.code, reason = stored.reason, "paused");
        let mut pause = self.locked_pause();
        pause.begin(stored);
        self.metrics.paused(true);
    }

    /// Ends the pause. After a swap nothing is allowed, and the limit starts a new window; after `tollgate resume` its
    /// allowances apply.
    pub fn unpause(&self, resumed: &Resumed) {
        self.allow(resumed);
        let mut pause = self.locked_pause();
        if pause.end() {
            tracing::info!("resumed");
        }
        self.metrics.paused(false);
    }

    /// Applies the allowances of `tollgate resume`: the operator who resumes has seen the current causes.
    pub fn allow(&self, resumed: &Resumed) {
        self.limit.reset();
        if let Some(since) = resumed.unlimited {
            self.limit.suspend(since);
        }
        if let Ok(mut acknowledged) = self.acknowledged.lock() {
            acknowledged.extend(resumed.acknowledged.iter().copied());
        }
    }

    /// Returns whether a halt at this event is waived. An event below a waived one is waived too, since a partition's
    /// events are processed in order.
    pub fn is_acknowledged(&self, partition: Partition, offset: Offset) -> bool {
        self.acknowledged
            .lock()
            .is_ok_and(|acknowledged| acknowledged.get(&partition).is_some_and(|last| offset <= *last))
    }

    /// Returns whether PostgreSQL's answer, read after the mark was taken, ends our pause. If so, the allowances must
    /// be read before [`Brakes::sync_pause`].
    pub fn pause_ends(&self, stored: Option<&halts::Pause>) -> bool {
        stored.is_none() && self.locked_pause().reason().is_some()
    }

    /// Applies PostgreSQL's answer about the pause, read after `mark` was taken.
    pub fn sync_pause(&self, mark: Mark, stored: Option<halts::Pause>, resumed: &Resumed) {
        let mut pause = self.locked_pause();
        match pause.sync(mark, stored) {
            Synced::Unchanged => return,
            Synced::Paused => tracing::error!(reason = pause.reason(), "paused"),
            Synced::Resumed => {
                // This comes before the lanes see that the pause has ended.
                self.allow(resumed);
                tracing::info!("resumed");
            }
        }
        self.metrics.paused(pause.reason().is_some());
    }

    fn locked_pause(&self) -> MutexGuard<'_, Pause> {
        // No code that holds this lock can panic.
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the halts of these partitions.
    pub fn halts_of(&self, partitions: &BTreeSet<Partition>) -> Vec<Halt> {
        self.locked_halts().all().filter(|halt| partitions.contains(&halt.partition)).cloned().collect()
    }
}
