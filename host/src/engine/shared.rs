//! What all threads of the process know of each other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tollgate_sandbox::Sandbox;

use super::breaker::{Breakers, Heard, Leave};
use super::halt;
use super::limit::Limit;
use super::pause::{Followed, Mark, Pause};
use crate::config::{Pipeline, Retry};
use crate::lane::gate::{Gate, Revision};
use crate::metrics::Metrics;
use crate::position::{Offset, Partition};
use crate::progress::store::Owner;
use crate::sinks::kafka::Sizes;
use crate::source::ends::Ends;

pub struct Shared {
    pub pipeline: Arc<Pipeline>,
    pub gate: Gate,
    /// Lanes take it up at their next batch.
    pub revision: ArcSwap<Revision>,
    pub sandbox: Sandbox,
    pub owner: Owner,
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
    /// The last event of each partition that somebody has seen and resumed after, under `contract.mode: halt`.
    pardons: Mutex<BTreeMap<Partition, Offset>>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
}

impl Shared {
    pub fn new(
        pipeline: Arc<Pipeline>,
        gate: Gate,
        revision: Revision,
        sandbox: Sandbox,
        owner: Owner,
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
            pardons: Mutex::default(),
            troubles: Mutex::default(),
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

    /// The group has given this member its (perhaps empty) share.
    pub fn joined(&self) {
        self.joined.store(true, Ordering::Release);
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
        self.breakers.learn(&self.metrics, leave, heard);
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

    /// Why this member is not ready; empty if it is.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self
            .troubles
            .lock()
            .map(|troubles| troubles.iter().map(|(who, what)| format!("{who}: {what}")).collect())
            .unwrap_or_default();
        if !self.joined.load(Ordering::Acquire) {
            reasons.push("the consumer group is not joined yet".into());
        }
        if self.draining() {
            reasons.push("shutting down".into());
        }
        reasons
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
    pub fn pause(&self, reason: String) {
        tracing::error!(reason, "paused");
        let mut pause = self.locked_pause();
        pause.begin(reason);
        self.metrics.paused(true);
    }

    /// Goes on: after a swap with a fresh window, after `tollgate resume` without a limit for one window, since whoever
    /// resumes has seen what there is.
    pub fn unpause(&self, swapped: bool) {
        self.limit.reset();
        if !swapped {
            self.limit.suspend();
        }
        let mut pause = self.locked_pause();
        if !swapped {
            self.pardon(pause.reason());
        }
        if pause.end() {
            tracing::info!("resumed");
        }
        self.metrics.paused(false);
    }

    /// Whoever resumes after a halt has seen its event: it no longer halts.
    fn pardon(&self, reason: Option<&str>) {
        if let (Some((partition, offset)), Ok(mut pardons)) = (reason.and_then(halt::coordinates), self.pardons.lock())
        {
            pardons.insert(partition, offset);
        }
    }

    /// Whether a halt at this event would be one too many. What lies below an event that was seen was seen before, since a partition's
    /// events are met in their order.
    pub fn pardoned(&self, partition: Partition, offset: Offset) -> bool {
        self.pardons.lock().is_ok_and(|pardons| pardons.get(&partition).is_some_and(|seen| offset <= *seen))
    }

    /// Follows what PostgreSQL said about the pause after the mark was taken.
    pub fn follow_pause(&self, mark: Mark, stored: Option<String>) {
        let mut pause = self.locked_pause();
        let before = pause.reason().map(str::to_owned);
        match pause.follow(mark, stored) {
            Followed::Unchanged => return,
            Followed::Paused => tracing::error!(reason = pause.reason(), "paused"),
            Followed::Resumed => {
                self.pardon(before.as_deref());
                // Before the lanes see that they may go on.
                self.limit.reset();
                self.limit.suspend();
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

    /// The next wait: between half and the whole of the step, so that many processes do not come back at once.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.mul_f64(self.factor).min(self.most);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        step / 2 + (step / 2).mul_f64(f64::from(nanos % 1_000) / 1_000.0)
    }
}
