//! Checks of the policies of `contract:` that name fields and enums.

use super::Report;
use prost_reflect::DescriptorPool;
use tollgate_config::Pipeline;
use tollgate_contract::{Contract, Policies, UnknownEnums};

/// Checks each policy against the event types. If there are several types, it must fit at least one of them. `messages`
/// are the types that compile.
pub(super) fn check_policies(pipeline: &Pipeline, pool: &DescriptorPool, messages: &[&str], report: &mut Report) {
    let policies = &pipeline.contract.policies;
    let alone = Policies::default;
    let coercions = policies.coerce.iter().map(|coercion| {
        let key = format!("contract.coerce.{}", coercion.field);
        (key, Policies { coerce: vec![coercion.clone()], ..alone() })
    });
    let clocks = policies.clock_skew.iter().map(|clock| {
        let key = format!("contract.clock_skew.{}", clock.field);
        (key, Policies { clock_skew: vec![clock.clone()], ..alone() })
    });
    let named = match &policies.unknown_enums {
        UnknownEnums::Fallback(named) => Some(named),
        UnknownEnums::Reject | UnknownEnums::Keep => None,
    };
    let fallbacks = named.into_iter().flatten().map(|(name, value)| {
        let one = std::iter::once((name.clone(), value.clone())).collect();
        let key = format!("contract.unknown_enums.fallback.{name}");
        (key, Policies { unknown_enums: UnknownEnums::Fallback(one), ..alone() })
    });
    for (key, policies) in coercions.chain(clocks).chain(fallbacks) {
        let problems = messages.iter().map(|message| Contract::compile(pool, message, policies.clone(), &[]).err());
        // `None` if one of the types accepts the policy.
        let problems: Option<Vec<_>> = problems.collect();
        if let Some(problem) = problems.and_then(|problems| problems.into_iter().next()) {
            report.error(pipeline, "contract.policy", &key, problem.to_string());
        }
    }
}
