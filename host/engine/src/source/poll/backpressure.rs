//! Applies backpressure while a lane accepts no batch, or while all batches together use up the memory. First the poll
//! thread waits, then partitions are paused.
//!
//! Events are counted when a batch is handed over. Bytes are counted when a record is taken: a batch has the same
//! memory before and after it is handed over, so checking while batches fill is sufficient.

use std::time::{Duration, Instant};

use crossbeam_channel::SendTimeoutError;
use rdkafka::consumer::Consumer as _;

use super::Poll;
use crate::source::handoff::LaneSender;
use tollgate_config::Backpressure;
use tollgate_config::limits;
use tollgate_decide::batch::RecordBatch;

impl Poll {
    fn bounds(&self) -> &Backpressure {
        &self.pipeline.backpressure
    }

    /// Returns how long the poll thread waits before partitions are paused.
    fn patience(&self) -> Duration {
        limits::LANE_PATIENCE.min(self.pipeline.source.max_poll_interval / 10)
    }

    /// Applies the first level of backpressure: waits for the lane, while librdkafka's own limits throttle the fetch at
    /// no cost.
    pub(super) fn hand_over(&mut self, lane: usize) {
        let fresh = self.lanes[lane].fresh();
        let filling = &mut self.state.filling[lane];
        let batch = std::mem::replace(&mut filling.batch, fresh);
        filling.since = None;
        let patience = self.patience();
        let until = Instant::now() + patience;
        while self.over_threshold(&batch) {
            if Instant::now() >= until {
                return self.stall(lane, batch);
            }
            std::thread::sleep(limits::POLL_BUSY);
        }
        match self.lanes[lane].send(batch, patience) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(batch)) => self.stall(lane, batch),
            Err(SendTimeoutError::Disconnected(_)) => self.state.fatal = Some(format!("lane {lane} has ended")),
        }
    }

    /// Returns the number of events that are fetched and not committed, over all lanes.
    fn backlog(&self) -> u64 {
        u64::try_from(self.lanes.iter().map(LaneSender::backlog).sum::<usize>()).unwrap_or(u64::MAX)
    }

    fn over_threshold(&self, batch: &RecordBatch) -> bool {
        let events = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        crosses(self.bounds(), self.backlog(), events)
    }

    /// Returns the memory in bytes of the batches that are being filled.
    pub(super) fn filled(&self) -> usize {
        self.state.filling.iter().map(|filling| filling.batch.memory()).sum()
    }

    /// Returns how many bytes the batches that are being filled may use until another batch completes.
    pub(super) fn room(&self) -> usize {
        self.bounds().most_bytes().saturating_sub(self.others())
    }

    /// Returns the memory in bytes of all other batches.
    fn others(&self) -> usize {
        self.lanes.iter().map(LaneSender::memory).sum()
    }

    /// Returns whether all batches together have more memory than this. Unused memory is freed first: a backlog of
    /// spare batches would never shrink.
    fn exceeds(&mut self, bytes: usize) -> bool {
        let over = |poll: &Poll| poll.filled() + poll.others() > bytes;
        if !over(self) {
            return false;
        }
        self.lanes.iter().for_each(LaneSender::drop_spare);
        self.state.filling.iter_mut().for_each(|filling| filling.batch.shrink());
        over(self)
    }

    /// Returns whether no records may be taken for now: the poll thread waits for a batch to complete, and after some
    /// time pauses all partitions, so that it can poll.
    pub(super) fn held_back(&mut self) -> bool {
        if !self.exceeds(self.bounds().most_bytes()) {
            self.state.brimful = None;
            return false;
        }
        if self.state.filling.iter().all(|filling| filling.stalled) {
            return false;
        }
        let since = *self.state.brimful.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience() {
            std::thread::sleep(limits::POLL_BUSY);
            return true;
        }
        for lane in 0..self.lanes.len() {
            if !self.state.filling[lane].stalled {
                let batch = std::mem::take(&mut self.state.filling[lane].batch);
                self.stall(lane, batch);
            }
        }
        false
    }

    /// Applies the second level, for an outage. The lane's partitions are paused, and polling continues so that the
    /// member stays in the group. Only a pause keeps librdkafka from delivering, so `pause_on_threshold: false` cannot
    /// disable this one.
    fn stall(&mut self, lane: usize, batch: RecordBatch) {
        let filling = &mut self.state.filling[lane];
        filling.batch = batch;
        filling.stalled = true;
        self.metrics.pause();
        tracing::warn!(lane, "no batch completes: the lane's partitions are paused until one does");
        self.pause(lane);
    }

    pub(super) fn pause(&self, lane: usize) {
        let list = self.partitions_of(lane);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::warn!(lane, %error, "pause failed");
        }
    }

    pub(super) fn unstall(&mut self, lane: usize) {
        let filling = &mut self.state.filling[lane];
        if !filling.batch.is_empty() {
            let batch = std::mem::take(&mut filling.batch);
            match self.lanes[lane].send(batch, Duration::ZERO) {
                Ok(()) => filling.since = None,
                Err(SendTimeoutError::Timeout(back)) => filling.batch = back,
                Err(SendTimeoutError::Disconnected(_)) => self.state.fatal = Some(format!("lane {lane} has ended")),
            }
            return;
        }
        let (resume_at, most_bytes) = (self.bounds().resume_at, self.bounds().most_bytes());
        // An idle lane does not wait for other lanes' batches, which may never complete.
        let bytes = if self.lanes[lane].idle() { most_bytes } else { most_bytes / 2 };
        if !self.lanes[lane].half_empty() || self.backlog() > resume_at || self.exceeds(bytes) {
            return;
        }
        self.state.filling[lane].stalled = false;
        let list = self.partitions_of(lane);
        if let Err(error) = self.consumer.resume(&list) {
            tracing::warn!(lane, %error, "resume failed");
        }
        let positions: Vec<_> = self
            .state
            .tracked
            .iter_mut()
            .filter(|(partition, _)| usize::try_from(partition.get()).unwrap_or_default() % self.lanes.len() == lane)
            .map(|(partition, tracked)| {
                tracked.confirmed = false;
                (*partition, tracked.position)
            })
            .collect();
        for (partition, position) in positions {
            self.seek(partition, position);
        }
        tracing::info!(lane, "the lane accepts batches again");
    }
}

/// Returns whether the batch would exceed the backlog's threshold. An empty backlog accepts any batch, however low the
/// limit.
fn crosses(bounds: &Backpressure, backlog: u64, batch: u64) -> bool {
    bounds.pause_on_threshold && backlog > 0 && backlog + batch > bounds.lag_threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_holds_a_batch_back_only_where_it_may_pause() {
        let bounds = Backpressure { lag_threshold: 100, pause_on_threshold: true, resume_at: 50, max_bytes: 1_000 };
        assert!(!crosses(&bounds, 60, 40));
        assert!(crosses(&bounds, 60, 41));
        assert!(!crosses(&bounds, 0, 500), "an empty backlog takes any batch");
        let never = Backpressure { pause_on_threshold: false, ..bounds };
        assert!(!crosses(&never, 60, 500));
    }
}
