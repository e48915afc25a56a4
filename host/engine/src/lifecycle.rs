//! This process as a member of its consumer group: what it holds, what it waits for, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::position::Partition;
use crate::progress::halts::Halt;
use crate::source::ends::Ends;

/// The group's assignment to this member.
#[derive(Debug, Default)]
pub struct TypeContracts {
    /// All assigned partitions, including halted ones.
    pub partitions: BTreeSet<Partition>,
    /// The number of them that are taken over and being read.
    pub read: usize,
    /// The number of them that wait for their takeover.
    pub requested: usize,
    /// Whether the group has more members than the topic has partitions, so that this one may have none.
    pub spare: bool,
}

/// The state of the member, shared by all threads of the process.
pub struct Lifecycle {
    /// The slot's number, or -1 if this mode needs no slot.
    slot: AtomicI32,
    slot_held: AtomicBool,
    draining: AtomicBool,
    stopping: AtomicBool,
    joined: AtomicBool,
    assignment: AtomicU64,
    ends: OnceLock<Ends>,
    held: Mutex<TypeContracts>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
}

impl Default for Lifecycle {
    fn default() -> Lifecycle {
        Lifecycle {
            slot: AtomicI32::new(-1),
            slot_held: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            assignment: AtomicU64::new(0),
            ends: OnceLock::new(),
            held: Mutex::default(),
            troubles: Mutex::default(),
        }
    }
}

impl Lifecycle {
    /// This process's slot, if the mode uses transactional ids.
    pub fn slot(&self) -> Option<i32> {
        let slot = self.slot.load(Ordering::Acquire);
        (slot >= 0).then_some(slot)
    }

    pub fn take_slot(&self, slot: i32) {
        self.slot.store(slot, Ordering::Release);
    }

    /// Returns whether the session that holds the slot is alive, as far as the keeper knows.
    pub fn slot_held(&self) -> bool {
        self.slot_held.load(Ordering::Acquire)
    }

    pub fn hold_slot(&self, held: bool) {
        self.slot_held.store(held, Ordering::Release);
    }

    /// Starts draining: finish the current batches, release the partitions, leave the group.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Drains once everything below these ends is committed. The first call wins.
    pub fn drain_at(&self, ends: Ends) {
        self.ends.get_or_init(|| ends);
    }

    pub fn ends(&self) -> Option<&Ends> {
        self.ends.get()
    }

    /// Tells the threads other than the lanes to end too.
    pub fn stop(&self) {
        self.drain();
        self.stopping.store(true, Ordering::Release);
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Records whether the group has given this member its share, which may be empty. While the member has no
    /// partitions during a rebalance, it has no share yet.
    pub fn joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Release);
    }

    /// Records the group's latest assignment: takeovers for an older one are void.
    pub fn assigned(&self, assignment: u64) {
        self.assignment.store(assignment, Ordering::Release);
    }

    pub fn assignment(&self) -> u64 {
        self.assignment.load(Ordering::Acquire)
    }

    /// Records something that a thread is waiting for, shown by `/readyz` and `status`.
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

    /// Returns whether this member has no partition although the group may have one for it.
    pub fn wants(&self) -> bool {
        self.held.lock().is_ok_and(|held| held.partitions.is_empty() && !held.spare)
    }

    /// Records that the group has no partition for this member.
    pub fn spare(&self) {
        if let Ok(mut held) = self.held.lock() {
            held.spare = held.partitions.is_empty();
        }
    }

    /// Records what the group has assigned to this member.
    pub fn hold(&self, held: TypeContracts) {
        if let Ok(mut before) = self.held.lock() {
            *before = held;
        }
    }

    /// Returns the partitions that the group has assigned to this member, including halted ones.
    pub fn partitions(&self) -> BTreeSet<Partition> {
        self.held.lock().map(|held| held.partitions.clone()).unwrap_or_default()
    }

    /// Returns the reasons why this member is not ready; empty if it is ready. `halts` are those of its own partitions.
    pub fn unready(&self, halts: &[Halt]) -> Vec<String> {
        let mut reasons: Vec<String> = self
            .troubles
            .lock()
            .map(|troubles| troubles.iter().map(|(who, what)| format!("{who}: {what}")).collect())
            .unwrap_or_default();
        if !self.joined.load(Ordering::Acquire) {
            reasons.push(
                "no partition is assigned: this member has not joined the consumer group yet, or the group is rebalancing"
                    .into(),
            );
        }
        if let Ok(held) = self.held.lock() {
            if held.read == 0 && held.requested > 0 {
                reasons.push(format!("{} partitions are being taken over, and none is being read yet", held.requested));
            }
            if self.joined.load(Ordering::Acquire) && held.partitions.is_empty() && !held.spare {
                reasons.push("the group has not assigned a partition to this member yet".into());
            }
        }
        for Halt { partition, offset, code, .. } in halts {
            reasons.push(format!("partition {partition} is halted at offset {offset}: {code}"));
        }
        if self.draining() {
            reasons.push("shutting down".into());
        }
        reasons
    }
}
