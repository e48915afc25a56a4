//! Tests the normal case: rows, outputs, dead letters.

use serde_json::json;
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::events;
use tollgate_tests::guests::Guest;
use tollgate_tests::kafka::Record;

/// Returns one valid event for each partition, and an invalid one.
fn records() -> Vec<Record> {
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        let event = events::encode(&json!({ "id": format!("good-{partition}"), "amount": "5" }));
        records.push(Record { partition, ..Record::new("a-key", event) }.header("trace", "abc"));
        records.push(Record { partition, ..Record::new("bad", [0x0a]) }.header("trace", [0xff, 0x00]));
    }
    records
}

#[test]
fn rows_outputs_and_dead_letters_say_where_they_came_from() {
    let case = Case::new("happy").guest(&Guest::revision(3)).setup();
    case.kafka.produce(&case.source(), &records());
    let engine = case.run();
    case.settled(&[2; 4]);
    let digest = engine.status()["revision"]["digest"].as_str().unwrap().to_owned();
    engine.stop();

    let rows = case.database.texts("SELECT concat_ws(' ', p, o, n, id, revision, digest) FROM seen ORDER BY p");
    let expected: Vec<String> = (0..PARTITIONS).map(|p| format!("{p} 0 1 good-{p} 3 {digest}")).collect();
    assert_eq!(rows, expected);

    let outputs = case.kafka.read(&case.output());
    assert_eq!(outputs.len(), 4);
    for output in &outputs {
        let (partition, offset) = output.source();
        assert_eq!(offset, 0);
        let event = events::decode(output.value.as_deref().unwrap());
        assert_eq!(event, json!({ "id": format!("good-{partition}"), "amount": "5", "revision": 3 }));
        assert_eq!(output.key.as_deref(), Some(&b"a-key"[..]), "the event's own key");
        assert_eq!(output.header("trace"), Some("abc"), "the event's own headers go on");
        assert_eq!(output.header("revision"), Some("3"), "and those that the transform set");
        assert_eq!(output.header("tollgate.source"), Some(format!("{}/{partition}/0", case.source()).as_str()));
        assert_eq!(output.header("tollgate.digest"), Some(digest.as_str()));
    }

    let dead = case.kafka.read(&case.dead());
    assert_eq!(dead.len(), 4);
    for letter in &dead {
        let (partition, offset) = letter.source();
        assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"bad"[..]), Some(&[0x0a][..])));
        assert_eq!(letter.headers[0], (b"trace".to_vec(), Some(vec![0xff, 0x00])), "headers byte for byte, first");
        let source = case.source();
        let (partition, offset) = (partition.to_string(), offset.to_string());
        for (name, value) in [
            ("__connect.errors.topic", source.as_str()),
            ("__connect.errors.partition", &partition),
            ("__connect.errors.offset", &offset),
            ("__connect.errors.connector.name", &case.name),
            ("__connect.errors.stage", "contract"),
            ("__connect.errors.exception.class.name", "undecodable"),
            ("tollgate.reason", "undecodable"),
            ("tollgate.contract", events::MESSAGE),
            ("tollgate.digest", &digest),
            ("tollgate.pipeline", &case.name),
            ("tollgate.replay-count", "0"),
        ] {
            assert_eq!(letter.header(name), Some(value), "{name}");
        }
    }
}

#[test]
fn every_compression_is_read() {
    let case = Case::new("codecs").setup();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (number, codec) in codecs.iter().enumerate() {
        let event = |n: i32| events::encode(&json!({ "id": format!("{codec}-{n}"), "note": "again ".repeat(50) }));
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let records: Vec<Record> = (0..20).map(|n| Record { partition, ..Record::new("k", event(n)) }).collect();
        case.kafka.produce_compressed(&case.source(), &records, codec);
    }
    case.drain();
    for codec in codecs {
        let rows = format!("SELECT count(*) FROM seen WHERE id LIKE '{codec}-%' AND n = 1");
        assert_eq!(case.database.number(&rows), 20, "{codec}");
    }
    assert_eq!(case.kafka.read(&case.output()).len(), 100);
    assert!(case.kafka.read(&case.dead()).is_empty());
}

#[test]
fn batches_wait_as_long_as_the_latency_target_allows() {
    let case = Case::new("target").set("/delivery", json!({ "batch": { "latency_target": "2s" } })).setup();
    let engine = case.run();
    engine.ready();
    let event = Record::new("k", events::encode(&json!({ "id": "a" })));
    case.kafka.trickle(&case.source(), &vec![event; 400]);
    tollgate_tests::wait_for("all of them to be counted", || {
        (engine.metric("tollgate_batch_events_sum", "") >= 400.0).then_some(())
    });
    let batches = engine.metric("tollgate_batch_events_count", "");
    assert!(batches <= 10.0, "{batches} batches: as many as with the default wait");
    let wait = engine.metric("tollgate_batch_wait_seconds", "lane=\"0\"");
    assert!((0.5..=1.8).contains(&wait), "a small batch's commit leaves most of the target: {wait} s");
    engine.stop();
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), 400);
}
