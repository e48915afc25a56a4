//! Outages that waiting may not resolve: Kafka responds to other requests while a lane's attempts fail.
//!
//! An attempt that fails in an outage is repeated for as long as the outage continues. A deleted output topic, or a
//! partition whose leader is gone for good, looks the same, since librdkafka reports a timeout. So a lane whose
//! attempts all fail queries the broker's metadata, and acts if the broker responds.

use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::attempt::Pace;
use super::{Current, Error, Lane};
use crate::brakes::halt::code;
use crate::runtime::build;
use tollgate_config::limits;

/// The time for which all attempts at a batch have failed in a Kafka outage.
#[derive(Debug, Default)]
pub(super) struct StuckOutage {
    since: Option<Instant>,
    /// Whether ever smaller parts of the batch are tried, to find the partition at fault.
    narrowing: bool,
}

/// The reaction to an outage that has lasted this long.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Try again.
    Wait,
    /// Check whether the topics still exist.
    Look,
    /// If the topics exist, treat the outage as an error: find the partition and halt it.
    Narrow,
}

impl StuckOutage {
    /// Records a successful attempt. While the partition at fault is being searched for, this proves nothing about the
    /// rest.
    pub(super) fn through(&mut self) {
        if !self.narrowing {
            *self = StuckOutage::default();
        }
    }

    /// No longer stuck: the broker does not answer the query either, so it is a plain outage.
    fn settle(&mut self) {
        *self = StuckOutage::default();
    }

    fn next(&mut self, now: Instant) -> Next {
        let lasted = now - *self.since.get_or_insert(now);
        if lasted < limits::STUCK_LOOK {
            Next::Wait
        } else if lasted < limits::STUCK_HALT {
            Next::Look
        } else {
            Next::Narrow
        }
    }
}

impl Lane {
    /// Decides what to do after an attempt with `size` records failed during a Kafka outage. Returns `None` to retry.
    pub(super) fn investigate(
        &mut self,
        error: &Error,
        size: usize,
        current: &mut Current<'_>,
        pace: &mut Pace,
    ) -> Option<Error> {
        let next = current.stuck.next(Instant::now());
        if next == Next::Wait {
            return None;
        }
        match self.missing_topic() {
            Err(_) => current.stuck.settle(),
            Ok(Some(topic)) => {
                return Some(Error::Fatal(format!(
                    "topic {topic} no longer exists: create it (`tollgate setup`), then restart"
                )));
            }
            Ok(None) if next == Next::Look => {}
            Ok(None) if size > 1 => {
                current.stuck.narrowing = true;
                pace.most = size / 2;
            }
            Ok(None) => {
                let first = self.select(current.batch).first().map(|index| current.batch.records[*index].partition)?;
                let minutes = limits::STUCK_HALT.as_secs() / 60;
                let message = format!(
                    "Kafka responds, but has not accepted this partition's records for {minutes} min: {error}; check the \
                     leaders and replicas of the topics that it produces to"
                );
                return Some(self.halt(first, code::KAFKA_STUCK, message));
            }
        }
        None
    }

    /// Returns a topic of the pipeline that the broker does not know.
    ///
    /// # Errors
    /// Fails if the broker does not respond.
    fn missing_topic(&self) -> Result<Option<String>, Error> {
        for (topic, _) in build::topics(&self.pipeline) {
            let metadata = self.consumer.fetch_metadata(Some(&topic), limits::METADATA_CALL)?;
            let unknown = |error: rdkafka::types::RDKafkaRespErr| {
                let code = RDKafkaErrorCode::from(error);
                matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
            };
            if metadata.topics().iter().any(|found| found.name() == topic && found.error().is_some_and(unknown)) {
                return Ok(Some(topic));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_looked_at_and_then_narrowed_down() {
        let (mut stuck, now) = (StuckOutage::default(), Instant::now());
        assert_eq!(stuck.next(now), Next::Wait);
        assert_eq!(stuck.next(now + limits::STUCK_LOOK), Next::Look);
        assert_eq!(stuck.next(now + limits::STUCK_HALT), Next::Narrow);
        stuck.through();
        assert_eq!(stuck.next(now + limits::STUCK_HALT), Next::Wait, "an attempt got through");
        stuck.settle();
        stuck.next(now);
        stuck.narrowing = true;
        stuck.through();
        assert_eq!(stuck.next(now + limits::STUCK_HALT), Next::Narrow, "another partition got through, not this one");
    }
}
