//! Events of a batch that were interrupted at their deadline, and how often.
//!
//! The sandbox runs an event alone before it reports an interruption, and reports whether the event's own thread used
//! up the deadline in CPU time. After `retry_policy.max_retries` such interruptions the event fails; until then the
//! batch is run again. An interruption on a machine that was merely busy is not counted.

use std::collections::BTreeMap;

use tollgate_sandbox::{Overdue, RunError};

use crate::position::Partition;

/// The number of interruptions by partition, place in the chain, and offset.
#[derive(Debug, Default)]
pub(super) struct Overdues(BTreeMap<(i32, usize, i64), u32>);

impl Overdues {
    /// Counts an interruption whose CPU time was used up. Returns how many there have been, or `None` for any other
    /// error.
    pub(super) fn count(&mut self, error: &RunError) -> Option<u32> {
        let RunError::Interrupted { place, partition, offset, cpu_spent: true, .. } = *error else { return None };
        let times = self.0.entry((partition, place, offset)).or_default();
        *times = times.saturating_add(1);
        Some(*times)
    }

    /// Returns what to pass to the sandbox about each partition's events.
    pub(super) fn by_partition(&self, max_retries: u32) -> BTreeMap<Partition, Vec<Overdue>> {
        let mut found: BTreeMap<Partition, Vec<Overdue>> = BTreeMap::new();
        for (&(partition, transform, offset), &times) in &self.0 {
            // An event is interrupted at least once before it fails.
            let overdue = Overdue { transform, offset, fails: times >= max_retries.max(1) };
            found.entry(Partition::new(partition)).or_default().push(overdue);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupted(partition: i32, offset: i64, cpu_spent: bool) -> RunError {
        RunError::Interrupted { transform: "rules".into(), place: 1, partition, offset, cpu_spent }
    }

    fn of(overdue: &Overdues, partition: i32, max_retries: u32) -> Vec<Overdue> {
        overdue.by_partition(max_retries).remove(&Partition::new(partition)).unwrap_or_default()
    }

    #[test]
    fn an_event_fails_after_max_retries_interruptions_that_used_their_time() {
        let mut overdue = Overdues::default();
        for times in 1..=3 {
            assert!(of(&overdue, 4, 3).iter().all(|known| !known.fails));
            assert_eq!(overdue.count(&interrupted(4, 17, true)), Some(times));
        }
        assert_eq!(of(&overdue, 4, 3), [Overdue { transform: 1, offset: 17, fails: true }]);
        assert_eq!(of(&overdue, 5, 3), [], "another partition's");
        overdue.count(&interrupted(4, 18, true));
        assert_eq!(of(&overdue, 4, 3).iter().map(|known| known.fails).collect::<Vec<_>>(), [true, false]);
        assert!(of(&overdue, 4, 0).iter().all(|known| known.fails), "without retries the first one counts");
    }

    #[test]
    fn a_busy_machine_counts_for_nothing() {
        let mut overdue = Overdues::default();
        assert_eq!(overdue.count(&interrupted(4, 17, false)), None);
        assert_eq!(overdue.count(&RunError::PoolExhausted { transform: "rules".into() }), None);
        assert_eq!(of(&overdue, 4, 0), []);
    }
}
