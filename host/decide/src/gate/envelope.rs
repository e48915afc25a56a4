//! Reads envelopes: a message with its own rules that contains the event in one of its fields.
//!
//! The envelope is checked against its contract, yields the type and version of its event, and is removed. Chain, row
//! and output get only the event. Configured fields of the envelope become headers. In JSON both are JSON, and the
//! event is cut out of the text before the envelope is read, since its type is known only afterwards.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::DescriptorPool;
use tollgate_contract::{Contract, FieldPath, Kind, Policies, ReasonCode, Rejection, Slot, find_member};

use tollgate_config::{KeyPart, Pipeline, Routing};

/// A pipeline's envelope, compiled.
pub struct Envelope {
    pub contract: Contract,
    /// The contract's digest in hex.
    pub contract_digest: String,
    pub(crate) kind: Option<Slot>,
    pub(crate) payload: Payload,
    /// The payload's names in JSON.
    pub(crate) member: [String; 2],
    pub version: Option<Slot>,
    /// The header names, in the order of `headers:`.
    pub headers: Vec<String>,
    pub(crate) header_slots: Vec<Slot>,
    pub(crate) key: Option<Key>,
}

pub(crate) enum Payload {
    Bytes(Slot),
    Any { there: Slot, url: Slot, value: Slot },
}

/// The way in which idempotency keys are built.
pub(crate) struct Key {
    pub slot: Slot,
    pub field: String,
    pub separator: String,
    /// The parts for each type.
    pub parts: Vec<Vec<(Part, String)>>,
}

pub(crate) enum Part {
    Envelope(Slot),
    /// A field of the event, as a slot of its own contract.
    Payload(Slot),
    Record,
    Header(String),
    Text(String),
}

/// An idempotency key from the envelope, with the envelope's fields from which it must be built.
pub(crate) struct Claim {
    pub key: String,
    /// The texts of [`Part::Envelope`] in the order of the parts; empty for the other parts.
    pub texts: Vec<String>,
}

/// A setting that does not match the envelope's message type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's path in the file.
    pub key: String,
    pub message: String,
}

/// Returns the fields of an event from which its idempotency key is built. They are slots of its contract, in this
/// order.
pub fn key_fields(pipeline: &Pipeline, kind: &tollgate_config::EventType) -> Vec<FieldPath> {
    let parts = pipeline.key_parts(kind);
    let paths = parts.iter().filter_map(|part| match part {
        KeyPart::Payload(path) => Some(FieldPath::new(path)),
        KeyPart::Envelope(_) | KeyPart::Key | KeyPart::Header(_) | KeyPart::Text(_) => None,
    });
    paths.collect()
}

/// Returns why a field of this kind cannot be part of a key. Floats have no text form that is the same in all
/// languages.
pub fn no_text(kind: &Kind) -> Option<String> {
    let fits = matches!(
        kind,
        Kind::Bool | Kind::I32 | Kind::I64 | Kind::U32 | Kind::U64 | Kind::String | Kind::Enum(_) | Kind::Timestamp
    );
    (!fits).then(|| format!("is {}; it must be a string, a whole number, a bool, an enum or a Timestamp", kind.name()))
}

/// Collects the requested fields of the envelope.
pub(super) struct Slots<'p> {
    pool: &'p DescriptorPool,
    message: &'p str,
    pub(super) fields: Vec<FieldPath>,
    pub(super) problems: Vec<Problem>,
}

