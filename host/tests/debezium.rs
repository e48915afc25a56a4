//! Tests decisions about Debezium's change events without a server.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::json;

use serde_json::Value as Json;
use tollgate_config::{Debezium, Pipeline};
use tollgate_decide::batch::Raw;
use tollgate_decide::gate::change::{Changes, Op};
use tollgate_decide::postgres::cell::PgColumn;
use tollgate_engine::kafka::headers;
use tollgate_engine::lane::trial::{Settled, Trial};
use tollgate_protocol::position::{Offset, Partition};

const PROTO: &str = r#"
syntax = "proto3";
package inventory.v1;
import "buf/validate/validate.proto";
message Customer {
  int64 id = 1;
  string first_name = 2;
  string email = 3 [(buf.validate.field).string.min_len = 3];
  int64 updated_at = 4;
}
message Source { string table = 1; int64 lsn = 2; int64 ts_ms = 3; }
message Envelope { Customer before = 1; Customer after = 2; Source source = 3; string op = 4; int64 ts_ms = 5; }
"#;

/// Returns the source block that Debezium 3 writes for PostgreSQL.
fn source(lsn: i64) -> Json {
    json!({
        "version": "3.0.0.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1_769_860_800_000_i64, "snapshot": "false",
        "db": "shop", "sequence": format!("[\"{}\",\"{lsn}\"]", lsn - 8), "ts_us": 1_769_860_800_000_123_i64, "schema": "public",
        "table": "customers", "txId": 771, "lsn": lsn, "xmin": null
    })
}

fn change(op: &str, before: &Json, after: &Json, lsn: i64) -> Json {
    json!({
        "before": before, "after": after, "source": source(lsn), "transaction": null, "op": op, "ts_ms": 1_769_860_800_456_i64,
        "ts_us": 1_769_860_800_456_789_i64, "ts_ns": 1_769_860_800_456_789_000_i64
    })
}

fn customer(id: i64, name: &str) -> Json {
    json!({ "id": id, "first_name": name, "email": "annek@noanswer.org", "updated_at": 1_769_860_800_000_123_i64 })
}

/// Returns the row before a delete with REPLICA IDENTITY DEFAULT.
fn key_alone(id: i64) -> Json {
    json!({ "id": id, "first_name": null, "email": null, "updated_at": null })
}

fn column(name: &str, type_name: &str, sql_type: &str, oid: u32) -> PgColumn {
    PgColumn {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        sql_type: sql_type.to_owned(),
        base_sql_type: sql_type.to_owned(),
        array_sql_type: format!("{sql_type}[]"),
        oid,
        array_oid: oid + 1,
        typmod: -1,
        ..PgColumn::default()
    }
}

/// Returns a pipeline and the folder of its files.
fn pipeline(envelope: &str, postgres: &str) -> (Pipeline, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("inventory.proto"), PROTO).unwrap();
    let text = format!(
        "pipeline: c\nsource: {{ brokers: 'h:1', topic: shop, group_id: g, start: earliest }}\ndead_letter: {{ topic: dead }}\n\
         output: {{ topic: out }}\n\
         contract: {{ protos: '{}', message: inventory.v1.Customer, envelope: {envelope} }}\n\
         postgres:\n  url: 'postgres://u@h/d'\n  table: t\n  key: [id]\n{postgres}  columns:\n    first_name: {{}}\n    \
         updated_at: {{ as: unix_us }}\n    lsn: {{ header: __source_lsn, as: int }}\n",
        folder.path().display()
    );
    let pipeline =
        Pipeline::parse(&folder.path().join("p.yaml"), &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    (pipeline, folder)
}

fn trial((pipeline, _folder): (Pipeline, tempfile::TempDir)) -> Trial {
    let columns = [
        column("id", "int8", "bigint", 20),
        column("first_name", "text", "text", 25),
        column("updated_at", "timestamptz", "timestamptz", 1184),
        column("lsn", "int8", "bigint", 20),
        column("deleted", "bool", "boolean", 16),
    ];
    let pools = tollgate_protos::pools(&pipeline).unwrap();
    Trial::new(pipeline, &pools, &columns).unwrap_or_else(|failure| panic!("{failure}"))
}

