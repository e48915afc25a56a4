//! Tests that large batches are written to PostgreSQL by COPY into a temporary table, with the same results as small
//! ones.

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::engine::Engine;
use tollgate_tests::kafka::Record;
use tollgate_tests::servers::{self, Servers};
use tollgate_tests::{events, wait_for};
use xtask::Cache;
use xtask::servers::{Postgres, PostgresOptions};

const EVENTS: usize = 15_000;
const KEYS: usize = 9_000;

/// A table with every mode of a column, types of every width, and a constraint, and a table that records who wrote.
const TABLE: &str = r#"
CREATE TYPE colour AS ENUM ('UNSPECIFIED', 'RED', 'BLUE');
CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE < 1000);
CREATE TABLE seen (
    id text PRIMARY KEY, first bigint, total bigint, n smallint, colour colour, price cents, at timestamptz,
    note varchar(8), version int, o bigint, last_seen timestamptz, CHECK (note <> 'refused'));
CREATE TABLE wrote (statement text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO wrote VALUES (current_query()); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT ON seen FOR EACH STATEMENT EXECUTE FUNCTION note();
"#;

/// A summary of all rows, except for the time of their writing.
const ROWS: &str = "SELECT concat_ws('|', id, first, total, n, colour, price, at, note, coalesce(version, 0), o)
    FROM seen WHERE last_seen IS NOT NULL ORDER BY id COLLATE \"C\"";

const STAGED: &str = "SELECT count(*) FROM wrote WHERE statement LIKE '%tollgate_stage%'";

fn records() -> Vec<Record> {
    let record = |n: usize| {
        let id = format!("key {}", n * 7919 % KEYS);
        let mut event = json!({ "id": id, "amount": n.to_string(), "colour": n % 3, "price": n as f64 / 100.0, "at": (n * 1000).to_string() });
        // One is rejected by the check, and one is too long for its column. No other event has their keys, because a
        // batch is folded before it is written.
        match n {
            7_000 => event["note"] = json!("refused"),
            7_001 => event["note"] = json!("far too long"),
            n => event["note"] = json!(format!("ü{}", n % 100_000)),
        }
        let record = Record::new("k", events::encode(&event));
        // Without the header the column is NULL.
        if n.is_multiple_of(2) { record.header("version", "3") } else { record }
    };
    (0..EVENTS).map(record).collect()
}

fn case(name: &str, batch: usize) -> Case {
    case_on(servers::shared(), name, batch)
}

fn case_on(servers: &Servers, name: &str, batch: usize) -> Case {
    let columns = json!({
        "id": { "field": "id" }, "first": { "field": "amount", "insert_only": true }, "total": { "add": "amount" },
        "n": { "add": 1 }, "colour": { "field": "colour", "as": "enum_name", "strip_prefix": "COLOUR_" },
        "price": { "field": "price", "as": "numeric(12,2)" }, "at": { "field": "at", "as": "unix_ms" },
        "note": { "field": "note" }, "version": { "header": "version", "as": "int" }, "o": { "record": "offset" },
        "last_seen": { "now": true },
    });
    let case = Case::on(servers, name)
        .set("/postgres/key", json!(["id"]))
        .set("/postgres/columns", columns)
        .set("/delivery/batch/max_events", json!(batch));
    case.database.run(TABLE);
    let case = case.setup();
    case.kafka.produce(&case.source(), &records());
    case
}

#[test]
fn a_stage_leaves_the_table_as_arrays_do() {
    let (small, large) = (case("stage-small", 1_000), case("stage-large", EVENTS));
    small.drain();
    large.drain();
    assert_eq!(small.database.number(STAGED), 0, "batches of 1,000 go by arrays");
    assert!(large.database.number(STAGED) > 0, "a batch of {EVENTS} goes by the stage");
    let (arrays, stage) = (small.database.texts(ROWS), large.database.texts(ROWS));
    assert_eq!((arrays.len(), stage.len()), (KEYS - 2, KEYS - 2));
    let differ = arrays.iter().zip(&stage).find(|(arrays, stage)| arrays != stage);
    assert_eq!(differ, None);
    for case in [&small, &large] {
        let dead = case.kafka.read(&case.dead());
        let mut reasons: Vec<_> =
            dead.iter().map(|letter| (letter.source().1, letter.header("tollgate.reason"))).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, [(7_000, Some("row-refused")), (7_001, Some("row-value"))]);
    }
}

#[test]
fn a_role_without_temporary_tables_writes_all_the_same() {
    let case = case("stage-none", EVENTS);
    let (role, name) = (format!("plain_{}", std::process::id()), &case.name);
    case.database.run(&format!(
        r#"CREATE ROLE {role} LOGIN; REVOKE TEMP ON DATABASE "{name}" FROM PUBLIC;
           GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
           GRANT USAGE ON SCHEMA tollgate TO {role};
           GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tollgate TO {role};"#
    ));
    let url = case.database.url().replace("postgres@", &format!("{role}@"));
    assert_ne!(url, case.database.url(), "the tests' servers are used by the role postgres");
    let case = case.set("/postgres/url", json!(url));
    case.drain();
    assert_eq!(case.database.number(STAGED), 0);
    let kept = i64::try_from(KEYS - 2).unwrap();
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), kept);
}

/// Counts the temporary tables for large batches in the database.
const STAGES: &str =
    r"SELECT count(*) FROM pg_class WHERE relname LIKE 'tollgate\_stage\_%' AND relpersistence = 't' AND relkind = 'r'";

/// The server is configured to vacuum against wraparound after 100,000 transactions, the minimum of that setting. A
/// stage is old at a quarter of that.
#[test]
fn a_stage_is_dropped_before_it_holds_the_database_back() {
    let settings = vec![("autovacuum_freeze_max_age".to_owned(), "100000".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(&Cache::open().unwrap(), &options).unwrap();
    let servers = Servers { postgres: postgres.url(), ..servers::shared().clone() };
    let case = case_on(&servers, "stage-old", EVENTS);
    let burn = |transactions: u32| {
        case.database.run(&format!(
            "DO $$ BEGIN FOR i IN 1..{transactions} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$"
        ));
    };
    let engine = case.run();
    let staged = || case.database.number(STAGED);
    wait_for("a batch by the stage", || (staged() > 0 && case.database.number(STAGES) > 0).then_some(()));
    // Its lane is idle meanwhile.
    burn(30_000);
    wait_for("the stage to be dropped", || (case.database.number(STAGES) == 0).then_some(()));
    assert_eq!(engine.metric("tollgate_stage_age_transactions", ""), 0.0);
    let before = staged();
    case.kafka.produce(&case.source(), &records());
    wait_for("another batch by a new stage", || (staged() > before && case.database.number(STAGES) > 0).then_some(()));
    // These are far fewer transactions than the number at which it is dropped.
    burn(100);
    wait_for("the metric of its age", || (engine.metric("tollgate_stage_age_transactions", "") > 0.0).then_some(()));
    engine.stop();

    let validate = || case.tollgate(&["validate", "pipeline.yaml", "--connect"], &[]);
    let said = |checked: &Engine| {
        assert!(checked.wait().success(), "{}", checked.log());
        checked.stdout()
    };
    assert!(!said(&validate()).contains("transactions old"));
    let _held = case.database.hold("COMMIT; CREATE TEMPORARY TABLE tollgate_stage_of_somebody (c0 int)");
    burn(60_000);
    let text = said(&validate());
    assert!(text.contains("a temporary table of a Tollgate session is 60"), "{text}");
}
