//! A minimal producer. The load at a rate shares its cores with the measured engine. librdkafka needs 4 to 5 µs of CPU
//! time per event, and this producer 1 µs.
//!
//! It speaks version 7 of Kafka's Produce request with record batches of version 2: uncompressed, acknowledged by all
//! replicas, and one request at a time. It talks to one broker, which must lead all partitions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use crc::{CRC_32_ISCSI, Crc, Table};
use prost::encoding::encode_varint;

/// The checksum of a record batch.
const CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// A broker on the same machine that does not answer within this time is gone.
const PATIENCE: Duration = Duration::from_secs(30);
const PRODUCE: i16 = 0;
const VERSION: i16 = 7;
/// An answer has about 30 bytes for each partition, so a larger one is not an answer.
const ANSWER_BYTES: usize = 1 << 20;

/// A connection and the records that wait to be sent.
pub struct Wire {
    stream: TcpStream,
    topic: String,
    partitions: Vec<Waiting>,
    request: Vec<u8>,
    answer: Vec<u8>,
    sent: i32,
}

/// The encoded records of a partition.
#[derive(Default)]
struct Waiting {
    records: Vec<u8>,
    count: i32,
}

impl Wire {
    /// Connects to a broker. `brokers` is `host:port`; of a list the first entry is used.
    ///
    /// # Errors
    /// Fails if nobody listens at that address.
    pub fn connect(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<Wire> {
        let address = brokers.split(',').next().unwrap_or_default();
        let stream = TcpStream::connect(address).with_context(|| format!("Kafka at {address} cannot be reached"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let partitions = (0..partitions).map(|_| Waiting::default()).collect();
        Ok(Wire { stream, topic: topic.to_owned(), partitions, request: Vec::new(), answer: Vec::new(), sent: 0 })
    }

    /// Queues a record for the partition that `place` selects; equal values select the same partition.
    pub fn queue(&mut self, place: u128, key: &[u8], value: &[u8], headers: &[(&str, &[u8])]) -> anyhow::Result<()> {
        let partition = usize::try_from(place % self.partitions.len() as u128)?;
        let Waiting { records, count } = &mut self.partitions[partition];
        let pieces = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        let mut record = Vec::with_capacity(key.len() + value.len() + pieces + 16);
        // The record has no attributes and the batch's timestamp.
        record.extend_from_slice(&[0, 0]);
        number(i64::from(*count), &mut record);
        bytes(key, &mut record)?;
        bytes(value, &mut record)?;
        number(i64::try_from(headers.len())?, &mut record);
        for (name, value) in headers {
            bytes(name.as_bytes(), &mut record)?;
            bytes(value, &mut record)?;
        }
        bytes(&record, records)?;
        *count += 1;
        Ok(())
    }

    /// Sends the queued records and waits until the broker has stored them. `time` is their timestamp in Unix
    /// milliseconds.
    ///
    /// # Errors
    /// Fails if the connection breaks, or if the broker refuses a batch.
    pub fn send(&mut self, time: i64) -> anyhow::Result<()> {
        let batches = self.partitions.iter().filter(|waiting| waiting.count > 0).count();
        if batches == 0 {
            return Ok(());
        }
        self.sent += 1;
        let out = &mut self.request;
        out.clear();
        out.extend_from_slice(&[0; 4]);
        for part in [PRODUCE, VERSION] {
            out.extend_from_slice(&part.to_be_bytes());
        }
        out.extend_from_slice(&self.sent.to_be_bytes());
        // There is no client id and no transactional id, and all replicas acknowledge.
        for _ in 0..3 {
            out.extend_from_slice(&(-1i16).to_be_bytes());
        }
        out.extend_from_slice(&i32::try_from(PATIENCE.as_millis())?.to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
        out.extend_from_slice(&i16::try_from(self.topic.len())?.to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(&i32::try_from(batches)?.to_be_bytes());
        for (partition, waiting) in (0i32..).zip(&mut self.partitions) {
            if waiting.count > 0 {
                out.extend_from_slice(&partition.to_be_bytes());
                waiting.batch(time, out)?;
            }
        }
        let length = i32::try_from(out.len() - 4)?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(out).context("the broker takes no more")?;
        self.acknowledged()
    }

    fn acknowledged(&mut self) -> anyhow::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("the broker does not acknowledge")?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        if length > ANSWER_BYTES {
            bail!("an answer of {length} bytes: {} is no Kafka broker", self.stream.peer_addr()?);
        }
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer).context("the broker's answer ends early")?;
        let mut answer = Answer(&self.answer);
        if answer.i32()? != self.sent {
            bail!("the broker answers another request");
        }
        for _ in 0..answer.i32()? {
            let name = answer.i16()?;
            answer.take(usize::try_from(name)?)?;
            for _ in 0..answer.i32()? {
                let (partition, code) = (answer.i32()?, answer.i16()?);
                if code != 0 {
                    bail!("the broker refuses records for partition {partition} of {}: error {code}", self.topic);
                }
                // Skips the base offset, the append time and the start offset.
                answer.take(24)?;
            }
        }
        Ok(())
    }
}

impl Waiting {
    /// Appends the records to `out` as one batch.
    fn batch(&mut self, time: i64, out: &mut Vec<u8>) -> anyhow::Result<()> {
        // The part before the records that the checksum covers: no attributes, the last offset, both times, no
        // producer.
        let mut head = Vec::with_capacity(40);
        head.extend_from_slice(&0i16.to_be_bytes());
        head.extend_from_slice(&(self.count - 1).to_be_bytes());
        head.extend_from_slice(&time.to_be_bytes());
        head.extend_from_slice(&time.to_be_bytes());
        head.extend_from_slice(&(-1i64).to_be_bytes());
        head.extend_from_slice(&(-1i16).to_be_bytes());
        head.extend_from_slice(&(-1i32).to_be_bytes());
        head.extend_from_slice(&self.count.to_be_bytes());
        let mut sum = CASTAGNOLI.digest();
        sum.update(&head);
        sum.update(&self.records);
        // The length is followed by the leader's epoch, the version and the checksum.
        let length = i32::try_from(9 + head.len() + self.records.len())?;
        out.extend_from_slice(&(length + 12).to_be_bytes());
        out.extend_from_slice(&0i64.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&(-1i32).to_be_bytes());
        out.push(2);
        out.extend_from_slice(&sum.finalize().to_be_bytes());
        out.append(&mut head);
        out.append(&mut self.records);
        self.count = 0;
        Ok(())
    }
}

/// Appends a zigzag varint.
fn number(value: i64, out: &mut Vec<u8>) {
    encode_varint((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned(), out);
}

fn bytes(value: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
    number(i64::try_from(value.len())?, out);
    out.extend_from_slice(value);
    Ok(())
}

struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn take(&mut self, length: usize) -> anyhow::Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("the broker's answer ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::Message as _;
    use rdkafka::mocking::MockCluster;
    use rdkafka::{ClientConfig, Offset};
    use tollgate_engine::kafka::headers;

    use super::*;
    use crate::broker;

    /// librdkafka's mock broker stores the batches, and its consumer reads them and verifies their checksums.
    #[test]
    fn what_is_sent_is_what_a_consumer_reads() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let mut wire = Wire::connect(&cluster.bootstrap_servers(), "t", 2).unwrap();
        wire.send(5).unwrap();
        for place in 0..300u32 {
            let value = vec![7; usize::try_from(place).unwrap()];
            wire.queue(place.into(), &place.to_be_bytes(), &value, &[("schema-version", b"1"), ("n", b"")]).unwrap();
            if place % 100 == 99 {
                wire.send(1_767_225_600_000 + i64::from(place)).unwrap();
            }
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g").set("check.crcs", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.assign(&broker::at("t", &[0, 1], Offset::Beginning).unwrap()).unwrap();
        let mut read = Vec::new();
        while read.len() < 300 {
            let record = consumer.poll(PATIENCE).expect("a record comes").unwrap();
            let place = u32::from_be_bytes(record.key().unwrap().try_into().unwrap());
            assert_eq!(record.partition(), i32::try_from(place % 2).unwrap());
            assert_eq!(record.payload().unwrap().len(), usize::try_from(place).unwrap());
            assert_eq!(record.timestamp().to_millis(), Some(1_767_225_600_000 + i64::from(place / 100 * 100 + 99)));
            let headers: Vec<_> = headers::of(&record).collect();
            assert_eq!(headers, [(&b"schema-version"[..], Some(&b"1"[..])), (b"n", Some(b""))]);
            read.push(place);
        }
        read.sort_unstable();
        assert!(read.into_iter().eq(0..300));
    }

    #[test]
    fn a_refusal_names_topic_and_partition() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let mut wire = Wire::connect(&cluster.bootstrap_servers(), "t", 2).unwrap();
        wire.queue(1, b"k", b"v", &[]).unwrap();
        let refused = wire.send(0).unwrap_err().to_string();
        assert!(refused.contains("partition 1 of t: error 3"), "{refused}");
    }
}
