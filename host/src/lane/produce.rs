//! Step 1's Kafka side: a batch's outputs and dead letters, into the producer's queue.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use tollgate_contract::frame::SchemaId;
use tollgate_contract::{Fields, Value, record_key};

use super::admit;
use super::content::{is_content_type, is_json};
use super::decide::{Decided, Decision, Entry, Resolved, Verdict};
use super::gate::Destination;
use super::passed::View;
use super::{Carried, Error};
use crate::config::OutputPartition;
use crate::engine::Shared;
use crate::limits;
use crate::position::Partition;
use crate::progress::plan::{self, Plan, Writer};
use crate::sinks::dead_letter::{self, Reason, Reference};
use crate::sinks::kafka::{Headers, Letter, Producer, header_bytes};
use crate::source::batch::Record;

/// Writes the batch's outputs and dead letters.
pub(super) struct Produce<'a> {
    shared: &'a Shared,
    carried: &'a Carried<'a>,
    producer: &'a Producer,
    /// The redo plans of the partitions whose rows are written with these letters.
    plans: &'a mut BTreeMap<Partition, Writer>,
    /// The record in work: its index in the batch, by which a refusal names it.
    mark: usize,
}

impl<'a> Produce<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        carried: &'a Carried<'a>,
        producer: &'a Producer,
        plans: &'a mut BTreeMap<Partition, Writer>,
    ) -> Produce<'a> {
        Produce { shared, carried, producer, plans, mark: 0 }
    }

    /// Everything that the Kafka side of the `wanted` records has not had yet.
    pub(super) fn all(&mut self, decided: &Decided, wanted: impl Fn(&Record) -> bool) -> Result<(), Error> {
        for decision in &decided.decisions {
            let record = &self.carried.batch.records[decision.record];
            if !wanted(record) {
                continue;
            }
            self.mark = decision.record;
            match &decision.verdict {
                Verdict::Outputs(_) => self.outputs(decided, decision, record)?,
                Verdict::Delete => self.tombstone(decision, record)?,
                Verdict::Dead(reason) => self.dead_letter(decision.kind, record, reason)?,
                Verdict::Dropped => {}
            }
        }
        Ok(())
    }

    /// What a record produced when it was decided, once more.
    pub(super) fn again(&self, plan: &Plan, index: usize) -> Result<(), Error> {
        let record = &self.carried.batch.records[index];
        for (letter, headers) in plan.letters(self.source(record)) {
            let list = self.list(record, &headers, plan.digest());
            self.producer.send(index, letter, self.timestamp(record, &headers), list)?;
        }
        Ok(())
    }

    fn send(&mut self, record: &Record, letter: Letter<'_>, headers: &Headers<'_>) -> Result<(), Error> {
        let source = self.source(record);
        if let Some(plan) = self.plans.get_mut(&record.partition) {
            plan.note(source, &letter, headers);
        }
        let list = self.list(record, headers, &self.carried.revision.digest);
        Ok(self.producer.send(self.mark, letter, self.timestamp(record, headers), list)?)
    }

    /// An output has its source's timestamp, but none from the future, which a broker would refuse. A dead letter has the time
    /// at which it is written: the topic's retention counts from there.
    fn timestamp(&self, record: &Record, headers: &Headers<'_>) -> Option<i64> {
        (headers.origin && record.timestamp >= 0).then(|| record.timestamp.min(self.carried.time))
    }

    fn source(&self, record: &Record) -> plan::Source<'a> {
        let batch = self.carried.batch;
        plan::Source { offset: record.offset, key: batch.key(record), value: batch.value(record) }
    }

    fn list(&self, record: &Record, headers: &Headers<'_>, digest: &str) -> OwnedHeaders {
        let mut list = OwnedHeaders::new_with_capacity(headers.own.len() + 8);
        if headers.kept {
            for (key, value) in self.carried.batch.headers(record) {
                list = list.insert(Header { key, value });
            }
        }
        for (key, value) in &headers.own {
            list = list.insert(Header { key, value: value.as_deref() });
        }
        if headers.origin {
            let topic = &self.shared.pipeline.source.topic;
            let source = format!("{topic}/{}/{}", record.partition, record.offset);
            list = list.insert(Header { key: "tollgate.source", value: Some(&source) });
            list = list.insert(Header { key: "tollgate.digest", value: Some(digest) });
        }
        list
    }

    fn outputs(&mut self, decided: &Decided, decision: &Decision, record: &Record) -> Result<(), Error> {
        // What has outputs is of a type.
        let Some(kind) = decision.kind else { return Ok(()) };
        let Carried { batch, revision, time, .. } = self.carried;
        let gate = &self.shared.gate;
        let entry = Entry { gate, revision, batch, record, time: *time, kind };
        for output in decided.outputs(entry, decision) {
            // Checked when the rows were written: what does not resolve is a dead letter by now.
            let Ok(output) = output else { continue };
            let to = output.destination;
            let Some(topic) = to.topic.as_deref() else { continue };
            let mut text = None;
            if let (false, Some(payload)) = (to.key.is_empty(), output.payload) {
                let mut fields = Fields::new();
                // Checked when the row was written; and what was let pass then has its key too.
                if to.contract.read(payload, &mut fields).is_ok() {
                    text = key_of(to, &fields);
                }
            }
            let key = text.as_deref().map(str::as_bytes).or(output.key);
            let letter = Letter { topic, partition: partition(to, record), key, value: output.payload };
            let mut headers = headers(entry, decided.passed(gate, decision), &output);
            if let Some(notice) = &decision.notice {
                notice.tell(&mut headers);
            }
            self.send(record, letter, &headers)?;
        }
        Ok(())
    }

    fn tombstone(&mut self, decision: &Decision, record: &Record) -> Result<(), Error> {
        let Some(kind) = decision.kind else { return Ok(()) };
        let Carried { batch, revision, time, .. } = self.carried;
        let gate = &self.shared.gate;
        let entry = Entry { gate, revision, batch, record, time: *time, kind };
        let destination = &entry.own().output;
        let Some(topic) = destination.topic.as_deref() else { return Ok(()) };
        let key = batch.key(record);
        let resolved = Resolved { destination, payload: None, key, headers: &[] };
        let letter = Letter { topic, partition: partition(destination, record), key, value: None };
        self.send(record, letter, &headers(entry, View::default(), &resolved))
    }

    fn dead_letter(&mut self, kind: Option<usize>, record: &Record, reason: &Reason) -> Result<(), Error> {
        let shared = self.shared;
        let gate = &shared.gate;
        let batch = self.carried.batch;
        let topic = shared.pipeline.dead_letter.topic.as_str();
        let most = gate.topic_bytes.get(topic).copied().unwrap_or(usize::MAX);
        let (key, value) = (batch.key(record), batch.value(record));
        let source = dead_letter::Source {
            pipeline: &shared.pipeline.name,
            topic: &shared.pipeline.source.topic,
            partition: record.partition.0,
            offset: record.offset.0,
            timestamp: record.timestamp,
            event_type: kind.map(|kind| gate.spec(kind).name.as_str()).filter(|name| !name.is_empty()),
            contract: gate.contract_of(kind),
            schema: self.schema(record),
            digest: &self.carried.revision.digest,
            failed_at: self.carried.time,
        };
        let headers = dead_letter::headers(&source, reason, None);
        let kept: usize = batch.headers(record).map(|(name, value)| header_bytes(name, value)).sum();
        let rest = headers.bytes() + kept + key.map_or(0, <[u8]>::len) + limits::RECORD_OVERHEAD;
        if rest + value.map_or(0, <[u8]>::len) <= most {
            return self.send(record, Letter { topic, partition: None, key, value }, &headers);
        }
        // Too large for the topic: its coordinates, its digest and its first bytes stand for it.
        let value = value.unwrap_or_default();
        let reference = Reference::to(value);
        let kept = rest + limits::REFERENCE_BYTES * 2 < most;
        let headers = Headers { kept, ..dead_letter::headers(&source, reason, Some(&reference)) };
        let letter = Letter { topic, partition: None, key: key.filter(|_| kept), value: Some(Reference::head(value)) };
        self.send(record, letter, &headers)
    }

    /// The schema that a record names.
    fn schema(&self, record: &Record) -> Option<SchemaId> {
        self.shared.gate.registry.as_ref()?;
        let value = self.carried.batch.value(record)?;
        admit::frame(self.carried.batch, record, value).ok().map(|frame| frame.schema)
    }
}

