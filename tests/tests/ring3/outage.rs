//! Servers that go away under load, for longer than a member may go without polling.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::engine::Engine;
use tollgate_tests::guests::Guest;
use tollgate_tests::load::Load;
use tollgate_tests::servers::{self, Servers};
use tollgate_tests::{oracle, wait_for};
use xtask::servers::{KafkaOptions, PostgresOptions};

/// Shorter than each outage below.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Resident memory, MB.
fn memory(engine: &Engine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", engine.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Lives through an outage: healthy, not ready, and says why.
fn endure(engine: &Engine, what: &str) -> u64 {
    let began = Instant::now();
    let (mut unready, mut most) = (String::new(), 0);
    wait_for("the outage to last", || {
        assert!(engine.running(), "the engine ended");
        assert_eq!(engine.get("/healthz").0, 200, "a restart would not help");
        let (status, reason) = engine.get("/readyz");
        if status == 503 {
            unready = reason;
        }
        most = most.max(memory(engine));
        (began.elapsed() > MAX_POLL_INTERVAL * 2).then_some(())
    });
    assert!(unready.to_lowercase().contains(what), "/readyz did not name {what}: {unready:?}");
    most
}

#[test]
fn an_outage_longer_than_max_poll_interval_costs_nothing_but_time() {
    let (mut kafka, mut postgres) = servers::own(&KafkaOptions::default(), &PostgresOptions::default());
    let servers = Servers { brokers: kafka.brokers(), postgres: postgres.url() };
    let case = Case::on(&servers, "outage").guest(&Guest::revision(1));
    let case = case.set("/source/max_poll_interval", json!(format!("{}s", MAX_POLL_INTERVAL.as_secs())));
    let case = case.set("/backpressure", json!({ "lag_threshold": 20_000 })).setup();
    let engine = case.run();
    engine.ready();
    let load = Load::start(&servers.brokers, &case.source(), PARTITIONS, 10_000);
    let passed = || engine.metric("tollgate_events_total", "");
    wait_for("a steady load", || (passed() > 30_000.0).then_some(()));
    let before = memory(&engine);

    postgres.stop();
    let during = endure(&engine, "postgres");
    postgres.restart().unwrap();
    let then = passed();
    wait_for("the lanes to go on", || (passed() > then + 10_000.0).then_some(()));
    engine.ready();
    assert_eq!(engine.log().matches("partition taken over").count(), 4, "it kept its partitions throughout");

    kafka.stop();
    endure(&engine, "kafka");
    kafka.restart().unwrap();
    let then = passed();
    wait_for("the lanes to go on", || (passed() > then + 10_000.0).then_some(()));
    engine.ready();

    let (ends, _) = load.stop();
    case.settled(&ends);
    let paused = engine.metric("tollgate_backpressure_pauses_total", "");
    assert!(paused > 0.0, "the backlog was bounded by pausing");
    assert!(!engine.log().contains("put out of the group"), "it was evicted");
    engine.stop();
    let found = oracle::check(&case, &ends);
    assert!(found.is_empty(), "{found:#?}");
    println!(
        "outage: {} events; memory {before} MB before, {during} MB at most without PostgreSQL",
        ends.iter().sum::<i64>()
    );
    assert!(during < before + 100, "memory grew from {before} to {during} MB");
}

#[test]
fn without_transactions_no_slot_is_taken_not_even_after_an_outage() {
    let case = Case::new("slotless").set("/delivery/mode", json!("at_least_once")).setup();
    let engine = case.run();
    engine.ready();
    let sessions = |role: &str| {
        let name = format!("tollgate {} {role}", case.name);
        // PostgreSQL keeps 63 bytes of a session's name.
        format!("FROM pg_stat_activity WHERE application_name = left('{name}', 63)")
    };
    let keeper = || case.database.number(&format!("SELECT max(pid)::bigint {}", sessions("keeper")));
    let first = wait_for("the keeper's session", || Some(keeper()).filter(|pid| *pid > 0));
    case.database.run(&format!("SELECT pg_terminate_backend(pid) {}", sessions("keeper")));
    let session = || keeper() + case.database.number(&format!("SELECT max(pid)::bigint {}", sessions("slot")));
    wait_for("a new session of the keeper", || Some(session()).filter(|pid| ![0, first].contains(pid)));
    engine.ready();
    assert_eq!(case.database.number("SELECT count(*) FROM tollgate.slot"), 0, "the mode has no transactional ids");
    engine.stop();
}