impl<'p> Slots<'p> {
    pub(super) fn new(pool: &'p DescriptorPool, message: &'p str) -> Slots<'p> {
        Slots { pool, message, fields: Vec::new(), problems: Vec::new() }
    }

    pub(super) fn add(&mut self, path: &str) -> Slot {
        self.fields.push(FieldPath::new(path));
        Slot(self.fields.len() - 1)
    }

    /// Returns the slot of a field that `unfit` accepts.
    pub(super) fn want(&mut self, key: &str, path: &str, unfit: impl Fn(&Kind) -> Option<String>) -> Slot {
        // Each path is compiled separately, so that every wrong path is reported and not only the first.
        let found = Contract::compile(self.pool, self.message, Policies::default(), &[FieldPath::new(path)]);
        let problem = match &found {
            Ok(contract) => {
                contract.fields().first().and_then(|info| unfit(&info.kind)).map(|why| format!("field {path} {why}"))
            }
            Err(error) => Some(error.to_string()),
        };
        match problem {
            Some(message) => {
                self.problems.push(Problem { key: key.to_owned(), message });
                Slot(0)
            }
            None => self.add(path),
        }
    }
}

impl Envelope {
    /// Compiles the envelope of a pipeline that has one. `pool` contains its message type.
    ///
    /// # Errors
    /// Returns all settings that do not match the message type.
    pub fn compile(
        pipeline: &Pipeline,
        spec: &tollgate_config::Envelope,
        pool: &DescriptorPool,
    ) -> Result<Envelope, Vec<Problem>> {
        const AT: &str = "contract.envelope";
        let problem = |key: &str, message: String| vec![Problem { key: format!("{AT}.{key}"), message }];
        let policies = Envelope::policies(pipeline);
        let alone = Contract::compile(pool, &spec.message, policies.clone(), &[]);
        let alone = alone.map_err(|error| problem("message", error.to_string()))?;
        let Some(field) = alone.message().get_field_by_name(&spec.payload) else {
            return Err(problem("payload", format!("{} has no field {}", spec.message, spec.payload)));
        };
        let mut slots = Slots::new(pool, &spec.message);
        let any = field.kind().as_message().is_some_and(|message| message.full_name() == "google.protobuf.Any");
        let payload = if any && !field.is_list() {
            let [url, value] = ["type_url", "value"].map(|part| slots.add(&format!("{}.{part}", spec.payload)));
            Payload::Any { there: slots.add(&spec.payload), url, value }
        } else {
            let bytes = |kind: &Kind| {
                (*kind != Kind::Bytes).then(|| format!("is {}; it must be bytes or a google.protobuf.Any", kind.name()))
            };
            Payload::Bytes(slots.want(&format!("{AT}.payload"), &spec.payload, bytes))
        };
        let routed = pipeline.contract.routing == Routing::Envelope;
        let kind = spec.kind.as_ref().map(|path| {
            let text = |kind: &Kind| {
                (!matches!(kind, Kind::String | Kind::Enum(_)))
                    .then(|| format!("is {}; it must be a string or an enum", kind.name()))
            };
            slots.want(&format!("{AT}.type"), path, text)
        });
        if routed && kind.is_none() && !any {
            slots
                .problems
                .extend(problem("type", "required key is missing: the field that names the event's type".to_owned()));
        }
        let version = spec.version.as_ref().map(|path| slots.want(&format!("{AT}.version"), path, no_text));
        let headers = spec.headers.iter();
        let header_slots =
            headers.map(|(name, path)| slots.want(&format!("{AT}.headers.{name}"), path, no_text)).collect();
        let key = spec.idempotency_key.as_ref().map(|key| Key::compile(pipeline, key, &mut slots));
        if !slots.problems.is_empty() {
            return Err(slots.problems);
        }
        let contract = Contract::compile(pool, &spec.message, policies, &slots.fields)
            .map_err(|error| problem("message", error.to_string()))?;
        Ok(Envelope {
            contract_digest: hex::encode(contract.digest()),
            contract,
            kind,
            payload,
            member: [field.json_name().to_owned(), field.name().to_owned()],
            version,
            headers: spec.headers.iter().map(|(name, _)| name.clone()).collect(),
            header_slots,
            key,
        })
    }

    /// Returns the pipeline's policies that apply to the envelope.
    pub fn policies(pipeline: &Pipeline) -> Policies {
        let policies = pipeline.contract.policies.leaving();
        // JSON input becomes a little longer when transcoded: it contains the event as base64.
        Policies { max_bytes: policies.max_bytes.saturating_mul(2), ..policies }
    }

