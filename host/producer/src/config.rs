//! The settings of a producer, with the reason for each default.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::{Load, SetupError, limits};

/// librdkafka settings that this producer reserves, and the setting to use instead of each.
pub const OWNED_SETTINGS: &[(&str, &str)] = &[
    ("bootstrap.servers", "pass the brokers when the producer is created"),
    ("metadata.broker.list", "pass the brokers when the producer is created"),
    ("enable.idempotence", "it is always on"),
    ("enable.gapless.guarantee", "undelivered events are reported one by one"),
    ("acks", "it is always all"),
    ("request.required.acks", "it is always all"),
    ("partitioner", "keys are partitioned as by Java's clients"),
    ("transactional.id", "set the producer's transactional id"),
    ("transaction.timeout.ms", "set the producer's transaction timeout"),
    ("message.timeout.ms", "set the producer's delivery timeout"),
    ("delivery.timeout.ms", "set the producer's delivery timeout"),
    ("queue.buffering.max.messages", "set the producer's buffer"),
    ("queue.buffering.max.kbytes", "set the producer's buffer"),
    ("queue.buffering.max.ms", "set the producer's linger"),
    ("linger.ms", "set the producer's linger"),
    ("message.max.bytes", "set the producer's largest record"),
];

/// The difference between librdkafka's limit and ours. librdkafka also counts a record's own fields, so its limit must
/// be higher for ours to apply first.
const SLACK: usize = 2_048;

/// What to do with an event that its contract rejects. In each case the sender also gets
/// [`crate::SendError::Rejected`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Invalid {
    /// Only the sender gets the event.
    #[default]
    Return,
    /// The original bytes go to this topic, with all violations in headers.
    Topic(String),
    /// A line is appended to this file: all violations, and the original.
    File(PathBuf),
}

/// A producer's settings. Plain data; [`crate::Producer::new`] checks it.
#[derive(Clone)]
pub struct Config {
    /// Brokers, TLS, SASL and other settings without a field here.
    pub client: ClientConfig,
    pub transactional_id: Option<String>,
    /// The time for which the broker keeps a transaction open after its producer stops responding. Readers wait for it
    /// that long.
    pub transaction_timeout: Duration,
    /// The maximum in flight. Beyond it the sender waits.
    pub buffer: Load,
    /// The time for which an event may be in flight, including retries and outages, before it is reported as
    /// undelivered.
    pub delivery_timeout: Duration,
    /// The time for which an event may wait for others to share its request.
    pub linger: Duration,
    /// The maximum size of a record in bytes. Larger records are rejected before they are sent. It must not exceed the
    /// topic's `max.message.bytes`.
    pub record_bytes: usize,
    pub invalid: Invalid,
}

impl Config {
    /// Creates settings for these brokers, a comma-separated list of `host:port`.
    #[must_use]
    pub fn new(brokers: &str) -> Config {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers).set("client.id", "tollgate-producer");
        // A broker that returns is found again within a second.
        client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        Config::over(client)
    }

    /// Uses existing client settings. Those of [`OWNED_SETTINGS`] are overridden, except the brokers.
    #[must_use]
    pub fn over(client: ClientConfig) -> Config {
        Config {
            client,
            transactional_id: None,
            transaction_timeout: limits::TRANSACTION_TIMEOUT,
            // The size is Java's buffer.memory. The number of records is one at which small records do not cost more in
            // bookkeeping than in bytes.
            buffer: Load { records: 100_000, bytes: 32 << 20 },
            delivery_timeout: limits::DELIVERY_TIMEOUT,
            linger: limits::LINGER,
            // This is librdkafka's default. Kafka's own limit is slightly more than 1 MiB for a whole batch.
            record_bytes: 1_000_000,
            invalid: Invalid::Return,
        }
    }

    /// Sets a librdkafka setting that has no field here.
    ///
    /// # Errors
    /// Fails if the setting is one of [`OWNED_SETTINGS`].
    pub fn set(&mut self, setting: &str, value: &str) -> Result<(), SetupError> {
        if let Some((_, instead)) = OWNED_SETTINGS.iter().find(|(owned, _)| *owned == setting) {
            return Err(SetupError::OwnedSetting { setting: setting.to_owned(), instead });
        }
        self.client.set(setting, value);
        Ok(())
    }

    pub(crate) fn brokers(&self) -> String {
        self.client.get("bootstrap.servers").unwrap_or("(no brokers named)").to_owned()
    }

    /// Returns librdkafka's settings. The caller can set retries, backoff and the in-flight limit; this producer sets
    /// all others.
    pub(crate) fn settings(&self) -> ClientConfig {
        let mut config = self.client.clone();
        let usual = [
            // A retry is a request that was lost or answered with an error. While no broker is reachable, nothing is
            // sent and nothing is counted.
            ("retries", "5"),
            ("retry.backoff.ms", "100"),
            ("retry.backoff.max.ms", "1000"),
            ("max.in.flight.requests.per.connection", "5"),
            ("compression.type", "lz4"),
        ];
        for (setting, value) in usual {
            if config.get(setting).is_none() {
                config.set(setting, value);
            }
        }
        let millis = |duration: Duration| duration.as_millis().to_string();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", millis(self.delivery_timeout.max(self.linger)))
            .set("linger.ms", millis(self.linger))
            .set("message.max.bytes", self.record_bytes.saturating_add(SLACK).clamp(1_000, 1_000_000_000).to_string())
            // Our own limit applies first, so these only have to be higher.
            .set("queue.buffering.max.messages", self.buffer.records.clamp(1, 10_000_000).saturating_add(1).to_string())
            .set("queue.buffering.max.kbytes", kilobytes(self.buffer.bytes, self.record_bytes).to_string());
        if let Some(id) = &self.transactional_id {
            // librdkafka rejects a delivery timeout that could exceed its transaction's.
            config.set("transactional.id", id).set("transaction.timeout.ms", millis(self.transaction_timeout)).set(
                "message.timeout.ms",
                millis(self.delivery_timeout.max(self.linger).min(self.transaction_timeout)),
            );
        }
        config
    }
}

/// Returns the size of the buffer plus one record, within librdkafka's limits.
fn kilobytes(buffer: usize, record: usize) -> usize {
    (buffer.saturating_add(record) / 1_024).clamp(1, 2_097_151)
}

/// Shows only the names of settings, because their values may be secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("settings", &self.client.config_map().keys().collect::<Vec<_>>())
            .field("transactional_id", &self.transactional_id)
            .field("transaction_timeout", &self.transaction_timeout)
            .field("buffer", &self.buffer)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("linger", &self.linger)
            .field("record_bytes", &self.record_bytes)
            .field("invalid", &self.invalid)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guarantee_rests_on_cannot_be_set_and_the_rest_can() {
        let mut config = Config::new("localhost:9092");
        for (owned, _) in OWNED_SETTINGS {
            let error = config.set(owned, "x").unwrap_err().to_string();
            assert!(error.contains(owned), "{error}");
        }
        config.set("retries", "7").unwrap();
        let settings = config.settings();
        let said = |name: &str| settings.get(name).unwrap_or_default().to_owned();
        assert_eq!([said("retries"), said("retry.backoff.max.ms"), said("acks")], ["7", "1000", "all"]);
        assert_eq!(said("partitioner"), "murmur2_random");
    }

    #[test]
    fn no_secret_is_shown() {
        let mut config = Config::new("localhost:9092");
        config.set("sasl.password", "hidden-word").unwrap();
        assert!(!format!("{config:?}").contains("hidden-word"));
    }
}
