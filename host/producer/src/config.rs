//! Settings, with the reason for each default.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::{Load, SetupError};

/// librdkafka settings that this producer owns, and what to use in their place.
pub const OWNED_SETTINGS: &[(&str, &str)] = &[
    ("bootstrap.servers", "name the brokers when the producer is made"),
    ("metadata.broker.list", "name the brokers when the producer is made"),
    ("enable.idempotence", "it is always on"),
    ("enable.gapless.guarantee", "a gap is reported, event by event"),
    ("acks", "it is always all"),
    ("request.required.acks", "it is always all"),
    ("partitioner", "keys go where Java's clients put them"),
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

/// librdkafka counts a record's own fields too; our bound is to be the one that speaks.
const SLACK: usize = 2_048;

/// What becomes of an event that its contract refuses. In each case [`crate::SendError::Rejected`] tells the sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Invalid {
    /// The sender has it and nobody else.
    #[default]
    Return,
    /// The original bytes go to this topic, with every violation in headers.
    Topic(String),
    /// A line is appended to this file: every violation, and the original.
    File(PathBuf),
}

/// How to produce. Plain data; [`crate::Producer::new`] checks it.
#[derive(Clone)]
pub struct Config {
    /// Brokers, TLS, SASL and what else has no field of its own here.
    pub client: ClientConfig,
    pub transactional_id: Option<String>,
    /// How long the broker keeps a transaction open whose producer has gone silent. Readers wait for it that long.
    pub transaction_timeout: Duration,
    /// What may be on its way; more makes the sender wait.
    pub buffer: Load,
    /// How long an event may be on its way, retries and outages included, before it is reported as undelivered.
    pub delivery_timeout: Duration,
    /// How long an event may wait for others to be sent with.
    pub linger: Duration,
    /// The largest record, bytes: what is larger is rejected before it is sent. Not above the topic's `max.message.bytes`.
    pub record_bytes: usize,
    pub invalid: Invalid,
}

impl Config {
    /// `brokers`: host:port, comma separated.
    #[must_use]
    pub fn new(brokers: &str) -> Config {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers).set("client.id", "tollgate-producer");
        // A broker that is back is found again within a second.
        client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        Config::over(client)
    }

    /// On a client's settings that exist already. Those of [`OWNED_SETTINGS`] are laid over, but the brokers.
    #[must_use]
    pub fn over(client: ClientConfig) -> Config {
        Config {
            client,
            transactional_id: None,
            // librdkafka's and Java's default.
            transaction_timeout: Duration::from_secs(60),
            // Java's buffer.memory; and so many records that small ones do not cost more in bookkeeping than in bytes.
            buffer: Load { records: 100_000, bytes: 32 << 20 },
            // Java's default. An election or a broker's restart takes seconds.
            delivery_timeout: Duration::from_secs(120),
            // Enough to fill a request at a few thousand events a second; nobody notices it in an acknowledgement.
            linger: Duration::from_millis(5),
            // librdkafka's default: Kafka's own bound is 1 MiB and a few bytes for a whole batch.
            record_bytes: 1_000_000,
            invalid: Invalid::Return,
        }
    }

    /// Sets a librdkafka setting that has no field here.
    ///
    /// # Errors
    /// The setting is one of [`OWNED_SETTINGS`].
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

    /// librdkafka's settings. Retries, backoff and in-flight limit can be set by the caller; the rest is ours.
    pub(crate) fn settings(&self) -> ClientConfig {
        let mut config = self.client.clone();
        let usual = [
            // The articles' figures. A retry is a request that was answered with an error or lost; while no broker
            // is there nothing is sent and nothing is counted.
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
            // Our own bound comes first; these only have to lie above it.
            .set("queue.buffering.max.messages", self.buffer.records.clamp(1, 10_000_000).saturating_add(1).to_string())
            .set("queue.buffering.max.kbytes", kilobytes(self.buffer.bytes, self.record_bytes).to_string());
        if let Some(id) = &self.transactional_id {
            // librdkafka refuses a delivery that could outlast its transaction.
            config.set("transactional.id", id).set("transaction.timeout.ms", millis(self.transaction_timeout)).set(
                "message.timeout.ms",
                millis(self.delivery_timeout.max(self.linger).min(self.transaction_timeout)),
            );
        }
        config
    }
}

/// Room for the buffer and one record more, within librdkafka's bounds.
fn kilobytes(buffer: usize, record: usize) -> usize {
    (buffer.saturating_add(record) / 1_024).clamp(1, 2_097_151)
}

/// Settings may hold secrets, so only their names are shown.
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
