//! Finds the partitions that cannot be read at their next offset.
//!
//! rdkafka 0.39 drops the partition of a consumer's error. After a corrupt batch librdkafka continues with the next
//! one, so the partition must be known before anything else is taken from it. A second client reads each partition
//! through a separate queue, at the position of the first client, so each queue's errors belong to its partition.

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
use tollgate_config::limits;

/// Suppresses librdkafka's log lines: the queues have the errors that matter.
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

/// Returns the partitions whose next record cannot be read, with the error. Partitions that do not respond in time are
/// omitted.
///
/// # Errors
/// Fails if the client cannot be created, or rejects the assignment.
pub fn unreadable(
    pipeline: &Pipeline,
    positions: &BTreeMap<Partition, NextOffset>,
) -> Result<BTreeMap<Partition, KafkaError>, KafkaError> {
    let topic = &pipeline.source.topic;
    let mut config = client::base(&pipeline.source);
    config
        // librdkafka requires a group id even for manual assignment.
        .set("group.id", &pipeline.source.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true");
    let consumer: Arc<BaseConsumer<Silent>> = Arc::new(config.create_with_context(Silent)?);
    let mut list = TopicPartitionList::new();
    for (partition, next) in positions {
        list.add_partition_offset(topic, partition.get(), KafkaOffset::Offset(next.get()))?;
    }
    consumer.assign(&list)?;
    let mut open: Vec<_> = positions
        .keys()
        .filter_map(|partition| Some((*partition, consumer.split_partition_queue(topic, partition.get())?)))
        .collect();
    let mut unreadable = BTreeMap::new();
    let until = Instant::now() + limits::PROBE_PATIENCE;
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
            // An error of a broker, not of the partition.
            Some(Err(_)) => true,
        });
        std::thread::sleep(limits::PROBE_LOOK);
    }
    Ok(unreadable)
}
