//! The schema registry: which schema an id names, kept so that the registry's outage stops nothing.
//!
//! A schema never changes under its id, so what was fetched once is true for ever: it is kept in memory, compiled, and on
//! disk, as text. An event whose id is known costs a look into a map; an id never seen costs one request, however many
//! lanes meet it at once. A registry that is away is felt by ids alone that nobody has seen before, also after a restart.
//!
//! ```text
//! SchemaStore   id → Arc<Schema>: memory, then disk, then the registry; one fetch at a time for an id
//! Client        Confluent's REST API: several URLs, login, TLS, retries, bounds
//! Resolver      frame → contract and payload, a lane's own
//! compile       text or descriptor and its references → prost-reflect's types
//! ```
//!
//! Three ends, as everywhere: [`SchemaError::NotFound`] and [`SchemaError::Unusable`] are the event's fault,
//! [`SchemaError::Unavailable`] is the world's, [`SchemaError::Refused`] the operator's. When in doubt an answer is the
//! world's fault: a proxy's error page must never turn a topic into dead letters.

pub mod api;
mod backoff;
mod cache;
mod client;
mod compile;
mod error;
#[cfg(test)]
mod foreign;
mod publish;
mod resolver;
mod schema;
mod store;
#[cfg(test)]
mod stub;
mod tls;

pub use client::{Client, Compatibility};
pub use compile::{CompileFault, Source, compile};
pub use error::{ClientError, ConfigFault, SchemaError};
pub use publish::{Done, Publication, PublishError, Published, Step, publish, read_proto};
pub use resolver::{Compile, ResolveError, Resolver};
pub use schema::{Schema, SchemaBody, SchemaKind};
pub use store::{SchemaStore, Stats};

use api::Version;
use prost_reflect::DescriptorPool;

/// A version of a subject, compiled.
#[derive(Debug, Clone)]
pub struct SubjectPool {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    /// The schema's file and all that it imports.
    pub pool: DescriptorPool,
    /// The schema's own file in the pool.
    pub file: prost_reflect::FileDescriptor,
}

/// Loads a version of a subject with its references, for those who compare contracts. `file` is the name that the schema
/// gets in the pool, since the registry keeps none: give the name that it has in the repository, or findings speak of
/// another file.
///
/// # Errors
/// Where the registry is away, has no such subject or version, or keeps something there that is no Protobuf schema.
pub fn subject_pool(
    client: &Client,
    subject: &str,
    version: Version,
    file: Option<&str>,
) -> Result<SubjectPool, SchemaError> {
    let found = client.version(subject, version)?;
    let files = client.references(&found.schema)?;
    let id = tollgate_contract::frame::SchemaId::Id(found.id);
    let schema = Schema::of_version(&found, files, file)?;
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
