//! `contract.envelope:` the message around each event.

/// A message around each event, and the fields of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `message:` full name of the envelope's message type.
    pub message: String,
    /// `type:` field that names the event's type.
    pub kind: Option<String>,
    /// `payload:` field of the envelope itself with the event: bytes, or a google.protobuf.Any.
    pub payload: String,
    /// `version:` field with the version, for `accept_versions`.
    pub version: Option<String>,
    /// `headers:` header of the event → field of the envelope. In file order.
    pub headers: Vec<(String, String)>,
    pub idempotency_key: Option<IdempotencyKey>,
}

/// `contract.envelope.idempotency_key:` how the envelope's key is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// `field:` field of the envelope with the key.
    pub field: String,
    /// `of:` the hashed parts; a type may override them (`idempotency_of`).
    pub of: Vec<KeyPart>,
    pub separator: String,
}

/// A hashed part of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// `source`: a field of the envelope.
    Envelope(String),
    /// `payload.order_id`: a field of the event.
    Payload(String),
    /// `record.key`
    Key,
    /// `header.<name>`
    Header(String),
    /// `'text'`
    Text(String),
}

impl std::fmt::Display for KeyPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyPart::Envelope(path) => f.write_str(path),
            KeyPart::Payload(path) => write!(f, "payload.{path}"),
            KeyPart::Key => f.write_str("record.key"),
            KeyPart::Header(name) => write!(f, "header.{name}"),
            KeyPart::Text(text) => write!(f, "'{text}'"),
        }
    }
}

/// A built-in envelope, which needs no `.proto` file of the user, and the fields of its parts.
pub struct Shipped {
    pub message: &'static str,
    pub kind: &'static str,
    pub payload: &'static str,
    pub version: &'static str,
    /// Headers and their fields.
    pub headers: &'static [(&'static str, &'static str)],
    /// The field with the idempotency key.
    pub key: &'static str,
}

pub const SHIPPED: [Shipped; 2] = [
    Shipped {
        message: "tollgate.envelope.v1.EventEnvelope",
        kind: "event_type",
        payload: "payload",
        version: "schema_version",
        headers: &[
            ("event-type", "event_type"),
            ("schema-version", "schema_version"),
            ("idempotency-key", "idempotency_key"),
            ("trace-id", "trace_id"),
            ("ingested-at", "ingested_at"),
        ],
        key: "idempotency_key",
    },
    Shipped {
        message: "tollgate.envelope.v1.DomainEvent",
        kind: "event_type",
        payload: "data",
        version: "version",
        headers: &[
            ("event-type", "event_type"),
            ("schema-version", "version"),
            ("event-id", "event_id"),
            ("event-time", "timestamp"),
            ("event-source", "source"),
            ("correlation-id", "correlation_id"),
        ],
        key: "event_id",
    },
];
