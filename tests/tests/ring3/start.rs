//! Tests the errors at a start: exit codes, messages, deadlines.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::guests::{self, Guest};
use tollgate_tests::kafka::Record;
use tollgate_tests::servers::{self, Servers};
use tollgate_tests::{events, wait_for};
use xtask::Cache;
use xtask::servers::{Kafka, KafkaOptions};

/// Runs a command that must fail, and returns its message.
fn fails(case: &Case, arguments: &[&str], code: i32) -> String {
    let engine = case.tollgate(arguments, &[]);
    let status = engine.wait();
    let log = engine.log();
    assert_eq!(status.code(), Some(code), "tollgate {}: {log}", arguments.join(" "));
    log
}

fn says(log: &str, parts: &[&str]) {
    for part in parts {
        assert!(log.contains(part), "{part:?} is not in what it said:\n{log}");
    }
}

#[test]
fn a_start_names_all_that_is_missing_at_once() {
    let case = Case::new("nothing").set("/admin/listen", json!("off"));
    let log = fails(&case, &["run", "pipeline.yaml"], 2);
    for topic in [case.source(), case.output(), case.dead()] {
        says(&log, &[&format!("topic {topic}")]);
    }
    says(&log, &["Tollgate's own tables are missing", "table \"seen\" does not exist", "tollgate setup"]);
}

#[test]
fn setup_brings_the_tables_of_an_older_release_up_to_date() {
    let case = Case::new("behind").set("/admin/listen", json!("off")).setup();
    case.database.run("DROP TABLE tollgate.processed; DELETE FROM tollgate.migration WHERE version = 2");
    let log = fails(&case, &["run", "pipeline.yaml"], 2);
    says(&log, &["Tollgate's own tables are missing", "tollgate setup"]);
    let planned = case.tollgate(&["setup", "pipeline.yaml", "--dry-run", "--sql"], &[]);
    assert!(planned.wait().success(), "{}", planned.log());
    says(&planned.stdout(), &["CREATE TABLE tollgate.processed"]);
    assert!(!planned.stdout().contains("CREATE TABLE tollgate.progress"), "{}", planned.stdout());
    let setup = case.tollgate(&["setup", "pipeline.yaml"], &[]);
    assert!(setup.wait().success(), "{}", setup.log());
    case.drain();
    let again = case.tollgate(&["setup", "pipeline.yaml"], &[]);
    assert!(again.wait().success(), "{}", again.log());
    says(&again.stdout(), &["nothing is missing"]);
}

#[test]
fn setup_prints_before_it_creates() {
    let case = Case::new("dry-run");
    case.write();
    let printed = |arguments: &[&str]| {
        let setup = case.tollgate(&[&["setup", "pipeline.yaml", "--dry-run"], arguments].concat(), &[]);
        assert!(setup.wait().success());
        setup.stdout()
    };
    says(&printed(&["--sql"]), &["CREATE TABLE \"seen\"", &case.source(), "tollgate.progress"]);
    let lines = printed(&[]);
    says(&lines, &[&format!("topic {}: missing, 4 partitions", case.source()), "table \"seen\": missing"]);
    assert_eq!(lines.lines().count(), 5, "three topics, the table and Tollgate's own: {lines}");
    assert_eq!(case.database.number("SELECT count(*) FROM pg_tables WHERE tablename = 'seen'"), 0);
    let case = case.setup();
    let again = case.tollgate(&["setup", "pipeline.yaml", "--output", "json"], &[]);
    assert!(again.wait().success());
    let answer: Value = serde_json::from_str(&again.stdout()).unwrap();
    assert_eq!((&answer["ok"], &answer["summary"]), (&json!(true), &json!("nothing is missing")));
}

#[test]
fn a_table_that_does_not_fit_is_named_column_by_column() {
    let case = Case::new("misfit").setup();
    case.database.run(
        "ALTER TABLE seen ALTER COLUMN revision TYPE date USING now()::date; ALTER TABLE seen DROP COLUMN id;
         ALTER TABLE seen ADD COLUMN tenant text NOT NULL; ALTER TABLE seen DROP CONSTRAINT seen_pkey",
    );
    let log = fails(&case, &["run", "pipeline.yaml"], 2);
    let found =
        ["column revision has type date", "needs smallint, integer, bigint or numeric", "column id does not exist"];
    says(&log, &found);
    says(&log, &["column tenant", "no primary key or unique index"]);
}

#[test]
fn a_missing_dead_letter_topic_stops_the_start() {
    let case = Case::new("no-dead").setup();
    let missing = format!("{}.other", case.name);
    let case = case.set("/dead_letter/topic", json!(missing));
    says(
        &fails(&case, &["run", "pipeline.yaml"], 2),
        &[&format!("topic {missing} (dead_letter.topic) does not exist")],
    );
}

