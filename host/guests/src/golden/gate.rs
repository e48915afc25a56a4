//! The contracts around a transform, applied as by a pipeline that has it as its chain and no policies of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_reflect::DescriptorPool;
use tollgate_contract::{CompileError, Contract, Fields, Notes, Policies};
use tollgate_sandbox::{Events, Manifest, Results};

use super::case::Case;
use tollgate_decide::dead_letter::{Reason, Stage};

pub(super) struct Gate {
    input: Contract,
    /// The contract of the main output, followed by each route's with its name.
    outputs: Vec<(Option<String>, Contract)>,
}

impl Gate {
    pub(super) fn new(pool: &DescriptorPool, manifest: &Manifest) -> Result<Gate, CompileError> {
        let policies = Policies::default();
        let leaving = |message: &str| Contract::compile(pool, message, policies.leaving(), &[]);
        let mut outputs = vec![(None, leaving(manifest.output())?)];
        for route in &manifest.routes {
            outputs.push((Some(route.clone()), leaving(manifest.route_message(route))?));
        }
        Ok(Gate { input: Contract::compile(pool, &manifest.input, policies, &[])?, outputs })
    }

    /// Checks whether the event reaches the transform. A tombstone has no contract.
    pub(super) fn admit(&self, case: &Case) -> Result<(), Box<Reason>> {
        let Some(value) = &case.value else { return Ok(()) };
        let admitted = self.input.admit(value, &mut Fields::new(), now(case), &mut Notes::default());
        admitted.map_err(|rejection| Reason::refused(Stage::Contract, rejection))
    }

    /// Checks everything that the transform emitted.
    pub(super) fn emit(&self, case: &Case, results: &Results, events: &Events) -> Result<(), Box<Reason>> {
        for output in results.outcomes.first().map_or(&[][..], |_| results.outputs_of(0)) {
            let place = usize::try_from(output.route).ok().and_then(|route| self.outputs.get(route));
            // The sandbox accepts only routes in the manifest.
            let (Some((route, contract)), Some(payload)) = (place, results.payload(output, events, 0)) else {
                continue;
            };
            let checked = contract.check_at(payload, &mut Fields::new(), now(case));
            checked.map_err(|rejection| Reason::against_output(route.as_deref(), rejection))?;
        }
        Ok(())
    }
}

/// Returns the value of `now` in rules: the batch's time if the case sets it, otherwise the current time.
fn now(case: &Case) -> SystemTime {
    let said = case.time.and_then(|millis| u64::try_from(millis).ok());
    said.map_or_else(SystemTime::now, |millis| UNIX_EPOCH + Duration::from_millis(millis))
}
