//! The contract stage: whether a record becomes an event.

use std::sync::Arc;

use tollgate_contract::frame::{Frame, FrameFault, SchemaId, VALUE_HEADER};
use tollgate_contract::{Contract, Fields, Rejection};
use tollgate_sandbox::Events;

use super::Error;
use super::decide::{Entry, Verdict, instant, is_json, refused};
use crate::config::{Encoding, Tombstones, VersionBy, Versions};
use crate::error::Class;
use crate::registry::Resolver;
use crate::sinks::dead_letter::{Reason, Stage};
use crate::sinks::postgres::{Rows, Staged};
use crate::source::batch::{Record, RecordBatch};

/// What the stage works with, from record to record.
pub(super) struct Desk<'d> {
    /// A JSON payload's Protobuf form, until the next record.
    pub json: &'d mut Vec<u8>,
    pub fields: &'d mut Fields<'static>,
    /// Of each table.
    pub rows: &'d mut [Rows],
    pub resolver: Option<&'d mut Resolver>,
    pub deprecated: &'d mut Vec<u64>,
}

/// A record that became an event.
pub(super) struct Admitted<'a> {
    /// The message's bytes; none: they stand in [`Desk::json`].
    value: Option<&'a [u8]>,
    /// Index in [`super::gate::Gate::types`].
    pub kind: usize,
    /// The number of its schema, or 0.
    pub schema: u32,
    pub staged: Option<Staged>,
}

impl<'a> Admitted<'a> {
    pub fn payload<'p>(&self, json: &'p [u8]) -> &'p [u8]
    where
        'a: 'p,
    {
        self.value.unwrap_or(json)
    }
}

/// Why it did not.
pub(super) enum Refused {
    /// That is its verdict; and its type, if that could be told.
    Verdict(Option<usize>, Verdict),
    /// Not its fault: the registry is away.
    Error(Error),
}

