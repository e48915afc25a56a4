//! From records to decisions: contract, transforms, output contract, row. Nothing here is visible outside yet.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_contract::{Fields, Notes};
use tollgate_sandbox::{BatchMeta, Bytes, Events, Output, Results};

use super::Error;
use super::admit::{Deprecated, Desk, Refused};
use super::notice::Notice;
use super::passed::{Passed, View};
use super::produce::key_of;
use super::settle::settle;
use crate::gate::{Destination, EventType, Gate, Revision, Target, TypeChain};
use crate::kafka::headers::RawHeader;
use crate::kafka::record::header_bytes;
use crate::limits;
use crate::position::Partition;
use crate::registry::Resolver;
use crate::sinks::dead_letter::{Reason, Stage};
use crate::sinks::postgres::delete::Undeleted;
use crate::sinks::postgres::table::{Misfit, RecordView};
use crate::sinks::postgres::{Mark, Rows, Staged};
use crate::sinks::reserved;
use crate::source::batch::{Record, RecordBatch};

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Outputs of the chain: a range in its group's results.
    Outputs(std::ops::Range<u32>),
    /// A tombstone, or a change event, that deletes.
    Delete,
    Dropped,
    Dead(Box<Reason>),
}

impl Verdict {
    /// Whether the table changes by it.
    pub fn has_effects(&self) -> bool {
        matches!(self, Verdict::Outputs(_) | Verdict::Delete)
    }
}

/// A record of the batch and its verdict.
pub struct Decision {
    /// Index in the batch.
    pub record: usize,
    /// Index in [`Gate::types`]; none where it could not be told.
    pub kind: Option<usize>,
    /// Index in [`Decided::groups`]; meaningless where it never got to the chain.
    group: usize,
    /// Index in the group's events; meaningless where it never got to the chain.
    event: usize,
    pub verdict: Verdict,
    pub fuel: u64,
    /// The row of the event as it came in, for a chain that passes it; or the one that a change event deletes.
    staged: Option<Staged>,
    /// Its headers in [`Decided::passed`].
    passed: Range<usize>,
    /// What it is let pass in spite of.
    pub notice: Option<Box<Notice>>,
}

/// The events of one partition, one type and one schema that reached the chain, and what it made of them.
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
    /// For each of [`Gate::tables`].
    pub rows: Vec<Rows>,
    /// Where the staged rows of each table end.
    staged: Vec<Mark>,
    /// Where the tables that the event in work may write stood before it.
    marks: Vec<(usize, Mark)>,
    json: Vec<u8>,
    spare: Vec<u8>,
    used: usize,
    pub(super) deprecated: Deprecated,
    /// Headers that envelopes bring along.
    passed: Passed,
    outer: Vec<u8>,
    /// What policies let pass with a note.
    pub notes: Notes,
    /// Of the lane; none where values are no frames.
    resolver: Option<Resolver>,
}

/// A group that still takes events.
struct Open {
    kind: usize,
    schema: u32,
    /// Index in [`Decided::groups`].
    group: usize,
    events: Events,
}

/// An output, resolved: whose bytes, which key, where to.
pub struct Resolved<'a> {
    pub destination: &'a Destination,
    pub payload: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(String, Vec<u8>)],
}

impl Decided {
    /// Empty, for a batch on this many tables.
    pub fn clear(&mut self, tables: usize) {
        self.decisions.clear();
        self.rows.resize_with(tables, Rows::default);
        self.rows.iter_mut().for_each(Rows::clear);
        self.mark();
        self.used = 0;
        self.deprecated.clear();
        self.passed.clear();
        self.notes.clear();
    }

    fn mark(&mut self) {
        self.staged.clear();
        self.staged.extend(self.rows.iter().map(Rows::mark));
    }

