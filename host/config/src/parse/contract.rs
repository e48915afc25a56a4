//! `contract:` the message types, policies, registry, versions and envelope.

use super::super::model::*;
use super::{debezium, envelope, names, policies, read_paths};
use crate::limits;
use crate::reader::{Complaint, Table, boolean, choice, path, secret, text};
use crate::registry::{Auth, Tls as RegistryTls, Url};
use std::collections::BTreeMap;
use std::path::Path;
use tollgate_contract::frame::Indexing;

/// Reads `contract:`. Also returns the message type if the topic has only one. `typed` means that the file has
/// `types:`.
pub(super) fn read(table: &Table<'_>, base: &Path, typed: bool) -> Option<(Contract, Option<String>)> {
    let protos = table.field("protos").map(|field| read_paths(&field));
    let descriptor_set = table.field("descriptor_set").map(|field| field.scalar(path));
    let schema = match (protos, descriptor_set) {
        (Some(protos), None) => protos.map(Schema::Protos),
        (None, Some(descriptor_set)) => descriptor_set.map(Schema::DescriptorSet),
        (Some(_), Some(_)) => {
            table.error("descriptor_set", "protos already sets the source of the message types; keep one of the two");
            None
        }
        (None, None) => {
            table.error("protos", "required key is missing: protos (.proto files or a folder) or descriptor_set");
            None
        }
    };
    let message =
        if typed { table.get("message", names::message_type) } else { table.need("message", names::message_type) };
    if typed && table.has("message") {
        table.error("message", "types: already sets the message type of each event type; keep one of the two");
    }
    let encodings = [("auto", Encoding::Auto), ("protobuf", Encoding::Protobuf), ("json", Encoding::Json)];
    let tombstones =
        [("dead_letter", Tombstones::DeadLetter), ("drop", Tombstones::Drop), ("delete", Tombstones::Delete)];
    let encoding = table.or("encoding", choice(&encodings), Encoding::Auto);
    let (envelope, debezium) = read_envelope(table, typed);
    // Debezium sends a tombstone after each delete, for compaction.
    let usual = if debezium.is_some() { Tombstones::Drop } else { Tombstones::DeadLetter };
    let tombstones = table.or("tombstones", choice(&tombstones), usual);
    let policies = policies::read(table);
    let registry = table.table("registry", |table| read_registry(table, base));
    let versions = read_versions(table, None, default_place(envelope.as_ref()), registry.is_some());
    let routing = read_routing(table, typed, registry.is_some());
    if !policies.coerce.is_empty() && encoding == Encoding::Protobuf {
        table.error("coerce", "applies only to JSON, but contract.encoding is protobuf; remove it");
    }
    let unknown_types = [("dead_letter", UnknownTypes::DeadLetter), ("drop", UnknownTypes::Drop)];
    let unknown_types = table.or("unknown_types", choice(&unknown_types), UnknownTypes::DeadLetter);
    if !typed && table.has("unknown_types") {
        table.error("unknown_types", "needs types: without it all events have the same type");
    }
    let contract = Contract {
        schema: schema?,
        encoding,
        policies,
        tombstones,
        registry,
        versions,
        envelope,
        debezium,
        routing: routing?,
        unknown_types,
    };
    Some((contract, message))
}

/// Reads a message around the event, or Debezium's change events: `debezium`, or a table with the key `debezium`.
fn read_envelope(table: &Table<'_>, typed: bool) -> (Option<Envelope>, Option<Debezium>) {
    let Some(field) = table.field("envelope") else { return (None, None) };
    if !field.is_table() {
        let short = field.scalar(choice(&[("debezium", ())]));
        return (None, short.map(|()| Debezium::usual(typed)));
    }
    let mut changes = None;
    let envelope = field.table(|table| {
        changes = table.table("debezium", |table| debezium::read(table, typed));
        envelope::read(table, typed)
    });
    (envelope.filter(|_| changes.is_none()), changes)
}

/// Reads which part of a record names its type; exactly one must be configured.
fn read_routing(table: &Table<'_>, typed: bool, registry: bool) -> Option<Routing> {
    let header = table.get("type_header", names::header);
    if !typed {
        if header.is_some() {
            table.error("type_header", "needs types: without it all events have the same type");
        }
        return Some(Routing::Single);
    }
    match (header, table.has("envelope")) {
        (Some(_), true) => {
            table.error("type_header", "the envelope already names the type; keep one of the two");
            None
        }
        (Some(header), false) => Some(Routing::Header(header)),
        (None, true) => Some(Routing::Envelope),
        (None, false) if table.has("type_header") => None,
        (None, false) if registry => Some(Routing::Frame),
        (None, false) => {
            let message = "required key is missing: with types:, a record's type must come from type_header, \
                           envelope or registry";
            table.error("type_header", message);
            None
        }
    }
}

