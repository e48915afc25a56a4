//! What the walk says of a payload's rules must be what the evaluator says of the whole message. The fuzz target includes this.

use std::time::SystemTime;

use tollgate_contract::{Contract, Fields, ReasonCode};

/// The violations that a rejection lists.
const LISTED: usize = 20;

/// Holds the walk's verdict against all violations of the message. `Err` describes the difference. Bytes that the walk
/// refuses for another reason than rules are none of the rules' business.
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
        // A list that was full was not gone on with, up to a rule that fails.
        (Err(found), Err(whole)) if found.violations.len() == LISTED && whole.code == ReasonCode::RuleFailed => Ok(()),
        (Err(found), _) if !matches!(found.code, ReasonCode::RuleViolated | ReasonCode::RuleFailed) => Ok(()),
        _ => Err(format!("{found:?}, {whole:?}: {payload:02x?}")),
    }
}
