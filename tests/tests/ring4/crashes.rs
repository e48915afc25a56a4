//! Tests SIGKILL at any time, and an abort after each step of the delivery protocol.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::engine;
use tollgate_tests::guests::{self, Guest};
use tollgate_tests::load::Load;
use tollgate_tests::oracle;
use tollgate_tests::seed::Seed;
use tollgate_tests::wait_for;
use xtask::process::Signal;

use super::{RATE, one_at_a_time};

/// Returns a pipeline with its topics and its table, and a load that has begun.
pub(super) fn loaded(name: &str) -> (Case, Load) {
    loaded_by(&engine::binary(), name)
}

/// Does the same with a setup by another build's binary.
pub(super) fn loaded_by(program: &Path, name: &str) -> (Case, Load) {
    // Batches are small, so that there are more commits during which the engine can be killed.
    let delivery = json!({ "batch": { "max_events": 1000 }, "transaction_timeout": "4s" });
    let case = Case::new(name).guest(&Guest::revision(1)).set("/delivery", delivery).setup_by(program);
    let brokers = case.pipeline["source"]["brokers"].as_str().unwrap().to_owned();
    let load = Load::start(&brokers, &case.source(), PARTITIONS, RATE);
    (case, load)
}

/// Stops the load, lets the engine finish, and runs the oracle.
pub(super) fn conclude(case: &Case, load: Load, what: &str) {
    let (ends, rate) = load.stop();
    let began = Instant::now();
    let engine = case.run();
    case.settled(&ends);
    let rest = began.elapsed();
    engine.stop();
    let found = oracle::check(case, &ends);
    let total: i64 = ends.iter().sum();
    println!(
        "{what}: {total} events at {rate:.0}/s, the rest through in {:.1} s, checked after {:.1} s",
        rest.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert!(found.is_empty(), "{what}: {found:#?}");
}

#[test]
fn ten_kills_at_random_times_lose_and_repeat_nothing() {
    let _alone = one_at_a_time();
    let mut seed = Seed::new(0x7011_6a7e);
    let (case, load) = loaded("kills");
    for number in 0..10 {
        let engine = case.run();
        engine.ready();
        // The engine is killed while it works: some time after its first commit.
        let before = engine.metric("tollgate_events_total", "");
        wait_for("the first commit", || (engine.metric("tollgate_events_total", "") > before).then_some(()));
        let wait = Duration::from_millis(seed.below(900));
        thread::sleep(wait);
        engine.kill();
        println!("kill {number} after {wait:?}");
    }
    conclude(&case, load, "ten kills");
}

/// Aborts after each step and swaps the transform after each abort. This is repeated `TOLLGATE_REPEAT` times, by
/// default once.
fn aborts(name: &str, survivor: bool) {
    let _alone = one_at_a_time();
    let (case, load) = loaded(name);
    let repeat = std::env::var("TOLLGATE_REPEAT").map_or(1, |times| times.parse().unwrap());
    let survivor = survivor.then(|| case.run());
    let mut revision = 1;
    for round in 0..repeat {
        for step in 1..=4 {
            // The batch varies: the first one after a takeover is a different case than the fifth.
            let batch = 1 + (round + step) % 5;
            let engine = case.run_with(&[("TOLLGATE_FAILPOINT", &format!("after-step-{step}:{batch}"))]);
            let status = engine.wait();
            assert!(!status.success(), "the failpoint after step {step} was not met");
            revision = revision % 120 + 1;
            case.put("guest.wasm", &guests::component(&Guest::revision(revision)));
            if let Some(survivor) = &survivor {
                survivor.signal(Signal::HUP);
            }
        }
    }
    if let Some(survivor) = survivor {
        survivor.stop();
    }
    conclude(&case, load, &format!("{name}: {repeat} aborts after each step"));
}

#[test]
fn an_abort_after_any_step_loses_and_repeats_nothing() {
    aborts("steps", false);
}

#[test]
fn a_survivor_finishes_what_an_abort_after_any_step_left() {
    aborts("survivor", true);
}
