//! From records to decisions: contract, transforms, output contract, row. Nothing here is visible outside yet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_contract::{Contract, Fields, Rejection, Slot};
use tollgate_sandbox::{BatchMeta, Bytes, Chain, Events, Outcome, Output, Results, RunError};

use super::produce::key_text;
use crate::config::{Encoding, Pipeline, Tombstones};
use crate::limits;
use crate::position::Partition;
use crate::sinks::dead_letter::{Reason, Stage};
use crate::sinks::postgres::table::{Misfit, RecordView, Table};
use crate::sinks::postgres::{Mark, Rows, Staged};
use crate::source::batch::{Record, RecordBatch};

/// What does not change while the process runs: contracts, table, topics.
pub struct Gate {
    pub pipeline: Arc<Pipeline>,
    pub contract: Contract,
    /// What leaves the chain is checked against this; its slots are the table's fields, then the output key.
    pub output: Contract,
    pub output_key: Option<Slot>,
    pub table: Table,
    /// Bytes that each topic's records may have.
    pub topic_bytes: BTreeMap<String, usize>,
    /// Topics that Kafka compacts: they take no record without a key.
    pub compacted: BTreeSet<String>,
}

impl Gate {
    /// Whether an event's row can be written as it comes in: the sinks want the same message type, and nothing about the
    /// output has to be known first.
    fn stages(&self) -> bool {
        self.contract.message() == self.output.message() && self.compacted.is_empty()
    }
}

/// What a swap changes.
pub struct Revision {
    /// Counts the swaps of this process.
    pub number: u64,
    /// Hex; covers the contracts, the components, their limits and their configuration.
    pub digest: String,
    pub chain: Chain,
    pub transforms: Vec<TransformInfo>,
}

/// A transform as operators know it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TransformInfo {
    pub name: String,
    pub version: String,
    pub component: String,
    pub digest: String,
    /// Topic of each route, in the component's order.
    #[serde(skip)]
    pub routes: Vec<Option<String>>,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Outputs of the chain: a range in its group's results.
    Outputs(std::ops::Range<u32>),
    /// A tombstone that deletes.
    Delete,
    Dropped,
    Dead(Box<Reason>),
}

/// A record of the batch and its verdict.
pub struct Decision {
    /// Index in the batch.
    pub record: usize,
    /// Index in [`Decided::groups`].
    pub group: usize,
    /// Index in the group's events; meaningless where it never got to the chain.
    event: usize,
    pub verdict: Verdict,
    pub fuel: u64,
    /// The row of the event as it came in, for a chain that passes it.
    staged: Option<Staged>,
}

/// The events of one partition that reached the chain, and what it made of them.
#[derive(Default)]
pub struct Group {
    pub events: Arc<Events>,
    pub results: Results,
}

/// Everything that was decided about a batch. Reused from batch to batch.
#[derive(Default)]
pub struct Decided {
    pub groups: Vec<Group>,
    pub decisions: Vec<Decision>,
    pub rows: Rows,
    /// Where the staged rows end.
    staged: Mark,
    json: Vec<u8>,
    used: usize,
}

/// An output, resolved: whose bytes, which key, which topic.
pub struct Resolved<'a> {
    pub topic: Option<&'a str>,
    pub payload: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(String, Vec<u8>)],
}

impl Decided {
    pub fn clear(&mut self) {
        self.decisions.clear();
        self.rows.clear();
        self.staged = self.rows.mark();
        self.used = 0;
    }

    /// Decides about the records of one partition, in offset order.
    pub fn partition(
        &mut self,
        gate: &Gate,
        revision: &Revision,
        batch: &RecordBatch,
        records: &[usize],
        meta: &BatchMeta,
    ) -> Result<(), RunError> {
        let group = self.used;
        self.used += 1;
        if self.groups.len() < self.used {
            self.groups.push(Group::default());
        }
        let Group { events: shared, results } = &mut self.groups[group];
        if Arc::get_mut(shared).is_none() {
            // A store of the last batch still holds it; that one is freed with the store.
            *shared = Arc::default();
        }
        let Some(events) = Arc::get_mut(shared) else { return Ok(()) };
        events.clear();
        let first = self.decisions.len();
        let mut fields = Fields::new();
        for &index in records {
            let record = &batch.records[index];
            let event = events.len();
            let entry = Entry { gate, revision, batch, record };
            let (verdict, staged) = match entry.admit(&mut self.json, &mut fields, events, &mut self.rows) {
                Ok(staged) => (Verdict::Outputs(0..0), staged),
                Err(verdict) => (verdict, None),
            };
            self.decisions.push(Decision { record: index, group, event, verdict, fuel: 0, staged });
        }
        self.staged = self.rows.mark();
        revision.chain.run(meta, shared, results)?;
        for decision in &mut self.decisions[first..] {
            if decision.verdict == Verdict::Outputs(0..0) {
                decision.fuel = results.fuel[decision.event];
                decision.verdict = settle(revision, &mut results.outcomes[decision.event]);
            }
        }
        Ok(())
    }

