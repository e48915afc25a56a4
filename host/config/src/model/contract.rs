//! `contract:` and its parts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tollgate_contract::Policies;
use tollgate_contract::frame::Indexing;

use super::{Debezium, Envelope};
use crate::registry;

/// `contract:` the contract that every event must satisfy.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    pub schema: Schema,
    pub encoding: Encoding,
    /// The keys from `unknown_fields:` to `mode:`, and `max_bytes:`.
    pub policies: Policies,
    pub tombstones: Tombstones,
    /// `registry:` the registry that resolves the schema ids of the values' frames.
    pub registry: Option<Registry>,
    /// `accept_versions:` applies to all types without their own.
    pub versions: Option<Versions>,
    /// `envelope:` the message around each event.
    pub envelope: Option<Envelope>,
    /// `envelope: debezium`, instead of `envelope`.
    pub debezium: Option<Debezium>,
    pub routing: Routing,
    /// `unknown_types:` the handling of events of types that are not configured.
    pub unknown_types: UnknownTypes,
}

/// The part of a record that names its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// The topic has a single type.
    Single,
    /// `type_header:`
    Header(String),
    /// The message named by the record's frame, with a registry.
    Frame,
    /// The envelope's field, or the message type of its Any.
    Envelope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownTypes {
    DeadLetter,
    /// The event is counted and has no effect.
    Drop,
}

/// `contract.registry:` a schema registry with Confluent's API.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    /// `url:` one or several URLs of the same registry.
    pub urls: Vec<registry::Url>,
    pub auth: registry::Auth,
    pub tls: registry::Tls,
    /// `cache:` the folder that keeps schemas across restarts.
    pub cache: Option<PathBuf>,
    pub indexes: Indexing,
}

/// `accept_versions:` the accepted versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    pub by: VersionBy,
    pub accept: Vec<String>,
    /// Version → a note: until when, or what to do. They are accepted, counted, and reported in a warning.
    pub deprecated: BTreeMap<String, String>,
    /// Version → a note: what to do instead.
    pub removed: BTreeMap<String, String>,
}

impl Versions {
    /// Returns the accepted versions as text, for messages.
    pub fn known(&self) -> String {
        let versions = self.accept.iter().chain(self.deprecated.keys());
        versions.map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The part of a record with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionBy {
    Header(String),
    /// The schema id in the record's frame, in decimal.
    SchemaId,
    /// The envelope's version field.
    Envelope,
}

/// The source of the message types.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// `protos:` a folder, or files and folders.
    Protos(Vec<PathBuf>),
    /// `descriptor_set:` a file written by `protoc --descriptor_set_out --include_imports`.
    DescriptorSet(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// The header `content-type` decides: `application/json` is JSON, anything else is Protobuf.
    Auto,
    Protobuf,
    Json,
}

/// The meaning of a record without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    DeadLetter,
    /// The record is counted and has no effect.
    Drop,
    /// Deletes the row whose key is the record's key, and sends a tombstone to the output.
    Delete,
}
