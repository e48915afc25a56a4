//! Decides how far a partition's effects reach, and where its owner continues. The functions have no I/O, no clock and
//! no state. The engine executes their decisions, and the model in tests/model explores every order of events with the
//! same functions.
//!
//! # Background
//!
//! Every batch of a partition, a range `[lo, hi)` of offsets, has effects on two sides: rows in PostgreSQL, and outputs
//! and dead letters in Kafka. Each side keeps its own next offset in the same transaction as its effects: D (`next_off`
//! of the progress row) and K (what the consumer group committed). PostgreSQL's commit is the decision; Kafka's
//! transaction is prepared before it and concluded after it, so D ≥ K, and both are equal or one batch apart.
//!
//! # The number and the token
//!
//! Offsets alone do not show who wrote them: K beyond D may mean that PostgreSQL has lost commits, or that an operator
//! has reset the group's offsets. So the commits of a partition are numbered. The row stores the number of the last
//! one, and the committed offset carries it in a [token](token). An offset without our token was written by another
//! client.
//!
//! # Takeover
//!
//! A new owner waits until K is stable, reads K and the row, and decides. If it would halt, it changes nothing.
//! Otherwise it raises the row's epoch (an older owner's commit then matches no row), reads the row again, and decides
//! again. `N` is the row's number, `M` that of K's token:
//!
//! | found | meaning | what happens |
//! |---|---|---|
//! | neither | first start | the start policy |
//! | M = N, K = D | nothing is open | continue |
//! | M = N − 1, prev ≤ K ≤ D | it crashed between the two commits | repeat `[K, D)` to Kafka only |
//! | M > N, K ≥ D | PostgreSQL lost commits (a failover) | repeat `[D, K)` to PostgreSQL only |
//! | any other M | the group's offsets were moved | halt |
//! | K, no token | another client committed | halt |
//! | K, another pipeline's or cluster's token | another pipeline uses the group too | halt |
//! | K, a token of another offset | a tool copied the token | halt |
//! | K, no D | Tollgate's tables are new | halt |
//! | D, no K | the group's offsets are gone | halt |
//!
//! Three cases need no token; one is committed before the first batch:
//!
//! - `start: committed`, and there is no row yet: K is adopted ([`adopt`]).
//! - The row, or its last owner, is of a release without tokens ([`Last::Unknown`]). Only K and D are compared: `prev ≤
//!   K` is required, and K > D is treated as a failover.
//! - The last delivery was `at_least_once` ([`Last::AtLeastOnce`]): the row counts, and K was a hint.
//!
//! `tollgate offsets adopt` is the fourth way: it writes a new row and token.
//!
//! A repeat to Kafka is not decided again. The transaction that moves D stores the batch's redo plan in the same row
//! (`host/engine/src/progress/plan.rs`), and `[K, D)` is produced from it: rows and outputs agree whatever has been
//! swapped since. A repeat to PostgreSQL is decided by the current revision, after its outputs were published.

pub mod adoption;
mod halt;
pub mod position;
mod resume;
mod takeover;
pub mod token;

pub use halt::Halt;
pub use resume::{CommitNumbers, Position, Resume};
pub use takeover::{Last, Place, Row, Takeover, adopt, concluded, same_place, takeover, takeover_at_least_once};

use position::{Epoch, NextOffset};

/// The information that a lane gains from the progress row of a partition that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowStatus {
    /// Rows reach this far: a commit whose reply was lost has moved the row, or has not.
    At(NextOffset),
    /// The row went back to this offset: PostgreSQL has lost commits. Only a takeover knows what to repeat.
    WentBack(NextOffset),
    /// Another owner has raised the epoch.
    Fenced,
}

/// Interprets the row's epoch and next offset, as found, for a lane that holds the partition at `epoch` and left it at
/// `at`.
pub fn row_status(epoch: Epoch, at: NextOffset, found: Option<(Epoch, NextOffset)>) -> RowStatus {
    match found {
        Some((now, next)) if now == epoch && next >= at => RowStatus::At(next),
        Some((now, next)) if now == epoch => RowStatus::WentBack(next),
        _ => RowStatus::Fenced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_row() {
        let at = |next| Some((Epoch::new(7), NextOffset::new(next)));
        assert_eq!(row_status(Epoch::new(7), NextOffset::new(20), at(20)), RowStatus::At(NextOffset::new(20)));
        assert_eq!(row_status(Epoch::new(7), NextOffset::new(20), at(30)), RowStatus::At(NextOffset::new(30)));
        assert_eq!(row_status(Epoch::new(7), NextOffset::new(20), at(10)), RowStatus::WentBack(NextOffset::new(10)));
        assert_eq!(row_status(Epoch::new(6), NextOffset::new(20), at(20)), RowStatus::Fenced);
        assert_eq!(row_status(Epoch::new(7), NextOffset::new(20), None), RowStatus::Fenced);
    }
}
