//! Switches for the tests of the guarantee, read once from the environment.
//!
//! `TOLLGATE_FAILPOINT=after-step-3:17` ends the process like a SIGKILL after that step of the seventeenth batch; `still-after-step-3:17`
//! makes it stand still there until it gets a SIGCONT.
//! `TOLLGATE_UNSAFE=no-compare-and-swap,no-transaction,no-redo-plan` takes guards away, so that the tests can show that they notice.
//! Neither is for anything else: the engine says loudly at its start that it runs with one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Produced = 1,
    Prepared = 2,
    Decided = 3,
    Concluded = 4,
}

#[derive(Debug, Default)]
pub struct Hazards {
    pub no_compare_and_swap: bool,
    pub no_transaction: bool,
    pub no_redo_plan: bool,
    failpoint: Option<Failpoint>,
}

#[derive(Debug)]
struct Failpoint {
    step: u32,
    /// Batches until then.
    count: AtomicU32,
    /// Stands still instead of ending.
    still: bool,
}

/// The hazards of this process.
pub fn hazards() -> &'static Hazards {
    static HAZARDS: OnceLock<Hazards> = OnceLock::new();
    HAZARDS.get_or_init(|| {
        let hazards = parse(
            &std::env::var("TOLLGATE_UNSAFE").unwrap_or_default(),
            &std::env::var("TOLLGATE_FAILPOINT").unwrap_or_default(),
        );
        let Hazards { no_compare_and_swap, no_transaction, no_redo_plan, failpoint } = &hazards;
        if *no_compare_and_swap || *no_transaction || *no_redo_plan || failpoint.is_some() {
            tracing::error!(?hazards, "guards are off or a failpoint is set: this process is for tests only");
        }
        hazards
    })
}

fn parse(guards: &str, failpoint: &str) -> Hazards {
    let has = |name| guards.split(',').any(|guard| guard.trim() == name);
    let (failpoint, still) = failpoint.strip_prefix("still-").map_or((failpoint, false), |rest| (rest, true));
    let failpoint = failpoint.strip_prefix("after-step-").and_then(|rest| {
        let (step, count) = rest.split_once(':').unwrap_or((rest, "1"));
        Some(Failpoint { step: step.parse().ok()?, count: AtomicU32::new(count.parse().ok()?), still })
    });
    Hazards {
        no_compare_and_swap: has("no-compare-and-swap"),
        no_transaction: has("no-transaction"),
        no_redo_plan: has("no-redo-plan"),
        failpoint,
    }
}

impl Hazards {
    /// Dies here if the failpoint says so: at once, without unwinding, as a crash would.
    pub fn pass(&self, step: Step) {
        let Some(failpoint) = &self.failpoint else { return };
        if failpoint.step != step as u32 || failpoint.count.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if failpoint.still {
            let stopped = std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
            tracing::error!(?stopped, "the failpoint is over");
        } else {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_tests_write() {
        let hazards = parse("no-compare-and-swap, no-transaction,no-redo-plan", "after-step-3:17");
        assert!(hazards.no_compare_and_swap && hazards.no_transaction && hazards.no_redo_plan);
        let Failpoint { step, count, still } = hazards.failpoint.unwrap();
        assert_eq!((step, count.into_inner(), still), (3, 17, false));
        assert!(parse("", "still-after-step-2").failpoint.unwrap().still);
        assert!(parse("", "").failpoint.is_none());
        assert!(parse("", "after-step-x").failpoint.is_none());
    }
}