    /// Decides about the records of one partition, in offset order. A chain is for one type, and a guest is told one schema
    /// id, so the events of each are a group; the decisions keep the records' order.
    pub fn partition(
        &mut self,
        gate: &Gate,
        revision: &Revision,
        batch: &RecordBatch,
        records: &[usize],
        meta: &BatchMeta,
    ) -> Result<(), Error> {
        if gate.registry.is_some() && self.resolver.is_none() {
            self.resolver = gate.resolver();
        }
        let first = self.decisions.len();
        let (mut fields, mut outer_fields) = (Fields::new(), Fields::new());
        let mut open: Vec<Open> = Vec::new();
        for &index in records {
            let entry = Entry { gate, revision, batch, record: &batch.records[index], time: meta.batch_time, kind: 0 };
            self.passed.begin();
            let mut desk = Desk {
                json: &mut self.json,
                spare: &mut self.spare,
                fields: &mut fields,
                rows: &mut self.rows,
                resolver: self.resolver.as_mut(),
                deprecated: &mut self.deprecated,
                outer: &mut self.outer,
                outer_fields: &mut outer_fields,
                passed: &mut self.passed,
                notes: &mut self.notes,
            };
            let admitted = match entry.admit(&mut desk) {
                Ok(admitted) => admitted,
                Err(Refused::Verdict(kind, verdict)) => {
                    let (group, event, staged, notice, passed) = (0, 0, None, None, 0..0);
                    let refused =
                        Decision { record: index, kind, group, event, verdict, fuel: 0, staged, notice, passed };
                    self.decisions.push(refused);
                    continue;
                }
                Err(Refused::Deleted(kind, staged)) => {
                    let (kind, verdict, passed) = (Some(kind), Verdict::Delete, self.passed.take());
                    let (group, event, fuel, notice) = (0, 0, 0, None);
                    self.decisions.push(Decision {
                        record: index,
                        kind,
                        group,
                        event,
                        verdict,
                        fuel,
                        staged,
                        notice,
                        passed,
                    });
                    continue;
                }
                Err(Refused::Error(error)) => return Err(error),
            };
            let (kind, schema, staged) = (admitted.kind, admitted.schema, admitted.staged);
            let place = match open.iter().position(|open| open.kind == kind && open.schema == schema) {
                Some(place) => place,
                None => {
                    open.push(Open { kind, schema, group: self.used, events: self.open_group() });
                    open.len() - 1
                }
            };
            let Open { group, events, .. } = &mut open[place];
            let (group, event, verdict) = (*group, events.len(), Verdict::Outputs(0..0));
            entry.enter(admitted.payload(&self.json), self.passed.view(&gate.header_names), events);
            let (kind, passed, notice) = (Some(kind), self.passed.take(), admitted.notice);
            let decision = Decision { record: index, kind, group, event, verdict, fuel: 0, staged, notice, passed };
            self.decisions.push(decision);
        }
        self.mark();
        for Open { kind, schema, group, events } in open {
            let Group { events: shared, results } = &mut self.groups[group];
            *shared = Arc::new(events);
            revision.chains[kind].chain.run(&BatchMeta { schema_id: schema, ..meta.clone() }, shared, results)?;
        }
        for decision in &mut self.decisions[first..] {
            if let (Some(kind), Verdict::Outputs(_)) = (decision.kind, &decision.verdict) {
                let results = &mut self.groups[decision.group].results;
                decision.fuel = results.fuel[decision.event];
                decision.verdict = settle(&revision.chains[kind].transforms, &mut results.outcomes[decision.event]);
            }
        }
        Ok(())
    }

    /// The next group's events, empty, with the memory of those before.
    fn open_group(&mut self) -> Events {
        if self.groups.len() == self.used {
            self.groups.push(Group::default());
        }
        let shared = std::mem::take(&mut self.groups[self.used].events);
        self.used += 1;
        // A store of the last batch may still hold them; they are freed with it.
        let mut events = Arc::try_unwrap(shared).unwrap_or_default();
        events.clear();
        events
    }

