//! The contract of a topic. It turns an [`Event`] into a [`Ready`], or reports all its violations. It does no I/O.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use prost_reflect::MessageDescriptor;
use tollgate_contract::frame::{Frame, indexes_of};
use tollgate_contract::{Contract, FieldPath, Fields, Kind, Slot, Value, record_key};

use crate::envelope::{Envelope, EnvelopeError, Records, Wrap};
use crate::{Event, Payload, Rejected, SetupError, Violation};

/// A topic with its contract and the contents of its records.
#[derive(Debug)]
pub struct Route {
    pub topic: String,
    pub contract: Contract,
    /// The fields that form the record's key. Records without a key go to random partitions.
    pub key: Vec<FieldPath>,
    /// The value of the header `schema-version`.
    pub schema_version: Option<String>,
    /// The id of the value's schema in a registry. If it is set, values are framed in Confluent's wire format.
    pub schema_id: Option<u32>,
    /// The envelope of each event. If it is set, the record's value is the envelope.
    pub envelope: Option<Envelope>,
    /// Additional headers of every record.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Route {
    #[must_use]
    pub fn new(topic: impl Into<String>, contract: Contract) -> Route {
        Route {
            topic: topic.into(),
            contract,
            key: Vec::new(),
            schema_version: None,
            schema_id: None,
            envelope: None,
            headers: Vec::new(),
        }
    }

    /// Adds this field to the key, like the engine's `output.key`.
    #[must_use]
    pub fn key(mut self, field: impl Into<String>) -> Route {
        self.key.push(FieldPath::new(field));
        self
    }

    #[must_use]
    pub fn schema_version(mut self, version: impl Into<String>) -> Route {
        self.schema_version = Some(version.into());
        self
    }

    /// Frames the values in Confluent's wire format with this id.
    #[must_use]
    pub fn schema_id(mut self, id: u32) -> Route {
        self.schema_id = Some(id);
        self
    }

    /// Wraps each event in an envelope.
    #[must_use]
    pub fn envelope(mut self, envelope: Envelope) -> Route {
        self.envelope = Some(envelope);
        self
    }

    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Route {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A compiled route. It needs no broker, and its checks give the same results as the producer's.
#[derive(Debug)]
pub struct Gate {
    pub(crate) topic: Arc<str>,
    contract: Contract,
    /// The fields of the key, which have the first slots.
    key: Vec<FieldPath>,
    envelope: Option<Wrap>,
    /// The prefix of the message in a value.
    frame: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// An event that has passed the checks. Only this type can be sent.
#[derive(Debug)]
pub struct Ready<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Cow<'a, [u8]>,
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) timestamp: Option<i64>,
}

impl Ready<'_> {
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.gate.topic
    }

    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Returns the record's value as it will be written.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

