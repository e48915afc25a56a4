//! Consumer settings under the names of Kafka clients.
//!
//! A block with these names (`consumer:` with `group_id`, `session_timeout_ms` …, `retry_policy`, `dlq_topic`,
//! `dlq_threshold`, `backpressure`, `max_batch_size`) can be pasted beside Tollgate's own sections. Each name is an
//! alias: it is read into the same [`Once`] as Tollgate's own key. So the same setting in two places is an error. A
//! value that the delivery protocol cannot honour is refused with the reason.

use super::names;
use super::once::Once;
use crate::limits;
use crate::model::{Backpressure, Retry, Start};
use crate::reader::{
    Complaint, Table, boolean, bytes_within, duration_within, milliseconds_within, number_within, text, within,
};
use std::time::Duration;

/// The settings with more than one name or place.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub group_id: Once<String>,
    pub start: Once<Start>,
    pub session_timeout: Once<Duration>,
    pub heartbeat_interval: Once<Duration>,
    pub max_poll_interval: Once<Duration>,
    /// These bound the batch in addition to `delivery.batch.max_events`; the lowest bound applies.
    pub max_poll_records: Once<usize>,
    pub max_batch_size: Once<usize>,
    pub dlq_topic: Once<String>,
    pub dlq_threshold: Once<u64>,
    pub retry: Once<Retry>,
    pub backpressure: Once<Backpressure>,
}

impl Shared {
    /// Reads the section `consumer:` and its keys that may also be at the root.
    pub(super) fn read(root: &Table<'_>) -> Shared {
        let mut shared = Shared::default();
        root.table("consumer", |consumer| {
            shared.consumer_keys(consumer);
            shared.policies(consumer);
            Some(())
        });
        shared.policies(root);
        shared
    }

    /// Reads the keys that `source:` and `consumer:` share.
    pub(super) fn consumer_keys(&mut self, table: &Table<'_>) {
        self.group_id.offer(table, "group_id", text);
        self.start.offer(table, "auto_offset_reset", names::auto_offset_reset);
        self.max_poll_records.offer(table, "max_poll_records", within(1, limits::BATCH_EVENTS_MAX));
        let durations = [
            (&mut self.session_timeout, "session_timeout", limits::SESSION_TIMEOUT_MAX),
            (&mut self.heartbeat_interval, "heartbeat_interval", limits::SESSION_TIMEOUT_MAX),
            (&mut self.max_poll_interval, "max_poll_interval", limits::MAX_POLL_INTERVAL_MAX),
        ];
        for (once, key, longest) in durations {
            once.offer(table, key, duration_within(limits::MILLISECOND, longest));
            once.offer(table, &format!("{key}_ms"), milliseconds_within(limits::MILLISECOND, longest));
        }
        table.get("enable_auto_commit", auto_commit_off);
        table.get("isolation_level", read_committed);
    }

    /// Reads `retry_policy`, `backpressure` and the loose keys, which may be in `consumer:`, at the root or in these
    /// sections.
    fn policies(&mut self, table: &Table<'_>) {
        self.loose_keys(table);
        if let Some(field) = table.field("retry_policy") {
            let retry = field.table(|retry| {
                self.loose_keys(retry);
                read_retry(retry)
            });
            self.retry.put(table, "retry_policy", retry);
        }
        if let Some(field) = table.field("backpressure") {
            let backpressure = field.table(|backpressure| {
                self.loose_keys(backpressure);
                read_backpressure(backpressure)
            });
            self.backpressure.put(table, "backpressure", backpressure);
        }
    }

    fn loose_keys(&mut self, table: &Table<'_>) {
        self.dlq_topic.offer(table, "dlq_topic", names::topic);
        self.dlq_threshold.offer(table, "dlq_threshold", within(1, u64::MAX));
        self.max_batch_size.offer(table, "max_batch_size", within(1, limits::BATCH_EVENTS_MAX));
    }
}

