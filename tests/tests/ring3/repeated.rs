//! Tests `delivery.processed_ids`: an event that occurs again at another offset.

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::events;
use tollgate_tests::kafka::Record;

fn event(partition: i32, id: Option<&str>) -> Record {
    let record = Record::new("k", events::encode(&json!({ "id": "e", "amount": "5" })));
    let record = Record { partition, ..record };
    id.map_or(record.clone(), |id| record.header("event-id", id))
}

fn broken(partition: i32, id: &str) -> Record {
    let record = Record::new("k", [0x0a, 0xff]);
    Record { partition, ..record }.header("event-id", id)
}

/// Returns the numbers of rows, outputs and dead letters that a drain of these records adds.
fn adds(case: &Case, records: &[Record]) -> (i64, usize, usize) {
    let now = || {
        let rows = case.database.number("SELECT sum(n)::bigint FROM seen");
        (rows, case.kafka.read(&case.output()).len(), case.kafka.read(&case.dead()).len())
    };
    let before = now();
    case.kafka.produce(&case.source(), records);
    case.drain();
    let after = now();
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

#[test]
fn an_id_has_its_effects_once() {
    let ids = json!({ "processed_ids": { "header": "event-id", "ttl": "1h" } });
    let case = Case::new("processed").set("/delivery", ids).setup();
    let long = "x".repeat(1000);
    let longer = format!("{long}y");

    let first = [
        event(0, Some("a")),
        event(0, Some("b")),
        event(0, Some("a")),
        // This one is in another partition, so another lane processes it at the same time.
        event(1, Some("b")),
        event(0, Some(&long)),
        event(0, Some(&longer)),
        event(0, Some(&long)),
    ];
    assert_eq!(adds(&case, &first), (4, 4, 0), "one of a, of b and of each long one");
    assert_eq!(adds(&case, &[event(2, Some("a")), event(2, Some("c"))]), (1, 1, 0), "a later run knows them");

    assert_eq!(adds(&case, &[event(0, None), event(0, Some(""))]), (0, 0, 2), "without an id nobody can tell");
    let letters = case.kafka.read(&case.dead());
    let reasons: Vec<_> = letters.iter().map(|letter| letter.header("tollgate.reason").unwrap()).collect();
    assert_eq!(reasons, ["processed-id-missing", "processed-id-missing"]);

    assert_eq!(
        adds(&case, &[broken(0, "d"), event(0, Some("d"))]),
        (1, 1, 1),
        "a refused event does not use its id up"
    );
    assert_eq!(adds(&case, &[broken(0, "d")]), (0, 0, 1), "and is told of, whatever its id");

    case.database.run("UPDATE tollgate.processed SET at = now() - interval '2 hours' WHERE id = 'a'");
    assert_eq!(adds(&case, &[event(3, Some("a")), event(3, Some("a"))]), (1, 1, 0), "a has been forgotten, once");
    assert_eq!(adds(&case, &[event(3, Some("a"))]), (0, 0, 0), "and is known again");
}

#[test]
fn the_key_may_be_the_id_and_old_ones_are_deleted() {
    let ids = json!({ "processed_ids": { "record": "key" }, "mode": "at_least_once" });
    let case = Case::new("keyed").set("/delivery", ids).setup();
    // There is one partition, because in this mode two lanes with the same id at the same time may both produce it.
    assert_eq!(adds(&case, &[event(0, None), event(0, None), event(0, None)]), (1, 1, 0));
    assert_eq!(adds(&case, &[event(1, None)]), (0, 0, 0));
    case.database.run(
        "INSERT INTO tollgate.processed SELECT pipeline, g::text::bytea, now() - interval '8 days'
         FROM tollgate.processed, generate_series(1, 25000) g",
    );
    let engine = case.run();
    tollgate_tests::wait_for("the old ids to be deleted", || {
        (case.database.number("SELECT count(*) FROM tollgate.processed") == 1).then_some(())
    });
    engine.stop();
}
