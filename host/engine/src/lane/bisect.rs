//! Finds the event whose row PostgreSQL rejects after it rejected a batch.

use std::collections::BTreeSet;
use std::time::Duration;

use super::transaction::apply_rows;
use super::wait::{BEGIN, execute, patient};
use super::{Current, Error, Lane};
use crate::hazards::{Place, hazards};
use crate::position::Partition;
use crate::progress::store;
use crate::sinks::postgres::connect;
use tollgate_config::error::Class;
use tollgate_decide::dead_letter::{Reason, Stage};
use tollgate_decide::verdict::Verdict;

/// Halves a rejected part until one item is left. With one rejected item among n, it makes at most 2·log2 n + 1
/// queries, and never more than 2·n.
struct Halving {
    open: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    things: Vec<usize>,
    /// Whether it is the first half of a rejected part. If it is accepted, the other half is rejected.
    first: bool,
    /// Whether it is known to be rejected and has more than one item, so that a query would be redundant.
    refused: bool,
}

impl Halving {
    fn new(things: Vec<usize>) -> Halving {
        Halving { open: vec![Part { things, first: false, refused: false }] }
    }

    /// Returns the part to query next; the caller reports the answer with one of the other two methods.
    fn next(&mut self) -> Option<Part> {
        loop {
            let part = self.open.pop()?;
            match part.things.len() {
                0 => {}
                // A single item is queried even if it is known to be rejected, because the answer has the reason.
                1 => return Some(part),
                _ if part.refused => self.split(part),
                _ => return Some(part),
            }
        }
    }

    fn taken(&mut self, part: &Part) {
        if part.first
            && let Some(other) = self.open.last_mut()
        {
            other.refused = true;
        }
    }

    /// Returns the rejected item if the part has only one.
    fn refused(&mut self, part: Part) -> Option<usize> {
        if let [single] = part.things[..] {
            return Some(single);
        }
        self.split(part);
        None
    }

    fn split(&mut self, part: Part) {
        let (left, right) = part.things.split_at(part.things.len() / 2);
        self.open.push(Part { things: right.to_vec(), first: false, refused: false });
        self.open.push(Part { things: left.to_vec(), first: true, refused: false });
    }
}

impl Lane {
    /// Returns whether to search for the rows that PostgreSQL rejected with this error. The search begins immediately
    /// if the data is at fault. It begins after `max_retries` more attempts if the server may be at fault, or if the
    /// configuration says that time may help.
    pub(super) fn searches(&self, current: &Current<'_>, error: &Error) -> bool {
        let tried = current.tried >= self.pipeline.retry.max_retries;
        matches!(error, Error::Postgres(_))
            && match error.class() {
                Class::Poison => tried || self.window(error).is_none(),
                Class::Unknown => tried,
                Class::Transient | Class::Fatal => false,
            }
    }

    /// Returns how long to retry a batch that was rejected with this error, if the configuration sets a window.
    pub(super) fn window(&self, error: &Error) -> Option<Duration> {
        let Error::Postgres(error) = error else { return None };
        let retry = &self.pipeline.retry;
        match error.as_database_error()?.code().as_deref() {
            Some("23503") => retry.foreign_key_window,
            Some("23505") => retry.unique_window,
            _ => None,
        }
    }

    /// Finds the events whose rows PostgreSQL rejects, in a transaction that is always rolled back.
    /// Returns how many it found.
    pub(super) fn bisect(&mut self, current: &Current<'_>) -> Result<usize, Error> {
        let found = self.search(current);
        if let Err(error) = &found {
            // The scratch transaction must not outlive this: the next BEGIN would continue inside it.
            if matches!(error, Error::Timeout) {
                self.connection = None;
            }
            self.abort_both();
        }
        found
    }

    fn search(&mut self, current: &Current<'_>) -> Result<usize, Error> {
        // The batch was dropped, and so was the connection if it broke.
        self.resync()?;
        let candidates: Vec<usize> = (0..self.decided.decisions.len())
            .filter(|index| self.decided.decisions[*index].verdict.has_effects())
            .collect();
        self.scratch(BEGIN)?;
        self.lock(current)?;
        hazards().pass(Place::Searching);
        let (mut halving, mut found) = (Halving::new(candidates), 0);
        while let Some(part) = halving.next() {
            self.scratch("SAVEPOINT part")?;
            let Err(refusal) = self.probe(current, &part.things) else {
                // Keep the accepted part: a row may be rejected only because of an earlier row.
                self.scratch("RELEASE SAVEPOINT part")?;
                halving.taken(&part);
                continue;
            };
            if !self.searches(current, &refusal) {
                return Err(refusal);
            }
            self.scratch("ROLLBACK TO SAVEPOINT part")?;
            if let Some(single) = halving.refused(part) {
                if self.lacking(&refusal)?.is_some() {
                    return Err(refusal);
                }
                let reason = refused(&refusal, current.tried);
                tracing::warn!(error = %refusal, "PostgreSQL rejected the row of an event");
                self.decided.decisions[single].verdict = Verdict::Dead(reason);
                found += 1;
            }
        }
        self.scratch("ROLLBACK")?;
        self.write_rows(current);
        Ok(found)
    }

