#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{Tombstones, UnknownTypes};
use std::path::Path;

const SHOP: &str = "\
pipeline: shop
source: { brokers: 'localhost:9092', topic: shop, group_id: g, start: earliest }
contract:
  protos: proto
  type_header: event-type
dead_letter: { topic: shop.dlq }
output: { topic: shop.valid, key: order_id }
postgres:
  url: postgres://app:s3cret@localhost/app
  key: [order_id]
  columns: { seen: { now: true } }
types:
  order.created:
    message: shop.v1.OrderCreated
    transforms: [{ component: a.wasm }, { component: b.wasm }]
    postgres: { table: orders, columns: { total: {} } }
  payment.received:
    message: shop.v1.PaymentReceived
    output: { topic: shop.paid, partition: same }
    postgres: { table: payments, key: [payment_id] }
";

fn parse(text: &str) -> Result<Pipeline, String> {
    Pipeline::parse(Path::new("p.yaml"), text, &|_| None).map_err(|errors| errors.to_string())
}

fn spoil(from: &str, to: &str) -> String {
    assert!(SHOP.contains(from), "{from:?} is not in the pipeline");
    parse(&SHOP.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn the_roots_keys_are_the_defaults_of_each_type() {
    let pipeline = parse(SHOP).unwrap();
    assert_eq!(pipeline.contract.routing, Routing::Header("event-type".to_owned()));
    assert_eq!(pipeline.contract.unknown_types, UnknownTypes::DeadLetter);
    let [created, paid] = pipeline.types.as_slice() else { panic!("{:?}", pipeline.types) };
    assert_eq!((created.name.as_str(), created.message.as_str()), ("order.created", "shop.v1.OrderCreated"));
    assert_eq!((created.transforms.len(), paid.transforms.len()), (2, 0));
    let output = |kind: &EventType| {
        let output = kind.output.clone().unwrap();
        (output.topic, output.partition, output.key)
    };
    let key = vec!["order_id".to_owned()];
    assert_eq!(output(created), ("shop.valid".to_owned(), OutputPartition::ByKey, key.clone()));
    assert_eq!(output(paid), ("shop.paid".to_owned(), OutputPartition::Same, key));
    let columns = |kind: &EventType| {
        let columns = kind.mapping.columns.iter().map(|column| column.name.clone());
        (kind.mapping.table.to_string(), kind.mapping.key.join(","), columns.collect::<Vec<_>>().join(","))
    };
    assert_eq!(columns(created), ("orders".into(), "order_id".into(), "order_id,seen,total".into()));
    assert_eq!(columns(paid), ("payments".into(), "payment_id".into(), "payment_id,seen".into()));
}

#[test]
fn the_shown_configuration_has_each_type() {
    let shown = parse(SHOP).unwrap().redacted_json();
    assert_eq!(shown["types"]["payment.received"]["postgres"]["key"], serde_json::json!(["payment_id"]));
    assert_eq!(shown["contract"]["type_header"], "event-type");
    assert!(!shown.to_string().contains("s3cret"));
}

#[test]
fn each_mistake_is_reported_with_its_position() {
    let cases = [
        (
            "  type_header: event-type\n",
            "  type_header: event-type\n  message: shop.v1.OrderCreated\n",
            "6:3: contract.message: types: already sets the message type of each event type; keep one of the two",
        ),
        (
            "  type_header: event-type\n",
            "",
            "3:1: contract.type_header: required key is missing: with types:, a record's type must come from type_header",
        ),
        ("    message: shop.v1.OrderCreated\n", "", "13:3: types.order.created.message: required key is missing"),
        (
            "    postgres: { table: payments, key: [payment_id] }",
            "    postgres: { key: [payment_id] }",
            "20:5: types.payment.received.postgres.table: required key is missing",
        ),
        ("table: payments, key", "tabel: payments, key", "unknown key; did you mean table?"),
        (
            "table: payments, key",
            "table: orders, key",
            "types.payment.received.postgres.table: orders is also the table of order.created, with another key",
        ),
        (
            "output: { topic: shop.valid, key: order_id }\n",
            "output: { key: order_id }\n",
            "output: topic is missing; set it here or in the output of each type",
        ),
        ("  order.created:\n", "  'order created':\n", "the name is not an event type's name"),
        (
            "topic: shop.paid,",
            "topic: shop.dlq,",
            "types.payment.received.output.topic: shop.dlq is the dead letter topic",
        ),
        (
            "  protos: proto\n",
            "  protos: proto\n  tombstones: delete\n  unknown_types: keep\n",
            "unknown_types: keep is none of",
        ),
        (
            "    postgres: { table: payments, key: [payment_id] }\n",
            "    postgres: { table: payments, key: [payment_id] }\n    idempotency_of: [record.key]\n",
            "types.payment.received.idempotency_of: needs contract.envelope.idempotency_key",
        ),
        ("types:\n", "typos:\n", "typos: unknown key; did you mean types?"),
    ];
    for (from, to, expected) in cases {
        let told = spoil(from, to);
        assert!(told.contains(expected), "{from:?} → {to:?}\nexpected {expected}\ntold {told}");
    }
}

#[test]
fn types_may_share_a_table_if_one_statement_writes_both() {
    let text = SHOP.replace(
        "postgres: { table: payments, key: [payment_id] }",
        "postgres: { table: orders, columns: { total: { field: amount } } }",
    );
    let pipeline = parse(&text).unwrap();
    assert_eq!(pipeline.types[0].mapping.table, pipeline.types[1].mapping.table);
}

#[test]
fn a_built_in_envelope_knows_its_parts() {
    let envelope = "  envelope:\n    message: tollgate.envelope.v1.DomainEvent\n    idempotency_key: { of: [source, payload.id, header.x, record.key, \"'a b'\"] }\n";
    let text = SHOP.replace("  type_header: event-type\n", envelope);
    let pipeline = parse(&text).unwrap();
    assert_eq!(pipeline.contract.routing, Routing::Envelope);
    let envelope = pipeline.contract.envelope.clone().unwrap();
    assert_eq!((envelope.kind.as_deref(), envelope.payload.as_str()), (Some("event_type"), "data"));
    assert!(envelope.headers.contains(&("correlation-id".to_owned(), "correlation_id".to_owned())));
    let key = envelope.idempotency_key.unwrap();
    assert_eq!((key.field.as_str(), key.separator.as_str()), ("event_id", ":"));
    let of: Vec<String> = key.of.iter().map(KeyPart::to_string).collect();
    assert_eq!(of, ["source", "payload.id", "header.x", "record.key", "'a b'"]);
}

#[test]
fn each_mistake_about_an_envelope_is_reported() {
    let cases = [
        ("envelope: { message: shop.v1.Envelope, type: kind }", "contract.envelope.payload: required key is missing"),
        ("envelope: { message: shop.v1.Envelope, type: kind, payload: a.b }", "must be a field of the envelope itself"),
        (
            "envelope: { message: tollgate.envelope.v1.DomainEvent }\n  type_header: x",
            "contract.type_header: the envelope already names the type",
        ),
        (
            "envelope: { message: tollgate.envelope.v1.DomainEvent }\n  tombstones: delete",
            "contract.tombstones: delete needs type_header",
        ),
        (
            "envelope: { message: tollgate.envelope.v1.DomainEvent, idempotency_key: { of: [] } }",
            "contract.envelope.idempotency_key.of: must list 1 to 32 parts",
        ),
        (
            "envelope: { message: tollgate.envelope.v1.DomainEvent, idempotency_key: { of: [\"'x'\"] } }",
            "lists only constant texts, so every event would have the same key",
        ),
        (
            "envelope: { message: tollgate.envelope.v1.DomainEvent, idempotency_key: { of: [a b] } }",
            "is not a part of a key",
        ),
        (
            "envelope: { message: shop.v1.E, payload: p, type: t, idempotency_key: { of: [a], algorithm: md5 } }",
            "algorithm: md5 is none of sha256",
        ),
    ];
    for (envelope, expected) in cases {
        let told = spoil("type_header: event-type", envelope);
        assert!(told.contains(expected), "{envelope}\nexpected {expected}\ntold {told}");
    }
}

#[test]
fn a_type_has_its_own_versions_or_those_of_the_contract() {
    let with = |contract: &str, own: &str| {
        let text = SHOP.replacen("  type_header: event-type\n", &format!("  type_header: event-type\n{contract}"), 1);
        parse(&text.replacen("    postgres: { table: orders", &format!("    {own}\n    postgres: {{ table: orders"), 1))
    };
    let shown = |kind: &EventType| {
        kind.versions.as_ref().map(|versions| format!("{:?} {}", versions.by, versions.known())).unwrap_or_default()
    };
    let registry = "  registry: { url: 'http://r' }\n";
    let by_id = format!("{registry}  accept_versions: {{ schema_ids: true, accept: [7] }}\n");
    let by_header = "  accept_versions: { header: v, accept: [1], deprecated: { 0: until May } }\n";
    for (contract, own, expected) in [
        ("", "", ["", ""]),
        (by_header, "", ["Header(\"v\") 1, 0"; 2]),
        (by_header, "accept_versions: { accept: [2] }", ["Header(\"v\") 2", "Header(\"v\") 1, 0"]),
        (by_header, "accept_versions: { header: w, accept: [2] }", ["Header(\"w\") 2", "Header(\"v\") 1, 0"]),
        ("", "accept_versions: { accept: [2] }", ["Header(\"schema-version\") 2", ""]),
        (&by_id, "accept_versions: { accept: [8] }", ["SchemaId 8", "SchemaId 7"]),
        (&by_id, "accept_versions: { schema_ids: false, accept: [2] }", ["Header(\"schema-version\") 2", "SchemaId 7"]),
        (registry, "accept_versions: { schema_ids: true, accept: [8] }", ["SchemaId 8", ""]),
    ] {
        let pipeline = with(contract, own).unwrap();
        assert_eq!(pipeline.types.iter().map(shown).collect::<Vec<_>>(), expected, "{contract}{own}");
    }
    for (own, expected) in [
        ("accept_versions: {}", "types.order.created.accept_versions.accept: lists no version"),
        (
            "accept_versions: { accept: [1], removed: { 1: x } }",
            "accept_versions.removed: lists 1, which is also accepted",
        ),
        (
            "accept_versions: { accept: [1], schema_ids: true }",
            "types.order.created.accept_versions: schema_ids needs a registry",
        ),
        ("accept_version: { accept: [1] }", "accept_versions"),
    ] {
        let told = with("", own).unwrap_err();
        assert!(told.contains(expected), "{own}\nexpected {expected}\ntold {told}");
    }
}

#[test]
fn frames_may_be_around_envelopes() {
    let envelope = "  envelope: { message: tollgate.envelope.v1.DomainEvent }\n  registry: { url: 'http://r' }\n";
    let pipeline = parse(&SHOP.replace("  type_header: event-type\n", envelope)).unwrap();
    assert_eq!(pipeline.contract.routing, Routing::Envelope, "the frame names the envelope");
}

#[test]
fn debezium_has_a_short_and_a_long_form_and_refuses_incompatible_keys() {
    let text = SHOP.replace("  type_header: event-type\n", "  envelope: debezium\n");
    let pipeline = parse(&text).unwrap();
    let debezium = pipeline.contract.debezium.clone().unwrap();
    assert_eq!((debezium.kind.as_deref(), pipeline.contract.envelope.is_none()), (Some("source.table"), true));
    assert_eq!(pipeline.contract.tombstones, Tombstones::Drop);
    assert_eq!(pipeline.contract.routing, Routing::Envelope);
    let cases = [
        ("envelope: debezum", "contract.envelope: debezum is none of debezium; did you mean debezium?"),
        (
            "envelope: { debezium: { truncates: drop }, payload: x }",
            "contract.envelope.payload: cannot be combined with debezium, which has its own settings",
        ),
        (
            "envelope: { debezium: { message: a.B } }",
            "contract.envelope.debezium.message: cannot be combined with types",
        ),
        ("envelope: debezium\n  encoding: protobuf", "contract.encoding: needs change events in Protobuf"),
        ("envelope: debezium\n  registry: { url: 'http://r' }", "contract.registry: needs change events in Protobuf"),
        (
            "envelope: debezium\n  tombstones: delete",
            "contract.tombstones: delete cannot be combined with envelope: debezium",
        ),
    ];
    for (envelope, expected) in cases {
        let told = spoil("type_header: event-type", envelope);
        assert!(told.contains(expected), "{envelope}\nexpected {expected}\ntold {told}");
    }
}
