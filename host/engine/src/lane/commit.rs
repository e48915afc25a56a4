//! Makes one attempt at a batch: decides, then runs steps 1 to 4. `resync` reads both sides' positions.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::{CommitMode, Consumer as _, ConsumerGroupMetadata};

use super::commit_plan::CommitPlan;
use super::produce::Produce;
use super::tokens::tokens;
use super::transaction::{Participant as _, Processed, Progress, Rows, Scope};
use super::wait::{BEGIN, execute, patient};
use super::{Current, Error, Lane, LaneEvent, redo, schemas};
use crate::hazards::{Place, hazards};
use crate::kafka::client;
use crate::lifecycle::Lifecycle;
use crate::position::{Epoch, Partition};
use crate::progress::{Group, Halt, Resume, RowStatus, concluded, row_status, store};
use crate::sinks::kafka::{self, Producers, Sizes};
use crate::sinks::postgres::connect;
use crate::source::advice;
use tollgate_config::limits;
use tollgate_config::{DeliveryMode, Pipeline};
use tollgate_decide::by_partition;
use tollgate_decide::known::Known;

impl Lane {
    /// Reads the position of each side that is in doubt. Afterwards `resume` is accurate.
    pub(super) fn resync(&mut self) -> Result<(), Error> {
        if self.connection.is_none() {
            let pipeline = &self.pipeline;
            let open = async { Ok(connect::hold(pipeline, "lane").await?) };
            self.connection = Some(patient(&self.runtime, open)?);
        }
        if self.rows_in_doubt {
            if let Err(error) = self.read_positions() {
                // The connection itself may be broken, so the next attempt opens a new one.
                self.connection = None;
                return Err(error);
            }
            self.rows_in_doubt = false;
        }
        if self.producers.is_none() {
            self.read_outputs()?;
        }
        self.read_plans()
    }