#[test]
fn a_config_with_typos_is_told_all_of_them() {
    let case = Case::new("typos");
    case.put(
        "pipeline.yaml",
        b"pipeline: typos\nsource: { brokers: localhost, topci: a, group_id: g, start: erliest }\n\
          contract: { protos: events.proto, message: test.v1.Event }\ndead_letter: { topic: d }\n\
          postgres:\n  url: ${NOT_SET}\n  table: t\n  key: [id]\n  columns: {}\nlanse: 2\n",
    );
    let log = fails(&case, &["run", "pipeline.yaml"], 2);
    says(&log, &["pipeline.yaml:2:", "topci", "topic", "erliest", "earliest", "brokers", "NOT_SET", "lanse", "lanes"]);
    let answer = case.tollgate(&["run", "pipeline.yaml", "--output", "json"], &[]);
    assert_eq!(answer.wait().code(), Some(2));
    let answer: Value = serde_json::from_str(&answer.stdout()).unwrap();
    assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!("config.invalid")));
}

#[test]
fn a_component_that_is_none_is_refused() {
    let case = Case::new("components").guest(&Guest::revision(1));
    let manifest = json!({ "name": "x", "version": "1", "input": events::MESSAGE, "limits": { "fuel": 1000 } });
    let stamped = |module: &str, wit: &str, world: &str| {
        guests::stamp(guests::encode(&wat::parse_str(module).unwrap(), wit, world), manifest.to_string().as_bytes())
    };
    let wasi = stamped(
        r#"(module (import "wasi:random/random@0.2.0" "get-random-u64" (func (result i64)))
             (memory (export "memory") 1) (func (export "run")))"#,
        "package a:b; interface random { get-random-u64: func() -> u64; }
         world w { import wasi:random/random@0.2.0; export run: func(); }
         package wasi:random@0.2.0 { interface random { get-random-u64: func() -> u64; } }",
        "w",
    );
    let other = stamped(
        r#"(module (memory (export "memory") 1) (func (export "run")))"#,
        "package a:b; world w { export run: func(); }",
        "w",
    );
    let failing = Guest { init_fails: Some("no rates for EUR"), ..Guest::revision(1) };
    let typed = Guest { manifest: json!({ "input": "test.v1.Other" }), ..Guest::revision(1) };
    let greedy = Guest { manifest: json!({ "limits": { "memory": "1MiB" } }), ..Guest::revision(1) };
    for (bytes, said) in [
        (b"not wasm".to_vec(), "not WASM"),
        (wat::parse_str("(module)").unwrap(), "core module"),
        (wasi, "wasi:random/random@0.2.0"),
        (other, "exports the wrong world"),
        (guests::component(&failing), "no rates for EUR"),
        (guests::component(&typed), "takes test.v1.Other"),
        (guests::component(&greedy), "fuel"),
    ] {
        case.put("guest.wasm", &bytes);
        let log = fails(&case, &["run", "pipeline.yaml"], 2);
        says(&log, &["guest.wasm", said]);
    }
}

#[test]
fn servers_that_are_away_are_waited_for_until_the_deadline() {
    let away = xtask::servers::free_port().unwrap();
    let case = Case::new("away").set("/start_deadline", json!("5s")).setup();
    let url = case.pipeline["postgres"]["url"].as_str().unwrap().to_owned();
    let nobody = format!("postgres://app:hidden-word@127.0.0.1:{away}/app");
    for (pointer, value, server) in [
        ("/postgres/url", json!(nobody), "PostgreSQL"),
        ("/source/brokers", json!(format!("127.0.0.1:{away}")), "Kafka"),
    ] {
        let mut case = Case::new("away").set("/start_deadline", json!("5s")).set("/postgres/url", json!(url));
        case.change(pointer, value);
        let began = Instant::now();
        let log = fails(&case, &["run", "pipeline.yaml"], 3);
        assert!(began.elapsed() >= Duration::from_secs(5), "it gave up before its deadline");
        assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        says(&log, &[&format!("{server} is not available yet"), "cannot be reached", &away.to_string()]);
        assert!(!log.contains("hidden-word"), "a password in the log:\n{log}");
    }
}

#[test]
fn a_start_that_hangs_ends_by_its_deadline_too() {
    // PostgreSQL is reachable, but the table of slots is locked.
    let case = Case::new("slotless").set("/start_deadline", json!("3s")).setup();
    let blocker = case.database.hold("LOCK TABLE tollgate.slot IN ACCESS EXCLUSIVE MODE");
    let began = Instant::now();
    let log = fails(&case, &["run", "pipeline.yaml"], 3);
    assert!((3..10).contains(&began.elapsed().as_secs()), "it took {:?}", began.elapsed());
    says(&log, &["start_deadline (3 s)", "a slot in PostgreSQL"]);
    drop(blocker);
    case.drain();

    // Kafka is reachable but has no transaction coordinator, because its log requires three brokers.
    let lonely = KafkaOptions {
        properties: vec![("transaction.state.log.replication.factor".into(), "3".into())],
        jvm: vec!["-XX:TieredStopAtLevel=1".into()],
        ..KafkaOptions::default()
    };
    let kafka = Kafka::start(&Cache::open().unwrap(), &lonely).unwrap();
    let postgres = servers::shared().postgres.clone();
    let case = Case::on(&Servers { brokers: kafka.brokers(), postgres }, "uncoordinated");
    let case = case.set("/start_deadline", json!("4s")).setup();
    let began = Instant::now();
    let log = fails(&case, &["run", "pipeline.yaml"], 3);
    assert!((4..12).contains(&began.elapsed().as_secs()), "it took {:?}", began.elapsed());
    says(&log, &["start_deadline (4 s)", "transaction coordinator"]);
}

