//! `tollgate offsets …`: changes a pipeline's position.

mod adopt;

use super::Success;
use tollgate_config::error::Failure;

/// Changes a pipeline's position in Kafka and PostgreSQL together: the group's offsets and the progress rows.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    Adopt(adopt::Args),
}

impl Args {
    /// Returns the verb with its sub-verb.
    pub fn name(&self) -> &'static str {
        match self.verb {
            Verb::Adopt(_) => "offsets adopt",
        }
    }
}

/// # Errors
/// Fails as the sub-verb does.
pub fn run(args: &Args) -> Result<Success, Failure> {
    match &args.verb {
        Verb::Adopt(args) => adopt::run(args),
    }
}
