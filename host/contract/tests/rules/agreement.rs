//! Compares the walk's result for a payload's rules with the evaluator's result for the whole message. The fuzz target
//! includes this file.

use std::time::SystemTime;

use tollgate_contract::{Contract, Fields, ReasonCode};

/// The maximum number of violations in a rejection.
const LISTED: usize = 20;

/// Compares the walk's verdict with all violations of the message. `Err` describes the difference. Bytes that the walk
/// refuses for another reason than rules are ignored.
pub(crate) fn agree(contract: &Contract, payload: &[u8], now: SystemTime) -> Result<(), String> {
    let found = contract.check_at(payload, &mut Fields::new(), now);
    let whole = contract.violations(payload, Some(now));
    match (&found, &whole) {
        (Ok(()), Ok(violations)) if violations.is_empty() => Ok(()),
        (Err(found), Ok(violations)) if found.code == ReasonCode::RuleViolated => {
            let listed = violations.iter().take(LISTED).eq(&found.violations);
            if listed && !violations.is_empty() { Ok(()) } else { Err(format!("{found:?}, {whole:?}: {payload:02x?}")) }
        }
        (Err(found), Err(whole)) if found.code == ReasonCode::RuleFailed && whole.code == found.code => Ok(()),
        // A full list of violations ends before a rule that cannot be evaluated.
        (Err(found), Err(whole)) if found.violations.len() == LISTED && whole.code == ReasonCode::RuleFailed => Ok(()),
        (Err(found), _) if !matches!(found.code, ReasonCode::RuleViolated | ReasonCode::RuleFailed) => Ok(()),
        _ => Err(format!("{found:?}, {whole:?}: {payload:02x?}")),
    }
}
