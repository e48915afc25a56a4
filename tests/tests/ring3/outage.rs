//! Tests outages of servers under load that last longer than the maximum poll interval.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::engine::Engine;
use tollgate_tests::guests::Guest;
use tollgate_tests::kafka::Record;
use tollgate_tests::load::Load;
use tollgate_tests::servers::{self, Servers};
use tollgate_tests::{events, oracle, wait_for};
use xtask::servers::{KafkaOptions, PostgresOptions};

/// Shorter than each outage below.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Returns the resident memory in MB.
fn memory(engine: &Engine) -> u64 {
    engine.memory("VmRSS").unwrap() >> 20
}

fn breaker(engine: &Engine, sink: &str) -> f64 {
    engine.metric("tollgate_breaker_state", &format!("sink=\"{sink}\""))
}

fn breaker_turned(engine: &Engine, sink: &str, to: &str) -> f64 {
    engine.metric("tollgate_breaker_transitions_total", &format!("sink=\"{sink}\",to=\"{to}\""))
}

/// Asserts that an engine in an outage is healthy and not ready, reports why, and has opened its breaker. `from` is the
/// log's length before the outage.
fn endure(engine: &Engine, what: &str, from: usize) -> u64 {
    let began = Instant::now();
    let (mut unready, mut most, mut open) = (String::new(), 0, false);
    wait_for("the outage to last", || {
        assert!(engine.running(), "the engine ended");
        assert_eq!(engine.get("/healthz").0, 200, "a restart would not help");
        let (status, reason) = engine.get("/readyz");
        if status == 503 {
            unready = reason;
        }
        most = most.max(memory(engine));
        open |= breaker(engine, what) == 2.0;
        (open && began.elapsed() > MAX_POLL_INTERVAL * 2).then_some(())
    });
    let status = engine.status();
    assert!(["open", "half-open"].contains(&status["breakers"][what].as_str().unwrap()), "{status}");
    assert!(unready.to_lowercase().contains(what), "/readyz did not name {what}: {unready:?}");
    // All threads notice the outage many times, but only few warnings are logged.
    let log = engine.log_from(from);
    let warnings = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
    assert_eq!(log.matches("outage: retrying until the server is back").count(), 1, "{log}");
    assert!(warnings <= 12, "{warnings} warnings:\n{log}");
    most
}

#[test]
fn an_outage_longer_than_max_poll_interval_costs_nothing_but_time() {
    let (mut kafka, mut postgres) = servers::own(&KafkaOptions::default(), &PostgresOptions::default());
    let servers = Servers { brokers: kafka.brokers(), postgres: postgres.url() };
    let case = Case::on(&servers, "outage").guest(&Guest::revision(1));
    let case = case.set("/source/max_poll_interval", json!(format!("{}s", MAX_POLL_INTERVAL.as_secs())));
    let case = case.set("/backpressure", json!({ "lag_threshold": 20_000 })).setup();
    let engine = case.run();
    engine.ready();
    let load = Load::start(&servers.brokers, &case.source(), PARTITIONS, 10_000);
    let passed = || engine.metric("tollgate_events_total", "");
    wait_for("a steady load", || (passed() > 30_000.0).then_some(()));
    let before = memory(&engine);

    let from = engine.log().len();
    postgres.stop();
    let during = endure(&engine, "postgres", from);
    postgres.restart().unwrap();
    let (back, then) = (Instant::now(), passed());
    wait_for("the first commit", || (passed() > then).then_some(()));
    let after = back.elapsed();
    wait_for("the lanes to go on", || (passed() > then + 10_000.0).then_some(()));
    wait_for("the breaker to close", || (breaker(&engine, "postgres") == 0.0).then_some(()));
    engine.ready();
    assert_eq!(engine.log().matches("partition taken over").count(), 4, "it kept its partitions throughout");

    let from = engine.log().len();
    kafka.stop();
    endure(&engine, "kafka", from);
    kafka.restart().unwrap();
    let then = passed();
    wait_for("the lanes to go on", || (passed() > then + 10_000.0).then_some(()));
    wait_for("the breaker to close", || (breaker(&engine, "kafka") == 0.0).then_some(()));
    engine.ready();
    for sink in ["postgres", "kafka"] {
        for to in ["open", "closed"] {
            assert!(breaker_turned(&engine, sink, to) >= 1.0, "the breaker of {sink} was never {to}");
        }
    }
    assert!(engine.log().matches("the outage is over").count() >= 2, "{}", engine.log());
    // Kafka's breaker may be closed by a long attempt that began before it opened.
    assert!(breaker_turned(&engine, "postgres", "half-open") >= 1.0);
    assert_eq!(engine.metric("tollgate_events_total", "row-refused"), 0.0, "an outage is nobody's fault");

    let (ends, _) = load.stop();
    case.settled(&ends);
    let paused = engine.metric("tollgate_backpressure_pauses_total", "");
    assert!(paused > 0.0, "the backlog was bounded by pausing");
    assert!(!engine.log().contains("removed from the group"), "it was evicted");
    engine.stop();
    let found = oracle::check(&case, &ends);
    assert!(found.is_empty(), "{found:#?}");
    println!(
        "outage: {} events; memory {before} MB before, {during} MB at most without PostgreSQL; the first commit {} ms after it was back",
        ends.iter().sum::<i64>(),
        after.as_millis()
    );
    assert!(during < before + 100, "memory grew from {before} to {during} MB");
}

