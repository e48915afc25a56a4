//! Letters that are too large, and too many of them.

use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::guests::{self, Guest};
use tollgate_tests::kafka::Record;
use tollgate_tests::{events, wait_for};

#[test]
fn a_letter_that_its_topic_cannot_hold_is_stored_by_reference() {
    let case = Case::new("reference");
    case.kafka.create_topic(&case.dead(), 1, &[("max.message.bytes", "20000")]);
    let case = case.setup();
    let large = vec![0xff; 50_000];
    let small = vec![0xff; 500];
    let heavy = Record::new("heavy", small.clone()).header("ballast", vec![b'x'; 30_000]);
    case.kafka.produce(
        &case.source(),
        &[Record::new("large", large.clone()).header("trace", "a"), Record::new("small", small.clone()), heavy],
    );
    case.drain();
    let dead = case.kafka.read(&case.dead());
    assert_eq!(dead.len(), 3);
    let letter = |offset| dead.iter().find(|letter| letter.source() == (0, offset)).unwrap();
    let stored = letter(0);
    assert_eq!(stored.header("tollgate.stored"), Some("reference"));
    assert_eq!(stored.header("tollgate.value-bytes"), Some("50000"));
    assert_eq!(stored.header("tollgate.value-sha256").map(str::len), Some(64));
    assert_eq!(stored.header("trace"), Some("a"), "what fits is kept");
    let head = stored.value.as_deref().unwrap();
    assert!(!head.is_empty() && large.starts_with(head) && head.len() < 20_000);
    assert_eq!((letter(1).header("tollgate.stored"), letter(1).value.as_deref()), (None, Some(&small[..])));
    assert_eq!(letter(2).header("tollgate.stored"), Some("reference"), "headers count too");
    assert_eq!(letter(2).header("ballast"), None, "headers that do not fit are left to the source");
}

/// Good events, then such that the transform rejects.
fn bad_deploy(case: &Case, good: usize, bad: usize) {
    let event = |n: usize| Record::new("k", events::encode(&json!({ "id": format!("{n}") })));
    let mut records: Vec<Record> = (0..good).map(event).collect();
    records.extend((good..good + bad).map(|n| event(n).header("act", "r")));
    case.kafka.produce(&case.source(), &records);
}

fn limited(name: &str) -> Case {
    let limit = json!({ "share": 0.5, "of_at_least": 100, "within": "1m" });
    let case = Case::new(name).guest(&Guest::revision(1)).set("/dead_letter/limit", limit);
    case.set("/delivery", json!({ "batch": { "max_events": 50 } })).setup()
}

fn paused(engine: &tollgate_tests::engine::Engine) -> String {
    wait_for("the pause", || engine.status()["paused"].as_str().map(str::to_owned))
}

#[test]
fn too_many_dead_letters_pause_until_somebody_resumes() {
    let case = limited("limit");
    bad_deploy(&case, 100, 400);
    let engine = case.run();
    let reason = paused(&engine);
    assert!(reason.contains("dead_letter.limit") && reason.contains("tollgate resume"), "{reason}");
    assert!(reason.contains(" now for ") && reason.contains(&format!("{}/0/", case.source())), "{reason}");
    assert_eq!(engine.metric("tollgate_paused", ""), 1.0);
    assert_eq!(engine.get("/healthz").0, 200);
    let dead = case.kafka.read(&case.dead()).len();
    assert!(dead < 200, "{dead} dead letters of 400: the batch that crosses the limit must not be committed");
    // It survives a restart, and the next process touches nothing.
    engine.stop();
    let engine = case.run();
    assert_eq!(paused(&engine), reason);
    engine.ready();
    assert_eq!(case.kafka.read(&case.dead()).len(), dead);
    // A job that drains is told instead of waiting for ever.
    let drain = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
    assert_eq!(drain.wait().code(), Some(1), "{}", drain.log());
    assert!(drain.log().contains("the drain cannot end, the pipeline is paused"), "{}", drain.log());
    // A resume begins a new window: it may be crossed again, and each time some get through.
    let answer = case.tollgate(&["resume", "pipeline.yaml", "--output", "json"], &[]);
    assert!(answer.wait().success(), "{}", answer.log());
    let answer: Value = serde_json::from_str(&answer.stdout()).unwrap();
    assert_eq!(answer["result"]["was_paused"], json!(true));
    wait_for("more dead letters", || (case.kafka.read(&case.dead()).len() > dead).then_some(()));
    assert_eq!(case.database.number("SELECT sum(n)::bigint FROM seen"), 100);
    engine.stop();
}

#[test]
fn a_resume_without_a_process_counts_for_the_next_start() {
    let case = limited("resumed-later");
    bad_deploy(&case, 0, 400);
    let engine = case.run();
    paused(&engine);
    engine.stop();
    let resume = case.tollgate(&["resume", "pipeline.yaml"], &[]);
    assert!(resume.wait().success(), "{}", resume.log());
    // The whole of it is one window.
    case.drain();
    assert_eq!(case.kafka.read(&case.dead()).len(), 400);
}

#[test]
fn a_swap_ends_the_pause_of_a_bad_deploy() {
    let case = limited("mended");
    bad_deploy(&case, 0, 400);
    let engine = case.run();
    paused(&engine);
    // The mended rule lets every event pass.
    case.put("guest.wasm", &guests::component(&Guest { rejects: false, ..Guest::revision(2) }));
    let (status, answer) = engine.post("/admin/reload");
    assert_eq!(status, 200, "{answer}");
    case.settled(&[400, 0, 0, 0]);
    assert_eq!(engine.status()["paused"], Value::Null);
    engine.stop();
    let rows = case.database.number("SELECT count(*) FROM seen WHERE n = 1 AND revision = 2");
    let dead = case.kafka.read(&case.dead()).len();
    assert_eq!(rows + i64::try_from(dead).unwrap(), 400);
    assert!(dead < 100, "{dead} events went to the dead letters before the limit of 100");
}
