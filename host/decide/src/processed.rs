//! `delivery.processed_ids`: an event that appears again at another offset has no effect.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use tollgate_config::{ProcessedId, ProcessedIds};
use tollgate_contract::{Fields, Value, record_key};

use crate::Decided;
use crate::batch::{Record, RecordBatch};
use crate::dead_letter::{Reason, Stage};
use crate::gate::Gate;
use crate::verdict::{Decision, Verdict};

/// Longer ids are stored in the table as their SHA-256.
const LONGEST: usize = 64;

/// An id as stored in the table.
pub type Id<'a> = Cow<'a, [u8]>;

/// The ids of a batch's events, as far as the events have effects.
#[derive(Debug, Default)]
pub struct Ids<'a> {
    /// The decisions of each id, in batch order, by their index in [`Decided::decisions`].
    by_id: BTreeMap<Id<'a>, Vec<usize>>,
    /// The decisions whose records have no id but need one.
    without: Vec<usize>,
}

impl<'a> Ids<'a> {
    /// Returns the ids of the `wanted` records; none if `delivery.processed_ids` is not set.
    pub fn of(
        decided: &'a Decided,
        gate: &'a Gate,
        batch: &'a RecordBatch,
        wanted: impl Fn(&Record) -> bool,
    ) -> Ids<'a> {
        let mut ids = Ids::default();
        let Some(ProcessedIds { id: from, .. }) = &gate.pipeline.delivery.processed else { return ids };
        for (index, decision) in decided.decisions.iter().enumerate() {
            if !wanted(&batch.records[decision.record]) || !decision.verdict.has_effects() {
                continue;
            }
            match id_of(gate, batch, decided, decision, from) {
                Some(id) => ids.by_id.entry(id).or_default().push(index),
                // A tombstone has no field, and deleting twice has no effect.
                None if matches!((from, &decision.verdict), (ProcessedId::Field(_), Verdict::Delete)) => {}
                None => ids.without.push(index),
            }
        }
        ids
    }

    /// Returns the ids in sorted order, which is the order of locks.
    pub fn sorted(&self) -> Vec<&[u8]> {
        self.by_id.keys().map(|id| &**id).collect()
    }

    /// Returns the new verdicts of the events that have been processed, by an earlier batch (`known`) or by an earlier event of
    /// this one, and of those without an id.
    pub fn verdicts(&self, gate: &Gate, known: &BTreeSet<Vec<u8>>) -> Vec<(usize, Verdict)> {
        let Some(ProcessedIds { id: from, .. }) = &gate.pipeline.delivery.processed else { return Vec::new() };
        let repeated = self.by_id.iter().flat_map(|(id, events)| &events[usize::from(!known.contains(&**id))..]);
        let mut verdicts: Vec<_> = repeated.map(|&index| (index, Verdict::Dropped)).collect();
        verdicts.extend(self.without.iter().map(|&index| {
            let message = format!("the record has no {}, which delivery.processed_ids requires", shown(from));
            (index, Verdict::Dead(Reason::new(Stage::Contract, "processed-id-missing", message)))
        }));
        verdicts
    }
}

/// A header of the event's envelope overrides the record's own.
fn id_of<'a>(
    gate: &'a Gate,
    batch: &'a RecordBatch,
    decided: &'a Decided,
    decision: &Decision,
    from: &ProcessedId,
) -> Option<Id<'a>> {
    let record = &batch.records[decision.record];
    let id = match from {
        ProcessedId::Key => batch.key(record),
        ProcessedId::Header(name) => {
            let brought = decided.passed(gate, decision).get(name);
            brought.or_else(|| batch.header(record, name))
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
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
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
