//! Schemas on disk: one file per id, so that a pipeline can start while the registry is unavailable.
//!
//! `<folder>/<registry>/<id>.json`, where `registry` is a prefix of the SHA-256 of the first URL: the ids of two
//! registries never collide, and replicas after the first may change. A file is written to a temporary name and
//! renamed, so a partial file is never read. It contains a digest of its content, so a corrupt file counts as missing
//! and is fetched again. Files are never deleted: there are at most as many as ids in events.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tollgate_contract::frame::SchemaId;

use super::ConfigFault;
use super::api::Registered;
use super::schema::digest;
use tollgate_config::limits;
use tollgate_config::registry::Url;
use tollgate_contract::Source;

/// The version of the format. A change makes old files unreadable, so they are fetched again.
const FORMAT: u32 = 1;

pub(crate) struct Cache {
    folder: PathBuf,
    registry: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    registry: String,
    id: String,
    kind: String,
    schema: String,
    /// Names and texts of all files that the schema needs.
    files: Vec<(String, String)>,
    /// Hexadecimal SHA-256 over the kind, the text and the files.
    digest: String,
}

impl Cache {
    /// # Errors
    /// Fails if the folder cannot be created.
    pub(crate) fn open(root: &Path, registry: &Url) -> Result<Cache, ConfigFault> {
        let name = hex::encode(Sha256::digest(registry.as_str()));
        let folder = root.join(name.get(..16).unwrap_or(&name));
        fs::create_dir_all(&folder).map_err(|source| ConfigFault::CacheFolder { path: folder.clone(), source })?;
        Ok(Cache { folder, registry: registry.to_string() })
    }

    fn path(&self, id: SchemaId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Returns the schema stored for an id if it is intact. A corrupt file is removed.
    pub(crate) fn read(&self, id: SchemaId) -> Option<(Registered, Vec<Source>)> {
        let path = self.path(id);
        let length = fs::metadata(&path).ok()?.len();
        let entry = (length <= limits::REGISTRY_CACHE_BYTES).then(|| fs::read(&path).ok()).flatten();
        let entry = entry.and_then(|bytes| self.parse(id, &bytes));
        if entry.is_none() {
            tracing::warn!(path = %path.display(), "a cached schema is damaged and is fetched again");
            // If it cannot be removed, it is found corrupt again next time.
            _ = fs::remove_file(&path);
        }
        entry
    }

    fn parse(&self, id: SchemaId, bytes: &[u8]) -> Option<(Registered, Vec<Source>)> {
        let entry: Entry = serde_json::from_slice(bytes).ok()?;
        let files: Vec<Source> = entry.files.into_iter().map(|(name, text)| Source { name, text }).collect();
        let whole = entry.format == FORMAT
            && entry.registry == self.registry
            && entry.id == id.to_string()
            && entry.digest == hex::encode(digest(&entry.kind, &entry.schema, &files));
        let schema = Registered { schema_type: entry.kind, schema: entry.schema, references: Vec::new() };
        whole.then_some((schema, files))
    }

    /// Stores a schema. A full disk is no reason to stop: it is logged, and the next start needs the registry.
    pub(crate) fn write(&self, id: SchemaId, schema: &Registered, files: &[Source]) {
        let entry = Entry {
            format: FORMAT,
            registry: self.registry.clone(),
            id: id.to_string(),
            kind: schema.schema_type.clone(),
            schema: schema.schema.clone(),
            files: files.iter().map(|file| (file.name.clone(), file.text.clone())).collect(),
            digest: hex::encode(digest(&schema.schema_type, &schema.schema, files)),
        };
        let path = self.path(id);
        let written = serde_json::to_vec(&entry).map_err(std::io::Error::from).and_then(|bytes| {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&bytes)?;
            // No fsync: the digest detects a file torn by a crash.
            file.persist(&path).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot store a schema on disk");
        }
    }
}
