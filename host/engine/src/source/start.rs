//! The meaning of `source.start` for a partition that has never been read.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset as KafkaOffset, TopicPartitionList};

use crate::position::{NextOffset, Partition};
use tollgate_config::{Source, Start};

/// A partition's beginning and end, and where `source.start` begins to read it. With `start: committed` that is its
/// first record: the caller has found no offset of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub first: NextOffset,
    pub end: NextOffset,
    pub start: NextOffset,
}

/// # Errors
/// Fails if the broker does not respond within the timeout.
pub fn bounds<C: ClientContext + ConsumerContext>(
    consumer: &BaseConsumer<C>,
    source: &Source,
    partition: Partition,
    patience: Duration,
) -> Result<Bounds, KafkaError> {
    let topic = &source.topic;
    let (low, high) = consumer.fetch_watermarks(topic, partition.get(), patience)?;
    let start = match source.start {
        Start::Earliest | Start::Committed => low,
        Start::Latest => high,
        Start::Timestamp(millis) => {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition.get(), KafkaOffset::Offset(millis))?;
            let found = consumer.offsets_for_times(list, patience)?;
            match found.elements().first().map(|element| element.offset()) {
                Some(KafkaOffset::Offset(offset)) => offset,
                // No record is that recent: begin with the next one.
                _ => high,
            }
        }
    };
    Ok(Bounds { first: NextOffset::new(low), end: NextOffset::new(high), start: NextOffset::new(start) })
}
