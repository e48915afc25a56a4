//! Hazards, read once from the environment.
//!
//! `TOLLGATE_FAILPOINT=after-step-3:17` ends the process like a SIGKILL when it passes that place for the seventeenth
//! time; `still-after-step-3:17` stops it there until it gets a SIGCONT. [`Place`] names the places.
//! `TOLLGATE_UNSAFE=no-compare-and-swap,no-transaction,no-redo-plan` disables guards, to prove that the tests can fail
//! without them. The engine logs an error at startup if a hazard is set.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Hazards, Place, VARIABLES};

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

#[derive(Debug)]
pub(super) struct Failpoint {
    place: Place,
    /// The number of passes left before it triggers.
    count: AtomicU32,
    /// Whether it stops the process instead of ending it.
    still: bool,
}

/// The hazards of this process.
pub fn hazards() -> &'static Hazards {
    static HAZARDS: OnceLock<Hazards> = OnceLock::new();
    HAZARDS.get_or_init(|| {
        let [failpoint, guards] = VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
        let hazards = parse(&guards, &failpoint);
        let Hazards { no_compare_and_swap, no_transaction, no_redo_plan, failpoint } = &hazards;
        if *no_compare_and_swap || *no_transaction || *no_redo_plan || failpoint.is_some() {
            tracing::error!(?hazards, "guards are off or a failpoint is set: this process is for tests only");
        }
        hazards
    })
}

fn parse(guards: &str, failpoint: &str) -> Hazards {
    let mut hazards = Hazards { failpoint: place(failpoint), ..Hazards::default() };
    for guard in guards.split(',').map(str::trim).filter(|guard| !guard.is_empty()) {
        match guard {
            "no-compare-and-swap" => hazards.no_compare_and_swap = true,
            "no-transaction" => hazards.no_transaction = true,
            "no-redo-plan" => hazards.no_redo_plan = true,
            _ => panic!("unknown guard in TOLLGATE_UNSAFE: {guard}"),
        }
    }
    hazards
}

fn place(text: &str) -> Option<Failpoint> {
    let (name, still) = text.strip_prefix("still-").map_or((text, false), |rest| (rest, true));
    let (name, count) = name.split_once(':').unwrap_or((name, "1"));
    let place = Place::ALL.into_iter().find(|place| place.as_str() == name);
    match (place, count.parse()) {
        (Some(place), Ok(count)) => Some(Failpoint { place, count: AtomicU32::new(count), still }),
        _ if text.is_empty() => None,
        _ => panic!("unknown place in TOLLGATE_FAILPOINT: {text}"),
    }
}

impl Hazards {
    /// Ends the process here if the failpoint is reached: at once, without unwinding, as a crash would.
    pub fn pass(&self, place: Place) {
        let Some(failpoint) = &self.failpoint else { return };
        if failpoint.place != place || failpoint.count.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if failpoint.still {
            let stopped = std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
            tracing::error!(?stopped, "continuing after the failpoint");
        } else {
            std::process::abort();
        }
    }
}
