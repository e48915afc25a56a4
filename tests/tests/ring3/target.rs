//! Tests unusual tables: columns that were added later, and keys with their own comparison.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::kafka::Record;
use tollgate_tests::{events, wait_for};

fn validate(case: &Case, code: i32) -> String {
    let checked = case.tollgate(&["validate", "pipeline.yaml", "--connect"], &[]);
    assert_eq!(checked.wait().code(), Some(code), "{}", checked.log());
    checked.stdout() + &checked.log()
}

#[test]
fn a_sum_counts_from_null() {
    let case = Case::new("nulls").setup();
    assert!(!validate(&case, 0).contains("hold NULL"));
    // As in a table that its owner created, or whose rows are older than the column.
    case.database.run("ALTER TABLE seen ALTER n DROP NOT NULL; INSERT INTO seen (p, o) VALUES (0, 0), (0, 1)");
    let said = validate(&case, 0);
    assert!(said.contains("postgres.columns.n: some rows of \"seen\" hold NULL"), "{said}");
    assert!(said.contains("UPDATE \"seen\" SET \"n\" = 0 WHERE \"n\" IS NULL"), "{said}");
    let record = |id: &str| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id }))) };
    case.kafka.produce(&case.source(), &[record("a"), record("b"), record("c")]);
    case.drain();
    assert_eq!(case.database.texts("SELECT concat_ws(' ', id, n) FROM seen ORDER BY o"), ["a 1", "b 1", "c 1"]);
}

#[test]
fn a_key_whose_equal_values_differ_is_refused() {
    let case = Case::new("unequal")
        .set("/postgres/key", json!(["id"]))
        .set("/postgres/columns", json!({ "id": { "field": "id" }, "n": { "add": 1 } }));
    case.database.run(
        "CREATE COLLATION either (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE seen (id text COLLATE either PRIMARY KEY, n bigint)",
    );
    let case = case.setup();
    let refused = |case: &Case, why: &str| {
        let said = validate(case, 2);
        assert!(said.contains(why), "{why:?} is not in\n{said}");
        let start = case.run();
        assert_eq!(start.wait().code(), Some(2), "{}", start.log());
        assert!(start.log().contains(why), "{why:?} is not in\n{}", start.log());
    };
    refused(&case, "column id has the nondeterministic collation either");
    // The column compares byte by byte, but the index that ON CONFLICT uses does not.
    case.database
        .run("DROP TABLE seen; CREATE TABLE seen (id text, n bigint); CREATE UNIQUE INDEX ON seen (id COLLATE either)");
    refused(&case, "column id has the nondeterministic collation either");
    case.database.run("DROP TABLE seen; CREATE TABLE seen (id double precision PRIMARY KEY, n bigint)");
    let case = case.set("/postgres/columns/id", json!({ "field": "price" }));
    refused(&case, "column id has type double precision, which treats different values as equal");
    case.database.run("DROP TABLE seen; CREATE TABLE seen (id char(3) PRIMARY KEY, n bigint)");
    let case = case.set("/postgres/columns/id", json!({ "field": "id" }));
    let record = |id: &str| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id }))) };
    case.kafka.produce(&case.source(), &[record("a"), record("a "), record("b")]);
    case.drain();
    assert_eq!(case.database.texts("SELECT concat(id, n) FROM seen ORDER BY id"), ["a  2", "b  1"]);
}

#[test]
fn partitions_are_created_ahead_by_setup_and_while_it_runs() {
    let case = Case::new("partitions")
        .set("/postgres/key", json!(["id", "at"]))
        .set("/postgres/columns", json!({ "at": { "as": "unix_ms" }, "n": { "add": 1 } }))
        .set("/postgres/partitions", json!({ "column": "at", "every": "month" }))
        .setup();
    let count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'seen'::regclass";
    assert_eq!(case.database.number(count), 3, "this month's, and two ahead");
    let again = case.tollgate(&["setup", "pipeline.yaml"], &[]);
    assert!(again.wait().success() && again.stdout().contains("nothing is missing"), "{}", again.stdout());
    let said = validate(&case, 0);
    assert!(said.contains("become two rows, and a delete needs its value too"), "{said}");

    // Two events with one id and different times are two rows, in whichever partitions.
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let record = |at: i64| Record {
        partition: 0,
        ..Record::new("k", events::encode(&json!({ "id": "a", "at": at.to_string() })))
    };
    case.kafka.produce(&case.source(), &[record(now), record(now), record(now + 31 * 86_400_000)]);
    case.drain();
    assert_eq!(case.database.texts("SELECT concat_ws(' ', id, n) FROM seen ORDER BY at"), ["a 2", "a 1"]);

    // The last partition's name is taken, so it cannot be created. This is a warning, and the pipeline continues.
    let last =
        case.database.texts("SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'seen'::regclass");
    let last = &last[0];
    case.database.run(&format!("ALTER TABLE seen DETACH PARTITION {last}"));
    let engine = case.run();
    engine.logged("cannot create a partition ahead");
    assert!(engine.metric("tollgate_partition_failures_total", "") >= 1.0);
    assert!(engine.running());
    engine.stop();
    case.database.run(&format!("DROP TABLE {last}"));
    let engine = case.run();
    wait_for("the partition", || (case.database.number(count) == 3).then_some(()));

    // A partition in the past can only be created by the operator.
    case.kafka.produce(&case.source(), &[record(978_307_200_000)]);
    let missing = "no partition of relation \"seen\" found for row";
    let paused = wait_for(missing, || engine.status()["paused"].as_str().map(str::to_owned));
    assert!(paused.starts_with(missing) && paused.contains("create the partition"), "{paused}");
    engine.stop();

    // This table exists and is not partitioned.
    case.database.run("DROP TABLE seen; CREATE TABLE seen (id text, at timestamptz, n bigint, PRIMARY KEY (id, at))");
    let said = validate(&case, 2);
    assert!(said.contains("table seen is not partitioned by range of at"), "{said}");
}
