//! Tests one topic with many types: routing, separate chains and tables, and envelopes.

use std::collections::BTreeMap;

use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message as _;
use serde_json::{Value, json};
use tollgate_config::registry::{Config, Url};
use tollgate_contract::frame::Frame;
use tollgate_registry::api::Registered;
use tollgate_tests::case::Case;
use tollgate_tests::guests::{self, Guest};
use tollgate_tests::kafka::Record;
use tollgate_tests::{events, wait_for};
use xtask::Cache;
use xtask::servers::Registry;

const DOMAIN_EVENT: &str = "tollgate.envelope.v1.DomainEvent";
const EVENT_ENVELOPE: &str = "tollgate.envelope.v1.EventEnvelope";

/// Returns a pipeline with the types a (two transforms), b (one) and c (none, another message and topic), each with a
/// table.
fn three(name: &str) -> Case {
    let mut case = Case::new(name);
    for (file, revision) in [("one.wasm", 1), ("two.wasm", 2), ("b.wasm", 5)] {
        case.put(file, &guests::component(&Guest::revision(revision)));
    }
    let other = format!("{}.other", case.name);
    let columns = json!({ "p": { "record": "partition" }, "o": { "record": "offset" }, "n": { "add": 1 }, "id": {} });
    let seen = json!({ "revision": { "field": "revision" } });
    case.change("/contract/message", Value::Null);
    case.change("/contract/type_header", json!("event-type"));
    case.change("/postgres/table", Value::Null);
    case.change("/postgres/columns", columns);
    case.set(
        "/types",
        json!({
            "a": {
                "message": events::MESSAGE, "transforms": [{ "component": "one.wasm" }, { "component": "two.wasm" }],
                "postgres": { "table": "seen_a", "columns": seen },
            },
            "b": {
                "message": events::MESSAGE, "transforms": [{ "component": "b.wasm" }],
                "postgres": { "table": "seen_b", "columns": seen },
            },
            "c": { "message": "test.v1.Other", "output": { "topic": other }, "postgres": { "table": "seen_c" } },
        }),
    )
}

fn event(id: &str) -> Vec<u8> {
    events::encode(&json!({ "id": id }))
}

fn typed(kind: &str, id: &str) -> Record {
    Record::new("k", event(id)).header("event-type", kind)
}

/// Returns the rows of a type's table: id and, if there is one, the revision that processed it.
fn rows(case: &Case, table: &str, columns: &str) -> Vec<String> {
    case.database.texts(&format!("SELECT concat_ws(' ', {columns}) FROM {table} WHERE n = 1 ORDER BY id"))
}

/// Returns reason, contract and type (or `-`) of each dead letter, in source order.
fn letters(case: &Case) -> Vec<String> {
    let mut letters = case.kafka.read(&case.dead());
    letters.sort_by_key(|letter| letter.source());
    let shown = letters.iter().map(|letter| {
        let header = |name: &str| letter.header(name).unwrap_or("-").to_owned();
        [header("tollgate.reason"), header("tollgate.contract"), header("tollgate.event-type")].join(" ")
    });
    shown.collect()
}

