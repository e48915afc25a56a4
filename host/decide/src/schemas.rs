//! Frame → contract and payload. The schemas were read before: a frame whose schema is in neither the cache nor [`Known`] is
//! reported as missing, and the caller reads the schema and decides again.
//!
//! [`Known`]: crate::known::Known

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use prost_reflect::{FileDescriptor, MessageDescriptor};
use tollgate_config::limits;
use tollgate_contract::frame::{Frame, FrameFault, IndexFault, Indexing, MessageIndexes, SchemaId, message_by_indexes};
use tollgate_contract::{CompileError, Contract};

/// Builds a contract for a frame's message, with the pipeline's policies and the fields that its table needs.
pub type Compile = dyn Fn(&MessageDescriptor) -> Result<Contract, CompileError> + Send + Sync;

/// A registry's schema.
#[derive(Debug, Clone)]
pub enum Schema {
    /// The schema's own file; its pool holds the imports too.
    Protobuf(FileDescriptor),
    /// A schema of another kind, by the kind's name.
    Other(String),
    /// The registry has no such schema, or the schema cannot be used.
    Unusable {
        /// The code of the dead letter.
        reason: &'static str,
        message: String,
    },
}

/// Schemas by id.
pub type Schemas = HashMap<SchemaId, Schema, RandomState>;

/// How the values of a framed topic name their schemas.
pub struct Framing {
    pub indexes: Indexing,
    /// Compiles the schemas' messages to contracts.
    pub compile: Arc<Compile>,
}

/// Why a frame has no contract.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The schema has not been read yet.
    #[error("schema {0} has not been read")]
    Missing(SchemaId),
    #[error(transparent)]
    Frame(#[from] FrameFault),
    #[error("schema {id}: {source}")]
    Index { id: SchemaId, source: IndexFault },
    #[error("schema {id} is {kind}, but the contract is Protobuf")]
    Kind { id: SchemaId, kind: String },
    #[error("{message}")]
    Schema { reason: &'static str, message: String },
    /// The message exists, but lacks something that the pipeline needs.
    #[error("schema {id} does not fit the pipeline: {source}")]
    Contract { id: SchemaId, source: CompileError },
}

impl ResolveError {
    /// Returns the code of the dead letter; `None` if the schema has to be read first.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) => None,
            Self::Frame(_) | Self::Index { .. } => Some("frame-invalid"),
            Self::Kind { .. } => Some("schema-type"),
            Self::Schema { reason, .. } => Some(reason),
            Self::Contract { .. } => Some("schema-unusable"),
        }
    }
}

/// Message indexes in their canonical encoding, and the contract of that message.
type Compiled = (Box<[u8]>, Arc<Contract>);

/// The contracts that were compiled for earlier frames, so that a known frame needs no allocation: a lookup by id, then one by
/// the bytes of the indexes.
pub(crate) struct Resolver {
    indexing: Indexing,
    /// The message that the pipeline names; see [`tollgate_contract::frame::message_by_indexes`].
    expected: Option<String>,
    compile: Arc<Compile>,
    contracts: HashMap<SchemaId, Vec<Compiled>, RandomState>,
}

impl Resolver {
    pub(crate) fn new(framing: &Framing, expected: Option<String>) -> Resolver {
        let Framing { indexes, compile } = framing;
        Resolver { indexing: *indexes, expected, compile: Arc::clone(compile), contracts: HashMap::default() }
    }

