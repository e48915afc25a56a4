//! Wraps each event in an envelope, a message whose fields describe its origin, and checks both.
//!
//! The engine's `contract.envelope` reads the same messages. The idempotency key is computed exactly as the engine
//! checks it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use prost_reflect::prost::Message as _;
use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use tollgate_contract::{CompileError, Contract, FieldPath, Fields, IdempotencyHash, Slot, text_of, type_name};

use crate::Violation;

/// The code for unset or unusable parts of an envelope.
const MISSING: &str = "envelope-value";

/// The way in which events are wrapped.
#[derive(Debug)]
pub struct Envelope {
    /// The contract of the envelope's message.
    pub contract: Contract,
    /// The field that holds the event: `bytes` or `google.protobuf.Any`.
    pub payload: String,
    /// The envelope's other fields, by dotted path.
    pub fields: Vec<(String, Fill)>,
    pub key: Option<IdempotencyKey>,
}

/// The value of an envelope's field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fill {
    /// The same text for every event, converted to the field's type.
    Text(String),
    /// A field of the event.
    Payload(String),
    /// A random W3C trace id: 32 lower-case hexadecimal digits.
    TraceId,
    /// The time at which the event is checked.
    Now,
}

/// The way in which the idempotency key is computed: SHA-256 over the parts, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The envelope's field that contains the key.
    pub field: String,
    pub parts: Vec<KeyPart>,
    /// The text between two parts.
    pub separator: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// A field of the envelope.
    Envelope(String),
    /// A field of the event.
    Payload(String),
    /// The record's key.
    RecordKey,
    /// A header of the record.
    Header(String),
    Text(String),
}

/// The reason why an envelope cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("{message} has no field {path}")]
    NoField { message: String, path: String },
    #[error("the envelope's field {path} holds the event and must be bytes or a google.protobuf.Any; it is {kind}")]
    Payload { path: String, kind: String },
    #[error("the envelope's field {path} is {kind}, which cannot be filled")]
    Unfillable { path: String, kind: String },
    #[error("the envelope's field {path} is {kind}: {text:?} is not a value of that type")]
    Text { path: String, kind: String, text: String },
    /// An error of a field of the event that the envelope needs.
    #[error("the event: {0}")]
    Event(CompileError),
    #[error(
        "the idempotency key is computed from the envelope's {path}, which is never set; set it to a text or to a field of \
         the event"
    )]
    UnsetPart { path: String },
    #[error(
        "the idempotency key is computed from the envelope's {path}, which differs in every run, so a repeated run would \
         produce other keys; set it to a field of the event"
    )]
    ChangingPart { path: String },
    #[error(
        "the idempotency key is computed from the record's header {name}, but records do not have it; add the header"
    )]
    UnsetHeader { name: String },
    #[error("the idempotency key is computed from the record's key, but records have none; name the key's fields")]
    NoRecordKey,
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// A compiled [`Envelope`].
#[derive(Debug)]
pub(crate) struct Wrap {
    pub(crate) contract: Contract,
    payload: FieldDescriptor,
    type_url: String,
    fields: Vec<Filled>,
    key: Option<Key>,
}

/// A singular field of the envelope, possibly within singular messages.
#[derive(Debug)]
struct Path {
    /// The messages around the field, from the outermost.
    parents: Vec<FieldDescriptor>,
    field: FieldDescriptor,
    /// The dotted path.
    shown: String,
}

#[derive(Debug)]
struct Filled {
    path: Path,
    from: From,
}

#[derive(Debug)]
enum From {
    Value(Value),
    /// A slot of the event's contract.
    Event(Slot),
    TraceId,
    Now,
}

#[derive(Debug)]
struct Key {
    path: Path,
    parts: Vec<(Part, String)>,
    separator: String,
}

#[derive(Debug)]
enum Part {
    /// A slot of the envelope's contract.
    Envelope(Slot),
    /// A slot of the event's contract.
    Event(Slot),
    RecordKey,
    Fixed(Vec<u8>),
}

/// The facts about the records that a wrap depends on.
pub(crate) struct Records<'r> {
    pub event: &'r MessageDescriptor,
    pub keyed: bool,
    pub headers: &'r [(String, Vec<u8>)],
}

