//! A record being processed: its contract, its chain, and the destinations of its outputs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_contract::{Fields, Value, record_key};
use tollgate_sandbox::{Bytes, Output};

use super::Group;
use super::passed::View;
use crate::batch::{Record, RecordBatch};
use crate::dead_letter::{Reason, Stage};
use crate::gate::{Destination, EventType, Gate, Revision, Target, TypeChain};
use crate::postgres::Rows;
use crate::postgres::delete::Undeleted;
use crate::postgres::table::{Misfit, RecordView};
use crate::record::RawHeader;
use crate::record::header_bytes;
use crate::reserved;
use tollgate_config::limits;

/// A resolved output: its bytes, its key and its destination.
pub struct Resolved<'a> {
    pub destination: &'a Destination,
    pub payload: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(String, Vec<u8>)],
}

/// Resolves an output's bytes, key and topic.
pub(super) fn resolve<'a>(
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
    let unknown = || Reason::new(Stage::Output, "unknown-route", format!("unknown route {}", output.route));
    let destination = entry.own().destination(entry.chain(), output).ok_or_else(unknown)?;
    Ok(Resolved { destination, payload, key, headers: &output.headers })
}

/// Applies a tombstone to the destination's table, if it has one.
pub(super) fn delete(gate: &Gate, to: &Destination, key: Option<&[u8]>, rows: &mut [Rows]) -> Result<(), Box<Reason>> {
    let Some(Target { table, rows: place }) = &to.table else { return Ok(()) };
    let impossible = |message: &str| Reason::new(Stage::Output, "delete-not-possible", message);
    let Some(delete) = &table.delete else {
        return Err(impossible(match table.shape.newer {
            Some(_) => "with only_if_newer a delete needs a value, to compare its version with the row's",
            None => "the values of the table's key cannot be read from a record's key",
        }));
    };
    let Some(key) = key else { return Err(impossible("the tombstone has no key")) };
    let indexing = gate.framing.as_ref().map(|framing| framing.indexes);
    delete.write(key, indexing, &mut rows[*place]).map_err(|undeleted| match undeleted {
        Undeleted::Misfit(unfit) => misfit(unfit),
        Undeleted::Undecodable(undecodable) => impossible(&undecodable.to_string()),
    })
}

pub(super) fn misfit(misfit: Misfit) -> Box<Reason> {
    Reason::new(Stage::Output, "row-value", misfit.to_string()).field(misfit.column)
}

/// A record being processed: through its contract, and then output by output into the table and the topic.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub gate: &'a Gate,
    pub revision: &'a Revision,
    pub batch: &'a RecordBatch,
    pub record: &'a Record,
    /// The batch's time in Unix milliseconds, which is the value of `now` in rules.
    pub time: i64,
    /// The index in [`Gate::types`], or 0 until the type is known.
    pub kind: usize,
}

impl<'a> Entry<'a> {
    /// Returns the record's type.
    pub fn own(&self) -> &'a EventType {
        &self.gate.types[self.kind]
    }

    pub fn chain(&self) -> &'a TypeChain {
        &self.revision.chains[self.kind]
    }

    pub fn view(&self, header: &'a dyn Fn(&str) -> Option<&'a [u8]>) -> RecordView<'a> {
        RecordView {
            topic: &self.gate.pipeline.source.topic,
            partition: self.record.partition.get(),
            offset: self.record.offset.get(),
            timestamp: self.record.timestamp,
            key: self.batch.key(self.record),
            digest: &self.revision.digest,
            header,
        }
    }

    /// Writes an output's row. Returns how the output violates the contract, if the output is accepted despite the
    /// violation.
    pub(super) fn write(
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
        let observed = self.validate_output(to, payload, fields)?;
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

    /// Checks that the output has a key if its topic needs one. The broker would reject the whole batch for one record
    /// without a key, however often it is sent.
    fn has_key(&self, output: &Resolved<'_>, fields: Option<&Fields<'_>>) -> Result<(), Box<Reason>> {
        let topic = output.destination.topic.as_deref();
        let Some(topic) = topic.filter(|topic| self.gate.compacted.contains(*topic)) else { return Ok(()) };
        let field = fields.and_then(|fields| key_of(output.destination, fields));
        if output.key.is_some() || field.is_some() {
            return Ok(());
        }
        let message =
            format!("the output has no key, and topic {topic} is compacted, so it rejects records without one");
        Err(Reason::new(Stage::Output, "output-key-missing", message))
    }

    pub(super) fn fits_topic(&self, output: &Resolved<'_>, passed: View<'_>) -> Result<(), Box<Reason>> {
        let Some(topic) = &output.destination.topic else { return Ok(()) };
        let most = self.gate.topic_bytes.get(topic).copied().unwrap_or(usize::MAX);
        let one = |(name, value): RawHeader<'_>| header_bytes(name, value) + reserved::renaming_bytes(name);
        let own: usize = self.batch.headers(self.record).map(one).sum();
        let brought: usize = passed.iter().map(|(name, value)| header_bytes(name, Some(value))).sum();
        let set: usize = output.headers.iter().map(|(name, value)| header_bytes(name, Some(value))).sum();
        let notices = if self.own().tells_notices() { limits::NOTICE_BYTES } else { 0 };
        let ours = 2 * limits::RECORD_OVERHEAD + self.revision.digest.len() + notices;
        let payload = output.payload.map_or(0, <[u8]>::len);
        // A key from a field is part of the payload, so twice the payload is an upper bound. In JSON a byte may become
        // six.
        let payload = match output.destination.key.len() {
            0 => payload,
            1 => 2 * payload,
            fields => 7 * payload + fields * limits::RECORD_OVERHEAD,
        };
        let bytes = payload + output.key.map_or(0, <[u8]>::len) + own + brought + set + ours;
        if bytes > most {
            let message =
                format!("the output has {bytes} bytes with its headers, but topic {topic} accepts at most {most}");
            return Err(Reason::new(Stage::Output, "output-too-large", message));
        }
        Ok(())
    }
}

/// Converts a batch's time for the contract's rules.
pub(super) fn instant(unix_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or_default())
}

/// Returns the key that `output.key` builds for an output, if its fields are set.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
pub fn key_of(to: &Destination, fields: &Fields<'_>) -> Option<String> {
    let several = to.key.len() > 1;
    let parts: Vec<_> = to
        .key
        .iter()
        .map(|slot| {
            let field = to.contract.field(*slot);
            let value = match fields.get(*slot) {
                // In a composite key an empty field is an ordinary value. Alone it is not a key.
                Value::Default if several => field.default_value(),
                value => value,
            };
            (field.path.as_str(), value)
        })
        .collect();
    if parts.is_empty() { None } else { record_key(&parts) }
}

pub(super) fn index(value: u32) -> usize {
    // A usize has at least 32 bits on every target that librdkafka runs on.
    usize::try_from(value).unwrap_or(usize::MAX)
}
