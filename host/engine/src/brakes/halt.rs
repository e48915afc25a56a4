//! This process's view of the halted partitions.
//!
//! PostgreSQL holds the authoritative state (`tollgate.halt`). Any thread may halt a partition. The keeper stores the
//! halt and follows the stored state: a halt that is no longer stored was ended by a resume, and the poll thread takes
//! the partition over again. If the process ends before a halt is stored, the next owner meets the same cause and halts
//! the partition again.

use std::collections::{BTreeMap, BTreeSet};

use crate::position::Partition;
use crate::progress::halts::Halt;

/// Reasons for halting a partition: the codes of docs/halts.md. A takeover has further codes
/// ([`tollgate_protocol::Halt`]).
pub mod code {
    /// The next offset is no longer in the topic.
    pub const RECORDS_MISSING: &str = "records-missing";
    /// A topic rejects a dead letter.
    pub const DEAD_LETTER_REFUSED: &str = "dead-letter-refused";
    /// A topic rejects an output whose row is committed.
    pub const OUTPUT_REFUSED: &str = "output-refused";
    /// PostgreSQL rejects an event's row but accepts the same row in a trial.
    pub const REFUSAL_UNEXPLAINED: &str = "refusal-unexplained";
    /// With `output.partition: same`, the output topic does not have the source's partition.
    pub const OUTPUT_PARTITION_MISSING: &str = "output-partition-missing";
    /// Kafka responds but has not accepted a record for so long that waiting alone will not help.
    pub const KAFKA_STUCK: &str = "kafka-stuck";
    /// A record batch in the log is corrupt, or compressed with an unknown codec.
    pub const RECORDS_UNREADABLE: &str = "records-unreadable";
    /// The stored redo plan cannot be applied.
    pub const PLAN_UNUSABLE: &str = "plan-unusable";

    /// All codes, for the page that explains them.
    pub const ALL: [&str; 8] = [
        RECORDS_MISSING,
        DEAD_LETTER_REFUSED,
        OUTPUT_REFUSED,
        REFUSAL_UNEXPLAINED,
        OUTPUT_PARTITION_MISSING,
        KAFKA_STUCK,
        RECORDS_UNREADABLE,
        PLAN_UNUSABLE,
    ];
}

/// The halts known to this process.
#[derive(Debug, Default)]
pub struct Halts {
    known: BTreeMap<Partition, Known>,
    changes: u64,
}

#[derive(Debug)]
struct Known {
    halt: Halt,
    stored: bool,
}

/// A mark taken before PostgreSQL is queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Halts {
    pub fn mark(&self) -> Mark {
        Mark(self.changes)
    }

    /// Halts a partition. Returns false if it was halted already: only the first cause is kept.
    pub fn begin(&mut self, halt: Halt) -> bool {
        if self.known.contains_key(&halt.partition) {
            return false;
        }
        self.changes += 1;
        self.known.insert(halt.partition, Known { halt, stored: false });
        true
    }

    /// Adds halts that were found in PostgreSQL.
    pub fn add_stored(&mut self, halts: Vec<Halt>) {
        for halt in halts {
            let known = self.known.get(&halt.partition);
            if known.is_none_or(|known| !known.stored || known.halt != halt) {
                self.changes += 1;
                self.known.insert(halt.partition, Known { halt, stored: true });
            }
        }
    }

    /// Applies the complete list of stored halts, read after `mark` was taken. A halt that is no longer stored was
    /// resumed. A list read before one of our own changes is ignored; the next one is current.
    pub fn sync(&mut self, mark: Mark, stored: Vec<Halt>) {
        if mark != self.mark() {
            return;
        }
        let there: BTreeSet<Partition> = stored.iter().map(|halt| halt.partition).collect();
        let before = self.known.len();
        self.known.retain(|partition, known| !known.stored || there.contains(partition));
        if self.known.len() != before {
            self.changes += 1;
        }
        self.add_stored(stored);
    }

    /// Returns the halts that are not stored in PostgreSQL yet.
    pub fn unstored(&self) -> Vec<Halt> {
        self.known.values().filter(|known| !known.stored).map(|known| known.halt.clone()).collect()
    }

    /// Records that a halt is stored now.
    pub fn stored(&mut self, partition: Partition) {
        if let Some(known) = self.known.get_mut(&partition) {
            known.stored = true;
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Halt> {
        self.known.values().map(|known| &known.halt)
    }

    pub fn contains(&self, partition: Partition) -> bool {
        self.known.contains_key(&partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;
    use crate::position::NextOffset;

    fn halt(partition: i32, code: &str) -> Halt {
        let (partition, offset) = (Partition::new(partition), NextOffset::new(7));
        Halt { partition, code: code.into(), offset, epoch: Epoch::new(1), message: String::new() }
    }

    fn partitions(halts: &Halts) -> Vec<i32> {
        halts.all().map(|halt| halt.partition.get()).collect()
    }

    #[test]
    fn a_halt_is_stored_and_ends_when_it_is_gone_there() {
        let mut halts = Halts::default();
        assert!(halts.begin(halt(3, "a")));
        assert!(!halts.begin(halt(3, "b")), "the first cause counts");
        // It is not stored yet, so its absence means nothing.
        halts.sync(halts.mark(), vec![]);
        assert_eq!((partitions(&halts), halts.unstored().len()), (vec![3], 1));
        halts.stored(Partition::new(3));
        halts.sync(halts.mark(), vec![halt(3, "a")]);
        assert_eq!((partitions(&halts), halts.unstored().len()), (vec![3], 0));
        let before = halts.mark();
        halts.sync(halts.mark(), vec![]);
        assert_eq!(partitions(&halts), [0; 0]);
        assert_ne!(halts.mark(), before, "the poll thread looks again");
    }

    #[test]
    fn other_members_halts_are_known_too() {
        let mut halts = Halts::default();
        halts.sync(halts.mark(), vec![halt(1, "a"), halt(2, "b")]);
        assert_eq!(partitions(&halts), [1, 2]);
        let mark = halts.mark();
        halts.sync(mark, vec![halt(1, "a"), halt(2, "b")]);
        assert_eq!(halts.mark(), mark, "nothing is new");
    }

    #[test]
    fn an_answer_from_before_a_change_is_dropped() {
        let mut halts = Halts::default();
        let asked = halts.mark();
        // A takeover finds a halt that was stored after the keeper's query.
        halts.add_stored(vec![halt(1, "a")]);
        halts.sync(asked, vec![]);
        assert_eq!(partitions(&halts), [1]);
    }
}
