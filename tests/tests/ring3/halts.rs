//! Halts: each of docs/halts.md ends the process with exit code 1 and its own message, whatever order its threads end in.

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::events;
use tollgate_tests::kafka::Record;
use tollgate_tests::wait_for;

/// A pipeline whose partition 0 is through up to offset 4, in four batches, and then something is done to it.
fn halts(name: &str, spoil: impl Fn(&Case), message: &str) {
    let case = Case::new(name).set("/delivery/batch", json!({ "max_events": 1 })).setup();
    let record =
        |id: usize| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id.to_string() }))) };
    case.kafka.produce(&case.source(), &(0..4).map(record).collect::<Vec<_>>());
    case.drain();
    // The member has left; the broker notices in its own time.
    wait_for("an empty group", || {
        (case.kafka.committed(&case.name, &case.source(), 1).ok()? == [Some(4)]).then_some(())
    });
    spoil(&case);
    // What ends first is a matter of chance.
    for _ in 0..3 {
        let engine = case.run();
        let status = engine.wait();
        assert_eq!(status.code(), Some(1), "{}", engine.log());
        assert!(engine.log().contains(message), "{message:?} is not in\n{}", engine.log());
    }
}

#[test]
fn the_progress_row_is_gone() {
    let spoil = |case: &Case| case.database.run("DELETE FROM tollgate.progress");
    halts("no-row", spoil, "there is no progress row");
}

#[test]
fn the_groups_offset_is_gone() {
    halts("no-offset", |case| case.kafka.delete_group(&case.name), "has no committed offset");
}

#[test]
fn somebody_moved_the_groups_offset() {
    halts("moved", |case| case.kafka.commit(&case.name, &case.source(), 0, 1), "somebody moved it");
}

#[test]
fn records_were_deleted_before_they_were_read() {
    let spoil = |case: &Case| {
        let record = Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": "late" }))) };
        case.kafka.produce(&case.source(), &vec![record; 4]);
        case.kafka.delete_before(&case.source(), 0, 6);
    };
    halts(
        "deleted",
        spoil,
        "partition 0 goes on at 4, the topic has 6 to 8; records were deleted before they were read",
    );
}

/// Another member may have had the partition between the two reads of a takeover; then they do not belong together.
#[test]
fn a_group_that_moves_during_a_takeover_is_looked_at_again() {
    let case = Case::new("look-twice").set("/delivery/batch", json!({ "max_events": 1 })).setup();
    let record =
        |id: usize| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id.to_string() }))) };
    case.kafka.produce(&case.source(), &(0..4).map(record).collect::<Vec<_>>());
    case.drain();
    case.kafka.produce(&case.source(), &(4..10).map(record).collect::<Vec<_>>());
    // Two batches of the other member, which is between them and the COMMIT of the second.
    let other = case.database.hold("UPDATE tollgate.progress SET prev_off = 6, next_off = 8 WHERE partition = 0");
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
    case.kafka.commit_as_stranger(&case.name, &case.source(), 0, 8);
    other.commit();
    case.settled(&[10]);
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), 6, "offsets 0 to 3, 8 and 9");
    engine.stop();
}