    fn scratch(&mut self, statement: &'static str) -> Result<(), Error> {
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        patient(&self.runtime, execute(connection, statement))
    }

    /// Locks the progress rows, so that a takeover can find the scratch transaction, which locks rows of the table.
    fn lock(&mut self, current: &Current<'_>) -> Result<(), Error> {
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let records = self.decided.decisions.iter().map(|decision| current.batch.records[decision.record].partition);
        let partitions: Vec<Partition> = records.collect::<BTreeSet<_>>().into_iter().collect();
        let owner = &self.owner;
        patient(&self.runtime, async { Ok(store::lock(connection, owner, &partitions).await?) })
    }

    fn probe(&mut self, current: &Current<'_>, part: &[usize]) -> Result<(), Error> {
        let records: BTreeSet<usize> = part.iter().map(|index| self.decided.decisions[*index].record).collect();
        let coordinates: BTreeSet<_> = records
            .iter()
            .map(|index| (current.batch.records[*index].partition, current.batch.records[*index].offset))
            .collect();
        self.decided.rows(&self.gate, &current.revision, current.batch(&[]), |record| {
            coordinates.contains(&(record.partition, record.offset))
        });
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let gate = &self.gate;
        patient(&self.runtime, async { Ok(apply_rows(connection, gate, &self.decided.rows).await?) })?;
        Ok(())
    }
}

/// Returns why the row of one event was rejected, with the number of attempts if only they showed that the row is at
/// fault.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn refused(refusal: &Error, tried: u32) -> Box<Reason> {
    let said = match refusal {
        Error::Postgres(error) => connect::describe_row(error),
        other => other.to_string(),
    };
    let message = match tried {
        0 => said,
        tried => format!("{said}; rejected {} times with its batch, then alone", tried.saturating_add(1)),
    };
    Reason::new(Stage::Sink, "row-refused", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what is found among `count` items, and how many queries that took. `refuses` gets a part, and the items
    /// accepted before it.
    fn found(count: usize, refuses: impl Fn(&[usize], &[usize]) -> bool) -> (Vec<usize>, usize) {
        let (mut halving, mut kept, mut found, mut asked) = (Halving::new((0..count).collect()), vec![], vec![], 0);
        while let Some(part) = halving.next() {
            asked += 1;
            if refuses(&part.things, &kept) {
                found.extend(halving.refused(part));
            } else {
                halving.taken(&part);
                kept.extend(part.things);
            }
        }
        kept.extend(&found);
        kept.sort_unstable();
        assert_eq!(kept, (0..count).collect::<Vec<_>>(), "each is taken or found, once");
        (found, asked)
    }

    fn log2(count: usize) -> usize {
        usize::try_from(count.next_power_of_two().trailing_zeros()).unwrap()
    }

    #[test]
    fn one_bad_row_takes_two_log_n_statements_and_one() {
        for count in (1..=260).chain([1_000, 4_095, 4_096, 16_000]) {
            for bad in (0..count).step_by(1 + count / 97).chain([count - 1]) {
                let (found, asked) = found(count, |part, _| part.contains(&bad));
                assert_eq!(found, [bad]);
                assert!(asked <= 2 * log2(count) + 1, "{asked} for {bad} of {count}");
            }
        }
        assert_eq!(found(4_096, |part, _| part.contains(&0)).1, 2 * 12 + 1, "the bound is met");
    }

    #[test]
    fn what_is_refused_only_beside_another_is_the_later_one() {
        let (found, _) = found(100, |part, kept| {
            let has = |thing| part.contains(&thing) || kept.contains(&thing);
            has(7) && has(80)
        });
        assert_eq!(found, [80]);
    }

    #[test]
    fn nothing_is_found_where_everything_is_taken() {
        assert_eq!(found(100, |_, _| false), (vec![], 1));
        assert_eq!(found(0, |_, _| true), (vec![], 0));
        // This batch is rejected only for its size.
        assert_eq!(found(100, |part, _| part.len() > 30).0, Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn any_bad_rows_are_found_and_no_others(bad in proptest::collection::btree_set(0_usize..300, 0..300)) {
            let (found, asked) = found(300, |part, _| part.iter().any(|thing| bad.contains(thing)));
            prop_assert_eq!(found, bad.iter().copied().collect::<Vec<_>>());
            prop_assert!(asked <= 2 * 300);
        }
    }
}
