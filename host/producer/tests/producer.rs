//! Tests the producer with librdkafka's in-process broker: keys, order, limits and failures. Transactions are tested
//! with a real Kafka (`tests/tests/ring3/produce.rs`).
#![allow(clippy::unwrap_used, reason = "a test's own failure ends the test")]

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tollgate_contract::{Contract, Policies};
use tollgate_producer::envelope::{Envelope, Fill, IdempotencyKey, KeyPart};
use tollgate_producer::{
    Config, ConnectError, Event, Gate, Invalid, Load, Original, Producer, Rejected, Route, SendError, SetupError,
};

const PROTO: &str = r#"
    syntax = "proto3";
    package shop.v1;
    message Order { string id = 1; int64 total = 2; bytes blob = 3; optional int32 shelf = 4; Status status = 5; }
    enum Status { STATUS_UNSPECIFIED = 0; STATUS_PAID = 1; }
"#;
const CALL: Duration = Duration::from_secs(20);

fn contract() -> Contract {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("order.proto"), PROTO).unwrap();
    let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
    let pool = compiler.open_file("order.proto").unwrap().descriptor_pool();
    Contract::compile(&pool, "shop.v1.Order", Policies::default(), &[]).unwrap()
}

fn route() -> Route {
    Route::new("orders", contract()).key("id").schema_version("1.0.0")
}

fn broker(partitions: i32) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", partitions, 1).unwrap();
    cluster
}

fn order(id: &str) -> Vec<u8> {
    format!(r#"{{"id": "{id}", "total": "7"}}"#).into_bytes()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn rejected(error: SendError) -> Rejected {
    match error {
        SendError::Rejected(rejected) => rejected,
        other => panic!("no rejection: {other}"),
    }
}

#[test]
fn an_event_is_acknowledged_where_javas_partitioner_puts_it() {
    let cluster = broker(1_000);
    let producer = Producer::new(Config::new(&cluster.bootstrap_servers()), [route()]).unwrap();
    producer.connect(CALL).unwrap();
    // These are the test vectors of Kafka's own hash (UtilsTest.testMurmur2).
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        let acknowledged = producer.send(&Event::json(&order(key))).unwrap().wait().unwrap();
        assert_eq!(acknowledged.partition, (hash & 0x7fff_ffff) % 1_000, "key {key}");
        assert_eq!((&*acknowledged.topic, acknowledged.offset), ("orders", 0));
        let again = producer.send(&Event::json(&order(key))).unwrap().wait().unwrap();
        assert_eq!((again.partition, again.offset), (acknowledged.partition, 1));
    }
    producer.close(CALL).unwrap();
}