fn decide(trial: &mut Trial, key: Option<&str>, value: Option<&[u8]>) -> Settled {
    let key = key.map(str::as_bytes);
    let raw = Raw { partition: Partition::new(0), offset: Offset::new(1), timestamp: 1_769_860_800_000, key, value };
    trial.decide(&raw, &[], 1_769_860_900_000).unwrap()
}

/// Returns a header of the first record that would be produced.
fn header(settled: &Settled, name: &str) -> Option<Vec<u8>> {
    let mut headers = headers::all(settled.letters.first()?.headers.as_borrowed());
    headers.find(|(found, _)| *found == name.as_bytes())?.1.map(<[u8]>::to_vec)
}

fn verdict(trial: &mut Trial, key: Option<&str>, value: &Json) -> (String, (usize, usize)) {
    let settled = decide(trial, key, Some(value.to_string().as_bytes()));
    (settled.verdict, settled.rows[0])
}

#[test]
fn a_change_event_is_read_with_its_schema_or_without() {
    let changes =
        Changes::compile(&pipeline("debezium", "").0, &Debezium::usual(false), &DescriptorPool::new()).ok().unwrap();
    let bare = change("u", &key_alone(1004), &customer(1004, "Anne"), 29_386_368);
    let framed = json!({ "schema": { "type": "struct", "fields": [] }, "payload": bare }).to_string();
    let bare = bare.to_string();
    for text in [&bare, &framed] {
        let read = changes.read_json(text.as_bytes()).unwrap();
        assert_eq!(read.op, Op::Row);
        assert_eq!(serde_json::from_slice::<Json>(&read.after.unwrap()).unwrap(), customer(1004, "Anne"));
        assert_eq!(serde_json::from_slice::<Json>(&read.before.unwrap()).unwrap(), key_alone(1004));
        let told: Vec<(&str, &str)> =
            read.headers.iter().map(|(index, text)| (changes.headers[*index].as_str(), text.as_str())).collect();
        let expected = [
            ("__op", "u"),
            ("__ts_ms", "1769860800456"),
            ("__source_lsn", "29386368"),
            ("__source_ts_ms", "1769860800000"),
            ("__source_table", "customers"),
        ];
        assert_eq!(told, expected);
    }
    for (text, field) in [
        (r#"{"id":1}"#, "op"),
        (r#"{"payload":{"id":1}}"#, "op"),
        (r#"{"op":null,"after":{}}"#, "op"),
        (r#"{"op":"x","after":{}}"#, "op"),
        (r#"{"payload":"text"}"#, ""),
        ("[]", ""),
        (r#"{"op":"c","op":"d"}"#, "op"),
        (r#"{"op":"c","after""#, ""),
    ] {
        assert_eq!(changes.read_json(text.as_bytes()).unwrap_err().field, field, "{text}");
    }
}

#[test]
fn each_op_has_its_verdict() {
    let mut plain = trial(pipeline("debezium", ""));
    let none = Json::Null;
    for op in ["c", "u", "r"] {
        assert_eq!(
            verdict(&mut plain, None, &change(op, &none, &customer(1, "Anne"), 9)),
            ("pass".into(), (1, 0)),
            "{op}"
        );
    }
    // The contract's rules apply to rows that are written, not to deleted ones.
    assert_eq!(verdict(&mut plain, None, &change("u", &none, &key_alone(1), 9)).0, "rule-violated");
    assert_eq!(verdict(&mut plain, None, &change("d", &key_alone(1), &none, 9)), ("delete".into(), (0, 1)));
    for key in [r#"{"id":1}"#, r#"{"schema":{"type":"struct"},"payload":{"id":1}}"#] {
        assert_eq!(verdict(&mut plain, Some(key), &change("d", &none, &none, 9)), ("delete".into(), (0, 1)), "{key}");
    }
    assert_eq!(verdict(&mut plain, None, &change("d", &none, &none, 9)).0, "delete-not-possible");
    assert_eq!(verdict(&mut plain, Some(r#"{"no":1}"#), &change("d", &none, &none, 9)).0, "row-value");
    assert_eq!(verdict(&mut plain, None, &change("u", &none, &none, 9)).0, "envelope-payload-missing");
    assert_eq!(verdict(&mut plain, None, &change("t", &none, &none, 9)).0, "change-without-row");
    assert_eq!(verdict(&mut plain, None, &change("m", &none, &none, 9)).0, "change-without-row");
    assert_eq!(verdict(&mut plain, None, &customer(1, "Anne")).0, "json-wrong-type");
    // Debezium sends this after a delete.
    assert_eq!(decide(&mut plain, Some(r#"{"id":1}"#), None).verdict, "drop");

    let mut dropping = trial(pipeline("{ debezium: { truncates: drop, messages: drop } }", ""));
    assert_eq!(verdict(&mut dropping, None, &change("t", &none, &none, 9)).0, "drop");
    assert_eq!(verdict(&mut dropping, None, &change("m", &none, &none, 9)).0, "drop");
}

#[test]
fn an_event_takes_the_change_events_headers_along() {
    let mut plain = trial(pipeline("debezium", ""));
    let value = change("c", &Json::Null, &customer(1, "Anne"), 29_386_368).to_string();
    let settled = decide(&mut plain, None, Some(value.as_bytes()));
    assert_eq!(header(&settled, "__source_lsn").as_deref(), Some(&b"29386368"[..]));
    assert_eq!(header(&settled, "__op").as_deref(), Some(&b"c"[..]));
}

#[test]
fn under_only_if_newer_a_delete_marks_its_row_by_an_upsert() {
    let mut soft = trial(pipeline("debezium", "  only_if_newer: lsn\n  delete: { soft: deleted }\n"));
    let none = Json::Null;
    assert_eq!(verdict(&mut soft, None, &change("d", &customer(1, "Anne"), &none, 9)), ("delete".into(), (1, 0)));
    assert_eq!(verdict(&mut soft, Some(r#"{"id":1}"#), &change("d", &none, &none, 9)).0, "delete-not-possible");
}

#[test]
fn change_events_in_protobuf_are_read_by_their_message_type() {
    let (pipeline, folder) = pipeline("{ debezium: { message: inventory.v1.Envelope } }", "");
    let kind = tollgate_protos::pools(&pipeline).unwrap().own.get_message_by_name("inventory.v1.Envelope").unwrap();
    let mut trial = trial((pipeline, folder));
    let mut told = |op: &str, before: &Json, after: &Json| {
        let json = json!({ "op": op, "before": before, "after": after, "source": { "table": "customers", "lsn": "7" }, "ts_ms": "5" });
        let message = DynamicMessage::deserialize(kind.clone(), json).unwrap();
        let settled = decide(&mut trial, Some("{\"id\":1}"), Some(&message.encode_to_vec()));
        let lsn = header(&settled, "__source_lsn").is_some();
        (settled.verdict, settled.rows[0], lsn)
    };
    let none = Json::Null;
    assert_eq!(told("c", &none, &customer(1, "Anne")), ("pass".into(), (1, 0), true));
    assert_eq!(told("d", &json!({ "id": 1 }), &none), ("delete".into(), (0, 1), false));
    assert_eq!(told("d", &none, &none), ("delete".into(), (0, 1), false), "by the record's key");
    assert_eq!(told("u", &none, &json!({ "id": 1 })).0, "rule-violated");
    assert_eq!(told("t", &none, &none).0, "change-without-row");
}

#[test]
fn a_message_type_that_is_no_change_event_is_refused_with_all_that_it_lacks() {
    let (pipeline, _folder) =
        pipeline("{ debezium: { message: inventory.v1.Source, headers: { lsn: source.lsn, ts: ts_ms } } }", "");
    let problems = Changes::compile(
        &pipeline,
        pipeline.contract.debezium.as_ref().unwrap(),
        &tollgate_protos::pools(&pipeline).unwrap().own,
    );
    let told: Vec<String> =
        problems.err().unwrap().into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
    let expected = [
        "contract.envelope.debezium.message: inventory.v1.Source must have a field before of type inventory.v1.Customer; it \
         has none",
        "contract.envelope.debezium.message: inventory.v1.Source must have a field after of type inventory.v1.Customer; it \
         has none",
        "contract.envelope.debezium.message: field op: inventory.v1.Source has no field op",
        "contract.envelope.debezium.headers.lsn: field source.lsn: inventory.v1.Source has no field source",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
}
