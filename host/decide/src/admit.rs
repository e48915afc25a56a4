//! The contract stage: decides whether a record becomes an event.

use std::sync::Arc;

use tollgate_contract::frame::{Frame, KEY_HEADER, SchemaId};
use tollgate_contract::{Contract, Fields, Mode};
use tollgate_sandbox::Events;

use super::entry::{Entry, instant};
use super::frame::frame;
use super::notice::Notice;
use super::passed::View;
use super::validate::Body;
use super::verdict::Verdict;
use super::workbench::{Admitted, Deprecated, Frames, Refused, Unframed, Workbench};
use crate::dead_letter::{Reason, Stage};
use tollgate_config::{Routing, Tombstones, UnknownTypes, VersionBy};

impl<'a> Entry<'a> {
    /// Runs the stage. It also writes the row of an event that the chain may pass unchanged.
    pub(super) fn admit(&self, bench: &mut Workbench<'_>) -> Result<Admitted<'a>, Refused> {
        self.admit_value(bench).map_err(|refused| self.blame(refused))
    }

    fn admit_value(&self, bench: &mut Workbench<'_>) -> Result<Admitted<'a>, Refused> {
        // Drop the notes of a previous event that was rejected after all.
        drop(bench.notes.take_replaced());
        if let Some(envelope) = &self.gate.envelope {
            return self.admit_wrapped(envelope, bench);
        }
        if let Some(changes) = &self.gate.changes {
            return self.admit_change(changes, bench);
        }
        let kind = match &self.gate.pipeline.contract.routing {
            Routing::Single => 0,
            Routing::Header(name) => match self.batch.header(self.record, name) {
                Some(value) => self.by_name(&String::from_utf8_lossy(value))?,
                None => {
                    let message = format!("the record has no header {name}");
                    return Err(Reason::new(Stage::Contract, "event-type-missing", message).into());
                }
            },
            Routing::Frame | Routing::Envelope => self.by_frame(bench)?,
        };
        Entry { kind, ..*self }.admit_typed(bench).map_err(|refused| refused.of(kind))
    }

    /// Returns the type of the message that the record's frame names.
    fn by_frame(&self, bench: &mut Workbench<'_>) -> Result<usize, Refused> {
        let Some(value) = self.batch.value(self.record) else { return Err(self.tombstone()) };
        let Some(frames) = &mut bench.frames else { return Ok(0) };
        let (_, writer, _) = self.written(frames, value)?;
        self.by_message(writer.message().full_name())
    }

    /// Returns the type with this name.
    pub(super) fn by_name(&self, name: &str) -> Result<usize, Refused> {
        let found = self.gate.pipeline.types.iter().position(|kind| kind.name == name);
        found.ok_or_else(|| self.unknown_type(name))
    }

    /// Returns the type of this message.
    pub(super) fn by_message(&self, message: &str) -> Result<usize, Refused> {
        let found = self.gate.pipeline.types.iter().position(|kind| kind.message == message);
        found.ok_or_else(|| self.unknown_type(message))
    }

    #[cold]
    fn unknown_type(&self, named: &str) -> Refused {
        let pipeline = &self.gate.pipeline;
        if pipeline.contract.unknown_types == UnknownTypes::Drop {
            return Refused::Verdict(None, Verdict::Dropped);
        }
        let known: Vec<&str> = pipeline.types.iter().map(|kind| kind.name.as_str()).collect();
        let message = format!("unknown event type `{named}`; this pipeline knows {}", known.join(", "));
        Reason::new(Stage::Contract, "unknown-event-type", message).into()
    }

    /// Returns the verdict on a record without a value.
    #[cold]
    pub(super) fn tombstone(&self) -> Refused {
        Refused::Verdict(None, tombstone(self.gate.pipeline.contract.tombstones))
    }

    /// Works like [`Entry::tombstone`] for a record of a known type, whose key may need a registry's frame.
    #[cold]
    pub(super) fn deletes(&self, bench: &mut Workbench<'_>) -> Refused {
        self.key_schema(bench.frames.as_mut()).err().unwrap_or_else(|| self.tombstone())
    }

    /// Runs the stage for a record of a known type.
    fn admit_typed(&self, bench: &mut Workbench<'_>) -> Result<Admitted<'a>, Refused> {
        let Entry { batch, record, .. } = *self;
        let Some(value) = batch.value(record) else {
            return Err(self.deletes(bench));
        };
        self.names_the_message()?;
        let Unframed { schema, writer, payload: value } =
            self.unframe(bench.frames.as_mut(), value, self.own().contract.message().full_name())?;
        let mut notice = Notice::default();
        let gated = self.version(schema, || None, bench.deprecated);
        gated.or_else(|reason| self.accept_anyway(reason, &mut notice))?;
        let is_json = self.is_json();
        bench.json.clear();
        if is_json {
            self.transcode(value, bench, &mut notice)?;
        }
        let sample = Body { writer: writer.as_deref(), value, claim: None };
        let (in_bench, staged) = self.examine(&sample, is_json, bench, &mut notice)?;
        let schema = match schema {
            Some(SchemaId::Id(id)) => id,
            Some(SchemaId::Guid(_)) | None => 0,
        };
        Ok(Admitted {
            value: (!in_bench).then_some(value),
            kind: self.kind,
            schema,
            staged,
            notice: notice.non_empty(),
        })
    }

    /// Adds an admitted event to its group. `passed` are the headers of its envelope, which override the record's own.
    pub fn enter(&self, payload: &[u8], passed: View<'_>, events: &mut Events) {
        let Entry { batch, record, .. } = *self;
        events.push(batch.key(record), Some(payload), record.offset.get(), record.timestamp);
        for (name, value) in batch.headers(record) {
            events.headers.push(name, value);
        }
        for (name, value) in passed.iter() {
            events.headers.push(name, Some(value));
        }
        events.headers.end_record();
    }

    fn names_the_message(&self) -> Result<(), Box<Reason>> {
        let message = self.own().contract.message().full_name();
        match self.batch.header(self.record, "message-type") {
            Some(named) if named != message.as_bytes() => Err(wrong_message(&format!(
                "the header message-type names {}, but the contract is {message}",
                String::from_utf8_lossy(named)
            ))),
            _ => Ok(()),
        }
    }

    /// Removes the frame from a value, if values have frames. The frame must name the message `wanted`.
    pub(super) fn unframe(
        &self,
        frames: Option<&mut Frames<'_>>,
        value: &'a [u8],
        wanted: &str,
    ) -> Result<Unframed<'a>, Refused> {
        let Some(frames) = frames else { return Ok(Unframed { schema: None, writer: None, payload: value }) };
        let (schema, writer, payload) = self.written(frames, value)?;
        let written = writer.message().full_name();
        if written != wanted {
            let message = format!("schema {schema} names {written}, but the contract is {wanted}");
            return Err(wrong_message(&message).into());
        }
        Ok(Unframed { schema: Some(schema), writer: Some(writer), payload })
    }

    /// Returns the contract with which the record was written, whatever its message, and the message's bytes.
    fn written(
        &self,
        frames: &mut Frames<'_>,
        value: &'a [u8],
    ) -> Result<(SchemaId, Arc<Contract>, &'a [u8]), Refused> {
        let frame = frame(self.batch, self.record, value)
            .map_err(|fault| Reason::new(Stage::Contract, "frame-invalid", fault.to_string()))?;
        let (writer, payload) = frames.resolve(&frame).map_err(|error| match error.reason() {
            Some(code) => Reason::new(Stage::Contract, code, error.to_string()).into(),
            None => Refused::Missing(frame.schema),
        })?;
        Ok((frame.schema, writer, payload))
    }

    /// Checks the key of a deleting tombstone against the schema that its frame names, if it has one. The key's content
    /// is checked when the row is deleted.
    #[cold]
    fn key_schema(&self, frames: Option<&mut Frames<'_>>) -> Result<(), Refused> {
        let table = self.own().output.table.as_ref();
        let wanted = table.and_then(|target| target.table.delete.as_ref()?.message());
        let deletes = self.gate.pipeline.contract.tombstones == Tombstones::Delete;
        let (Some(wanted), Some(frames), Some(key), true) = (wanted, frames, self.batch.key(self.record), deletes)
        else {
            return Ok(());
        };
        let frame = match self.batch.header(self.record, KEY_HEADER) {
            Some(header) => Frame::from_header(header, key),
            None if key.first() == Some(&0) => Frame::parse(key),
            None => return Ok(()),
        };
        let impossible =
            |what: String| Reason::new(Stage::Output, "delete-not-possible", format!("the record key: {what}"));
        let frame = frame.map_err(|fault| impossible(fault.to_string()))?;
        let (writer, payload) = frames.resolve(&frame).map_err(|error| match error.reason() {
            Some(_) => impossible(error.to_string()).into(),
            None => Refused::Missing(frame.schema),
        })?;
        let (written, schema) = (writer.message().full_name(), frame.schema);
        if written != wanted {
            let what = format!("schema {schema} names {written}, but delete.key is {wanted}");
            return Err(impossible(what).into());
        }
        let checked = writer.check_at(payload, &mut Fields::new(), instant(self.time));
        checked
            .map_err(|rejection| impossible(format!("it is not a valid {written} of schema {schema}: {rejection}")))?;
        Ok(())
    }

    /// Accepts, under `mode: observe`, violations that are not about the encoding.
    pub(super) fn accept_anyway(&self, reason: Box<Reason>, notice: &mut Notice) -> Result<(), Box<Reason>> {
        match self.gate.pipeline.contract.policies.mode {
            Mode::Observe => {
                notice.observe(reason);
                Ok(())
            }
            Mode::DeadLetter | Mode::Halt => Err(reason),
        }
    }

    /// Applies the version gate of the type. `told` is the version in the envelope.
    pub(super) fn version(
        &self,
        schema: Option<SchemaId>,
        told: impl FnOnce() -> Option<String>,
        deprecated: &mut Deprecated,
    ) -> Result<(), Box<Reason>> {
        let Some(versions) = &self.gate.spec(self.kind).versions else { return Ok(()) };
        let id;
        let version = match (&versions.by, schema) {
            (VersionBy::Header(name), _) => match self.batch.header(self.record, name) {
                Some(value) => String::from_utf8_lossy(value),
                None => {
                    let message = format!("the record has no header {name}; accepted are {}", versions.known());
                    return Err(Reason::new(Stage::Contract, "version-missing", message));
                }
            },
            (VersionBy::Envelope, _) => match told().filter(|told| !told.is_empty()) {
                Some(told) => told.into(),
                None => {
                    let message = format!("the envelope has no version; accepted are {}", versions.known());
                    return Err(Reason::new(Stage::Contract, "version-missing", message));
                }
            },
            (VersionBy::SchemaId, Some(schema)) => {
                id = schema.to_string();
                id.as_str().into()
            }
            (VersionBy::SchemaId, None) => {
                return Err(Reason::new(Stage::Contract, "version-missing", "the record does not name a schema"));
            }
        };
        if versions.accept.iter().any(|accepted| *accepted == version) {
            return Ok(());
        }
        if let Some(place) = versions.deprecated.keys().position(|known| *known == version) {
            *deprecated.entry((self.kind, place)).or_default() += 1;
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
            "the record has no value, and `contract.tombstones` does not define what that means",
        )),
    }
}

fn wrong_message(message: &str) -> Box<Reason> {
    Reason::new(Stage::Contract, "wrong-message-type", message)
}
