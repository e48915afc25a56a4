//! Runs the contract stage for events in an envelope. The envelope is checked and removed, and the event is then
//! checked by its type.

use std::borrow::Cow;

use tollgate_contract::frame::SchemaId;
use tollgate_contract::{Contract, Fields, IdempotencyHash, ReasonCode, Slot, Value, text_of};

use super::entry::{Entry, instant};
use super::notice::Notice;
use super::passed::Passed;
use super::validate::Body;
use super::workbench::{Admitted, Deprecated, Refused, Unframed, Workbench};
use crate::dead_letter::{Reason, Stage};
use crate::gate::envelope::{Claim, Envelope, Key, Part, Payload, rejection};
use tollgate_config::Routing;

/// An envelope in Protobuf form.
struct Outer<'v, 'w> {
    bytes: &'v [u8],
    /// Whether the event was read from JSON, so that the payload is a placeholder.
    inner: bool,
    /// The schema that its frame names.
    schema: Option<SchemaId>,
    writer: Option<&'w Contract>,
}

/// The information in an envelope about its event.
struct Opened<'v> {
    kind: usize,
    /// The event's bytes, or `None` if it was JSON.
    payload: Option<&'v [u8]>,
    claim: Option<Claim>,
}

impl<'a> Entry<'a> {
    /// Runs the contract stage for events in an envelope.
    pub(super) fn admit_wrapped(
        &self,
        envelope: &Envelope,
        bench: &mut Workbench<'_>,
    ) -> Result<Admitted<'a>, Refused> {
        let Some(value) = self.batch.value(self.record) else {
            // If the envelope names the type, a tombstone's type is unknown, so it cannot delete.
            let single = self.gate.pipeline.contract.routing == Routing::Single;
            return Err(if single { Entry { kind: 0, ..*self }.deletes(bench).of(0) } else { self.tombstone() });
        };
        let Unframed { schema, writer, payload: value } =
            self.unframe(bench.frames.as_mut(), value, envelope.contract.message().full_name())?;
        let most = self.gate.pipeline.contract.policies.max_bytes;
        if value.len() > most {
            let message = format!("the envelope has {} bytes, and contract.max_bytes is {most}", value.len());
            return Err(rejection(ReasonCode::TooLarge, "", message).into());
        }
        let named = self.batch.header(self.record, "message-type").unwrap_or_default();
        if !named.is_empty() && named != envelope.contract.message().full_name().as_bytes() {
            let (named, wanted) = (String::from_utf8_lossy(named), envelope.contract.message().full_name());
            let message = format!("the header message-type names {named}, but the envelope is {wanted}");
            return Err(Reason::new(Stage::Contract, "wrong-message-type", message).into());
        }
        let mut notice = Notice::default();
        if !self.is_json() {
            let mut fields = std::mem::take(bench.outer_fields).recycle();
            let outer = Outer { bytes: value, inner: false, schema, writer: writer.as_deref() };
            let opened = self.open(envelope, &outer, &mut fields, (bench.passed, bench.deprecated, &mut notice));
            *bench.outer_fields = fields.recycle();
            let Opened { kind, payload, claim } = opened?;
            let entry = Entry { kind, ..*self };
            let Some(payload) = payload else { return Err(missing(envelope).of(kind)) };
            let sample = Body { writer: None, value: payload, claim: envelope.key.as_ref().zip(claim.as_ref()) };
            let examined = entry.examine(&sample, false, bench, &mut notice).map_err(|refused| refused.of(kind));
            let (in_bench, staged) = examined?;
            let value = (!in_bench).then_some(payload);
            // The schema id in a frame is the envelope's; the payload's is unknown.
            return Ok(Admitted { value, kind, schema: 0, staged, notice: notice.non_empty() });
        }
        let mut outer = std::mem::take(bench.outer);
        let inner = envelope.cut(value, &mut outer);
        let mut fields = std::mem::take(bench.outer_fields).recycle();
        let opened = inner.map_err(Refused::from).and_then(|inner| {
            let told = Outer { bytes: &outer, inner: inner.is_some(), schema: None, writer: None };
            let Opened { kind, payload, claim } =
                self.open(envelope, &told, &mut fields, (bench.passed, bench.deprecated, &mut notice))?;
            bench.json.clear();
            match (inner, payload) {
                (Some(json), _) => {
                    let entry = Entry { kind, ..*self };
                    let transcoded = entry.transcode(&json, bench, &mut notice);
                    transcoded.map_err(|rejection| Refused::from(rejection).of(kind))?;
                }
                (None, Some(payload)) => bench.json.extend_from_slice(payload),
                (None, None) => return Err(missing(envelope).of(kind)),
            }
            Ok((kind, claim))
        });
        *bench.outer_fields = fields.recycle();
        *bench.outer = outer;
        let (kind, claim) = opened?;
        let entry = Entry { kind, ..*self };
        let sample = Body { writer: None, value: &[], claim: envelope.key.as_ref().zip(claim.as_ref()) };
        let examined = entry.examine(&sample, true, bench, &mut notice).map_err(|refused| refused.of(kind));
        Ok(Admitted { value: None, kind, schema: 0, staged: examined?.1, notice: notice.non_empty() })
    }

    /// Checks an envelope against a contract, and reads its fields.
    fn hold<'v>(
        &self,
        contract: &Contract,
        bytes: &'v [u8],
        fields: &mut Fields<'v>,
        notice: &mut Notice,
    ) -> Result<(), Refused> {
        let Err(rejection) = contract.check_at(bytes, fields, instant(self.time)) else { return Ok(()) };
        if !self.accepts_anyway(&rejection) {
            return Err(rejection.into());
        }
        contract.read(bytes, fields)?;
        notice.observe(Reason::refused(Stage::Contract, rejection));
        Ok(())
    }

    /// Checks the envelope and reads its content.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
    fn open<'v>(
        &self,
        envelope: &Envelope,
        outer: &Outer<'v, '_>,
        fields: &mut Fields<'v>,
        (passed, deprecated, notice): (&mut Passed, &mut Deprecated, &mut Notice),
    ) -> Result<Opened<'v>, Refused> {
        let Outer { bytes, inner, schema, writer } = *outer;
        if let Some(foreign) = writer.filter(|writer| writer.digest() != envelope.contract.digest()) {
            self.hold(foreign, bytes, fields, notice)?;
        }
        self.hold(&envelope.contract, bytes, fields, notice)?;
        let (payload, url) = match envelope.payload {
            _ if inner => (None, None),
            Payload::Bytes(slot) => match fields.get(slot) {
                Value::Bytes(bytes) => (Some(bytes), None),
                // An event with no fields set has no bytes.
                Value::Default if !self.is_json() => (Some(&[][..]), None),
                _ => (None, None),
            },
            Payload::Any { there, .. } if fields.get(there) == Value::Absent => (None, None),
            Payload::Any { url, value, .. } => {
                let bytes = if let Value::Bytes(bytes) = fields.get(value) { bytes } else { &[] };
                let url = if let Value::Str(url) = fields.get(url) { url.as_str() } else { "" };
                (Some(bytes), Some(url.rsplit('/').next().unwrap_or_default()))
            }
        };
        let kind = self.kind_of(envelope, fields, url, inner)?;
        let message = self.gate.types[kind].contract.message().full_name();
        if let Some(named) = url.filter(|named| *named != message) {
            let text = format!("the payload is {named}, but the contract is {message}");
            return Err(Refused::from(Reason::new(Stage::Contract, "wrong-message-type", text)).of(kind));
        }
        let told = || envelope.version.and_then(|slot| envelope_text(envelope, fields, slot));
        let gated = Entry { kind, ..*self }.version(schema, told, deprecated);
        gated.or_else(|reason| self.accept_anyway(reason, notice)).map_err(|reason| Refused::from(reason).of(kind))?;
        for (index, slot) in envelope.header_slots.iter().enumerate() {
            if !matches!(fields.get(*slot), Value::Absent | Value::Default)
                && let Some(text) = text_of(&envelope.contract, fields, *slot)
            {
                passed.push(index, &text);
            }
        }
        let claim = envelope.key.as_ref().map(|key| Claim {
            key: envelope_text(envelope, fields, key.slot).unwrap_or_default(),
            texts: key.parts[kind]
                .iter()
                .map(|(part, _)| match part {
                    Part::Envelope(slot) => envelope_text(envelope, fields, *slot).unwrap_or_default(),
                    Part::Payload(_) | Part::Record | Part::Header(_) | Part::Text(_) => String::new(),
                })
                .collect(),
        });
        Ok(Opened { kind, payload, claim })
    }

    /// Returns the type that the envelope, or the Any in it, names.
    fn kind_of(
        &self,
        envelope: &Envelope,
        fields: &Fields<'_>,
        url: Option<&str>,
        inner: bool,
    ) -> Result<usize, Refused> {
        if self.gate.pipeline.contract.routing == Routing::Single {
            return Ok(0);
        }
        let Some(slot) = envelope.kind else {
            return match url {
                Some(message) => self.by_message(message),
                None if inner => {
                    let message = "in JSON the Any's type is not read; set contract.envelope.type to the field that names the \
                        type";
                    Err(Reason::new(Stage::Contract, "event-type-missing", message).into())
                }
                None => Err(missing(envelope)),
            };
        };
        match text_of(&envelope.contract, fields, slot) {
            Some(name) if !name.is_empty() => self.by_name(&name),
            _ => Err(Reason::new(Stage::Contract, "event-type-missing", "the envelope does not name its event's type")
                .into()),
        }
    }

    /// Checks whether the envelope's key was built from the configured parts.
    pub(super) fn key_holds(&self, key: &Key, claim: &Claim, fields: &Fields<'_>) -> Result<(), Box<Reason>> {
        let mismatch = |what: String| {
            let message = format!("{what}: it must be the {}", key.recipe(self.kind));
            Err(Reason::new(Stage::Contract, "idempotency-key-mismatch", message).field(&key.field))
        };
        if claim.key.is_empty() {
            return mismatch("the envelope has no idempotency key".to_owned());
        }
        let own = &self.own().contract;
        let mut hash = IdempotencyHash::new(&key.separator);
        for (index, (part, shown)) in key.parts[self.kind].iter().enumerate() {
            let found: Option<Cow<'_, [u8]>> = match part {
                Part::Envelope(_) => Some(Cow::Borrowed(claim.texts[index].as_bytes())),
                Part::Payload(slot) => text_of(own, fields, *slot).map(|text| match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                }),
                Part::Record => self.batch.key(self.record).map(Cow::Borrowed),
                Part::Header(name) => self.batch.header(self.record, name).map(Cow::Borrowed),
                Part::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
            };
            match found.filter(|found| !found.is_empty()) {
                Some(found) => hash.part(&found),
                None => return mismatch(format!("the idempotency key cannot be computed, because {shown} is not set")),
            }
        }
        if hash.finish() != claim.key {
            return mismatch("the idempotency key is wrong".to_owned());
        }
        Ok(())
    }
}

fn envelope_text(envelope: &Envelope, fields: &Fields<'_>, slot: Slot) -> Option<String> {
    text_of(&envelope.contract, fields, slot).map(Cow::into_owned)
}

fn missing(envelope: &Envelope) -> Refused {
    let message = format!("the envelope's {} is missing or empty", envelope.member[1]);
    Refused::from(Reason::new(Stage::Contract, "envelope-payload-missing", message).field(&envelope.member[1]))
}
