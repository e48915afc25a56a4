//! The channels between the poll thread and a lane, and their messages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};

use crate::position::{Epoch, Partition};
use crate::progress::Position;
use tollgate_decide::batch::RecordBatch;

/// A partition that this process has taken over.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub partition: Partition,
    pub epoch: Epoch,
    pub position: Position,
    /// Whether the group's offset must be committed before the first batch.
    pub establish: bool,
}

/// Messages from the poll thread to a lane.
#[derive(Debug)]
pub enum Control {
    Assign {
        taken: Vec<Taken>,
        assignment: u64,
    },
    /// Release these partitions and answer with the token. If `lost`, other members may own them already.
    Revoke {
        partitions: BTreeSet<Partition>,
        lost: bool,
        token: u64,
    },
}

/// Messages from a lane to the poll thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneEvent {
    /// The partitions of the revocation with this token are released.
    Released(u64),
    /// Another owner has raised this partition's epoch. If the group still assigns it to us, it must be taken over
    /// again.
    Fenced { partition: Partition, assignment: u64 },
}

/// The poll thread's end of a lane.
pub struct LaneSender {
    pub control: Sender<Control>,
    recycled: Receiver<RecordBatch>,
    batches: Sender<RecordBatch>,
    load: Arc<Load>,
}

/// The batches that a lane has received or that are queued for it.
#[derive(Debug, Default)]
pub struct Load {
    batches: AtomicUsize,
    events: AtomicUsize,
    /// The memory of these batches in bytes.
    bytes: AtomicUsize,
    /// The memory of empty batches that can be reused, in bytes.
    spare: AtomicUsize,
    /// The number of completed batches, and the processing time of the last one in microseconds.
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

impl LaneSender {
    /// Returns the number of events that are handed over and not complete.
    pub fn backlog(&self) -> usize {
        self.load.events.load(Ordering::Acquire)
    }

    /// Returns the memory in bytes of the batches that are handed over and not complete, and of those that can be
    /// reused.
    pub fn memory(&self) -> usize {
        self.load.bytes.load(Ordering::Acquire) + self.load.spare.load(Ordering::Acquire)
    }

    /// Returns an empty batch, a recycled one if available.
    pub fn fresh(&self) -> RecordBatch {
        let Ok(batch) = self.recycled.try_recv() else { return RecordBatch::default() };
        self.load.spare.fetch_sub(batch.memory(), Ordering::AcqRel);
        batch
    }

    /// Frees the batches that could be reused.
    pub fn drop_spare(&self) {
        while let Ok(batch) = self.recycled.try_recv() {
            self.load.spare.fetch_sub(batch.memory(), Ordering::AcqRel);
        }
    }

    /// Hands a batch over, waiting at most `patience` for room.
    pub fn send(&self, batch: RecordBatch, patience: Duration) -> Result<(), SendTimeoutError<RecordBatch>> {
        self.load.add(&batch);
        self.batches.send_timeout(batch, patience).inspect_err(|error| match error {
            SendTimeoutError::Timeout(batch) | SendTimeoutError::Disconnected(batch) => self.load.take(batch),
        })
    }

    /// Returns how many batches are complete, and how long the last of them took.
    pub fn through(&self) -> (u64, Duration) {
        let batches = self.load.through.load(Ordering::Acquire);
        (batches, Duration::from_micros(self.load.took.load(Ordering::Acquire)))
    }

    /// Returns whether nothing is queued or in progress.
    pub fn idle(&self) -> bool {
        self.load.batches.load(Ordering::Acquire) == 0
    }

    pub fn half_empty(&self) -> bool {
        self.load.batches.load(Ordering::Acquire) <= 1
    }
}

/// A lane's end of the channels.
pub struct LaneReceiver {
    pub control: Receiver<Control>,
    pub batches: Receiver<RecordBatch>,
    pub recycle: Sender<RecordBatch>,
    pub events: Sender<LaneEvent>,
    pub load: Arc<Load>,
}

impl LaneReceiver {
    pub fn recycle(&self, mut batch: RecordBatch) {
        batch.clear();
        let memory = batch.memory();
        self.load.spare.fetch_add(memory, Ordering::AcqRel);
        // A full recycling queue means that there are enough batches.
        if self.recycle.try_send(batch).is_err() {
            self.load.spare.fetch_sub(memory, Ordering::AcqRel);
        }
    }
}

/// Creates the two ends of a lane's channels.
pub fn channels(queue: usize, requests: usize, events: Sender<LaneEvent>) -> (LaneSender, LaneReceiver) {
    let (control, control_end) = crossbeam_channel::bounded(requests);
    let (batches, batches_end) = crossbeam_channel::bounded(queue);
    let (recycle, recycled) = crossbeam_channel::bounded(queue + 2);
    let load = Arc::new(Load::default());
    let sender = LaneSender { control, recycled, batches, load: Arc::clone(&load) };
    (sender, LaneReceiver { control: control_end, batches: batches_end, recycle, events, load })
}