#[test]
fn without_transactions_no_slot_is_taken_not_even_after_an_outage() {
    let case = Case::new("slotless").set("/delivery/mode", json!("at_least_once")).setup();
    let engine = case.run();
    engine.ready();
    let sessions = |role: &str| {
        let name = format!("tollgate {} {role}", case.name);
        // PostgreSQL truncates a session's name to 63 bytes.
        format!("FROM pg_stat_activity WHERE application_name = left('{name}', 63)")
    };
    let keeper = || case.database.number(&format!("SELECT max(pid)::bigint {}", sessions("keeper")));
    let first = wait_for("the keeper's session", || Some(keeper()).filter(|pid| *pid > 0));
    case.database.run(&format!("SELECT pg_terminate_backend(pid) {}", sessions("keeper")));
    let session = || keeper() + case.database.number(&format!("SELECT max(pid)::bigint {}", sessions("slot")));
    wait_for("a new session of the keeper", || Some(session()).filter(|pid| ![0, first].contains(pid)));
    engine.ready();
    assert_eq!(case.database.number("SELECT count(*) FROM tollgate.slot"), 0, "the mode has no transactional ids");
    engine.stop();
}

/// The events of one partition, which form one batch or two.
const EVENTS: usize = 200;

/// Runs a pipeline whose table rejects rows. Returns the ids in the table, the dead letters as `id reason message`, and
/// the number of failed attempts.
fn refused(name: &str, settings: &[(&str, Value)], sql: &str) -> (Case, Vec<String>, Vec<String>, f64) {
    let mut case = Case::new(name);
    for (pointer, value) in settings {
        case.change(pointer, value.clone());
    }
    let case = case.setup();
    case.database.run(sql);
    let id = |number: usize| if number == 77 { "bad".to_owned() } else { format!("{number:03}") };
    let event = |number| Record { partition: 0, ..Record::new("k", events::encode(&json!({ "id": id(number) }))) };
    case.kafka.produce(&case.source(), &(0..EVENTS).map(event).collect::<Vec<_>>());
    let engine = case.run();
    case.settled(&[i64::try_from(EVENTS).unwrap()]);
    let retries = engine.metric("tollgate_retries_total", "");
    engine.stop();
    let dead = case.kafka.read(&case.dead()).into_iter().map(|letter| {
        let header = |name: &str| letter.header(name).unwrap_or_default().to_owned();
        assert_eq!(letter.source(), (0, 77));
        format!("{} {}", header("tollgate.reason"), header("tollgate.message"))
    });
    let (dead, rows) = (dead.collect(), case.database.texts("SELECT id FROM seen ORDER BY o"));
    (case, rows, dead, retries)
}

