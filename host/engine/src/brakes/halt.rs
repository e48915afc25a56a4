//! Halted partitions as one process knows them.
//!
//! PostgreSQL has the truth (`tollgate.halt`). Any thread may halt a partition; the keeper stores the halt, and follows what
//! is stored: a halt that is gone there was ended by a resume, and the poll thread takes the partition over again. If the
//! process ends before a halt is stored, the next owner meets the same cause and halts the partition again.

use std::collections::{BTreeMap, BTreeSet};

use crate::position::Partition;
use crate::progress::halts::Halt;

/// Why a partition is halted: the codes of docs/halts.md. A takeover has codes of its own besides
/// ([`tollgate_protocol::Halt`]).
pub mod code {
    /// The next offset is not in the topic any more.
    pub const RECORDS_MISSING: &str = "records-missing";
    /// A topic refuses a dead letter.
    pub const DEAD_LETTER_REFUSED: &str = "dead-letter-refused";
    /// A topic refuses an output whose row is committed.
    pub const OUTPUT_REFUSED: &str = "output-refused";
    /// PostgreSQL refuses an event's row, and takes the same row in a trial.
    pub const REFUSAL_UNEXPLAINED: &str = "refusal-unexplained";
    /// With `output.partition: same`, the output topic lacks the source's partition.
    pub const OUTPUT_PARTITION_MISSING: &str = "output-partition-missing";
    /// Kafka answers, and yet does not take a record for so long that time alone will not help.
    pub const KAFKA_STUCK: &str = "kafka-stuck";
    /// A batch of records in the log is damaged, or compressed by an unknown codec.
    pub const RECORDS_UNREADABLE: &str = "records-unreadable";
    /// The stored redo plan cannot be followed.
    pub const PLAN_UNUSABLE: &str = "plan-unusable";

    /// All of them, for the page that explains them.
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

/// The halts that this process knows.
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

/// Taken before PostgreSQL is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Halts {
    pub fn mark(&self) -> Mark {
        Mark(self.changes)
    }

    /// Halts a partition. Returns false if it was halted already: the first cause counts.
    pub fn begin(&mut self, halt: Halt) -> bool {
        if self.known.contains_key(&halt.partition) {
            return false;
        }
        self.changes += 1;
        self.known.insert(halt.partition, Known { halt, stored: false });
        true
    }

    /// Halts that were found in PostgreSQL.
    pub fn found(&mut self, halts: Vec<Halt>) {
        for halt in halts {
            let known = self.known.get(&halt.partition);
            if known.is_none_or(|known| !known.stored || known.halt != halt) {
                self.changes += 1;
                self.known.insert(halt.partition, Known { halt, stored: true });
            }
        }
    }

    /// Takes over all that PostgreSQL holds, as it was asked after `mark`. What is not stored there any more was resumed; an
    /// answer from before a change of our own is dropped, since the next one is not.
    pub fn follow(&mut self, mark: Mark, stored: Vec<Halt>) {
        if mark != self.mark() {
            return;
        }
        let there: BTreeSet<Partition> = stored.iter().map(|halt| halt.partition).collect();
        let before = self.known.len();
        self.known.retain(|partition, known| !known.stored || there.contains(partition));
        if self.known.len() != before {
            self.changes += 1;
        }
        self.found(stored);
    }

    /// The halts that PostgreSQL does not have yet.
    pub fn unstored(&self) -> Vec<Halt> {
        self.known.values().filter(|known| !known.stored).map(|known| known.halt.clone()).collect()
    }

    /// This one is stored now.
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
    use crate::position::NextOffset;

    fn halt(partition: i32, code: &str) -> Halt {
        let (partition, offset) = (Partition(partition), NextOffset(7));
        Halt { partition, code: code.into(), offset, epoch: 1, message: String::new() }
    }

    fn partitions(halts: &Halts) -> Vec<i32> {
        halts.all().map(|halt| halt.partition.0).collect()
    }

    #[test]
    fn a_halt_is_stored_and_ends_when_it_is_gone_there() {
        let mut halts = Halts::default();
        assert!(halts.begin(halt(3, "a")));
        assert!(!halts.begin(halt(3, "b")), "the first cause counts");
        // Not stored yet: that it is not there means nothing.
        halts.follow(halts.mark(), vec![]);
        assert_eq!((partitions(&halts), halts.unstored().len()), (vec![3], 1));
        halts.stored(Partition(3));
        halts.follow(halts.mark(), vec![halt(3, "a")]);
        assert_eq!((partitions(&halts), halts.unstored().len()), (vec![3], 0));
        let before = halts.mark();
        halts.follow(halts.mark(), vec![]);
        assert_eq!(partitions(&halts), [0; 0]);
        assert_ne!(halts.mark(), before, "the poll thread looks again");
    }

    #[test]
    fn other_members_halts_are_known_too() {
        let mut halts = Halts::default();
        halts.follow(halts.mark(), vec![halt(1, "a"), halt(2, "b")]);
        assert_eq!(partitions(&halts), [1, 2]);
        let mark = halts.mark();
        halts.follow(mark, vec![halt(1, "a"), halt(2, "b")]);
        assert_eq!(halts.mark(), mark, "nothing is new");
    }

    #[test]
    fn an_answer_from_before_a_change_is_dropped() {
        let mut halts = Halts::default();
        let asked = halts.mark();
        // A takeover finds a halt that was stored after the keeper had asked.
        halts.found(vec![halt(1, "a")]);
        halts.follow(asked, vec![]);
        assert_eq!(partitions(&halts), [1]);
    }
}