    /// Reads D of each partition, after waiting for any commit of ours that is still in progress.
    fn read_positions(&mut self) -> Result<(), Error> {
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            self.read_position(partition)?;
        }
        Ok(())
    }

    /// Reads D of one partition. A partition that another member owns by now is released.
    fn read_position(&mut self, partition: Partition) -> Result<(), Error> {
        let (Some(connection), Some(owned)) = (self.connection.as_mut(), self.partitions.get_mut(&partition)) else {
            return Ok(());
        };
        let owner = &self.owner;
        let asked = async { Ok(store::settled(connection, owner, partition).await?) };
        let found = patient(&self.runtime, asked)?;
        let at = owned.resume.rows;
        match row_status(owned.epoch, at, found.as_ref().map(|found| (found.epoch, found.row.next))) {
            RowStatus::At(next) => {
                owned.resume.rows = next;
                owned.numbers.rows = found.map_or(owned.numbers.rows, |found| found.row.number);
                // Without a Kafka transaction, outputs are acknowledged before the row moves.
                if self.pipeline.delivery.mode == DeliveryMode::AtLeastOnce {
                    owned.resume.outputs = owned.resume.outputs.max(next);
                    owned.numbers.outputs = owned.numbers.rows;
                }
            }
            RowStatus::WentBack(next) => {
                return Err(Error::Fatal(format!(
                    "PostgreSQL has lost commits: partition {partition} went back from {at} to {next}; restart to repeat them \
                     from the topic"
                )));
            }
            RowStatus::Fenced => {
                tracing::warn!(%partition, "another member has taken the partition over");
                let assignment = owned.assignment;
                self.partitions.remove(&partition);
                if self.intake.events.send(LaneEvent::Fenced { partition, assignment }).is_err() {
                    tracing::debug!("the poll thread has ended");
                }
            }
        }
        Ok(())
    }

    /// Creates a new producer, which ends the old one's transaction either way, then reads K of each partition.
    pub(super) fn read_outputs(&mut self) -> Result<(), Error> {
        let batch = if self.alone { 1 } else { self.sizes.batch };
        let (slot, number) =
            (self.lifecycle.slot().unwrap_or_default(), i32::try_from(self.number).unwrap_or_default());
        let producers =
            Producers::connect(&self.pipeline, slot, number, Sizes { batch, ..self.sizes }, limits::BROKER_PATIENCE)?;
        // Before the first offset is committed, the group's offset means nothing.
        let asked: Vec<Partition> =
            self.partitions.iter().filter(|(_, owned)| !owned.establish).map(|(partition, _)| *partition).collect();
        if self.pipeline.delivery.mode == DeliveryMode::EffectivelyOnce && !asked.is_empty() {
            let topic = &self.pipeline.source.topic;
            let groups = client::committed(&self.consumer, topic, asked.iter().copied(), limits::BROKER_PATIENCE)?;
            for partition in asked {
                self.resolve_outputs(partition, groups.get(&partition))?;
            }
        }
        self.producers = Some(producers);
        Ok(())
    }

    /// Takes K of a partition as the position of its outputs. An offset that we did not write may be a successor's, so
    /// the row is read before the offset is attributed to a foreign client.
    fn resolve_outputs(&mut self, partition: Partition, group: Option<&Group>) -> Result<(), Error> {
        if self.concluded(partition, group).is_err() {
            self.read_position(partition)?;
        }
        let epoch = self.partitions.get(&partition).map_or(Epoch::NONE, |owned| owned.epoch);
        self.concluded(partition, group)
            .map_err(|halt| Error::Halt(Box::new(advice::halt(&self.pipeline, partition, epoch, &halt))))
    }

    fn concluded(&mut self, partition: Partition, group: Option<&Group>) -> Result<(), Halt> {
        let Some(owned) = self.partitions.get_mut(&partition) else { return Ok(()) };
        let (outputs, number) = concluded(group, owned.position(), &self.writer)?;
        (owned.resume.outputs, owned.numbers.outputs) = (outputs, number);
        Ok(())
    }

    /// Makes one attempt at what is left of a batch.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    pub(super) fn settle(&mut self, current: &Current<'_>, work: &[usize]) -> Result<(), Error> {
        if work.is_empty() {
            return Ok(());
        }
        if let Some(reason) = self.brakes.paused() {
            return Err(Error::Paused(reason));
        }
        let began = Instant::now();
        let group = self.group()?;
        // I16: records with a stored redo plan are not decided again.
        let (again, fresh) =
            work.iter().partition::<Vec<usize>, _>(|index| self.planned(&current.batch.records[**index]));
        self.decide(current, &fresh)?;
        self.metrics.stage("decide", began.elapsed());
        let moves = self.moves(current, work, again);
        loop {
            self.takes_all(current)?;
            self.within_limit(current)?;
            let Err(error) = self.commit(current, &moves, &group) else { break };
            self.lacks_nothing(current, &error)?;
            match error {
                error if self.searches(current, &error) => {
                    // The batch is undone on both sides; find the rows that PostgreSQL rejected and decide the batch
                    // again.
                    let found = match self.bisect(current) {
                        Ok(found) => found,
                        Err(error) => {
                            self.lacks_nothing(current, &error)?;
                            return Err(error);
                        }
                    };
                    if found == 0 {
                        return Err(Error::Indivisible(error.to_string()));
                    }
                }
                Error::Kafka(error @ (kafka::Error::Records(_) | kafka::Error::Set { .. })) => {
                    self.refused(current, error)?;
                }
                error => return Err(error),
            }
        }
        self.advance(&moves);
        if std::mem::take(&mut self.alone) {
            // The next batch gets producers that send sets again.
            self.producers = None;
        }
        self.account();
        self.metrics.redone(moves.again.len());
        Ok(())
    }

    /// Returns the group's current metadata: a commit with it fails once the group has moved on.
    pub(super) fn group(&self) -> Result<Option<Arc<ConsumerGroupMetadata>>, Error> {
        if self.pipeline.delivery.mode == DeliveryMode::AtLeastOnce {
            return Ok(None);
        }
        let before = client::generation(&self.consumer).ok_or(Error::NotAMember)?;
        let metadata = self.consumer.group_metadata().ok_or(Error::NotAMember)?;
        // The generation and the metadata come from two calls, so check that the generation did not change between
        // them.
        if client::generation(&self.consumer) == Some(before) {
            Ok(Some(Arc::new(metadata)))
        } else {
            Err(Error::NotAMember)
        }
    }

    /// Decides these records, after reading what the decisions depend on.
    fn decide(&mut self, current: &Current<'_>, work: &[usize]) -> Result<(), Error> {
        let overdue = current.overdue.by_partition(self.pipeline.retry.max_retries);
        let mut known = Known { overdue, ..Known::default() };
        hazards().pass(Place::Sandbox);
        while let Err(error) = self.decided.decide(&self.gate, &current.revision, current.batch(work), &known) {
            match error {
                tollgate_decide::Error::Missing(ids) => {
                    schemas::read(self.schemas.as_deref(), ids, &mut known.schemas)?
                }
                tollgate_decide::Error::Sandbox(error) => return Err(error.into()),
            }
        }
        let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
        let scope = Scope { gate: &self.gate, current, partitions: &self.partitions };
        let processed = Processed { metrics: &self.metrics };
        let read = patient(&self.runtime, processed.load(connection, scope, &self.decided, &mut known));
        read.inspect_err(|_| self.rows_in_doubt = true)?;
        processed.contribute(scope, &known, &mut self.decided);
        self.write_rows(current);
        Ok(())
    }

    pub(super) fn write_rows(&mut self, current: &Current<'_>) {
        let scope = Scope { gate: &self.gate, current, partitions: &self.partitions };
        Rows { metrics: &self.metrics }.contribute(scope, &Known::default(), &mut self.decided);
    }

    fn moves(&self, current: &Current<'_>, work: &[usize], again: Vec<usize>) -> CommitPlan {
        let mut moves = CommitPlan { rows: Vec::new(), outputs: Vec::new(), again };
        for (partition, records) in by_partition(current.batch, work) {
            let (Some(owned), Some(last)) = (self.partitions.get(&partition), records.last()) else { continue };
            let last = current.batch.records[*last].offset;
            let (number, hi) = (owned.position().number(last), last.next());
            let step = |lo| store::Step { partition, epoch: owned.epoch, lo, hi, number };
            let Resume { rows, outputs } = owned.resume;
            if rows.lacks(last) {
                moves.rows.push(step(rows));
            }
            if outputs.lacks(last) {
                moves.outputs.push(step(outputs));
            }
        }
        moves
    }

    /// Runs steps 1 to 4. After an error both transactions are dropped, and both sides are in doubt.
    fn commit(
        &mut self,
        current: &Current<'_>,
        moves: &CommitPlan,
        group: &Option<Arc<ConsumerGroupMetadata>>,
    ) -> Result<(), Error> {
        let done = self.steps(current, moves, group);
        if let Err(error) = &done {
            if matches!(error, Error::Timeout) {
                // The reply of the timed-out statement may still arrive, so the connection cannot be used for anything
                // else.
                self.connection = None;
            }
            self.abort_both();
        }
        done
    }

    fn steps(
        &mut self,
        current: &Current<'_>,
        moves: &CommitPlan,
        group: &Option<Arc<ConsumerGroupMetadata>>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        redo::begin(&mut self.plans, current, moves, group.is_some());
        let (Some(producers), Some(connection)) = (self.producers.as_mut(), self.connection.as_mut()) else {
            return Err(Error::Guard);
        };
        let producer = producers.current();
        let transactional = group.is_some() && !hazards().no_transaction;
        let (kafka, mut outputs) = (!moves.outputs.is_empty(), 0);
        let opened = Instant::now();
        let scope = Scope { gate: &self.gate, current, partitions: &self.partitions };
        // Step 1. librdkafka sends from its own threads while PostgreSQL works.
        if kafka {
            if transactional {
                producer.begin()?;
            }
            let mut produce = Produce::new(scope, producer, &mut self.plans);
            produce.all(&self.decided, &moves.again)?;
            outputs = produce.outputs;
            if let (true, Some(group)) = (transactional, group) {
                producer.prepare(tokens(&self.pipeline.source.topic, &self.writer, &moves.outputs)?, group)?;
            }
        }
        if !moves.rows.is_empty() {
            let plans = redo::finished(&mut self.plans, &moves.rows)?;
            let begun = async {
                execute(connection, BEGIN).await?;
                let mode = self.pipeline.delivery.mode;
                let progress = Progress { owner: &self.owner, mode, steps: &moves.rows, plans: &plans };
                progress.apply(connection, scope, &self.decided).await?;
                hazards().pass(Place::Begun);
                Processed { metrics: &self.metrics }.apply(connection, scope, &self.decided).await?;
                Rows { metrics: &self.metrics }.apply(connection, scope, &self.decided).await
            };
            patient(&self.runtime, begun)?;
        }
        self.metrics.stage("write", began.elapsed());
        hazards().pass(Place::Produced);
        // Step 2. I3: the decision below is made only after Kafka has acknowledged everything.
        if kafka {
            producer.acknowledged(limits::BROKER_PATIENCE)?;
        }
        hazards().pass(Place::Prepared);
        may_decide(&self.lifecycle, &self.pipeline, (kafka && transactional).then_some(opened))?;
        // Step 3: the decision. An error here does not show the outcome, so `resync` reads it.
        if !moves.rows.is_empty() {
            patient(&self.runtime, execute(connection, "COMMIT"))?;
        }
        hazards().pass(Place::Decided);
        // Step 4.
        match (kafka, transactional) {
            (true, true) => {
                producer.commit()?;
                producers.next();
            }
            (true, false) => self.hint(&moves.outputs)?,
            (false, _) => {}
        }
        hazards().pass(Place::Concluded);
        self.metrics.outputs(outputs);
        self.metrics.stage("commit", began.elapsed());
        Ok(())
    }

    /// Commits the group's offsets for other tools only: the progress row determines where to continue.
    fn hint(&self, outputs: &[store::Step]) -> Result<(), Error> {
        let list = tokens(&self.pipeline.source.topic, &self.writer, outputs)?;
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::warn!(%error, "the group's offsets could not be committed");
        }
        Ok(())
    }

    /// Rolls back and aborts as far as the two servers can be reached; `resync` handles the rest.
    pub(super) fn abort_both(&mut self) {
        self.rows_in_doubt = true;
        if let Some(connection) = self.connection.as_mut()
            && patient(&self.runtime, execute(connection, "ROLLBACK")).is_err()
        {
            self.connection = None;
        }
        // New producers end the transaction whatever its state, and K shows the outcome.
        if let Some(producers) = self.producers.take()
            && let Err(error) = producers.current().abort()
        {
            tracing::debug!(%error, "the Kafka transaction could not be aborted; the next producer ends it");
        }
    }

    fn advance(&mut self, moves: &CommitPlan) {
        for step in &moves.rows {
            if let Some(owned) = self.partitions.get_mut(&step.partition) {
                (owned.resume.rows, owned.numbers.rows) = (step.hi, step.number);
            }
        }
        for step in &moves.outputs {
            if let Some(owned) = self.partitions.get_mut(&step.partition) {
                (owned.resume.outputs, owned.numbers.outputs) = (step.hi, step.number);
                owned.establish = false;
                owned.plan.take_if(|_| step.hi >= owned.resume.rows);
            }
        }
    }
}

/// Checks that the rows may be committed now. `opened` is when Kafka's transaction was opened, if there is one. After
/// its timeout the broker aborts it. The rows would then be committed, and their outputs would follow later from the
/// redo plan.
fn may_decide(lifecycle: &Lifecycle, pipeline: &Pipeline, opened: Option<Instant>) -> Result<(), Error> {
    if !lifecycle.slot_held() {
        return Err(Error::SlotLost);
    }
    let most = pipeline.delivery.transaction_timeout.mul_f64(limits::TRANSACTION_SHARE);
    match opened.map(|opened| opened.elapsed()) {
        Some(elapsed) if elapsed > most => Err(Error::Late(elapsed)),
        _ => Ok(()),
    }
}
