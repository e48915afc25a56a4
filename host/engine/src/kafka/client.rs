//! librdkafka's settings for this pipeline, and group data that rdkafka does not expose.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset as KafkaOffset, TopicPartitionList};

use crate::position::{NextOffset, Partition};
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline, SaslMechanism, Security, Source};
use tollgate_protocol::token::{Group, Mark};

/// Returns the settings shared by the consumer, the producers and the admin client: brokers, TLS, SASL, the user's own
/// settings.
pub fn base(source: &Source) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &source.brokers);
    config.set("client.id", "tollgate");
    // Reconnect within a second of a broker's return, so that recovery adds little to an outage.
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
    security(&source.security, &mut config);
    for (key, value) in &source.extra {
        config.set(key, value);
    }
    config
}

fn security(security: &Security, config: &mut ClientConfig) {
    let protocol = match (&security.tls, &security.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &security.tls {
        let paths = [
            ("ssl.ca.location", &tls.ca),
            ("ssl.certificate.location", &tls.certificate),
            ("ssl.key.location", &tls.key),
        ];
        for (key, path) in paths {
            if let Some(path) = path {
                config.set(key, path.to_string_lossy());
            }
        }
        if let Some(password) = &tls.key_password {
            config.set("ssl.key.password", password.expose());
        }
        if tls.skip_hostname {
            config.set("ssl.endpoint.identification.algorithm", "none");
        }
    }
    if let Some(sasl) = &security.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", &sasl.username).set("sasl.password", sasl.password.expose());
    }
}

/// Returns the consumer's settings. These are the reasons for values that we cannot choose freely:
/// - `fetch.queue.backoff.ms` defaults to a second, which adds a second of latency each time the queue was full.
/// - `auto.offset.reset=error`, because a silent jump loses events.
/// - The classic protocol, because librdkafka 2.12's implementation of the new one stalls.
pub fn consumer(pipeline: &Pipeline) -> ClientConfig {
    let source = &pipeline.source;
    let mut config = base(source);
    let millis = |duration: Duration| duration.as_millis().to_string();
    config
        .set("group.id", &source.group_id)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        // Transaction markers and compacted offsets give no other sign of the partition's end. There is at most one
        // such event per fetch.
        .set("enable.partition.eof", "true")
        // The only way to read the member's state in the group, for which shutdown waits.
        .set("statistics.interval.ms", limits::STATISTICS.as_millis().to_string())
        // Otherwise librdkafka accepts a corrupt batch as valid.
        .set("check.crcs", "true")
        .set("session.timeout.ms", millis(source.session_timeout))
        .set("heartbeat.interval.ms", millis(source.heartbeat_interval))
        .set("max.poll.interval.ms", millis(source.max_poll_interval))
        .set("fetch.wait.max.ms", "20")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", "20000");
    let Prefetch { queue, response } = Prefetch::of(pipeline);
    config.set("queued.max.messages.kbytes", (queue / 1000).to_string()).set("fetch.max.bytes", response.to_string());
    if let Some(id) = &source.group_instance_id {
        config.set("group.instance.id", id);
    }
    config
}

/// The amount that librdkafka may fetch ahead of delivery, in bytes. All partitions share one queue, and librdkafka
/// fetches while the queue is not full, so one response per broker comes on top. A partly delivered response stays in
/// memory as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// `queued.max.messages.kbytes`; librdkafka counts a kilobyte as 1,000.
    pub queue: usize,
    /// `fetch.max.bytes`: the limit of one broker's response, compressed as stored. Kafka exceeds it for a single
    /// record batch.
    pub response: usize,
}

impl Prefetch {
    /// Returns a quarter of the backlog's limit, within useful bounds.
    pub fn of(pipeline: &Pipeline) -> Prefetch {
        let queue = (pipeline.backpressure.max_bytes / 4).clamp(limits::AHEAD_MIN, limits::AHEAD_MAX);
        // librdkafka rejects a limit below the configured maximum size of a record.
        let record = pipeline.source.extra.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
        let response = (queue / 4).max(limits::AHEAD_MIN).max(record.unwrap_or_default());
        Prefetch { queue, response }
    }
}

