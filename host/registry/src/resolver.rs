//! Resolves frames to a contract and a payload. Lanes call this for every record of a framed topic.
//!
//! Each lane has its own resolver, so that a known frame needs no lock and no allocation: a lookup by id, then one by
//! the bytes of the indexes. Only unknown frames go to the store that the lanes share.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use prost_reflect::MessageDescriptor;
use tollgate_contract::frame::{Frame, FrameFault, IndexFault, Indexing, MessageIndexes, SchemaId};
use tollgate_contract::{CompileError, Contract};

use super::{SchemaError, SchemaKind, SchemaStore};
use tollgate_config::error::Class;
use tollgate_config::limits;

/// Builds a contract for a frame's message, with the pipeline's policies and the fields that its table needs.
pub type Compile = dyn Fn(&MessageDescriptor) -> Result<Contract, CompileError> + Send + Sync;

/// Indexes in their canonical encoding, and their contract.
type Known = (Box<[u8]>, Arc<Contract>);

/// Contracts by schema id and message, for one lane.
pub struct Resolver {
    store: Arc<SchemaStore>,
    indexing: Indexing,
    /// The message that the pipeline names; see [`tollgate_contract::frame::message_by_indexes`].
    expected: Option<String>,
    compile: Arc<Compile>,
    contracts: HashMap<SchemaId, Vec<Known>, RandomState>,
}

/// The reason why a frame cannot be resolved to a contract.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Frame(#[from] FrameFault),
    #[error("schema {id}: {source}")]
    Index { id: SchemaId, source: IndexFault },
    #[error("schema {id} is {kind}, but the contract is Protobuf")]
    Kind { id: SchemaId, kind: SchemaKind },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The message exists, but lacks something that the pipeline needs.
    #[error("schema {id} does not fit the pipeline: {source}")]
    Contract { id: SchemaId, source: CompileError },
}

impl ResolveError {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Frame(_) | Self::Index { .. } | Self::Kind { .. } | Self::Contract { .. } => Class::Poison,
            Self::Schema(error) => error.class(),
        }
    }

    /// Returns the dead letter's reason if the event is at fault.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Frame(_) | Self::Index { .. } => Some("frame-invalid"),
            Self::Kind { .. } => Some("schema-type"),
            Self::Schema(SchemaError::NotFound(_)) => Some("schema-unknown"),
            Self::Schema(SchemaError::Unusable { .. }) | Self::Contract { .. } => Some("schema-unusable"),
            Self::Schema(SchemaError::Unavailable { .. } | SchemaError::Refused(_) | SchemaError::Subject(_)) => None,
        }
    }
}

impl Resolver {
    pub fn new(store: Arc<SchemaStore>, indexing: Indexing, expected: Option<String>, compile: Arc<Compile>) -> Self {
        Self { store, indexing, expected, compile, contracts: HashMap::default() }
    }

