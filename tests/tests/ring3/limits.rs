//! Tests dead letters that are too large, and too many dead letters.

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

/// Produces valid events, followed by events that the transform rejects.
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
    // The pause survives a restart, and the next process changes nothing.
    engine.stop();
    let engine = case.run();
    assert_eq!(paused(&engine), reason);
    engine.ready();
    assert_eq!(case.kafka.read(&case.dead()).len(), dead);
    // A draining job gets an error instead of waiting for ever.
    let drain = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
    assert_eq!(drain.wait().code(), Some(1), "{}", drain.log());
    assert!(drain.log().contains("the drain cannot finish because the pipeline is paused"), "{}", drain.log());
    // A resume begins a new window, in which the threshold may be crossed again. Each time some events are processed.
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
    // All events are in one window.
    case.drain();
    assert_eq!(case.kafka.read(&case.dead()).len(), 400);
}

#[test]
fn a_swap_ends_the_pause_of_a_bad_deploy() {
    let case = limited("mended");
    bad_deploy(&case, 0, 400);
    let engine = case.run();
    paused(&engine);
    // A file that is not a component changes nothing. The failure is shown until a reload is accepted.
    case.put("guest.wasm", b"no component");
    assert_eq!(engine.post("/admin/reload").0, 409);
    assert!(engine.status()["refused_reload"]["error"].as_str().is_some(), "{}", engine.status());
    let check = case.tollgate(&["status", "pipeline.yaml", "--check", "--url", engine.url()], &[]);
    assert_eq!(check.wait().code(), Some(1), "{}", check.log());
    assert!(check.log().contains(": paused: "), "{}", check.log());
    assert!(check.stdout().contains("reload    rejected"), "{}", check.stdout());
    // The fixed rule lets every event pass.
    case.put("guest.wasm", &guests::component(&Guest { rejects: false, ..Guest::revision(2) }));
    let (status, answer) = engine.post("/admin/reload");
    assert_eq!(status, 200, "{answer}");
    case.settled(&[400, 0, 0, 0]);
    let status = engine.status();
    assert_eq!((&status["paused"], &status["refused_reload"]), (&Value::Null, &Value::Null));
    let check = case.tollgate(&["status", "pipeline.yaml", "--check", "--url", engine.url()], &[]);
    assert_eq!(check.wait().code(), Some(0), "{}", check.log());
    engine.stop();
    let rows = case.database.number("SELECT count(*) FROM seen WHERE n = 1 AND revision = 2");
    let dead = case.kafka.read(&case.dead()).len();
    assert_eq!(rows + i64::try_from(dead).unwrap(), 400);
    assert!(dead < 100, "{dead} events went to the dead letters before the limit of 100");
}

/// Reloads with this component. The reload must fail with a message that contains `says`, and the process must
/// continue.
fn refused(case: &Case, engine: &tollgate_tests::engine::Engine, component: &[u8], says: &str) {
    case.put("guest.wasm", component);
    let (status, answer) = engine.post("/admin/reload");
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(status == 409 && error.contains(says), "{says}: {answer}");
    assert_eq!(engine.get("/healthz").0, 200);
}

#[test]
fn no_component_ends_the_process_neither_by_running_nor_by_being_compiled() {
    let ceiling = json!([{ "component": "guest.wasm", "ceiling": { "compile_time": "1s" } }]);
    let guest = Guest::revision(1);
    let case = Case::new("hostile").guest(&Guest { traps: true, ..guest.clone() }).set("/transforms", ceiling).setup();
    bad_deploy(&case, 100, 0);
    // The guest traps before it asks for its first event, whatever the event is.
    let engine = case.run();
    let reason = paused(&engine);
    assert!(reason.contains("transform actor cannot run") && reason.contains("unreachable"), "{reason}");
    assert!(reason.contains("tollgate resume"), "{reason}");
    assert_eq!(case.kafka.read(&case.dead()).len(), 0, "no event is at fault");
    // If it is resumed without a fix it pauses again, and the process continues to run.
    assert!(case.tollgate(&["resume", "pipeline.yaml"], &[]).wait().success());
    wait_for("the second pause", || (engine.log().matches("cannot run").count() > 1).then_some(()));
    assert_eq!(paused(&engine), reason);
    case.put("guest.wasm", &guests::component(&guest));
    let (status, answer) = engine.post("/admin/reload");
    assert_eq!(status, 200, "{answer}");
    case.settled(&[100, 0, 0, 0]);

    refused(&case, &engine, &guests::nested_types(&guest), "types are nested deeper than");
    refused(&case, &engine, &guests::nested_loops(&guest), "takes more than 1 s of CPU time");
    // The component was compiled when the field had another number.
    let stale = tollgate_tests::events::PROTO.replace("string note = 3", "string note = 13");
    let says = "field `test.v1.Event.note` has number 13 in the component and 3 in the contract";
    let component = guests::component(&Guest::revision(2));
    refused(&case, &engine, &guests::compiled_with(component.clone(), &stale), says);
    let validated = case.tollgate(&["validate", "pipeline.yaml"], &[]);
    assert_eq!(validated.wait().code(), Some(2), "{}", validated.log());
    assert!(validated.log().contains(says) || validated.stdout().contains(says), "{}", validated.log());
    // A field that is missing in the component is reported and accepted.
    let older = tollgate_tests::events::PROTO.replace("string note = 3;", "");
    case.put("guest.wasm", &guests::compiled_with(component, &older));
    let (status, answer) = engine.post("/admin/reload");
    assert_eq!(status, 200, "{answer}");
    engine.logged("`test.v1.Event.note` (3) is unknown to the component");
    bad_deploy(&case, 50, 0);
    case.settled(&[150, 0, 0, 0]);
    engine.stop();
}
