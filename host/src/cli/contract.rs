//! `tollgate contract …`: contracts as files and as versions in a registry.

pub mod registry;

use super::Success;
use crate::error::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Registers a .proto file and what it imports in a schema registry, after its compatibility check.
    Register(registry::Register),
    /// Shows what versions of a subject a schema registry has, or its subjects.
    Versions(registry::Versions),
}

impl Args {
    /// The verb with its sub-verb.
    pub fn name(&self) -> &'static str {
        match self.verb {
            Verb::Register(_) => "contract register",
            Verb::Versions(_) => "contract versions",
        }
    }
}

/// # Errors
/// See each verb.
pub fn run(args: &Args) -> Result<Success, Failure> {
    match &args.verb {
        Verb::Register(args) => registry::register(args),
        Verb::Versions(args) => registry::versions(args),
    }
}
