//! Registers a `.proto` file: first its imports, each under its import path, as Confluent's own clients do.

use tollgate_contract::ProtoFile;

use super::api::{Reference, Registered};
use super::{Client, ClientError, Compatibility};

/// The action taken for one file.
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
    /// The subject already has exactly this schema.
    Unchanged {
        version: u32,
        id: u32,
    },
    Registered {
        version: u32,
        id: u32,
    },
    /// In a dry run: the registry would accept it.
    Acceptable,
    /// In a dry run: it refers to files that are not registered yet, so the registry cannot check it.
    Unchecked,
}

/// The registered files in order; the last step is the file itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    pub steps: Vec<Step>,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The compatibility check failed; nothing of this file was registered.
    #[error("{file} is not compatible with the latest version of {subject}{}", level.as_ref().map(|level| format!(", level {level}")).unwrap_or_default())]
    Incompatible { file: String, subject: String, level: Option<String>, reasons: Vec<String> },
    #[error("{file} for subject {subject}: {source}")]
    Client { file: String, subject: String, source: ClientError },
}

/// Registers a file under `subject`, and its imports under their import names. `files` are the imports, each after its
/// own imports, and the file itself last. Each file is checked for compatibility before it is registered. A schema that
/// a subject already has is left alone. `dry_run` checks and registers nothing.
///
/// # Errors
/// Returns the error of the first file that the registry rejects. The imports registered before it stay registered.
pub fn publish(client: &Client, files: &[ProtoFile], subject: &str, dry_run: bool) -> Result<Published, PublishError> {
    let mut steps: Vec<Step> = Vec::new();
    let last = files.len().saturating_sub(1);
    for (index, file) in files.iter().enumerate() {
        let subject = if index == last { subject } else { &file.source.name };
        let place =
            |source| PublishError::Client { file: file.source.name.clone(), subject: subject.to_owned(), source };
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
        steps.push(Step { file: file.source.name.clone(), subject: subject.to_owned(), done });
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
    Some(Registered { schema_type: "PROTOBUF".to_owned(), schema: file.source.text.clone(), references })
}

fn check(client: &Client, file: &ProtoFile, subject: &str, schema: &Registered) -> Result<(), PublishError> {
    let place = |source| PublishError::Client { file: file.source.name.clone(), subject: subject.to_owned(), source };
    match client.check(subject, schema).map_err(place)? {
        Compatibility::NewSubject | Compatibility::Compatible => Ok(()),
        Compatibility::Incompatible(reasons) => {
            let level = match client.compatibility(Some(subject)).map_err(place)? {
                None => client.compatibility(None).map_err(place)?,
                own => own,
            };
            // Some registries run the check even if they would not enforce it.
            if level.as_deref() == Some("NONE") {
                return Ok(());
            }
            Err(PublishError::Incompatible {
                file: file.source.name.clone(),
                subject: subject.to_owned(),
                level,
                reasons,
            })
        }
    }
}

fn register(client: &Client, subject: &str, schema: &Registered) -> Result<Done, ClientError> {
    let id = client.register(subject, schema)?;
    // The response contains only the id.
    let found = client.lookup(subject, schema)?;
    let version = found.map(|found| found.version).ok_or_else(|| ClientError::Unavailable {
        detail: format!("the registry returned id {id} but does not list it under {subject} yet; try again"),
    })?;
    Ok(Done::Registered { version, id })
}
