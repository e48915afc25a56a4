//! A schema after it was fetched.

use std::path::PathBuf;

use prost_reflect::{FileDescriptor, MessageDescriptor};
use sha2::{Digest as _, Sha256};
use tollgate_contract::frame::{IndexFault, MessageIndexes, SchemaId, message_by_indexes};
use tollgate_contract::{CompileSchema, Source};

use super::SchemaError;
use super::api::{Registered, SubjectVersion};

/// The name of a schema's own file, which the registry does not store.
const OWN_FILE: &str = "registered.proto";

/// The schema's type according to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaKind {
    Protobuf,
    Json,
    Avro,
    /// Another type, from a plug-in.
    Other(String),
}

impl SchemaKind {
    pub fn parse(name: &str) -> SchemaKind {
        match name {
            "PROTOBUF" => Self::Protobuf,
            "JSON" => Self::Json,
            "AVRO" => Self::Avro,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl std::fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Protobuf => "Protobuf",
            Self::Json => "JSON",
            Self::Avro => "Avro",
            Self::Other(name) => name,
        })
    }
}

/// A schema and, if it is Protobuf, its types.
#[derive(Debug, Clone)]
pub struct Schema {
    pub id: SchemaId,
    pub kind: SchemaKind,
    pub body: SchemaBody,
    /// The text in the registry.
    pub text: String,
    /// SHA-256 over kind, text and references: it identifies the content, whatever the id.
    pub digest: [u8; 32],
}

#[derive(Debug, Clone)]
pub enum SchemaBody {
    /// The schema's own file; its pool holds the imports too.
    Protobuf(FileDescriptor),
    /// JSON Schema, Avro and others: kept as text and never decoded.
    Text,
}

impl Schema {
    /// # Errors
    /// Returns [`SchemaError::Unusable`] if it does not compile.
    pub(super) fn build(
        id: SchemaId,
        schema: &Registered,
        references: &[Source],
        name: Option<&str>,
        roots: &[PathBuf],
        compile: CompileSchema,
    ) -> Result<Schema, SchemaError> {
        let kind = SchemaKind::parse(&schema.schema_type);
        let digest = digest(&schema.schema_type, &schema.schema, references);
        let body = if kind == SchemaKind::Protobuf {
            let own = Source { name: name.unwrap_or(OWN_FILE).to_owned(), text: schema.schema.clone() };
            let file = compile(own, references, roots)
                .map_err(|fault| SchemaError::Unusable { id, detail: fault.to_string() })?;
            SchemaBody::Protobuf(file)
        } else {
            SchemaBody::Text
        };
        Ok(Schema { id, kind, body, text: schema.schema.clone(), digest })
    }

    /// Builds a version of a subject; `file` as for [`super::subject_pool`].
    ///
    /// # Errors
    /// Returns [`SchemaError::Unusable`] if it does not compile.
    pub fn of_version(
        version: &SubjectVersion,
        references: Vec<Source>,
        file: Option<&str>,
        compile: CompileSchema,
    ) -> Result<Schema, SchemaError> {
        Self::build(SchemaId::Id(version.id), &version.schema, &references, file, &[], compile)
    }

    /// Returns the message that a frame's indexes name; `None` if the schema is not Protobuf.
    ///
    /// # Errors
    /// Fails if the indexes name no message, or two messages of which neither is `expected`.
    pub fn message(
        &self,
        indexes: MessageIndexes<'_>,
        expected: Option<&str>,
    ) -> Result<Option<MessageDescriptor>, IndexFault> {
        match &self.body {
            SchemaBody::Protobuf(file) => message_by_indexes(file, indexes, expected).map(Some),
            SchemaBody::Text => Ok(None),
        }
    }
}

/// Computes the digest. It includes lengths, so that different schemas never have the same bytes.
pub(super) fn digest(kind: &str, text: &str, references: &[Source]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let parts = [kind, text].into_iter().chain(references.iter().flat_map(|file| [file.name.as_str(), &file.text]));
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
