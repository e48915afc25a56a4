//! Tests every setting of every policy on a real engine: what passes, how it is changed, what is counted, what is
//! rejected.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_reflect::prost::encoding::encode_varint;
use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::kafka::{Letter, Record};
use tollgate_tests::wait_for;

const PROTO: &str = r#"syntax = "proto3";
package policy.v1;
import "buf/validate/validate.proto";
import "google/protobuf/timestamp.proto";
enum Colour { COLOUR_UNSPECIFIED = 0; COLOUR_RED = 1; COLOUR_GREY = 7; }
message Event {
  string id = 1;
  int64 amount = 2 [(buf.validate.field).int64.gte = 0];
  Colour colour = 3;
  repeated Colour colours = 4;
  oneof method { string card = 5; string cash = 6; }
  // Unix milliseconds.
  int64 at = 7;
  google.protobuf.Timestamp paid_at = 8;
}
"#;

const COLOUR: &str = "policy.v1.Colour";

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(value, &mut out);
    out
}

fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn bytes(number: u64, inner: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(u64::try_from(inner.len()).unwrap()), inner.to_vec()].concat()
}

/// Returns an event with a variant, an amount and the fields in `more`.
fn event(id: &str, more: &[u8]) -> Vec<u8> {
    [bytes(1, id.as_bytes()), int(2, 5), bytes(5, b"card"), more.to_vec()].concat()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns a pipeline with these policies, one partition, and a column for each thing that a policy changes.
fn case(name: &str, policies: Value, columns: Value) -> Case {
    let mut contract = json!({ "protos": "policy.proto", "message": "policy.v1.Event" });
    contract.as_object_mut().unwrap().extend(policies.as_object().unwrap().clone());
    let mut all = json!({
        "p": { "record": "partition" }, "o": { "record": "offset" }, "id": { "field": "id" },
        "amount": { "field": "amount" }, "colour": { "field": "colour", "as": "enum_name", "strip_prefix": "COLOUR_" },
    });
    all.as_object_mut().unwrap().extend(columns.as_object().unwrap().clone());
    let case = Case::new(name).set("/contract", contract).set("/postgres/columns", all);
    case.put("policy.proto", PROTO.as_bytes());
    case.setup()
}

fn send(case: &Case, events: &[Vec<u8>]) {
    let records: Vec<Record> = events.iter().map(|event| Record::new("k", event.clone())).collect();
    case.kafka.produce(&case.source(), &records);
}

/// Returns offset, reason and field of each dead letter.
fn dead(case: &Case) -> Vec<String> {
    let mut letters = case.kafka.read(&case.dead());
    letters.sort_by_key(Letter::source);
    let header = |letter: &Letter, name: &str| letter.header(name).unwrap_or_default().to_owned();
    let line = |letter: &Letter| {
        let (reason, field) = (header(letter, "tollgate.reason"), header(letter, "tollgate.field"));
        format!("{} {reason} {field}", letter.source().1).trim_end().to_owned()
    };
    letters.iter().map(line).collect()
}

fn outputs(case: &Case) -> Vec<Letter> {
    let mut letters = case.kafka.read(&case.output());
    letters.sort_by_key(Letter::source);
    letters
}

fn rows(case: &Case) -> Vec<String> {
    case.database.texts("SELECT concat_ws(' ', o, id, coalesce(amount::text, '-'), colour) FROM seen ORDER BY o")
}

#[test]
fn what_is_allowed_passes_as_it_came() {
    let policies = json!({
        "unknown_fields": "allow", "unknown_enums": "keep", "unset_oneofs": "allow", "unknown_variants": "allow",
        "absent": "null",
    });
    let keys = json!({ "id": { "field": "id", "absent": "default" }, "colour": { "field": "colour" } });
    let case = case("allow", policies, keys);
    let events = [
        event("unknown field", &int(99, 1)),
        event("unknown enum", &[int(3, 9), bytes(4, &[1, 9])].concat()),
        bytes(1, b"unset oneof, no amount"),
        [bytes(1, b"unknown variant"), int(2, 5), bytes(50, b"x")].concat(),
        int(2, 6),
    ];
    send(&case, &events);
    let engine = case.run();
    case.settled(&[5, 0, 0, 0]);
    assert_eq!(engine.metric("tollgate_noticed_total", ""), 0.0);
    engine.stop();
    assert_eq!(dead(&case), Vec::<String>::new());
    let values: Vec<Vec<u8>> = outputs(&case).into_iter().map(|output| output.value.unwrap()).collect();
    assert_eq!(values, events, "byte for byte");
    let found = rows(&case);
    // A field that is not on the wire is null in the row, except for the id, whose column sets a default.
    let expected =
        ["0 unknown field 5", "1 unknown enum 5 9", "2 unset oneof, no amount -", "3 unknown variant 5", "4  6"];
    assert_eq!(found, expected);
}

#[test]
fn what_is_noted_passes_and_is_counted_and_a_fallback_is_what_all_see() {
    let policies = json!({
        "unknown_fields": "warn", "unknown_variants": "warn", "absent": "default",
        "unknown_enums": { "fallback": { COLOUR: "COLOUR_GREY" } },
    });
    let case = case("warn", policies, json!({}));
    let events = [
        event("unknown field", &[int(99, 1), int(99, 2)].concat()),
        event("unknown enum", &[int(3, 9), bytes(4, &[1, 9])].concat()),
        [bytes(1, b"unknown variant"), bytes(50, b"x")].concat(),
        event("plain", &int(3, 1)),
    ];
    send(&case, &events);
    let json = r#"{"id": "json", "amount": "5", "colour": "COLOUR_PINK", "surprise": true}"#;
    case.kafka.produce(&case.source(), &[Record::new("k", json).header("content-type", "application/json")]);
    let engine = case.run();
    case.settled(&[5, 0, 0, 0]);
    for (labels, count) in [
        (r#"policy="unknown_fields",type="policy.v1.Event",member="99""#, 2.0),
        (r#"policy="unknown_fields",type="policy.v1.Event",member="50""#, 1.0),
        (r#"policy="unknown_fields",type="policy.v1.Event",member="surprise""#, 1.0),
        (r#"policy="unknown_variants",type="policy.v1.Event",member="method""#, 1.0),
        (r#"policy="unknown_enums",type="policy.v1.Colour",member="9""#, 2.0),
        (r#"policy="unknown_enums",type="policy.v1.Colour",member="COLOUR_PINK""#, 1.0),
    ] {
        assert_eq!(engine.metric("tollgate_noticed_total", labels), count, "{labels}");
    }
    let log = engine.log();
    assert_eq!(
        log.lines().filter(|line| line.contains("members or values that the contract does not have")).count(),
        6,
        "each once"
    );
    engine.stop();
    assert_eq!(dead(&case), Vec::<String>::new());
    let expected = [
        "0 unknown field 5 UNSPECIFIED",
        "1 unknown enum 5 GREY",
        "2 unknown variant 0 UNSPECIFIED",
        "3 plain 5 RED",
        "4 json 5 GREY",
    ];
    assert_eq!(rows(&case), expected);
    let outputs = outputs(&case);
    let mended = event("unknown enum", &[int(3, 7), bytes(4, &[1, 7])].concat());
    assert_eq!(outputs[1].value.as_deref(), Some(mended.as_slice()));
    let told = |output: &Letter| output.header("tollgate.unknown-enums").map(str::to_owned);
    assert_eq!(told(&outputs[1]).as_deref(), Some("colour=9,colours=9"));
    assert_eq!(told(&outputs[4]).as_deref(), Some("colour=COLOUR_PINK"));
    assert_eq!((told(&outputs[0]), told(&outputs[3])), (None, None));
    assert_eq!(outputs[0].value.as_deref(), Some(events[0].as_slice()), "what is noted stays as it came");
}

#[test]
fn what_is_refused_is_a_dead_letter_with_its_own_reason() {
    let clocks = json!({ "at": { "as": "unix_ms", "past": "1h", "future": "5m" }, "paid_at": { "future": "5m" } });
    let policies = json!({
        "unknown_fields": "reject", "unknown_enums": "reject", "unset_oneofs": "reject", "absent": "reject",
        "clock_skew": clocks,
    });
    let case = case("reject", policies, json!({ "colour": { "field": "colour", "absent": "null" } }));
    let seconds = |seconds: u64| bytes(8, &int(1, seconds));
    let now = now();
    let events = [
        event("unknown field", &int(99, 1)),
        event("unknown enum", &int(3, 9)),
        [bytes(1, b"unset oneof"), int(2, 5)].concat(),
        [bytes(1, b"absent"), bytes(5, b"c")].concat(),
        event("now", &[int(7, now * 1_000), seconds(now)].concat()),
        event("seconds for milliseconds", &int(7, now)),
        event("ahead", &seconds(now + 600)),
        event("long ago, where only the future is bounded", &seconds(1)),
    ];
    send(&case, &events);
    case.drain();
    let expected = [
        "0 unknown-field 99",
        "1 unknown-enum colour",
        "2 oneof-unset method",
        "3 row-value amount",
        "5 clock-skew at",
        "6 clock-skew paid_at",
    ];
    assert_eq!(dead(&case), expected);
    assert_eq!(rows(&case), ["4 now 5", "7 long ago, where only the future is bounded 5"]);
}

#[test]
fn an_unknown_variant_can_be_refused_while_unknown_fields_are_not() {
    let case = case("variant", json!({ "unknown_variants": "reject" }), json!({}));
    let variant = [bytes(1, b"variant"), bytes(50, b"x")].concat();
    send(&case, &[variant, event("field", &bytes(50, b"x")), bytes(1, b"unset")]);
    case.drain();
    assert_eq!(dead(&case), ["0 unknown-variant method"]);
    assert_eq!(outputs(&case).len(), 2);
}

#[test]
fn observe_lets_pass_what_can_be_read_and_says_so() {
    let policies = json!({
        "mode": "observe", "unknown_fields": "reject", "unset_oneofs": "reject",
        "clock_skew": { "at": { "as": "unix_ms", "past": "1h" } }, "accept_versions": { "accept": ["2"] },
    });
    let case = case("observe", policies, json!({}));
    let minus = u64::MAX;
    let records = [
        event("good", &[]),
        [bytes(1, b"rule"), int(2, minus), bytes(5, b"c")].concat(),
        event("field", &int(99, 1)),
        bytes(1, b"oneof"),
        event("clock", &int(7, 1)),
        vec![0x0a],
        event("no name for the row", &int(3, 9)),
    ];
    let mut records: Vec<Record> =
        records.iter().map(|event| Record::new("k", event.clone()).header("schema-version", "2")).collect();
    records.push(Record::new("k", event("version", &[])));
    let json = Record::new("k", r#"{"id": "json", "card": "c", "surprise": 1}"#);
    records.push(json.header("content-type", "application/json").header("schema-version", "2"));
    case.kafka.produce(&case.source(), &records);
    let engine = case.run();
    case.settled(&[9, 0, 0, 0]);
    for (reason, count) in [
        ("rule-violated", 1.0),
        ("unknown-field", 2.0),
        ("oneof-unset", 1.0),
        ("clock-skew", 1.0),
        ("version-missing", 1.0),
        ("unknown-enum", 0.0),
        ("", 6.0),
    ] {
        let labels = if reason.is_empty() { String::new() } else { format!("reason=\"{reason}\"") };
        assert_eq!(engine.metric("tollgate_observed_total", &labels), count, "{reason}");
    }
    engine.stop();
    assert_eq!(dead(&case), ["5 undecodable id", "6 row-value colour"], "what cannot go on does not");
    let told: Vec<String> = outputs(&case)
        .iter()
        .map(|output| {
            let header = |name: &str| output.header(&format!("tollgate.observed{name}")).unwrap_or("-").to_owned();
            format!("{} {} {} {}", output.source().1, header(""), header("-rule"), header("-field"))
        })
        .collect();
    let expected = [
        "0 - - -",
        "1 rule-violated int64.gte amount",
        "2 unknown-field - 99",
        "3 oneof-unset - method",
        "4 clock-skew - at",
        "7 version-missing - -",
        "8 unknown-field - surprise",
    ];
    assert_eq!(told, expected);
    assert_eq!(case.database.number("SELECT amount FROM seen WHERE id = 'rule'"), -1);
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), 7);
}

#[test]
fn halt_pauses_before_anything_of_the_batch_is_out_and_a_resume_lets_one_event_go() {
    let case = case("halt", json!({ "mode": "halt" }), json!({}));
    let negative = |id: &str| [bytes(1, id.as_bytes()), int(2, u64::MAX)].concat();
    send(&case, &[event("a", &[]), negative("b"), event("c", &[]), negative("d"), event("e", &[])]);
    let engine = case.run();
    let paused = |offset: i64| {
        let begin = format!("halted at {}/0/{offset}: rule-violated in amount: ", case.source());
        wait_for(&format!("the halt at {offset}"), || {
            let reason = engine.status()["paused"].as_str()?.to_owned();
            reason.starts_with(&begin).then_some(reason)
        })
    };
    let reason = paused(1);
    assert!(reason.contains("(int64.gte)") && reason.contains("tollgate resume"), "{reason}");
    assert_eq!(engine.metric("tollgate_paused", ""), 1.0);
    assert!(outputs(&case).is_empty() && dead(&case).is_empty());
    assert_eq!(
        case.database.number("SELECT count(*) FROM seen"),
        0,
        "nothing of the batch has been written or produced"
    );
    let resume = || {
        let resume = case.tollgate(&["resume", "pipeline.yaml"], &[]);
        assert!(resume.wait().success(), "{}", resume.log());
    };
    resume();
    paused(3);
    assert!(dead(&case).is_empty());
    // Without a running process the resume applies to the next start, which has read neither event.
    engine.stop();
    resume();
    case.drain();
    assert_eq!(dead(&case), ["1 rule-violated amount", "3 rule-violated amount"]);
    assert_eq!(outputs(&case).len(), 3);
}

#[test]
fn a_policy_that_does_not_fit_is_refused_at_the_start() {
    let refused = |name: &str, policies: Value, columns: Value, expected: &str| {
        let case = case(name, json!({}), json!({}));
        case.database.run("ALTER TABLE seen ALTER COLUMN amount SET NOT NULL");
        let mut case = case;
        for (key, value) in policies.as_object().unwrap() {
            case.change(&format!("/contract/{key}"), value.clone());
        }
        for (key, value) in columns.as_object().unwrap() {
            case.change(&format!("/postgres/columns/{key}"), value.clone());
        }
        let engine = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
        assert_eq!(engine.wait().code(), Some(2), "{}", engine.log());
        assert!(engine.log().contains(expected), "{}", engine.log());
    };
    let fallback = json!({ "unknown_enums": { "fallback": { COLOUR: "COLOUR_GRAY" } } });
    refused(
        "misnamed",
        fallback,
        json!({}),
        "enum policy.v1.Colour has no value COLOUR_GRAY; did you mean COLOUR_GREY",
    );
    let clock = json!({ "clock_skew": { "at": { "past": "1h" } } });
    refused("unitless", clock, json!({}), "clock_skew: field at is a whole number; set `as` to");
    let null = json!({ "amount": { "field": "amount", "absent": "null" } });
    refused("null", json!({}), null, "column amount is NOT NULL, but `absent: null` would write NULL");
}
