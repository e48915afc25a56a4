//! Measures how evenly the keys of a dry run are spread over the partitions of a topic.

use serde_json::{Value, json};

/// The excess over an even share above which the consumer of a partition delays all others.
const WARNED: f64 = 0.2;
/// The number of events per partition below which chance alone makes the shares uneven.
const ENOUGH: u64 = 100;

/// The number of events in each partition.
#[derive(Debug)]
pub struct Skew {
    partitions: Vec<u64>,
}

impl Skew {
    #[must_use]
    pub fn new(partitions: u32) -> Skew {
        Skew { partitions: vec![0; usize::try_from(partitions).unwrap_or(1).max(1)] }
    }

    /// Counts an event in the partition of its key.
    pub(super) fn take(&mut self, key: &[u8]) {
        let place = usize::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or_default() % self.partitions.len();
        self.partitions[place] += 1;
    }

    fn events(&self) -> u64 {
        self.partitions.iter().sum()
    }

    /// Returns by how much the fullest partition exceeds an even share; 0.25 is a quarter.
    #[allow(clippy::cast_precision_loss, reason = "a share is not exact to the event")]
    fn excess(&self) -> f64 {
        let fullest = self.partitions.iter().max().copied().unwrap_or_default();
        fullest as f64 * self.partitions.len() as f64 / self.events().max(1) as f64 - 1.0
    }

    /// Returns one line for people; `None` if no event had a key.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let (events, partitions) = (self.events(), self.partitions.len());
        let (place, fullest) = self.partitions.iter().enumerate().max_by_key(|(_, events)| **events)?;
        if events == 0 {
            return None;
        }
        let percent = (self.excess() * 100.0).round();
        let told = format!(
            "over {partitions} partitions the fullest ({place}) has {fullest} of {events} events, {percent} % more than an even share"
        );
        let many = events >= ENOUGH * u64::try_from(partitions).unwrap_or(u64::MAX);
        let uneven = many && self.excess() > WARNED;
        Some(if uneven { format!("warning: {told}; use a key with more values") } else { told })
    }

    #[must_use]
    pub fn json(&self) -> Option<Value> {
        (self.events() > 0).then(|| json!({ "partitions": self.partitions, "excess": self.excess() }))
    }
}

/// Returns the hash with which the partitioners of Java, kafkajs and this crate assign keys to partitions.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ k >> 24).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_kafkas_clients() {
        // These values are from Kafka's own UtilsTest.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn keys_that_meet_in_one_partition_are_warned_of() {
        let mut even = Skew::new(4);
        let mut uneven = Skew::new(4);
        for number in 0..10_000 {
            even.take(format!("customer-{number}").as_bytes());
            uneven.take(if number % 2 == 0 { b"large" } else { b"small" });
        }
        let (even, uneven) = (even.summary().unwrap_or_default(), uneven.summary().unwrap_or_default());
        assert!(even.starts_with("over 4 partitions the fullest (") && even.contains("of 10000 events"), "{even}");
        assert!(uneven.starts_with("warning: over 4 partitions"), "{uneven}");
        let mut few = Skew::new(4);
        few.take(b"one");
        assert_eq!(few.summary().as_deref().map(|told| told.starts_with("over")), Some(true), "one event is no sample");
        assert_eq!(Skew::new(4).summary(), None);
    }
}
