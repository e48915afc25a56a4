//! Step 1's Kafka side: a batch's outputs and dead letters, into the producer's queue.

use rdkafka::message::OwnedHeaders;
use tollgate_contract::frame::SchemaId;
use tollgate_contract::{Fields, Value};

use super::admit;
use super::decide::{Decided, Decision, Entry, Resolved, Verdict, is_json};
use super::notice::Notice;
use super::passed::View;
use super::{Carried, Error};
use crate::config::OutputPartition;
use crate::engine::Shared;
use crate::limits;
use crate::sinks::dead_letter::{self, Reason, Reference};
use crate::sinks::kafka::{HeaderList, Letter, Producer};
use crate::source::batch::Record;

/// Writes the batch's outputs and dead letters.
pub(super) struct Produce<'a> {
    pub shared: &'a Shared,
    pub carried: &'a Carried<'a>,
    pub decided: &'a Decided,
}

impl Produce<'_> {
    /// Everything that the Kafka side of the `wanted` records has not had yet.
    pub(super) fn all(&self, producer: &Producer, wanted: impl Fn(&Record) -> bool) -> Result<(), Error> {
        for decision in &self.decided.decisions {
            let record = &self.carried.batch.records[decision.record];
            if !wanted(record) {
                continue;
            }
            match &decision.verdict {
                Verdict::Outputs(_) => self.outputs(producer, decision, record)?,
                Verdict::Delete => self.tombstone(producer, decision, record)?,
                Verdict::Dead(reason) => self.dead_letter(producer, decision.kind, record, reason)?,
                Verdict::Dropped => {}
            }
        }
        Ok(())
    }

    fn outputs(&self, producer: &Producer, decision: &Decision, record: &Record) -> Result<(), Error> {
        // What has outputs is of a type.
        let Some(kind) = decision.kind else { return Ok(()) };
        let Carried { batch, revision, time, .. } = self.carried;
        let entry = Entry { gate: &self.shared.gate, revision, batch, record, time: *time, kind };
        let own = entry.own();
        for output in self.decided.outputs(entry, decision) {
            // Checked when the rows were written: what does not resolve is a dead letter by now.
            let Ok(output) = output else { continue };
            let Some(topic) = output.topic else { continue };
            let mut text = None;
            if let (Some(slot), Some(payload)) = (own.output_key, output.payload) {
                let mut fields = Fields::new();
                // Checked when the row was written; and what was let pass then has its key too.
                if own.output.read(payload, &mut fields).is_ok() {
                    text = key_text(fields.get(slot));
                }
            }
            let key = text.as_deref().map(str::as_bytes).or(output.key);
            let letter = Letter { topic, partition: self.partition(kind, topic, record), key, value: output.payload };
            let passed = self.decided.passed(entry.gate, decision);
            producer.send(letter, self.headers(entry, passed, &output, decision.notice.as_deref()))?;
        }
        Ok(())
    }

    fn partition(&self, kind: usize, topic: &str, record: &Record) -> Option<i32> {
        let output = self.shared.gate.spec(kind).output.as_ref()?;
        (output.partition == OutputPartition::Same && output.topic == topic).then_some(record.partition.0)
    }

    fn tombstone(&self, producer: &Producer, decision: &Decision, record: &Record) -> Result<(), Error> {
        let Some(kind) = decision.kind else { return Ok(()) };
        let Some(topic) = self.shared.gate.topic(kind) else { return Ok(()) };
        let key = self.carried.batch.key(record);
        let resolved = Resolved { topic: Some(topic), payload: None, key, headers: &[] };
        let letter = Letter { topic, partition: self.partition(kind, topic, record), key, value: None };
        let Carried { batch, revision, time, .. } = self.carried;
        let entry = Entry { gate: &self.shared.gate, revision, batch, record, time: *time, kind };
        Ok(producer.send(letter, self.headers(entry, View::default(), &resolved, None))?)
    }

    /// The record's own headers, with those of its envelope, what the guest set, what was let pass, and where it came from.
    fn headers(
        &self,
        entry: Entry<'_>,
        passed: View<'_>,
        output: &Resolved<'_>,
        notice: Option<&Notice>,
    ) -> OwnedHeaders {
        let Entry { batch, record, .. } = entry;
        let set = |name: &str| output.headers.iter().any(|(set, _)| set == name);
        let mut list = HeaderList::with_capacity(8);
        for (name, value) in batch.headers(record) {
            if set(name) || passed.get(name).is_some() {
                continue;
            }
            // What leaves is Protobuf of the output contract, whatever came in.
            list = match (name, value) {
                ("content-type", Some(value)) if is_json(value) => list.text(name, "application/protobuf"),
                ("message-type", Some(_)) => list.text(name, entry.own().output.message().full_name()),
                _ => list.push(name, value),
            };
        }
        for (name, value) in passed.iter().filter(|(name, _)| !set(name)) {
            list = list.push(name, Some(value));
        }
        for (name, value) in output.headers {
            list = list.push(name, Some(value));
        }
        if let Some(notice) = notice {
            list = notice.headers(list);
        }
        let topic = &self.shared.pipeline.source.topic;
        list.text("tollgate.source", &format!("{topic}/{}/{}", record.partition, record.offset))
            .text("tollgate.digest", &self.carried.revision.digest)
            .build()
    }

    fn dead_letter(
        &self,
        producer: &Producer,
        kind: Option<usize>,
        record: &Record,
        reason: &Reason,
    ) -> Result<(), Error> {
        let gate = &self.shared.gate;
        let batch = self.carried.batch;
        let topic = self.shared.pipeline.dead_letter.topic.as_str();
        let most = self.shared.gate.topic_bytes.get(topic).copied().unwrap_or(usize::MAX);
        let value = batch.value(record);
        let source = dead_letter::Source {
            pipeline: &self.shared.pipeline.name,
            topic: &self.shared.pipeline.source.topic,
            partition: record.partition.0,
            offset: record.offset.0,
            timestamp: record.timestamp,
            event_type: kind.map(|kind| gate.spec(kind).name.as_str()).filter(|name| !name.is_empty()),
            contract: gate.contract_of(kind),
            schema: self.schema(record),
            digest: &self.carried.revision.digest,
            failed_at: self.carried.time,
        };
        let key = batch.key(record);
        let (headers, bytes) = dead_letter::headers(&source, batch.headers(record), reason, None);
        let whole = value.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len) + bytes + limits::RECORD_OVERHEAD;
        if whole <= most {
            return Ok(producer.send(Letter { topic, partition: None, key, value }, headers)?);
        }
        // Too large for the topic: its coordinates, its digest and its first bytes stand for it.
        drop(headers);
        let value = value.unwrap_or_default();
        let reference = Reference::to(value);
        let own = bytes + key.map_or(0, <[u8]>::len) + limits::RECORD_OVERHEAD + limits::REFERENCE_BYTES * 2 < most;
        let kept = batch.headers(record).filter(|_| own);
        let (headers, _) = dead_letter::headers(&source, kept, reason, Some(&reference));
        let key = key.filter(|_| own);
        Ok(producer.send(Letter { topic, partition: None, key, value: Some(Reference::head(value)) }, headers)?)
    }

    /// The schema that a record names.
    fn schema(&self, record: &Record) -> Option<SchemaId> {
        self.shared.gate.registry.as_ref()?;
        let value = self.carried.batch.value(record)?;
        admit::frame(self.carried.batch, record, value).ok().map(|frame| frame.schema)
    }
}

/// A field as a record key.
pub(super) fn key_text(value: Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::I32(value) | Value::Enum(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::Str(value) => value.as_str().to_owned(),
        _ => return None,
    })
}
