//! Checks whether a partition has a readable record between its next offset and its end. Transaction markers occupy
//! offsets and compaction leaves holes, so only reading shows that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use tollgate_config::Pipeline;
use tollgate_config::limits;
use tollgate_engine::kafka::look::{self, Quiet, ReadOnlyConsumer};

/// Returns the partitions that have no record at or after the given offset.
pub(super) fn exhausted(pipeline: &Pipeline, next: &BTreeMap<i32, i64>) -> BTreeSet<i32> {
    look(pipeline, next).unwrap_or_default()
}

fn look(pipeline: &Pipeline, next: &BTreeMap<i32, i64>) -> Result<BTreeSet<i32>, KafkaError> {
    let mut exhausted = BTreeSet::new();
    if next.is_empty() {
        return Ok(exhausted);
    }
    let mut config = look::config(pipeline);
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "error").set("queued.min.messages", "1");
    let consumer: ReadOnlyConsumer = config.create_with_context(Quiet::default())?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in next {
        list.add_partition_offset(&pipeline.source.topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.assign(&list)?;
    let mut open: BTreeSet<i32> = next.keys().copied().collect();
    let until = Instant::now() + limits::STATUS_PEEK;
    while !open.is_empty() && Instant::now() < until {
        match consumer.poll(until.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) => {
                open.remove(&message.partition());
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                // If a record arrived first, the partition is no longer open. The end then shows only that nothing
                // follows the record.
                exhausted.extend(open.take(&partition));
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(exhausted)
}
