//! Handles assigned partitions that are not read, because only an operator can resume them.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use super::Poll;
use super::assignment::told;
use crate::brakes::halt::code;
use crate::position::{NextOffset, Partition};
use crate::progress::halts::Halt;
use crate::source::probe;
use tollgate_config::limits;

impl Poll {
    /// Stops reading partitions that were halted since the last check, and takes resumed ones over again.
    pub(super) fn follow_halts(&mut self) {
        let mark = self.brakes.halts_mark();
        if self.state.halts == Some(mark) {
            return;
        }
        let begun: Vec<Partition> =
            self.state.tracked.keys().copied().filter(|partition| self.brakes.is_halted(*partition)).collect();
        for partition in begun {
            self.put_aside(partition);
        }
        // While a decision of the group is unanswered, librdkafka would take the calls below for the answer.
        if self.state.unanswered.is_some() {
            return;
        }
        self.state.halts = Some(mark);
        let resumed: Vec<Partition> =
            self.state.halted.iter().copied().filter(|partition| !self.brakes.is_halted(*partition)).collect();
        if resumed.is_empty() || self.lifecycle.draining() {
            return;
        }
        tracing::info!(partitions = ?resumed, "halted partitions resumed");
        self.state.halted.retain(|partition| !resumed.contains(partition));
        let mut list = TopicPartitionList::new();
        for partition in resumed.iter().filter(|partition| self.state.fetched.remove(partition)) {
            list.add_partition(&self.pipeline.source.topic, partition.get());
        }
        if list.count() > 0 {
            // A partition whose offset was missing accepts no seek: it is assigned again after its takeover.
            told(self.consumer.incremental_unassign(&list));
        }
        self.request(resumed);
    }

    /// Stops fetching a partition. It stays in the assignment, so that the group does not give it to another member.
    pub(super) fn put_aside(&mut self, partition: Partition) {
        self.state.tracked.remove(&partition);
        self.state.halted.insert(partition);
        if self.state.fetched.contains(&partition) {
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.pipeline.source.topic, partition.get());
            if let Err(error) = self.consumer.pause(&list) {
                tracing::warn!(%partition, %error, "pause failed");
            }
        }
        self.metrics.exhausted(partition, None);
        self.hold();
    }

    /// Returns a drain's message about the halted partitions.
    pub(super) fn halts_left(&self) -> Option<String> {
        let halts = self.brakes.halts_of(&self.lifecycle.partitions());
        let ours: BTreeSet<Partition> = self.state.halted.iter().copied().collect();
        let left = halts.iter().filter(|halt| ours.contains(&halt.partition)).map(|halt| {
            let Halt { partition, code, offset, message, .. } = halt;
            format!(
                "partition {partition} is halted at offset {offset} ({code}): {message}; then `tollgate resume --partition \
                 {partition}`"
            )
        });
        let left: Vec<String> = left.collect();
        (!left.is_empty()).then(|| format!("the drain skipped halted partitions: {}", left.join("; ")))
    }

    /// Halts the partitions whose next offset is missing: the error itself does not name them.
    pub(super) fn halt_missing(&mut self, error: &KafkaError) {
        let topic = &self.pipeline.source.topic;
        let mut found = false;
        for (partition, tracked) in &self.state.tracked {
            let Ok((low, high)) = self.consumer.fetch_watermarks(topic, partition.get(), limits::SEEK_TIMEOUT) else {
                continue;
            };
            let next = tracked.position.get();
            if next >= low && next <= high {
                continue;
            }
            found = true;
            let message = format!(
                "partition {partition} continues at {next}, the topic has {low} to {high}; records were deleted before they \
                 were read, or the topic was created again; to skip them, stop the pipeline: `tollgate offsets adopt {} \
                 --partition {partition}`",
                self.pipeline.file.display()
            );
            self.brakes.halt(Halt {
                partition: *partition,
                code: code::RECORDS_MISSING.to_owned(),
                offset: tracked.position,
                epoch: tracked.epoch,
                message,
            });
        }
        if !found {
            // The affected partition is no longer ours, or the watermarks are unavailable: the next fetch reports the
            // error again.
            tracing::warn!(%error, "an offset is out of range, but every partition of this member has its next offset");
        }
    }

    /// Halts the partitions whose next record cannot be read, before any record behind it is taken, because librdkafka
    /// skips a corrupt batch. A stalled lane fetches its partitions again later, and meets the error again.
    pub(super) fn halt_unreadable(&mut self, error: &KafkaError) {
        let positions: BTreeMap<Partition, NextOffset> =
            self.state.tracked.iter().map(|(partition, tracked)| (*partition, tracked.position)).collect();
        let found = match probe::unreadable(&self.pipeline, &positions) {
            Ok(found) => found,
            Err(failed) => {
                self.state.fatal = Some(format!(
                    "the consumer reported {error}, and the partition it concerns cannot be determined: {failed}"
                ));
                return;
            }
        };
        if found.is_empty() {
            // The records may have been corrupted in transit. What was skipped is fetched again.
            tracing::warn!(%error, "records that could not be read are readable now and are fetched again");
            positions.into_iter().for_each(|(partition, position)| self.seek(partition, position));
            return;
        }
        for (partition, why) in found {
            let Some(tracked) = self.state.tracked.get(&partition) else { continue };
            let offset = tracked.position;
            let message = format!(
                "the records of topic {} from offset {offset} on cannot be read: {why}; restore the partition's log from a good \
                 replica, or skip the damaged batch (docs/halts.md)",
                self.pipeline.source.topic
            );
            let (code, epoch) = (code::RECORDS_UNREADABLE.to_owned(), tracked.epoch);
            self.brakes.halt(Halt { partition, code, offset, epoch, message });
        }
        // This must happen before the next record is taken.
        self.follow_halts();
    }
}
