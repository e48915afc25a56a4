//! Schemas on disk: one file for an id, so that a pipeline starts while the registry is away.
//!
//! `<folder>/<registry>/<id>.json`, where `registry` is the beginning of the SHA-256 of the first URL: ids of two registries
//! never meet, and replicas may come and go behind the first. A file is written beside its place and renamed, so nobody
//! reads half of one; it holds a digest over all that it says, so what was damaged all the same counts as absent and is
//! fetched again. Files are not deleted: there are at most as many as ids that events named.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tollgate_contract::frame::SchemaId;

use super::api::Registered;
use super::schema::digest;
use super::{ConfigFault, Source};
use tollgate_config::limits;
use tollgate_config::registry::Url;

/// What changes it makes old files unreadable, and they are fetched again.
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
    /// Name and text of all files that the schema needs.
    files: Vec<(String, String)>,
    /// Hexadecimal SHA-256 over the kind, the text and the files.
    digest: String,
}

impl Cache {
    /// # Errors
    /// Where the folder cannot be made.
    pub(crate) fn open(root: &Path, registry: &Url) -> Result<Cache, ConfigFault> {
        let name = hex::encode(Sha256::digest(registry.as_str()));
        let folder = root.join(name.get(..16).unwrap_or(&name));
        fs::create_dir_all(&folder).map_err(|source| ConfigFault::CacheFolder { path: folder.clone(), source })?;
        Ok(Cache { folder, registry: registry.to_string() })
    }

    fn path(&self, id: SchemaId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// What is kept for an id, if it is whole. A damaged file is put out of the way.
    pub(crate) fn read(&self, id: SchemaId) -> Option<(Registered, Vec<Source>)> {
        let path = self.path(id);
        let length = fs::metadata(&path).ok()?.len();
        let entry = (length <= limits::REGISTRY_CACHE_BYTES).then(|| fs::read(&path).ok()).flatten();
        let entry = entry.and_then(|bytes| self.parse(id, &bytes));
        if entry.is_none() {
            tracing::warn!(path = %path.display(), "a cached schema is damaged; it is fetched again");
            // Where it cannot be removed it is damaged at the next look too.
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

    /// Keeps a schema. A full disk is no reason to stop: it is logged, and the next start needs the registry.
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
            // No fsync: what a crash tears is noticed by its digest.
            file.persist(&path).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "a schema cannot be kept on disk");
        }
    }
}