    /// Returns the contract of a frame's message, and the message's bytes. Blocks if the schema is new, see
    /// [`SchemaStore::schema`].
    ///
    /// # Errors
    /// See [`ResolveError::class`] for what to do about each, and [`ResolveError::reason`].
    pub fn resolve<'a>(&mut self, frame: &Frame<'a>) -> Result<(Arc<Contract>, &'a [u8]), ResolveError> {
        // A schema that is known here is Protobuf.
        if let Some(known) = self.contracts.get(&frame.schema) {
            let (indexes, payload) = frame.protobuf(self.indexing)?;
            if let Some((_, contract)) = known.iter().find(|(bytes, _)| **bytes == *indexes.as_bytes()) {
                return Ok((Arc::clone(contract), payload));
            }
        }
        self.resolve_new(frame)
    }

    #[cold]
    fn resolve_new<'a>(&mut self, frame: &Frame<'a>) -> Result<(Arc<Contract>, &'a [u8]), ResolveError> {
        let id = frame.schema;
        let schema = self.store.schema(id)?;
        if schema.kind != SchemaKind::Protobuf {
            return Err(ResolveError::Kind { id, kind: schema.kind.clone() });
        }
        let (indexes, payload) = frame.protobuf(self.indexing)?;
        let message = schema
            .message(indexes, self.expected.as_deref())
            .map_err(|source| ResolveError::Index { id, source })?
            .ok_or_else(|| ResolveError::Kind { id, kind: schema.kind.clone() })?;
        let contract = (self.compile)(&message).map_err(|source| ResolveError::Contract { id, source })?;
        let contract = Arc::new(contract);
        self.keep(id, indexes, Arc::clone(&contract));
        Ok((contract, payload))
    }

    /// Keeps a contract. Beyond the limit all are dropped: so many are never in use at once, and those in use are
    /// loaded from the store again.
    fn keep(&mut self, id: SchemaId, indexes: MessageIndexes<'_>, contract: Arc<Contract>) {
        let kept: usize = self.contracts.values().map(Vec::len).sum();
        if kept >= limits::REGISTRY_SCHEMAS {
            self.contracts.clear();
        }
        self.contracts.entry(id).or_default().push((indexes.as_bytes().into(), contract));
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("store", &self.store).field("expected", &self.expected).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tollgate_contract::{FieldPath, Policies};

    use super::super::stub::Stub;
    use super::*;

    fn resolver(stub: &Stub, indexing: Indexing) -> Resolver {
        let store = Arc::new(
            SchemaStore::new(
                tollgate_config::registry::Config { retries: 0, ..stub.config() },
                tollgate_protos::compile_schema,
            )
            .unwrap(),
        );
        let compile = |message: &MessageDescriptor| {
            let wanted: Vec<FieldPath> = vec!["id".into()];
            Contract::compile(message.parent_pool(), message.full_name(), Policies::default(), &wanted)
        };
        Resolver::new(store, indexing, Some("A".to_owned()), Arc::new(compile))
    }

    fn stub() -> Stub {
        let stub = Stub::start();
        let text = r#"{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; message A { string id = 1; message B { string id = 1; } message C {} }"}"#;
        stub.reply("/schemas/ids/1", 200, text);
        stub.reply("/schemas/ids/2", 200, r#"{"schemaType":"JSON","schema":"{}"}"#);
        stub.reply("/schemas/ids/3", 200, r#"{"schemaType":"PROTOBUF","schema":"broken"}"#);
        stub.reply("/schemas/ids/4", 404, r#"{"error_code":40403,"message":"none"}"#);
        stub.reply("/schemas/ids/5", 503, "");
        stub
    }

    #[test]
    fn a_known_frame_asks_nobody() {
        let stub = stub();
        let mut resolver = resolver(&stub, Indexing::Required);
        for _ in 0..3 {
            for (rest, name) in [(&[0, 10, 1, b'x'][..], "A"), (&[4, 0, 0, 10, 1, b'x'], "A.B")] {
                let bytes = [&[0, 0, 0, 0, 1], rest].concat();
                let (contract, payload) = resolver.resolve(&Frame::parse(&bytes).unwrap()).unwrap();
                assert_eq!((contract.message().full_name(), payload), (name, &[10, 1, b'x'][..]));
            }
        }
        assert_eq!(stub.requests().len(), 1);
    }

    #[test]
    fn each_fault_has_its_class_and_reason() {
        let stub = stub();
        let mut resolver = resolver(&stub, Indexing::Required);
        for (bytes, reason) in [
            (&[0, 0, 0, 0, 1, 1, 0][..], Some("frame-invalid")),
            (&[0, 0, 0, 0, 1, 2, 8], Some("frame-invalid")),
            (&[0, 0, 0, 0, 1, 4, 0, 2], Some("schema-unusable")),
            (&[0, 0, 0, 0, 2, b'{'], Some("schema-type")),
            (&[0, 0, 0, 0, 3, 0], Some("schema-unusable")),
            (&[0, 0, 0, 0, 4, 0], Some("schema-unknown")),
            (&[0, 0, 0, 0, 5, 0], None),
        ] {
            let error = resolver.resolve(&Frame::parse(bytes).unwrap()).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            assert_eq!(error.class() == Class::Poison, reason.is_some(), "{error}");
        }
    }
}
