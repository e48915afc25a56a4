//! The schema registry: resolves schema ids, with caches so that an outage of the registry stops nothing.
//!
//! The schema of an id never changes, so a fetched schema stays valid: it is kept compiled in memory, and as text on
//! disk. An event with a known id costs one map lookup; a new id costs one request, however many lanes meet it at once.
//! An unavailable registry affects only ids that have never been seen, even after a restart.
//!
//! ```text
//! SchemaStore   id → Arc<Schema>: memory, then disk, then the registry; one fetch at a time per id
//! Client        Confluent's REST API: several URLs, login, TLS, retries, limits
//! ```
//!
//! The program provides the compiler of the schemas' text: [`tollgate_contract::CompileSchema`].
//!
//! Errors have three classes, as everywhere: [`SchemaError::NotFound`] and [`SchemaError::Unusable`] are the event's
//! fault, [`SchemaError::Unavailable`] is transient, and [`SchemaError::Refused`] is the operator's fault. A doubtful
//! response counts as transient: a proxy's error page must never turn a topic into dead letters.

pub mod api;
mod cache;
mod client;
mod error;
#[cfg(test)]
mod foreign;
mod publish;
mod schema;
mod store;
#[cfg(test)]
mod stub;
mod tls;

pub use client::{Client, Compatibility};
pub use error::{ClientError, ConfigFault, SchemaError};
pub use publish::{Done, PublishError, Published, Step, publish};
pub use schema::{Schema, SchemaBody, SchemaKind};
pub use store::{SchemaStore, Stats};

use api::Version;
use prost_reflect::DescriptorPool;
use tollgate_contract::CompileSchema;

/// A compiled version of a subject.
#[derive(Debug, Clone)]
pub struct SubjectPool {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    /// The schema's file and all its imports.
    pub pool: DescriptorPool,
    /// The schema's own file in the pool.
    pub file: prost_reflect::FileDescriptor,
}

/// Loads a version of a subject with its references, for comparing contracts. `file` is the name of the schema in the
/// pool, since the registry stores none: pass its name in the repository, or findings will name a different file.
///
/// # Errors
/// Fails if the registry is unavailable, has no such subject or version, or if its schema is not Protobuf.
pub fn subject_pool(
    client: &Client,
    subject: &str,
    version: Version,
    file: Option<&str>,
    compile: CompileSchema,
) -> Result<SubjectPool, SchemaError> {
    let found = client.version(subject, version)?;
    let files = client.references(&found.schema)?;
    let id = tollgate_contract::frame::SchemaId::Id(found.id);
    let schema = Schema::of_version(&found, files, file, compile)?;
    match schema.body {
        SchemaBody::Protobuf(file) => Ok(SubjectPool {
            subject: subject.to_owned(),
            version: found.version,
            id: found.id,
            pool: file.parent_pool().clone(),
            file,
        }),
        SchemaBody::Text => Err(SchemaError::Unusable {
            id,
            detail: format!("subject {subject} holds {} schemas; only Protobuf can be compared", schema.kind),
        }),
    }
}
