//! Where the topic ended when a drain began, and whether a partition is through.
//!
//! The high watermark alone cannot tell: transaction markers occupy offsets and are never delivered, nor is what was
//! compacted, so no record need lie right before it. What can tell is librdkafka's event at a partition's end. That comes
//! at the last *stable* offset, before the records of a transaction that is still open, and a commit that its producer
//! has been told of may be such for some milliseconds. So a drain waits until every transaction that was open at its
//! beginning has ended, and counts only the events after that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use crate::kafka::client;
use crate::position::{NextOffset, Partition};
use tollgate_config::Pipeline;

const CALL: Duration = Duration::from_secs(10);

/// Between two questions whether the open transactions have ended.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long transactions may be open before the log says what is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// The offset after the last record or marker of each partition, at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends(BTreeMap<Partition, NextOffset>);

impl Ends {
    /// Whether everything that the partition held then lies below `position`. `exhausted`: its end was met there, after
    /// [`Ends::settle`].
    pub fn reached(&self, partition: Partition, position: NextOffset, exhausted: bool) -> bool {
        // A partition that was made since had nothing then.
        exhausted || self.0.get(&partition).is_none_or(|end| position >= *end)
    }

    /// Asks where the topic ends, and waits until no transaction is open below that. Blocks; `stopping` cuts it short.
    ///
    /// # Errors
    /// Kafka does not answer.
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
            if !told && began.elapsed() > SILENCE {
                told = true;
                tracing::info!(
                    topic = pipeline.source.topic,
                    "transactions are open in the topic; the drain ends after they have"
                );
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }
}

/// Where each partition ends for readers of that isolation level.
fn ask(pipeline: &Pipeline, isolation: &str) -> Result<BTreeMap<Partition, NextOffset>, KafkaError> {
    let topic = &pipeline.source.topic;
    let consumer: BaseConsumer = client::base(&pipeline.source).set("isolation.level", isolation).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), CALL)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let end = |partition: i32| {
        let (_, end) = consumer.fetch_watermarks(topic, partition, CALL)?;
        Ok((Partition(partition), NextOffset(end)))
    };
    partitions.map(|partition| end(partition.id())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_through_at_its_old_end_or_where_nothing_is_left() {
        let ends = Ends([(Partition(0), NextOffset(10)), (Partition(1), NextOffset(0))].into());
        let reached =
            |partition, position, exhausted| ends.reached(Partition(partition), NextOffset(position), exhausted);
        assert!(!reached(0, 9, false), "a record or a marker lies at 9");
        assert!(reached(0, 9, true), "it was a marker");
        assert!(reached(0, 10, false), "more may have come since");
        assert!(reached(1, 0, false), "it was empty");
        assert!(reached(2, 0, false), "it was not there");
    }
}
