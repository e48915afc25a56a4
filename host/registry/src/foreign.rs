//! Tests frames written by other serializers (tests/frames): the store must resolve each to its message and its values.

use std::path::Path;

use serde_json::Value;
use tollgate_contract::frame::{Frame, IndexFault, Indexing, SchemaId};
use tollgate_contract::{Contract, Fields, Policies};

use super::stub::Stub;
use super::{Schema, SchemaKind, SchemaStore};

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Compares two values in JSON. 64-bit numbers are strings in Protobuf's JSON. Libraries differ in what they omit, but
/// not in values.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len() && theirs.iter().all(|(key, value)| same(&ours[key], value))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| same(one, other))
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        (ours, theirs) => ours == theirs,
    }
}

fn check_protobuf(place: &str, schema: &Schema, frame: &Frame<'_>, case: &Value) {
    let message = case["message"].as_str().unwrap();
    let indexing = if case["indexing"] == "optional" { Indexing::Optional } else { Indexing::Required };
    if indexing == Indexing::Optional {
        // Written without indexes: a strict reader must not find this message with these bytes.
        let strict = frame
            .protobuf(Indexing::Required)
            .ok()
            .and_then(|(indexes, rest)| Some((schema.message(indexes, None).ok()??, rest.to_vec())));
        assert!(strict.is_none_or(|(_, rest)| rest != frame.payload()), "{place}");
    }
    let (indexes, payload) = frame.protobuf(indexing).unwrap();
    let found = schema.message(indexes, Some(message)).unwrap().unwrap();
    assert_eq!(found.full_name(), message, "{place}");
    // Without an expected message, it is the same message or an error that names the ambiguity.
    match schema.message(indexes, None) {
        Ok(found) => assert_eq!(found.unwrap().full_name(), message, "{place}"),
        Err(fault) => assert!(matches!(fault, IndexFault::Ambiguous { .. }), "{place}: {fault}"),
    }
    let contract = Contract::compile(found.parent_pool(), message, Policies::default(), &[]).unwrap();
    contract.check(payload, &mut Fields::default()).unwrap_or_else(|rejection| panic!("{place}: {rejection}"));
    let ours: Value = serde_json::from_str(&contract.to_json(payload).unwrap()).unwrap();
    assert!(same(&ours, &case["value"]), "{place}: {ours} is not {}", case["value"]);
}

#[test]
fn frames_of_foreign_serializers_lead_to_their_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/frames");
    let mut seen = (0, 0);
    for writer in ["confluent-kafka-python", "confluent-kafka-go", "kafkajs"] {
        let text = std::fs::read_to_string(folder.join(format!("{writer}.json"))).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let stub = Stub::start();
        for (path, answer) in file["registry"].as_object().unwrap() {
            stub.reply(path, 200, &answer.to_string());
        }
        let store = SchemaStore::new(stub.config(), tollgate_protos::compile_schema).unwrap();
        for case in file["frames"].as_array().unwrap() {
            let place = format!("{writer}: {}", case["name"]);
            let (value, header) = (bytes(&case["bytes"]), case.get("header").map(bytes));
            let frame = match &header {
                Some(header) => Frame::from_header(header, &value),
                None => Frame::parse(&value),
            };
            let frame = frame.unwrap();
            assert_eq!(matches!(frame.schema, SchemaId::Guid(_)), header.is_some(), "{place}");
            let schema = store.schema(frame.schema).unwrap();
            match case["type"].as_str() {
                None => {
                    assert_eq!(schema.kind, SchemaKind::Protobuf, "{place}");
                    check_protobuf(&place, &schema, &frame, case);
                    seen.0 += 1;
                }
                Some(kind) => {
                    assert_eq!(schema.kind, SchemaKind::parse(kind), "{place}");
                    if schema.kind == SchemaKind::Json {
                        assert_eq!(serde_json::from_slice::<Value>(frame.payload()).unwrap(), case["value"], "{place}");
                    }
                    seen.1 += 1;
                }
            }
        }
    }
    assert_eq!(seen, (17, 4));
}