impl From<Box<Reason>> for Refused {
    fn from(reason: Box<Reason>) -> Refused {
        Refused::Verdict(None, Verdict::Dead(reason))
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Refused {
        refused(Stage::Contract, rejection).into()
    }
}

impl Refused {
    fn of(self, kind: usize) -> Refused {
        match self {
            Refused::Verdict(_, verdict) => Refused::Verdict(Some(kind), verdict),
            Refused::Error(error) => Refused::Error(error),
        }
    }
}

/// The frame of a record's value: its schema in the value itself, or in a header.
pub(super) fn frame<'b>(batch: &'b RecordBatch, record: &Record, value: &'b [u8]) -> Result<Frame<'b>, FrameFault> {
    match batch.header(record, VALUE_HEADER) {
        Some(header) => Frame::from_header(header, value),
        None => Frame::parse(value),
    }
}

impl<'a> Entry<'a> {
    /// The stage, up to the row of an event that the chain passes.
    pub fn admit(&self, desk: &mut Desk<'_>) -> Result<Admitted<'a>, Refused> {
        self.admit_typed(desk).map_err(|refused| refused.of(self.kind))
    }

    /// The stage for a record of a known type.
    fn admit_typed(&self, desk: &mut Desk<'_>) -> Result<Admitted<'a>, Refused> {
        let Entry { gate, batch, record, .. } = *self;
        let contract = &gate.pipeline.contract;
        let Some(value) = batch.value(record) else {
            return Err(Refused::Verdict(None, tombstone(contract.tombstones)));
        };
        self.names_the_message()?;
        let (schema, writer, value) = match desk.resolver.as_deref_mut() {
            Some(resolver) => {
                let (schema, writer, payload) = self.resolve(resolver, value)?;
                (Some(schema), Some(writer), payload)
            }
            None => (None, None, value),
        };
        if let Some(versions) = &contract.versions {
            self.version(versions, schema, desk.deprecated)?;
        }
        let is_json = match contract.encoding {
            // A frame's schema says what it is.
            _ if schema.is_some() => false,
            Encoding::Protobuf => false,
            Encoding::Json => true,
            Encoding::Auto => batch.header(record, "content-type").is_some_and(is_json),
        };
        desk.json.clear();
        if is_json {
            self.own().contract.transcode_json(value, desk.json)?;
        }
        let payload: &[u8] = if is_json { desk.json } else { value };
        let mut fields = std::mem::take(desk.fields).recycle();
        let checked = self.check(writer.as_deref(), payload, &mut fields, &mut desk.rows[self.own().rows]);
        *desk.fields = fields.recycle();
        let schema = match schema {
            Some(SchemaId::Id(id)) => id,
            Some(SchemaId::Guid(_)) | None => 0,
        };
        Ok(Admitted { value: (!is_json).then_some(value), kind: self.kind, schema, staged: checked? })
    }

    /// Hands an admitted event to its group.
    pub fn enter(&self, payload: &[u8], events: &mut Events) {
        let Entry { batch, record, .. } = *self;
        events.push(batch.key(record), Some(payload), record.offset.0, record.timestamp);
        for (name, value) in batch.headers(record) {
            events.headers.push(name, value);
        }
        events.headers.end_record();
    }

    fn names_the_message(&self) -> Result<(), Box<Reason>> {
        let message = self.own().contract.message().full_name();
        match self.batch.header(self.record, "message-type") {
            Some(named) if named != message.as_bytes() => Err(wrong_message(&format!(
                "the header message-type names {}, the contract is {message}",
                String::from_utf8_lossy(named)
            ))),
            _ => Ok(()),
        }
    }

    /// The contract that the record was written with, and the message's bytes.
    fn resolve(
        &self,
        resolver: &mut Resolver,
        value: &'a [u8],
    ) -> Result<(SchemaId, Arc<Contract>, &'a [u8]), Refused> {
        let frame = frame(self.batch, self.record, value)
            .map_err(|fault| Reason::new(Stage::Contract, "frame-invalid", fault.to_string()))?;
        let (writer, payload) = resolver.resolve(&frame).map_err(|error| match (error.class(), error.reason()) {
            (Class::Poison, Some(code)) => Reason::new(Stage::Contract, code, error.to_string()).into(),
            _ => Refused::Error(Error::Registry(error)),
        })?;
        let (written, wanted) = (writer.message().full_name(), self.own().contract.message().full_name());
        if written != wanted {
            let message = format!("schema {} names {written}, the contract is {wanted}", frame.schema);
            return Err(wrong_message(&message).into());
        }
        Ok((frame.schema, writer, payload))
    }

    /// Checks a payload that came in, against the contract that it was written with. Where the sinks want that very message
    /// type, the check that reads their fields is made now, and the row written: most events pass the chain as they are, and
    /// are not read again.
    fn check<'p>(
        &self,
        writer: Option<&Contract>,
        payload: &'p [u8],
        fields: &mut Fields<'p>,
        rows: &mut Rows,
    ) -> Result<Option<Staged>, Rejection> {
        let now = instant(self.time);
        let own = self.own();
        let foreign = writer.filter(|writer| writer.digest() != own.contract.digest());
        if foreign.is_some() || !own.stages {
            return foreign.unwrap_or(&own.contract).check_at(payload, fields, now).map(|()| None);
        }
        own.output.check_at(payload, fields, now)?;
        let header = |name: &str| self.batch.header(self.record, name);
        let mut row = rows.begin();
        // What does not fit its column is the event's fault only if the chain passes it: `write` says so then.
        let written = own.table.write(&own.output, fields, &self.view(&header), &mut row);
        Ok(written.ok().map(|()| row.stage()))
    }

    /// The version gate.
    fn version(
        &self,
        versions: &Versions,
        schema: Option<SchemaId>,
        deprecated: &mut Vec<u64>,
    ) -> Result<(), Box<Reason>> {
        let id;
        let version = match (&versions.by, schema) {
            (VersionBy::Header(name), _) => match self.batch.header(self.record, name) {
                Some(value) => String::from_utf8_lossy(value),
                None => {
                    let message = format!("there is no header {name}; accepted are {}", versions.known());
                    return Err(Reason::new(Stage::Contract, "version-missing", message));
                }
            },
            (VersionBy::SchemaId, Some(schema)) => {
                id = schema.to_string();
                id.as_str().into()
            }
            (VersionBy::SchemaId, None) => {
                return Err(Reason::new(Stage::Contract, "version-missing", "the record names no schema"));
            }
        };
        if versions.accept.iter().any(|accepted| *accepted == version) {
            return Ok(());
        }
        if let Some(place) = versions.deprecated.keys().position(|known| *known == version) {
            deprecated.resize(versions.deprecated.len(), 0);
            deprecated[place] += 1;
            return Ok(());
        }
        if let Some(advice) = versions.removed.get(&*version) {
            let message = format!("version {version} is no longer accepted: {advice}");
            return Err(Reason::new(Stage::Contract, "version-removed", message));
        }
        let message = format!("version {version} is not accepted; accepted are {}", versions.known());
        Err(Reason::new(Stage::Contract, "version-not-accepted", message))
    }
}

fn tombstone(policy: Tombstones) -> Verdict {
    match policy {
        Tombstones::Drop => Verdict::Dropped,
        Tombstones::Delete => Verdict::Delete,
        Tombstones::DeadLetter => Verdict::Dead(Reason::new(
            Stage::Contract,
            "tombstone",
            "the record has no value, and `contract.tombstones` does not say what that means",
        )),
    }
}

fn wrong_message(message: &str) -> Box<Reason> {
    Reason::new(Stage::Contract, "wrong-message-type", message)
}
