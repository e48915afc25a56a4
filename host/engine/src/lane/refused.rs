//! Finds the events whose outputs Kafka rejects although they passed all checks against their topics.

use std::collections::BTreeMap;

use super::{Current, Error, Lane, transaction::Scope};
use crate::brakes::halt::code;
use crate::sinks::kafka::{self, Refusal};
use tollgate_decide::batch::Record;
use tollgate_decide::dead_letter::{Reason, Stage};
use tollgate_decide::verdict::Verdict;

/// The factor by which a set that was rejected as too large is reduced. In the end each record is sent alone.
const SMALLER: usize = 4;

impl Lane {
    /// Handles an attempt that Kafka rejected for its content. The events of the named records become dead letters; if
    /// none was named, records go out in smaller sets, or alone. Then the batch can be retried.
    ///
    /// # Errors
    /// Returns [`Error::Halt`] if a record can neither be left out nor decided again, and otherwise the errors of
    /// `resync`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    pub(super) fn refused(&mut self, current: &Current<'_>, error: kafka::Error) -> Result<(), Error> {
        match error {
            kafka::Error::Records(refusals) => self.dismiss(current, refusals)?,
            kafka::Error::Set { size: true, .. } if self.sizes.batch > 1 => {
                self.sizes.batch = (self.sizes.batch / SMALLER).max(1);
                tracing::warn!(%error, bytes = self.sizes.batch, "records are sent in smaller sets from now on");
            }
            // The answer to a record that is sent alone refers to that record.
            kafka::Error::Set { .. } if !self.alone => self.alone = true,
            other => return Err(other.into()),
        }
        self.resync()?;
        self.write_rows(current);
        Ok(())
    }

    fn dismiss(&mut self, current: &Current<'_>, refusals: Vec<Refusal>) -> Result<(), Error> {
        let mut refused: BTreeMap<usize, Refusal> = BTreeMap::new();
        for refusal in refusals {
            refused.entry(refusal.mark).or_insert(refusal);
        }
        let scope = Scope { gate: &self.gate, current, partitions: &self.partitions };
        let (records, mut found) = (&current.batch.records, 0);
        for decision in &mut self.decided.decisions {
            let record = &records[decision.record];
            // A decision whose row is committed stays as it is.
            if !scope.lacks_rows(record) {
                continue;
            }
            let Some(refusal) = refused.remove(&decision.record) else { continue };
            if matches!(decision.verdict, Verdict::Dead(_)) {
                let source = source(&self.pipeline.source.topic, record);
                let message = format!(
                    "topic {} (dead_letter.topic) rejects the dead letter of {source}: {}; fix its settings \
                     (max.message.bytes, cleanup.policy) and restart, since they are read at startup",
                    refusal.topic, refusal.why
                );
                return Err(self.halt(record.partition, code::DEAD_LETTER_REFUSED, message));
            }
            found += 1;
            if found == 1 {
                tracing::warn!(error = %refusal, "Kafka rejected outputs, this one first");
            }
            let message = format!("topic {} rejected the output: {}", refusal.topic, refusal.why);
            decision.verdict = Verdict::Dead(Reason::new(Stage::Output, "output-refused", message));
        }
        let Some((index, refusal)) = refused.pop_first() else { return Ok(()) };
        let source = source(&self.pipeline.source.topic, &records[index]);
        let message = format!(
            "topic {} rejects the output of {source}, whose row is already committed: {}; let the topic accept it \
             (max.message.bytes, cleanup.policy) and restart",
            refusal.topic, refusal.why
        );
        Err(self.halt(records[index].partition, code::OUTPUT_REFUSED, message))
    }
}

fn source(topic: &str, record: &Record) -> String {
    format!("{topic}/{}/{}", record.partition, record.offset)
}