    /// Writes the rows of every decision that still has outputs, and turns what does not fit into a dead letter.
    /// `wanted` says which records the table has not had yet.
    pub fn rows(&mut self, gate: &Gate, revision: &Revision, batch: &RecordBatch, wanted: impl Fn(&Record) -> bool) {
        self.rows.truncate(self.staged);
        let mut fields = Fields::new();
        for decision in &mut self.decisions {
            let record = &batch.records[decision.record];
            let mark = self.rows.mark();
            let group = &self.groups[decision.group];
            let written = match &decision.verdict {
                Verdict::Outputs(range) => {
                    let (event, staged) = (decision.event, decision.staged);
                    range.clone().try_for_each(|output| {
                        let output = &group.results.outputs[index(output)];
                        let resolved = resolve(gate, revision, group, event, output)?;
                        let entry = Entry { gate, revision, batch, record };
                        if let Some(staged) =
                            staged.filter(|_| output.payload == Bytes::Input && output.headers.is_empty())
                        {
                            entry.fits_topic(&resolved)?;
                            self.rows.upsert(staged);
                            return Ok(());
                        }
                        let mut borrowed = std::mem::take(&mut fields).recycle();
                        let done = entry.write(&resolved, &mut borrowed, &mut self.rows);
                        fields = borrowed.recycle();
                        done
                    })
                }
                Verdict::Delete => delete(gate, batch.key(record), &mut self.rows),
                Verdict::Dropped | Verdict::Dead(_) => continue,
            };
            if let Err(reason) = written {
                self.rows.truncate(mark);
                decision.verdict = Verdict::Dead(reason);
            } else if !wanted(record) {
                self.rows.truncate(mark);
            }
        }
    }

    /// The outputs of a decision, resolved; those that were checked by [`Decided::rows`].
    pub fn outputs<'a>(
        &'a self,
        gate: &'a Gate,
        revision: &'a Revision,
        decision: &'a Decision,
    ) -> impl Iterator<Item = Result<Resolved<'a>, Box<Reason>>> {
        let range = match &decision.verdict {
            Verdict::Outputs(range) => range.clone(),
            _ => 0..0,
        };
        let group = &self.groups[decision.group];
        range.map(move |output| resolve(gate, revision, group, decision.event, &group.results.outputs[index(output)]))
    }
}

/// `application/json`, with or without parameters, and its `+json` relatives.
pub fn is_json(content_type: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence.ends_with("+json")
}

fn refused(stage: Stage, rejection: Rejection) -> Box<Reason> {
    Reason::new(stage, rejection.code.as_str(), rejection.message).field(rejection.field)
}

/// The chain's word on an event.
fn settle(revision: &Revision, outcome: &mut Outcome) -> Verdict {
    let name = |transform: usize| revision.transforms.get(transform).map(|info| info.name.clone());
    match std::mem::replace(outcome, Outcome::Dropped { transform: 0 }) {
        Outcome::Outputs(range) => Verdict::Outputs(range),
        Outcome::Dropped { .. } => Verdict::Dropped,
        Outcome::Rejected(rejected) => Verdict::Dead(Box::new(Reason {
            code: Cow::Owned(rejected.code),
            stage: Stage::Transform,
            field: rejected.field,
            message: rejected.message,
            transform: name(rejected.transform),
            fuel_used: Some(rejected.fuel_used),
        })),
        Outcome::Failed(failed) => Verdict::Dead(Box::new(Reason {
            code: Cow::Borrowed(failed.code.as_str()),
            stage: Stage::Transform,
            field: String::new(),
            message: failed.message,
            transform: name(failed.transform),
            fuel_used: Some(failed.fuel_used),
        })),
    }
}

