//! The Kafka side of the bench: recreates topics, sends the load, and reads positions and dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A broker on the same machine answers within milliseconds. Without an answer in this time something is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes and creates `topic`, and waits until each of its partitions has a leader.
pub async fn recreate(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    admin.delete_topics(&[topic], &options).await?;
    let deadline = Instant::now() + TIMEOUT;
    // The deletion continues after the broker's answer. Until it is done, the name is taken.
    loop {
        let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
        match admin.create_topics(&topics, &options).await?.pop() {
            Some(Ok(_)) => break,
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Some(Err((_, code))) => bail!("topic {topic} cannot be made anew: {code}"),
            None => bail!("topic {topic} cannot be made anew: the broker gave no answer"),
        }
    }
    let wanted = usize::try_from(partitions)?;
    while leaders(admin.inner(), topic)? != wanted {
        if Instant::now() > deadline {
            bail!("topic {topic} has no leader for each of its {partitions} partitions");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn leaders<C: ClientContext>(client: &rdkafka::client::Client<C>, topic: &str) -> anyhow::Result<usize> {
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
    let topics = metadata.topics().iter().filter(|t| t.error().is_none());
    Ok(topics.flat_map(|t| t.partitions()).filter(|p| p.error().is_none() && p.leader() >= 0).count())
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Counts the records that the broker refused, so that a gap in the load does not go unnoticed.
#[derive(Clone, Default)]
struct Refused(Arc<AtomicU64>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An idempotent producer for one topic, with the partitioner of the Java client.
pub struct Sender {
    producer: ThreadedProducer<Refused>,
    topic: String,
    refused: Refused,
}

impl Sender {
    /// Creates a producer. `linger_ms` is high for throughput and low for latency.
    pub fn new(brokers: &str, topic: &str, linger_ms: u32) -> anyhow::Result<Sender> {
        let refused = Refused::default();
        let producer = client(brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms.to_string())
            .set("partitioner", "murmur2_random")
            .set("compression.type", "none")
            .set("queue.buffering.max.messages", "200000")
            .create_with_context(refused.clone())?;
        Ok(Sender { producer, topic: topic.to_owned(), refused })
    }

    /// Queues a record. Blocks while the queue is full.
    pub fn send(&self, key: &[u8], value: &[u8], headers: OwnedHeaders) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value).headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error).context("a record cannot be queued"),
            }
        }
    }

    /// Waits until every record is stored. Fails if one was refused.
    pub fn finish(self) -> anyhow::Result<()> {
        self.producer.flush(TIMEOUT).context("the broker does not take the last records")?;
        match self.refused.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            n => bail!("the broker refused {n} records of topic {}", self.topic),
        }
    }
}

/// The headers of every event of the load.
pub const EVENT_HEADERS: [(&str, &[u8]); 2] = [("schema-version", b"1"), ("content-type", b"application/protobuf")];

pub fn event_headers() -> OwnedHeaders {
    let [version, kind] = EVENT_HEADERS.map(|(key, value)| Header { key, value: Some(value) });
    OwnedHeaders::new_with_capacity(2).insert(version).insert(kind)
}

/// Returns the keys of all committed records of `topic`. They are read, because offsets do not count records:
/// transaction markers occupy offsets too.
pub fn committed_keys(brokers: &str, topic: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", "bench-oracle")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let partitions = partitions(&consumer, topic)?;
    consumer.assign(&at(topic, &partitions, Offset::Beginning)?)?;
    let mut open = partitions.len();
    let mut keys = Vec::new();
    while open > 0 {
        match consumer.poll(TIMEOUT) {
            Some(Ok(record)) => keys.push(record.key().unwrap_or_default().to_vec()),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error).with_context(|| format!("topic {topic} cannot be read")),
            None => bail!("topic {topic}: the broker sends nothing and no end"),
        }
    }
    Ok(keys)
}

pub fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let found: Vec<i32> = metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
    if found.is_empty() {
        bail!("topic {topic} does not exist; fill it first");
    }
    Ok(found)
}

pub fn at(topic: &str, partitions: &[i32], offset: Offset) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

/// Observes a consumer group and its committed offsets without joining it.
pub struct GroupWatch {
    consumer: BaseConsumer,
    group: String,
    list: TopicPartitionList,
}

impl GroupWatch {
    pub fn new(brokers: &str, group: &str, topic: &str) -> anyhow::Result<GroupWatch> {
        let consumer: BaseConsumer =
            client(brokers).set("group.id", group).set("enable.auto.commit", "false").create()?;
        let list = at(topic, &partitions(&consumer, topic)?, Offset::Invalid)?;
        Ok(GroupWatch { consumer, group: group.to_owned(), list })
    }

    /// Returns whether the group has members and each has its assignment.
    pub fn stable(&self) -> anyhow::Result<bool> {
        let list = self.consumer.fetch_group_list(Some(&self.group), TIMEOUT)?;
        Ok(list.groups().iter().any(|g| g.name() == self.group && g.state() == "Stable" && !g.members().is_empty()))
    }

    /// Returns the number of events below the committed offsets of all partitions. Offsets of an open transaction are
    /// not yet committed.
    pub fn done(&self) -> anyhow::Result<u64> {
        let committed = self.consumer.committed_offsets(self.list.clone(), TIMEOUT)?;
        let offsets = committed.elements().into_iter().filter_map(|e| e.offset().to_raw());
        Ok(offsets.filter_map(|o| u64::try_from(o).ok()).sum())
    }
}
