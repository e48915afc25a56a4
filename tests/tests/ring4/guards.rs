//! Tests that the tests of the guarantee notice a missing guard: each guard is disabled, and the oracle must find the
//! damage.

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::guests::Guest;
use tollgate_tests::load::{Kind, Load, kind};
use tollgate_tests::{oracle, wait_for};
use xtask::process::Signal;

use super::crashes::loaded;
use super::one_at_a_time;

/// The engine ends between the produce and the decision. With a transaction nobody ever reads the first attempt's
/// records.
#[test]
fn without_the_transaction_records_are_produced_again() {
    let _alone = one_at_a_time();
    let (case, load) = loaded("no-transaction");
    let unsafe_ = ("TOLLGATE_UNSAFE", "no-transaction");
    let engine = case.run_with(&[unsafe_, ("TOLLGATE_FAILPOINT", "after-step-2:5")]);
    assert!(!engine.wait().success());
    let engine = case.run_with(&[unsafe_]);
    let (ends, _) = load.stop();
    // The group's offset is only a hint in this mode; the rows show the real progress.
    caught_up(&case, &ends);
    engine.stop();
    let found = oracle::check(&case, &ends);
    assert!(found.count("record produced again") > 0, "{found:#?}");
    assert_eq!(found.count("row counted again"), 0, "the rows have a guard of their own: {found:#?}");
}

/// Pauses a member with an unfinished batch until another member owns its partitions, and then continues it. In this
/// mode no Kafka transaction fences it: only the compare-and-swap of the progress row rejects its rows.
fn zombie(unsafe_: &str) -> oracle::Violations {
    // With a slow transform nearly all of a batch's time is before its guard.
    let limits = json!({ "fuel": 5_000_000, "memory": "8MiB" });
    let slow = Guest { spins: 100_000, manifest: json!({ "limits": limits }), ..Guest::revision(1) };
    let case = Case::new("zombie").guest(&slow);
    let case = case.set("/delivery", json!({ "mode": "at_least_once", "batch": { "max_events": 1000 } })).setup();
    let load = Load::start(case.pipeline["source"]["brokers"].as_str().unwrap(), &case.source(), PARTITIONS, 100_000);
    wait_for("a backlog", || (load.sent() > 24_000).then_some(()));
    let (ends, _) = load.stop();
    let variables = [("TOLLGATE_UNSAFE", unsafe_)];
    let zombie = case.run_with(&variables);
    wait_for("its first commits", || (zombie.metric("tollgate_events_total", "") > 4_000.0).then_some(()));
    let writing = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate {} lane' AND state <> 'idle'",
        case.name
    );
    // It is stopped while neither lane is between its guard and its commit, because the new owner would wait for that
    // transaction.
    wait_for("a moment before the guard", || {
        zombie.signal(Signal::STOP);
        let before = case.database.number(&writing) == 0;
        if !before {
            zombie.signal(Signal::CONT);
        }
        before.then_some(())
    });
    let heir = case.run_with(&variables);
    wait_for("the heir to carry what the zombie holds", || {
        (heir.metric("tollgate_events_total", "") > 6_000.0).then_some(())
    });
    zombie.signal(Signal::CONT);
    // Both lanes have finished their batches and know that they have lost their partitions.
    wait_for("the zombie to let go", || (zombie.log().matches("lost=true").count() == 2).then_some(()));
    // Without the guard the progress rows may have gone back, so the table shows when all records are processed.
    let valid: usize = ends.iter().map(|end| (0..*end).filter(|offset| kind(*offset) == Kind::Valid).count()).sum();
    wait_for("every row", || {
        (case.database.number("SELECT count(*) FROM seen") == i64::try_from(valid).unwrap()).then_some(())
    });
    zombie.stop();
    heir.stop();
    oracle::check(&case, &ends)
}

#[test]
fn without_the_compare_and_swap_rows_are_counted_again() {
    let _alone = one_at_a_time();
    let found = zombie("no-compare-and-swap");
    assert!(found.count("row counted again") > 0, "{found:#?}");
    let found = zombie("");
    assert_eq!(found.count("row counted again"), 0, "{found:#?}");
    assert_eq!(found.count("lost row"), 0, "{found:#?}");
    assert_eq!(found.count("lost record"), 0, "{found:#?}");
}

/// Crashes between the two commits, and swaps the transform before the batch is concluded.
fn swapped_between(unsafe_: &str) -> (oracle::Violations, f64) {
    let _alone = one_at_a_time();
    let (case, load) = loaded("between");
    // The guard is disabled in the process that would write the plan.
    let engine = case.run_with(&[("TOLLGATE_FAILPOINT", "after-step-3:5"), ("TOLLGATE_UNSAFE", unsafe_)]);
    assert!(!engine.wait().success());
    let case = case.guest(&Guest::revision(2));
    let engine = case.run();
    let (ends, _) = load.stop();
    case.settled(&ends);
    let redone = engine.metric("tollgate_redone_events_total", "");
    engine.stop();
    (oracle::check(&case, &ends), redone)
}

#[test]
fn without_the_redo_plan_row_and_output_disagree() {
    let (found, redone) = swapped_between("no-redo-plan");
    assert!(found.count(oracle::DISAGREEING) > 0, "{found:#?}");
    assert_eq!(found.others(oracle::DISAGREEING), 0, "{found:#?}");
    assert_eq!(redone, 0.0);
    let (found, redone) = swapped_between("");
    assert!(found.is_empty(), "{found:#?}");
    assert!(redone > 0.0, "the batch that was open is produced from its plan");
}

fn caught_up(case: &Case, ends: &[i64]) {
    let total: i64 = ends.iter().sum();
    wait_for("the rows to reach the end", || {
        (case.database.number("SELECT sum(next_off)::bigint FROM tollgate.progress") == total).then_some(())
    });
}
