//! Which partitions cannot be read at their next offset.
//!
//! rdkafka 0.39 drops the partition of a consumer's error. After a batch that is damaged librdkafka goes on with the next one,
//! so the partition must be known before anything else is taken from it. A second client reads each partition through a queue
//! of its own, at the offset where the first one stands: its errors are that partition's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset as KafkaOffset, TopicPartitionList};

use crate::classes::{self, Meaning};
use crate::kafka::{client, words};
use crate::position::{NextOffset, Partition};
use tollgate_config::Pipeline;

/// How long the partitions may take to answer. Nothing is taken meanwhile, nor polled.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at the queues.
const LOOK: Duration = Duration::from_millis(5);

/// Keeps what librdkafka says to itself: the queues have the errors that matter.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        words::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "probe");
    }
}

impl ConsumerContext for Silent {}

/// The partitions whose next record cannot be read, with the error. One that does not answer in time is not among them.
///
/// # Errors
/// The client cannot be made, or does not take the assignment.
pub fn unreadable(
    pipeline: &Pipeline,
    positions: &BTreeMap<Partition, NextOffset>,
) -> Result<BTreeMap<Partition, KafkaError>, KafkaError> {
    let topic = &pipeline.source.topic;
    let mut config = client::base(&pipeline.source);
    config
        // librdkafka wants a group to assign partitions by hand.
        .set("group.id", &pipeline.source.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true");
    let consumer: Arc<BaseConsumer<Silent>> = Arc::new(config.create_with_context(Silent)?);
    let mut list = TopicPartitionList::new();
    for (partition, next) in positions {
        list.add_partition_offset(topic, partition.0, KafkaOffset::Offset(next.0))?;
    }
    consumer.assign(&list)?;
    let mut open: Vec<_> = positions
        .keys()
        .filter_map(|partition| Some((*partition, consumer.split_partition_queue(topic, partition.0)?)))
        .collect();
    let mut unreadable = BTreeMap::new();
    let until = Instant::now() + PATIENCE;
    while !open.is_empty() && Instant::now() < until {
        drop(consumer.poll(Duration::ZERO));
        open.retain(|(partition, queue)| match queue.poll(Duration::ZERO) {
            None => true,
            Some(Err(error)) if classes::kafka(&error) == Meaning::Halt => {
                unreadable.insert(*partition, error);
                false
            }
            // A record, or the end.
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => false,
            // Something about a broker, and not about the partition.
            Some(Err(_)) => true,
        });
        std::thread::sleep(LOOK);
    }
    Ok(unreadable)
}
