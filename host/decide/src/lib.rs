//! From records to decisions: contract, transforms, output contract, row.
//!
//! ```text
//! (Gate, Revision, Batch, Known) → decisions
//! ```
//!
//! Deciding is pure: it asks no server and no clock. The batch carries its time, and [`Known`] holds what was read before.
//! So the same arguments give the same decisions, and the tests need no server.

mod admit;
pub mod batch;
mod changed;
pub mod content;
pub mod contracts;
pub mod dead_letter;
pub mod entry;
pub mod frame;
pub mod gate;
pub mod known;
pub mod notice;
mod passed;
pub mod postgres;
pub mod processed;
pub mod record;
pub mod reserved;
pub mod schemas;
mod settle;
pub mod types;
mod validate;
pub mod verdict;
mod workbench;
mod wrapped;

use std::collections::BTreeSet;
use std::sync::Arc;

use tollgate_contract::frame::SchemaId;
use tollgate_contract::{Fields, Notes};
use tollgate_sandbox::{BatchMeta, Bytes, Events, Results, RunError};

use self::entry::{Entry, Resolved, delete, index, resolve};
use self::passed::Passed;
pub use self::passed::View;
use self::settle::settle;
use self::verdict::{Decision, Verdict};
use self::workbench::{Deprecated, Frames, Refused, Workbench};
use crate::batch::{Batch, Record, RecordBatch};
use crate::dead_letter::Reason;
use crate::gate::{Gate, Revision};
use crate::known::Known;
use crate::postgres::{Mark, Rows};
use crate::schemas::Resolver;
use tollgate_protocol::position::Partition;

/// The reason why a batch could not be decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Sandbox(#[from] RunError),
    /// These schemas have to be read into [`Known::schemas`] first.
    #[error("the schemas {} have not been read", list(.0))]
    Missing(BTreeSet<SchemaId>),
}

fn list(ids: &BTreeSet<SchemaId>) -> String {
    ids.iter().map(SchemaId::to_string).collect::<Vec<_>>().join(", ")
}

/// The events of one partition, one type and one schema that reached the chain, and the chain's results.
#[derive(Default)]
pub struct Group {
    pub events: Arc<Events>,
    pub results: Results,
}

/// All decisions about a batch. The value is reused from batch to batch.
#[derive(Default)]
pub struct Decided {
    pub groups: Vec<Group>,
    pub decisions: Vec<Decision>,
    /// The rows, one for each of [`Gate::tables`].
    pub rows: Vec<Rows>,
    /// The end of each table's staged rows.
    staged: Vec<Mark>,
    /// The positions, before the current event, of the tables that it may write.
    marks: Vec<(usize, Mark)>,
    json: Vec<u8>,
    spare: Vec<u8>,
    used: usize,
    pub deprecated: Deprecated,
    /// The headers from envelopes.
    passed: Passed,
    outer: Vec<u8>,
    /// Violations that policies accepted with a note.
    pub notes: Notes,
    /// The contracts of earlier frames; `None` unless values are framed by a schema registry's serializer.
    resolver: Option<Resolver>,
}

/// A group that still accepts events.
struct Open {
    kind: usize,
    schema: u32,
    /// The index in [`Decided::groups`].
    group: usize,
    events: Events,
}

