//! The offset that a lane commits for the group before its first batch of a partition.

use super::tokens::tokens;
use super::wait::patient;
use super::{Error, Lane};
use crate::hazards::{Place, hazards};
use crate::position::Partition;
use crate::progress::store;
use tollgate_config::limits;

impl Lane {
    /// Commits the group's first offset with a token, before the first batch: from then on a missing offset was lost,
    /// and an offset without a token was written by another client.
    pub(super) fn establish(&mut self) -> Result<(), Error> {
        let fresh: Vec<store::Step> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.establish)
            .map(|(partition, owned)| {
                let (at, number) = (owned.resume.outputs, owned.numbers.outputs);
                store::Step { partition: *partition, epoch: owned.epoch, lo: at, hi: at, number }
            })
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        if let Some(group) = self.group()? {
            let Some(producers) = self.producers.as_mut() else { return Err(Error::Guard) };
            let producer = producers.current();
            let list = tokens(&self.pipeline.source.topic, &self.writer, &fresh)?;
            let done = producer.begin().and_then(|()| producer.prepare(list, &group));
            let done = done.and_then(|()| producer.acknowledged(limits::BROKER_PATIENCE));
            hazards().pass(Place::Establishing);
            let done = done.and_then(|()| producer.commit());
            if let Err(error) = done {
                self.abort_both();
                return Err(error.into());
            }
            producers.next();
            self.note_tokens(&fresh)?;
        }
        for owned in self.partitions.values_mut() {
            owned.establish = false;
        }
        Ok(())
    }

    /// Records the tokens: only from now on does an offset without a token mean that another client wrote it.
    fn note_tokens(&mut self, steps: &[store::Step]) -> Result<(), Error> {
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let rows: Vec<(Partition, i64)> = steps.iter().map(|step| (step.partition, step.epoch.get())).collect();
        let noting = async { Ok(store::note_tokens(connection, &self.owner, &rows).await?) };
        let noted = patient(&self.runtime, noting).inspect_err(|_| self.rows_in_doubt = true)?;
        if usize::try_from(noted).unwrap_or_default() == rows.len() {
            return Ok(());
        }
        self.rows_in_doubt = true;
        Err(Error::Guard)
    }
}