    /// Writes the rows of every decision that still has outputs, and turns what does not fit into a dead letter.
    /// `wanted` says which records the table has not had yet.
    pub fn rows(
        &mut self,
        gate: &Gate,
        revision: &Revision,
        batch: &RecordBatch,
        time: i64,
        wanted: impl Fn(&Record) -> bool,
    ) {
        for (rows, staged) in self.rows.iter_mut().zip(&self.staged) {
            rows.truncate(*staged);
        }
        let mut fields = Fields::new();
        for decision in &mut self.decisions {
            // What has an effect is of a type.
            let Some(kind) = decision.kind else { continue };
            let record = &batch.records[decision.record];
            let own = &gate.types[kind];
            self.marks.clear();
            self.marks.extend(own.tables().map(|table| (table, self.rows[table].mark())));
            let passed = self.passed.of(&gate.header_names, &decision.passed);
            let notice = &mut decision.notice;
            let written = match &decision.verdict {
                Verdict::Outputs(range) => {
                    let (event, staged) = (decision.event, decision.staged);
                    let group = &self.groups[decision.group];
                    range.clone().try_for_each(|output| {
                        let output = &group.results.outputs[index(output)];
                        let entry = Entry { gate, revision, batch, record, time, kind };
                        let resolved = resolve(&entry, group, event, output)?;
                        let as_it_came =
                            output.route == 0 && output.payload == Bytes::Input && output.headers.is_empty();
                        if let (true, Some(staged), Some(target)) = (as_it_came, staged, &own.output.table) {
                            entry.fits_topic(&resolved, passed)?;
                            self.rows[target.rows].upsert(staged);
                            return Ok(());
                        }
                        let mut borrowed = std::mem::take(&mut fields).recycle();
                        let done = entry.write(&resolved, passed, &mut borrowed, &mut self.rows);
                        fields = borrowed.recycle();
                        if let Some(observed) = done? {
                            notice.get_or_insert_default().observe(observed);
                        }
                        Ok(())
                    })
                }
                Verdict::Delete => match (decision.staged, &own.output.table) {
                    (Some(staged), Some(target)) => {
                        self.rows[target.rows].upsert(staged);
                        Ok(())
                    }
                    _ => delete(gate, &own.output, batch.key(record), &mut self.rows),
                },
                Verdict::Dropped | Verdict::Dead(_) => continue,
            };
            let keeps = written.is_ok() && wanted(record);
            if let Err(reason) = written {
                decision.verdict = Verdict::Dead(reason);
            }
            if !keeps {
                // An event leaves all of its rows, in every table, or none.
                self.marks.iter().for_each(|(table, mark)| self.rows[*table].truncate(*mark));
            }
        }
    }

    /// The headers that a decision's event has from its envelope.
    pub(super) fn passed<'a>(&'a self, gate: &'a Gate, decision: &Decision) -> View<'a> {
        self.passed.of(&gate.header_names, &decision.passed)
    }

    /// The message of an event as it went into the chain; nothing for one that never did.
    pub(super) fn message(&self, decision: &Decision) -> Option<&[u8]> {
        match &decision.verdict {
            Verdict::Outputs(_) => self.groups[decision.group].events.value(decision.event),
            Verdict::Delete | Verdict::Dropped | Verdict::Dead(_) => None,
        }
    }

    /// The outputs of a decision, resolved; those that were checked by [`Decided::rows`].
    pub(super) fn outputs<'a>(
        &'a self,
        entry: Entry<'a>,
        decision: &'a Decision,
    ) -> impl Iterator<Item = Result<Resolved<'a>, Box<Reason>>> {
        let outputs = match &decision.verdict {
            Verdict::Outputs(range) => Some((range.clone(), &self.groups[decision.group])),
            Verdict::Delete | Verdict::Dropped | Verdict::Dead(_) => None,
        };
        outputs.into_iter().flat_map(move |(range, group)| {
            range.map(move |output| resolve(&entry, group, decision.event, &group.results.outputs[index(output)]))
        })
    }
}

/// Where an output's bytes, key and topic are.
fn resolve<'a>(
    entry: &Entry<'a>,
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
    let unknown = || Reason::new(Stage::Output, "unknown-route", format!("there is no route {}", output.route));
    let destination = entry.own().destination(entry.chain(), output).ok_or_else(unknown)?;
    Ok(Resolved { destination, payload, key, headers: &output.headers })
}

/// A tombstone's effect on the destination's table; none where it has no table.
fn delete(gate: &Gate, to: &Destination, key: Option<&[u8]>, rows: &mut [Rows]) -> Result<(), Box<Reason>> {
    let Some(Target { table, rows: place }) = &to.table else { return Ok(()) };
    let impossible = |message: &str| Reason::new(Stage::Output, "delete-not-possible", message);
    let Some(delete) = &table.delete else {
        return Err(impossible(match table.shape.newer {
            Some(_) => "with only_if_newer a delete needs a value, which says whether it is newer than the row",
            None => "a record's key cannot say the values of the table's key",
        }));
    };
    let Some(key) = key else { return Err(impossible("the tombstone has no key")) };
    let indexing = gate.registry.as_ref().map(|registry| registry.indexes);
    delete.write(key, indexing, &mut rows[*place]).map_err(|undeleted| match undeleted {
        Undeleted::Misfit(unfit) => misfit(unfit),
        Undeleted::Undecodable(undecodable) => impossible(&undecodable.to_string()),
    })
}