impl Envelope {
    /// Returns the fields of the event that the envelope needs, in the order of their slots.
    pub(crate) fn event_fields(&self) -> Vec<FieldPath> {
        let filled = self.fields.iter().filter_map(|(_, fill)| match fill {
            Fill::Payload(path) => Some(path),
            Fill::Text(_) | Fill::TraceId | Fill::Now => None,
        });
        let parts = self.key.iter().flat_map(|key| &key.parts).filter_map(|part| match part {
            KeyPart::Payload(path) => Some(path),
            KeyPart::Envelope(_) | KeyPart::RecordKey | KeyPart::Header(_) | KeyPart::Text(_) => None,
        });
        filled.chain(parts).map(FieldPath::new).collect()
    }

    /// Compiles the envelope. In the event's contract, the fields of [`Envelope::event_fields`] have consecutive slots, which
    /// start at `first`.
    pub(crate) fn compile(self, first: usize, records: &Records<'_>) -> Result<Wrap, EnvelopeError> {
        let Envelope { contract, payload, fields, key } = self;
        let message = contract.message().clone();
        let Path { parents, field: payload, shown } = Path::find(&message, &payload)?;
        if !parents.is_empty() {
            return Err(EnvelopeError::NoField { message: message.full_name().to_owned(), path: shown });
        }
        if !holds_event(&payload) {
            return Err(EnvelopeError::Payload { path: shown, kind: kind_of(&payload) });
        }
        let mut next = first;
        let mut slot = || {
            next += 1;
            Slot(next - 1)
        };
        let mut filled = Vec::new();
        for (shown, fill) in &fields {
            let path = Path::find(&message, shown)?;
            let from = match fill {
                Fill::Text(text) => From::Value(path.value(text)?),
                Fill::Payload(_) => {
                    path.fillable()?;
                    From::Event(slot())
                }
                Fill::TraceId => {
                    path.expect(|kind| matches!(kind, Kind::String))?;
                    From::TraceId
                }
                Fill::Now => {
                    path.expect(|kind| matches!(kind, Kind::String) || is_timestamp(kind))?;
                    From::Now
                }
            };
            filled.push(Filled { path, from });
        }
        let mut wanted = Vec::new();
        let key = key.map(|key| compile_key(&key, &message, (&filled, records), &mut wanted, &mut slot)).transpose()?;
        let contract =
            Contract::compile(message.parent_pool(), message.full_name(), contract.policies().clone(), &wanted)?;
        let type_url = format!("type.googleapis.com/{}", records.event.full_name());
        Ok(Wrap { contract, payload, type_url, fields: filled, key })
    }
}