fn auto_commit_off(text: &str) -> Result<(), Complaint> {
    match boolean(text)? {
        false => Ok(()),
        true => Err(Complaint::new(
            "cannot be honoured: an offset is committed together with its rows and outputs, never by a timer; \
             write false or remove the key",
        )),
    }
}

fn read_committed(text: &str) -> Result<(), Complaint> {
    match text {
        "read_committed" => Ok(()),
        _ => Err(Complaint::new(
            "cannot be honoured: records of aborted transactions would be delivered; \
             write read_committed or remove the key",
        )),
    }
}

pub(super) fn default_retry() -> Retry {
    Retry {
        max_retries: limits::RETRIES,
        initial_backoff: limits::BACKOFF_INITIAL,
        max_backoff: limits::BACKOFF_MAX,
        multiplier: limits::BACKOFF_MULTIPLIER,
        breaker_threshold: limits::BREAKER_THRESHOLD,
        foreign_key_window: None,
        unique_window: None,
    }
}

fn read_retry(table: &Table<'_>) -> Option<Retry> {
    let default = default_retry();
    let max_retries = table.or("max_retries", within(0, limits::RETRIES_MAX), default.max_retries);
    let breaker = within(1, limits::BREAKER_THRESHOLD_MAX);
    let breaker_threshold = table.or("breaker_threshold", breaker, default.breaker_threshold);
    let window = || duration_within(limits::CONSTRAINT_WINDOW.0, limits::CONSTRAINT_WINDOW.1);
    let foreign_key_window = table.get("foreign_key_window", window());
    let unique_window = table.get("unique_window", window());
    let (mut initial, mut longest, mut multiplier) = (Once::default(), Once::default(), Once::default());
    for (once, key) in [(&mut initial, "initial_backoff"), (&mut longest, "max_backoff")] {
        once.offer(table, key, duration_within(limits::MILLISECOND, limits::BACKOFF_LIMIT));
        once.offer(table, &format!("{key}_ms"), milliseconds_within(limits::MILLISECOND, limits::BACKOFF_LIMIT));
    }
    for key in ["multiplier", "backoff_multiplier"] {
        multiplier.offer(table, key, number_within(1.0, limits::BACKOFF_MULTIPLIER_MAX));
    }
    let initial_key = initial.from().map_or("initial_backoff", |path| last(path)).to_owned();
    let initial_backoff = initial.take().unwrap_or(default.initial_backoff);
    let max_backoff = longest.take().unwrap_or(default.max_backoff.max(initial_backoff));
    if initial_backoff > max_backoff {
        table.error(&initial_key, format!("must not exceed max_backoff ({max_backoff:?})"));
    }
    Some(Retry {
        max_retries,
        initial_backoff,
        max_backoff,
        multiplier: multiplier.take().unwrap_or(default.multiplier),
        breaker_threshold,
        foreign_key_window,
        unique_window,
    })
}

pub(super) fn default_backpressure() -> Backpressure {
    Backpressure {
        lag_threshold: limits::BACKLOG_EVENTS,
        pause_on_threshold: true,
        resume_at: limits::BACKLOG_EVENTS / 2,
        max_bytes: limits::BACKLOG_BYTES,
    }
}

fn read_backpressure(table: &Table<'_>) -> Option<Backpressure> {
    let default = default_backpressure();
    let lag_threshold = table.or("lag_threshold", within(1, limits::BACKLOG_EVENTS_MAX), default.lag_threshold);
    let resume_at = table.or("resume_lag_margin", within(0, limits::BACKLOG_EVENTS_MAX), lag_threshold / 2);
    if resume_at >= lag_threshold {
        table.error("resume_lag_margin", format!("must be below lag_threshold ({lag_threshold})"));
    }
    Some(Backpressure {
        lag_threshold,
        pause_on_threshold: table.or("pause_on_threshold", boolean, default.pause_on_threshold),
        resume_at,
        max_bytes: table.or("max_backlog_bytes", bytes_within(1 << 10, limits::BACKLOG_BYTES_MAX), default.max_bytes),
    })
}

/// Returns the last part of a dotted path.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
