//! What slows the engine down or stops it: waits between attempts, circuit breakers, outages, the dead letter limit, the
//! pause of a pipeline and the halts of its partitions.
//!
//! The files below decide: values in, values out. [`Brakes`] holds their state for all threads, logs and counts.

pub mod backoff;
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

use self::backoff::Backoff;
use self::breaker::{Breakers, Leave, Transition, Transitions};
use self::halt::Halts;
use self::limit::Limit;
use self::outage::{Line, Outage};
use self::pause::{Followed, Mark, Pause};
use self::sink::{Heard, Sink, State};
use crate::metrics::Metrics;
use crate::position::{Offset, Partition};
use crate::progress::halts::{self, Halt, Resumed};
use tollgate_config::{DeadLetterLimit, Retry};

/// The brakes of one process.
pub struct Brakes {
    pub limit: Limit,
    pub breakers: Breakers,
    retry: Retry,
    metrics: Arc<Metrics>,
    pause: Mutex<Pause>,
    halts: Mutex<Halts>,
    /// The last event of each partition that somebody has seen and resumed after, under `contract.mode: halt`.
    pardons: Mutex<BTreeMap<Partition, Offset>>,
    /// In the order of [`Sink::ALL`].
    outages: [Mutex<Outage>; 2],
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
            pardons: Mutex::default(),
            outages: Default::default(),
        }
    }

    pub fn backoff(&self) -> Backoff {
        Backoff::new(&self.retry)
    }

    /// Leave for one attempt at a batch; otherwise how long to wait before asking again.
    pub fn admit(&self) -> Result<Leave, Duration> {
        let (leave, transitions) = self.breakers.admit();
        self.record(&transitions);
        leave
    }

    /// What the attempt heard of the servers.
    pub fn heard(&self, leave: Leave, heard: [Heard; 2]) {
        for (sink, _) in Sink::ALL.into_iter().zip(heard).filter(|(_, heard)| *heard == Heard::Answer) {
            self.outage_over(sink, Outage::over);
        }
        self.record(&self.breakers.learn(leave, heard));
    }

    /// A thread beside the lanes has reached the server: a breaker that no lane has asked for long closes.
    pub fn forget(&self, sink: Sink) {
        self.record(&self.breakers.forget(sink));
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

    /// A thread met an outage, or was not let in: logged once, and as a reminder.
    pub fn outage(&self, sink: Sink, error: &dyn fmt::Display) {
        let line = self.outages[sink.index()].lock().ok().and_then(|mut outage| outage.met(Instant::now()));
        let server = sink.as_str();
        match line {
            Some(Line::Began) => tracing::warn!(server, %error, "outage: retrying until the server is back"),
            Some(Line::Lasts(lasted)) => {
                tracing::warn!(server, %error, seconds = lasted.as_secs(), "the outage lasts");
            }
            None => tracing::debug!(server, %error, "outage"),
        }
    }

    /// The keeper has reached the server.
    pub fn answers(&self, sink: Sink) {
        self.outage_over(sink, Outage::answers);
    }

    fn outage_over(&self, sink: Sink, over: impl FnOnce(&mut Outage, Instant) -> Option<Duration>) {
        let lasted = self.outages[sink.index()].lock().ok().and_then(|mut outage| over(&mut outage, Instant::now()));
        if let Some(lasted) = lasted {
            tracing::info!(server = sink.as_str(), seconds = lasted.as_secs_f64(), "the outage is over");
        }
    }

    /// Halts a partition: its owner skips it from now on, and all others go on. Any thread may call this; the first cause of
    /// a partition counts.
    pub fn halt(&self, halt: Halt) {
        let Halt { partition, code, offset, epoch, message } = &halt;
        let said = format!("partition {partition} is halted: {message}; the others go on");
        let (partition, offset, epoch, code) = (*partition, *offset, *epoch, code.clone());
        if self.locked_halts().begin(halt) {
            tracing::error!(%partition, %offset, epoch, code, "{said}");
        }
    }

    /// A takeover found these halts in PostgreSQL.
    pub fn found_halts(&self, halts: Vec<Halt>) {
        self.locked_halts().found(halts);
    }

    pub fn is_halted(&self, partition: Partition) -> bool {
        self.locked_halts().contains(partition)
    }

    /// To be taken before PostgreSQL is asked for the stored halts; it changes whenever a halt begins or ends.
    pub fn halts_mark(&self) -> halt::Mark {
        self.locked_halts().mark()
    }

    /// The halts that PostgreSQL does not have yet.
    pub fn unstored_halts(&self) -> Vec<Halt> {
        self.locked_halts().unstored()
    }

    pub fn stored_halt(&self, partition: Partition) {
        self.locked_halts().stored(partition);
    }

    /// Follows what PostgreSQL holds, asked after the mark was taken.
    pub fn follow_halts(&self, mark: halt::Mark, stored: Vec<Halt>) {
        self.locked_halts().follow(mark, stored);
    }

    fn locked_halts(&self) -> MutexGuard<'_, Halts> {
        // Nothing that holds it can panic.
        self.halts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the pipeline stands still, if it does.
    pub fn paused(&self) -> Option<String> {
        self.locked_pause().reason().map(str::to_owned)
    }

    /// To be taken before PostgreSQL is asked for the stored pause.
    pub fn pause_mark(&self) -> Mark {
        self.locked_pause().mark()
    }

    /// Stands still. The pause must be stored by now: the keeper lifts one that is not.
    pub fn pause(&self, stored: halts::Pause) {
        tracing::error!(code = stored.code, reason = stored.reason, "paused");
        let mut pause = self.locked_pause();
        pause.begin(stored);
        self.metrics.paused(true);
    }

    /// Goes on. After a swap nothing is allowed, and the limit begins a fresh window; after `tollgate resume` what that allows.
    pub fn unpause(&self, resumed: &Resumed) {
        self.allow(resumed);
        let mut pause = self.locked_pause();
        if pause.end() {
            tracing::info!("resumed");
        }
        self.metrics.paused(false);
    }

    /// Takes over what `tollgate resume` has allowed: whoever resumes has seen what there is.
    pub fn allow(&self, resumed: &Resumed) {
        self.limit.reset();
        if let Some(since) = resumed.unlimited {
            self.limit.suspend(since);
        }
        if let Ok(mut pardons) = self.pardons.lock() {
            pardons.extend(resumed.seen.iter().copied());
        }
    }

    /// Whether a halt at this event would be one too many. What lies below an event that was seen was seen before, since a partition's
    /// events are met in their order.
    pub fn pardoned(&self, partition: Partition, offset: Offset) -> bool {
        self.pardons.lock().is_ok_and(|pardons| pardons.get(&partition).is_some_and(|seen| offset <= *seen))
    }

    /// Whether PostgreSQL's answer, asked for after the mark was taken, ends a pause of ours: then what was resumed must be read
    /// before [`Brakes::follow_pause`].
    pub fn pause_ends(&self, stored: Option<&halts::Pause>) -> bool {
        stored.is_none() && self.locked_pause().reason().is_some()
    }

    /// Follows what PostgreSQL said about the pause after the mark was taken.
    pub fn follow_pause(&self, mark: Mark, stored: Option<halts::Pause>, resumed: &Resumed) {
        let mut pause = self.locked_pause();
        match pause.follow(mark, stored) {
            Followed::Unchanged => return,
            Followed::Paused => tracing::error!(reason = pause.reason(), "paused"),
            Followed::Resumed => {
                // Before the lanes see that they may go on.
                self.allow(resumed);
                tracing::info!("resumed");
            }
        }
        self.metrics.paused(pause.reason().is_some());
    }

    fn locked_pause(&self) -> MutexGuard<'_, Pause> {
        // Nothing that holds it can panic.
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the halts of these partitions.
    pub fn halts_of(&self, partitions: &BTreeSet<Partition>) -> Vec<Halt> {
        self.locked_halts().all().filter(|halt| partitions.contains(&halt.partition)).cloned().collect()
    }
}
