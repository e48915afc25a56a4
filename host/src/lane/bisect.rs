//! Which event's row PostgreSQL refuses, when it refused a batch.

use std::collections::BTreeSet;

use super::commit::{BEGIN, apply, execute, patient};
use super::decide::Verdict;
use super::{Carried, Error, Lane};
use crate::error::Class;
use crate::sinks::dead_letter::{Reason, Stage};
use crate::sinks::postgres::connect;

impl Lane {
    /// Finds the events whose rows PostgreSQL refuses, in a transaction that is rolled back whatever comes of it.
    /// Halves the batch where it fails: about 2·log2 n statements for one bad row in n. Returns how many it found.
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
            .filter(|index| matches!(self.decided.decisions[*index].verdict, Verdict::Outputs(_) | Verdict::Delete))
            .collect();
        self.scratch(BEGIN)?;
        let mut open = vec![candidates];
        let mut found = 0;
        while let Some(part) = open.pop() {
            if part.is_empty() {
                continue;
            }
            self.scratch("SAVEPOINT part")?;
            let Err(refusal) = self.probe(carried, &part) else {
                // Kept: what is refused only beside an earlier row must meet that row.
                self.scratch("RELEASE SAVEPOINT part")?;
                continue;
            };
            self.scratch("ROLLBACK TO SAVEPOINT part")?;
            if refusal.class() != Class::Poison {
                return Err(refusal);
            }
            if let [single] = part[..] {
                let message = match &refusal {
                    Error::Postgres(error) => connect::describe_row(error),
                    other => other.to_string(),
                };
                tracing::warn!(error = %refusal, "PostgreSQL refused the row of one event");
                let reason = Reason::new(Stage::Sink, "row-refused", message);
                self.decided.decisions[single].verdict = Verdict::Dead(reason);
                found += 1;
            } else {
                let (left, right) = part.split_at(part.len() / 2);
                open.push(right.to_vec());
                open.push(left.to_vec());
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

    fn probe(&mut self, carried: &Carried<'_>, part: &[usize]) -> Result<(), Error> {
        let records: BTreeSet<usize> = part.iter().map(|index| self.decided.decisions[*index].record).collect();
        let coordinates: BTreeSet<_> = records
            .iter()
            .map(|index| (carried.batch.records[*index].partition, carried.batch.records[*index].offset))
            .collect();
        self.decided.rows(&self.shared.gate, &carried.revision, carried.batch, carried.time, |record| {
            coordinates.contains(&(record.partition, record.offset))
        });
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let gate = &self.shared.gate;
        patient(&self.runtime, async { Ok(apply(connection, gate, &self.decided.rows).await?) })?;
        Ok(())
    }
}
