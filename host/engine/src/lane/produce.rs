//! Runs the Kafka part of step 1: puts a batch's outputs and dead letters into the producer's queue.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rdkafka::message::OwnedHeaders;
use tollgate_contract::Fields;
use tollgate_contract::frame::SchemaId;

use super::transaction::Scope;
use super::{Current, Error};
use crate::kafka::headers;
use crate::position::Partition;
use crate::progress::plan::{self, Plan, Writer};
use crate::sinks::kafka::Producer;
use tollgate_config::OutputPartition;
use tollgate_config::limits;
use tollgate_decide::batch::{Record, RecordBatch};
use tollgate_decide::content::{is_content_type, is_json};
use tollgate_decide::dead_letter::{self, History, Home, Reason, Reference};
use tollgate_decide::entry::{Entry, Resolved, key_of};
use tollgate_decide::frame::frame;
use tollgate_decide::gate::{Destination, Gate};
use tollgate_decide::record::RawHeader;
use tollgate_decide::record::{Headers, NewRecord, header_bytes};
use tollgate_decide::reserved;
use tollgate_decide::verdict::{Decision, Verdict};
use tollgate_decide::{Decided, View};

/// Writes the batch's outputs and dead letters.
pub(super) struct Produce<'a> {
    scope: Scope<'a>,
    producer: &'a Producer,
    /// The redo plans of the partitions whose rows are written together with these records.
    plans: &'a mut BTreeMap<Partition, Writer>,
    /// The index of the current record in the batch, by which a rejection names it.
    mark: usize,
    /// The number of records for topics other than the dead letter topic.
    pub(super) outputs: u64,
}

