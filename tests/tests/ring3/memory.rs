//! Tests how much memory the process uses while large events wait for a table that accepts no rows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::engine::Engine;
use tollgate_tests::events;
use tollgate_tests::guests::Guest;
use tollgate_tests::kafka::Record;
use tollgate_tests::seed::Seed;
use tollgate_tests::wait_for;

const MIB: u64 = 1 << 20;

const PARTITIONS: i32 = 8;
/// The size of an event's text in bytes. `EVENTS` of them are 240 MB, far above every limit here.
const EVENT: usize = 200_000;
const EVENTS: i32 = 1_200;

/// Longer than any pause of a poll thread that still accepts events.
const STILL: Duration = Duration::from_secs(3);

/// Returns the process's peak resident memory in bytes.
fn peak(engine: &Engine) -> u64 {
    engine.memory("VmHWM").unwrap()
}

/// Returns a text that cannot be compressed, so that sizes are what they seem.
fn note(number: i32) -> String {
    let mut seed = Seed::new(u64::from(number.unsigned_abs()) + 1);
    (0..EVENT).map(|_| char::from(b'!' + u8::try_from(seed.below(64)).unwrap())).collect()
}

/// Returns a pipeline with these settings whose topic is full and whose table is locked.
fn full(name: &str, settings: &[(&str, Value)]) -> Case {
    // The guest changes every event, so that no output shares memory with its input.
    let mut case = Case::new(name).guest(&Guest::revision(1));
    // So that the poll thread waits a second for room and then pauses.
    case.change("/source/max_poll_interval", json!("10s"));
    case.change("/postgres/columns/note", json!({ "field": "note" }));
    for (pointer, value) in settings {
        case.change(pointer, value.clone());
    }
    let case = case.setup_with(PARTITIONS);
    for partition in 0..PARTITIONS {
        let event = |number: i32| {
            let value = events::encode(&json!({ "id": number.to_string(), "note": note(number) }));
            Record { partition, ..Record::new("k", value) }
        };
        let events: Vec<Record> = (0..EVENTS / PARTITIONS).map(event).collect();
        case.kafka.produce(&case.source(), &events);
    }
    case
}

/// Returns the maximum memory that `tollgate validate` reports, in bytes.
fn promised(case: &Case) -> u64 {
    let validate = case.tollgate(&["validate", "pipeline.yaml", "--output", "json"], &[]);
    assert!(validate.wait().success(), "{}", validate.log());
    let said: Value = serde_json::from_str(&validate.stdout()).unwrap();
    said["result"]["memory"]["bytes"].as_u64().unwrap()
}

/// Runs against a locked table until nothing more is fetched, then to the end. `cap` is the memory limit of all batches
/// together.
fn stays_below(case: &Case, cap: u64) {
    let promised = promised(case);
    let lock = case.database.hold("LOCK TABLE seen IN ACCESS EXCLUSIVE MODE");
    let engine = case.run();
    engine.ready();
    let (mut taken, mut since) = (0.0, Instant::now());
    wait_for("the poll thread to take no more", || {
        assert!(engine.running(), "tollgate ended");
        let now = engine.metric("tollgate_fetched_bytes_total", "");
        if now > taken {
            (taken, since) = (now, Instant::now());
        }
        let paused = engine.metric("tollgate_backpressure_pauses_total", "") > 0.0;
        (taken > 0.0 && paused && since.elapsed() > STILL).then_some(())
    });
    let waiting = peak(&engine);
    assert_eq!(engine.metric("tollgate_rows_total", ""), 0.0, "the table was locked");
    drop(lock);
    case.settled(&vec![i64::from(EVENTS / PARTITIONS); usize::try_from(PARTITIONS).unwrap()]);
    let through = peak(&engine);
    engine.stop();
    let once = case.database.number("SELECT count(*) FROM seen WHERE n = 1");
    assert_eq!(once, i64::from(EVENTS), "each event is one row, once");

    println!(
        "{}: {:.1} of {} MiB in batches; peak {} MiB with the table locked, {} at the end, {} promised",
        case.name,
        taken / 1_048_576.0,
        cap / MIB,
        waiting / MIB,
        through / MIB,
        promised / MIB
    );
    let most = u32::try_from(cap).unwrap() + u32::try_from(EVENT).unwrap();
    assert!(taken < f64::from(most), "{taken} bytes were taken, and batches may have {most}");
    assert!(through < promised, "a peak of {through} bytes, and validate has promised {promised}");
}

#[test]
fn memory_stays_below_what_validate_says() {
    stays_below(&full("memory", &[]), 64 * MIB);
}

#[test]
fn a_small_bound_of_memory_holds() {
    let small = [
        ("/backpressure", json!({ "max_backlog_bytes": "4MiB" })),
        ("/delivery/batch", json!({ "max_bytes": "1MiB" })),
    ];
    stays_below(&full("memory-small", &small), 4 * MIB);
}

#[test]
fn many_lanes_share_one_bound_of_memory() {
    stays_below(&full("memory-lanes", &[("/lanes", json!(8))]), 64 * MIB);
}
