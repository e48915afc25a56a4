//! What all threads of the process know of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tollgate_sandbox::Sandbox;

use super::breaker::{Breakers, Heard, Leave, Sink};
use super::halt::{self, Halts};
use super::limit::Limit;
use super::outage::{Line, Outage};
use super::pause::{Followed, Mark, Pause};
use crate::config::{Pipeline, Retry};
use crate::lane::gate::{Gate, Revision};
use crate::metrics::Metrics;
use crate::position::{Offset, Partition};
use crate::progress::Writer;
use crate::progress::halts::{self, Halt, Resumed};
use crate::progress::store::Owner;
use crate::sinks::kafka::Sizes;
use crate::source::ends::Ends;

/// What the group has given to this member.
#[derive(Debug, Default)]
pub struct Held {
    /// All of it, halted partitions included.
    pub partitions: BTreeSet<Partition>,
    /// How many of them are taken over and read.
    pub read: usize,
    /// How many of them wait for their takeover.
    pub requested: usize,
    /// The group has more members than the topic has partitions, so this one may have none.
    pub spare: bool,
}

pub struct Shared {
    pub pipeline: Arc<Pipeline>,
    pub gate: Gate,
    /// Lanes take it up at their next batch.
    pub revision: ArcSwap<Revision>,
    pub sandbox: Sandbox,
    pub owner: Owner,
    /// What the tokens of the group's offsets say of us.
    pub writer: Writer,
    pub sizes: Sizes,
    pub metrics: Metrics,
    pub limit: Limit,
    pub breakers: Breakers,
    /// -1: this mode needs none.
    slot: AtomicI32,
    slot_held: AtomicBool,
    draining: AtomicBool,
    stopping: AtomicBool,
    joined: AtomicBool,
    assignment: AtomicU64,
    ends: OnceLock<Ends>,
    /// One reload at a time.
    pub reloading: tokio::sync::Mutex<()>,
    pause: Mutex<Pause>,
    halts: Mutex<Halts>,
    /// The last event of each partition that somebody has seen and resumed after, under `contract.mode: halt`.
    pardons: Mutex<BTreeMap<Partition, Offset>>,
    held: Mutex<Held>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
    /// In the order of [`Sink::ALL`].
    outages: [Mutex<Outage>; 2],
    /// Why the last reload was refused, and when (Unix milliseconds), until one is accepted.
    refused: Mutex<Option<(String, i64)>>,
}

impl Shared {
    pub fn new(
        pipeline: Arc<Pipeline>,
        gate: Gate,
        revision: Revision,
        sandbox: Sandbox,
        owner: Owner,
        writer: Writer,
        sizes: Sizes,
    ) -> Shared {
        let metrics = Metrics::default();
        metrics.describe(&pipeline.name, &revision.digest);
        Shared {
            limit: Limit::new(pipeline.dead_letter.limit),
            breakers: Breakers::new(&pipeline.retry, &metrics),
            pipeline,
            gate,
            revision: ArcSwap::from_pointee(revision),
            sandbox,
            owner,
            writer,
            sizes,
            metrics,
            slot: AtomicI32::new(-1),
            slot_held: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            assignment: AtomicU64::new(0),
            ends: OnceLock::new(),
            reloading: tokio::sync::Mutex::default(),
            pause: Mutex::default(),
            halts: Mutex::default(),
            pardons: Mutex::default(),
            held: Mutex::default(),
            troubles: Mutex::default(),
            outages: Default::default(),
            refused: Mutex::default(),
        }
    }