impl<'a> Produce<'a> {
    pub(super) fn new(
        scope: Scope<'a>,
        producer: &'a Producer,
        plans: &'a mut BTreeMap<Partition, Writer>,
    ) -> Produce<'a> {
        Produce { scope, producer, plans, mark: 0, outputs: 0 }
    }

    /// Produces all outputs and dead letters that are still missing: those decided now, and those of the records `again`, which a
    /// redo plan holds.
    pub(super) fn all(&mut self, decided: &Decided, again: &[usize]) -> Result<(), Error> {
        for decision in &decided.decisions {
            let record = &self.scope.current.batch.records[decision.record];
            let owned = self.scope.partitions.get(&record.partition);
            if !owned.is_some_and(|owned| owned.resume.outputs.lacks(record.offset)) {
                continue;
            }
            self.mark = decision.record;
            match &decision.verdict {
                Verdict::Outputs(_) => self.outputs(decided, decision, record)?,
                Verdict::Delete => self.tombstone(decided, decision, record)?,
                Verdict::Dead(reason) => self.dead_letter(decision.kind, record, reason)?,
                Verdict::Dropped => {}
            }
        }
        for &index in again {
            let partition = self.scope.current.batch.records[index].partition;
            if let Some(plan) = self.scope.partitions.get(&partition).and_then(|owned| owned.plan.as_ref()) {
                self.again(plan, index)?;
            }
        }
        Ok(())
    }

    /// Produces again what was decided for a record, from its redo plan.
    fn again(&self, plan: &Plan, index: usize) -> Result<(), Error> {
        let record = &self.scope.current.batch.records[index];
        for (letter, headers) in plan.letters(self.source(record)) {
            let list = self.list(record, &headers, plan.digest());
            self.producer.send(index, letter, self.timestamp(record, &headers), list)?;
        }
        Ok(())
    }

    fn send(&mut self, record: &Record, letter: NewRecord<'_>, headers: &Headers<'_>) -> Result<(), Error> {
        let source = self.source(record);
        if let Some(plan) = self.plans.get_mut(&record.partition) {
            plan.note(source, &letter, headers);
        }
        let list = self.list(record, headers, &self.scope.current.revision.digest);
        Ok(self.producer.send(self.mark, letter, self.timestamp(record, headers), list)?)
    }

    /// Returns an output's timestamp: its source's, unless that is in the future, which a broker would reject. A dead
    /// letter has the time at which it is written, so that the topic's retention counts from then.
    fn timestamp(&self, record: &Record, headers: &Headers<'_>) -> Option<i64> {
        (headers.origin && record.timestamp >= 0).then(|| record.timestamp.min(self.scope.current.time))
    }

    fn source(&self, record: &Record) -> plan::Source<'a> {
        let batch = self.scope.current.batch;
        plan::Source { offset: record.offset, key: batch.key(record), value: batch.value(record) }
    }

    fn list(&self, record: &Record, given: &Headers<'_>, digest: &str) -> OwnedHeaders {
        list(self.scope.current.batch, record, given, &self.scope.gate.pipeline.source.topic, digest)
    }

    fn outputs(&mut self, decided: &Decided, decision: &Decision, record: &Record) -> Result<(), Error> {
        // An event with outputs has a type.
        let Some(kind) = decision.kind else { return Ok(()) };
        let Scope { gate, current: Current { batch, revision, time, .. }, .. } = self.scope;
        let entry = Entry { gate, revision, batch, record, time: *time, kind };
        for output in decided.outputs(entry, decision) {
            // This was checked when the rows were written: by now the event of an output that cannot be resolved is a
            // dead letter.
            let Ok(output) = output else { continue };
            let to = output.destination;
            let Some(topic) = to.topic.as_deref() else { continue };
            let mut text = None;
            if let (false, Some(payload)) = (to.key.is_empty(), output.payload) {
                let mut fields = Fields::new();
                // This was checked when the row was written. An event that was accepted with a warning then has its key
                // too.
                if to.contract.read(payload, &mut fields).is_ok() {
                    text = key_of(to, &fields);
                }
            }
            let key = text.as_deref().map(str::as_bytes).or(output.key);
            let letter = NewRecord { topic, partition: partition(to, record), key, value: output.payload };
            let mut headers = headers(entry, decided.passed(gate, decision), &output);
            if let Some(notice) = &decision.notice {
                notice.add_headers(&mut headers);
            }
            self.send(record, letter, &headers)?;
            self.outputs += 1;
        }
        Ok(())
    }

    fn tombstone(&mut self, decided: &Decided, decision: &Decision, record: &Record) -> Result<(), Error> {
        let Some(kind) = decision.kind else { return Ok(()) };
        let Scope { gate, current: Current { batch, revision, time, .. }, .. } = self.scope;
        let entry = Entry { gate, revision, batch, record, time: *time, kind };
        let destination = &entry.own().output;
        let Some(topic) = destination.topic.as_deref() else { return Ok(()) };
        let key = batch.key(record);
        let resolved = Resolved { destination, payload: None, key, headers: &[] };
        let letter = NewRecord { topic, partition: partition(destination, record), key, value: None };
        self.send(record, letter, &headers(entry, decided.passed(gate, decision), &resolved))?;
        self.outputs += 1;
        Ok(())
    }

    fn dead_letter(&mut self, kind: Option<usize>, record: &Record, reason: &Reason) -> Result<(), Error> {
        let (letter, headers) = dead_letter(self.scope.gate, self.scope.current, kind, record, reason);
        self.send(record, letter, &headers)
    }
}

/// Returns the headers of an output as the producer takes them. `topic` is the source's.
pub(super) fn list(
    batch: &RecordBatch,
    record: &Record,
    given: &Headers<'_>,
    topic: &str,
    digest: &str,
) -> OwnedHeaders {
    let mut list = OwnedHeaders::new_with_capacity(given.own.len() + 8);
    if given.kept {
        for (name, value) in batch.headers(record) {
            list = headers::add(list, name, value);
        }
    }
    for (name, value) in &given.own {
        list = headers::add(list, name, value.as_deref());
    }
    if given.origin {
        let source = format!("{topic}/{}/{}", record.partition, record.offset);
        list = headers::add(list, b"tollgate.source", Some(source.as_bytes()));
        list = headers::add(list, b"tollgate.digest", Some(digest.as_bytes()));
    }
    list
}

