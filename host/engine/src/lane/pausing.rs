//! Batches that are decided but not committed, because the pipeline pauses instead.

use std::collections::BTreeMap;

use tollgate_contract::Mode;

use super::wait::patient;
use super::{Current, Error, Lane};
use crate::position::{Offset, Partition};
use crate::progress::halts::{self, Pause};
use crate::sinks::postgres::cause;
use tollgate_decide::batch::Record;
use tollgate_decide::dead_letter::{Reason, Stage};
use tollgate_decide::verdict::Verdict;

impl Lane {
    /// Checks `dead_letter.limit`: a batch that crosses it is not committed.
    pub(super) fn within_limit(&mut self, current: &Current<'_>) -> Result<(), Error> {
        let dead = self.decided.decisions.iter().filter(|decision| matches!(decision.verdict, Verdict::Dead(_)));
        let (total, dead) = (self.decided.decisions.len(), dead.count());
        let Some(crossed) = self.brakes.limit.crossed(total, dead) else { return Ok(()) };
        let reason = format!("{crossed}{}", self.commonest(current));
        self.pause(current, Pause { code: halts::LIMIT.to_owned(), event: None, reason })
    }

    /// Checks `contract.mode: halt`: a batch with an event that violates the contract is not committed, unless an
    /// operator has resumed after that event.
    pub(super) fn takes_all(&mut self, current: &Current<'_>) -> Result<(), Error> {
        if self.pipeline.contract.policies.mode != Mode::Halt {
            return Ok(());
        }
        let refused = self.decided.decisions.iter().find_map(|decision| {
            let Verdict::Dead(reason) = &decision.verdict else { return None };
            let Record { partition, offset, .. } = current.batch.records[decision.record];
            let halts = reason.stage == Stage::Contract && !self.brakes.is_acknowledged(partition, offset);
            halts.then(|| Pause {
                code: reason.code.to_string(),
                event: Some((partition, offset)),
                reason: words(&self.pipeline.source.topic, partition, offset, reason),
            })
        });
        refused.map_or(Ok(()), |pause| self.pause(current, pause))
    }

    /// Pauses, instead of dead-lettering every event, if PostgreSQL rejects a batch because the table lacks something.
    pub(super) fn lacks_nothing(&mut self, current: &Current<'_>, error: &Error) -> Result<(), Error> {
        match self.lacking(error)? {
            None => Ok(()),
            Some(cause) => {
                let reason =
                    format!("{cause}; nothing of the batch has been written or produced; then `tollgate resume`");
                self.pause(current, Pause { code: halts::TABLE.to_owned(), event: None, reason })
            }
        }
    }

    /// Returns what the table lacks if that is why PostgreSQL rejects its rows. Call it outside of a failed
    /// transaction.
    pub(super) fn lacking(&mut self, error: &Error) -> Result<Option<String>, Error> {
        let Error::Postgres(error) = error else { return Ok(None) };
        let found = cause::of(error);
        let (None, Some(doubt)) = (&found, cause::doubt(error)) else { return Ok(found) };
        let Some(connection) = self.connection.as_mut() else { return Ok(None) };
        for mapping in self.pipeline.destinations().filter_map(|to| to.mapping()) {
            let asked = async { Ok(doubt.ask(connection, mapping).await?) };
            if let Some(found) = patient(&self.runtime, asked)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Pauses the pipeline for all members. Returns [`Error::Paused`], or why the pause could not be stored.
    pub(super) fn pause(&mut self, current: &Current<'_>, pause: Pause) -> Result<(), Error> {
        if let Some(connection) = self.connection.as_mut() {
            let name = &self.pipeline.name;
            let digest = &current.revision.digest;
            let store = async { Ok(halts::pause(connection, name, &pause, digest).await?) };
            if let Err(error) = patient(&self.runtime, store) {
                self.connection = None;
                self.rows_in_doubt = true;
                return Err(error);
            }
        }
        self.brakes.pause(pause.clone());
        Err(Error::Paused(pause.reason))
    }

    /// Returns the most common reason of a batch's dead letters, with an example: they are not written, so they cannot
    /// be inspected.
    fn commonest(&self, current: &Current<'_>) -> String {
        let mut counts: BTreeMap<&str, (usize, String)> = BTreeMap::new();
        for decision in &self.decided.decisions {
            let Verdict::Dead(reason) = &decision.verdict else { continue };
            let (count, _) = counts.entry(&reason.code).or_insert_with(|| {
                let record = &current.batch.records[decision.record];
                let topic = &self.pipeline.source.topic;
                (0, format!("{topic}/{}/{}: {}", record.partition, record.offset, reason.message))
            });
            *count += 1;
        }
        let commonest = counts.iter().max_by_key(|(_, (count, _))| *count);
        commonest.map_or_else(String::new, |(code, (count, example))| {
            format!("; {count} now for {code}, for example {example}")
        })
    }
}

/// Describes why the contract's mode pauses the pipeline. Members of the previous release parse the coordinates at the
/// start of the text.
fn words(topic: &str, partition: Partition, offset: Offset, reason: &Reason) -> String {
    let Reason { code, field, message, .. } = reason;
    let place = if field.is_empty() { String::new() } else { format!(" in {field}") };
    format!(
        "halted at {topic}/{partition}/{offset}: {code}{place}: {message} (contract.mode: halt); nothing of its batch has \
         been written or produced; `tollgate resume` dead-letters this event and continues with the next, or restart with a \
         contract that accepts it"
    )
}