/// Where an output's bytes, key and topic are.
fn resolve<'a>(
    gate: &'a Gate,
    revision: &'a Revision,
    group: &'a Group,
    event: usize,
    output: &'a Output,
) -> Result<Resolved<'a>, Box<Reason>> {
    let results = &group.results;
    let arena = |range: &std::ops::Range<u32>| &results.arena[index(range.start)..index(range.end)];
    let payload = match &output.payload {
        Bytes::Input => group.events.value(event),
        Bytes::Arena(range) => Some(arena(range)),
        Bytes::Null => None,
    };
    let key = match &output.key {
        Bytes::Input => group.events.key(event),
        Bytes::Arena(range) => Some(arena(range)),
        Bytes::Null => None,
    };
    let topic = match output.route {
        0 => gate.pipeline.output.as_ref().map(|output| output.topic.as_str()),
        route => {
            let routes =
                revision.transforms.get(output.transform).map(|info| info.routes.as_slice()).unwrap_or_default();
            match routes.get(index(route) - 1) {
                Some(topic) => topic.as_deref(),
                None => return Err(Reason::new(Stage::Output, "unknown-route", format!("there is no route {route}"))),
            }
        }
    };
    Ok(Resolved { topic, payload, key, headers: &output.headers })
}

/// A tombstone's effect on the table.
fn delete(gate: &Gate, key: Option<&[u8]>, rows: &mut Rows) -> Result<(), Box<Reason>> {
    let impossible = |message: &str| Reason::new(Stage::Output, "delete-not-possible", message);
    if !gate.table.deletes() {
        return Err(impossible("the table's key is not one column that the record's key could name"));
    }
    let Some(key) = key else { return Err(impossible("the tombstone has no key")) };
    let mut cell = Vec::with_capacity(key.len());
    gate.table.key_of(key, &mut cell).map_err(misfit)?;
    rows.delete(&cell);
    Ok(())
}

fn misfit(misfit: Misfit) -> Box<Reason> {
    Reason::new(Stage::Output, "row-value", misfit.to_string()).field(misfit.column)
}

/// A record on its way: through the contract, and, output by output, into the table and the topic.
struct Entry<'a> {
    gate: &'a Gate,
    revision: &'a Revision,
    batch: &'a RecordBatch,
    record: &'a Record,
}

impl<'a> Entry<'a> {
    /// The contract stage: either the record becomes an event, or its verdict is known.
    fn admit(
        &self,
        json: &mut Vec<u8>,
        fields: &mut Fields<'static>,
        events: &mut Events,
        rows: &mut Rows,
    ) -> Result<Option<Staged>, Verdict> {
        let Entry { gate, batch, record, .. } = *self;
        let Some(value) = batch.value(record) else {
            return Err(match gate.pipeline.contract.tombstones {
                Tombstones::Drop => Verdict::Dropped,
                Tombstones::Delete => Verdict::Delete,
                Tombstones::DeadLetter => Verdict::Dead(Reason::new(
                    Stage::Contract,
                    "tombstone",
                    "the record has no value, and `contract.tombstones` does not say what that means",
                )),
            });
        };
        let message = gate.contract.message().full_name();
        if let Some(named) = batch.header(record, "message-type")
            && named != message.as_bytes()
        {
            let named = String::from_utf8_lossy(named);
            let why = format!("the header message-type names {named}, the contract is {message}");
            return Err(Verdict::Dead(Reason::new(Stage::Contract, "wrong-message-type", why)));
        }
        let is_json = match gate.pipeline.contract.encoding {
            Encoding::Protobuf => false,
            Encoding::Json => true,
            Encoding::Auto => batch.header(record, "content-type").is_some_and(is_json),
        };
        let dead = |rejection| Verdict::Dead(refused(Stage::Contract, rejection));
        json.clear();
        let payload: &[u8] = if is_json {
            gate.contract.transcode_json(value, json).map_err(dead)?;
            json
        } else {
            value
        };
        let mut borrowed = std::mem::take(fields).recycle();
        let admitted = self.check(payload, &mut borrowed, rows);
        *fields = borrowed.recycle();
        let staged = admitted.map_err(dead)?;
        events.push(batch.key(record), Some(payload), record.offset.0, record.timestamp);
        for (name, value) in batch.headers(record) {
            events.headers.push(name, value);
        }
        events.headers.end_record();
        Ok(staged)
    }