impl Gate {
    /// # Errors
    /// Fails if the key's field does not exist, or has a type that cannot form a key.
    pub fn new(route: Route) -> Result<Gate, SetupError> {
        let Route { topic, contract, key, schema_version, schema_id, envelope, headers: further } = route;
        let event = contract.message().clone();
        let mut wanted = key.clone();
        wanted.extend(envelope.iter().flat_map(Envelope::event_fields));
        let contract = if wanted.is_empty() {
            contract
        } else {
            // The contract keeps the fields of the key and of the envelope.
            let compile = |fields: &[FieldPath]| {
                Contract::compile(event.parent_pool(), event.full_name(), contract.policies().clone(), fields)
            };
            let compiled = compile(&wanted).map_err(|source| match compile(&key) {
                Ok(_) => {
                    let source = Box::new(EnvelopeError::Event(source));
                    SetupError::Envelope { topic: topic.clone(), source }
                }
                Err(source) => SetupError::Key { topic: topic.clone(), source },
            })?;
            if let Some(field) = compiled.fields().iter().take(key.len()).find(|field| !can_be_key(&field.kind)) {
                let (field, kind) = (field.path.to_string(), field.kind.name());
                return Err(SetupError::KeyKind { topic, field, kind });
            }
            compiled
        };
        let records = Records { event: &event, keyed: !key.is_empty(), headers: &further };
        let wrap = envelope.map(|envelope| envelope.compile(key.len(), &records)).transpose();
        let envelope =
            wrap.map_err(|source| SetupError::Envelope { topic: topic.clone(), source: Box::new(source) })?;
        let message = envelope.as_ref().map_or(&event, |envelope| envelope.contract.message());
        let mut headers = vec![
            ("content-type".to_owned(), b"application/protobuf".to_vec()),
            ("message-type".to_owned(), message.full_name().as_bytes().to_vec()),
        ];
        headers.extend(schema_version.map(|version| ("schema-version".to_owned(), version.into_bytes())));
        headers.extend(further);
        let mut frame = Vec::new();
        if let Some(id) = schema_id {
            Frame::write_protobuf(&mut frame, id, &indexes_of(message));
        }
        Ok(Gate { topic: topic.into(), contract, key, envelope, frame, headers })
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the message type of the events that [`Gate::check`] takes.
    pub(crate) fn input(&self) -> &MessageDescriptor {
        self.contract.message()
    }

    /// Returns the maximum size of an event in bytes.
    pub(crate) fn max_bytes(&self) -> usize {
        self.contract.policies().max_bytes
    }

    /// Checks an event against the contract, and wraps it if the route has an envelope. The event's `topic` is ignored.
    ///
    /// # Errors
    /// Returns all violations of the contract or of the envelope's, or the key field that is not set.
    pub fn check<'a>(&'a self, event: &Event<'a>) -> Result<Ready<'a>, Rejected> {
        let message: Cow<'a, [u8]> = match event.payload {
            Payload::Protobuf(bytes) => Cow::Borrowed(bytes),
            Payload::Json(text) => {
                let mut bytes = Vec::new();
                self.contract.transcode_json(text, &mut bytes).map_err(|rejection| self.rejected(rejection))?;
                Cow::Owned(bytes)
            }
        };
        let mut fields = Fields::new();
        let now = SystemTime::now();
        self.contract.check_at(&message, &mut fields, now).map_err(|rejection| self.rejected(rejection))?;
        let key = match event.key {
            Some(key) => Some(Cow::Borrowed(key)),
            None if self.key.is_empty() => None,
            None => Some(Cow::Owned(self.key_of(&fields)?.into_bytes())),
        };
        let wrapped = self.envelope.as_ref().map(|envelope| {
            let wrapped = envelope.wrap(&message, (&self.contract, &fields), key.as_deref(), now);
            wrapped.map_err(|violations| self.reject(violations))
        });
        let wrapped = wrapped.transpose()?;
        drop(fields);
        let message = wrapped.map_or(message, Cow::Owned);
        let value = match self.frame.as_slice() {
            [] => message,
            frame => Cow::Owned([frame, &message].concat()),
        };
        Ok(Ready { gate: self, key, value, headers: event.headers, timestamp: event.timestamp })
    }

    /// Creates a rejection by this gate, for errors that its caller finds before there is an event.
    #[must_use]
    pub fn reject(&self, violations: Vec<Violation>) -> Rejected {
        Rejected {
            topic: Arc::clone(&self.topic),
            contract: self.contract.message().full_name().to_owned(),
            violations,
            letter: None,
        }
    }

    /// Returns the key from an event's fields. An empty text is not a key, because all such events would go to one
    /// partition.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
    fn key_of(&self, fields: &Fields<'_>) -> Result<String, Rejected> {
        let mut parts = Vec::with_capacity(self.key.len());
        for (slot, path) in self.key.iter().enumerate() {
            let value = match fields.get(Slot(slot)) {
                Value::Default => self.contract.field(Slot(slot)).default_value(),
                value => value,
            };
            if matches!(value, Value::Absent) || matches!(value, Value::Str(text) if text.is_empty()) {
                return Err(self.keyless(path));
            }
            parts.push((path.as_str(), value));
        }
        record_key(&parts).ok_or_else(|| self.keyless(&self.key[0]))
    }

    #[cold]
    fn rejected(&self, rejection: tollgate_contract::Rejection) -> Rejected {
        self.reject(Violation::all(rejection))
    }

    #[cold]
    fn keyless(&self, path: &FieldPath) -> Rejected {
        let message = "the record's key is built from this field, but it is not set or empty";
        self.reject(vec![Violation::new("key-missing", path.as_str(), message)])
    }
}

fn can_be_key(kind: &Kind) -> bool {
    match kind {
        Kind::Bool | Kind::I32 | Kind::I64 | Kind::U32 | Kind::U64 | Kind::String | Kind::Enum(_) => true,
        Kind::F32
        | Kind::F64
        | Kind::Bytes
        | Kind::Message(_)
        | Kind::Timestamp
        | Kind::Duration
        | Kind::Oneof(_)
        | Kind::Repeated(_)
        | Kind::Map(..) => false,
    }
}
