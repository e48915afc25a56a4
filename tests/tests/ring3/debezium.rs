//! Tests a table that follows Debezium's change events.

use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::kafka::Record;

const PROTO: &str = r#"syntax = "proto3"; package test.inventory.v1;
    message Customer { int64 id = 1; string first_name = 2; int64 updated_at = 3; }"#;

fn customer(id: i64, name: &str) -> Value {
    json!({ "id": id, "first_name": name, "updated_at": 1_769_860_800_000_123_i64 })
}

/// Returns a change event as Debezium's connector for PostgreSQL writes it, with the schema that Kafka Connect's
/// JsonConverter adds.
fn change(id: i64, op: &str, before: &Value, after: &Value, lsn: i64) -> Record {
    let payload = json!({
        "before": before, "after": after, "op": op, "ts_ms": 1_769_860_800_456_i64, "transaction": null,
        "source": {
            "version": "3.0.0.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1_769_860_800_000_i64, "db": "shop",
            "snapshot": if op == "r" { "last" } else { "false" }, "schema": "public", "table": "customers", "txId": 771, "lsn": lsn,
        },
    });
    Record {
        partition: 0,
        ..Record::new(&key(id), json!({ "schema": { "type": "struct" }, "payload": payload }).to_string())
    }
}

fn key(id: i64) -> String {
    json!({ "schema": { "type": "struct", "optional": false }, "payload": { "id": id } }).to_string()
}

fn tombstone(id: i64) -> Record {
    Record { partition: 0, value: None, ..Record::new(&key(id), "") }
}

#[test]
fn a_table_follows_change_events_hard_and_softly() {
    let none = Value::Null;
    let case = Case::new("debezium")
        .set("/contract/message", json!("test.inventory.v1.Customer"))
        .set("/contract/protos", json!("inventory.proto"))
        .set("/contract/envelope", json!("debezium"))
        .set("/postgres/table", json!("customers"))
        .set("/postgres/key", json!(["id"]))
        .set(
            "/postgres/columns",
            json!({
                "first_name": {}, "updated_at": { "as": "unix_us" }, "lsn": { "header": "__source_lsn", "as": "int" },
                "op": { "header": "__op" },
            }),
        );
    case.put("inventory.proto", PROTO.as_bytes());
    let case = case.setup_with(1);
    let produce = |case: &Case, records: &[Record]| {
        case.kafka.produce(&case.source(), records);
        case.drain();
    };
    let anne = customer(1, "Anne");
    produce(
        &case,
        &[
            change(1, "r", &none, &anne, 100),
            change(2, "c", &none, &customer(2, "Bob"), 101),
            change(3, "c", &none, &customer(3, "Cleo"), 102),
            change(1, "u", &json!({ "id": 1 }), &customer(1, "Anna"), 103),
            // Deleted by `before`, or by the record's key if there is no `before`.
            change(2, "d", &json!({ "id": 2, "first_name": null, "updated_at": null }), &none, 104),
            tombstone(2),
            change(3, "d", &none, &none, 105),
            change(4, "t", &none, &none, 106),
        ],
    );
    let rows = "SELECT concat_ws(' ', id, first_name, extract(microsecond FROM updated_at)::int, lsn, op) FROM customers ORDER BY 1";
    assert_eq!(case.database.texts(rows), ["1 Anna 123 103 u"]);
    let letters = case.kafka.read(&case.dead());
    let reasons: Vec<_> = letters.iter().filter_map(|letter| letter.header("tollgate.reason")).collect();
    assert_eq!(reasons, ["change-without-row"]);
    let outputs = case.kafka.read(&case.output());
    let told: Vec<_> =
        outputs.iter().map(|output| (output.header("__op").unwrap_or_default(), output.value.is_some())).collect();
    assert_eq!(told, [("r", true), ("c", true), ("c", true), ("u", true), ("d", false), ("d", false)]);

    // The order of the source database's log decides, whichever event comes last: a deleted row keeps its number.
    let case = case
        .set("/contract/envelope", json!({ "debezium": { "truncates": "drop" } }))
        .set("/postgres/delete", json!({ "soft": "deleted_at" }))
        .set("/postgres/only_if_newer", json!("lsn"));
    case.database.run("ALTER TABLE customers ADD COLUMN deleted_at timestamptz");
    produce(
        &case,
        &[
            change(1, "d", &customer(1, "Anna"), &none, 110),
            change(1, "u", &none, &customer(1, "Annie"), 108),
            change(5, "d", &customer(5, "Eve"), &none, 112),
            change(6, "r", &none, &customer(6, "Finn"), 113),
            change(6, "t", &none, &none, 114),
        ],
    );
    // A snapshot of the state before the delete comes in a later batch.
    produce(
        &case,
        &[change(5, "r", &none, &customer(5, "Eva"), 111), change(6, "u", &none, &customer(6, "Fynn"), 115)],
    );
    let marked = "SELECT concat_ws(' ', id, first_name, lsn, deleted_at IS NOT NULL) FROM customers ORDER BY 1";
    assert_eq!(case.database.texts(marked), ["1 Anna 110 t", "5 Eve 112 t", "6 Fynn 115 f"]);
    assert_eq!(case.kafka.read(&case.dead()).len(), 1);
}