    /// Checks a payload that came in. Where the sinks want the same message type, the check that reads their fields is made
    /// now, and the row written: most events pass the chain as they are, and are not read again.
    fn check<'p>(
        &self,
        payload: &'p [u8],
        fields: &mut Fields<'p>,
        rows: &mut Rows,
    ) -> Result<Option<Staged>, Rejection> {
        if !self.gate.stages() {
            return self.gate.contract.check(payload, fields).map(|()| None);
        }
        self.gate.output.check(payload, fields)?;
        let header = |name: &str| self.batch.header(self.record, name);
        let mut row = rows.begin();
        // What does not fit its column is the event's fault only if the chain passes it: `write` says so then.
        let written = self.gate.table.write(&self.gate.output, fields, &self.view(&header), &mut row);
        Ok(written.ok().map(|()| row.stage()))
    }

    fn view(&self, header: &'a dyn Fn(&str) -> Option<&'a [u8]>) -> RecordView<'a> {
        RecordView {
            topic: &self.gate.pipeline.source.topic,
            partition: self.record.partition.0,
            offset: self.record.offset.0,
            timestamp: self.record.timestamp,
            key: self.batch.key(self.record),
            digest: &self.revision.digest,
            header,
        }
    }

    fn write(&self, output: &Resolved<'a>, fields: &mut Fields<'a>, rows: &mut Rows) -> Result<(), Box<Reason>> {
        self.fits_topic(output)?;
        let Some(payload) = output.payload else {
            self.has_key(output, None)?;
            return delete(self.gate, output.key, rows);
        };
        self.gate.output.check(payload, fields).map_err(|rejection| {
            let code = if self.revision.transforms.is_empty() { rejection.code.as_str() } else { "output-contract" };
            let mut reason = refused(Stage::Output, rejection);
            if code == "output-contract" {
                reason.message = format!("{}: {}", reason.code, reason.message);
                reason.code = Cow::Borrowed(code);
            }
            reason
        })?;
        self.has_key(output, Some(fields))?;
        let header = |name: &str| {
            let own = output.headers.iter().rev().find(|(header, _)| header == name);
            own.map(|(_, value)| value.as_slice()).or_else(|| self.batch.header(self.record, name))
        };
        let mut row = rows.begin();
        self.gate.table.write(&self.gate.output, fields, &self.view(&header), &mut row).map_err(misfit)?;
        row.finish();
        Ok(())
    }

    /// The broker would refuse the whole batch for one record without a key, however often it is sent.
    fn has_key(&self, output: &Resolved<'_>, fields: Option<&Fields<'_>>) -> Result<(), Box<Reason>> {
        let Some(topic) = output.topic.filter(|topic| self.gate.compacted.contains(*topic)) else { return Ok(()) };
        let field = self.gate.output_key.zip(fields).and_then(|(slot, fields)| key_text(fields.get(slot)));
        if output.key.is_some() || field.is_some() {
            return Ok(());
        }
        let message =
            format!("the output has no key, and topic {topic} is compacted, so it takes no record without one");
        Err(Reason::new(Stage::Output, "output-key-missing", message))
    }

    fn fits_topic(&self, output: &Resolved<'_>) -> Result<(), Box<Reason>> {
        let Some(topic) = output.topic else { return Ok(()) };
        let most = self.gate.topic_bytes.get(topic).copied().unwrap_or(usize::MAX);
        let own: usize = self.batch.headers(self.record).map(|(name, value)| header_bytes(name, value)).sum();
        let set: usize = output.headers.iter().map(|(name, value)| header_bytes(name, Some(value))).sum();
        let ours = 2 * limits::RECORD_OVERHEAD + self.revision.digest.len();
        let payload = output.payload.map_or(0, <[u8]>::len);
        // A key from a field is part of the payload, so twice the payload bounds it.
        let payload = if self.gate.output_key.is_some() { 2 * payload } else { payload };
        let bytes = payload + output.key.map_or(0, <[u8]>::len) + own + set + ours;
        if bytes > most {
            let message = format!("the output has {bytes} bytes with its headers, topic {topic} takes {most}");
            return Err(Reason::new(Stage::Output, "output-too-large", message));
        }
        Ok(())
    }
}

fn header_bytes(name: &str, value: Option<&[u8]>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + limits::HEADER_OVERHEAD
}

/// Groups the records by partition, each in offset order; the partitions in order too, which is the order of locks.
pub fn by_partition(batch: &RecordBatch, records: &[usize]) -> Vec<(Partition, Vec<usize>)> {
    let mut groups: Vec<(Partition, Vec<usize>)> = Vec::new();
    let mut last = 0;
    for &index in records {
        let partition = batch.records[index].partition;
        // Records come in runs of one partition, as they were fetched.
        if groups.get(last).is_none_or(|(current, _)| *current != partition) {
            last = groups.iter().position(|(known, _)| *known == partition).unwrap_or(groups.len());
            if last == groups.len() {
                groups.push((partition, Vec::new()));
            }
        }
        groups[last].1.push(index);
    }
    groups.sort_unstable_by_key(|(partition, _)| *partition);
    groups
}

fn index(value: u32) -> usize {
    // A usize has at least 32 bits on every target that librdkafka runs on.
    usize::try_from(value).unwrap_or(usize::MAX)
}
