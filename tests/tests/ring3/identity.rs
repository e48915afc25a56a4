//! Tests which contract an event is checked against: frames of a registry's serializers, versions, rules.

use std::fs;

use serde_json::{Value, json};
use tollgate_config::registry::{Config, Url};
use tollgate_contract::frame::Frame;
use tollgate_registry::Client;
use tollgate_registry::api::Registered;
use tollgate_tests::case::Case;
use tollgate_tests::events;
use tollgate_tests::kafka::Record;
use xtask::Cache;
use xtask::servers::Registry;

fn event(id: &str) -> Vec<u8> {
    events::encode(&json!({ "id": id }))
}

fn framed(id: u32, indexes: &[u32], message: &[u8]) -> Record {
    let mut value = Vec::new();
    Frame::write_protobuf(&mut value, id, indexes);
    value.extend_from_slice(message);
    Record::new("k", value)
}

fn ids(case: &Case) -> Vec<String> {
    case.database.texts("SELECT id FROM seen WHERE n = 1 ORDER BY id")
}

/// Returns the reason and the schema id (or `-`) of each dead letter, in source order.
fn reasons(case: &Case) -> Vec<String> {
    let mut letters: Vec<_> = case.kafka.read(&case.dead());
    letters.sort_by_key(|letter| letter.source());
    let shown = letters.iter().map(|letter| {
        let header = |name: &str| letter.header(name).unwrap_or("-").to_owned();
        format!("{} {}", header("tollgate.reason"), header("tollgate.schema-id"))
    });
    shown.collect()
}

#[test]
fn frames_are_checked_against_the_schemas_that_they_name() {
    let mut registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let client = Client::new(Config::new(vec![Url::parse(&registry.url()).unwrap()])).unwrap();
    let register = |subject: &str, kind: &str, schema: &str| {
        let schema = Registered { schema_type: kind.into(), schema: schema.into(), references: Vec::new() };
        client.register(subject, &schema).unwrap()
    };
    let old = register("events-value", "PROTOBUF", events::PROTO);
    // A newer producer uses a status that the pipeline's own files do not contain yet.
    let text = events::PROTO.replace("COLOUR_BLUE = 2;", "COLOUR_BLUE = 2; COLOUR_GREEN = 3;");
    let new = register("newer-value", "PROTOBUF", &text);
    let json_schema =
        register("json-value", "JSON", r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}"#);

    let case = Case::new("frames").set("/contract/registry", json!({ "url": registry.url(), "cache": "schemas" }));
    let case = case.setup();
    let green = |id: &str| [event(id), vec![4 << 3, 3]].concat();
    let records = [
        framed(old, &[0], &event("a")),
        framed(new, &[0], &event("b")),
        // The writer's schema contains the enum's number, but the pipeline's own contract still decides about rows.
        framed(new, &[0], &green("c")),
        framed(old, &[0], &green("d")),
        framed(old, &[1], &event("e")),
        Record::new("k", event("f")),
        framed(old + 7_000, &[0], &event("g")),
        framed(json_schema, &[0], b"{}"),
        framed(old, &[0], &[0xff]),
    ];
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(ids(&case), ["a", "b"]);
    let expected = [
        format!("unknown-enum {new}"),
        format!("unknown-enum {old}"),
        format!("wrong-message-type {old}"),
        "frame-invalid -".to_owned(),
        format!("schema-unknown {}", old + 7_000),
        format!("schema-type {json_schema}"),
        format!("undecodable {old}"),
    ];
    assert_eq!(reasons(&case), expected);
    let outputs = case.kafka.read(&case.output());
    assert_eq!(outputs.len(), 2, "outputs are the messages, without their frames");
    assert!(
        outputs.iter().all(|output| output.value.as_deref().is_some_and(|value| events::decode(value)["id"] != ""))
    );

    // Schemas that were used before need no registry, not even in a new process.
    registry.kill();
    case.kafka.produce(&case.source(), &[framed(old, &[0], &event("h")), framed(new, &[0], &event("i"))]);
    case.drain();
    assert_eq!(ids(&case), ["a", "b", "h", "i"]);

    // An event with an unknown schema waits and does not become a dead letter.
    let engine = case.run();
    engine.ready();
    case.kafka.produce(&case.source(), &[framed(old + 1_000, &[0], &event("j"))]);
    engine.logged("registry");
    assert_eq!(reasons(&case).len(), expected.len());
}

