//! A consumer that only looks: it joins no group and commits nothing.

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::config::Pipeline;
use crate::source::client;

/// Every call returns the errors that matter here; to librdkafka the ends of partitions are errors too.
pub struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "looking");
    }
}

impl ConsumerContext for Quiet {}

pub type Looker = BaseConsumer<Quiet>;

/// Sees committed records only, as the engine does.
pub fn config(pipeline: &Pipeline) -> ClientConfig {
    let mut config = client::base(&pipeline.source);
    config
        // librdkafka wants a group to assign partitions by hand.
        .set("group.id", &pipeline.source.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed");
    config
}
