//! The channels between the poll thread and a lane, and what they carry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};

use crate::position::Partition;
use crate::progress::Position;
use tollgate_decide::batch::RecordBatch;

/// A partition that this process has taken over.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub partition: Partition,
    pub epoch: i64,
    pub position: Position,
    /// The group's offset must be committed before the first batch.
    pub establish: bool,
}

/// What the poll thread tells a lane.
#[derive(Debug)]
pub enum Control {
    Assign {
        taken: Vec<Taken>,
        assignment: u64,
    },
    /// Let go of these; answer with the token. `lost`: they may be somebody else's already.
    Revoke {
        partitions: BTreeSet<Partition>,
        lost: bool,
        token: u64,
    },
}

/// What a lane tells the poll thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It has let go of what the revocation with this token named.
    Released(u64),
    /// The epoch of this partition is another's. If the group says that it is ours all the same, it must be taken over again.
    Fenced { partition: Partition, assignment: u64 },
}

/// The poll thread's end of a lane.
pub struct Inbox {
    pub control: Sender<Control>,
    recycled: Receiver<RecordBatch>,
    batches: Sender<RecordBatch>,
    load: Arc<Load>,
}

/// What a lane has in hand and before it.
#[derive(Debug, Default)]
pub struct Load {
    batches: AtomicUsize,
    events: AtomicUsize,
    /// Of memory.
    bytes: AtomicUsize,
    /// Of emptied batches that wait to be filled again.
    spare: AtomicUsize,
    /// Batches that are through, and how long the last of them was in the lane's hands, microseconds.
    through: AtomicU64,
    took: AtomicU64,
}

impl Load {
    fn add(&self, batch: &RecordBatch) {
        self.batches.fetch_add(1, Ordering::AcqRel);
        self.events.fetch_add(batch.records.len(), Ordering::AcqRel);
        self.bytes.fetch_add(batch.memory(), Ordering::AcqRel);
    }

    fn take(&self, batch: &RecordBatch) {
        self.batches.fetch_sub(1, Ordering::AcqRel);
        self.events.fetch_sub(batch.records.len(), Ordering::AcqRel);
        self.bytes.fetch_sub(batch.memory(), Ordering::AcqRel);
    }

    pub fn through(&self, batch: &RecordBatch, took: Duration) {
        self.took.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
        self.through.fetch_add(1, Ordering::AcqRel);
        self.take(batch);
    }
}

impl Inbox {
    /// Events that are handed over and not through.
    pub fn backlog(&self) -> usize {
        self.load.events.load(Ordering::Acquire)
    }

    /// Bytes of memory of the batches that are handed over and not through, and of those that wait to be filled again.
    pub fn memory(&self) -> usize {
        self.load.bytes.load(Ordering::Acquire) + self.load.spare.load(Ordering::Acquire)
    }

    /// An empty batch, one that was used before if there is one.
    pub fn fresh(&self) -> RecordBatch {
        let Ok(batch) = self.recycled.try_recv() else { return RecordBatch::default() };
        self.load.spare.fetch_sub(batch.memory(), Ordering::AcqRel);
        batch
    }

    /// Frees the batches that wait to be filled again.
    pub fn drop_spare(&self) {
        while let Ok(batch) = self.recycled.try_recv() {
            self.load.spare.fetch_sub(batch.memory(), Ordering::AcqRel);
        }
    }

    /// Hands a batch over, waiting for room for at most `patience`.
    pub fn send(&self, batch: RecordBatch, patience: Duration) -> Result<(), SendTimeoutError<RecordBatch>> {
        self.load.add(&batch);
        self.batches.send_timeout(batch, patience).inspect_err(|error| match error {
            SendTimeoutError::Timeout(batch) | SendTimeoutError::Disconnected(batch) => self.load.take(batch),
        })
    }

    /// How many batches are through, and how long the last of them took.
    pub fn through(&self) -> (u64, Duration) {
        let batches = self.load.through.load(Ordering::Acquire);
        (batches, Duration::from_micros(self.load.took.load(Ordering::Acquire)))
    }

    /// Nothing is queued or in work.
    pub fn idle(&self) -> bool {
        self.load.batches.load(Ordering::Acquire) == 0
    }

    pub fn half_empty(&self) -> bool {
        self.load.batches.load(Ordering::Acquire) <= 1
    }
}

/// A lane's end of the channels.
pub struct Intake {
    pub control: Receiver<Control>,
    pub batches: Receiver<RecordBatch>,
    pub recycle: Sender<RecordBatch>,
    pub said: Sender<Said>,
    pub load: Arc<Load>,
}

impl Intake {
    pub fn recycle(&self, mut batch: RecordBatch) {
        batch.clear();
        let memory = batch.memory();
        self.load.spare.fetch_add(memory, Ordering::AcqRel);
        // A full recycling queue means that there are batches enough.
        if self.recycle.try_send(batch).is_err() {
            self.load.spare.fetch_sub(memory, Ordering::AcqRel);
        }
    }
}

/// The two ends of a lane's channels.
pub fn channels(queue: usize, events: usize, said: Sender<Said>) -> (Inbox, Intake) {
    let (control, control_end) = crossbeam_channel::bounded(events);
    let (batches, batches_end) = crossbeam_channel::bounded(queue);
    let (recycle, recycled) = crossbeam_channel::bounded(queue + 2);
    let load = Arc::new(Load::default());
    let inbox = Inbox { control, recycled, batches, load: Arc::clone(&load) };
    (inbox, Intake { control: control_end, batches: batches_end, recycle, said, load })
}
