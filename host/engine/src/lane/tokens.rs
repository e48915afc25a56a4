//! The tokens in a lane's commits.

use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::Error;
use crate::progress::{Token, Writer, store};

/// Returns the group's next offsets, each with its token.
pub(super) fn tokens(topic: &str, writer: &Writer, steps: &[store::Step]) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for store::Step { partition, epoch, lo, hi, number } in steps.iter().copied() {
        let token = Token { writer: writer.clone(), epoch, lo, hi, number };
        let mut element = list.add_partition(topic, partition.get());
        element.set_offset(KafkaOffset::Offset(hi.get()))?;
        element.set_metadata(token.text());
    }
    Ok(list)
}