pub(super) fn misfit(misfit: Misfit) -> Box<Reason> {
    Reason::new(Stage::Output, "row-value", misfit.to_string()).field(misfit.column)
}

/// A record on its way: through the contract, and, output by output, into the table and the topic.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub gate: &'a Gate,
    pub revision: &'a Revision,
    pub batch: &'a RecordBatch,
    pub record: &'a Record,
    /// Unix milliseconds: what rules call now.
    pub time: i64,
    /// Index in [`Gate::types`]; 0 until it is known.
    pub kind: usize,
}

impl<'a> Entry<'a> {
    /// What its type is held against.
    pub(super) fn own(&self) -> &'a EventType {
        &self.gate.types[self.kind]
    }

    pub(super) fn chain(&self) -> &'a TypeChain {
        &self.revision.chains[self.kind]
    }

    pub(super) fn view(&self, header: &'a dyn Fn(&str) -> Option<&'a [u8]>) -> RecordView<'a> {
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

    /// Returns what the contract says against the output, where that is let pass.
    fn write(
        &self,
        output: &Resolved<'a>,
        passed: View<'a>,
        fields: &mut Fields<'a>,
        rows: &mut [Rows],
    ) -> Result<Option<Box<Reason>>, Box<Reason>> {
        self.fits_topic(output, passed)?;
        let to = output.destination;
        let Some(payload) = output.payload else {
            self.has_key(output, None)?;
            return delete(self.gate, to, output.key, rows).map(|()| None);
        };
        let observed = self.weigh_output(to, payload, fields)?;
        self.has_key(output, Some(fields))?;
        let Some(Target { table, rows: place }) = &to.table else { return Ok(observed) };
        let header = |name: &str| {
            let own = output.headers.iter().rev().find(|(header, _)| header == name);
            let own = own.map(|(_, value)| value.as_slice()).or_else(|| passed.get(name));
            own.or_else(|| self.batch.header(self.record, name))
        };
        let mut row = rows[*place].begin();
        table.write(&to.contract, fields, &self.view(&header), &mut row).map_err(misfit)?;
        row.finish();
        Ok(observed)
    }

    /// The broker would refuse the whole batch for one record without a key, however often it is sent.
    fn has_key(&self, output: &Resolved<'_>, fields: Option<&Fields<'_>>) -> Result<(), Box<Reason>> {
        let topic = output.destination.topic.as_deref();
        let Some(topic) = topic.filter(|topic| self.gate.compacted.contains(*topic)) else { return Ok(()) };
        let field = fields.and_then(|fields| key_of(output.destination, fields));
        if output.key.is_some() || field.is_some() {
            return Ok(());
        }
        let message =
            format!("the output has no key, and topic {topic} is compacted, so it takes no record without one");
        Err(Reason::new(Stage::Output, "output-key-missing", message))
    }

    fn fits_topic(&self, output: &Resolved<'_>, passed: View<'_>) -> Result<(), Box<Reason>> {
        let Some(topic) = &output.destination.topic else { return Ok(()) };
        let most = self.gate.topic_bytes.get(topic).copied().unwrap_or(usize::MAX);
        let one = |(name, value): RawHeader<'_>| header_bytes(name, value) + reserved::renaming_bytes(name);
        let own: usize = self.batch.headers(self.record).map(one).sum();
        let brought: usize = passed.iter().map(|(name, value)| header_bytes(name, Some(value))).sum();
        let set: usize = output.headers.iter().map(|(name, value)| header_bytes(name, Some(value))).sum();
        let notices = if self.own().tells_notices() { limits::NOTICE_BYTES } else { 0 };
        let ours = 2 * limits::RECORD_OVERHEAD + self.revision.digest.len() + notices;
        let payload = output.payload.map_or(0, <[u8]>::len);
        // A key from a field is part of the payload, so twice the payload bounds it; as JSON a byte may become six.
        let payload = match output.destination.key.len() {
            0 => payload,
            1 => 2 * payload,
            fields => 7 * payload + fields * limits::RECORD_OVERHEAD,
        };
        let bytes = payload + output.key.map_or(0, <[u8]>::len) + own + brought + set + ours;
        if bytes > most {
            let message = format!("the output has {bytes} bytes with its headers, topic {topic} takes {most}");
            return Err(Reason::new(Stage::Output, "output-too-large", message));
        }
        Ok(())
    }
}

/// A batch's time, as the contract's rules want it.
pub(super) fn instant(unix_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or_default())
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
