//! What a table may be like: columns from later, keys that compare in their own way.

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::events;
use tollgate_tests::kafka::Record;

fn validate(case: &Case, code: i32) -> String {
    let checked = case.tollgate(&["validate", "pipeline.yaml", "--connect"], &[]);
    assert_eq!(checked.wait().code(), Some(code), "{}", checked.log());
    checked.stdout() + &checked.log()
}

#[test]
fn a_sum_counts_from_null() {
    let case = Case::new("nulls").setup();
    assert!(!validate(&case, 0).contains("hold NULL"));
    // As in a table that its owner made, or whose rows are older than the column.
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
    // The column compares byte by byte, but the index that ON CONFLICT finds does not.
    case.database
        .run("DROP TABLE seen; CREATE TABLE seen (id text, n bigint); CREATE UNIQUE INDEX ON seen (id COLLATE either)");
    refused(&case, "column id has the nondeterministic collation either");
    case.database.run("DROP TABLE seen; CREATE TABLE seen (id double precision PRIMARY KEY, n bigint)");
    let case = case.set("/postgres/columns/id", json!({ "field": "price" }));
    refused(&case, "column id has type double precision, where values that differ are equal");
    case.database.run("DROP TABLE seen; CREATE TABLE seen (id char(3) PRIMARY KEY, n bigint)");
    let case = case.set("/postgres/columns/id", json!({ "field": "id" }));
    let record = |id: &str| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id }))) };
    case.kafka.produce(&case.source(), &[record("a"), record("a "), record("b")]);
    case.drain();
    assert_eq!(case.database.texts("SELECT concat(id, n) FROM seen ORDER BY id"), ["a  2", "b  1"]);
}
