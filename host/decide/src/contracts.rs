//! Compiles the contracts that a pipeline names: those of its inputs and those of its destinations.

mod fit;

use tollgate_contract::{CompileError, Contract, FieldPath, Policies, Slot};

use crate::gate::TypeContracts;
use crate::gate::change::Changes;
use crate::gate::envelope::{self, Envelope, Problem};
use crate::postgres::table;
use tollgate_config::error::Failure;
use tollgate_config::{Destination, Pipeline, Pools};

/// The contracts of a type, for its input and for its chain's outputs.
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

    pub fn of_revision(&self) -> TypeContracts<'_> {
        let routes = self.routes.iter().map(|route| &route.contract).collect();
        TypeContracts { input: &self.input, output: &self.output.contract, routes }
    }
}

/// Compiles the envelope, if there is one. Its message is one of the pipeline's, or a shipped one.
pub fn envelope(pipeline: &Pipeline, pools: &Pools) -> Result<Option<Envelope>, Failure> {
    let Some(spec) = &pipeline.contract.envelope else { return Ok(None) };
    Envelope::compile(pipeline, spec, pools.outer()).map(Some).map_err(|problems| unfit(&problems))
}

/// Checks the settings of `envelope: debezium` against the message types.
pub fn changes(pipeline: &Pipeline, pools: &Pools) -> Result<Option<Changes>, Failure> {
    let Some(spec) = &pipeline.contract.debezium else { return Ok(None) };
    let compiled = Changes::compile(pipeline, spec, &pools.own);
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

/// Compiles the contracts, type by type.
pub fn contracts(pipeline: &Pipeline, pools: &Pools) -> Result<Vec<Contracts>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::configuration("contract.invalid", error);
    let pool = &pools.own;
    let messages: Vec<&str> = pipeline.types.iter().map(|kind| kind.message.as_str()).collect();
    let policies = &pipeline.contract.policies;
    // With a single type, each name that it lacks gets a separate error.
    let fitted = match messages.len() {
        1 => vec![policies.clone()],
        _ => fit::fit(pool, &messages, policies).map_err(|error| bad(&error))?,
    };
    let compile = |(kind, policies): (&tollgate_config::EventType, &Policies)| {
        let add = |fields: &mut Vec<FieldPath>, path: &str| {
            fields.push(FieldPath::new(path));
            Slot(fields.len() - 1)
        };
        let mut wanted = envelope::key_fields(pipeline, kind);
        let id = pipeline.delivery.id_field().map(|path| add(&mut wanted, path));
        let input = Contract::compile(pool, &kind.message, policies.clone(), &wanted)?;
        let outgoing = |to: Destination<'_>| {
            let mut fields = to.mapping().map(table::fields).unwrap_or_default();
            let key = to.keys().into_iter().map(|path| add(&mut fields, path)).collect();
            // An event that passes unchanged is checked against the output's contract only.
            let passes = to.route.is_none() && to.message() == kind.message;
            let policies = if passes { policies.clone() } else { policies.leaving() };
            Ok(Outgoing { contract: Contract::compile(pool, to.message(), policies, &fields)?, key })
        };
        let routes = kind.routes().map(outgoing).collect::<Result<_, CompileError>>()?;
        Ok(Contracts { input, id, output: outgoing(kind.end())?, routes })
    };
    let compiled: Result<_, CompileError> = pipeline.types.iter().zip(&fitted).map(compile).collect();
    compiled.map_err(|error| bad(&error))
}