    /// Unix milliseconds.
    pub fn now(&self) -> i64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    }

    /// This process's slot, where the mode has transactional ids.
    pub fn slot(&self) -> Option<i32> {
        let slot = self.slot.load(Ordering::Acquire);
        (slot >= 0).then_some(slot)
    }

    pub fn take_slot(&self, slot: i32) {
        self.slot.store(slot, Ordering::Release);
    }

    /// Whether the session that holds the slot lives, as far as the keeper knows.
    pub fn slot_held(&self) -> bool {
        self.slot_held.load(Ordering::Acquire)
    }

    pub fn hold_slot(&self, held: bool) {
        self.slot_held.store(held, Ordering::Release);
    }

    /// Finish what is in work, let the partitions go, leave the group.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Drain once everything below these ends is through. The first word counts.
    pub fn drain_at(&self, ends: Ends) {
        self.ends.get_or_init(|| ends);
    }

    pub fn ends(&self) -> Option<&Ends> {
        self.ends.get()
    }

    /// The threads beside the lanes end too.
    pub fn stop(&self) {
        self.drain();
        self.stopping.store(true, Ordering::Release);
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether the group has given this member its (perhaps empty) share. While it rebalances and this member has nothing, it
    /// has not.
    pub fn joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Release);
    }

    /// The group's latest word: takeovers for an older one are void.
    pub fn assigned(&self, assignment: u64) {
        self.assignment.store(assignment, Ordering::Release);
    }

    pub fn assignment(&self) -> u64 {
        self.assignment.load(Ordering::Acquire)
    }

    pub fn backoff(&self) -> Backoff {
        Backoff::new(&self.pipeline.retry)
    }

    /// Leave for one attempt at a batch; otherwise how long to wait before asking again.
    pub fn admit(&self) -> Result<Leave, Duration> {
        self.breakers.admit(&self.metrics)
    }

    /// What the attempt heard of the servers.
    pub fn heard(&self, leave: Leave, heard: [Heard; 2]) {
        for (sink, _) in Sink::ALL.into_iter().zip(heard).filter(|(_, heard)| *heard == Heard::Answer) {
            self.outage_over(sink, Outage::over);
        }
        self.breakers.learn(&self.metrics, leave, heard);
    }

    /// A thread met an outage, or was not let in: logged once, and as a reminder.
    pub fn outage(&self, sink: Sink, error: &dyn std::fmt::Display) {
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

    /// Something that a thread is waiting out, for `/readyz` and `status`.
    pub fn trouble(&self, who: &'static str, what: &str) {
        if let Ok(mut troubles) = self.troubles.lock() {
            troubles.insert(who, what.to_owned());
        }
    }

    pub fn no_trouble(&self, who: &'static str) {
        if let Ok(mut troubles) = self.troubles.lock() {
            troubles.remove(who);
        }
    }

    /// A reload was refused for this reason, or `None`: accepted.
    pub fn reloaded(&self, refused: Option<&str>) {
        if let Ok(mut last) = self.refused.lock() {
            *last = refused.map(|why| (why.to_owned(), self.now()));
        }
    }

    /// Why the last reload was refused, and when (Unix milliseconds).
    pub fn refused_reload(&self) -> Option<(String, i64)> {
        self.refused.lock().ok().and_then(|last| last.clone())
    }

    /// Why this member is not ready; empty if it is.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self
            .troubles
            .lock()
            .map(|troubles| troubles.iter().map(|(who, what)| format!("{who}: {what}")).collect())
            .unwrap_or_default();
        if !self.joined.load(Ordering::Acquire) {
            reasons.push("the consumer group is not joined yet, or rebalances: no partition is assigned".into());
        }
        if let Ok(held) = self.held.lock() {
            if held.read == 0 && held.requested > 0 {
                reasons.push(format!("{} partitions are being taken over, and none is read yet", held.requested));
            }
            if self.joined.load(Ordering::Acquire) && held.partitions.is_empty() && !held.spare {
                reasons.push("the group has given this member no partition yet".into());
            }
        }
        for Halt { partition, offset, code, .. } in self.own_halts() {
            reasons.push(format!("partition {partition} is halted at offset {offset}: {code}"));
        }
        if self.draining() {
            reasons.push("shutting down".into());
        }
        reasons
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
        self.metrics.halted(&self.own_halts());
    }

    /// The halts of the partitions that the group has given to this member.
    pub fn own_halts(&self) -> Vec<Halt> {
        let Ok(held) = self.held.lock() else { return Vec::new() };
        self.locked_halts().all().filter(|halt| held.partitions.contains(&halt.partition)).cloned().collect()
    }

    /// Whether this member has no partition, though the group may have one for it.
    pub fn wants(&self) -> bool {
        self.held.lock().is_ok_and(|held| held.partitions.is_empty() && !held.spare)
    }

    /// The group has no partition for this member.
    pub fn spare(&self) {
        if let Ok(mut held) = self.held.lock() {
            held.spare = held.partitions.is_empty();
        }
    }

    /// What the group has given to this member by now.
    pub fn hold(&self, held: Held) {
        if let Ok(mut before) = self.held.lock() {
            *before = held;
        }
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
    /// before [`Shared::follow_pause`].
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

    /// The time a batch takes against `max_poll_interval`: beyond half, the operator should hear of it before the group does.
    pub fn warn_if_slow(&self, took: Duration) {
        let share = took.as_secs_f64() / self.pipeline.source.max_poll_interval.as_secs_f64();
        self.metrics.poll_interval_used(share);
        if share > 0.5 {
            tracing::warn!(
                seconds = took.as_secs(),
                "a batch took more than half of max_poll_interval; take smaller batches or allow more time"
            );
        }
    }
}

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
