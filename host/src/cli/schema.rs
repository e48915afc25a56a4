//! `tollgate schema`: prints the JSON Schema of a pipeline.yaml for editors, or of a process's status for monitoring.

use super::Success;
use tollgate_config::error::Failure;
use tollgate_config::schema;
use tollgate_engine::status;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the schema describes.
    #[arg(value_enum, default_value_t = Of::Pipeline)]
    pub of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// A pipeline.yaml.
    Pipeline,
    /// The answer of `GET /status`.
    Status,
}

/// # Errors
/// Never fails. The signature is the same for all verbs.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let (schema, summary) = match args.of {
        Of::Pipeline => (schema::json_schema(), "the JSON Schema of a pipeline.yaml"),
        Of::Status => (status::json_schema(), "the JSON Schema of a process's status"),
    };
    let text = format!("{schema:#}\n");
    Ok(Success::new(summary, schema, text))
}
