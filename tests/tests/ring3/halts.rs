//! Tests the halts of docs/halts.md: each stops one partition, is stored, and ends by `tollgate resume --partition`.
//! The other partitions continue.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::engine::Engine;
use tollgate_tests::events;
use tollgate_tests::kafka::Record;
use tollgate_tests::wait_for;

fn record(partition: i32, id: usize) -> Record {
    Record { partition, ..Record::new("k", events::encode(&json!({ "id": id.to_string() }))) }
}

/// Processes four records of partition 0 in four batches, and then applies `spoil`.
fn spoiled(name: &str, spoil: impl Fn(&Case)) -> Case {
    let case = Case::new(name).set("/delivery/batch", json!({ "max_events": 1 })).setup();
    case.kafka.produce(&case.source(), &(0..4).map(|id| record(0, id)).collect::<Vec<_>>());
    case.drain();
    // The member has left; the broker notices it later.
    wait_for("an empty group", || {
        (case.kafka.committed(&case.name, &case.source(), 1).ok()? == [Some(4)]).then_some(())
    });
    spoil(&case);
    case
}

fn halted(engine: &Engine) -> Value {
    wait_for("a halted partition", || {
        assert!(engine.running(), "{}", engine.log());
        let halted = engine.status()["halted"].clone();
        (halted.as_array()?.len() == 1).then(|| halted[0].clone())
    })
}

fn epoch(case: &Case) -> i64 {
    case.database.number("SELECT COALESCE(max(epoch), 0) FROM tollgate.progress WHERE partition = 0")
}

/// Asserts that the partition is halted with this code, that the others are read, that a drain fails, and that nothing
/// moves.
fn halts(case: &Case, code: &str, message: &str) {
    let engine = case.run();
    let halt = halted(&engine);
    assert_eq!((&halt["partition"], &halt["code"]), (&json!(0), &json!(code)), "{halt}");
    assert!(halt["message"].as_str().unwrap().contains(message), "{halt}");
    case.kafka.produce(&case.source(), &[record(1, 10)]);
    wait_for("the other partition", || {
        (case.database.number("SELECT count(*) FROM seen WHERE p = 1") == 1).then_some(())
    });
    wait_for("the metric", || (engine.metric("tollgate_partition_halted", code) == 1.0).then_some(()));
    let (ready, why) = engine.get("/readyz");
    assert_eq!(ready, 503, "{why}");
    assert!(why.contains("partition 0 is halted at offset") && why.contains(code), "{why}");
    // The consumer closes at once, although the group has assigned it a partition that it does not fetch.
    let began = Instant::now();
    engine.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "it left after {:?}", began.elapsed());
    // The next owner reads the stored halt and changes nothing.
    let before = epoch(case);
    let drain = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
    assert_eq!(drain.wait().code(), Some(1), "{}", drain.log());
    for part in [message, "partition 0 is halted at offset", "tollgate resume --partition 0"] {
        assert!(drain.log().contains(part), "{part:?} is not in\n{}", drain.log());
    }
    assert_eq!(epoch(case), before, "a halted partition is not taken over");
}

/// Returns the token that a member would write for these offsets of partition 0.
fn token(case: &Case, number: &str, offsets: &str) -> String {
    let fields = format!("'tollgate/1 number=' || {number} || ' epoch=1 offsets={offsets} cluster=' || cluster_id");
    let sql = format!("SELECT {fields} || ' pipeline=' || pipeline FROM tollgate.progress WHERE partition = 0");
    case.database.texts(&sql).remove(0)
}

fn resume(case: &Case) {
    let resume = case.tollgate(&["resume", "pipeline.yaml", "--partition", "0", "--output", "json"], &[]);
    assert!(resume.wait().success(), "{}", resume.log());
    let answer: Value = serde_json::from_str(&resume.stdout()).unwrap();
    assert_eq!(answer["result"]["resumed"][0]["partition"], json!(0), "{answer}");
}

#[test]
fn the_progress_row_is_gone() {
    let case = spoiled("no-row", |case| case.database.run("DELETE FROM tollgate.progress WHERE partition = 0"));
    halts(&case, "progress-missing", "there is no progress row");
}

#[test]
fn the_groups_offset_is_gone() {
    let case = spoiled("no-offset", |case| case.kafka.delete_group(&case.name));
    halts(&case, "group-offset-missing", "has no committed offset");
}

#[test]
fn somebody_moved_the_groups_offset() {
    let case = spoiled("moved", |case| case.kafka.commit(&case.name, &case.source(), 0, 1));
    halts(&case, "group-offset-foreign", "was not committed by Tollgate");
    let engine = case.run();
    halted(&engine);
    let shown = case.tollgate(&["status", "pipeline.yaml"], &[]);
    assert!(shown.wait().success(), "{}", shown.log());
    assert!(shown.stdout().contains("tollgate resume pipeline.yaml --partition 0"), "{}", shown.stdout());
    // A resume before the cause is fixed halts again; for this process it is the first halt.
    resume(&case);
    engine.logged("partition 0 is halted: ");
    wait_for("the halt in PostgreSQL", || {
        (case.database.number("SELECT count(*) FROM tollgate.halt") == 1).then_some(())
    });
    case.kafka.commit_as_stranger(&case.name, &case.source(), 0, 4, &token(&case, "commit_no", "4..4"));
    resume(&case);
    case.kafka.produce(&case.source(), &[record(0, 4)]);
    case.settled(&[5]);
    engine.ready();
    assert_eq!(engine.metric("tollgate_partition_halted", ""), 0.0);
    assert_eq!(case.database.number("SELECT sum(n)::bigint FROM seen WHERE p = 0"), 5);
    engine.stop();
    case.drain();
}

