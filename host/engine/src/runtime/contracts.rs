//! Compiles the contracts that a pipeline names: those of its inputs and those of its destinations.

use prost_reflect::DescriptorPool;
use tollgate_contract::{CompileError, Contract, FieldPath, Policies, Slot};

use super::fit;
use tollgate_config::error::Failure;
use tollgate_config::{Destination, Pipeline, Schema};
use tollgate_decide::gate::Held;
use tollgate_decide::gate::change::Changes;
use tollgate_decide::gate::envelope::{self, Envelope, Problem};
use tollgate_decide::postgres::table;
use tollgate_protos::ProtosError;

/// The contracts of a type: of its input, and of its chain's outputs.
pub struct Contracts {
    pub input: Contract,
    /// The slot of the event's id, if `processed_ids` names a field.
    pub id: Option<Slot>,
    /// The contract at the end of the chain.
    pub output: Outgoing,
    /// The contract of each of [`tollgate_config::EventType::routes`].
    pub routes: Vec<Outgoing>,
}

/// The contract that a destination's outputs must satisfy. Its slots are the table's fields, then the key.
pub struct Outgoing {
    pub contract: Contract,
    pub key: Vec<Slot>,
}

impl Contracts {
    /// Iterates over the contracts of [`tollgate_config::EventType::destinations`].
    pub fn outgoing(&self) -> impl Iterator<Item = &Outgoing> {
        std::iter::once(&self.output).chain(&self.routes)
    }

    pub fn held(&self) -> Held<'_> {
        let routes = self.routes.iter().map(|route| &route.contract).collect();
        Held { input: &self.input, output: &self.output.contract, routes }
    }
}

/// Returns the message types that a pipeline names. Reads files, no network.
pub fn pool(pipeline: &Pipeline) -> Result<DescriptorPool, Failure> {
    let paths = match &pipeline.contract.schema {
        Schema::Protos(paths) => paths.clone(),
        Schema::DescriptorSet(path) => vec![path.clone()],
    };
    let paths: Vec<_> = paths.iter().map(|path| pipeline.resolve(path)).collect();
    let shown = |error: ProtosError| error.shown(|path| pipeline.shown(path));
    tollgate_protos::load(&paths).map_err(|error| Failure::configuration("contract.invalid", shown(error)))
}

/// Compiles the envelope, if there is one: its message is one of the pipeline's, or a shipped one.
pub fn envelope(pipeline: &Pipeline) -> Result<Option<Envelope>, Failure> {
    let Some(spec) = &pipeline.contract.envelope else { return Ok(None) };
    let pool = envelope_pool(spec, pool(pipeline)?);
    Envelope::compile(pipeline, spec, &pool).map(Some).map_err(|problems| unfit(&problems))
}

/// Checks the settings of `envelope: debezium` against the message types.
pub fn changes(pipeline: &Pipeline) -> Result<Option<Changes>, Failure> {
    let Some(spec) = &pipeline.contract.debezium else { return Ok(None) };
    let compiled = Changes::compile(pipeline, spec, &pool(pipeline)?);
    compiled.map(Some).map_err(|problems| unfit(&problems))
}

fn unfit(problems: &[Problem]) -> Failure {
    let problems: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
    Failure::configuration("contract.invalid", problems.join("\n"))
}

/// Returns the headers that events take from their envelopes or change events.
pub fn header_names(envelope: Option<&Envelope>, changes: Option<&Changes>) -> Vec<String> {
    let headers = envelope.map(|envelope| &envelope.headers).or(changes.map(|changes| &changes.headers));
    headers.cloned().unwrap_or_default()
}

/// Returns the pool that has the envelope's message: the pipeline's own takes precedence over the shipped one.
pub fn envelope_pool(spec: &tollgate_config::Envelope, own: DescriptorPool) -> DescriptorPool {
    match own.get_message_by_name(&spec.message) {
        Some(_) => own,
        None => tollgate_protos::shipped(&spec.message).unwrap_or(own),
    }
}

/// Compiles the contracts, type by type. Reads files, no network.
pub fn contracts(pipeline: &Pipeline) -> Result<Vec<Contracts>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::configuration("contract.invalid", error);
    let pool = pool(pipeline)?;
    let messages: Vec<&str> = pipeline.types.iter().map(|kind| kind.message.as_str()).collect();
    let policies = &pipeline.contract.policies;
    // With a single type, each name that it lacks gets an error of its own.
    let fitted = match messages.len() {
        1 => vec![policies.clone()],
        _ => fit::fit(&pool, &messages, policies).map_err(|error| bad(&error))?,
    };
    let compile = |(kind, policies): (&tollgate_config::EventType, &Policies)| {
        let add = |fields: &mut Vec<FieldPath>, path: &str| {
            fields.push(FieldPath::new(path));
            Slot(fields.len() - 1)
        };
        let mut wanted = envelope::key_fields(pipeline, kind);
        let id = pipeline.delivery.id_field().map(|path| add(&mut wanted, path));
        let input = Contract::compile(&pool, &kind.message, policies.clone(), &wanted)?;
        let outgoing = |to: Destination<'_>| {
            let mut fields = to.mapping().map(table::fields).unwrap_or_default();
            let key = to.keys().into_iter().map(|path| add(&mut fields, path)).collect();
            // An event that passes unchanged is checked against the output's contract only.
            let passes = to.route.is_none() && to.message() == kind.message;
            let policies = if passes { policies.clone() } else { policies.leaving() };
            Ok(Outgoing { contract: Contract::compile(&pool, to.message(), policies, &fields)?, key })
        };
        let routes = kind.routes().map(outgoing).collect::<Result<_, CompileError>>()?;
        Ok(Contracts { input, id, output: outgoing(kind.end())?, routes })
    };
    let compiled: Result<_, CompileError> = pipeline.types.iter().zip(&fitted).map(compile).collect();
    compiled.map_err(|error| bad(&error))
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
        let said = pool(&pipeline).unwrap_err().to_string();
        assert!(said.starts_with("${FOLDER} cannot be read"), "{said}");
    }
}