#[test]
fn a_start_begins_where_its_policy_says() {
    let record = |id: &str, timestamp| {
        let value = events::encode(&json!({ "id": id }));
        let record = |partition| Record { partition, timestamp, ..Record::new(id, value.clone()) };
        (0..PARTITIONS).map(record).collect::<Vec<_>>()
    };
    for (start, expected) in [
        (json!("earliest"), vec!["late", "new", "old"]),
        (json!("2026-06-01T00:00:00Z"), vec!["late", "new"]),
        (json!("latest"), vec!["new"]),
    ] {
        let case = Case::new("start").set("/source/start", start.clone()).setup();
        case.kafka.produce(&case.source(), &record("old", Some(1_767_225_600_000)));
        case.kafka.produce(&case.source(), &record("late", Some(1_782_864_000_000)));
        let engine = case.run();
        engine.ready();
        // The policy applies once to each partition: until the row exists.
        wait_for("a progress row for each partition", || {
            (case.database.number("SELECT count(*) FROM tollgate.progress") == i64::from(PARTITIONS)).then_some(())
        });
        case.kafka.produce(&case.source(), &record("new", None));
        case.settled(&[3; 4]);
        engine.stop();
        let rows = case.database.texts("SELECT id FROM seen GROUP BY id HAVING count(*) = 4 ORDER BY id");
        assert_eq!(rows, expected, "start: {start}");
        // Later starts continue at the group's offset, whatever the policy is.
        let case = case.set("/source/start", json!("earliest"));
        case.drain();
        assert_eq!(case.database.number("SELECT max(n) FROM seen"), 1);
        assert_eq!(case.database.number("SELECT count(DISTINCT id) FROM seen"), i64::try_from(expected.len()).unwrap());
    }
}

#[test]
fn a_consumer_block_with_the_names_of_kafkas_clients_runs_unchanged() {
    let case = Case::new("article").setup();
    // A configuration as Kafka clients print it, without the indentation that its page has lost.
    let block = "consumer:\n  group_id: \"analytics-pipeline-v2\"\n  session_timeout_ms: 30000\n  heartbeat_interval_ms: 10000\n  \
         max_poll_records: 500\n  max_poll_interval_ms: 300000\n  auto_offset_reset: \"latest\"\n  enable_auto_commit: false\n  \
         isolation_level: \"read_committed\"\nretry_policy:\n  max_retries: 3\n  initial_backoff_ms: 1000\n  \
         max_backoff_ms: 30000\n  backoff_multiplier: 2.0\n  dlq_topic: \"analytics_dlq\"\n  dlq_threshold: 5\nbackpressure:\n  \
         lag_threshold: 10000\n  pause_on_threshold: true\n  resume_lag_margin: 2000\n  max_batch_size: 1000\n";
    let (brokers, source) = (case.pipeline["source"]["brokers"].as_str().unwrap(), case.source());
    case.put(
        "pipeline.yaml",
        format!(
            "pipeline: {}\nsource: {{ brokers: \"{brokers}\", topic: {source} }}\n\
             contract: {{ protos: events.proto, message: test.v1.Event }}\noutput: {{ topic: {} }}\n\
             postgres: {{ url: \"{}\", table: seen, key: [p, o], columns: {{ p: {{ record: partition }}, \
             o: {{ record: offset }}, n: {{ add: 1 }}, id: {{ field: id }} }} }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n{block}",
            case.name,
            case.output(),
            case.database.url()
        )
        .as_bytes(),
    );
    let setup = case.tollgate(&["setup", "pipeline.yaml"], &[]);
    assert!(setup.wait().success(), "{}", setup.log());
    let engine = case.run();
    wait_for("a progress row for each partition", || {
        (case.database.number("SELECT count(*) FROM tollgate.progress") == i64::from(PARTITIONS)).then_some(())
    });
    case.kafka.produce(&source, &[Record::new("k", events::encode(&json!({ "id": "x" }))), Record::new("k", [0x0a])]);
    wait_for("the row", || (case.database.number("SELECT sum(n)::bigint FROM seen WHERE id = 'x'") == 1).then_some(()));
    wait_for("its group's offset", || {
        let committed = case.kafka.committed("analytics-pipeline-v2", &source, PARTITIONS).ok()?;
        (committed[0] == Some(2)).then_some(())
    });
    engine.stop();
    let dead: Vec<_> = case
        .kafka
        .read("analytics_dlq")
        .into_iter()
        .filter(|l| l.header("tollgate.pipeline") == Some(&case.name))
        .collect();
    assert_eq!(dead.len(), 1);
}