impl Decided {
    /// Clears the decisions, for a batch on this many tables.
    fn clear(&mut self, tables: usize) {
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

    /// Decides a batch, partition by partition. It replaces the decisions of the batch before.
    ///
    /// # Errors
    /// [`Error::Missing`] if schemas have to be read first; the caller then decides again. Otherwise a chain's error.
    pub fn decide(&mut self, gate: &Gate, revision: &Revision, batch: Batch<'_>, known: &Known) -> Result<(), Error> {
        self.clear(gate.tables.len());
        if self.resolver.is_none() {
            self.resolver = gate.resolver();
        }
        let mut missing = BTreeSet::new();
        for (partition, records) in by_partition(batch.records, batch.work) {
            let first = batch.records.records[records[0]].offset;
            let meta = BatchMeta {
                topic: gate.pipeline.source.topic.clone(),
                partition: partition.get(),
                schema_id: 0,
                batch_time: batch.time,
                // Derived from the record's coordinates only, so that a second attempt gets the same values.
                seed: (u64::from(partition.get().unsigned_abs()) << 48) ^ first.get().unsigned_abs(),
                overdue: known.overdue.get(&partition).cloned().unwrap_or_default(),
            };
            let first = self.decisions.len();
            let open = self.admit(gate, revision, Batch { work: &records, ..batch }, known, &mut missing);
            if missing.is_empty() {
                self.transform(revision, open, first, &meta)?;
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
    }

    /// Admits the records of one partition, in offset order. A chain handles one type, and a guest gets one schema id, so the
    /// events of each combination form a group; the decisions keep the records' order.
    fn admit(
        &mut self,
        gate: &Gate,
        revision: &Revision,
        batch: Batch<'_>,
        known: &Known,
        missing: &mut BTreeSet<SchemaId>,
    ) -> Vec<Open> {
        let Batch { records: batch, work, time } = batch;
        let (mut fields, mut outer_fields) = (Fields::new(), Fields::new());
        let mut open: Vec<Open> = Vec::new();
        // I4: one decision for each record.
        for &index in work {
            let entry = Entry { gate, revision, batch, record: &batch.records[index], time, kind: 0 };
            self.passed.begin();
            let mut bench = Workbench {
                json: &mut self.json,
                spare: &mut self.spare,
                fields: &mut fields,
                rows: &mut self.rows,
                frames: self.resolver.as_mut().map(|resolver| Frames { resolver, schemas: &known.schemas }),
                deprecated: &mut self.deprecated,
                outer: &mut self.outer,
                outer_fields: &mut outer_fields,
                passed: &mut self.passed,
                notes: &mut self.notes,
            };
            let admitted = match entry.admit(&mut bench) {
                Ok(admitted) => admitted,
                Err(Refused::Verdict(kind, verdict)) => {
                    self.decisions.push(Decision::without_event(index, kind, verdict));
                    continue;
                }
                Err(Refused::Deleted(kind, staged)) => {
                    let deleted = Decision::without_event(index, Some(kind), Verdict::Delete);
                    self.decisions.push(Decision { staged, passed: self.passed.take(), ..deleted });
                    continue;
                }
                Err(Refused::Missing(schema)) => {
                    missing.insert(schema);
                    continue;
                }
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
        open
    }

    /// Runs the chains on the groups, and settles the decisions from index `first` on.
    fn transform(&mut self, revision: &Revision, open: Vec<Open>, first: usize, meta: &BatchMeta) -> Result<(), Error> {
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

    /// Returns an empty event list for the next group, reusing memory.
    fn open_group(&mut self) -> Events {
        if self.groups.len() == self.used {
            self.groups.push(Group::default());
        }
        let shared = std::mem::take(&mut self.groups[self.used].events);
        self.used += 1;
        // A store of the last batch may still share the events. Then they are freed with it.
        let mut events = Arc::try_unwrap(shared).unwrap_or_default();
        events.clear();
        events
    }

    /// Writes the rows of every decision that still has outputs, and turns those that do not fit into dead letters.
    /// `wanted` selects the records whose rows are not committed yet.
    pub fn rows(&mut self, gate: &Gate, revision: &Revision, batch: Batch<'_>, wanted: impl Fn(&Record) -> bool) {
        let Batch { records: batch, time, .. } = batch;
        for (rows, staged) in self.rows.iter_mut().zip(&self.staged) {
            rows.truncate(*staged);
        }
        let mut fields = Fields::new();
        for decision in &mut self.decisions {
            // A decision with an effect has a type.
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
                // An event writes all of its rows, in every table, or none of them.
                self.marks.iter().for_each(|(table, mark)| self.rows[*table].truncate(*mark));
            }
        }
    }

    /// Returns the headers that a decision's event has from its envelope.
    pub fn passed<'a>(&'a self, gate: &'a Gate, decision: &Decision) -> View<'a> {
        self.passed.of(&gate.header_names, &decision.passed)
    }

    /// Returns an event's message as it entered the chain, or `None` if it never did.
    pub fn message(&self, decision: &Decision) -> Option<&[u8]> {
        match &decision.verdict {
            Verdict::Outputs(_) => self.groups[decision.group].events.value(decision.event),
            Verdict::Delete | Verdict::Dropped | Verdict::Dead(_) => None,
        }
    }

    /// Returns the resolved outputs of a decision that [`Decided::rows`] has checked.
    pub fn outputs<'a>(
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

/// Groups the records by partition, each in offset order. Partitions are sorted, which is also the order in which rows
/// are locked.
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
