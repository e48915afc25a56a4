//! Tests every conversion of docs/tables.md on real columns, by arrays and by COPY, and the values that each rejects.

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::kafka::Record;
use xtask::Cache;
use xtask::servers::Registry;

use super::types::register;

const WIDE: &str = include_str!("wide.proto");
const GOOGLE_TYPE: &str = include_str!("google_type.proto");

/// Enough rows for a write by COPY.
const MANY: i64 = 2_500;

const TABLE: &str = r"
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''UTC''', current_database()); END $$;
CREATE TYPE role_t AS ENUM ('admin', 'user');
CREATE TYPE mood_t AS ENUM ('UNSPECIFIED', 'OK');
CREATE TYPE via_t AS ENUM ('shop');
CREATE DOMAIN short AS varchar(4);
CREATE DOMAIN code AS short CHECK (VALUE <> 'none');
CREATE TABLE wide (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, doubled bigint GENERATED ALWAYS AS (id * 2) STORED,
    amount numeric, exact numeric, pegged numeric(36,18), ratio numeric,
    tags text[], item_ids bigint[], moods mood_t[], ids uuid[], weights numeric[], seen timestamptz[], parts bytea[],
    tags_json jsonb, role role_t, address inet, code code, uid uuid, doc jsonb,
    at timestamptz, local timestamp, day date, tod time, iv interval, epoch timestamptz, epoch_day date,
    d date, t time, dt timestamptz, price numeric, money jsonb, dec numeric, took interval, took_json jsonb,
    note text, currency text, region text, retries int, mood mood_t,
    payload text, via via_t, unset text);
";

/// Every column except the key; the rows differ only in their keys.
const COLUMNS: &str = "amount, exact, pegged, ratio, tags, item_ids, moods, ids, weights, seen, parts, tags_json, role, address, \
    code, uid, doc, at, local, day, tod, iv, epoch, epoch_day, d, t, dt, price, money, dec, took, took_json, note, currency, \
    region, retries, mood, payload, via, unset";

fn wide() -> MessageDescriptor {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path());
    let files = protox::compile(["wide.proto"], [folder.path()]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("test.wide.v1.Wide").unwrap()
}

fn put(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("google/type")).unwrap();
    std::fs::write(folder.join("google/type/all.proto"), GOOGLE_TYPE).unwrap();
    std::fs::write(folder.join("wide.proto"), WIDE).unwrap();
}

fn event(id: i64) -> Value {
    json!({
        "id": id, "amount": "0.123456789012345678901234567890", "exact": "-92233720368547758.080", "ratio": 0.1,
        "tags": ["red", "with \"quote\" and , comma \\ {}", "", "NULL", "ü"], "itemIds": ["1550166368505037572", "-2"],
        "moods": ["MOOD_OK", "MOOD_UNSPECIFIED"], "ids": ["6F9619FF-8B86-D011-B42D-00C04FC964FF"],
        "weights": [0.1, -2.5, 1e20], "seen": ["1969-12-31T23:59:59.5Z", "0001-01-01T00:00:00Z"], "parts": ["AP8=", ""],
        "role": "admin", "address": "2001:DB8::1/64", "code": "ab", "uid": "b5YZ/4uG0BG0LQDAT8lk/w==",
        "doc": "{\"x\":{\"y\":1.10}}", "at": "2026-01-31T13:00:00.5+01:00", "day": "2026-02-28", "tod": "12:30:00.25",
        "iv": "P1Y2M3DT4H5M6.5S", "epoch": "1767225600000", "epochDay": 20454, "d": { "year": 2026, "month": 2, "day": 28 },
        "t": { "hours": 23, "minutes": 59, "seconds": 59, "nanos": 999_999_999 },
        "dt": { "year": 2026, "month": 1, "day": 31, "hours": 13, "utcOffset": "-3600s" },
        "price": { "currencyCode": "EUR", "units": "-12", "nanos": -500_000_000 }, "dec": { "value": "1.2300e2" },
        "took": "-1.500s", "note": "half\u{0}way", "mood": "MOOD_OK", "cash": {}, "channel": { "shop": "1970-01-01T00:00:00Z" },
    })
}

const ROW: &str = r#"(0.123456789012345678901234567890,-92233720368547758.080,123456789012345678.123456789012345678,0.1,"{red,""with \\""quote\\"" and , comma \\\\ {}"","""",""NULL"",ü}","{1550166368505037572,-2}","{OK,UNSPECIFIED}",{6f9619ff-8b86-d011-b42d-00c04fc964ff},"{0.1,-2.5,100000000000000000000}","{""1969-12-31 23:59:59.5+00"",""0001-01-01 00:00:00+00""}","{""\\\\x00ff"",""\\\\x""}","[""red"", ""with \\""quote\\"" and , comma \\\\ {}"", """", ""NULL"", ""ü""]",admin,2001:db8::1/64,ab,6f9619ff-8b86-d011-b42d-00c04fc964ff,"{""x"": {""y"": 1.10}}","2026-01-31 12:00:00.5+00","2026-01-31 12:00:00.5",2026-02-28,12:30:00.25,"1 year 2 mons 3 days 04:05:06.5","2026-01-01 00:00:00+00",2026-01-01,2026-02-28,23:59:59.999999,"2026-01-31 14:00:00+00",-12.5,"{""nanos"": -500000000, ""units"": ""-12"", ""currencyCode"": ""EUR""}",123.00,-00:00:01.5,"""-1.500s""",halfway,EUR,eu,7,OK,cash,shop,)"#;

fn case() -> Case {
    let columns = json!({
        "id": { "identity": "override" },
        "amount": { "as": "numeric(1000,500)" }, "exact": { "as": "numeric" },
        "pegged": { "header": "pegged", "as": "numeric" }, "ratio": { "as": "numeric" },
        "tags": {}, "item_ids": {}, "moods": { "as": { "enum_name": { "strip_prefix": "MOOD_" } } }, "ids": { "as": "array" },
        "weights": { "as": "numeric" }, "seen": {}, "parts": {}, "tags_json": { "field": "tags" },
        "role": {}, "address": {}, "code": {}, "uid": {}, "doc": { "as": "json_text" },
        "at": { "as": "iso" }, "local": { "field": "at", "as": "iso" }, "day": { "as": "iso" }, "tod": { "as": "iso" },
        "iv": { "as": "iso" },
        "epoch": { "as": { "time": ["unix_s", "unix_ms"], "between": ["2000-01-01", "2100-01-01T00:00:00Z"] } },
        "epoch_day": { "as": "unix_days" },
        "d": {}, "t": {}, "dt": {}, "price": { "as": "numeric(18,2)" }, "money": { "field": "price" }, "dec": {}, "took": {},
        "took_json": { "field": "took" }, "note": {}, "currency": { "default": "EUR" },
        "region": { "header": "region", "default": "eu" }, "retries": { "header": "retries", "as": "int", "default": 7 },
        "mood": { "as": "enum_name", "strip_prefix": "MOOD_" },
        "payload": { "oneof": "payload" }, "via": { "oneof": "channel.via" }, "unset": { "oneof": "unset" },
    });
    let case = Case::new("conversions")
        .set("/contract/message", json!("test.wide.v1.Wide"))
        .set("/contract/protos", json!("protos"))
        .set("/dead_letter/limit", json!("off"))
        .set("/postgres/table", json!("wide"))
        .set("/postgres/key", json!(["id"]))
        .set("/postgres/nul", json!("strip"))
        .set("/postgres/columns", columns);
    put(&case.folder().join("protos"));
    case.database.run(TABLE);
    case
}

#[test]
fn every_conversion_gives_the_same_row_by_arrays_and_by_copy() {
    let case = case().setup();
    let descriptor = wide();
    let record = |event: &Value| {
        let message = DynamicMessage::deserialize(descriptor.clone(), event).unwrap();
        Record::new("k", message.encode_to_vec()).header("pegged", "123456789012345678.123456789012345678")
    };
    let spoilt = |field: &str, value: Value| {
        let mut event = event(1_000_000);
        event[field] = value;
        record(&event)
    };
    let bad = [
        ("amount", "amount", json!("1,5")),
        ("exact", "exact", json!("")),
        ("moods", "moods", json!(["MOOD_HAPPY"])),
        ("ids", "ids", json!(["6f9619ff"])),
        ("role", "role", json!("nobody")),
        ("address", "address", json!("10.0.0.1/33")),
        ("code", "code", json!("abcde")),
        ("uid", "uid", json!("AAAA")),
        ("doc", "doc", json!("not json")),
        ("at", "at", json!("infinity")),
        ("day", "day", json!("2026-02-30")),
        ("tod", "tod", json!("24:00")),
        ("iv", "iv", json!("an hour")),
        ("epoch", "epoch", json!("1")),
        ("d", "d", json!({ "year": 2026, "month": 2 })),
        ("dt", "dt", json!({ "year": 2026, "month": 1, "day": 31 })),
        ("price", "price", json!({ "units": "1", "nanos": -1 })),
        ("dec", "dec", json!({ "value": "much" })),
        ("mood", "mood", json!("MOOD_HAPPY")),
        // The enum type has no such label.
        ("channel", "via", json!({ "web": "x" })),
    ];
    let mut records: Vec<Record> = (0..3).map(|id| record(&event(id))).collect();
    records.extend(bad.iter().map(|(field, _, value)| spoilt(field, value.clone())));
    records.push(record(&event(1_000_001)).header("pegged", "0.0000000000000000005"));
    case.kafka.produce(&case.source(), &records);
    case.drain();
    let rows = format!("SELECT DISTINCT ROW({COLUMNS})::text FROM wide");
    assert_eq!(case.database.texts(&rows), [ROW], "by arrays");
    assert_eq!(case.database.number("SELECT count(*) FROM wide"), 3);
    let fields: std::collections::BTreeSet<String> = case
        .kafka
        .read(&case.dead())
        .iter()
        .map(|letter| {
            assert_eq!(letter.header("tollgate.reason"), Some("row-value"), "{letter:?}");
            letter.header("tollgate.field").unwrap().to_owned()
        })
        .collect();
    let expected: std::collections::BTreeSet<String> =
        bad.iter().map(|(_, column, _)| (*column).to_owned()).chain(["pegged".to_owned()]).collect();
    assert_eq!(fields, expected);

    let records: Vec<Record> = (0..MANY).map(|id| record(&event(id))).collect();
    case.kafka.produce(&case.source(), &records);
    case.drain();
    assert_eq!(case.database.texts(&rows), [ROW], "by COPY");
    assert_eq!(case.database.number("SELECT count(*) FROM wide"), MANY);
    assert_eq!(case.database.number("SELECT sum(doubled - 2 * id)::int8 FROM wide"), 0);
}

#[test]
fn rows_are_deleted_by_keys_in_json_by_an_event_and_softly() {
    let lines = r#"syntax = "proto3"; package test.lines.v1;
        enum Op { OP_UPSERT = 0; OP_DELETE = 1; }
        message Line { string tenant = 1; int64 line_no = 2; string what = 3; Op op = 4; int64 version = 5; }
         message Key { int64 line_no = 1; string tenant = 2; }"#;
    let case = Case::new("deletes")
        .set("/contract/message", json!("test.lines.v1.Line"))
        .set("/contract/protos", json!("lines.proto"))
        .set("/contract/encoding", json!("json"))
        .set("/contract/tombstones", json!("delete"))
        .set("/output/key", json!(["tenant", "line_no"]))
        .set("/postgres/table", json!("lines"))
        .set("/postgres/key", json!(["tenant", "line_no"]))
        .set("/postgres/delete", json!({ "when": { "field": "op", "is": ["OP_DELETE"] } }))
        .set("/postgres/columns", json!({ "what": {} }));
    case.put("lines.proto", lines.as_bytes());
    let case = case.setup_with(1);
    let put = |tenant: &str, line: i64, what: &str, op: &str| {
        Record::new("k", json!({ "tenant": tenant, "lineNo": line, "what": what, "op": op }).to_string())
    };
    let gone = |key: &str| Record { value: None, ..Record::new(key, "") };
    let rows = "SELECT concat_ws(' ', tenant, line_no, what) FROM lines ORDER BY 1";
    case.kafka.produce(
        &case.source(),
        &[
            put("t1", 1, "x", "OP_UPSERT"),
            put("t1", 2, "y", "OP_UPSERT"),
            put("t2", 1, "z", "OP_UPSERT"),
            put("t2", 2, "back", "OP_UPSERT"),
            gone(r#"{"tenant":"t1","line_no":1}"#),
            put("t2", 1, "", "OP_DELETE"),
            put("t2", 2, "", "OP_DELETE"),
            put("t2", 2, "again", "OP_UPSERT"),
            gone(r#"{"tenant":"t1"}"#),
            gone("t1"),
        ],
    );
    case.drain();
    assert_eq!(case.database.texts(rows), ["t1 2 y", "t2 2 again"]);
    let letters = case.kafka.read(&case.dead());
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| (letter.header("tollgate.reason").unwrap(), letter.header("tollgate.field").unwrap()))
        .collect();
    assert_eq!(reasons, [("row-value", "line_no"), ("row-value", "tenant")]);
    let outputs = case.kafka.read(&case.output());
    assert_eq!(outputs[0].key.as_deref(), Some(&br#"{"tenant":"t1","line_no":1}"#[..]), "a key of two fields");

    // The same table again, in which deleted rows are kept.
    let case = case.set("/postgres/delete/soft", json!("deleted_at"));
    case.database.run("ALTER TABLE lines ADD COLUMN deleted_at timestamptz");
    case.kafka.produce(
        &case.source(),
        &[
            put("t1", 2, "y2", "OP_UPSERT"),
            gone(r#"{"tenant":"t1","line_no":2}"#),
            put("t2", 2, "", "OP_DELETE"),
            put("t3", 1, "new", "OP_UPSERT"),
        ],
    );
    case.drain();
    let marked = "SELECT concat_ws(' ', tenant, line_no, what, deleted_at IS NOT NULL) FROM lines ORDER BY 1";
    assert_eq!(case.database.texts(marked), ["t1 2 y2 t", "t2 2 again t", "t3 1 new f"]);
    case.kafka.produce(&case.source(), &[put("t2", 2, "alive", "OP_UPSERT")]);
    case.drain();
    assert_eq!(case.database.texts(marked)[1], "t2 2 alive f");

    // The same with keys that are Protobuf messages.
    let seen = case.kafka.read(&case.dead()).len();
    let case = case.set("/postgres/delete/key", json!({ "message": "test.lines.v1.Key" }));
    let gone = |key: Vec<u8>| Record { key: Some(key), ..Record::default() };
    let key = |tenant: &str, line: u8| [&[8, line, 18, 2][..], tenant.as_bytes()].concat();
    let reasons = |case: &Case| -> Vec<String> {
        let letters = case.kafka.read(&case.dead()).split_off(seen);
        letters.iter().map(|letter| letter.header("tollgate.message").unwrap().to_owned()).collect()
    };
    let upserts = [put("t2", 2, "alive", "OP_UPSERT"), put("t3", 1, "new", "OP_UPSERT")];
    case.kafka.produce(&case.source(), &upserts);
    case.kafka.produce(&case.source(), &[gone(key("t2", 2)), gone(br#"{"tenant":"t3","line_no":1}"#.to_vec())]);
    case.drain();
    assert_eq!(case.database.texts(marked), ["t1 2 y2 t", "t2 2 alive t", "t3 1 new f"]);
    assert!(reasons(&case)[0].starts_with("the record key is not a valid test.lines.v1.Key: "), "{:?}", reasons(&case));

    // The same with keys as serializers of a schema registry write them.
    let registry = Registry::start(&Cache::open().unwrap()).unwrap();
    let id = register(&registry, "lines-key", lines);
    let case =
        case.set("/contract/registry", json!({ "url": registry.url() })).set("/contract/encoding", json!("auto"));
    let framed = |index: u8, key: Vec<u8>| [&[0][..], &id.to_be_bytes(), &[2, index * 2], &key].concat();
    // The first key is a Line, the first message of the file; the second one is a Key.
    case.kafka.produce(&case.source(), &[gone(framed(1, key("t3", 1))), gone(framed(0, key("t3", 1)))]);
    case.drain();
    assert_eq!(case.database.texts(marked)[2], "t3 1 new t");
    let expected = format!("the record key: schema {id} names test.lines.v1.Line, but delete.key is test.lines.v1.Key");
    assert_eq!(reasons(&case)[1..], [expected]);

    // In a topic of envelopes a tombstone has no envelope.
    case.database.run("UPDATE lines SET deleted_at = NULL");
    let envelope = json!({ "message": "tollgate.envelope.v1.DomainEvent" });
    let case = case.set("/contract/registry", Value::Null).set("/contract/envelope", envelope);
    case.kafka.produce(&case.source(), &[gone(key("t1", 2))]);
    case.drain();
    assert_eq!(case.database.texts(marked), ["t1 2 y2 t", "t2 2 alive f", "t3 1 new f"]);

    // The same under only_if_newer: the newest event wins, whichever comes last.
    let case = case
        .set("/contract/envelope", Value::Null)
        .set("/contract/encoding", json!("json"))
        .set("/postgres/delete/key", Value::Null)
        .set("/contract/tombstones", json!("drop"))
        .set("/postgres/only_if_newer", json!("version"))
        .set("/postgres/columns/version", json!({}));
    case.database.run("ALTER TABLE lines ADD COLUMN version bigint");
    let versioned = |line: i64, version: i64, op: &str| {
        let event = json!({ "tenant": "v", "lineNo": line, "what": version.to_string(), "op": op, "version": version });
        Record::new("k", event.to_string())
    };
    case.kafka.produce(
        &case.source(),
        &[
            versioned(1, 2, "OP_DELETE"),
            versioned(1, 1, "OP_UPSERT"),
            versioned(2, 3, "OP_UPSERT"),
            versioned(2, 2, "OP_DELETE"),
            versioned(3, 1, "OP_UPSERT"),
            versioned(4, 2, "OP_DELETE"),
        ],
    );
    case.drain();
    // These are so many that they are written by COPY; the values that PostgreSQL stores are compared too.
    let many = (10..2_200).map(|line| versioned(line, 1, if line % 2 == 0 { "OP_DELETE" } else { "OP_UPSERT" }));
    let late = [versioned(3, 2, "OP_DELETE"), versioned(4, 1, "OP_UPSERT"), versioned(1, 3, "OP_UPSERT")];
    case.kafka.produce(&case.source(), &many.chain(late).collect::<Vec<_>>());
    case.drain();
    let newest = "SELECT concat_ws(' ', line_no, version, deleted_at IS NOT NULL) FROM lines
                   WHERE tenant = 'v' AND line_no < 10 ORDER BY 1";
    assert_eq!(case.database.texts(newest), ["1 3 f", "2 3 f", "3 2 t", "4 2 t"]);
    let halves =
        "SELECT count(*) FROM lines WHERE tenant = 'v' AND line_no > 9 AND (deleted_at IS NULL) = (line_no % 2 = 1)";
    assert_eq!(case.database.number(halves), 2_190);
}