    /// Returns the contract of a frame's message, and the message's bytes.
    ///
    /// # Errors
    /// See [`ResolveError::reason`].
    pub(crate) fn resolve<'a>(
        &mut self,
        known: &Schemas,
        frame: &Frame<'a>,
    ) -> Result<(Arc<Contract>, &'a [u8]), ResolveError> {
        // A schema with a compiled contract is Protobuf.
        if let Some(compiled) = self.contracts.get(&frame.schema) {
            let (indexes, payload) = frame.protobuf(self.indexing)?;
            if let Some((_, contract)) = compiled.iter().find(|(bytes, _)| **bytes == *indexes.as_bytes()) {
                return Ok((Arc::clone(contract), payload));
            }
        }
        self.resolve_new(known, frame)
    }

    #[cold]
    fn resolve_new<'a>(
        &mut self,
        known: &Schemas,
        frame: &Frame<'a>,
    ) -> Result<(Arc<Contract>, &'a [u8]), ResolveError> {
        let id = frame.schema;
        let file = match known.get(&id).ok_or(ResolveError::Missing(id))? {
            Schema::Protobuf(file) => file,
            Schema::Other(kind) => return Err(ResolveError::Kind { id, kind: kind.clone() }),
            Schema::Unusable { reason, message } => {
                return Err(ResolveError::Schema { reason, message: message.clone() });
            }
        };
        let (indexes, payload) = frame.protobuf(self.indexing)?;
        let message = message_by_indexes(file, indexes, self.expected.as_deref())
            .map_err(|source| ResolveError::Index { id, source })?;
        let contract = (self.compile)(&message).map_err(|source| ResolveError::Contract { id, source })?;
        let contract = Arc::new(contract);
        self.keep(id, indexes, Arc::clone(&contract));
        Ok((contract, payload))
    }

    /// Beyond the limit all are dropped: so many are never in use at once, and the used ones are compiled again.
    fn keep(&mut self, id: SchemaId, indexes: MessageIndexes<'_>, contract: Arc<Contract>) {
        let kept: usize = self.contracts.values().map(Vec::len).sum();
        if kept >= limits::REGISTRY_SCHEMAS {
            self.contracts.clear();
        }
        self.contracts.entry(id).or_default().push((indexes.as_bytes().into(), contract));
    }
}

#[cfg(test)]
mod tests {
    use tollgate_contract::{FieldPath, Policies, Source};

    use super::*;

    fn resolver(indexes: Indexing) -> Resolver {
        let compile = |message: &MessageDescriptor| {
            let wanted: Vec<FieldPath> = vec!["id".into()];
            Contract::compile(message.parent_pool(), message.full_name(), Policies::default(), &wanted)
        };
        Resolver::new(&Framing { indexes, compile: Arc::new(compile) }, Some("A".to_owned()))
    }

    fn known() -> Schemas {
        let text = r#"syntax = "proto3"; message A { string id = 1; message B { string id = 1; } message C {} }"#;
        let own = Source { name: "a.proto".to_owned(), text: text.to_owned() };
        let file = tollgate_protos::compile_schema(own, &[], &[]).unwrap();
        let missing = Schema::Unusable { reason: "schema-unknown", message: "the registry has no schema 3".to_owned() };
        [(1, Schema::Protobuf(file)), (2, Schema::Other("JSON".to_owned())), (3, missing)]
            .into_iter()
            .map(|(id, schema)| (SchemaId::Id(id), schema))
            .collect()
    }

    #[test]
    fn a_compiled_contract_needs_its_schema_no_more() {
        let (mut resolver, known) = (resolver(Indexing::Required), known());
        for schemas in [&known, &Schemas::default()] {
            for (rest, name) in [(&[0, 10, 1, b'x'][..], "A"), (&[4, 0, 0, 10, 1, b'x'], "A.B")] {
                let bytes = [&[0, 0, 0, 0, 1], rest].concat();
                let (contract, payload) = resolver.resolve(schemas, &Frame::parse(&bytes).unwrap()).unwrap();
                assert_eq!((contract.message().full_name(), payload), (name, &[10, 1, b'x'][..]));
            }
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let (mut resolver, known) = (resolver(Indexing::Required), known());
        for (bytes, reason) in [
            (&[0, 0, 0, 0, 1, 1, 0][..], Some("frame-invalid")),
            (&[0, 0, 0, 0, 1, 2, 8], Some("frame-invalid")),
            (&[0, 0, 0, 0, 1, 4, 0, 2], Some("schema-unusable")),
            (&[0, 0, 0, 0, 2, b'{'], Some("schema-type")),
            (&[0, 0, 0, 0, 3, 0], Some("schema-unknown")),
            (&[0, 0, 0, 0, 4, 0], None),
        ] {
            let error = resolver.resolve(&known, &Frame::parse(bytes).unwrap()).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
        }
    }
}