#[test]
fn versions_pass_are_counted_or_are_refused_by_name() {
    let versions = json!({
        "accept": ["2"], "deprecated": { "1": "until release 9" }, "removed": { "0": "produce version 2" },
    });
    let case = Case::new("versions").set("/contract/accept_versions", versions).setup();
    let record = |id: &str, version: &str| Record::new("k", event(id)).header("schema-version", version);
    let records =
        [record("a", "2"), record("b", "1"), record("c", "0"), record("d", "3"), Record::new("k", event("e"))];
    case.kafka.produce(&case.source(), &records);
    let engine = case.drain();
    assert_eq!(ids(&case), ["a", "b"]);
    assert!(engine.log().contains("until release 9"), "{}", engine.log());
    assert_eq!(reasons(&case), ["version-removed -", "version-not-accepted -", "version-missing -"]);
    let letters = case.kafka.read(&case.dead());
    let message = letters.iter().find_map(|letter| letter.header("tollgate.message").filter(|text| text.contains('0')));
    assert_eq!(message, Some("version 0 is no longer accepted: produce version 2"));
}

#[test]
fn a_rule_about_the_present_leaves_the_key_from_a_field_alone() {
    let case = Case::new("clock");
    let head = "package test.v1;\nimport \"buf/validate/validate.proto\";\nimport \"google/protobuf/timestamp.proto\";";
    let placed = "google.protobuf.Timestamp placed = 9 [(buf.validate.field).timestamp.lt_now = true];";
    let text =
        events::PROTO.replace("package test.v1;", head).replace("int64 at = 7;", &format!("int64 at = 7; {placed}"));
    fs::write(case.folder().join("events.proto"), text).unwrap();
    let case = case.set("/output/key", json!("id")).setup();
    // The time is one second after the epoch, in field 9.
    let past = [event("a"), vec![9 << 3 | 2, 2, 8, 1]].concat();
    case.kafka.produce(&case.source(), &[Record::new("k", past)]);
    case.drain();
    assert_eq!(reasons(&case), [""; 0]);
    let keys: Vec<_> = case.kafka.read(&case.output()).into_iter().map(|output| output.key).collect();
    assert_eq!(keys, [Some(b"a".to_vec())]);
}

#[test]
fn a_dead_letter_names_every_rule_that_the_event_breaks() {
    let case = Case::new("rules");
    let head = "package test.v1;\nimport \"buf/validate/validate.proto\";";
    let text = events::PROTO
        .replace("package test.v1;", head)
        .replace("string id = 1;", "string id = 1 [(buf.validate.field).string.min_len = 1];")
        .replace("int64 amount = 2;", "int64 amount = 2 [(buf.validate.field).int64.gt = 0];");
    fs::write(case.folder().join("events.proto"), text).unwrap();
    let case = case.setup();
    let bad = events::encode(&json!({ "amount": "-5" }));
    let good = events::encode(&json!({ "id": "a", "amount": "5" }));
    case.kafka.produce(&case.source(), &[Record::new("k", good), Record::new("k", bad)]);
    case.drain();
    assert_eq!(ids(&case), ["a"]);
    let letters = case.kafka.read(&case.dead());
    let [letter] = &letters[..] else { panic!("{} letters", letters.len()) };
    assert_eq!(letter.header("tollgate.reason"), Some("rule-violated"));
    assert_eq!(letter.header("tollgate.contract"), Some(events::MESSAGE));
    assert_eq!(letter.header("tollgate.contract-digest").map(str::len), Some(64));
    let violations: Value = serde_json::from_str(letter.header("tollgate.violations").unwrap()).unwrap();
    let mut told: Vec<String> = violations
        .as_array()
        .unwrap()
        .iter()
        .map(|violation| format!("{} {}", violation["field"].as_str().unwrap(), violation["rule"].as_str().unwrap()))
        .collect();
    assert_eq!(letter.header("tollgate.rule"), violations[0]["rule"].as_str());
    told.sort();
    assert_eq!(told, ["amount int64.gt", "id string.min_len"]);
    assert!(violations.as_array().unwrap().iter().all(|violation| violation["message"] != ""));
}
