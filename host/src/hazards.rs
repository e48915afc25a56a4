//! Switches for the tests of the guarantee, read once from the environment.
//!
//! `TOLLGATE_FAILPOINT=after-step-3:17` ends the process like a SIGKILL when it passes that place for the seventeenth time;
//! `still-after-step-3:17` stops it there until it gets a SIGCONT. [`Place`] names the places.
//! `TOLLGATE_UNSAFE=no-compare-and-swap,no-transaction,no-redo-plan` removes guards, so that the tests can show that they notice.
//! Neither is for anything else: the engine logs an error at its start when one is set.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place in a lane where the process can end or be stopped: each one is just before or after a wait, and holds something
/// else at the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A batch has come through the channel; nothing is open.
    Received,
    /// Before the transforms; nothing is open.
    Sandbox,
    /// A Kafka transaction is open for a partition's first offset.
    Establishing,
    /// A PostgreSQL transaction has locked the progress rows, and waits for the next statement.
    Begun,
    /// Inside COPY: PostgreSQL waits for data, and counts the session as active.
    Copy,
    /// Step 1: both transactions are open.
    Produced,
    /// Step 2: Kafka has acknowledged.
    Prepared,
    /// Step 3: PostgreSQL has committed, and Kafka's transaction is open.
    Decided,
    /// Step 4: both have committed.
    Concluded,
    /// A scratch transaction looks for the row that PostgreSQL refuses.
    Searching,
}

impl Place {
    const ALL: [Place; 10] = [
        Place::Received,
        Place::Sandbox,
        Place::Establishing,
        Place::Begun,
        Place::Copy,
        Place::Produced,
        Place::Prepared,
        Place::Decided,
        Place::Concluded,
        Place::Searching,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Place::Received => "at-channel",
            Place::Sandbox => "at-sandbox",
            Place::Establishing => "at-first-offset",
            Place::Begun => "at-begin",
            Place::Copy => "at-copy",
            Place::Produced => "after-step-1",
            Place::Prepared => "after-step-2",
            Place::Decided => "after-step-3",
            Place::Concluded => "after-step-4",
            Place::Searching => "at-search",
        }
    }
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
    place: Place,
    /// Passes until then.
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
    let (name, count) = failpoint.split_once(':').unwrap_or((failpoint, "1"));
    let failpoint = Place::ALL.into_iter().find(|place| place.as_str() == name).and_then(|place| {
        let count = AtomicU32::new(count.parse().ok()?);
        Some(Failpoint { place, count, still })
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
    pub fn pass(&self, place: Place) {
        let Some(failpoint) = &self.failpoint else { return };
        if failpoint.place != place || failpoint.count.fetch_sub(1, Ordering::AcqRel) != 1 {
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
        let Failpoint { place, count, still } = hazards.failpoint.unwrap();
        assert_eq!((place, count.into_inner(), still), (Place::Decided, 17, false));
        assert!(parse("", "still-after-step-2").failpoint.unwrap().still);
        for place in Place::ALL {
            assert_eq!(parse("", place.as_str()).failpoint.unwrap().place, place);
        }
        assert!(parse("", "").failpoint.is_none());
        assert!(parse("", "after-step-x").failpoint.is_none());
    }
}
