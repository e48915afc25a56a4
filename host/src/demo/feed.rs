//! Produces the demo's events.

use rdkafka::message::{Header, OwnedHeaders};

use super::events::{Event, Events};
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline};
use tollgate_decide::record::NewRecord;
use tollgate_engine::runtime::build;
use tollgate_engine::sinks::kafka::{self, Producer};

/// Every demo uses this seed, so that the figures of two demos can be compared.
const SEED: u64 = 20_260_131;
/// The mean time between two events in milliseconds; see [`Events`].
const PACE: i64 = 350;

pub(super) struct Feed {
    producer: Producer,
    events: Events,
    topic: String,
    /// The number of corrupted events.
    pub spoilt: u64,
}

impl Feed {
    /// Creates a feed whose first `count` events end about now (Unix milliseconds).
    pub(super) fn new(pipeline: &Pipeline, count: u32, now: i64) -> Result<Feed, Failure> {
        let mut plain = pipeline.clone();
        // This is an ordinary producer, as another application would use. Transaction markers would occupy offsets
        // between the events.
        plain.delivery.mode = DeliveryMode::AtLeastOnce;
        let sizes = build::sizes(&std::collections::BTreeMap::new());
        let producer = Producer::connect(&plain, "demo-feed", sizes, limits::DEMO_FEED).map_err(failed)?;
        let events = Events::new(SEED, now - i64::from(count) * PACE);
        Ok(Feed { producer, events, topic: pipeline.source.topic.clone(), spoilt: 0 })
    }

    /// Sends the next `count` events and waits until the broker has stored them. Blocks.
    pub(super) fn send(&mut self, count: u32) -> Result<(), Failure> {
        for _ in 0..count {
            let Some(event) = self.events.next() else { break };
            self.spoilt += u64::from(event.spoilt.is_some());
            self.send_one(&event).map_err(failed)?;
        }
        self.producer.acknowledged(limits::DEMO_FEED).map_err(failed)
    }

    fn send_one(&self, event: &Event) -> Result<(), kafka::Error> {
        let letter = NewRecord {
            topic: &self.topic,
            partition: None,
            key: Some(event.key.as_bytes()),
            value: event.value.as_deref(),
        };
        let mut headers = OwnedHeaders::new().insert(Header { key: "schema-version", value: Some("1") });
        if event.json {
            headers = headers.insert(Header { key: "content-type", value: Some("application/json") });
        }
        self.producer.send(0, letter, None, headers)
    }
}

fn failed(error: kafka::Error) -> Failure {
    Failure::environment("demo.feed", format!("cannot produce the demo's events: {error}"))
}