#[test]
fn each_type_has_its_chain_its_table_and_its_output() {
    let case = three("types").setup();
    let records = [
        typed("a", "a1"),
        typed("b", "b1"),
        typed("c", "c1"),
        typed("d", "d1"),
        Record::new("k", event("e1")),
        Record::new("k", vec![0xff]).header("event-type", "b"),
        typed("a", "a2"),
    ];
    case.kafka.produce(&case.source(), &records);
    let engine = case.run();
    engine.ready();
    let of_a = || rows(&case, "seen_a", "id, revision");
    wait_for("the rows of a", || (of_a().len() == 2).then_some(()));
    assert_eq!(of_a(), ["a1 2", "a2 2"], "the second transform has the last word");
    assert_eq!(rows(&case, "seen_b", "id, revision"), ["b1 5"]);
    assert_eq!(rows(&case, "seen_c", "id"), ["c1"]);
    let expected = ["unknown-event-type - -", "event-type-missing - -", "undecodable test.v1.Event b"];
    assert_eq!(letters(&case), expected);
    assert_eq!((case.kafka.read(&case.output()).len(), case.kafka.read(&format!("{}.other", case.name)).len()), (3, 1));
    let count = |labels: &str| engine.metric("tollgate_typed_events_total", labels);
    assert_eq!(count("event_type=\"a\",verdict=\"pass\""), 2.0);
    assert_eq!(count("event_type=\"b\",verdict=\"reject\""), 1.0);
    assert_eq!(count("event_type=\"\",verdict=\"reject\""), 2.0);

    // A swap of b's chain does not affect a's.
    case.put("b.wasm", &guests::component(&Guest::revision(9)));
    let (status, answer) = engine.post("/admin/reload");
    assert_eq!((status, &answer["result"]["swap"]), (200, &json!("taken")), "{answer}");
    let transforms = engine.status()["revision"]["transforms"].clone();
    let types: Vec<&str> = transforms.as_array().unwrap().iter().filter_map(|one| one["event_type"].as_str()).collect();
    assert_eq!(types, ["a", "a", "b"]);
    case.kafka.produce(&case.source(), &[typed("b", "b2"), typed("a", "a3")]);
    wait_for("the rows after the swap", || (of_a().len() == 3).then_some(()));
    assert_eq!(of_a()[2], "a3 2");
    assert_eq!(rows(&case, "seen_b", "id, revision"), ["b1 5", "b2 9"]);
    engine.stop();
}

#[test]
fn a_row_that_postgres_refuses_is_found_among_several_tables() {
    let case = three("types-refused").set("/contract/unknown_types", json!("drop")).setup();
    case.database.run("ALTER TABLE seen_b ADD CHECK (id <> 'bad')");
    let records: Vec<Record> = (0..40)
        .map(|number| match number {
            17 => typed("b", "bad"),
            _ => typed(["a", "b", "c", "d"][number % 4], &format!("{number:02}")),
        })
        .collect();
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(letters(&case), ["row-refused test.v1.Event b"]);
    let counts =
        ["seen_a", "seen_b", "seen_c"].map(|table| case.database.number(&format!("SELECT count(*) FROM {table}")));
    assert_eq!(counts, [10, 9, 10], "the unknown ones are dropped, the others are all there");
}

#[test]
fn types_that_share_a_table_write_it_in_the_order_of_their_events() {
    let case = three("types-shared");
    let last = |message: &str| json!({ "message": message, "postgres": { "table": "last" } });
    let case = case
        .set("/postgres/key", json!(["k"]))
        .set("/postgres/columns", json!({ "k": { "record": "key" }, "id": {}, "n": { "add": 1 } }))
        .set("/types", json!({ "a": last(events::MESSAGE), "b": last(events::MESSAGE), "c": last("test.v1.Other") }))
        .setup();
    let records: Vec<Record> = ["a", "c", "b", "c", "a"]
        .into_iter()
        .enumerate()
        .map(|(at, kind)| typed(kind, &format!("{kind}{at}")))
        .collect();
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(case.database.texts("SELECT concat_ws(' ', id, n) FROM last"), ["a4 5"]);
}

