//! The message types that a pipeline names.

use prost_reflect::DescriptorPool;
use tollgate_config::error::Failure;
use tollgate_config::{Pipeline, Pools, Schema};

use crate::{load, shipped};

/// Compiles the message types that a pipeline names. It reads files and uses no network.
///
/// # Errors
/// Returns `contract.invalid` if a file cannot be read or compiled.
pub fn pools(pipeline: &Pipeline) -> Result<Pools, Failure> {
    let paths = match &pipeline.contract.schema {
        Schema::Protos(paths) => paths.clone(),
        Schema::DescriptorSet(path) => vec![path.clone()],
    };
    let paths: Vec<_> = paths.iter().map(|path| pipeline.resolve(path)).collect();
    let own = load(&paths)
        .map_err(|error| Failure::configuration("contract.invalid", error.shown(|path| pipeline.shown(path))))?;
    Ok(Pools { outer: outer(pipeline, &own), own })
}

/// Returns the pool of the envelope's message, if a shipped one has to be used: the pipeline's own takes precedence.
fn outer(pipeline: &Pipeline, own: &DescriptorPool) -> Option<DescriptorPool> {
    let message = &pipeline.contract.envelope.as_ref()?.message;
    if own.get_message_by_name(message).is_some() { None } else { shipped(message) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_from_a_variable_is_shown_by_its_name() {
        let text = "\
pipeline: p
source: { brokers: 'h:1', topic: t, group_id: g, start: latest }
contract: { protos: [\"${FOLDER}\", fine], message: a.B }
dead_letter: { topic: d }
postgres: { url: 'postgres://h/d', table: s.t, key: [k], columns: {} }
";
        let env = |_: &str| Some("no/s3cret".to_owned());
        let pipeline = Pipeline::parse(Path::new("p.yaml"), text, &env).unwrap();
        let said = pools(&pipeline).unwrap_err().to_string();
        assert!(said.starts_with("${FOLDER} cannot be read"), "{said}");
    }
}