#[test]
fn nothing_invalid_reaches_the_broker() {
    let cluster = broker(1);
    let producer = Producer::new(Config::new(&cluster.bootstrap_servers()), [route()]).unwrap();
    for (json, code, field) in [
        (&br#"{"id": "a", "total": "many"}"#[..], "json-wrong-type", "total"),
        (br#"{"id": "a""#, "json-invalid", ""),
        (br#"{"id": "a", "status": "STATUS_GONE"}"#, "unknown-enum", "status"),
        (br#"{"total": "1"}"#, "key-missing", "id"),
        (br#"{"id": "", "total": "1"}"#, "key-missing", "id"),
    ] {
        let rejected = rejected(producer.send(&Event::json(json)).unwrap_err());
        let found: Vec<_> = rejected.violations.iter().map(|v| (&*v.code, v.field.as_str())).collect();
        assert_eq!(found, [(code, field)], "{rejected}");
    }
    let found = rejected(producer.send(&Event::protobuf(b"\x0a\xff")).unwrap_err());
    assert_eq!(found.violations[0].code, "undecodable");
    let blob = [vec![0x0a, 1, b'k', 0x1a, 0xc0, 0x84, 0x3d], vec![1; 1_000_000]].concat();
    let found = rejected(producer.send(&Event::protobuf(&blob)).unwrap_err());
    assert_eq!(found.violations[0].code, "record-too-large", "{found}");
    // This is the first request to the broker.
    let delivery = producer.send(&Event::protobuf(b"\x0a\x01k")).unwrap();
    assert_eq!(delivery.wait().unwrap().offset, 0);
    assert!(matches!(producer.send(&Event::json(b"{}").to("elsewhere")), Err(SendError::NoRoute { .. })));
}

#[test]
fn every_rule_that_an_event_breaks_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let proto = r#"syntax = "proto3"; package shop.v1; import "buf/validate/validate.proto";
        message Item {
            string id = 1 [(buf.validate.field).string.min_len = 3];
            int64 total = 2 [(buf.validate.field).int64.gt = 0];
        }"#;
    std::fs::write(folder.path().join("item.proto"), proto).unwrap();
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut compiler = protox::Compiler::new([folder.path(), &rules]).unwrap();
    let pool = compiler.include_imports(true).open_file("item.proto").unwrap().descriptor_pool();
    let contract = Contract::compile(&pool, "shop.v1.Item", Policies::default(), &[]).unwrap();
    let gate = Gate::new(Route::new("items", contract).key("id")).unwrap();
    let rejected = gate.check(&Event::json(br#"{"id": "a", "total": "-1"}"#)).unwrap_err();
    let found: Vec<_> = rejected.violations.iter().map(|v| (&*v.code, v.rule.as_str(), v.field.as_str())).collect();
    let code = "rule-violated";
    assert_eq!(found, [(code, "string.min_len", "id"), (code, "int64.gt", "total")]);
    assert!(gate.check(&Event::json(br#"{"id": "abc", "total": "1"}"#)).is_ok());
}

#[test]
fn rejected_events_are_kept_where_the_configuration_says() {
    let cluster = broker(1);
    cluster.create_topic("orders.dead", 1, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rejects.ndjson");
    let config = Config::new(&cluster.bootstrap_servers());
    let bad = br#"{"id": "a", "total": "many"}"#;

    let producer = Producer::new(Config { invalid: Invalid::File(file.clone()), ..config.clone() }, [route()]).unwrap();
    rejected(producer.send(&Event::json(bad)).unwrap_err());
    let line = std::fs::read_to_string(file).unwrap();
    for part in ["\"code\":\"json-wrong-type\"", "\"field\":\"total\"", "\"contract\":\"shop.v1.Order\""] {
        assert!(line.contains(part), "{line} lacks {part}");
    }

    let topic = Invalid::Topic("orders.dead".to_owned());
    let producer = Producer::new(Config { invalid: topic, ..config }, [route()]).unwrap();
    producer.connect(CALL).unwrap();
    let letter = rejected(producer.send(&Event::json(bad)).unwrap_err()).letter.unwrap();
    let acknowledged = letter.wait().unwrap();
    assert_eq!((&*acknowledged.topic, acknowledged.offset), ("orders.dead", 0));
}

#[test]
fn a_full_buffer_makes_the_sender_wait_and_loses_nothing() {
    let cluster = broker(1);
    let servers = cluster.bootstrap_servers();
    cluster.broker_down(1).unwrap();
    let config = Config { buffer: Load { records: 50, bytes: 1 << 20 }, ..Config::new(&servers) };
    let producer = Producer::new(config, [route()]).unwrap();
    let settled = Arc::new(AtomicU64::new(0));
    let json = order("k");
    let event = Event::json(&json);
    let ready = producer.check(&event).unwrap();
    let send = |patience| {
        let settled = Arc::clone(&settled);
        producer.enqueue(
            &ready,
            patience,
            Box::new(move |outcome| {
                outcome.unwrap();
                settled.fetch_add(1, Ordering::AcqRel);
            }),
        )
    };
    let short = Some(Duration::from_millis(50));
    let taken = (0..200).take_while(|_| send(short).is_ok()).count();
    assert_eq!(taken, 50, "the bound is the bound");
    assert!(matches!(send(short), Err(SendError::Full { records: 50, .. })));
    assert_eq!(producer.flush(Duration::from_millis(50)).unwrap_err().records, 50);

    // A waiting sender continues by itself when the broker is back.
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| (0..100).for_each(|_| send(None).unwrap()));
        cluster.broker_up(1).unwrap();
        sender.join().unwrap();
    });
    producer.flush(CALL).unwrap();
    assert_eq!(settled.load(Ordering::Acquire), 150);
    assert_eq!(producer.in_flight(), Load::default());
}

#[test]
fn the_bytes_are_bounded_too() {
    let config = Config { buffer: Load { records: 1_000, bytes: 100_000 }, ..Config::new("127.0.0.1:1") };
    let producer = Producer::new(config, [route()]).unwrap();
    let value = [vec![0x0a, 1, b'k', 0x1a, 0x90, 0x4e], vec![1; 10_000]].concat();
    let event = Event::protobuf(&value);
    let ready = producer.check(&event).unwrap();
    let taken = (0..20).take_while(|_| producer.enqueue(&ready, Some(Duration::ZERO), Box::new(drop)).is_ok()).count();
    assert_eq!(taken, 9, "nine of ten thousand bytes and what a record costs beside them");
    assert!(producer.in_flight().bytes <= 100_000);
}

#[test]
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
fn what_cannot_be_delivered_is_reported_in_time() {
    let config = Config { delivery_timeout: Duration::from_millis(300), ..Config::new("127.0.0.1:1") };
    let producer = Producer::new(config, [route()]).unwrap();
    let began = Instant::now();
    let undelivered = producer.send(&Event::json(&order("k"))).unwrap().wait().unwrap_err();
    assert!(undelivered.to_string().contains("delivery timeout"), "{undelivered}");
    assert!(began.elapsed() < CALL / 2);
    match producer.connect(Duration::from_millis(300)).unwrap_err() {
        ConnectError::Unreachable { brokers, why } => {
            assert!(brokers == "127.0.0.1:1" && why.contains("refused"), "{why}")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_close_says_how_many_it_gives_up_and_reports_each() {
    let producer = Producer::new(Config::new("127.0.0.1:1"), [route()]).unwrap();
    let deliveries: Vec<_> = (0..3).map(|_| producer.send(&Event::json(&order("k"))).unwrap()).collect();
    assert_eq!(producer.close(Duration::from_millis(20)).unwrap_err().records, 3);
    for delivery in deliveries {
        let undelivered = delivery.wait_for(Duration::ZERO).unwrap().unwrap_err();
        assert!(undelivered.reason.contains("cancelled"), "{undelivered}");
    }
}

#[test]
fn a_panic_in_a_callback_is_its_own_affair() {
    let cluster = broker(1);
    let producer = Producer::new(Config::new(&cluster.bootstrap_servers()), [route()]).unwrap();
    let json = order("k");
    let event = Event::json(&json);
    let ready = producer.check(&event).unwrap();
    producer.enqueue(&ready, None, Box::new(|_| panic!("a caller's mistake"))).unwrap();
    producer.flush(CALL).unwrap();
    assert_eq!(producer.send(&event).unwrap().wait().unwrap().offset, 1);
}

struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn an_async_program_waits_without_blocking() {
    let cluster = broker(1);
    let config = Config { buffer: Load { records: 1, bytes: 1 << 20 }, ..Config::new(&cluster.bootstrap_servers()) };
    let producer = Producer::new(config, [route()]).unwrap();
    cluster.broker_down(1).unwrap();
    let first = producer.send(&Event::json(&order("k"))).unwrap();
    let wakes = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let (json, began) = (order("k"), Instant::now());
    let event = Event::json(&json);
    let mut second = Box::pin(producer.send_async(&event));
    assert!(second.as_mut().poll(&mut context).is_pending(), "there is room for one");
    cluster.broker_up(1).unwrap();
    let mut delivery = loop {
        if wakes.0.swap(0, Ordering::AcqRel) > 0
            && let Poll::Ready(delivery) = second.as_mut().poll(&mut context)
        {
            break Box::pin(delivery.unwrap());
        }
        assert!(began.elapsed() < CALL, "nobody woke the task");
        std::thread::yield_now();
    };
    assert_eq!(first.wait().unwrap().offset, 0);
    let outcome = loop {
        if let Poll::Ready(outcome) = delivery.as_mut().poll(&mut context) {
            break outcome;
        }
        assert!(began.elapsed() < CALL, "it was not settled");
        std::thread::yield_now();
    };
    assert_eq!(outcome.unwrap().offset, 1);
}

#[test]
fn a_wrong_setup_is_told_before_anything_is_sent() {
    let config = || Config::new("localhost:9092");
    let said = |result: Result<Producer, SetupError>| result.unwrap_err().to_string();
    assert!(said(Producer::new(config(), [])).contains("no route"));
    assert!(said(Producer::new(config(), [route(), route()])).contains("orders has two routes"));
    assert!(said(Producer::new(config(), [route().key("idd")])).contains("did you mean id"));
    assert!(said(Producer::new(config(), [route().key("blob")])).contains("blob is bytes"));
    let mut wrong = config();
    wrong.set("retries", "hidden-word").unwrap();
    let message = said(Producer::new(wrong, [route()]));
    assert!(message.contains("retries") && !message.contains("hidden-word"), "{message}");
}

#[test]
fn a_missing_topic_is_named() {
    let cluster = broker(1);
    // The mock broker creates requested topics, so its answer is set beforehand.
    cluster.topic_error("gone", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let route = Route::new("gone", contract());
    let producer = Producer::new(Config::new(&cluster.bootstrap_servers()), [route]).unwrap();
    assert_eq!(producer.connect(CALL).unwrap_err().to_string(), "topic gone does not exist");
}

#[test]
fn a_gate_makes_keys_headers_and_frames() {
    let key = |field: &str, json: &[u8]| {
        let gate = Gate::new(Route::new("orders", contract()).key(field)).unwrap();
        gate.check(&Event::json(json)).map(|ready| String::from_utf8(ready.key().unwrap().to_vec()).unwrap())
    };
    assert_eq!(key("total", br#"{"total": "-12"}"#).unwrap(), "-12");
    assert_eq!(key("total", b"{}").unwrap(), "0", "a proto3 number that is not set is zero");
    assert_eq!(key("status", br#"{"status": "STATUS_PAID"}"#).unwrap(), "1");
    assert_eq!(key("shelf", b"{}").unwrap_err().violations[0].code, "key-missing");

    let gate = Gate::new(route().schema_id(258)).unwrap();
    let json = order("k");
    let event = Event::json(&json);
    let ready = gate.check(&event).unwrap();
    assert_eq!(ready.value(), b"\x00\x00\x00\x01\x02\x00\x0a\x01k\x10\x07");
    let other = Event::json(&json).key(b"own");
    assert_eq!(gate.check(&other).unwrap().key(), Some(&b"own"[..]));
    let rejected = gate.reject(Vec::new());
    assert!(rejected.to_json(&Original::default())["violations"].as_array().unwrap().is_empty());
}

#[test]
fn rules_about_the_present_know_what_time_it_is() {
    const TIMED: &str = r#"
        syntax = "proto3";
        package shop.v1;
        import "buf/validate/validate.proto";
        import "google/protobuf/timestamp.proto";
        message Timed {
          google.protobuf.Timestamp past = 1 [(buf.validate.field).timestamp.lt_now = true];
          google.protobuf.Timestamp future = 2 [(buf.validate.field).timestamp.gt_now = true];
          google.protobuf.Timestamp near = 3 [(buf.validate.field).timestamp.within = { seconds: 3600 }];
          google.protobuf.Timestamp cel = 4
              [(buf.validate.field).cel = { id: "cel", message: "later", expression: "this < now" }];
        }
    "#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("timed.proto"), TIMED).unwrap();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let mut compiler = protox::Compiler::new([folder.path().to_str().unwrap(), rules]).unwrap();
    let pool = compiler.include_imports(true).open_file("timed.proto").unwrap().descriptor_pool();
    let contract = Contract::compile(&pool, "shop.v1.Timed", Policies::default(), &[]).unwrap();
    let gate = Gate::new(Route::new("timed", contract)).unwrap();
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Encodes a timestamp of whole seconds in the field with this number.
    let check = |field: u8, mut seconds: u64| {
        let mut timestamp = vec![0x08];
        while seconds >= 0x80 {
            timestamp.push(u8::try_from(seconds & 0x7f).unwrap() | 0x80);
            seconds >>= 7;
        }
        timestamp.push(u8::try_from(seconds).unwrap());
        let mut bytes = vec![field << 3 | 2, u8::try_from(timestamp.len()).unwrap()];
        bytes.extend(timestamp);
        gate.check(&Event::protobuf(&bytes)).map(drop).map_err(|rejected| rejected.to_string())
    };
    for (field, good, bad) in [
        (1, seconds - 60, seconds + 3600),
        (2, seconds + 3600, seconds - 60),
        (3, seconds - 60, seconds - 7200),
        (4, seconds - 60, seconds + 3600),
    ] {
        assert_eq!(check(field, good), Ok(()), "field {field}");
        assert!(check(field, bad).is_err(), "field {field}");
    }
}

const ENVELOPES: &str = r#"
    syntax = "proto3";
    package shop.v1;
    import "google/protobuf/any.proto";
    import "google/protobuf/timestamp.proto";
    message Meta { string kind = 1; int32 version = 2; google.protobuf.Timestamp at = 3; }
    message Outer { Meta meta = 1; bytes body = 2; string key = 3; string trace = 4; string source = 5; google.protobuf.Any any = 6; }
"#;

/// Returns the envelope with its event in `payload`.
fn outer(payload: &str, fields: &[(&str, Fill)], key: Option<IdempotencyKey>) -> Envelope {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outer.proto"), ENVELOPES).unwrap();
    let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
    let pool = compiler.include_imports(true).open_file("outer.proto").unwrap().descriptor_pool();
    let contract = Contract::compile(&pool, "shop.v1.Outer", Policies::default(), &[]).unwrap();
    let fields = fields.iter().map(|(path, fill)| ((*path).to_owned(), fill.clone())).collect();
    Envelope { contract, payload: payload.to_owned(), fields, key }
}

fn text(text: &str) -> Fill {
    Fill::Text(text.to_owned())
}

fn decoded(envelope: &Envelope, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(envelope.contract.message().clone(), bytes).unwrap()
}

#[test]
fn an_event_is_wrapped_and_its_key_is_what_the_engine_checks() {
    let key = |separator: &str| IdempotencyKey {
        field: "key".to_owned(),
        parts: vec![
            KeyPart::Envelope("source".to_owned()),
            KeyPart::Payload("id".to_owned()),
            KeyPart::Envelope("meta.at".to_owned()),
        ],
        separator: separator.to_owned(),
    };
    let fields = [
        ("meta.kind", text("order.created")),
        ("meta.version", text("3")),
        ("meta.at", text("2026-01-31T13:00:00+01:00")),
        ("source", text("order-service")),
        ("trace", Fill::TraceId),
    ];
    let shown = outer("body", &fields, None);
    let gate = Gate::new(route().envelope(outer("body", &fields, Some(key(":"))))).unwrap();
    let payload = order("o-1");
    let ready = gate.check(&Event::json(&payload)).unwrap();
    assert_eq!(ready.key(), Some(&b"o-1"[..]));
    let message = decoded(&shown, ready.value());
    // This is the test vector of docs/envelopes.md.
    let expected = "cf5ffb661e0b2f86d5982d83c3cafb85197f3e9230f9160d29b467c3be72f230";
    let field = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    assert_eq!(field("key").as_str(), Some(expected));
    assert_eq!(field("body").as_bytes().map(|bytes| bytes.to_vec()), Some(b"\x0a\x03o-1\x10\x07".to_vec()));
    let meta = field("meta");
    let meta = meta.as_message().unwrap();
    assert_eq!(meta.get_field_by_name("kind").unwrap().as_str(), Some("order.created"));
    assert_eq!(meta.get_field_by_name("version").unwrap().as_i32(), Some(3));
    let trace = field("trace");
    let trace = trace.as_str().unwrap();
    assert!(trace.len() == 32 && trace.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()), "{trace}");
    // Each event gets its own trace id, but the same key whenever it is produced.
    let again = gate.check(&Event::json(&payload)).unwrap();
    let again = decoded(&shown, again.value());
    assert_eq!(again.get_field_by_name("key").unwrap().as_str(), Some(expected));
    assert_ne!(again.get_field_by_name("trace").unwrap().as_str(), Some(trace));
    let nothing = rejected_by(&gate, br#"{"total": "7", "id": "x", "status": "STATUS_PAID"}"#);
    assert_eq!(nothing, Vec::<String>::new());
}

fn rejected_by(gate: &Gate, json: &[u8]) -> Vec<String> {
    let rejected = gate.check(&Event::json(json)).err();
    rejected.iter().flat_map(|rejected| &rejected.violations).map(ToString::to_string).collect()
}

#[test]
fn an_any_names_its_event_and_the_time_is_now() {
    let fields = [("meta.at", Fill::Now), ("meta.kind", Fill::Payload("status".to_owned()))];
    let gate = Gate::new(route().envelope(outer("any", &fields, None))).unwrap();
    let ready = gate.check(&Event::json(br#"{"id": "o-1", "status": "STATUS_PAID"}"#)).unwrap();
    let message = decoded(&outer("any", &fields, None), ready.value());
    let any = message.get_field_by_name("any").unwrap().into_owned();
    let any = any.as_message().unwrap();
    assert_eq!(any.get_field_by_name("type_url").unwrap().as_str(), Some("type.googleapis.com/shop.v1.Order"));
    let meta = message.get_field_by_name("meta").unwrap().into_owned();
    let meta = meta.as_message().unwrap();
    assert_eq!(meta.get_field_by_name("kind").unwrap().as_str(), Some("STATUS_PAID"));
    let at = meta.get_field_by_name("at").unwrap().into_owned();
    let seconds = at.as_message().unwrap().get_field_by_name("seconds").unwrap().as_i64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    assert!((now - 60..=now).contains(&seconds), "{seconds}");
}

#[test]
fn a_key_without_its_parts_is_a_rejection_and_one_that_changes_is_refused() {
    let key = |parts: &[KeyPart]| {
        Some(IdempotencyKey { field: "key".to_owned(), parts: parts.to_vec(), separator: ":".to_owned() })
    };
    let refused = |fields: &[(&str, Fill)], part: KeyPart| {
        let route = Route::new("orders", contract()).envelope(outer("body", fields, key(&[part])));
        Gate::new(route).unwrap_err().to_string()
    };
    let source = || KeyPart::Envelope("source".to_owned());
    assert!(refused(&[], source()).contains("source, which is never set"));
    assert!(refused(&[("source", Fill::TraceId)], source()).contains("differs in every run"));
    assert!(refused(&[], KeyPart::RecordKey).contains("records have none"));
    assert!(refused(&[], KeyPart::Header("origin".to_owned())).contains("header origin"));
    let gate = |part| Gate::new(Route::new("orders", contract()).envelope(outer("body", &[], key(&[part])))).unwrap();
    let found = rejected_by(&gate(KeyPart::Payload("id".to_owned())), br#"{"total": "7"}"#);
    assert_eq!(found, ["envelope-value: id: the idempotency key cannot be computed, because id is not set"]);
}

#[test]
fn what_an_envelope_cannot_hold_is_refused_by_name() {
    let refused = |payload: &str, fields: &[(&str, Fill)]| {
        Gate::new(route().envelope(outer(payload, fields, None))).unwrap_err().to_string()
    };
    assert!(refused("source", &[]).contains("must be bytes or a google.protobuf.Any; it is string"));
    assert!(refused("nothing", &[]).contains("has no field nothing"));
    assert!(refused("meta.kind", &[]).contains("has no field meta.kind"));
    assert!(refused("body", &[("meta.version", text("three"))]).contains("\"three\" is not a value of that type"));
    assert!(refused("body", &[("meta", text("x"))]).contains("meta is shop.v1.Meta, which cannot be filled"));
    assert!(refused("body", &[("meta.version", Fill::Now)]).contains("meta.version is int32"));
    let unknown = refused("body", &[("source", Fill::Payload("nothing".to_owned()))]);
    assert!(
        unknown.starts_with("the envelope of topic orders: the event: ") && unknown.contains("nothing"),
        "{unknown}"
    );
}