#[test]
fn each_type_has_its_versions() {
    let case = three("types-versions")
        .set("/contract/accept_versions", json!({ "accept": ["2"], "deprecated": { "1": "until release 9" } }))
        .set(
            "/types/a/accept_versions",
            json!({ "accept": ["3"], "deprecated": { "2": "a: until May" }, "removed": { "1": "produce 3" } }),
        )
        .set("/types/c/accept_versions", json!({ "header": "edition", "accept": ["1"] }))
        .setup();
    let version = |kind: &str, id: &str, version: &str| typed(kind, id).header("schema-version", version);
    let records = [
        version("a", "a3", "3"),
        version("a", "a2", "2"),
        version("a", "a1", "1"),
        version("b", "b3", "3"),
        version("b", "b2", "2"),
        version("b", "b1", "1"),
        typed("c", "c1").header("edition", "1"),
        version("c", "c2", "1"),
    ];
    case.kafka.produce(&case.source(), &records);
    let engine = case.run();
    engine.ready();
    wait_for("the letters", || (letters(&case).len() == 3).then_some(()));
    let expected =
        ["version-removed test.v1.Event a", "version-not-accepted test.v1.Event b", "version-missing test.v1.Other c"];
    assert_eq!(letters(&case), expected);
    assert_eq!(rows(&case, "seen_a", "id"), ["a2", "a3"]);
    assert_eq!(rows(&case, "seen_b", "id"), ["b1", "b2"]);
    assert_eq!(rows(&case, "seen_c", "id"), ["c1"]);
    let messages: Vec<_> = case
        .kafka
        .read(&case.dead())
        .iter()
        .map(|letter| letter.header("tollgate.message").unwrap().to_owned())
        .collect();
    for said in [
        "version 1 is no longer accepted: produce 3",
        "version 3 is not accepted; accepted are 2, 1",
        "the record has no header edition",
    ] {
        assert!(messages.iter().any(|message| message.contains(said)), "{said}: {messages:?}");
    }
    let deprecated = |labels: &str| {
        wait_for("the count of deprecated versions", || {
            Some(engine.metric("tollgate_deprecated_total", labels)).filter(|count| *count > 0.0)
        })
    };
    assert_eq!(deprecated("event_type=\"a\",version=\"2\""), 1.0);
    assert_eq!(deprecated("event_type=\"b\",version=\"1\""), 1.0);
    assert_eq!(engine.metric("tollgate_deprecated_total", ""), 2.0, "and nothing else");
    engine.logged("a: until May");
    engine.logged("until release 9");
    engine.stop();
}

/// Registers a schema and returns its id.
pub(super) fn register(registry: &Registry, subject: &str, text: &str) -> u32 {
    let config = Config::new(vec![Url::parse(&registry.url()).unwrap()]);
    let schema = Registered { schema_type: "PROTOBUF".into(), schema: text.into(), references: Vec::new() };
    tollgate_registry::Client::new(config).unwrap().register(subject, &schema).unwrap()
}

fn framed(id: u32, index: u32, message: &[u8]) -> Record {
    let mut value = Vec::new();
    Frame::write_protobuf(&mut value, id, &[index]);
    value.extend_from_slice(message);
    Record::new("k", value)
}

#[test]
fn frames_say_the_type_by_their_message() {
    let registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let id = register(&registry, "types-value", events::PROTO);
    let foreign = register(&registry, "foreign-value", "syntax = \"proto3\"; message Foreign { string id = 1; }");
    let case = three("types-frames")
        .set("/contract/type_header", Value::Null)
        .set("/contract/registry", json!({ "url": registry.url() }))
        .set("/types/b", Value::Null)
        .setup();
    let records = [framed(id, 0, &event("a1")), framed(id, 1, &event("c1")), framed(foreign, 0, &event("x"))];
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(rows(&case, "seen_a", "id, revision"), ["a1 2"]);
    assert_eq!(rows(&case, "seen_c", "id"), ["c1"]);
    assert_eq!(letters(&case), ["unknown-event-type - -"]);
}

/// Encodes an envelope with the built-in message, from its JSON without the payload.
fn wrapped(message: &str, payload: (&str, &[u8]), envelope: &Value) -> Vec<u8> {
    let descriptor = tollgate_protos::shipped(message).unwrap().get_message_by_name(message).unwrap();
    let mut wrapped = DynamicMessage::deserialize(descriptor, envelope).unwrap();
    wrapped.set_field_by_name(payload.0, prost_reflect::Value::Bytes(payload.1.to_vec().into()));
    wrapped.encode_to_vec()
}

