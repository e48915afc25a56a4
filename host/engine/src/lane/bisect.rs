//! Which event's row PostgreSQL refuses, when it refused a batch.

use std::collections::BTreeSet;
use std::time::Duration;

use super::commit::apply;
use super::wait::{BEGIN, execute, patient};
use super::{Carried, Error, Lane};
use crate::hazards::{Place, hazards};
use crate::position::Partition;
use crate::progress::store;
use crate::sinks::postgres::connect;
use tollgate_config::error::Class;
use tollgate_decide::dead_letter::{Reason, Stage};
use tollgate_decide::verdict::Verdict;

/// Halves what is refused until it is alone. Of n things of which one is refused, at most 2·log2 n + 1 are asked about,
/// and never more than 2·n whatever is refused.
struct Halving {
    open: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    things: Vec<usize>,
    /// The first half of something refused: if it is taken, the other half is what was refused.
    first: bool,
    /// It is refused for certain, and more than one: asking would be a waste.
    refused: bool,
}

impl Halving {
    fn new(things: Vec<usize>) -> Halving {
        Halving { open: vec![Part { things, first: false, refused: false }] }
    }

    /// What to ask about next; to be answered by one of the other two.
    fn next(&mut self) -> Option<Part> {
        loop {
            let part = self.open.pop()?;
            match part.things.len() {
                0 => {}
                // Alone it is asked about even so: the answer says why.
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

    /// Returns the one that it is, if it is one.
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
    /// Whether the rows that PostgreSQL refused with this are to be looked for: at once where the data is to blame, after
    /// `max_retries` more attempts where it may be the server, or where the configuration says that time may help.
    pub(super) fn searches(&self, carried: &Carried<'_>, error: &Error) -> bool {
        let tried = carried.tried >= self.pipeline.retry.max_retries;
        matches!(error, Error::Postgres(_))
            && match error.class() {
                Class::Poison => tried || self.window(error).is_none(),
                Class::Unknown => tried,
                Class::Transient | Class::Fatal => false,
            }
    }

    /// Over what time a batch is tried again that was refused with this, where the configuration says so.
    pub(super) fn window(&self, error: &Error) -> Option<Duration> {
        let Error::Postgres(error) = error else { return None };
        let retry = &self.pipeline.retry;
        match error.as_database_error()?.code().as_deref() {
            Some("23503") => retry.foreign_key_window,
            Some("23505") => retry.unique_window,
            _ => None,
        }
    }

    /// Finds the events whose rows PostgreSQL refuses, in a transaction that is rolled back whatever comes of it.
    /// Returns how many it found.
    pub(super) fn bisect(&mut self, carried: &Carried<'_>) -> Result<usize, Error> {
        let found = self.search(carried);
        if let Err(error) = &found {
            // The scratch transaction must not outlive this: the next BEGIN would go on inside it.
            if matches!(error, Error::Silent) {
                self.connection = None;
            }
            self.give_up();
        }
        found
    }

    fn search(&mut self, carried: &Carried<'_>) -> Result<usize, Error> {
        // The batch was given up, the connection with it if it broke.
        self.resync()?;
        let candidates: Vec<usize> = (0..self.decided.decisions.len())
            .filter(|index| self.decided.decisions[*index].verdict.has_effects())
            .collect();
        self.scratch(BEGIN)?;
        self.lock(carried)?;
        hazards().pass(Place::Searching);
        let (mut halving, mut found) = (Halving::new(candidates), 0);
        while let Some(part) = halving.next() {
            self.scratch("SAVEPOINT part")?;
            let Err(refusal) = self.probe(carried, &part.things) else {
                // Kept: what is refused only beside an earlier row must meet that row.
                self.scratch("RELEASE SAVEPOINT part")?;
                halving.taken(&part);
                continue;
            };
            if !self.searches(carried, &refusal) {
                return Err(refusal);
            }
            self.scratch("ROLLBACK TO SAVEPOINT part")?;
            if let Some(single) = halving.refused(part) {
                if self.lacking(&refusal)?.is_some() {
                    return Err(refusal);
                }
                let reason = refused(&refusal, carried.tried);
                tracing::warn!(error = %refusal, "PostgreSQL refused the row of one event");
                self.decided.decisions[single].verdict = Verdict::Dead(reason);
                found += 1;
            }
        }
        self.scratch("ROLLBACK")?;
        self.write_rows(carried);
        Ok(found)
    }

    fn scratch(&mut self, statement: &'static str) -> Result<(), Error> {
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        patient(&self.runtime, execute(connection, statement))
    }

    /// The scratch transaction locks rows of the table, so a takeover must be able to find it.
    fn lock(&mut self, carried: &Carried<'_>) -> Result<(), Error> {
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let records = self.decided.decisions.iter().map(|decision| carried.batch.records[decision.record].partition);
        let partitions: Vec<Partition> = records.collect::<BTreeSet<_>>().into_iter().collect();
        let owner = &self.owner;
        patient(&self.runtime, async { Ok(store::lock(connection, owner, &partitions).await?) })
    }

    fn probe(&mut self, carried: &Carried<'_>, part: &[usize]) -> Result<(), Error> {
        let records: BTreeSet<usize> = part.iter().map(|index| self.decided.decisions[*index].record).collect();
        let coordinates: BTreeSet<_> = records
            .iter()
            .map(|index| (carried.batch.records[*index].partition, carried.batch.records[*index].offset))
            .collect();
        self.decided.rows(&self.gate, &carried.revision, carried.batch, carried.time, |record| {
            coordinates.contains(&(record.partition, record.offset))
        });
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let gate = &self.gate;
        patient(&self.runtime, async { Ok(apply(connection, gate, &self.decided.rows).await?) })?;
        Ok(())
    }
}

/// Why the row of one event was refused; with how often it was tried, where that told that it is the row.
fn refused(refusal: &Error, tried: u32) -> Box<Reason> {
    let said = match refusal {
        Error::Postgres(error) => connect::describe_row(error),
        other => other.to_string(),
    };
    let message = match tried {
        0 => said,
        tried => format!("{said}; refused {} times with its batch, then alone", tried.saturating_add(1)),
    };
    Reason::new(Stage::Sink, "row-refused", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is found among so many things, and how many questions that took. `refuses` is given a part, and what was taken
    /// before it.
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
        // A batch that is refused for its size alone.
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