/// Reads `registry:`. Relative paths start in the file's folder.
fn read_registry(table: &Table<'_>, base: &Path) -> Option<Registry> {
    let urls = table.need("url", registry_urls);
    let (username, password) = (table.get("username", text), table.get("password", secret));
    let token = table.get("token", secret);
    let auth = match (username, password, token) {
        (None, None, None) => Some(Auth::None),
        (Some(username), Some(password), None) => Some(Auth::Basic { username, password }),
        (None, None, Some(token)) => Some(Auth::Bearer(token)),
        (Some(_), None, None) => {
            table.error("username", "needs a password");
            None
        }
        (None, Some(_), None) => {
            table.error("password", "needs a username");
            None
        }
        (_, _, Some(_)) => {
            table.error("token", "cannot be combined with username and password; keep one login");
            None
        }
    };
    let file = |table: &Table<'_>, key: &str| table.get(key, path).map(|path| base.join(path));
    let tls = table.table("tls", |tls| {
        let (certificate, key) = (file(tls, "certificate"), file(tls, "key"));
        if certificate.is_some() != key.is_some() {
            let lone = if key.is_some() { "key" } else { "certificate" };
            tls.error(lone, "a client's certificate needs both certificate and key");
        }
        Some(RegistryTls { ca: file(tls, "ca"), certificate, key })
    });
    let indexes = [("required", Indexing::Required), ("optional", Indexing::Optional)];
    Some(Registry {
        urls: urls?,
        auth: auth?,
        tls: tls.unwrap_or_default(),
        cache: file(table, "cache"),
        indexes: table.or("indexes", choice(&indexes), Indexing::Required),
    })
}

/// Reads the URLs of one registry's replicas, separated by commas.
fn registry_urls(text: &str) -> Result<Vec<Url>, Complaint> {
    text.split(',').map(|url| Url::parse(url).map_err(|fault| Complaint::hidden(fault.to_string()))).collect()
}

/// Returns the default location of a version.
fn default_place(envelope: Option<&Envelope>) -> VersionBy {
    match envelope.and_then(|envelope| envelope.version.as_ref()) {
        Some(_) => VersionBy::Envelope,
        None => VersionBy::Header(limits::VERSION_HEADER.to_owned()),
    }
}

/// Reads a type's own versions, or returns the contract's. The default location of the version is that of the contract.
pub(super) fn read_versions_over(table: &Table<'_>, contract: Option<&Contract>) -> Option<Versions> {
    let common = contract.and_then(|contract| contract.versions.as_ref());
    if !table.has("accept_versions") {
        // The key is read in any case, so that the error for a typo can suggest it.
        table.field("accept_versions");
        return common.cloned();
    }
    let usual = default_place(contract.and_then(|contract| contract.envelope.as_ref()));
    // Errors of the contract were already reported.
    let registry = contract.is_none_or(|contract| contract.registry.is_some());
    read_versions(table, common, usual, registry)
}

fn read_versions(table: &Table<'_>, common: Option<&Versions>, usual: VersionBy, registry: bool) -> Option<Versions> {
    let versions = table.table("accept_versions", |table| read_gate(table, common, usual));
    if versions.as_ref().is_some_and(|versions| versions.by == VersionBy::SchemaId) && !registry {
        table.error("accept_versions", "schema_ids needs a registry, because only framed records have a schema id");
    }
    versions
}

/// Reads the keys of `accept_versions`. `common` are the contract's versions, if these are a type's. `usual` is the
/// default location.
fn read_gate(table: &Table<'_>, common: Option<&Versions>, usual: VersionBy) -> Option<Versions> {
    let header = table.get("header", names::header);
    let by_id = table.get("schema_ids", boolean);
    if by_id == Some(true) && header.is_some() {
        table.error("header", "schema_ids already sets the location of the version; keep one of the two");
    }
    let notes = |key: &str| {
        let read = |notes: &Table<'_>| {
            let notes = notes.any().into_iter();
            Some(notes.filter_map(|(version, field)| Some((version, field.scalar(text)?))).collect())
        };
        table.table(key, read).unwrap_or_default()
    };
    let (deprecated, removed): (BTreeMap<String, String>, BTreeMap<String, String>) =
        (notes("deprecated"), notes("removed"));
    let accept = table.list("accept", text);
    if accept.is_empty() && deprecated.is_empty() {
        table.error("accept", "lists no version, so no event would be accepted");
    }
    for version in removed.keys() {
        if accept.contains(version) || deprecated.contains_key(version) {
            table.error("removed", format!("lists {version}, which is also accepted"));
        }
    }
    let by = match (by_id, header) {
        (Some(true), _) => VersionBy::SchemaId,
        (_, Some(header)) => VersionBy::Header(header),
        (Some(false), None) => {
            common.map(|common| common.by.clone()).filter(|by| *by != VersionBy::SchemaId).unwrap_or(usual)
        }
        (None, None) => common.map_or(usual, |common| common.by.clone()),
    };
    Some(Versions { by, accept, deprecated, removed })
}