/// Returns a pipeline with the types a and c in envelopes of that message. Ids, versions and correlation ids become
/// columns.
fn enveloped(name: &str, message: &str, columns: Value) -> Case {
    let columns: BTreeMap<String, Value> = serde_json::from_value(columns).unwrap();
    let mut all = json!({ "p": { "record": "partition" }, "o": { "record": "offset" }, "n": { "add": 1 }, "id": {} });
    all.as_object_mut().unwrap().extend(columns);
    three(name)
        .set("/contract/type_header", Value::Null)
        .set("/contract/envelope", json!({ "message": message }))
        .set("/postgres/columns", all)
        .set("/types/b", Value::Null)
}

#[test]
fn domain_events_are_taken_out_of_their_envelopes() {
    let case = enveloped("types-domain", DOMAIN_EVENT, json!({ "why": { "header": "correlation-id" } }))
        .set("/contract/envelope/idempotency_key", json!({ "of": ["source", "payload.id", "timestamp"] }))
        .set("/contract/accept_versions", json!({ "accept": ["1"] }))
        .set("/types/c/idempotency_of", json!(["'c'", "record.key"]))
        .setup();
    // SHA-256 of order-service:o-1:2026-01-31T12:00:00.000Z, as in docs/envelopes.md.
    const KEY: &str = "cf5ffb661e0b2f86d5982d83c3cafb85197f3e9230f9160d29b467c3be72f230";
    // SHA-256 of c:k.
    const OTHER: &str = "b97e04bb8a0520754c46c3ba1c178fd13e1c413218d42c680252a53d87482557";
    let envelope = json!({
        "eventId": KEY, "eventType": "a", "version": 1, "timestamp": "2026-01-31T12:00:00.000Z",
        "source": "order-service", "correlationId": "why-1",
    });
    let with = |changes: Value| {
        let mut envelope = envelope.clone();
        envelope.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Record::new("k", envelope.to_string()).header("content-type", "application/json")
    };
    let data = json!({ "id": "o-1", "amount": 7 });
    let records = [
        with(json!({ "data": data })),
        Record::new("k", wrapped(DOMAIN_EVENT, ("data", &event("o-1")), &envelope)),
        with(json!({ "data": data.to_string() })),
        with(json!({ "eventType": "c", "eventId": OTHER, "data": { "id": "c-1" } })),
        with(json!({ "data": data, "source": "somebody-else" })),
        with(json!({ "data": data, "source": "" })),
        with(json!({ "data": { "id": "o-1", "amount": "a lot" } })),
        with(json!({ "data": null })),
        with(json!({ "data": data, "eventType": "" })),
        with(json!({ "data": data, "eventType": "z" })),
        with(json!({ "data": data, "version": 2 })),
        Record::new("k", wrapped(DOMAIN_EVENT, ("data", &[0xff]), &envelope)),
    ];
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(rows(&case, "seen_a", "id, revision, why"), ["o-1 2 why-1"; 3]);
    assert_eq!(rows(&case, "seen_c", "id, why"), ["c-1 why-1"]);
    let expected = [
        "idempotency-key-mismatch test.v1.Event a",
        "idempotency-key-mismatch test.v1.Event a",
        "json-wrong-type test.v1.Event a",
        "envelope-payload-missing test.v1.Event a",
        "rule-violated tollgate.envelope.v1.DomainEvent -",
        "unknown-event-type tollgate.envelope.v1.DomainEvent -",
        "version-not-accepted test.v1.Event a",
        "undecodable test.v1.Event a",
    ];
    assert_eq!(letters(&case), expected);
    let message = case.kafka.read(&case.dead())[0].header("tollgate.message").unwrap().to_owned();
    assert!(message.contains("SHA-256 of source, payload.id, timestamp, joined by \":\""), "{message}");
    let outputs = case.kafka.read(&case.output());
    assert_eq!(outputs.len(), 3);
    for output in &outputs {
        assert_eq!(events::decode(output.value.as_deref().unwrap())["id"], "o-1", "the event without its envelope");
        let headers = ["event-type", "correlation-id", "event-id", "event-time"].map(|name| output.header(name));
        assert_eq!(headers, [Some("a"), Some("why-1"), Some(KEY), Some("2026-01-31T12:00:00.000Z")]);
    }
}