fn partition(to: &Destination, record: &Record) -> Option<i32> {
    (to.partition == OutputPartition::Same).then_some(record.partition.0)
}

/// The record's own headers, with those of its envelope, what the guest set, and where it came from.
fn headers<'a>(entry: Entry<'a>, passed: View<'a>, output: &Resolved<'a>) -> Headers<'a> {
    let Entry { batch, record, .. } = entry;
    let set = |name: &str| output.headers.iter().any(|(set, _)| set == name);
    // What leaves is Protobuf of the output contract, whatever came in.
    let leaves = |name: &str, value: Option<&'a [u8]>| match (name, value) {
        (name, Some(value)) if is_content_type(name) && is_json(value) => Some(&b"application/protobuf"[..]),
        ("message-type", Some(_)) => Some(output.destination.contract.message().full_name().as_bytes()),
        _ => value,
    };
    let stays = |name: &str| !set(name) && passed.get(name).is_none();
    let kept = batch.headers(record).all(|(name, value)| leaves(name, value) == value && stays(name));
    let mut headers = Headers { kept, own: Vec::new(), origin: true };
    for (name, value) in batch.headers(record).filter(|(name, _)| !kept && stays(name)) {
        headers.push(name, leaves(name, value));
    }
    for (name, value) in passed.iter().filter(|(name, _)| !set(name)) {
        headers.push(name, Some(value));
    }
    for (name, value) in output.headers {
        headers.push(name, Some(value));
    }
    headers
}

/// The key that `output.key` makes of an output, where its fields are set.
pub(super) fn key_of(to: &Destination, fields: &Fields<'_>) -> Option<String> {
    let several = to.key.len() > 1;
    let parts: Vec<_> = to
        .key
        .iter()
        .map(|slot| {
            let field = to.contract.field(*slot);
            let value = match fields.get(*slot) {
                // Beside others an empty field is a value like every other; alone it is no key.
                Value::Default if several => field.default_value(),
                value => value,
            };
            (field.path.as_str(), value)
        })
        .collect();
    if parts.is_empty() { None } else { record_key(&parts) }
}
