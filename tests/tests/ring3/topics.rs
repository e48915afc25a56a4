//! Tests topics that are not plain logs: transaction markers, open and aborted transactions, deleted records,
//! compaction.

use std::time::Duration;

use rdkafka::producer::Producer as _;
use serde_json::{Value, json};
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::events;
use tollgate_tests::kafka::Record;
use tollgate_tests::wait_for;

const CALL: Duration = Duration::from_secs(30);

fn record(partition: i32, id: &str) -> Record {
    Record { partition, ..Record::new("k", events::encode(&json!({ "id": id }))) }
}

fn ids(case: &Case) -> Vec<String> {
    case.database.texts("SELECT id FROM seen WHERE n = 1 ORDER BY id")
}

#[test]
fn a_drain_ends_where_no_record_lies_before_the_end() {
    let case = Case::new("markers").setup();
    let source = case.source();
    // Partition 0 has a marker at the end, 1 an aborted transaction, 2 records deleted up to the end, and 3 nothing at
    // all.
    let committed = case.kafka.transaction(&format!("{source}-a"), &source, &[record(0, "a"), record(0, "b")]);
    committed.commit_transaction(CALL).unwrap();
    case.kafka.produce(&source, &[record(1, "c"), record(2, "gone")]);
    let aborted = case.kafka.transaction(&format!("{source}-b"), &source, &[record(1, "never")]);
    aborted.abort_transaction(CALL).unwrap();
    case.kafka.delete_before(&source, 2, 1);
    case.drain();
    assert_eq!(ids(&case), ["a", "b", "c"]);
    // Another drain, with nothing to do.
    case.drain();
    case.kafka.produce(&source, &[record(0, "d")]);
    case.drain();
    assert_eq!(ids(&case), ["a", "b", "c", "d"]);
}

#[test]
fn a_drain_waits_for_the_transactions_that_were_open_when_it_began() {
    let case = Case::new("open").setup();
    let source = case.source();
    case.kafka.produce(&source, &[record(0, "a"), record(1, "b")]);
    let open = case.kafka.transaction(&format!("{source}-t"), &source, &[record(0, "c")]);
    let engine = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
    engine.logged("transactions are open in the topic");
    wait_for("what is readable", || (ids(&case) == ["a", "b"]).then_some(()));
    assert!(engine.running(), "a record of before the start is missing");
    open.commit_transaction(CALL).unwrap();
    assert!(engine.wait().success(), "{}", engine.log());
    assert_eq!(ids(&case), ["a", "b", "c"]);
}

#[test]
fn a_drain_takes_over_what_another_member_leaves() {
    let case = Case::new("gained").setup();
    let source = case.source();
    let other = case.run();
    other.ready();
    // The other member is blocked with all partitions assigned to it.
    let blocker = case.database.hold("LOCK TABLE seen IN ACCESS EXCLUSIVE MODE");
    let all: Vec<Record> = (0..PARTITIONS).map(|partition| record(partition, &format!("{partition}"))).collect();
    case.kafka.produce(&source, &all);
    let committed = case.kafka.transaction(&format!("{source}-t"), &source, &[record(3, "last")]);
    committed.commit_transaction(CALL).unwrap();
    let drain = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
    drain.logged("running");
    other.kill();
    drop(blocker);
    assert!(drain.wait().success(), "{}", drain.log());
    assert_eq!(ids(&case), ["0", "1", "2", "3", "last"]);
}

#[test]
fn markers_at_the_end_are_no_lag() {
    let case = Case::new("lag").setup();
    let source = case.source();
    let engine = case.run();
    engine.ready();
    let records: Vec<Record> = (0..PARTITIONS).map(|partition| record(partition, &format!("{partition}"))).collect();
    case.kafka.transaction(&format!("{source}-t"), &source, &records).commit_transaction(CALL).unwrap();
    wait_for("the rows", || (ids(&case).len() == 4).then_some(()));
    let lines = || engine.get("/metrics").1.matches("tollgate_consumer_lag_records{").count();
    wait_for("a lag of 0 on each partition", || {
        (lines() == 4 && engine.metric("tollgate_consumer_lag_records", "") == 0.0).then_some(())
    });
    let shown = || -> Value {
        let status = case.tollgate(&["status", "pipeline.yaml", "--url", engine.url(), "--output", "json"], &[]);
        assert!(status.wait().success(), "{}", status.log());
        serde_json::from_str(&status.stdout()).unwrap()
    };
    assert_eq!(shown()["result"]["lag"], json!(0), "{}", shown());
    engine.stop();
    case.kafka.produce(&source, &[record(0, "more")]);
    let status = case.tollgate(&["status", "pipeline.yaml", "--output", "json"], &[]);
    assert!(status.wait().success(), "{}", status.log());
    let shown: Value = serde_json::from_str(&status.stdout()).unwrap();
    assert_eq!(shown["result"]["lag"], json!(2), "a marker, and a record behind it: {shown}");
}

#[test]
fn an_output_without_a_key_is_a_dead_letter_where_the_topic_is_compacted() {
    let case = Case::new("compacted");
    case.kafka.create_topic(&case.output(), PARTITIONS, &[("cleanup.policy", "compact")]);
    let case = case.setup();
    let without = Record { key: None, ..record(0, "without") };
    case.kafka.produce(&case.source(), &[record(0, "a"), without, record(0, "b")]);
    case.drain();
    assert_eq!(ids(&case), ["a", "b"]);
    assert_eq!(case.kafka.read(&case.output()).len(), 2);
    let dead = case.kafka.read(&case.dead());
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("tollgate.reason"), Some("output-key-missing"));
    assert_eq!((dead[0].source(), dead[0].key.as_deref()), ((0, 1), None));
    // A field of the event becomes the key.
    let case = case.set("/output/key", json!("id"));
    case.kafka.produce(&case.source(), &[Record { key: None, ..record(0, "c") }]);
    case.drain();
    assert_eq!(case.kafka.read(&case.output()).last().unwrap().source(), (0, 3));
    assert_eq!(case.kafka.read(&case.dead()).len(), 1);
}

#[test]
fn a_compacted_dead_letter_topic_stops_the_start() {
    let case = Case::new("compacted-dead");
    case.kafka.create_topic(&case.dead(), 1, &[("cleanup.policy", "compact,delete")]);
    let case = case.setup();
    for arguments in [&["run", "pipeline.yaml"][..], &["validate", "--connect", "pipeline.yaml"]] {
        let engine = case.tollgate(arguments, &[]);
        assert_eq!(engine.wait().code(), Some(2), "{}{}", engine.log(), engine.stdout());
        let said = engine.log() + &engine.stdout();
        assert!(said.contains(&format!("topic {} (dead_letter.topic) is compacted", case.dead())), "{said}");
        assert!(said.contains("cleanup.policy to delete"), "{said}");
    }
}