#[test]
fn produce_wraps_events_as_the_engine_reads_them() {
    let case = enveloped("types-produced", DOMAIN_EVENT, json!({ "why": { "header": "correlation-id" } }))
        .set("/contract/envelope/idempotency_key", json!({ "of": ["source", "payload.id", "timestamp"] }))
        .set("/contract/accept_versions", json!({ "accept": ["1"] }))
        .set("/types/c/idempotency_of", json!(["'c'", "record.key"]))
        .setup();
    let write = |name: &str, text: &str| std::fs::write(case.folder().join(name), text).unwrap();
    write("events.ndjson", "{\"id\":\"o-1\",\"amount\":7}\n{\"id\":\"o-2\"}\n{\"id\":\"\"}\n");
    write("keyed.ndjson", "{\"id\":\"c-1\"}\n");
    let produce = |code: i32, further: &[&str]| {
        let words = ["produce", "--pipeline", "pipeline.yaml", "--schema-version", "1"];
        let engine = case.tollgate(&[&words, further].concat(), &[]);
        assert_eq!(engine.wait().code(), Some(code), "{}", engine.log());
        engine.log()
    };
    // A key that a repeated run would not generate again is rejected, and so is one with missing parts.
    let log = produce(2, &["events.ndjson", "--type", "a"]);
    assert!(log.contains("source, which is never set") && log.contains("--envelope source=TEXT"), "{log}");
    let log = produce(2, &["events.ndjson", "--type", "a", "--envelope", "source=order-service"]);
    assert!(log.contains("timestamp, which differs in every run"), "{log}");
    let fixed = ["--envelope", "source=order-service", "--envelope", "timestamp=2026-01-31T12:00:00Z"];
    let log = produce(1, &[&["events.ndjson", "--type", "a"][..], &fixed].concat());
    assert!(log.contains("events.ndjson:3: envelope-value: id: the idempotency key cannot be computed"), "{log}");
    produce(0, &["keyed.ndjson", "--type", "c", "--key", "id", "--envelope", "correlation_id=why-1"]);
    case.drain();
    assert_eq!(rows(&case, "seen_a", "id, revision"), ["o-1 2", "o-2 2"]);
    assert_eq!(rows(&case, "seen_c", "id, why"), ["c-1 why-1"]);
    assert_eq!(letters(&case), Vec::<String>::new());
    let outputs = case.kafka.read(&case.output());
    // The test vector of docs/envelopes.md; each event has its own trace.
    const KEY: &str = "cf5ffb661e0b2f86d5982d83c3cafb85197f3e9230f9160d29b467c3be72f230";
    assert!(outputs.iter().any(|output| output.header("event-id") == Some(KEY)));
    let traces: std::collections::BTreeSet<_> =
        outputs.iter().filter_map(|output| output.header("correlation-id")).collect();
    assert!(traces.len() == outputs.len() && traces.iter().all(|trace| trace.len() == 32 || *trace == "why-1"));
}

