//! Writes a redo plan with a batch's rows, and reads it if the rows are ahead of the outputs.

use std::collections::BTreeMap;

use super::commit_plan::CommitPlan;
use super::wait::patient;
use super::{Current, Error, Lane, Owned};
use crate::brakes::halt::code;
use crate::hazards::hazards;
use crate::position::Partition;
use crate::progress::halts::Halt;
use crate::progress::plan::{Plan, PlanError, Writer};
use crate::progress::{Resume, store};
use tollgate_decide::batch::Record;

impl Lane {
    /// Reads the redo plans of the partitions whose rows are ahead of their outputs.
    pub(super) fn read_plans(&mut self) -> Result<(), Error> {
        let owner = &self.owner;
        let Some(connection) = self.connection.as_mut() else { return Ok(()) };
        for (partition, owned) in &mut self.partitions {
            let Resume { rows, outputs } = owned.resume;
            if outputs >= rows || owned.plan.is_some() {
                continue;
            }
            let asked = async { Ok(store::plan(connection, owner, *partition).await?) };
            let Some(stored) = patient(&self.runtime, asked).inspect_err(|_| self.rows_in_doubt = true)? else {
                tracing::warn!(%partition, %outputs, %rows, "no redo plan: the outputs of these offsets are decided again");
                continue;
            };
            let plan =
                Plan::read(&stored, outputs, rows).map_err(|error| unusable(owner, *partition, owned, &error))?;
            tracing::info!(%partition, %outputs, %rows, digest = plan.digest(), "producing the decided outputs again");
            owned.plan = Some(plan);
        }
        Ok(())
    }

    /// Returns whether the outputs of a record have been decided already.
    pub(super) fn planned(&self, record: &Record) -> bool {
        let owned = self.partitions.get(&record.partition);
        owned.and_then(|owned| owned.plan.as_ref()).is_some_and(|plan| plan.covers(record.offset))
    }
}

/// Begins an empty redo plan for each partition that both sides move, if a transaction concludes the decision.
pub(super) fn begin(
    plans: &mut BTreeMap<Partition, Writer>,
    current: &Current<'_>,
    moves: &CommitPlan,
    transactional: bool,
) {
    let stored = transactional && !hazards().no_redo_plan;
    let both = |step: &&store::Step| stored && moves.outputs.iter().any(|other| other.partition == step.partition);
    let steps: BTreeMap<Partition, &store::Step> =
        moves.rows.iter().filter(both).map(|step| (step.partition, step)).collect();
    plans.retain(|partition, _| steps.contains_key(partition));
    for (partition, step) in steps {
        plans.entry(partition).or_default().begin(step.lo, &current.revision.digest);
    }
}

/// Returns the redo plan of each step, which contains what its batch has produced so far.
pub(super) fn finished(
    writers: &mut BTreeMap<Partition, Writer>,
    steps: &[store::Step],
) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let mut finished = |step: &store::Step| {
        let plan = writers.get_mut(&step.partition).map(|writer| writer.finish(step.hi)).transpose();
        plan.map_err(|error| Error::Fatal(format!("no redo plan for partition {}: {error}", step.partition)))
    };
    steps.iter().map(&mut finished).collect()
}

fn unusable(owner: &store::Owner, partition: Partition, owned: &Owned, error: &PlanError) -> Error {
    let said = format!("the redo plan of partition {partition} cannot be used: {error}");
    match error {
        // A member of another release can read it, so this process must exit.
        PlanError::Newer(_) => Error::Fatal(said),
        PlanError::Damaged(_) | PlanError::Elsewhere { .. } => {
            let store::Owner { pipeline, topic, .. } = owner;
            let message = format!(
                "{said}; to have the rest of the batch decided again: UPDATE tollgate.progress SET plan = NULL WHERE pipeline \
                 = '{pipeline}' AND topic = '{topic}' AND partition = {partition}"
            );
            let (code, offset, epoch) = (code::PLAN_UNUSABLE.to_owned(), owned.resume.begin(), owned.epoch);
            Error::Halt(Box::new(Halt { partition, code, offset, epoch, message }))
        }
    }
}
