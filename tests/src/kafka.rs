//! Kafka as the tests' producer and reader see it.

use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tollgate_engine::kafka::headers;
use xtask::Cache;

const CALL: Duration = Duration::from_secs(30);

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Header names need not be UTF-8.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Unix milliseconds, or now if it is `None`.
    pub timestamp: Option<i64>,
}

impl Record {
    pub fn new(key: &str, value: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() }
    }

    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) -> Record {
        self.headers.push((name.as_ref().to_vec(), value.into()));
        self
    }
}

/// A record that was read.
#[derive(Debug, Clone)]
pub struct Letter {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Letter {
    /// Returns the last header of that name as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| header == name.as_bytes())?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Returns partition and offset of the record that it came from, from `tollgate.source`.
    pub fn source(&self) -> (i32, i64) {
        let text = self.header("tollgate.source").expect("every record that leaves says where it came from");
        let mut parts = text.rsplit('/');
        let offset = parts.next().unwrap().parse().unwrap();
        (parts.next().unwrap().parse().unwrap(), offset)
    }
}

/// Whether the broker accepted a record.
#[derive(Default)]
struct Probe(Mutex<Option<bool>>);

impl ClientContext for Probe {}

impl ProducerContext for Probe {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        *self.0.lock().unwrap() = Some(result.is_ok());
    }
}

/// A broker's address, and the settings that a client needs for it.
#[derive(Debug, Clone)]
pub struct Client {
    config: ClientConfig,
}

impl Client {
    pub fn new(brokers: &str) -> Client {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("client.id", "oracle");
        Client { config }
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Client {
        self.config.set(key, value);
        self
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config.create().unwrap()
    }

    fn consumer(&self, isolation: &str, group: &str) -> BaseConsumer {
        let mut config = self.config.clone();
        config.set("group.id", group).set("isolation.level", isolation).set("enable.partition.eof", "true");
        config.set("enable.auto.commit", "false").set("fetch.wait.max.ms", "20").create().unwrap()
    }

    /// Creates a topic with additional settings.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let admin = self.admin();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let created = runtime.block_on(admin.create_topics([&new], &options)).unwrap();
        created[0].as_ref().unwrap();
    }

    /// Adds partitions to a topic, and waits until the broker reports them.
    pub fn create_partitions(&self, topic: &str, partitions: i32) {
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin = self.admin();
        let more = NewPartitions::new(topic, usize::try_from(partitions).unwrap());
        let created = runtime.block_on(admin.create_partitions([&more], &options)).unwrap();
        created[0].as_ref().unwrap();
        crate::wait_for(&format!("{partitions} partitions of {topic}"), || {
            (self.partitions(topic) == partitions).then_some(())
        });
    }

