//! What happens while a lane takes no batch: first the poll thread waits for it, then the lane's partitions are paused.

use std::time::{Duration, Instant};

use crossbeam_channel::SendTimeoutError;
use rdkafka::consumer::Consumer as _;

use super::Poll;
use crate::config::Backpressure;
use crate::lane::Inbox;
use crate::limits;
use crate::source::batch::RecordBatch;

impl Poll {
    /// First level of backpressure: wait for the lane, while librdkafka's own bounds throttle the fetch at no cost.
    pub(super) fn hand_over(&mut self, lane: usize) {
        let fresh = self.lanes[lane].recycled.try_recv().unwrap_or_default();
        let filling = &mut self.state.filling[lane];
        let batch = std::mem::replace(&mut filling.batch, fresh);
        filling.since = None;
        let patience = limits::LANE_PATIENCE.min(self.shared.pipeline.source.max_poll_interval / 10);
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
            Err(SendTimeoutError::Disconnected(_)) => self.state.halted = Some(format!("lane {lane} has ended")),
        }
    }

    /// Events and bytes that are fetched and not committed, over all lanes.
    fn backlog(&self) -> (u64, usize) {
        let (events, bytes) = self.lanes.iter().map(Inbox::backlog).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        (u64::try_from(events).unwrap_or(u64::MAX), bytes)
    }

    fn over_threshold(&self, batch: &RecordBatch) -> bool {
        let events = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        crosses(&self.shared.pipeline.backpressure, self.backlog(), (events, batch.bytes()))
    }

    /// Second level: an outage. The lane's partitions are paused, and polling goes on to stay in the group: nothing else
    /// keeps librdkafka from delivering, so `pause_on_threshold: false` cannot mean this pause.
    fn stall(&mut self, lane: usize, batch: RecordBatch) {
        let filling = &mut self.state.filling[lane];
        filling.batch = batch;
        filling.stalled = true;
        self.shared.metrics.pause();
        tracing::warn!(lane, "the lane takes no more batches: its partitions are paused until it does");
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
                Err(SendTimeoutError::Disconnected(_)) => self.state.halted = Some(format!("lane {lane} has ended")),
            }
            return;
        }
        let bounds = &self.shared.pipeline.backpressure;
        let (events, bytes) = self.backlog();
        if !self.lanes[lane].half_empty() || events > bounds.resume_at || bytes > bounds.max_bytes / 2 {
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
            .filter(|(partition, _)| usize::try_from(partition.0).unwrap_or_default() % self.lanes.len() == lane)
            .map(|(partition, tracked)| {
                tracked.confirmed = false;
                (*partition, tracked.position)
            })
            .collect();
        for (partition, position) in positions {
            self.seek(partition, position);
        }
        tracing::info!(lane, "the lane takes batches again");
    }
}

/// Whether the batch would take the backlog over the threshold. An empty backlog takes any, however low the bound.
fn crosses(bounds: &Backpressure, backlog: (u64, usize), batch: (u64, usize)) -> bool {
    bounds.pause_on_threshold
        && backlog.0 > 0
        && (backlog.0 + batch.0 > bounds.lag_threshold || backlog.1 + batch.1 > bounds.max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_holds_a_batch_back_only_where_it_may_pause() {
        let bounds = Backpressure { lag_threshold: 100, pause_on_threshold: true, resume_at: 50, max_bytes: 1_000 };
        assert!(!crosses(&bounds, (60, 0), (40, 0)));
        assert!(crosses(&bounds, (60, 0), (41, 0)));
        assert!(crosses(&bounds, (1, 900), (1, 101)));
        assert!(!crosses(&bounds, (0, 0), (500, 5_000)), "an empty backlog takes any batch");
        let never = Backpressure { pause_on_threshold: false, ..bounds };
        assert!(!crosses(&never, (60, 900), (500, 5_000)));
    }
}
