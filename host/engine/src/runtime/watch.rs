//! Detects a partition that has lag but no commits, whatever the reason: a stalled fetch does not report itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::position::{NextOffset, Partition};

/// The position of each partition, and since when it has not moved.
#[derive(Debug, Default)]
pub struct Watch(BTreeMap<Partition, (NextOffset, Instant)>);

impl Watch {
    /// Records a partition's position and its lag behind the committed offset. Returns for how long it has had lag
    /// without a commit; zero if it has no lag.
    pub fn look(&mut self, partition: Partition, next: NextOffset, lag: i64, now: Instant) -> Duration {
        let (seen, since) = self.0.entry(partition).or_insert((next, now));
        if *seen != next || lag == 0 {
            (*seen, *since) = (next, now);
        }
        now - *since
    }

    /// Forgets all other partitions.
    pub fn keep(&mut self, partitions: &BTreeSet<Partition>) {
        self.0.retain(|partition, _| partitions.contains(partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_without_a_commit_is_counted_from_the_last_commit_on() {
        let (mut watch, began) = (Watch::default(), Instant::now());
        let mut look = |next, lag, seconds| {
            watch.look(Partition::new(0), NextOffset::new(next), lag, began + Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!(look(5, 0, 0), 0);
        assert_eq!(look(5, 0, 100), 0, "no lag");
        assert_eq!(look(5, 3, 105), 5, "it came after the last look");
        assert_eq!(look(6, 2, 110), 0, "one got through");
        assert_eq!(look(6, 2, 200), 90);
        assert_eq!(look(8, 0, 201), 0);
        watch.keep(&BTreeSet::new());
        assert_eq!(
            watch.look(Partition::new(0), NextOffset::new(8), 1, began + Duration::from_secs(999)),
            Duration::ZERO
        );
    }
}
