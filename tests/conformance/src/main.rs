//! Reads a `TestConformanceRequest` from stdin and writes the `TestConformanceResponse` to stdout.
//!
//! Every case is checked twice: as a whole message by the reference evaluator, and on the wire bytes by the engine's
//! check. If the two disagree, the case fails with that disagreement.

mod path;
mod wire;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tollgate_contract::{Contract, Fields, Policies, ReasonCode, UnknownEnums, Violation, lower_editions};

use wire::{Outcome, Request, Response, TestResult};

/// The maximum number of violations in a rejection.
const LISTED: usize = 20;

fn main() -> Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).context("the request cannot be read")?;
    let request = Request::decode(input.as_slice()).context("the request is no TestConformanceRequest")?;
    let descriptors = lower_editions(&request.descriptors).context("the descriptors cannot be read")?;
    let pool = DescriptorPool::decode(&*descriptors).context("the descriptors cannot be compiled")?;
    let mut contracts: HashMap<String, Result<Contract, String>> = HashMap::new();
    let mut results = HashMap::new();
    for (name, case) in request.cases {
        let message = case.type_url.rsplit('/').next().unwrap_or_default().to_owned();
        let contract = contracts.entry(message.clone()).or_insert_with(|| compile(&pool, &message));
        let outcome = match contract {
            Ok(contract) => judge(contract, &case.value),
            Err(error) => Outcome::CompilationError(error.clone()),
        };
        results.insert(name, TestResult { outcome: Some(outcome) });
    }
    std::io::stdout().write_all(&Response { results }.encode_to_vec()).context("the response cannot be written")
}

fn compile(pool: &DescriptorPool, message: &str) -> Result<Contract, String> {
    // The suite tests its own rules about unknown enum numbers, so our policy keeps them.
    let policies = Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    Contract::compile(pool, message, policies, &[]).map_err(|error| error.to_string())
}

fn judge(contract: &Contract, payload: &[u8]) -> Outcome {
    let now = SystemTime::now();
    let whole = contract.violations(payload, Some(now));
    let on_the_wire = contract.check_at(payload, &mut Fields::new(), now);
    let differ = |what: String| Outcome::UnexpectedError(format!("the check on the wire bytes says otherwise: {what}"));
    match (whole, on_the_wire) {
        // The engine rejects groups, which some cases of the suite contain.
        (whole, Err(rejection)) if rejection.code == ReasonCode::GroupField => report(contract, whole),
        (Ok(violations), Err(rejection)) if rejection.code == ReasonCode::RuleViolated => {
            if violations.iter().take(LISTED).eq(&rejection.violations) {
                report(contract, Ok(violations))
            } else {
                differ(format!("{:?} instead of {violations:?}", rejection.violations))
            }
        }
        (Err(whole), Err(rejection)) if whole == rejection => report(contract, Err(whole)),
        (Ok(violations), Ok(())) if violations.is_empty() => Outcome::Success(true),
        (whole, on_the_wire) => differ(format!("{on_the_wire:?} instead of {whole:?}")),
    }
}

fn report(contract: &Contract, judged: Result<Vec<Violation>, tollgate_contract::Rejection>) -> Outcome {
    match judged {
        Ok(violations) if violations.is_empty() => Outcome::Success(true),
        Ok(violations) => {
            let shown: Result<Vec<_>> =
                violations.iter().map(|violation| show(contract.message(), violation)).collect();
            match shown {
                Ok(violations) => Outcome::Violations(wire::Violations { violations }),
                Err(error) => Outcome::UnexpectedError(format!("{error:#}")),
            }
        }
        Err(rejection) if rejection.code == ReasonCode::RuleFailed => Outcome::RuntimeError(rejection.to_string()),
        Err(rejection) => Outcome::UnexpectedError(rejection.to_string()),
    }
}

fn show(message: &MessageDescriptor, violation: &Violation) -> Result<wire::Violation> {
    let options =
        message.parent_pool().get_message_by_name("buf.validate.FieldRules").context("no buf.validate.FieldRules")?;
    Ok(wire::Violation {
        field: path::read(&violation.field, message)?,
        rule: path::read(&violation.rule_path, &options)?,
        rule_id: Some(violation.rule.clone()),
        message: Some(violation.message.clone()),
        for_key: violation.for_key.then_some(true),
    })
}
