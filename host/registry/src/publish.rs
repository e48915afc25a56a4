//! Registers a `.proto` file: first its imports, each under its import path, as Confluent's own clients do.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::DescriptorPool;

use super::api::{Reference, Registered};
use super::{Client, ClientError, Compatibility};
use tollgate_protos::ProtosError;

/// The folder of the files that are built into every registry and client.
const BUILT_IN: &str = "google/protobuf/";

/// A file and all its imports, each after its own imports, the file itself last.
#[derive(Debug, Clone)]
pub struct Publication {
    files: Vec<ProtoFile>,
}

#[derive(Debug, Clone)]
struct ProtoFile {
    /// The import path.
    name: String,
    text: String,
    imports: Vec<String>,
}

/// What was done with one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// The import path.
    pub file: String,
    pub subject: String,
    #[serde(flatten)]
    pub done: Done,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Done {
    /// The subject already had exactly this schema.
    Unchanged {
        version: u32,
        id: u32,
    },
    Registered {
        version: u32,
        id: u32,
    },
    /// A dry run: the registry would accept it.
    Acceptable,
    /// A dry run: it refers to files that are not registered yet, so the registry cannot check it.
    Unchecked,
}

/// What was registered, in order; the last step is the file's own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    pub steps: Vec<Step>,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Protos(#[from] ProtosError),
    /// The compatibility check failed; nothing of this file was registered.
    #[error("{file} is not compatible with the latest version of {subject}{}", level.as_ref().map(|level| format!(", which is kept {level}")).unwrap_or_default())]
    Incompatible { file: String, subject: String, level: Option<String>, reasons: Vec<String> },
    #[error("{file} for subject {subject}: {source}")]
    Client { file: String, subject: String, source: ClientError },
}

/// Reads a file and its imports. `roots` are the folders that imports are relative to; without any, the nearest folder above
/// the file from which all imports are found.
///
/// # Errors
/// A file that cannot be read or compiled.
pub fn read_proto(path: &Path, roots: &[PathBuf]) -> Result<Publication, ProtosError> {
    let unreadable = |path: &Path, source| ProtosError::Unreadable { path: path.to_owned(), source };
    std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let compiler = if roots.is_empty() { compile_below(path)? } else { compile(roots, path)? };
    let pool: DescriptorPool = compiler.descriptor_pool();
    let mut files = Vec::new();
    for meta in compiler.files().filter(|meta| !meta.name().starts_with(BUILT_IN)) {
        let Some(file) = pool.get_file_by_name(meta.name()) else { continue };
        let place = meta.path().map(Path::to_path_buf).or_else(|| below(roots, path, meta.name()));
        let text = match place {
            Some(path) => std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?,
            // Built into this program: there is no text, and registries accept descriptors too.
            None => BASE64_STANDARD.encode(file.encode_to_vec()),
        };
        let imports = file.dependencies().map(|import| import.name().to_owned());
        let imports = imports.filter(|name| !name.starts_with(BUILT_IN)).collect();
        files.push(ProtoFile { name: meta.name().to_owned(), text, imports });
    }
    Ok(Publication { files })
}

/// Finds a file that the compiler has read from a different text, such as one of an edition.
fn below(roots: &[PathBuf], path: &Path, name: &str) -> Option<PathBuf> {
    let roots = roots.iter().map(PathBuf::as_path).chain(path.ancestors().skip(1));
    roots.map(|root| root.join(name)).find(|file| file.is_file())
}

fn compile_below(path: &Path) -> Result<protox::Compiler, ProtosError> {
    let mut first = None;
    for root in path.ancestors().skip(1) {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        match compile(&[root], path) {
            Ok(compiler) => return Ok(compiler),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(ProtosError::Nothing))
}

fn compile(roots: &[impl AsRef<Path>], path: &Path) -> Result<protox::Compiler, ProtosError> {
    let mut compiler = protox::Compiler::with_file_resolver(tollgate_protos::resolver(roots));
    compiler.include_imports(true).open_file(path).map_err(|error| tollgate_protos::invalid(&error))?;
    Ok(compiler)
}

/// Registers a publication under `subject`, and its imports under their paths. Each file is checked for compatibility before
/// it is registered; a schema that a subject already has is left alone. `dry_run` checks and registers nothing.
///
/// # Errors
/// The error of the first file that the registry rejects. The imports registered before it stay registered.
pub fn publish(
    client: &Client,
    publication: &Publication,
    subject: &str,
    dry_run: bool,
) -> Result<Published, PublishError> {
    let mut steps: Vec<Step> = Vec::new();
    let last = publication.files.len().saturating_sub(1);
    for (index, file) in publication.files.iter().enumerate() {
        let subject = if index == last { subject } else { &file.name };
        let place = |source| PublishError::Client { file: file.name.clone(), subject: subject.to_owned(), source };
        let done = match schema_of(file, &steps) {
            None => Done::Unchecked,
            Some(schema) => match client.lookup(subject, &schema).map_err(place)? {
                Some(found) => Done::Unchanged { version: found.version, id: found.id },
                None => {
                    check(client, file, subject, &schema)?;
                    if dry_run { Done::Acceptable } else { register(client, subject, &schema).map_err(place)? }
                }
            },
        };
        steps.push(Step { file: file.name.clone(), subject: subject.to_owned(), done });
    }
    Ok(Published { steps })
}

/// Returns a file as it is registered; `None` while one of its imports has no version.
fn schema_of(file: &ProtoFile, steps: &[Step]) -> Option<Registered> {
    let reference = |name: &String| {
        let step = steps.iter().find(|step| step.file == *name)?;
        match step.done {
            Done::Unchanged { version, .. } | Done::Registered { version, .. } => {
                Some(Reference { name: name.clone(), subject: step.subject.clone(), version })
            }
            Done::Acceptable | Done::Unchecked => None,
        }
    };
    let references = file.imports.iter().map(reference).collect::<Option<Vec<_>>>()?;
    Some(Registered { schema_type: "PROTOBUF".to_owned(), schema: file.text.clone(), references })
}

fn check(client: &Client, file: &ProtoFile, subject: &str, schema: &Registered) -> Result<(), PublishError> {
    let place = |source| PublishError::Client { file: file.name.clone(), subject: subject.to_owned(), source };
    match client.check(subject, schema).map_err(place)? {
        Compatibility::NewSubject | Compatibility::Compatible => Ok(()),
        Compatibility::Incompatible(reasons) => {
            let level = match client.compatibility(Some(subject)).map_err(place)? {
                None => client.compatibility(None).map_err(place)?,
                own => own,
            };
            // Some registries run the check even where they would not enforce it.
            if level.as_deref() == Some("NONE") {
                return Ok(());
            }
            Err(PublishError::Incompatible { file: file.name.clone(), subject: subject.to_owned(), level, reasons })
        }
    }
}

fn register(client: &Client, subject: &str, schema: &Registered) -> Result<Done, ClientError> {
    let id = client.register(subject, schema)?;
    // The response contains only the id.
    let found = client.lookup(subject, schema)?;
    let version = found.map(|found| found.version).ok_or_else(|| ClientError::Unavailable {
        detail: format!("the registry gave id {id} and does not find it under {subject} yet; try again"),
    })?;
    Ok(Done::Registered { version, id })
}
