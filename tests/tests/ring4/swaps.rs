//! Tests hot swaps under load: ten are accepted, two refused, and each event is processed by the right revision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tollgate_tests::engine::Engine;
use tollgate_tests::guests::{self, Guest};
use tollgate_tests::{oracle, wait_for};

use super::crashes::loaded;
use super::one_at_a_time;

fn more(engine: &Engine, events: f64) {
    let before = engine.metric("tollgate_events_total", "verdict=\"pass\"");
    wait_for("more events to pass", || {
        (engine.metric("tollgate_events_total", "verdict=\"pass\"") > before + events).then_some(())
    });
}

#[test]
fn ten_swaps_each_in_use_at_a_batch_boundary_and_two_refused() {
    let _alone = one_at_a_time();
    let (mut case, load) = loaded("swaps");
    let engine = case.run();
    engine.ready();
    let mut digests = BTreeMap::from([(1, digest(&engine))]);
    for revision in 2..=11 {
        more(&engine, 5_000.0);
        if revision == 4 {
            case.put("guest.wasm", b"this is no component");
            let (status, answer) = engine.post("/admin/reload");
            assert_eq!(status, 409, "{answer}");
            assert_eq!(digest(&engine), digests[&3], "the old revision stays active");
        }
        if revision == 8 {
            let failing = Guest { init_fails: Some("the table of rates is empty"), ..Guest::revision(99) };
            case.put("guest.wasm", &guests::component(&failing));
            let (status, answer) = engine.post("/admin/reload");
            assert_eq!(status, 409, "{answer}");
            assert!(answer["error"].as_str().unwrap().contains("the table of rates is empty"), "{answer}");
        }
        case.put("guest.wasm", &guests::component(&Guest::revision(revision)));
        let (status, answer) = engine.post("/admin/reload");
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["result"]["swap"], "taken", "{answer}");
        digests.insert(revision, digest(&engine));
    }
    more(&engine, 5_000.0);
    restart_needed(&mut case, &engine);
    let (ends, rate) = load.stop();
    case.settled(&ends);
    assert_eq!(engine.metric("tollgate_swaps_total", "taken"), 10.0);
    engine.stop();
    println!("ten swaps: {} events at {rate:.0}/s", ends.iter().sum::<i64>());

    let found = oracle::check(&case, &ends);
    assert!(found.is_empty(), "{found:#?}");
    let digests: BTreeMap<String, u32> = digests.into_iter().map(|(number, digest)| (digest, number.into())).collect();
    assert_eq!(digests.len(), 11, "every revision has a digest of its own");
    let mut seen = BTreeSet::new();
    for (partition, fates) in oracle::fates(&case, &ends, &mut oracle::Violations::default()).iter().enumerate() {
        let mut last = 0;
        for (offset, fate) in fates.iter().enumerate() {
            let (Some(row), Some(output)) = (&fate.row, &fate.output) else { continue };
            let at = format!("{partition}/{offset}: {fate:?}");
            let named = digests[&*output.1];
            assert_eq!((output.0, fate.header), (named, Some(named)), "payload, header and digest agree: {at}");
            assert_eq!((row.0, &row.1), (named, &output.1), "row and output agree: {at}");
            assert!(named >= last, "a revision never comes back within a partition: {at} after {last}");
            last = named;
            seen.insert(named);
        }
    }
    assert_eq!(seen, (1..=11).collect());
}

fn digest(engine: &Engine) -> String {
    engine.status()["revision"]["digest"].as_str().unwrap().to_owned()
}

/// Tests that a file that is not a transform cannot be swapped in.
fn restart_needed(case: &mut tollgate_tests::case::Case, engine: &Engine) {
    let before = digest(engine);
    let refused = |case: &tollgate_tests::case::Case, what: &str| {
        let (status, answer) = engine.post("/admin/reload");
        let error = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(status == 409 && error.contains("restart needed") && error.contains(what), "{}: {answer}", case.name);
    };
    for (pointer, value, what) in [
        ("/contract/max_bytes", json!("2MiB"), "contract"),
        ("/postgres/table", json!("another"), "postgres"),
        ("/source/topic", json!("another"), "source"),
        ("/output/topic", json!("another"), "output"),
    ] {
        let old = case.pipeline.pointer(pointer).cloned().unwrap_or(serde_json::Value::Null);
        case.change(pointer, value);
        refused(case, what);
        case.change(pointer, old);
    }
    let proto = tollgate_tests::events::PROTO;
    case.put("events.proto", proto.replace("string note = 3", "bytes note = 3").as_bytes());
    refused(case, "contract");
    case.put("events.proto", proto.as_bytes());
    let (status, answer) = engine.post("/admin/reload");
    assert_eq!((status, &answer["result"]["swap"]), (200, &json!("unchanged")), "{answer}");
    assert_eq!(digest(engine), before);
}
