//! Turns a chain's outcome into a verdict on its event.

use std::borrow::Cow;

use tollgate_sandbox::{FailureCode, Outcome};

use super::verdict::Verdict;
use crate::dead_letter::{self, Reason, Stage};
use crate::gate::TransformInfo;

/// Turns a chain's outcome into a verdict, and leaves a drop in its place.
pub(super) fn settle(transforms: &[TransformInfo], outcome: &mut Outcome) -> Verdict {
    let name = |transform: usize| transforms.get(transform).map(|info| info.name.clone());
    match std::mem::replace(outcome, Outcome::Dropped { transform: 0 }) {
        Outcome::Outputs(range) => Verdict::Outputs(range),
        Outcome::Dropped { .. } => Verdict::Dropped,
        Outcome::Rejected(rejected) => {
            let (code, field, message) = match dead_letter::collision(&rejected.code) {
                Some(message) => (Cow::Borrowed(FailureCode::Protocol.as_str()), String::new(), message),
                None => (Cow::Owned(rejected.code), rejected.field, rejected.message),
            };
            Verdict::Dead(Box::new(Reason {
                code,
                stage: Stage::Transform,
                field,
                message,
                transform: name(rejected.transform),
                fuel_used: Some(rejected.fuel_used),
                violations: Vec::new(),
            }))
        }
        Outcome::Failed(failed) => Verdict::Dead(Box::new(Reason {
            code: Cow::Borrowed(failed.code.as_str()),
            stage: Stage::Transform,
            field: String::new(),
            message: failed.message,
            transform: name(failed.transform),
            fuel_used: Some(failed.fuel_used),
            violations: Vec::new(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use tollgate_sandbox::Rejected;

    use super::*;

    fn rejected(code: &str) -> Box<Reason> {
        let mut outcome = Outcome::Rejected(Box::new(Rejected {
            transform: 0,
            code: code.to_owned(),
            field: "amount".to_owned(),
            message: "not above zero".to_owned(),
            fuel_used: 7,
        }));
        match settle(&[], &mut outcome) {
            Verdict::Dead(reason) => reason,
            other @ Verdict::Outputs(_) | other @ Verdict::Delete | other @ Verdict::Dropped => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_transform_cannot_give_a_reason_of_tollgates_own() {
        let own = rejected("amount-not-positive");
        assert_eq!(
            (&*own.code, own.field.as_str(), own.message.as_str()),
            ("amount-not-positive", "amount", "not above zero")
        );
        // These are one code each of the sandbox, the contract and the host.
        for code in ["fuel-exhausted", "undecodable", "row-value"] {
            let reason = rejected(code);
            assert_eq!((&*reason.code, reason.field.as_str(), reason.fuel_used), ("protocol-violation", "", Some(7)));
            assert!(reason.message.starts_with(&format!("explain with the code `{code}`: ")), "{}", reason.message);
        }
        // These are the codes that an SDK uses by itself.
        for code in ["rejected", "guest-undecodable"] {
            assert_eq!(rejected(code).code, code);
        }
    }
}