/// Builds the dead letter of a record, by reference if its topic cannot hold the record.
pub(super) fn dead_letter<'a>(
    gate: &'a Gate,
    current: &'a Current<'_>,
    kind: Option<usize>,
    record: &'a Record,
    reason: &'a Reason,
) -> (NewRecord<'a>, Headers<'a>) {
    let (batch, pipeline) = (current.batch, &gate.pipeline);
    let topic = pipeline.dead_letter.topic.as_str();
    let most = gate.topic_bytes.get(topic).copied().unwrap_or(usize::MAX);
    let (key, value) = (batch.key(record), batch.value(record));
    let home = Home {
        pipeline: &pipeline.name,
        letters: topic,
        topic: &pipeline.source.topic,
        partition: record.partition.get(),
        offset: record.offset.get(),
    };
    let source = dead_letter::Source {
        home,
        timestamp: record.timestamp,
        event_type: kind.map(|kind| gate.spec(kind).name.as_str()).filter(|name| !name.is_empty()),
        contract: gate.contract_of(kind),
        schema: schema(gate, batch, record),
        digest: &current.revision.digest,
        history: History::of(&home, current.time, |name| batch.header(record, name)),
    };
    let own = dead_letter::headers(&source, reason, None);
    let one = |(name, value): RawHeader<'_>| header_bytes(name, value) + reserved::renaming_bytes(name);
    let brought: usize = batch.headers(record).map(one).sum();
    let rest = own.bytes() + brought + key.map_or(0, <[u8]>::len) + limits::RECORD_OVERHEAD;
    if rest + value.map_or(0, <[u8]>::len) <= most {
        return (NewRecord { topic, partition: None, key, value }, behind(batch, record, own));
    }
    // The record is too large for the topic, so its coordinates, its digest and its first bytes are sent instead.
    let value = value.unwrap_or_default();
    let own = dead_letter::headers(&source, reason, Some(&Reference::to(value)));
    let fits = rest + limits::REFERENCE_BYTES * 2 < most;
    let headers = if fits { behind(batch, record, own) } else { Headers { kept: false, ..own } };
    (NewRecord { topic, partition: None, key: key.filter(|_| fits), value: Some(Reference::head(value)) }, headers)
}

/// Returns the headers of a dead letter, placed after those of its record.
fn behind<'a>(batch: &'a RecordBatch, record: &'a Record, own: Headers<'a>) -> Headers<'a> {
    let Some(renamed) = reserved::renamed(batch.headers(record)) else { return Headers { kept: true, ..own } };
    let mut headers = Headers { kept: false, own: Vec::with_capacity(renamed.len() + own.own.len()), ..own };
    renamed.into_iter().for_each(|(name, value)| headers.push(name, value));
    headers.own.extend(own.own);
    headers
}

/// Returns the schema id in a record.
fn schema(gate: &Gate, batch: &RecordBatch, record: &Record) -> Option<SchemaId> {
    gate.framing.as_ref()?;
    frame(batch, record, batch.value(record)?).ok().map(|frame| frame.schema)
}

fn partition(to: &Destination, record: &Record) -> Option<i32> {
    (to.partition == OutputPartition::Same).then_some(record.partition.get())
}

/// Returns the record's own headers, with those of its envelope, those set by the guest, and its origin.
pub(super) fn headers<'a>(entry: Entry<'a>, passed: View<'a>, output: &Resolved<'a>) -> Headers<'a> {
    let Entry { batch, record, .. } = entry;
    let set = |name: &[u8]| output.headers.iter().any(|(set, _)| set.as_bytes() == name);
    // Outputs are always Protobuf of the output contract, whatever the input's format.
    let leaves = |name: &[u8], value: Option<&'a [u8]>| match (name, value) {
        (name, Some(value)) if is_content_type(name) && is_json(value) => Some(&b"application/protobuf"[..]),
        (b"message-type", Some(_)) => Some(output.destination.contract.message().full_name().as_bytes()),
        _ => value,
    };
    let stays = |name: &[u8]| !set(name) && passed.get(name).is_none();
    let renamed = reserved::renamed(batch.headers(record));
    let kept =
        renamed.is_none() && batch.headers(record).all(|(name, value)| leaves(name, value) == value && stays(name));
    let mut headers = Headers { kept, own: Vec::new(), origin: true };
    if !kept {
        let unchanged = || batch.headers(record).map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        for (name, value) in renamed.unwrap_or_else(unchanged) {
            if stays(&name) {
                let value = leaves(&name, value);
                headers.push(name, value);
            }
        }
    }
    for (name, value) in passed.iter().filter(|(name, _)| !set(name.as_bytes())) {
        headers.push(name.as_bytes(), Some(value));
    }
    for (name, value) in output.headers {
        headers.push(name.as_bytes(), Some(value));
    }
    headers
}