#[test]
fn event_envelopes_are_taken_off_in_both_encodings() {
    let key = json!({ "key": { "header": "idempotency-key" }, "version": { "header": "schema-version", "as": "int" } });
    let case = enveloped("types-ingest", EVENT_ENVELOPE, key).setup();
    let envelope = |id: &str| {
        json!({
            "trace_id": "t", "idempotency_key": id, "schema_version": "3", "event_type": "c",
            "ingested_at": "2026-01-31T12:00:00Z",
        })
    };
    let mut json = envelope("k1");
    json["payload"] = json!({ "id": "c-1" });
    let records = [
        Record::new("k", json.to_string()).header("content-type", "application/json; charset=utf-8"),
        Record::new("k", wrapped(EVENT_ENVELOPE, ("payload", &event("c-2")), &envelope("k2"))),
        Record::new("k", wrapped(EVENT_ENVELOPE, ("payload", &event("c-3")), &envelope(""))),
    ];
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(rows(&case, "seen_c", "id, key, version"), ["c-1 k1 3", "c-2 k2 3"]);
    assert_eq!(letters(&case), ["rule-violated tollgate.envelope.v1.EventEnvelope -"]);
    let outputs = case.kafka.read(&format!("{}.other", case.name));
    let traces: Vec<_> = outputs.iter().map(|output| output.header("trace-id")).collect();
    assert_eq!(traces, [Some("t"), Some("t")]);
}

#[test]
fn frames_around_envelopes_name_the_envelope() {
    const TEXT: &str = include_str!("../../../proto/tollgate/envelope/v1/domain_event.proto");
    let registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let plain = register(&registry, "domain-value", TEXT);
    let ruled = "string source = 5 [(buf.validate.field).string.min_len = 1]; string region = 8;";
    let strict = register(&registry, "domain-value", &TEXT.replace("string source = 5;", ruled));
    let next =
        register(&registry, "domain-value", &TEXT.replace("bytes data = 7;", "bytes data = 7; string zone = 9;"));
    let bare = register(&registry, "types-value", events::PROTO);
    let accept = [plain, strict].map(|id| id.to_string());
    let case = enveloped("types-framed", DOMAIN_EVENT, json!({ "why": { "header": "correlation-id" } }))
        .set("/contract/registry", json!({ "url": registry.url() }))
        .set("/contract/accept_versions", json!({ "schema_ids": true, "accept": accept }))
        .setup();
    let with = |kind: &str, source: &str, data: &[u8]| {
        let envelope = json!({ "eventId": "1", "eventType": kind, "source": source, "correlationId": "why-1" });
        wrapped(DOMAIN_EVENT, ("data", data), &envelope)
    };
    // Only the strict schema has the field for the region.
    let regional = [with("c", "s", &event("c1")), vec![8 << 3 | 2, 1, b'x']].concat();
    let records = [
        framed(plain, 0, &with("a", "s", &event("a1"))),
        framed(strict, 0, &regional),
        framed(plain, 0, &with("a", "s", &event("a2"))).header("content-type", "application/json"),
        framed(plain, 0, &with("a", "", &event("a3"))),
        framed(strict, 0, &with("a", "", &event("a4"))),
        framed(plain, 0, &with("", "s", &event("a5"))),
        framed(next, 0, &with("a", "s", &event("a6"))),
        framed(bare, 0, &event("a7")),
        Record::new("k", with("a", "s", &event("a8"))),
        framed(plain, 0, &with("a", "s", &[0xff])),
    ];
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(rows(&case, "seen_a", "id, revision, why"), ["a1 2 why-1", "a2 2 why-1", "a3 2 why-1"]);
    assert_eq!(rows(&case, "seen_c", "id, why"), ["c1 why-1"]);
    let expected = [
        "rule-violated tollgate.envelope.v1.DomainEvent -",
        "rule-violated tollgate.envelope.v1.DomainEvent -",
        "version-not-accepted test.v1.Event a",
        "wrong-message-type tollgate.envelope.v1.DomainEvent -",
        "frame-invalid tollgate.envelope.v1.DomainEvent -",
        "undecodable test.v1.Event a",
    ];
    assert_eq!(letters(&case), expected);
    let mut ids: Vec<_> = case
        .kafka
        .read(&case.dead())
        .iter()
        .map(|letter| (letter.source(), letter.header("tollgate.schema-id").map(str::to_owned)))
        .collect();
    ids.sort_by_key(|(source, _)| *source);
    let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
    let of = |id: u32| Some(id.to_string());
    assert_eq!(ids, [of(strict), of(plain), of(next), of(bare), None, of(plain)]);
}