    /// Gives a topic these settings, and Kafka's defaults for all others. They apply some milliseconds later.
    pub fn alter_topic(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (key, value) in settings {
            change = change.set(key, value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin = self.admin();
        let altered = runtime.block_on(admin.alter_configs([&change], &AdminOptions::new())).unwrap();
        altered[0].as_ref().unwrap();
    }

    /// Returns whether the topic accepts such a record now. The record is never read.
    pub fn takes(&self, topic: &str, record: &Record) -> bool {
        let mut config = self.config.clone();
        config.set("transactional.id", format!("{topic}.probe")).set("message.max.bytes", "20000000");
        let producer: BaseProducer<Probe> = config.create_with_context(Probe::default()).unwrap();
        producer.init_transactions(CALL).unwrap();
        producer.begin_transaction().unwrap();
        let mut probe = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition);
        (probe.key, probe.payload) = (record.key.as_deref(), record.value.as_deref());
        producer.send(probe).map_err(|(error, _)| error).unwrap();
        let taken = crate::wait_for("the probe's report", || {
            producer.poll(Duration::from_millis(5));
            producer.context().0.lock().unwrap().take()
        });
        producer.abort_transaction(CALL).unwrap();
        taken
    }

    pub fn partitions(&self, topic: &str) -> i32 {
        let metadata = self.admin().inner().fetch_metadata(Some(topic), CALL).unwrap();
        i32::try_from(metadata.topics()[0].partitions().len()).unwrap()
    }

    /// Produces in order, each record to its partition, and waits until the broker has stored them.
    pub fn produce(&self, topic: &str, records: &[Record]) {
        self.produce_compressed(topic, records, "none");
    }

    pub fn produce_compressed(&self, topic: &str, records: &[Record], codec: &str) {
        let mut config = self.config.clone();
        config.set("enable.idempotence", "true").set("linger.ms", "5").set("compression.type", codec);
        let producer: BaseProducer = config.set("message.max.bytes", "20000000").create().unwrap();
        for record in records {
            send(&producer, topic, record);
        }
        producer.flush(CALL).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
    }

    /// Produces one by one, each acknowledged before the next.
    pub fn trickle(&self, topic: &str, records: &[Record]) {
        let producer: BaseProducer = self.config.create().unwrap();
        for record in records {
            send(&producer, topic, record);
            while producer.in_flight_count() > 0 {
                producer.poll(Duration::from_millis(1));
            }
        }
    }

    /// Begins a transaction and produces in it. It stays open until the producer ends it, and then every partition that
    /// it touched gets a marker.
    pub fn transaction(&self, id: &str, topic: &str, records: &[Record]) -> BaseProducer {
        let mut config = self.config.clone();
        let producer: BaseProducer = config.set("transactional.id", id).create().unwrap();
        producer.init_transactions(CALL).unwrap();
        producer.begin_transaction().unwrap();
        for record in records {
            send(&producer, topic, record);
        }
        producer.flush(CALL).unwrap();
        producer
    }

    /// Takes over a transactional id: fences its producer and aborts its open transaction.
    pub fn fence(&self, id: &str) {
        let mut config = self.config.clone();
        let producer: BaseProducer = config.set("transactional.id", id).create().unwrap();
        producer.init_transactions(CALL).unwrap();
    }

    pub fn delete_topic(&self, topic: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let gone = runtime.block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())).unwrap();
        gone[0].as_ref().unwrap();
    }

    /// Corrupts a record in the broker's log: finds the first occurrence of `bytes` and flips a bit of its last byte.
    /// The batch must be uncompressed, and the broker must be one that was started from the project's cache.
    pub fn damage(&self, topic: &str, partition: i32, bytes: &[u8]) {
        let servers = std::fs::read_dir(Cache::open().unwrap().folder("run").unwrap()).unwrap();
        let log = format!("data/{topic}-{partition}/00000000000000000000.log");
        let log = servers.map(|server| server.unwrap().path().join(&log)).find(|log| log.is_file()).unwrap();
        let content = std::fs::read(&log).unwrap();
        let place = content.windows(bytes.len()).position(|window| window == bytes).unwrap() + bytes.len() - 1;
        let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
        file.write_all_at(&[content[place] ^ 1], place as u64).unwrap();
    }

    /// Deletes the records before an offset of a partition.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// Returns all records that a reader of committed records finds, partition by partition, up to the end.
    pub fn read(&self, topic: &str) -> Vec<Letter> {
        let mut letters = Vec::new();
        self.scan(topic, |letter| letters.push(letter));
        letters.sort_by_key(|letter| (letter.partition, letter.offset));
        letters
    }

    /// Calls `each` with these records, one by one.
    pub fn scan(&self, topic: &str, mut each: impl FnMut(Letter)) {
        let consumer = self.consumer("read_committed", "oracle");
        let mut open = self.partitions(topic);
        let mut list = TopicPartitionList::new();
        for partition in 0..open {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        while open > 0 {
            match consumer.poll(CALL) {
                Some(Ok(message)) => each(Letter {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: headers::of(&message)
                        .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                        .collect(),
                }),
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => panic!("reading {topic}: {error}"),
                None => panic!("reading {topic}: no answer within {} s", CALL.as_secs()),
            }
        }
    }

    /// Returns the offset after the last record of each partition. With `read_committed` it ends at the first open
    /// transaction.
    pub fn ends(&self, topic: &str, isolation: &str) -> Vec<i64> {
        let consumer = self.consumer(isolation, "oracle");
        // A broker that has just restarted answers with errors for a moment.
        let end = |partition| {
            let what = format!("the end of {topic}/{partition}");
            crate::wait_for(&what, || consumer.fetch_watermarks(topic, partition, CALL).ok()).1
        };
        (0..self.partitions(topic)).map(end).collect()
    }

    /// Returns the group's committed offsets of a topic, partition by partition.
    ///
    /// # Errors
    /// Fails if the broker cannot be reached, or if an open transaction contains an offset for the group.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>, KafkaError> {
        let consumer = self.consumer("read_committed", group);
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let found = consumer.committed_offsets(list, CALL)?;
        let mut offsets = Vec::new();
        for partition in 0..partitions {
            let element = found.find_partition(topic, partition).unwrap();
            element.error()?;
            offsets.push(match element.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
            });
        }
        Ok(offsets)
    }

    /// Sets an offset of a group without members, as an operator's tool does.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.try_commit(group, topic, partition, offset).expect("the group has no members");
    }

    /// Does the same, or returns `None` while the group has members.
    pub fn try_commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Option<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        self.consumer("read_committed", group).commit(&list, CommitMode::Sync).ok()
    }

    /// Sets an offset of a group that has members, as another program's transaction can: the broker accepts it from
    /// anybody who sends no generation. `metadata` is stored with it.
    pub fn commit_as_stranger(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        let stranger = self.consumer("read_committed", group).group_metadata().unwrap();
        let producer = self.transaction(&format!("{group}.stranger"), topic, &[]);
        producer.send_offsets_to_transaction(&list, &stranger, CALL).unwrap();
        producer.commit_transaction(CALL).unwrap();
    }

    /// Deletes a topic. Returns `None` if it is not gone yet.
    pub fn try_delete_topic(&self, topic: &str) -> Option<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin = self.admin();
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let deleted = runtime.block_on(admin.delete_topics(&[topic], &options)).unwrap();
        matches!(deleted[0], Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))).then_some(())
    }

    /// Creates a topic with the same name again, which may take a moment after its deletion.
    pub fn create_topic_again(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        crate::wait_for(&format!("topic {topic} to be created again"), || {
            let created = runtime.block_on(self.admin().create_topics([&new], &options)).unwrap();
            created[0].is_ok().then_some(())
        });
    }

    /// Returns a group's state and its number of members.
    pub fn group(&self, group: &str) -> Option<(String, usize)> {
        let consumer = self.consumer("read_committed", group);
        let list = consumer.fetch_group_list(Some(group), CALL).ok()?;
        let found = list.groups().iter().find(|found| found.name() == group)?;
        Some((found.state().to_owned(), found.members().len()))
    }

    /// Waits until the group is stable with this number of members.
    pub fn members(&self, group: &str, members: usize) {
        let at_rest = ("Stable".to_owned(), members);
        crate::wait_for("the group to be at rest", || (self.group(group)? == at_rest).then_some(()));
    }

    pub fn delete_group(&self, group: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin = self.admin();
        let deleted = runtime.block_on(admin.delete_groups(&[group], &AdminOptions::new())).unwrap();
        deleted[0].as_ref().unwrap();
    }
}

/// Queues one record, and waits if the queue is full.
pub fn send(producer: &BaseProducer, topic: &str, record: &Record) {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    let headers = record.headers.iter().fold(empty, |list, (name, value)| headers::add(list, name, Some(value)));
    let mut base = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition).headers(headers);
    base.key = record.key.as_deref();
    base.payload = record.value.as_deref();
    base.timestamp = record.timestamp;
    loop {
        match producer.send(base) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(5));
                base = back;
            }
            Err((error, _)) => panic!("producing to {topic}: {error}"),
        }
    }
}