#[test]
fn records_were_deleted_before_they_were_read() {
    let spoil = |case: &Case| {
        case.kafka.produce(&case.source(), &vec![record(0, 4); 4]);
        case.kafka.delete_before(&case.source(), 0, 6);
    };
    let case = spoiled("deleted", spoil);
    halts(
        &case,
        "records-missing",
        "partition 0 continues at 4, the topic has 6 to 8; records were deleted before they were read",
    );
    wait_for("an empty group", || {
        let adopt = case.tollgate(&["offsets", "adopt", "pipeline.yaml", "--partition", "0", "--yes"], &[]);
        adopt.wait().success().then_some(())
    });
    assert_eq!(case.database.number("SELECT count(*) FROM tollgate.halt"), 0, "the halt ends with its cause");
    case.drain();
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE p = 0"), 6, "offsets 0 to 3, 6 and 7");
}

#[test]
fn a_damaged_batch_halts_its_partition_and_nothing_of_it_gets_through() {
    let case = Case::new("damaged").set("/source/stall_after", json!("1s")).setup();
    // Each record is a separate batch in the log.
    let ids = ["good-0", "good-1", "damaged-2", "good-3"];
    let named = |id: &str| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id }))) };
    case.kafka.trickle(&case.source(), &ids.map(named));
    case.kafka.damage(&case.source(), 0, b"damaged-2");
    halts(&case, "records-unreadable", "from offset 2 on cannot be read");
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE p = 0 ORDER BY id"), ["good-0", "good-1"]);
    // Skips the damaged batch.
    wait_for("an empty group", || {
        case.kafka.commit(&case.name, &case.source(), 0, 3);
        let adopt = case.tollgate(&["offsets", "adopt", "pipeline.yaml", "--partition", "0", "--yes"], &[]);
        adopt.wait().success().then_some(())
    });
    case.drain();
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE p = 0 ORDER BY id"), ["good-0", "good-1", "good-3"]);
}

#[test]
fn a_partition_that_the_output_topic_lacks_is_halted_until_it_is_added() {
    let case = Case::new("lacking").set("/output/partition", json!("same")).setup_with(1);
    let case = case.set("/retry_policy/max_retries", json!(2));
    // These settings determine how soon new partitions are seen, and how soon a topic counts as deleted.
    let kafka = json!({ "topic.metadata.refresh.interval.ms": "200", "topic.metadata.propagation.max.ms": "1000" });
    let case = case.set("/source/kafka", kafka);
    case.kafka.produce(&case.source(), &[record(0, 0)]);
    let engine = case.run();
    case.settled(&[1]);
    case.kafka.create_partitions(&case.source(), 2);
    case.kafka.produce(&case.source(), &[record(0, 1), record(1, 2)]);
    let halt = halted(&engine);
    assert_eq!((&halt["partition"], &halt["code"]), (&json!(1), &json!("output-partition-missing")), "{halt}");
    case.settled(&[2]);
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE p = 1"), 0);
    // The process shows a halt at once and stores it within a second. Only a stored halt can be resumed.
    wait_for("the stored halt", || (case.database.number("SELECT count(*) FROM tollgate.halt") == 1).then_some(()));
    // Does what the message advises.
    case.kafka.create_partitions(&case.output(), 2);
    let resume = case.tollgate(&["resume", "pipeline.yaml", "--partition", "1"], &[]);
    assert!(resume.wait().success(), "{}", resume.log());
    case.settled(&[2, 1]);
    // A deleted output topic affects every partition.
    case.kafka.delete_topic(&case.output());
    case.kafka.produce(&case.source(), &[record(0, 3)]);
    assert_eq!(engine.wait().code(), Some(1), "{}", engine.log());
    assert!(engine.log().contains(&case.output()) && engine.log().contains("no longer exists"), "{}", engine.log());
}

/// Another member may have owned the partition between the two reads of a takeover, and then the results do not belong
/// together.
#[test]
fn a_group_that_moves_during_a_takeover_is_looked_at_again() {
    let case = Case::new("look-twice").set("/delivery/batch", json!({ "max_events": 1 })).setup();
    case.kafka.produce(&case.source(), &(0..4).map(|id| record(0, id)).collect::<Vec<_>>());
    case.drain();
    case.kafka.produce(&case.source(), &(4..10).map(|id| record(0, id)).collect::<Vec<_>>());
    // The other member commits two batches, and the second one is between its two commits.
    let change =
        "UPDATE tollgate.progress SET prev_off = 6, next_off = 8, commit_no = commit_no + 2 WHERE partition = 0";
    let other = case.database.hold(change);
    let engine = case.run();
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = left('tollgate {} takeover', 63)
         AND wait_event_type = 'Lock'",
        case.name
    );
    wait_for("the takeover to have read K, and to wait for the row", || {
        assert!(engine.running(), "{}", engine.log());
        (case.database.number(&waiting) == 1).then_some(())
    });
    case.kafka.commit_as_stranger(&case.name, &case.source(), 0, 8, &token(&case, "commit_no + 2", "6..8"));
    other.commit();
    case.settled(&[10]);
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), 6, "offsets 0 to 3, 8 and 9");
    engine.stop();
}
