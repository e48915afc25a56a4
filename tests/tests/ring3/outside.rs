//! Tests causes outside of the events that reject all rows or all connections: no event becomes a dead letter.

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::engine::Engine;
use tollgate_tests::kafka::Record;
use tollgate_tests::{events, wait_for};

const TABLE: &str = "
CREATE TABLE seen (p int, o bigint, n bigint, id text, revision bigint, digest text, PRIMARY KEY (p, o)) PARTITION BY RANGE (o);
CREATE TABLE seen_0 PARTITION OF seen FOR VALUES FROM (0) TO (50)";

/// An audit table that is published and has no replica identity.
const AUDIT: &str = "
CREATE TABLE audit (n bigint);
INSERT INTO audit VALUES (0);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE audit SET n = n + 1; RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT ON seen FOR EACH STATEMENT EXECUTE FUNCTION audit();
CREATE PUBLICATION audited FOR TABLE audit";

fn produce(case: &Case, count: usize) {
    let record =
        |id: usize| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id.to_string() }))) };
    case.kafka.produce(&case.source(), &(0..count).map(record).collect::<Vec<_>>());
}

/// Each is what is missing (in SQL), the text in the reason of the pause, and what creates it.
const CAUSES: [(&str, &str, &str); 5] = [
    (
        "SELECT",
        "no partition of relation \"seen\" found for row: Partition key of the failing row contains (o) = (50): create the partition",
        "CREATE TABLE seen_1 PARTITION OF seen FOR VALUES FROM (50) TO (100000)",
    ),
    (
        "CREATE SEQUENCE tiny MAXVALUE 150; ALTER TABLE seen ADD COLUMN tiny bigint DEFAULT nextval('tiny')",
        "nextval: reached maximum value of sequence \"tiny\" (150): widen it",
        "ALTER SEQUENCE tiny MAXVALUE 1000000",
    ),
    (
        "CREATE SEQUENCE large START 2147483600; ALTER TABLE seen ADD COLUMN large int;
         ALTER TABLE seen ALTER COLUMN large SET DEFAULT nextval('large')",
        "sequence large has exceeded the range of column large of seen (integer): ALTER TABLE seen ALTER COLUMN large TYPE \
         bigint",
        "ALTER TABLE seen ALTER COLUMN large TYPE bigint",
    ),
    (
        "ALTER TABLE seen ADD COLUMN must int NOT NULL DEFAULT 0; ALTER TABLE seen ALTER COLUMN must DROP DEFAULT",
        "column must of seen is NOT NULL, and nothing is mapped to it: give it a default",
        "ALTER TABLE seen ALTER COLUMN must SET DEFAULT 0",
    ),
    (
        AUDIT,
        "cannot update table \"audit\" because it does not have a replica identity and publishes updates: ALTER TABLE",
        "ALTER TABLE audit REPLICA IDENTITY FULL",
    ),
];

#[test]
fn what_the_table_lacks_pauses_the_pipeline_until_it_is_created() {
    let case = Case::new("lacks");
    case.database.run(TABLE);
    let case = case.setup();
    let engine = case.run();
    for (round, (missing, reason, creation)) in (1..).zip(CAUSES) {
        case.database.run(missing);
        produce(&case, 100);
        let paused = wait_for(reason, || engine.status()["paused"].as_str().map(str::to_owned));
        assert!(paused.starts_with(reason) && paused.ends_with("then `tollgate resume`"), "{paused}");
        case.database.run(creation);
        let resume = case.tollgate(&["resume", "pipeline.yaml"], &[]);
        assert!(resume.wait().success(), "{}", resume.log());
        case.settled(&[100 * round]);
        assert_eq!(case.database.number("SELECT count(*) FROM seen"), 100 * round);
    }
    engine.stop();
    assert_eq!(case.kafka.read(&case.dead()).len(), 0);
}

#[test]
fn a_child_waits_for_its_parent_for_as_long_as_the_window_says() {
    let retry =
        json!({ "max_retries": 3, "initial_backoff": "50ms", "max_backoff": "500ms", "foreign_key_window": "6s" });
    let case = Case::new("parents").set("/retry_policy", retry).setup();
    case.database
        .run("CREATE TABLE parent (id text PRIMARY KEY); ALTER TABLE seen ADD FOREIGN KEY (id) REFERENCES parent");
    produce(&case, 2);
    let engine = case.run();
    wait_for("a first refusal", || (engine.metric("tollgate_retries_total", "") > 0.0).then_some(()));
    case.database.run("INSERT INTO parent VALUES ('0')");
    case.settled(&[2]);
    engine.stop();
    assert_eq!(case.database.texts("SELECT id FROM seen"), ["0"]);
    let dead = case.kafka.read(&case.dead());
    let [letter] = &dead[..] else { panic!("{} dead letters", dead.len()) };
    let message = letter.header("tollgate.message").unwrap();
    assert!(message.contains("23503") && message.ends_with("rejected 4 times with its batch, then alone"), "{message}");
}

/// A login that is revoked while the process runs is treated like an outage.
#[test]
fn an_account_that_is_locked_for_a_while_is_an_outage() {
    let case = Case::new("locked").setup();
    let role = format!("locked_{}", std::process::id());
    case.database.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER"));
    let url = case.database.url().replace("postgres@", &format!("{role}@"));
    let case = case.set("/postgres/url", json!(url));
    let engine = case.run();
    engine.ready();
    produce(&case, 10);
    case.settled(&[10]);
    case.database.run(&format!(
        "ALTER ROLE {role} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    ));
    produce(&case, 10);
    let waits = |engine: &Engine| engine.get("/readyz").1.contains("is not permitted to log in");
    wait_for("/readyz to say why", || waits(&engine).then_some(()));
    let breaker = || engine.metric("tollgate_breaker_state", "sink=\"postgres\"");
    wait_for("the breaker to open", || (breaker() > 0.0).then_some(()));
    assert!(engine.running(), "{}", engine.log());
    // At a start it is an error.
    let start = case.run();
    assert_eq!(start.wait().code(), Some(2), "{}", start.log());
    case.database.run(&format!("ALTER ROLE {role} LOGIN"));
    case.settled(&[20]);
    engine.stop();
}
