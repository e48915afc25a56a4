//! `delivery.processed_ids`: an event that appears again at another offset has no effect.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;

use super::wait::patient;
use super::{Carried, Error, Lane, needs};
use tollgate_contract::{Fields, Value, record_key};
use tollgate_decide::Decided;
use tollgate_decide::verdict::{Decision, Verdict};

use crate::progress::processed;
use tollgate_config::{ProcessedId, ProcessedIds};
use tollgate_decide::batch::Record;
use tollgate_decide::dead_letter::{Reason, Stage};
use tollgate_decide::gate::Gate;

/// Longer ids are stored in the table as their SHA-256.
const LONGEST: usize = 64;

/// An id as stored in the table.
type Id<'a> = Cow<'a, [u8]>;

impl Lane {
    /// Drops the events whose ids have been processed, by an earlier batch or by an earlier event of this one.
    pub(super) fn drop_repeated(&mut self, carried: &Carried<'_>) -> Result<(), Error> {
        let gate = &self.gate;
        let Some(ProcessedIds { id: from, ttl }) = &gate.pipeline.delivery.processed else { return Ok(()) };
        let mut ids: BTreeMap<Id<'_>, Vec<usize>> = BTreeMap::new();
        let mut nameless = Vec::new();
        for (index, decision) in self.decided.decisions.iter().enumerate() {
            let record = &carried.batch.records[decision.record];
            // If only Kafka's half is left, this event itself has stored its id.
            if !needs(&self.partitions, record).rows || !decision.verdict.has_effects() {
                continue;
            }
            match id_of(gate, carried, &self.decided, decision, from) {
                Some(id) => ids.entry(id).or_default().push(index),
                // A tombstone has no field, and deleting twice has no effect.
                None if matches!((from, &decision.verdict), (ProcessedId::Field(_), Verdict::Delete)) => {}
                None => nameless.push(index),
            }
        }
        let mut repeated: Vec<usize> = Vec::new();
        if !ids.is_empty() {
            let Some(connection) = self.connection.as_mut() else { return Err(Error::Guard) };
            let asked: Vec<&[u8]> = ids.keys().map(|id| &**id).collect();
            let name = &gate.pipeline.name;
            let known = patient(&self.runtime, async { Ok(processed::known(connection, name, &asked, *ttl).await?) });
            let known: BTreeSet<Vec<u8>> = known.inspect_err(|_| self.rows_in_doubt = true)?.into_iter().collect();
            for (id, events) in &ids {
                repeated.extend(&events[usize::from(!known.contains(&**id))..]);
            }
        }
        self.metrics.repeated(repeated.len());
        for index in repeated {
            self.decided.decisions[index].verdict = Verdict::Dropped;
        }
        for index in nameless {
            let message = format!("the record has no {}, which delivery.processed_ids requires", shown(from));
            let reason = Reason::new(Stage::Contract, "processed-id-missing", message);
            self.decided.decisions[index].verdict = Verdict::Dead(reason);
        }
        Ok(())
    }
}

/// Stores the ids of the events whose effects this transaction commits, for records whose rows are not committed yet.
pub(super) async fn note(
    connection: &mut PgConnection,
    gate: &Gate,
    carried: &Carried<'_>,
    decided: &Decided,
    wanted: impl Fn(&Record) -> bool,
) -> Result<(), Error> {
    let Some(ProcessedIds { id: from, ttl }) = &gate.pipeline.delivery.processed else { return Ok(()) };
    let fresh =
        |decision: &&Decision| decision.verdict.has_effects() && wanted(&carried.batch.records[decision.record]);
    let effective = decided.decisions.iter().filter(fresh);
    // The ids are sorted, to avoid deadlocks.
    let ids: BTreeSet<Id<'_>> =
        effective.filter_map(|decision| id_of(gate, carried, decided, decision, from)).collect();
    let ids: Vec<&[u8]> = ids.iter().map(|id| &**id).collect();
    let new = processed::note(connection, &gate.pipeline.name, &ids, *ttl).await?;
    if usize::try_from(new).unwrap_or_default() == ids.len() { Ok(()) } else { Err(Error::Repeated) }
}

/// Returns an event's id. A header of the event's envelope overrides the record's own.
fn id_of<'a>(
    gate: &'a Gate,
    carried: &Carried<'a>,
    decided: &'a Decided,
    decision: &Decision,
    from: &ProcessedId,
) -> Option<Id<'a>> {
    let record = &carried.batch.records[decision.record];
    let id = match from {
        ProcessedId::Key => carried.batch.key(record),
        ProcessedId::Header(name) => {
            let brought = decided.passed(gate, decision).get(name);
            brought.or_else(|| carried.batch.header(record, name))
        }
        ProcessedId::Field(_) => {
            return field_id(gate, decided, decision).map(|id| shortened(id.into_bytes().into()));
        }
    };
    let id = id.filter(|id| !id.is_empty())?;
    Some(shortened(Cow::Borrowed(id)))
}

fn shortened(id: Id<'_>) -> Id<'_> {
    if id.len() <= LONGEST { id } else { Cow::Owned(Sha256::digest(&id).to_vec()) }
}

/// Returns the id in a field of the input event.
fn field_id(gate: &Gate, decided: &Decided, decision: &Decision) -> Option<String> {
    let own = &gate.types[decision.kind?];
    let (slot, message) = (own.id?, decided.message(decision)?);
    let mut fields = Fields::new();
    own.contract.read(message, &mut fields).ok()?;
    let value = match fields.get(slot) {
        Value::Default => own.contract.field(slot).default_value(),
        value => value,
    };
    record_key(&[("", value)]).filter(|id| !id.is_empty())
}

fn shown(from: &ProcessedId) -> String {
    match from {
        ProcessedId::Key => "key".to_owned(),
        ProcessedId::Field(path) => format!("value in the field {path}"),
        ProcessedId::Header(name) => format!("header {name}"),
    }
}
