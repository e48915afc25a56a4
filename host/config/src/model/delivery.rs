//! How events are delivered: the mode, batches, and what is done while a server is away.

use std::time::Duration;

/// `delivery:`
#[derive(Debug, Clone)]
pub struct Delivery {
    pub mode: DeliveryMode,
    pub batch: Batch,
    /// `transaction_timeout:` Kafka ends a transaction left open after this.
    pub transaction_timeout: Duration,
    /// `processed_ids:` by which id an event is known that comes once more.
    pub processed: Option<ProcessedIds>,
}

impl Delivery {
    /// The field that holds an event's id, where one does.
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
    /// How long an id is kept.
    pub ttl: Duration,
}

/// Where an event's id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessedId {
    /// `header:` of the event's envelope, or of the record.
    Header(String),
    /// `record: key`
    Key,
    /// `field:` of the event's message, as it comes in.
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

#[derive(Debug, Clone)]
pub struct Batch {
    pub max_events: usize,
    pub max_bytes: usize,
    pub wait: BatchWait,
}

/// How long the first event of a batch waits for company while its lane is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchWait {
    /// So long.
    Most(Duration),
    /// As long as leaves time for the commit within this, counted from the event's fetch.
    Target(Duration),
}

impl BatchWait {
    /// The key in `delivery.batch` that says it, and what it says.
    pub fn key(self) -> (&'static str, Duration) {
        match self {
            BatchWait::Most(wait) => ("max_wait", wait),
            BatchWait::Target(target) => ("latency_target", target),
        }
    }
}

/// `retry_policy:` backoff towards servers that are away.
#[derive(Debug, Clone)]
pub struct Retry {
    pub max_retries: u32,
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    pub multiplier: f64,
    /// Outages of a server in a row, over all lanes, that open its circuit breaker.
    pub breaker_threshold: u32,
    /// `foreign_key_window:` over what time a batch is tried again whose row refers to one that is not there yet.
    pub foreign_key_window: Option<Duration>,
    /// `unique_window:` the same where a row of another key has the value already.
    pub unique_window: Option<Duration>,
}

/// `backpressure:` bounds of the backlog: events fetched and not committed.
#[derive(Debug, Clone)]
pub struct Backpressure {
    /// `lag_threshold:` events; above it (an outage) the partitions are paused.
    pub lag_threshold: u64,
    pub pause_on_threshold: bool,
    /// `resume_lag_margin:` resume at this backlog.
    pub resume_at: u64,
    /// `max_backlog_bytes:` bytes of memory of all batches, those in the making among them.
    pub max_bytes: usize,
}

impl Backpressure {
    /// What all batches may have of memory, bytes.
    pub fn most_bytes(&self) -> usize {
        if self.pause_on_threshold { self.max_bytes } else { usize::MAX }
    }
}
