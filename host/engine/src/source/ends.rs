//! Determines where the topic ended when a drain began, and whether a partition is complete.
//!
//! The high watermark alone is not sufficient: transaction markers and compacted records occupy offsets but are never
//! delivered, so there may be no record right before it. librdkafka's event at a partition's end is sufficient. It
//! comes at the last *stable* offset, before the records of an open transaction; for some milliseconds, that can
//! include a transaction whose commit its producer has already seen. So a drain waits until every transaction that was
//! open at its start has ended, and counts only the events after that.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use crate::kafka::client;
use crate::position::{NextOffset, Partition};
use tollgate_config::Pipeline;
use tollgate_config::limits;

/// The offset after the last record or marker of each partition, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends(BTreeMap<Partition, NextOffset>);

impl Ends {
    /// Returns whether everything that the partition then contained is below `position`. `exhausted` means that its end
    /// was reached there, after [`Ends::settle`].
    pub fn reached(&self, partition: Partition, position: NextOffset, exhausted: bool) -> bool {
        // A partition that was created later was empty at that time.
        exhausted || self.0.get(&partition).is_none_or(|end| position >= *end)
    }

    /// Queries the topic's ends, and waits until no transaction below them is open. Blocks; `stopping` ends the wait
    /// early.
    ///
    /// # Errors
    /// Fails if Kafka does not respond.
    pub fn settle(pipeline: &Pipeline, stopping: impl Fn() -> bool) -> Result<Ends, KafkaError> {
        let ends = Ends(ask(pipeline, "read_uncommitted")?);
        let began = Instant::now();
        let mut told = false;
        loop {
            let stable = ask(pipeline, "read_committed")?;
            let open = |(partition, end): (&Partition, &NextOffset)| stable.get(partition).is_none_or(|at| at < end);
            if stopping() || !ends.0.iter().any(open) {
                return Ok(ends);
            }
            if !told && began.elapsed() > limits::ENDS_SILENCE {
                told = true;
                tracing::info!(
                    topic = pipeline.source.topic,
                    "transactions are open in the topic; the drain ends after them"
                );
            }
            std::thread::sleep(limits::ENDS_LOOK);
        }
    }
}

/// Returns the end of each partition for readers of that isolation level.
fn ask(pipeline: &Pipeline, isolation: &str) -> Result<BTreeMap<Partition, NextOffset>, KafkaError> {
    let topic = &pipeline.source.topic;
    let consumer: BaseConsumer = client::base(&pipeline.source).set("isolation.level", isolation).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), limits::KAFKA_CALL)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let end = |partition: i32| {
        let (_, end) = consumer.fetch_watermarks(topic, partition, limits::KAFKA_CALL)?;
        Ok((Partition::new(partition), NextOffset::new(end)))
    };
    partitions.map(|partition| end(partition.id())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_through_at_its_old_end_or_where_nothing_is_left() {
        let ends = Ends([(Partition::new(0), NextOffset::new(10)), (Partition::new(1), NextOffset::new(0))].into());
        let reached = |partition, position, exhausted| {
            ends.reached(Partition::new(partition), NextOffset::new(position), exhausted)
        };
        assert!(!reached(0, 9, false), "a record or a marker lies at 9");
        assert!(reached(0, 9, true), "it was a marker");
        assert!(reached(0, 10, false), "more may have come since");
        assert!(reached(1, 0, false), "it was empty");
        assert!(reached(2, 0, false), "it was not there");
    }
}
