//! A steady load in which a record's offset alone determines the expected result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};
use serde_json::json;

use crate::events;
use crate::kafka::{Record, send};

/// The kind of a record of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Passes and becomes one row and one output.
    Valid,
    /// Is not a valid message and becomes one dead letter of the contract.
    Broken,
    /// Is rejected by the transform and becomes one dead letter of the transform.
    Rejected,
}

/// Returns the kind of the record at this offset, which is the same in every partition.
pub fn kind(offset: i64) -> Kind {
    match (offset % 53, offset % 97) {
        (7, _) => Kind::Broken,
        (_, 11) => Kind::Rejected,
        _ => Kind::Valid,
    }
}

fn record(partition: i32, offset: i64) -> Record {
    let id = format!("{partition}-{offset}");
    match kind(offset) {
        Kind::Broken => Record { partition, ..Record::new(&id, [0x0a, 0xff]) },
        kind @ Kind::Valid | kind @ Kind::Rejected => {
            let value = events::encode(&json!({ "id": id, "amount": offset.to_string(), "note": "a load's event" }));
            let record = Record { partition, ..Record::new(&id, value) };
            if kind == Kind::Rejected { record.header("act", "r") } else { record }
        }
    }
}

/// A thread that produces at a fixed rate until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    partitions: Arc<AtomicI32>,
    thread: Option<JoinHandle<Vec<i64>>>,
    began: Instant,
}

/// The number of partitions that a load uses.
pub struct Spread(Arc<AtomicI32>);

impl Spread {
    pub fn partitions(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Spreads later records over this number of partitions, which must exist.
    pub fn raise(&self, partitions: i32) {
        self.0.store(partitions, Ordering::Relaxed);
    }
}

impl Load {
    /// Starts a load into a topic that is empty and that nobody else writes to, so that offsets can be counted.
    pub fn start(brokers: &str, topic: &str, partitions: i32, per_second: u32) -> Load {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "5");
        let producer: BaseProducer = config.set("compression.type", "lz4").create().unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count, topic) = (Arc::clone(&stop), Arc::clone(&sent), topic.to_owned());
        let partitions = Arc::new(AtomicI32::new(partitions));
        let wanted = Arc::clone(&partitions);
        let began = Instant::now();
        let thread = thread::spawn(move || {
            let mut next = vec![0; usize::try_from(wanted.load(Ordering::Relaxed)).unwrap()];
            let mut total: u32 = 0;
            while !stopped.load(Ordering::Relaxed) {
                let partitions = wanted.load(Ordering::Relaxed);
                if next.len() < usize::try_from(partitions).unwrap() && knows(&producer, &topic, partitions) {
                    next.resize(usize::try_from(partitions).unwrap(), 0);
                }
                let partitions = i32::try_from(next.len()).unwrap();
                let due = began.elapsed().as_secs_f64() * f64::from(per_second);
                while f64::from(total) < due {
                    let partition = i32::try_from(total).unwrap() % partitions;
                    let offset = &mut next[usize::try_from(partition).unwrap()];
                    send(&producer, &topic, &record(partition, *offset));
                    *offset += 1;
                    total += 1;
                }
                count.store(total.into(), Ordering::Relaxed);
                producer.poll(Duration::from_millis(5));
            }
            producer.flush(Duration::from_secs(60)).unwrap();
            next
        });
        Load { stop, sent, partitions, thread: Some(thread), began }
    }

    /// Returns the number of partitions in use, which can be read and raised while the load runs.
    pub fn spread(&self) -> Spread {
        Spread(Arc::clone(&self.partitions))
    }

    /// Returns the number of records sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, and returns the offset after the last record of each partition and the achieved rate.
    pub fn stop(mut self) -> (Vec<i64>, f64) {
        let took = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let ends = self.thread.take().unwrap().join().unwrap();
        let total: i64 = ends.iter().sum();
        (ends, f64::from(i32::try_from(total).unwrap()) / took.as_secs_f64())
    }
}

/// Returns whether the client knows that the topic has this number of partitions; it refuses records for others.
fn knows(producer: &BaseProducer, topic: &str, partitions: i32) -> bool {
    let metadata = producer.client().fetch_metadata(Some(topic), Duration::from_secs(1));
    let count = metadata.map(|metadata| metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>());
    count.is_ok_and(|count| i32::try_from(count).unwrap() >= partitions)
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
