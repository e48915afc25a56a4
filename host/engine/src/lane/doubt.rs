//! An outage that may be none: Kafka answers other requests all the while, so time alone may not fix what a lane meets.
//!
//! An attempt that fails by an outage is repeated for as long as the outage lasts. A deleted output topic or a partition
//! whose leader is gone for good look the same, since librdkafka reports a timeout. So a lane whose attempts all fail asks
//! the broker what it knows, and acts where it answers.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::attempt::Pace;
use super::{Carried, Error, Lane};
use crate::brakes::halt::code;
use crate::runtime::build;
use tollgate_config::limits;

/// How long all attempts at a batch have failed by an outage of Kafka's.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    since: Option<Instant>,
    /// Less and less of the batch is tried, to find the partition that is to blame.
    narrowing: bool,
}

/// What follows from an outage that has lasted so long.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Try again.
    Wait,
    /// Look whether the topics are still there.
    Look,
    /// If they are, it is an error: look for the partition, and halt it.
    Narrow,
}

impl Doubt {
    /// An attempt got through. While the partition is looked for, that says nothing about the rest.
    pub(super) fn through(&mut self) {
        if !self.narrowing {
            *self = Doubt::default();
        }
    }

    /// The broker does not answer either: it is an outage, and nothing is in doubt.
    fn settle(&mut self) {
        *self = Doubt::default();
    }

    fn next(&mut self, now: Instant) -> Next {
        let lasted = now - *self.since.get_or_insert(now);
        if lasted < limits::DOUBT_LOOK {
            Next::Wait
        } else if lasted < limits::DOUBT_HALT {
            Next::Look
        } else {
            Next::Narrow
        }
    }
}

impl Lane {
    /// After an attempt at `size` records that met an outage of Kafka's. `None`: it is to be tried again.
    pub(super) fn doubt(
        &mut self,
        error: &Error,
        size: usize,
        carried: &mut Carried<'_>,
        pace: &mut Pace,
    ) -> Option<Error> {
        let next = carried.doubt.next(Instant::now());
        if next == Next::Wait {
            return None;
        }
        match self.missing_topic() {
            Err(_) => carried.doubt.settle(),
            Ok(Some(topic)) => {
                return Some(Error::Fatal(format!(
                    "topic {topic} does not exist any more: create it (`tollgate setup`), then start again"
                )));
            }
            Ok(None) if next == Next::Look => {}
            Ok(None) if size > 1 => {
                carried.doubt.narrowing = true;
                pace.most = size / 2;
            }
            Ok(None) => {
                let first = self.select(carried.batch).first().map(|index| carried.batch.records[*index].partition)?;
                let minutes = limits::DOUBT_HALT.as_secs() / 60;
                let message = format!(
                    "Kafka answers, but does not take what this partition produces, for {minutes} min by now: {error}; look at \
                     the leaders and replicas of the topics that it produces to"
                );
                return Some(self.halt(first, code::KAFKA_STUCK, message));
            }
        }
        None
    }

    /// A topic of the pipeline's that the broker does not know.
    ///
    /// # Errors
    /// The broker does not answer.
    fn missing_topic(&self) -> Result<Option<String>, Error> {
        for (topic, _) in build::topics(&self.pipeline) {
            let metadata = self.consumer.fetch_metadata(Some(&topic), METADATA)?;
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

/// How long the broker may take to answer: the lane answers no revocation meanwhile.
const METADATA: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_looked_at_and_then_narrowed_down() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        assert_eq!(doubt.next(now), Next::Wait);
        assert_eq!(doubt.next(now + limits::DOUBT_LOOK), Next::Look);
        assert_eq!(doubt.next(now + limits::DOUBT_HALT), Next::Narrow);
        doubt.through();
        assert_eq!(doubt.next(now + limits::DOUBT_HALT), Next::Wait, "an attempt got through");
        doubt.settle();
        doubt.next(now);
        doubt.narrowing = true;
        doubt.through();
        assert_eq!(doubt.next(now + limits::DOUBT_HALT), Next::Narrow, "another partition got through, not this one");
    }
}
