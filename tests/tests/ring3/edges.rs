//! Tests signals, health and status as an operator's tools see them.

use serde_json::{Value, json};
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::events;
use tollgate_tests::guests::{self, Guest};
use tollgate_tests::kafka::Record;
use tollgate_tests::wait_for;
use xtask::process::Signal;

fn events(count: usize) -> Vec<Record> {
    (0..count)
        .map(|n| {
            let record = Record::new("k", events::encode(&json!({ "id": format!("{n}") })));
            Record { partition: i32::try_from(n).unwrap() % PARTITIONS, ..record }
        })
        .collect()
}

#[test]
fn sigterm_drains_and_leaves_the_group() {
    let case = Case::new("sigterm").guest(&Guest::revision(1)).setup();
    case.kafka.produce(&case.source(), &events(40_000));
    let engine = case.run();
    wait_for("the first commit", || (engine.metric("tollgate_events_total", "") > 0.0).then_some(()));
    engine.stop();
    // The batches that it had begun are complete: rows and outputs are at the same offsets.
    let rows = case.database.rows("SELECT next_off FROM tollgate.progress ORDER BY partition");
    let rows: Vec<Option<i64>> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
    assert_eq!(rows, case.kafka.committed(&case.name, &case.source(), PARTITIONS).unwrap());
    // The engine has left the group, so a successor gets all partitions without waiting for the session timeout.
    let case = case.set("/source/session_timeout", json!("60s"));
    let began = std::time::Instant::now();
    let next = case.run();
    next.ready();
    case.settled(&[10_000; 4]);
    assert!(began.elapsed() < std::time::Duration::from_secs(40), "the successor waited {:?}", began.elapsed());
    next.stop();
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE n = 1"), 40_000);
    assert_eq!(case.kafka.read(&case.output()).len(), 40_000);
}

fn waits_for_a_lock(case: &Case) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    wait_for("the engine to wait for the lock", || (case.database.number(waiting) > 0).then_some(()));
}

/// A stop waits neither for librdkafka's reply to an assignment nor for whoever has locked the progress rows.
#[test]
fn a_stop_during_a_takeover_waits_for_nobody() {
    // A statement waits for a lock for a third of this timeout; `shutdown` is 30 s.
    let case = Case::new("untaken").set("/delivery/transaction_timeout", json!("60s")).setup();
    // The start only reads the table; a takeover writes it.
    let blocker = case.database.hold("LOCK TABLE tollgate.progress IN SHARE MODE");
    let engine = case.run();
    waits_for_a_lock(&case);
    let (status, why) = engine.get("/readyz");
    assert!(status == 503 && why.contains("are being taken over"), "{status} {why}");
    let began = std::time::Instant::now();
    engine.stop();
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "left after {:?}", began.elapsed());
    drop(blocker);
}

/// The first member cannot release its partitions, because its batch waits for a lock. Until then the second member has
/// none, but it does not count as a spare member.
#[test]
fn a_member_that_waits_for_its_share_is_not_ready() {
    let case = Case::new("wanting").set("/delivery/transaction_timeout", json!("60s")).setup();
    let first = case.run();
    first.ready();
    let blocker = case.database.hold("LOCK TABLE tollgate.progress IN SHARE MODE");
    case.kafka.produce(&case.source(), &events(40));
    waits_for_a_lock(&case);
    let second = case.run();
    let reason = "the group has not assigned a partition to this member yet";
    wait_for("the second member to have joined", || second.get("/readyz").1.contains(reason).then_some(()));
    // The keeper asks the group each second.
    case.kafka.members(&case.name, 2);
    assert_eq!(second.get("/readyz").0, 503);
    drop(blocker);
    for member in [&first, &second] {
        wait_for("two partitions each", || (member.metric("tollgate_partitions_assigned", "") == 2.0).then_some(()));
        member.ready();
    }
    case.settled(&[10; 4]);
    first.stop();
    second.stop();
}

/// The first member is paused, so the group cannot answer the second one, which is stopped meanwhile. Its session would
/// keep its partitions assigned to it for 60 s.
#[test]
fn a_stop_during_a_rebalance_leaves_the_group() {
    let case = Case::new("leaving").set("/source/session_timeout", json!("6s")).setup();
    let first = case.run();
    first.ready();
    let mut other = case.again();
    other.change("/source/session_timeout", json!("60s"));
    first.signal(Signal::STOP);
    let second = other.run();
    wait_for("the group to wait for its members", || {
        (case.kafka.group(&case.name)?.0 == "PreparingRebalance").then_some(())
    });
    second.stop();
    let began = std::time::Instant::now();
    first.signal(Signal::CONT);
    case.kafka.produce(&case.source(), &events(40));
    case.settled(&[10; 4]);
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "its share was free after {:?}", began.elapsed());
    first.stop();
}

#[test]
fn a_second_signal_stops_at_once() {
    let case = Case::new("twice").setup();
    let engine = case.run();
    engine.ready();
    // This drain cannot end, because the progress rows are locked.
    case.kafka.produce(&case.source(), &events(10));
    case.settled(&[3, 3, 2, 2]);
    let blocker = case.database.hold("LOCK TABLE tollgate.progress IN ACCESS EXCLUSIVE MODE");
    case.kafka.produce(&case.source(), &events(10));
    waits_for_a_lock(&case);
    engine.signal(Signal::TERM);
    engine.logged("a second signal stops at once");
    assert!(engine.running());
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait().code(), Some(130));
    drop(blocker);
    case.drain();
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE n = 1"), 20);
}

#[test]
fn sighup_swaps_and_status_shows_what_runs() {
    let case = Case::new("sighup").guest(&Guest::revision(1)).setup();
    let engine = case.run();
    engine.ready();
    assert_eq!(engine.get("/healthz"), (200, "ok\n".to_owned()));
    let before = engine.status();
    assert_eq!(before["pipeline"], json!(case.name));
    assert_eq!(before["revision"]["transforms"][0]["version"], json!("0.1.1"));
    case.put("guest.wasm", &guests::component(&Guest::revision(2)));
    assert!(Signal::HUP.send(engine.id()));
    wait_for("the swap", || (engine.status()["revision"]["number"] == json!(1)).then_some(()));
    let after = engine.status();
    assert_eq!(after["revision"]["transforms"][0]["version"], json!("0.1.2"));
    assert_ne!(after["revision"]["digest"], before["revision"]["digest"]);
    let status = case.tollgate(&["status", "pipeline.yaml", "--url", engine.url(), "--output", "json"], &[]);
    assert!(status.wait().success(), "{}", status.log());
    let shown: Value = serde_json::from_str(&status.stdout()).unwrap();
    let digest = after["revision"]["digest"].as_str().unwrap();
    assert!(shown["result"].to_string().contains(digest), "{shown}");
    engine.stop();
}

#[test]
fn a_spare_member_is_ready_too() {
    let case = Case::new("spare").setup();
    let members: Vec<_> = (0..=PARTITIONS).map(|_| case.run()).collect();
    members.iter().for_each(tollgate_tests::engine::Engine::ready);
    wait_for("each but one to have a partition", || {
        let shares: Vec<f64> = members.iter().map(|m| m.metric("tollgate_partitions_assigned", "")).collect();
        (shares.iter().filter(|share| **share == 1.0).count() == members.len() - 1).then_some(())
    });
    members.iter().for_each(tollgate_tests::engine::Engine::ready);
    case.kafka.produce(&case.source(), &events(40));
    case.settled(&[10; 4]);
    members.into_iter().for_each(tollgate_tests::engine::Engine::stop);
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE n = 1"), 40);
}
