//! `tollgate schema`: prints the JSON Schema of a pipeline.yaml, for editors.

use super::Success;
use tollgate_config::error::Failure;
use tollgate_config::schema::json_schema;

#[derive(Debug, clap::Args)]
pub struct Args {}

/// # Errors
/// Never fails. The signature is the same for all verbs.
pub fn run(_args: &Args) -> Result<Success, Failure> {
    let schema = json_schema();
    let text = format!("{schema:#}\n");
    Ok(Success::new("the JSON Schema of a pipeline.yaml", schema, text))
}