/// Returns a producer's settings, which are transactional in effectively-once mode.
pub fn producer(pipeline: &Pipeline, transactional_id: Option<&str>) -> ClientConfig {
    let mut config = base(&pipeline.source);
    let transaction = pipeline.delivery.transaction_timeout;
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // The lane enqueues a batch's records at once and then waits for them, so lingering would only add latency.
        .set("linger.ms", "0")
        // With a higher limit, librdkafka's broker thread spins whenever a partition with records waits for an
        // acknowledgement; it sleeps only at this limit.
        .set("max.in.flight.requests.per.connection", "1")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "200000")
        // The default of 100 ms would delay every transaction that follows a fast one.
        .set("retry.backoff.ms", "2")
        .set("retry.backoff.max.ms", "100")
        .set("message.timeout.ms", (transaction.as_millis() * 2 / 3).to_string());
    if let (DeliveryMode::EffectivelyOnce, Some(id)) = (pipeline.delivery.mode, transactional_id) {
        config.set("transactional.id", id).set("transaction.timeout.ms", transaction.as_millis().to_string());
    }
    config
}

/// Explains why a client cannot be created. librdkafka's message is not used, because it repeats the value of a
/// setting, which may be a secret.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
pub fn explain(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, key, _) => format!("librdkafka rejects the value of the setting {key}"),
        other => other.to_string(),
    }
}

/// Returns the group's generation, or `None` before the member has joined. A lane must not commit then, because the
/// broker accepts an offset commit with generation -1 from any client.
#[allow(unsafe_code, reason = "rdkafka keeps the generation to itself; it is readable through rdkafka-sys only")]
pub fn generation<C: ClientContext + ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<i32> {
    // SAFETY: the client outlives the call, and the metadata object is ours until it is destroyed below.
    let generation = unsafe {
        let metadata = rdkafka_sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = rdkafka_sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        rdkafka_sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    };
    (generation >= 0).then_some(generation)
}

/// Returns the group's committed offsets of these partitions, each with its metadata. With `read_committed` the broker
/// responds only once no open transaction holds an offset of theirs.
///
/// # Errors
/// Fails if the broker does not respond within the timeout, or rejects one of the partitions.
pub fn committed<C: ClientContext + ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: impl IntoIterator<Item = Partition>,
    patience: Duration,
) -> Result<BTreeMap<Partition, Group>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition.get());
    }
    let committed = consumer.committed_offsets(list, patience)?;
    let marks = marks(&committed);
    let mut offsets = BTreeMap::new();
    for (element, mark) in committed.elements().iter().zip(marks) {
        element.error()?;
        if let KafkaOffset::Offset(offset) = element.offset() {
            offsets.insert(Partition::new(element.partition()), Group { next: NextOffset::new(offset), mark });
        }
    }
    Ok(offsets)
}

/// Returns the metadata of each offset of a list, in order. Any client may have written it, as arbitrary bytes:
/// rdkafka's own accessor panics if they are not UTF-8.
#[allow(unsafe_code, reason = "rdkafka hands metadata out as text only")]
fn marks(list: &TopicPartitionList) -> Vec<Mark> {
    // SAFETY: the borrow keeps the list and its elements alive and unchanged; each element's metadata is null or has
    // the size stored beside it.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or_default();
        (0..count)
            .map(|index| {
                let element = &*list.elems.add(index);
                let bytes: &[u8] = match element.metadata.is_null() {
                    true => &[],
                    false => std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size),
                };
                Mark::read(bytes)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets an offset's metadata to these bytes, as librdkafka does with a broker's response.
    #[allow(unsafe_code, reason = "rdkafka takes metadata as text only")]
    fn set(list: &TopicPartitionList, index: usize, bytes: &[u8]) {
        // SAFETY: the element exists, and librdkafka frees memory of its own allocator.
        unsafe {
            let element = &mut *(*list.ptr()).elems.add(index);
            let copy = rdkafka_sys::rd_kafka_mem_malloc(std::ptr::null_mut(), bytes.len());
            copy.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            (element.metadata, element.metadata_size) = (copy, bytes.len());
        }
    }

    #[test]
    fn metadata_is_read_whatever_its_bytes_are() {
        let mut list = TopicPartitionList::new();
        for partition in 0..4 {
            list.add_partition("t", partition);
        }
        set(&list, 1, b"\xff\xfe\x00");
        set(&list, 2, b"tollgate/1 number=3 epoch=1 offsets=1..2 cluster=c pipeline=p");
        let marks = marks(&list);
        assert_eq!(marks[0], Mark::Foreign { shown: String::new() });
        assert_eq!(marks[1], Mark::Foreign { shown: "\u{fffd}\u{fffd}\\0".into() });
        assert!(matches!(&marks[2], Mark::Token(token) if token.writer.pipeline() == "p"), "{marks:?}");
        assert_eq!(marks[3], marks[0]);
    }
}
