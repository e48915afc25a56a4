//! Delivery: the mode, batches, and the reaction to an unavailable server.

use std::time::Duration;

/// `delivery:`
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub mode: DeliveryMode,
    pub batch: Batch,
    /// `transaction_timeout:` Kafka aborts a transaction that is open for longer.
    pub transaction_timeout: Duration,
    /// `processed_ids:` the id by which a repeated event is recognized.
    pub processed: Option<ProcessedIds>,
}

impl Delivery {
    /// Returns the field with an event's id, if the id is in a field.
    pub fn id_field(&self) -> Option<&str> {
        match &self.processed.as_ref()?.id {
            ProcessedId::Field(path) => Some(path),
            ProcessedId::Header(_) | ProcessedId::Key => None,
        }
    }
}

/// `delivery.processed_ids:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessedIds {
    pub id: ProcessedId,
    /// The time for which an id is kept.
    pub ttl: Duration,
}

/// The location of an event's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessedId {
    /// `header:` from the event's envelope, or of the record.
    Header(String),
    /// `record: key`
    Key,
    /// `field:` of the incoming message.
    Field(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    EffectivelyOnce,
    AtLeastOnce,
}

impl DeliveryMode {
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryMode::EffectivelyOnce => "effectively_once",
            DeliveryMode::AtLeastOnce => "at_least_once",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub max_events: usize,
    pub max_bytes: usize,
    pub wait: BatchWait,
}

/// The time for which the first event of a batch waits for more events while its lane is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchWait {
    /// At most this long.
    Most(Duration),
    /// As long as the commit still fits into this time, counted from the event's fetch.
    Target(Duration),
}

impl BatchWait {
    /// Returns the key in `delivery.batch` that sets it, and its value.
    pub fn key(self) -> (&'static str, Duration) {
        match self {
            BatchWait::Most(wait) => ("max_wait", wait),
            BatchWait::Target(target) => ("latency_target", target),
        }
    }
}

/// `retry_policy:` retries and backoff.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pub max_retries: u32,
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    pub multiplier: f64,
    /// The number of consecutive outages of a server, over all lanes, that opens its circuit breaker.
    pub breaker_threshold: u32,
    /// `foreign_key_window:` the time over which a batch is retried if one of its rows refers to a row that is still
    /// missing.
    pub foreign_key_window: Option<Duration>,
    /// `unique_window:` the same if a row with another key already has the value.
    pub unique_window: Option<Duration>,
}

/// `backpressure:` bounds of the backlog, the events that are fetched but not committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Backpressure {
    /// `lag_threshold:` number of events above which the partitions are paused, for example during an outage.
    pub lag_threshold: u64,
    pub pause_on_threshold: bool,
    /// `resume_lag_margin:` the backlog at which paused partitions resume.
    pub resume_at: u64,
    /// `max_backlog_bytes:` memory of all batches in bytes, including those that fill.
    pub max_bytes: usize,
}

impl Backpressure {
    /// Returns the maximal memory of all batches, in bytes.
    pub fn most_bytes(&self) -> usize {
        if self.pause_on_threshold { self.max_bytes } else { usize::MAX }
    }
}
