//! The tests of the guarantee notice when a guard is missing: each is taken away, and the oracle must find the damage.

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::guests::Guest;
use tollgate_tests::load::Load;
use tollgate_tests::{oracle, wait_for};
use xtask::process::Signal;

use super::crashes::loaded;
use super::one_at_a_time;

/// An end between the produce and the decision: with a transaction nobody ever sees the first attempt's records.
#[test]
fn without_the_transaction_records_are_produced_again() {
    let _alone = one_at_a_time();
    let (case, load) = loaded("no-transaction");
    let unsafe_ = ("TOLLGATE_UNSAFE", "no-transaction");
    let engine = case.run_with(&[unsafe_, ("TOLLGATE_FAILPOINT", "after-step-2:5")]);
    assert!(!engine.wait().success());
    let engine = case.run_with(&[unsafe_]);
    let (ends, _) = load.stop();
    // The group's offset is only a hint here: the rows say how far it is.
    caught_up(&case, &ends);
    engine.stop();
    let found = oracle::check(&case, &ends);
    assert!(found.count("record produced again") > 0, "{found:#?}");
    assert_eq!(found.count("row counted again"), 0, "the rows have a guard of their own: {found:#?}");
}

/// A member that stands still until another has its partitions, and then goes on with the batches in its hands. In this
/// mode no Kafka transaction fences it: the compare-and-swap of the progress row alone keeps its rows out.
fn zombie(unsafe_: &str) -> oracle::Violations {
    let case = Case::new("zombie").guest(&Guest::revision(1));
    let case = case.set("/delivery", json!({ "mode": "at_least_once", "batch": { "max_events": 2000 } })).setup();
    // A backlog: it is stopped in the middle of a batch, with others waiting.
    let load = Load::start(case.pipeline["source"]["brokers"].as_str().unwrap(), &case.source(), PARTITIONS, 100_000);
    wait_for("a backlog", || (load.sent() > 300_000).then_some(()));
    let (ends, _) = load.stop();
    let variables = [("TOLLGATE_UNSAFE", unsafe_)];
    let zombie = case.run_with(&variables);
    wait_for("its first commits", || (zombie.metric("tollgate_events_total", "") > 20_000.0).then_some(()));
    zombie.signal(Signal::STOP);
    let heir = case.run_with(&variables);
    // Either the heir goes on, or it waits for a row that the zombie's open transaction holds.
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'tollgate {} takeover'",
        case.name
    );
    wait_for("the heir to take over", || {
        let goes_on = heir.metric("tollgate_events_total", "") > 10_000.0;
        (goes_on || case.database.number(&waiting) > 0).then_some(())
    });
    zombie.signal(Signal::CONT);
    caught_up(&case, &ends);
    zombie.stop();
    heir.stop();
    oracle::check(&case, &ends)
}

#[test]
fn without_the_compare_and_swap_rows_are_counted_again() {
    let _alone = one_at_a_time();
    // Where the zombie stood when it was stopped is chance: between two batches it may hear first that it is out. One in
    // two or so goes on into its next batch, which is what the guard is for.
    let noticed = (0..6).any(|_| zombie("no-compare-and-swap").count("row counted again") > 0);
    assert!(noticed, "six zombies without a guard, and no row was counted again");
    let found = zombie("");
    assert_eq!(found.count("row counted again"), 0, "{found:#?}");
    assert_eq!(found.count("lost row"), 0, "{found:#?}");
    assert_eq!(found.count("lost record"), 0, "{found:#?}");
}

fn caught_up(case: &Case, ends: &[i64]) {
    let total: i64 = ends.iter().sum();
    wait_for("the rows to reach the end", || {
        (case.database.number("SELECT sum(next_off)::bigint FROM tollgate.progress") == total).then_some(())
    });
}
