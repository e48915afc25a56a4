//! `contract:` and what belongs to it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tollgate_contract::Policies;
use tollgate_contract::frame::Indexing;

use super::{Debezium, Envelope};
use crate::registry;

/// `contract:` what an event must look like.
#[derive(Debug, Clone)]
pub struct Contract {
    pub schema: Schema,
    pub encoding: Encoding,
    /// `unknown_fields:` to `mode:` and `max_bytes:`.
    pub policies: Policies,
    pub tombstones: Tombstones,
    /// `registry:` values are frames, and this says what their ids mean.
    pub registry: Option<Registry>,
    /// `accept_versions:` what holds for the types that do not say otherwise.
    pub versions: Option<Versions>,
    /// `envelope:` what is wrapped round the events.
    pub envelope: Option<Envelope>,
    /// `envelope: debezium`, instead.
    pub debezium: Option<Debezium>,
    pub routing: Routing,
    /// `unknown_types:` events of types that are not in the configuration.
    pub unknown_types: UnknownTypes,
}

/// What says which type a record is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// The topic holds one.
    Single,
    /// `type_header:`
    Header(String),
    /// The message that its frame names, with a registry.
    Frame,
    /// The envelope's field, or the type of the Any in it.
    Envelope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownTypes {
    DeadLetter,
    /// Counted, no effect.
    Drop,
}

/// `contract.registry:` a schema registry with Confluent's API.
#[derive(Debug, Clone)]
pub struct Registry {
    /// `url:` one or several of the same registry.
    pub urls: Vec<registry::Url>,
    pub auth: registry::Auth,
    pub tls: registry::Tls,
    /// `cache:` folder that keeps schemas over restarts.
    pub cache: Option<PathBuf>,
    pub indexes: Indexing,
}

/// `accept_versions:` the version gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    pub by: VersionBy,
    pub accept: Vec<String>,
    /// Version → until when, or what to do. They pass, are counted, and warned of.
    pub deprecated: BTreeMap<String, String>,
    /// Version → what to do instead.
    pub removed: BTreeMap<String, String>,
}

impl Versions {
    /// What passes, for messages.
    pub fn known(&self) -> String {
        let versions = self.accept.iter().chain(self.deprecated.keys());
        versions.map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Where a record says its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionBy {
    Header(String),
    /// The id in its frame, in decimal.
    SchemaId,
    /// The field that the envelope says it in.
    Envelope,
}

/// Where the message types come from.
#[derive(Debug, Clone)]
pub enum Schema {
    /// `protos:` a folder, or files and folders.
    Protos(Vec<PathBuf>),
    /// `descriptor_set:` what `protoc --descriptor_set_out --include_imports` wrote.
    DescriptorSet(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// By the header `content-type`: `application/json` is JSON, anything else Protobuf.
    Auto,
    Protobuf,
    Json,
}

/// What a record without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    DeadLetter,
    /// Counted, no effect.
    Drop,
    /// Deletes the row whose key the record's key is; a tombstone goes to the output.
    Delete,
}
