//! `tollgate contract …`: works with contracts as files and as versions in a registry.

pub mod diff;
pub mod docs;
pub mod export;
pub mod lock;
pub mod registry;

use std::path::PathBuf;

use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::Success;
use super::check::pipelines::load_pipeline;
use super::check::{messages, versions};
use tollgate_config::Pipeline;
use tollgate_config::error::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Registers a .proto file and its imports in a schema registry, after a compatibility check.
    Register(registry::Register),
    /// Lists the versions of a subject in a schema registry, or all subjects.
    Versions(registry::Versions),
    /// Shows the differences between two versions of contracts, field by field.
    Diff(diff::Args),
    /// Writes a page for each contract as Markdown and HTML.
    Docs(docs::Args),
    /// Writes contracts as SQL, JSON Schema, TypeScript or zod.
    Export(export::Args),
    /// Records the digests of released versions in contracts.lock, which `tollgate check` enforces.
    Lock(lock::Args),
}

/// The contracts to work with.
#[derive(Debug, Clone, clap::Args)]
pub struct Select {
    /// Folders of .proto files, .proto files, descriptor sets, or pipeline files, which name protos and messages.
    #[arg(value_name = "PATH", default_value = "proto")]
    pub paths: Vec<PathBuf>,
    /// Only this message type, by its full name; may be given several times. Default: the types that a pipeline names,
    /// else all.
    #[arg(long, value_name = "NAME")]
    pub message: Vec<String>,
}

/// The loaded contracts of a [`Select`], with comments and source positions.
pub struct Loaded {
    pub pool: DescriptorPool,
    pub paths: Vec<PathBuf>,
    pub pipelines: Vec<Pipeline>,
}

/// # Errors
/// Fails with exit code 2 if a file cannot be read or compiled.
pub fn load(select: &Select) -> Result<Loaded, Failure> {
    let pipelines = select.paths.iter().filter(|path| versions::is_pipeline(path)).map(|path| load_pipeline(path));
    let pipelines = pipelines.collect::<Result<Vec<_>, _>>()?;
    let paths = versions::proto_paths(&select.paths, &pipelines)?;
    let pool = versions::Version::working_tree(&paths)?.pool;
    Ok(Loaded { pool, paths, pipelines })
}

impl Loaded {
    /// # Errors
    /// Fails with exit code 2 if a name does not exist.
    pub fn messages(&self, select: &Select) -> Result<Vec<MessageDescriptor>, Failure> {
        let mut names = select.message.clone();
        if names.is_empty() {
            for pipeline in &self.pipelines {
                names.extend(pipeline.types.iter().map(|kind| kind.message.clone()));
                names.extend(pipeline.destinations().map(|to| to.message().to_owned()));
            }
            names.sort();
            names.dedup();
        }
        if names.is_empty() {
            return Ok(messages(&self.pool));
        }
        let find = |name: &String| {
            self.pool.get_message_by_name(name).ok_or_else(|| {
                let all: Vec<String> = self.pool.all_messages().map(|message| message.full_name().to_owned()).collect();
                let near = tollgate_config::reader::nearest(name, all.iter().map(String::as_str));
                let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                Failure::configuration("contract.message", format!("message {name} does not exist{near}"))
            })
        };
        names.iter().map(find).collect()
    }
}

impl Args {
    /// Returns the verb with its sub-verb.
    pub fn name(&self) -> &'static str {
        match self.verb {
            Verb::Register(_) => "contract register",
            Verb::Versions(_) => "contract versions",
            Verb::Diff(_) => "contract diff",
            Verb::Docs(_) => "contract docs",
            Verb::Export(_) => "contract export",
            Verb::Lock(_) => "contract lock",
        }
    }
}

/// # Errors
/// Returns the errors of each verb.
pub fn run(args: &Args) -> Result<Success, Failure> {
    match &args.verb {
        Verb::Register(args) => registry::register(args),
        Verb::Versions(args) => registry::versions(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Docs(args) => docs::run(args),
        Verb::Export(args) => export::run(args),
        Verb::Lock(args) => lock::run(args),
    }
}