    /// Cuts the event out of the JSON text. Returns the event's own text, and writes the envelope, with the event as
    /// bytes, to `outer`.
    pub(crate) fn cut<'v>(&self, json: &'v [u8], outer: &mut Vec<u8>) -> Result<Option<Cow<'v, [u8]>>, Rejection> {
        let names = [self.member[0].as_str(), self.member[1].as_str()];
        let place = find_member(json, &names, self.contract.policies().duplicate_members)?
            .filter(|place| &json[place.clone()] != b"null");
        let Some(place) = place else {
            self.contract.transcode_json(json, outer)?;
            return Ok(None);
        };
        let value = &json[place.clone()];
        let payload = match value.first() {
            Some(b'{') => Inner::Json(Cow::Borrowed(value)),
            Some(b'"') => {
                let text: String = serde_json::from_slice(value).unwrap_or_default();
                if text.trim_start().starts_with('{') {
                    Inner::Json(Cow::Owned(text.into_bytes()))
                } else {
                    // This is Protobuf's JSON mapping of bytes. Invalid base64 is rejected when the envelope is read.
                    Inner::Bytes
                }
            }
            _ => {
                let message = format!("{} must be an object, or a string that contains one", names[0]);
                return Err(rejection(ReasonCode::JsonWrongType, names[0], message));
            }
        };
        let Inner::Json(payload) = payload else {
            self.contract.transcode_json(json, outer)?;
            return Ok(None);
        };
        let stand_in = match self.payload {
            Payload::Bytes(_) => format!("\"{}\"", BASE64_STANDARD.encode(&payload)),
            Payload::Any { .. } => "null".to_owned(),
        };
        let text = [&json[..place.start], stand_in.as_bytes(), &json[place.end..]].concat();
        self.contract.transcode_json(&text, outer)?;
        Ok(Some(payload))
    }
}

/// Builds the rejection that the envelope's own contract would return if it could see the event.
pub(crate) fn rejection(code: ReasonCode, field: &str, message: String) -> Rejection {
    Rejection { code, field: field.to_owned(), message, violations: Vec::new() }
}

enum Inner<'v> {
    Json(Cow<'v, [u8]>),
    Bytes,
}

impl Key {
    fn compile(pipeline: &Pipeline, key: &tollgate_config::IdempotencyKey, slots: &mut Slots<'_>) -> Key {
        const AT: &str = "contract.envelope.idempotency_key";
        let text = |kind: &Kind| (*kind != Kind::String).then(|| format!("is {}; it must be a string", kind.name()));
        let slot = slots.want(&format!("{AT}.field"), &key.field, text);
        let parts = pipeline.types.iter().map(|kind| {
            let at = if kind.idempotency_of.is_some() { kind.place("idempotency_of") } else { format!("{AT}.of") };
            let mut payload = 0;
            let parts = pipeline.key_parts(kind).into_iter().map(|part| {
                let shown = part.to_string();
                let compiled = match part {
                    KeyPart::Envelope(path) => Part::Envelope(slots.want(&at, &path, no_text)),
                    KeyPart::Payload(_) => {
                        payload += 1;
                        Part::Payload(Slot(payload - 1))
                    }
                    KeyPart::Key => Part::Record,
                    KeyPart::Header(name) => Part::Header(name),
                    KeyPart::Text(text) => Part::Text(text),
                };
                (compiled, shown)
            });
            parts.collect()
        });
        Key { slot, field: key.field.clone(), separator: key.separator.clone(), parts: parts.collect() }
    }

    /// Describes how the key is built.
    pub(crate) fn recipe(&self, kind: usize) -> String {
        let parts: Vec<&str> = self.parts[kind].iter().map(|(_, shown)| shown.as_str()).collect();
        format!("SHA-256 of {}, joined by {:?}, in lower-case hexadecimal digits", parts.join(", "), self.separator)
    }
}

#[cfg(test)]
mod tests;
