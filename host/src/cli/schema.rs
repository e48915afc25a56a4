//! `tollgate schema`: the JSON Schema of a pipeline.yaml, for editors.

use super::Success;
use tollgate_config::error::Failure;
use tollgate_config::schema::json_schema;

#[derive(Debug, clap::Args)]
pub struct Args {}

/// # Errors
/// None; the verbs have one shape.
pub fn run(_args: &Args) -> Result<Success, Failure> {
    let schema = json_schema();
    let text = format!("{schema:#}\n");
    Ok(Success::new("the JSON Schema of a pipeline.yaml", schema, text))
}