/// Returns a trigger that rejects `bad` with this SQLSTATE and counts its calls, including those that are rolled back.
fn refuses(sqlstate: &str) -> String {
    format!(
        "CREATE SEQUENCE asked;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 'bad' THEN
                 PERFORM nextval('asked');
                 RAISE EXCEPTION 'not this one' USING ERRCODE = '{sqlstate}';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON seen FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
}

#[test]
fn what_may_be_either_is_tried_again_and_then_looked_for() {
    // The search needs 2·log2 n + 1 statements. Only those that include the row are counted here, one for each level.
    let search = i64::from(EVENTS.next_power_of_two().trailing_zeros()) + 1;
    let all_others = |rows: Vec<String>| assert!(rows.len() == EVENTS - 1 && !rows.contains(&"bad".to_owned()));
    let asked = |case: &Case| case.database.number("SELECT last_value FROM asked");

    // This code is unknown, so the batch is retried twice.
    let settings = [("/retry_policy/max_retries", json!(2))];
    let (case, rows, dead, retries) = refused("unknown", &settings, &refuses("ZZ001"));
    all_others(rows);
    let message = "row-refused not this one (SQLSTATE ZZ001); rejected 3 times with its batch, then alone";
    assert_eq!((dead, retries), (vec![message.to_owned()], 2.0));
    let count = asked(&case);
    assert!((3 + 2..=3 + search).contains(&count), "the row was refused {count} times");

    // A trigger's plain RAISE concerns its row, so the search begins at once.
    let (case, rows, dead, retries) = refused("raised", &settings, &refuses("P0001"));
    all_others(rows);
    assert_eq!((dead, retries), (vec!["row-refused not this one (SQLSTATE P0001)".to_owned()], 0.0));
    let count = asked(&case);
    assert!((1 + 2..=1 + search).contains(&count), "the row was refused {count} times");

    // The code does not matter, even if it is one that would end the process if the server itself reported it.
    let (_, rows, dead, retries) = refused("raised-0a", &settings, &refuses("0A000"));
    all_others(rows);
    assert_eq!((dead, retries), (vec!["row-refused not this one (SQLSTATE 0A000)".to_owned()], 0.0));

    // This function fails only for one row, which only the search can find.
    let fails = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 'bad' THEN EXECUTE format('SELECT FROM %I', NEW.id); END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER look BEFORE INSERT ON seen FOR EACH ROW EXECUTE FUNCTION look()";
    let (_, rows, dead, retries) = refused("in-function", &settings, fails);
    all_others(rows);
    let message =
        "row-refused relation \"bad\" does not exist (SQLSTATE 42P01); rejected 3 times with its batch, then alone";
    assert_eq!((dead, retries), (vec![message.to_owned()], 2.0));
}

#[test]
fn a_batch_that_is_refused_as_a_whole_goes_through_in_parts() {
    let whole = |body: &str| {
        format!(
            "CREATE FUNCTION weigh() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
             CREATE TRIGGER weigh AFTER INSERT ON seen REFERENCING NEW TABLE AS fresh
             FOR EACH STATEMENT EXECUTE FUNCTION weigh()"
        )
    };
    let one = [("/retry_policy/max_retries", json!(1))];
    let many = whole("IF (SELECT count(*) FROM fresh) > 60 THEN RAISE 'too many at once'; END IF;");
    let (_, rows, dead, retries) = refused("too-many", &one, &many);
    assert_eq!((rows.len(), dead.len()), (EVENTS, 0));
    assert!(retries > 1.0, "{retries} attempts were given up, and max_retries is 1");

    // 200 rows take 4 s, but a statement may take only 2 s.
    let slow = whole("PERFORM pg_sleep(0.02 * (SELECT count(*) FROM fresh));");
    let patience = [("/delivery", json!({ "transaction_timeout": "3s" }))];
    let (_, rows, dead, retries) = refused("too-slow", &patience, &slow);
    assert_eq!((rows.len(), dead.len()), (EVENTS, 0));
    assert!(retries > 0.0, "all were written in one statement");

    // Two statements of 1.5 s each are fast enough, but together they exceed the timeout of the Kafka transaction.
    let slow = format!(
        "{};
         CREATE FUNCTION drag() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(0.0075 * (NEW.next_off - NEW.prev_off)); RETURN NULL; END $$;
         CREATE TRIGGER drag AFTER UPDATE OF next_off ON tollgate.progress FOR EACH ROW EXECUTE FUNCTION drag()",
        whole("PERFORM pg_sleep(0.0075 * (SELECT count(*) FROM fresh));")
    );
    let (case, rows, dead, retries) = refused("too-late", &patience, &slow);
    assert_eq!((rows.len(), dead.len()), (EVENTS, 0));
    assert!(retries > 0.0, "the batch was committed by PostgreSQL when Kafka was about to give it up");
    assert_eq!(case.kafka.read(&case.output()).len(), EVENTS);
}
