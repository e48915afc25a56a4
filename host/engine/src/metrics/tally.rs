//! Totals for the summary in the log: the values that Prometheus counts by label, in a readable form.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::position::Partition;

/// The totals of a process since startup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub events: u64,
    pub rows: u64,
    pub outputs: u64,
    /// The number of dead letters by reason, with the same limit as the metric's labels.
    pub dead_letters: BTreeMap<String, u64>,
    /// The last measured lag of this process's partitions.
    pub lag: BTreeMap<Partition, i64>,
}

#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<Tally>);

impl Tallies {
    pub(super) fn change(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn now(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