fn compile_key(
    key: &IdempotencyKey,
    message: &MessageDescriptor,
    (filled, records): (&[Filled], &Records<'_>),
    wanted: &mut Vec<FieldPath>,
    slot: &mut impl FnMut() -> Slot,
) -> Result<Key, EnvelopeError> {
    let path = Path::find(message, &key.field)?;
    path.expect(|kind| matches!(kind, Kind::String))?;
    let mut parts = Vec::new();
    for part in &key.parts {
        parts.push(match part {
            KeyPart::Envelope(path) => {
                match filled.iter().find(|filled| filled.path.shown == *path).map(|filled| &filled.from) {
                    None => return Err(EnvelopeError::UnsetPart { path: path.clone() }),
                    Some(From::TraceId | From::Now) => return Err(EnvelopeError::ChangingPart { path: path.clone() }),
                    Some(From::Value(_) | From::Event(_)) => {}
                }
                wanted.push(FieldPath::new(path));
                (Part::Envelope(Slot(wanted.len() - 1)), path.clone())
            }
            KeyPart::Payload(path) => (Part::Event(slot()), path.clone()),
            KeyPart::RecordKey if !records.keyed => return Err(EnvelopeError::NoRecordKey),
            KeyPart::RecordKey => (Part::RecordKey, "the record's key".to_owned()),
            KeyPart::Header(name) => match records.headers.iter().find(|(header, _)| header == name) {
                Some((_, value)) => (Part::Fixed(value.clone()), name.clone()),
                None => return Err(EnvelopeError::UnsetHeader { name: name.clone() }),
            },
            KeyPart::Text(text) => (Part::Fixed(text.clone().into_bytes()), text.clone()),
        });
    }
    Ok(Key { path, parts, separator: key.separator.clone() })
}

impl Wrap {
    /// Returns the envelope's bytes around `event`, whose fields were read with `contract`.
    ///
    /// # Errors
    /// Returns all violations of the envelope's contract, or the value that the event lacks.
    pub(crate) fn wrap(
        &self,
        event: &[u8],
        (contract, fields): (&Contract, &Fields<'_>),
        record_key: Option<&[u8]>,
        now: SystemTime,
    ) -> Result<Vec<u8>, Vec<Violation>> {
        let mut message = DynamicMessage::new(self.contract.message().clone());
        for Filled { path, from } in &self.fields {
            let value = match from {
                From::Value(value) => Some(value.clone()),
                From::TraceId => Some(Value::String(trace_id())),
                From::Now => time_value(&path.field, now),
                // If the event does not set the field, the envelope's field is unset too, and its rules decide.
                From::Event(slot) => match text_of(contract, fields, *slot) {
                    Some(text) => Some(path.value(&text).map_err(|error| unusable(&path.shown, &error))?),
                    None => None,
                },
            };
            if let Some(value) = value {
                path.set(&mut message, value);
            }
        }
        self.set_payload(&mut message, event);
        if let Some(key) = &self.key {
            let bytes = message.encode_to_vec();
            let text = self.key_text(key, &bytes, (contract, fields), record_key)?;
            key.path.set(&mut message, Value::String(text));
        }
        let bytes = message.encode_to_vec();
        self.contract.check_at(&bytes, &mut Fields::new(), now).map_err(Violation::all)?;
        Ok(bytes)
    }

    fn set_payload(&self, message: &mut DynamicMessage, event: &[u8]) {
        let bytes = Value::Bytes(event.to_vec().into());
        let Kind::Message(any) = self.payload.kind() else {
            message.set_field(&self.payload, bytes);
            return;
        };
        let mut value = DynamicMessage::new(any);
        value.set_field_by_name("type_url", Value::String(self.type_url.clone()));
        value.set_field_by_name("value", bytes);
        message.set_field(&self.payload, Value::Message(value));
    }

    fn key_text(
        &self,
        key: &Key,
        envelope: &[u8],
        (contract, fields): (&Contract, &Fields<'_>),
        record_key: Option<&[u8]>,
    ) -> Result<String, Vec<Violation>> {
        let mut own = Fields::new();
        self.contract.read(envelope, &mut own).map_err(Violation::all)?;
        let mut hash = IdempotencyHash::new(&key.separator);
        for (part, shown) in &key.parts {
            let bytes = |text: Cow<'_, str>| Cow::Owned(text.into_owned().into_bytes());
            let part: Option<Cow<'_, [u8]>> = match part {
                Part::Envelope(slot) => text_of(&self.contract, &own, *slot).map(bytes),
                Part::Event(slot) => text_of(contract, fields, *slot).map(bytes),
                Part::RecordKey => record_key.map(Cow::Borrowed),
                Part::Fixed(bytes) => Some(Cow::Borrowed(bytes.as_slice())),
            };
            let Some(part) = part.filter(|part| !part.is_empty()) else {
                let message = format!("the idempotency key cannot be computed, because {shown} is not set");
                return Err(vec![Violation::new(MISSING, shown.as_str(), message)]);
            };
            hash.part(&part);
        }
        Ok(hash.finish())
    }
}

#[cold]
fn unusable(path: &str, error: &EnvelopeError) -> Vec<Violation> {
    vec![Violation::new(MISSING, path, error.to_string())]
}

impl Path {
    /// Resolves a dotted path of singular fields.
    fn find(message: &MessageDescriptor, path: &str) -> Result<Path, EnvelopeError> {
        let missing = || EnvelopeError::NoField { message: message.full_name().to_owned(), path: path.to_owned() };
        let (mut parents, mut inside) = (Vec::new(), message.clone());
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let field = inside.get_field_by_name(name).ok_or_else(missing)?;
            if field.cardinality() == Cardinality::Repeated {
                return Err(EnvelopeError::Unfillable { path: path.to_owned(), kind: kind_of(&field) });
            }
            if names.peek().is_none() {
                return Ok(Path { parents, field, shown: path.to_owned() });
            }
            let Kind::Message(inner) = field.kind() else { return Err(missing()) };
            inside = inner;
            parents.push(field);
        }
        Err(missing())
    }

    /// Sets the field, creating the messages around it.
    fn set(&self, message: &mut DynamicMessage, value: Value) {
        let mut inside = message;
        for parent in &self.parents {
            let Value::Message(inner) = inside.get_field_mut(parent) else { return };
            inside = inner;
        }
        inside.set_field(&self.field, value);
    }

    fn expect(&self, fits: impl Fn(&Kind) -> bool) -> Result<(), EnvelopeError> {
        if fits(&self.field.kind()) {
            return Ok(());
        }
        Err(EnvelopeError::Unfillable { path: self.shown.clone(), kind: kind_of(&self.field) })
    }

    /// Checks that texts can be converted to the field's type.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
    fn fillable(&self) -> Result<(), EnvelopeError> {
        self.expect(|kind| match kind {
            Kind::Message(_) => is_timestamp(kind),
            Kind::Bytes | Kind::Double | Kind::Float => false,
            _ => true,
        })
    }

    /// Converts a text to the field's type.
    fn value(&self, text: &str) -> Result<Value, EnvelopeError> {
        self.fillable()?;
        let value = match self.field.kind() {
            Kind::String => Some(Value::String(text.to_owned())),
            Kind::Bool => text.parse().ok().map(Value::Bool),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(Value::U64),
            Kind::Enum(values) => {
                let named = values.get_value_by_name(text).map(|value| value.number());
                named.or_else(|| text.parse().ok()).map(Value::EnumNumber)
            }
            Kind::Message(message) => {
                let time: Option<prost_types::Timestamp> = text.parse().ok();
                time.map(|time| timestamp(&message, time.seconds, time.nanos))
            }
            Kind::Bytes | Kind::Double | Kind::Float => None,
        };
        value.ok_or_else(|| {
            let (path, kind) = (self.shown.clone(), kind_of(&self.field));
            EnvelopeError::Text { path, kind, text: text.to_owned() }
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn holds_event(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Bytes => true,
        Kind::Message(message) => message.full_name() == "google.protobuf.Any",
        _ => false,
    }
}

fn kind_of(field: &FieldDescriptor) -> String {
    let kind = field.kind();
    let name = type_name(&kind);
    if field.is_list() || field.is_map() { format!("repeated {name}") } else { name.to_owned() }
}

fn is_timestamp(kind: &Kind) -> bool {
    kind.as_message().is_some_and(|message| message.full_name() == "google.protobuf.Timestamp")
}

fn timestamp(message: &MessageDescriptor, seconds: i64, nanos: i32) -> Value {
    let mut value = DynamicMessage::new(message.clone());
    value.set_field_by_name("seconds", Value::I64(seconds));
    value.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(value)
}

/// Returns the time with millisecond precision; `None` before 1970.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn time_value(field: &FieldDescriptor, now: SystemTime) -> Option<Value> {
    let since = now.duration_since(UNIX_EPOCH).ok()?;
    let (seconds, nanos) =
        (i64::try_from(since.as_secs()).ok()?, i32::try_from(since.subsec_millis()).ok()? * 1_000_000);
    match field.kind() {
        Kind::Message(message) => Some(timestamp(&message, seconds, nanos)),
        _ => Some(Value::String(prost_types::Timestamp { seconds, nanos }.to_string())),
    }
}

fn trace_id() -> String {
    let mut text = String::with_capacity(32);
    // W3C forbids an id of zeros. A trace id must be unlikely to repeat, but it need not be hard to guess.
    _ = write!(text, "{:032x}", fastrand::u128(1..));
    text
}
