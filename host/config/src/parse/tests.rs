#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::reader::Position;
use proptest::prelude::*;
use serde_json::json;

/// The smallest valid pipeline; each case below breaks one part of it.
pub(crate) const LEAST: &str = "\
pipeline: payments
source:
  brokers: localhost:9092
  topic: payment-events
  group_id: payments-gate
  start: earliest
contract:
  protos: proto
  message: payments.v1.PaymentEvent
dead_letter:
  topic: payments.dlq
postgres:
  url: postgres://app:s3cret@localhost/app
  table: payment_events
  key: [transaction_id]
  columns:
    currency:
    amount: { as: \"numeric(18,2)\" }
";

/// A pipeline with every key, under Tollgate's own names.
pub(crate) const FULL: &str = include_str!("../../../../docs/pipeline.full.yaml");

fn env(name: &str) -> Option<String> {
    match name {
        "KAFKA_BROKERS" => Some("kafka:9092".to_owned()),
        "DATABASE_URL" => Some("postgres://app:s3cret@db/app?sslmode=require&sslpassword=s3cret".to_owned()),
        "SECRET" => Some("s3cret".to_owned()),
        _ => None,
    }
}

pub(crate) fn least() -> Pipeline {
    parse(LEAST).unwrap()
}

fn parse(text: &str) -> Result<Pipeline, String> {
    Pipeline::parse(Path::new("p.yaml"), text, &env).map_err(|errors| errors.to_string())
}

/// Returns [`LEAST`] with one text replaced.
fn spoil(from: &str, to: &str) -> String {
    assert!(LEAST.contains(from), "{from:?} is not in the pipeline");
    LEAST.replacen(from, to, 1)
}

fn with(more: &str) -> String {
    format!("{LEAST}{more}")
}

#[test]
fn the_word_null_and_yamls_null_are_equal() {
    let absent = |word: &str| {
        let pipeline = parse(&spoil("protos: proto", &format!("protos: proto\n  absent: {word}"))).unwrap();
        pipeline.contract.policies.absent
    };
    assert_eq!([absent("null"), absent("'null'"), absent("~")], [tollgate_contract::Absent::Null; 3]);
    assert_eq!(absent("reject"), tollgate_contract::Absent::Reject);
}

#[test]
fn the_least_pipeline_has_every_default() {
    let pipeline = parse(LEAST).unwrap();
    let expected = json!({
        "pipeline": "payments",
        "source": {
            "brokers": "localhost:9092", "topic": "payment-events", "group_id": "payments-gate", "start": "earliest",
            "security": { "tls": null, "sasl": null }, "session_timeout": "30s", "heartbeat_interval": "3s",
            "max_poll_interval": "5m", "stall_after": "1m", "group_instance_id": null, "kafka": {},
        },
        "contract": {
            "protos": ["proto"], "descriptor_set": null, "message": "payments.v1.PaymentEvent", "encoding": "auto",
            "unknown_fields": "allow", "unknown_enums": "reject", "tombstones": "dead_letter", "max_bytes": "1MiB",
            "registry": null, "accept_versions": null, "envelope": null, "type_header": null,
            "unknown_types": "dead_letter",
            "unset_oneofs": "allow", "unknown_variants": "warn", "duplicate_members": "reject", "absent": "default", "coerce": {},
            "clock_skew": {},
            "mode": "dead_letter",
        },
        "transforms": [],
        "output": null,
        "dead_letter": {
            "topic": "payments.dlq", "alert_depth": null,
            "limit": { "share": 0.5, "of_at_least": 1000, "within": "1m" },
        },
        "postgres": {
            "url": "postgres://app:***@localhost/app", "tls_ca": null, "table": "payment_events",
            "key": ["transaction_id"], "only_if_newer": null, "nul": "reject",
            "delete": { "key": null, "when": null, "soft": null }, "partitions": null,
            "columns": {
                "transaction_id": { "field": "transaction_id" },
                "currency": { "field": "currency" },
                "amount": { "field": "amount", "as": "numeric(18,2)" },
            },
        },
        "delivery": {
            "mode": "effectively_once", "transaction_timeout": "15s",
            "batch": { "max_events": 16000, "max_bytes": "4MiB", "max_wait": "5ms" },
        },
        "retry_policy": { "max_retries": 3, "initial_backoff": "100ms", "max_backoff": "30s", "multiplier": 2.0, "breaker_threshold": 5 },
        "backpressure": {
            "lag_threshold": 100_000, "pause_on_threshold": true, "resume_lag_margin": 50_000,
            "max_backlog_bytes": "64MiB",
        },
        "admin": { "listen": "127.0.0.1:8080", "allow_remote": false, "hosts": [] },
        "acknowledge": {},
        "lanes": default_lanes(),
        "shutdown": "30s",
        "start_deadline": "1m",
    });
    assert_eq!(pipeline.redacted_json(), expected);
    assert_eq!(pipeline.base, Path::new("."));
    assert_eq!(pipeline.postgres.url.expose(), "postgres://app:s3cret@localhost/app");
    assert_eq!(pipeline.places.find("contract.message"), Position { line: 9, column: 3 });
    let names: Vec<&str> = pipeline.types[0].mapping.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["transaction_id", "currency", "amount"], "missing key columns first, then file order");
}

/// Checks that each text is refused with exactly these lines; all differences are reported together.
fn say_exactly<'c>(cases: impl IntoIterator<Item = (String, &'c str)>) {
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(text, expected)| {
            let said = parse(&text).err().unwrap_or_default();
            let expected = format!("p.yaml:{expected}");
            (said != expected).then(|| format!("actual:   {said}\nexpected: {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Each case has one invalid value: the original text, its replacement, and the exact message.
#[test]
fn each_bad_value_is_named_with_its_line() {
    let cases = [
        (
            "pipeline: payments",
            "pipeline: a/b",
            "1:11: pipeline: a/b is not a pipeline name; it has 1 to 100 letters, digits, ., _ and -",
        ),
        ("pipeline: payments\n", "", "1:1: pipeline: required key is missing"),
        (
            "localhost:9092",
            "localhost",
            "3:12: source.brokers: localhost is not a list of brokers; write host:port, separated by commas",
        ),
        (
            "localhost:9092",
            "SSL://localhost:9092",
            "3:12: source.brokers: SSL://localhost:9092 is not a list of brokers; write host:port, separated by commas",
        ),
        (
            "localhost:9092",
            "${NOT_SET}",
            "3:12: source.brokers: the variable NOT_SET is not set; set it, or write a default: ${NOT_SET:default}",
        ),
        (
            "topic: payment-events",
            "topic: payment events",
            "4:10: source.topic: \"payment events\" is not a topic name; Kafka allows 1 to 249 letters, digits, ., _ and -",
        ),
        ("  topic: payment-events\n", "", "2:1: source.topic: required key is missing"),
        (
            "topic: payment-events",
            "topics: payment-events",
            "2:1: source.topic: required key is missing\np.yaml:4:3: source.topics: unknown key; did you mean topic?",
        ),
        ("topic: payment-events", "topic: [a, b]", "4:3: source.topic: must be one value, not a list"),
        ("  group_id: payments-gate\n", "", "2:1: source.group_id: required key is missing"),
        ("  start: earliest\n", "", "2:1: source.start: required key is missing"),
        (
            "start: earliest",
            "start: erliest",
            "6:10: source.start: erliest is none of earliest, latest, committed, a time such as 2026-01-31T12:00:00Z; did you mean earliest?",
        ),
        (
            "start: earliest",
            "start: 1767225600",
            "6:10: source.start: 1767225600 is too small for Unix milliseconds; write the time as 2026-01-31T12:00:00Z",
        ),
        (
            "start: earliest",
            "auto_offset_reset: none",
            "6:22: source.auto_offset_reset: none is neither earliest nor latest",
        ),
        (
            "start: earliest",
            "start: earliest\n  auto_offset_reset: latest",
            "7:3: source.auto_offset_reset: is already set by source.start; keep one of the two",
        ),
        (
            "start: earliest",
            "start: earliest\n  session_timeout: 30",
            "7:20: source.session_timeout: 30 is a duration without a unit; did you mean 30ms or 30s?",
        ),
        (
            "start: earliest",
            "start: earliest\n  session_timeout_ms: 30s",
            "7:23: source.session_timeout_ms: 30s is not a number of milliseconds; the key's suffix _ms is the unit",
        ),
        (
            "start: earliest",
            "start: earliest\n  session_timeout: 2h",
            "7:20: source.session_timeout: 2h is out of range; it must be 1ms to 1h",
        ),
        (
            "start: earliest",
            "start: earliest\n  session_timeout: 10s\n  heartbeat_interval: 10s",
            "8:3: source.heartbeat_interval: must be below session_timeout (10s), or a healthy member loses its partitions",
        ),
        (
            "start: earliest",
            "start: earliest\n  session_timeout: 5m",
            "7:3: source.session_timeout: must be below max_poll_interval (300s)",
        ),
        (
            "start: earliest",
            "start: earliest\n  sesion_timeout: 5s",
            "7:3: source.sesion_timeout: unknown key; did you mean session_timeout?",
        ),
        (
            "start: earliest",
            "start: earliest\n  enable_auto_commit: true",
            "7:23: source.enable_auto_commit: true cannot be honoured: an offset is committed together with its rows and outputs, never by a timer; write false or remove the key",
        ),
        (
            "start: earliest",
            "start: earliest\n  isolation_level: read_uncommitted",
            "7:20: source.isolation_level: read_uncommitted cannot be honoured: records of aborted transactions would be delivered; write read_committed or remove the key",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { enable.auto.commit: true }",
            "7:12: source.kafka.enable.auto.commit: belongs to the delivery protocol and cannot be set: an offset is committed together with its rows and outputs, never by a timer",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { isolation.level: read_uncommitted }",
            "7:12: source.kafka.isolation.level: belongs to the delivery protocol and cannot be set: records of aborted transactions must not be delivered",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { transactional.id: x }",
            "7:12: source.kafka.transactional.id: belongs to the delivery protocol and cannot be set: the ids are {pipeline}-{slot}-{lane}, and a takeover uses them for fencing",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { group.id: x }",
            "7:12: source.kafka.group.id: has its own key: source.group_id",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { auto.offset.reset: latest }",
            "7:12: source.kafka.auto.offset.reset: has its own key: source.start",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { group.protocol: consumer }",
            "7:12: source.kafka.group.protocol: belongs to the delivery protocol and cannot be set: a rebalance moves partitions one by one (cooperative-sticky, classic protocol)",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { partition.assignment.strategy: range }",
            "7:12: source.kafka.partition.assignment.strategy: belongs to the delivery protocol and cannot be set: a rebalance moves partitions one by one (cooperative-sticky, classic protocol)",
        ),
        (
            "start: earliest",
            "start: earliest\n  kafka: { fetch.wait.max.ms: [1] }",
            "7:12: source.kafka.fetch.wait.max.ms: must be one value, not a list",
        ),
        (
            "start: earliest",
            "start: earliest\n  security: { tls: maybe }",
            "7:20: source.security.tls: maybe is neither true nor false",
        ),
        (
            "start: earliest",
            "start: earliest\n  security: { tls: { certificate: a.pem } }",
            "7:22: source.security.tls.certificate: a client's certificate needs both certificate and key",
        ),
        (
            "start: earliest",
            "start: earliest\n  security: { sasl: { mechanism: scram-sha-512, username: u, password: p } }",
            "7:34: source.security.sasl.mechanism: scram-sha-512 is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; did you mean SCRAM-SHA-512?",
        ),
        (
            "start: earliest",
            "start: earliest\n  security: { sasl: { mechanism: PLAIN, username: u } }",
            "7:15: source.security.sasl.password: required key is missing",
        ),
        (
            "  protos: proto\n",
            "",
            "7:1: contract.protos: required key is missing: protos (.proto files or a folder) or descriptor_set",
        ),
        (
            "protos: proto",
            "protos: proto\n  descriptor_set: a.bin",
            "9:3: contract.descriptor_set: protos already sets the source of the message types; keep one of the two",
        ),
        ("protos: proto", "protos: []", "8:3: contract.protos: lists no files or folders"),
        (
            "payments.v1.PaymentEvent",
            ".payments.v1.PaymentEvent",
            "9:12: contract.message: .payments.v1.PaymentEvent is not the full name of a message type, such as payments.v1.PaymentEvent; did you mean payments.v1.PaymentEvent?",
        ),
        (
            "protos: proto",
            "protos: proto\n  encoding: protobuff",
            "9:13: contract.encoding: protobuff is none of auto, protobuf, json; did you mean protobuf?",
        ),
        (
            "protos: proto",
            "protos: proto\n  unknown_fields: deny",
            "9:19: contract.unknown_fields: deny is none of allow, warn, reject",
        ),
        (
            "protos: proto",
            "protos: proto\n  unknown_enums: keeep",
            "9:18: contract.unknown_enums: keeep is none of reject, keep; did you mean keep?",
        ),
        (
            "protos: proto",
            "protos: proto\n  unknown_enums: fallback",
            "9:18: contract.unknown_enums: fallback needs a value for each enum: { fallback: { payments.v1.Currency: \
             CURRENCY_UNSPECIFIED } }",
        ),
        (
            "protos: proto",
            "protos: proto\n  unknown_enums: { keep: true }",
            "9:3: contract.unknown_enums.fallback: required key is missing\np.yaml:9:20: contract.unknown_enums.keep: unknown key",
        ),
        (
            "protos: proto",
            "protos: proto\n  unset_oneofs: warn",
            "9:17: contract.unset_oneofs: warn is none of allow, reject",
        ),
        (
            "protos: proto",
            "protos: proto\n  unknown_variants: keep",
            "9:21: contract.unknown_variants: keep is none of allow, warn, reject",
        ),
        (
            "protos: proto",
            "protos: proto\n  absent: zero",
            "9:11: contract.absent: zero is none of default, null, reject",
        ),
        (
            "protos: proto",
            "protos: proto\n  mode: observed",
            "9:9: contract.mode: observed is none of observe, dead_letter, halt; did you mean observe?",
        ),
        (
            "protos: proto",
            "protos: proto\n  clock_skew: { at: {} }",
            "9:17: contract.clock_skew.at: has no bound; set past, future or both",
        ),
        (
            "protos: proto",
            "protos: proto\n  clock_skew: { at: { future: 5m, as: ms } }",
            "9:39: contract.clock_skew.at.as: ms is none of unix_s, unix_ms, unix_us",
        ),
        (
            "protos: proto",
            "protos: proto\n  tombstones: remove",
            "9:15: contract.tombstones: remove is none of dead_letter, drop, delete",
        ),
        (
            "protos: proto",
            "protos: proto\n  max_bytes: 1mb",
            "9:14: contract.max_bytes: 1mb is not a size; write a whole number and a unit: 500kB, 64KiB, 1MiB",
        ),
        (
            "protos: proto",
            "protos: proto\n  max_bytes: 1GiB",
            "9:14: contract.max_bytes: 1GiB is out of range; it must be 1B to 64MiB",
        ),
        (
            "dead_letter:\n  topic: payments.dlq\n",
            "",
            "1:1: dead_letter: required key is missing: the topic of rejected events, dead_letter: { topic: … }",
        ),
        ("topic: payments.dlq", "limit: off", "10:1: dead_letter.topic: required key is missing"),
        (
            "topic: payments.dlq",
            "topic: payment-events",
            "11:3: dead_letter.topic: payment-events is the source topic, so the pipeline would consume its own output",
        ),
        ("topic: payments.dlq", "topic: d\n  limit: none", "12:10: dead_letter.limit: none is none of off"),
        (
            "topic: payments.dlq",
            "topic: d\n  limit: { share: 50 }",
            "12:19: dead_letter.limit.share: 50 is out of range; it must be 0.0001 to 1",
        ),
        (
            "topic: payments.dlq",
            "topic: d\n  limit: { of_at_least: 0 }",
            "12:25: dead_letter.limit.of_at_least: 0 is out of range; it must be 1 to 18446744073709551615",
        ),
        (
            "topic: payments.dlq",
            "topic: d\n  limit: { within: 1ms }",
            "12:20: dead_letter.limit.within: 1ms is out of range; it must be 1s to 1h",
        ),
        (
            "url: postgres://app:s3cret@localhost/app",
            "url: mysql://app:s3cret@localhost/app",
            "13:8: postgres.url: the value is not a URL of the form postgres://user:password@host:5432/database?sslmode=…",
        ),
        (
            "table: payment_events",
            "table: a.b.c",
            "14:10: postgres.table: a.b.c is not a table; write table or schema.table",
        ),
        (
            "table: payment_events",
            "table: '\"payments\"'",
            "14:10: postgres.table: \"payments\" contains a quotation mark; write the name without quotes, as \\d shows it",
        ),
        (
            "key: [transaction_id]",
            "key: transaction_id",
            "15:3: postgres.key: must be a list: [a, b], or one line - a for each item\np.yaml:15:3: postgres.key: lists no column; an upsert needs the columns of a unique index",
        ),
        (
            "key: [transaction_id]",
            "key: []",
            "15:3: postgres.key: lists no column; an upsert needs the columns of a unique index",
        ),
        (
            "    currency:\n",
            "    currency: { header: c, absent: null }\n",
            "17:28: postgres.columns.currency.absent: applies to fields, but the column gets its value from elsewhere",
        ),
        ("key: [transaction_id]", "key: [a, a]", "15:3: postgres.key: lists a twice"),
        (
            "key: [transaction_id]",
            "key: [\"a-b\"]",
            "15:3: postgres.key: a-b is not a valid field name; set its source in columns",
        ),
        (
            "    currency:\n",
            "    currency: currency\n",
            "17:5: postgres.columns.currency: must be a mapping such as { field: currency }",
        ),
        (
            "    currency:\n",
            "    currency: { fild: a }\n",
            "17:17: postgres.columns.currency.fild: unknown key; did you mean field?",
        ),
        (
            "    currency:\n",
            "    currency:\n    currency:\n",
            "18:5: postgres.columns.currency: duplicate key; it is already set on line 17",
        ),
        (
            "    currency:\n",
            "    currency: { field: a..b }\n",
            "17:24: postgres.columns.currency.field: a..b is not a field's path; write names with dots between, such as payer.address.city",
        ),
        (
            "    currency:\n",
            "    currency: { field: a, header: b }\n",
            "17:27: postgres.columns.currency.header: the column's value already comes from field; keep one of the two",
        ),
        (
            "    currency:\n",
            "    currency: { record: ofset }\n",
            "17:25: postgres.columns.currency.record: ofset is none of topic, partition, offset, timestamp, key, digest; did you mean offset?",
        ),
        (
            "    currency:\n",
            "    currency: { now: false }\n",
            "17:22: postgres.columns.currency.now: false has no effect; remove the key",
        ),
        (
            "    currency:\n",
            "    currency: { now: true, as: text }\n",
            "17:28: postgres.columns.currency.as: now is PostgreSQL's own time and needs no conversion",
        ),
        (
            "    currency:\n",
            "    currency: { now: true, add: true }\n",
            "17:28: postgres.columns.currency.add: add needs a number; now is a time",
        ),
        (
            "    currency:\n",
            "    currency: { value: 7 }\n",
            "17:17: postgres.columns.currency.value: a constant can only be added; write add: instead of value:",
        ),
        (
            "    currency:\n",
            "    currency: { add: 1.5 }\n",
            "17:22: postgres.columns.currency.add: 1.5 is neither a whole number nor a field's path nor true",
        ),
        (
            "    currency:\n",
            "    currency: { add: 1, insert_only: true }\n",
            "17:17: postgres.columns.currency.add: add cannot be combined with insert_only; remove one of the two",
        ),
        (
            "    currency:\n",
            "    currency: { as: unix }\n",
            "17:21: postgres.columns.currency.as: unix is none of unix_s, unix_ms, unix_us, unix_days, iso, enum_name, int, numeric, text, jsonb, json_text, uuid, array, numeric(p,s); did you mean unix_days?",
        ),
        (
            "    currency:\n",
            "    currency: { as: numeric(2) }\n",
            "17:21: postgres.columns.currency.as: numeric(2) is neither numeric, which keeps every digit, nor numeric(p,s), such as \"numeric(18,2)\"",
        ),
        (
            "    currency:\n",
            "    currency: { as: \"numeric(2,3)\" }\n",
            "17:21: postgres.columns.currency.as: numeric(2,3) is out of range; p is 1 to 1000 and s at most p",
        ),
        (
            "    currency:\n",
            "    currency: { as: { time: [iso, unix_s, unix_ms] } }\n",
            "17:17: postgres.columns.currency.as.between: is missing: without bounds the first form for numbers would accept every number",
        ),
        (
            "    currency:\n",
            "    currency: { as: { time: [iso, unixms], between: [2000-01-01, 2100-01-01] } }\n",
            "17:35: postgres.columns.currency.as.time[1]: unixms is none of iso, unix_s, unix_ms, unix_us, unix_days; did you mean unix_ms?",
        ),
        (
            "    currency:\n",
            "    currency: { as: { time: iso, between: [2100-01-01, 2000-01-01] } }\n",
            "17:34: postgres.columns.currency.as.between: must be two times, the earlier one first: [2000-01-01, 2100-01-01]",
        ),
        (
            "    currency:\n",
            "    currency: { oneof: payload, field: a }\n",
            "17:17: postgres.columns.currency.oneof: the column's value already comes from field; keep one of the two",
        ),
        (
            "    currency:\n",
            "    currency: { oneof: payload, as: enum_name }\n",
            "17:33: postgres.columns.currency.as: the name of a oneof's branch needs no conversion; its column is a text or an enum type",
        ),
        (
            "    currency:\n",
            "    currency: { oneof: payload, add: true }\n",
            "17:33: postgres.columns.currency.add: add needs a number; the name of a oneof's branch is a text",
        ),
        (
            "  protos: proto\n",
            "  protos: proto\n  coerce: { at: { time: [iso, unix_s, unix_ms] } }\n",
            "9:13: contract.coerce.at.between: is missing: without bounds the first form for numbers would accept every number",
        ),
        (
            "  protos: proto\n",
            "  protos: proto\n  coerce: { at: { time: unix_days } }\n",
            "9:19: contract.coerce.at.time: lists unix_days, which is a date; a Timestamp allows iso, unix_s, unix_ms and unix_us",
        ),
        (
            "  protos: proto\n",
            "  protos: proto\n  encoding: protobuf\n  coerce: { at: { time: iso } }\n",
            "10:3: contract.coerce: applies only to JSON, but contract.encoding is protobuf; remove it",
        ),
        (
            "  protos: proto\n",
            "  protos: proto\n  coerce: { a..b: { time: iso } }\n",
            "9:13: contract.coerce.a..b: the field is not a field's path; write names with dots between, such as payer.address.city",
        ),
        (
            "    currency:\n",
            "    currency: { default: EUR, absent: reject }\n",
            "17:17: postgres.columns.currency.default: already sets the value of an unset field; remove absent",
        ),
        (
            "    currency:\n",
            "    currency: { now: true, default: EUR }\n",
            "17:28: postgres.columns.currency.default: has no effect, because the column's value is never missing",
        ),
        (
            "    currency:\n",
            "    currency: { identity: overide }\n",
            "17:27: postgres.columns.currency.identity: overide is none of override; did you mean override?",
        ),
        (
            "  columns:\n",
            "  delete: { key: json, when: { field: op } }\n  columns:\n",
            "16:24: postgres.delete.when.is: lists no value; list the values that delete the row",
        ),
        (
            "  columns:\n",
            "  delete: { soft: transaction_id }\n  columns:\n",
            "16:13: postgres.delete.soft: transaction_id is a key column, which cannot mark a row as deleted",
        ),
        (
            "  columns:\n",
            "  only_if_newer: currency\n  delete: { when: { field: op, is: [d] } }\n  columns:\n",
            "17:13: postgres.delete.when: with only_if_newer a deleted row keeps no version, so an older event would create it again; set delete.soft, so that the row stays, marked, with its version",
        ),
        (
            "  columns:\n",
            "  partitions: { column: currency, every: month }\n  columns:\n",
            "16:17: postgres.partitions.column: currency is not in the key, but a unique index over all partitions must contain the partition column; add it to the key (two events that differ only in currency are then two rows)",
        ),
        (
            "  columns:\n",
            "  partitions: { column: transaction_id, every: months, ahead: 0 }\n  columns:\n",
            "16:48: postgres.partitions.every: months is none of day, week, month, year; did you mean month?\np.yaml:16:63: postgres.partitions.ahead: 0 is out of range; it must be 1 to 366",
        ),
        ("  columns:\n", "  nul: drop\n  columns:\n", "16:8: postgres.nul: drop is none of reject, strip, replace"),
        (
            "    currency:\n",
            "    currency: { as: text, strip_prefix: A_ }\n",
            "17:27: postgres.columns.currency.strip_prefix: needs as: enum_name",
        ),
        (
            "    currency:\n",
            "    currency: { as: { int: {} } }\n",
            "17:17: postgres.columns.currency.as.time: required key is missing: only the conversions time and enum_name have settings\np.yaml:17:23: postgres.columns.currency.as.int: unknown key",
        ),
        (
            "    currency:\n",
            "    a-b:\n",
            "17:5: postgres.columns.a-b: a-b is not a valid field name; set the source of its value: field, oneof, header, record or now",
        ),
        (
            "    currency:\n",
            "    transaction_id: { insert_only: true }\n",
            "17:5: postgres.columns.transaction_id: a key column is never updated; remove insert_only",
        ),
        (
            "    currency:\n",
            "    transaction_id: { add: 1 }\n",
            "17:5: postgres.columns.transaction_id: a key column cannot be added to, because it identifies the row",
        ),
        (
            "    currency:\n",
            "    transaction_id: { now: true }\n",
            "17:5: postgres.columns.transaction_id: a key column cannot be now, because a repeated event would be a new row",
        ),
        (
            "  columns:\n",
            "  only_if_newer: version\n  columns:\n",
            "16:3: postgres.only_if_newer: version is not among the columns",
        ),
        (
            "  columns:\n",
            "  only_if_newer: transaction_id\n  columns:\n",
            "16:3: postgres.only_if_newer: transaction_id is a key column, which never changes within a row",
        ),
        (
            "  columns:\n",
            "  only_if_newer: at\n  columns:\n    at: { now: true }\n",
            "16:3: postgres.only_if_newer: at must get its value from the event (a field, a header or record metadata)",
        ),
        (
            "  columns:\n",
            "  only_if_newer: currency\n  columns:\n    n: { add: 1 }\n",
            "18:5: postgres.columns.n: add cannot be combined with only_if_newer, because a folded batch does not know which of its events count; remove one of the two",
        ),
    ];
    say_exactly(cases.map(|(from, to, expected)| (spoil(from, to), expected)));
}

#[test]
fn each_bad_value_of_the_sections_with_defaults_is_named_with_its_line() {
    let cases = [
        ("trasforms: []", "19:1: trasforms: unknown key; did you mean transforms?"),
        ("transforms: [{}]", "19:14: transforms[0].component: required key is missing"),
        ("transforms: [a.wasm]", "19:14: transforms[0]: must be a mapping of keys, not one value"),
        (
            "transforms: [{ component: a, ceiling: { fuel: 0 } }]",
            "19:47: transforms[0].ceiling.fuel: 0 is out of range; it must be 1 to 18446744073709551615",
        ),
        (
            "transforms: [{ component: a, ceiling: { memory: 1KiB } }]",
            "19:49: transforms[0].ceiling.memory: 1KiB is out of range; it must be 64KiB to 4GiB",
        ),
        (
            "transforms: [{ component: a, ceiling: { deadline: 1h } }]",
            "19:51: transforms[0].ceiling.deadline: 1h is out of range; it must be 1ms to 5m",
        ),
        (
            "transforms: [{ component: a, ceiling: { compile_time: 100ms } }]",
            "19:55: transforms[0].ceiling.compile_time: 100ms is out of range; it must be 1s to 10m",
        ),
        (
            "transforms: [{ component: a, ceiling: { output: 0 } }]",
            "19:49: transforms[0].ceiling.output: 0 is out of range; it must be 1B to 1GiB",
        ),
        (
            "transforms: [{ component: a, ceiling: { max_outputs: 0 } }]",
            "19:54: transforms[0].ceiling.max_outputs: 0 is out of range; it must be 1 to 100000",
        ),
        (
            "transforms: [{ component: a, config: [1] }]",
            "19:30: transforms[0].config: must be a mapping, because it overrides the component's configuration key by key",
        ),
        (
            "transforms: [{ component: a, routes: { eu: payment-events } }]",
            "19:40: transforms[0].routes.eu: payment-events is the source topic, so the pipeline would consume its own output",
        ),
        (
            "transforms: [{ component: a, routes: { eu: payments.dlq } }]",
            "19:40: transforms[0].routes.eu: payments.dlq is the dead letter topic, so readers could not distinguish outputs from dead letters",
        ),
        (
            "transforms: [{ component: a, routes: { \"e u\": t } }]",
            "19:40: transforms[0].routes.e u: the route's name is not a route's name; it has letters, digits, ., _ and -",
        ),
        (
            "transforms: [{ component: a, routes: { eu: { topic: eu } } }]",
            "19:40: transforms[0].routes.eu.message: required key is missing",
        ),
        (
            "transforms: [{ component: a, routes: { eu: { message: a.v1.B } } }]",
            "19:40: transforms[0].routes.eu: has no destination; set topic, postgres, or both",
        ),
        (
            "transforms: [{ component: a, routes: { eu: { message: a.v1.B, topic: payments.dlq } } }]",
            "19:63: transforms[0].routes.eu.topic: payments.dlq is the dead letter topic, so readers could not distinguish outputs from dead letters",
        ),
        (
            "transforms: [{ component: a, routes: { eu: { message: a.v1.B, key: id, postgres: { table: t, key: [id], columns: {} } } } }]",
            "19:63: transforms[0].routes.eu.key: applies to records, but the route has no topic; set topic or remove this key",
        ),
        (
            "transforms: [{ component: a, routes: { eu: { message: a.v1.B, postgres: { table: t, key: [id] } } } }]",
            "19:63: transforms[0].routes.eu.postgres.columns: required key is missing",
        ),
        (
            "transforms: [{ component: a, routes: { eu: { message: a.v1.B, postgres: { table: payment_events, key: [id], columns: {} } } } }]",
            "19:75: transforms[0].routes.eu.postgres.table: payment_events is also the table of the pipeline, with another key or \
             other columns, so their events could not be written in order; give both the same key, columns (in the same order) \
             and modes, or separate tables",
        ),
        ("output: {}", "19:1: output.topic: required key is missing"),
        (
            "output: { topic: payments.dlq }",
            "19:11: output.topic: payments.dlq is the dead letter topic, so readers could not distinguish outputs from dead letters",
        ),
        (
            "output: { topic: payment-events }",
            "19:11: output.topic: payment-events is the source topic, so the pipeline would consume its own output",
        ),
        ("output: { topic: a, partition: random }", "19:32: output.partition: random is none of by_key, same"),
        (
            "output: { topic: a, contract: 1a }",
            "19:31: output.contract: 1a is not the full name of a message type, such as payments.v1.PaymentEvent",
        ),
        (
            "output: { topic: a, key: \"a b\" }",
            "19:26: output.key: \"a b\" is not a field's path; write names with dots between, such as payer.address.city",
        ),
        (
            "delivery: { mode: exactly_once }",
            "19:19: delivery.mode: exactly_once is none of effectively_once, at_least_once",
        ),
        (
            "delivery: { transaction_timeout: 1h }",
            "19:34: delivery.transaction_timeout: 1h is out of range; it must be 1s to 15m",
        ),
        (
            "delivery: { transaction_timeout: 5m }",
            "19:13: delivery.transaction_timeout: must be below source.max_poll_interval (300s): a transaction must end before its member is removed from the group",
        ),
        (
            "delivery: { transaction_timeout: 5s, batch: { max_wait: 5s } }",
            "19:47: delivery.batch.max_wait: must be below delivery.transaction_timeout (5s)",
        ),
        (
            "delivery: { processed_ids: { ttl: 1d } }",
            "19:13: delivery.processed_ids.header: set the location of an event's id: `header: NAME`, `field: PATH`, or `record: key`",
        ),
        (
            "delivery: { processed_ids: { header: a, record: key } }",
            "19:41: delivery.processed_ids.record: the id already comes from header; keep one of the two",
        ),
        (
            "delivery: { processed_ids: { record: key, ttl: 400d } }",
            "19:48: delivery.processed_ids.ttl: 400d is out of range; it must be 1m to 8760h",
        ),
        (
            "delivery: { batch: { max_events: 0 } }",
            "19:34: delivery.batch.max_events: 0 is out of range; it must be 1 to 100000",
        ),
        (
            "delivery: { batch: { max_bytes: 1kB } }",
            "19:22: delivery.batch.max_bytes: must be at least contract.max_bytes (1MiB), so that one event fits",
        ),
        (
            "delivery: { batch: { max_wait: 25ms, latency_target: 100ms } }",
            "19:38: delivery.batch.latency_target: cannot be combined with max_wait, which also sets how long a batch waits; keep one of the two",
        ),
        (
            "delivery: { transaction_timeout: 5s, batch: { latency_target: 5s } }",
            "19:47: delivery.batch.latency_target: must be below delivery.transaction_timeout (5s)",
        ),
        (
            "delivery: { batch: { max_wait: 25 } }",
            "19:32: delivery.batch.max_wait: 25 is a duration without a unit; did you mean 25ms or 25s?",
        ),
        (
            "retry_policy: { max_retries: -1 }",
            "19:30: retry_policy.max_retries: -1 is not a whole number; write digits only",
        ),
        (
            "retry_policy: { breaker_threshold: 0 }",
            "19:36: retry_policy.breaker_threshold: 0 is out of range; it must be 1 to 1000",
        ),
        (
            "retry_policy: { initial_backoff_ms: 60000, max_backoff: 30s }",
            "19:17: retry_policy.initial_backoff_ms: must not exceed max_backoff (30s)",
        ),
        (
            "retry_policy: { multiplier: 0.5 }",
            "19:29: retry_policy.multiplier: 0.5 is out of range; it must be 1 to 10",
        ),
        (
            "retry_policy: { multiplier: 2, backoff_multiplier: 2 }",
            "19:32: retry_policy.backoff_multiplier: is already set by retry_policy.multiplier; keep one of the two",
        ),
        (
            "backpressure: { resume_lag_margin: 100000 }",
            "19:17: backpressure.resume_lag_margin: must be below lag_threshold (100000)",
        ),
        (
            "backpressure: { lag_threshold: 3999 }",
            "19:17: backpressure.lag_threshold: must be at least delivery.batch.max_events (16000), or no batch can fill",
        ),
        (
            "backpressure: { max_backlog_bytes: 1MiB }",
            "19:17: backpressure.max_backlog_bytes: must be at least delivery.batch.max_bytes (4MiB), or no batch can fill",
        ),
        (
            "backpressure: { pause_on_threshold: 1 }",
            "19:37: backpressure.pause_on_threshold: 1 is neither true nor false; did you mean true?",
        ),
        (
            "admin: { listen: \"0.0.0.0:8080\" }",
            "19:10: admin.listen: can be reached from other machines; listen on 127.0.0.1, or allow other machines to read health, metrics and status: admin.allow_remote: true",
        ),
        (
            "admin: { listen: \"8080\" }",
            "19:18: admin.listen: 8080 is not an address to listen on; write 127.0.0.1:8080, [::1]:8080, or off",
        ),
        ("lanes: 65", "19:8: lanes: 65 is out of range; it must be 1 to 64"),
        ("lanes: 0", "19:8: lanes: 0 is out of range; it must be 1 to 64"),
        ("shutdown: 0s", "19:11: shutdown: 0s is out of range; it must be 1s to 1h"),
        ("start_deadline: 2h", "19:17: start_deadline: 2h is out of range; it must be 1s to 1h"),
        ("dlq_topic: other", "11:3: dead_letter.topic: is already set by dlq_topic; keep one of the two"),
    ];
    say_exactly(cases.map(|(more, expected)| (with(more), expected)));
}

#[test]
fn all_errors_come_at_once_in_line_order() {
    let text = "\
pipeline: pay ments
source: { broker: \"a:1\", topic: t, group_id: g, start: earliest }
contract: { protos: p, message: a.B, encodin: json }
dead_letter: { topic: d, limit: { share: 2 } }
postgres: { url: x, table: t, key: [k], columns: { a: { as: foo } } }
delivry: {}
";
    let said = parse(text).unwrap_err();
    let lines: Vec<&str> = said.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    let expected = [
        "pipeline",
        "source.brokers",
        "source.broker",
        "contract.encodin",
        "dead_letter.limit.share",
        "postgres.url",
        "postgres.columns.a.as",
        "delivry",
    ];
    assert_eq!(lines, expected, "{said}");
}

#[test]
fn tombstones_delete_only_rows_that_they_can_identify() {
    let delete = spoil("protos: proto", "protos: proto\n  tombstones: delete");
    assert_eq!(parse(&delete).unwrap().contract.tombstones, Tombstones::Delete);
    let two = delete.replace("key: [transaction_id]", "key: [a, b]");
    let form = |text: &str| {
        let mapping = parse(text).unwrap().types[0].mapping.clone();
        mapping.delete.key_form(mapping.key.len())
    };
    assert_eq!((form(&delete), form(&two)), (crate::DeleteKey::Text, crate::DeleteKey::Json));
    let text = two.replace("  columns:\n", "  delete: { key: text }\n  columns:\n");
    assert_eq!(
        parse(&text).unwrap_err(),
        "p.yaml:17:13: postgres.delete.key: one text cannot hold several columns (a, b); use json or a message"
    );
    let newer = delete.replace("  columns:\n", "  only_if_newer: currency\n  columns:\n");
    assert!(parse(&newer).unwrap_err().contains("a tombstone has no value, so it is unknown whether it is newer"));
}

/// A consumer block with the names of Kafka clients. The test uses it with the policies at the root, nested, and with
/// loose keys.
pub(crate) const CLIENT_BLOCK: &str = "\
consumer:
  group_id: \"analytics-pipeline-v2\"
  session_timeout_ms: 30000
  heartbeat_interval_ms: 10000
  max_poll_records: 500
  max_poll_interval_ms: 300000
  auto_offset_reset: \"latest\"
  enable_auto_commit: false
  isolation_level: \"read_committed\"
";
pub(crate) const CLIENT_POLICIES: &str = "\
retry_policy:
  max_retries: 3
  initial_backoff_ms: 1000
  max_backoff_ms: 30000
  backoff_multiplier: 2.0
  dlq_topic: \"analytics_dlq\"
  dlq_threshold: 5
backpressure:
  lag_threshold: 10000
  pause_on_threshold: true
  resume_lag_margin: 2000
  max_batch_size: 1000
";

#[test]
fn a_block_with_the_names_of_kafka_clients_runs_unchanged() {
    let own = LEAST
        .replace("  group_id: payments-gate\n  start: earliest\n", "")
        .replace("dead_letter:\n  topic: payments.dlq\n", "");
    let indent = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let loose = CLIENT_POLICIES
        .lines()
        .map(|line| {
            let loose = ["dlq_topic", "dlq_threshold", "max_batch_size"].iter().any(|key| line.contains(key));
            format!("{}\n", if loose { line.trim_start() } else { line })
        })
        .collect::<String>();
    // The loose keys would split their sections, so they come first.
    let (mut first, mut rest) = (String::new(), String::new());
    for line in loose.lines() {
        let target = if ["dlq_", "max_batch"].iter().any(|key| line.starts_with(key)) { &mut first } else { &mut rest };
        target.push_str(&format!("{line}\n"));
    }
    let forms = [
        format!("{CLIENT_BLOCK}{CLIENT_POLICIES}"),
        format!("{CLIENT_BLOCK}{}", indent(CLIENT_POLICIES)),
        format!("{CLIENT_BLOCK}{first}{rest}"),
        format!("{CLIENT_BLOCK}{}{rest}", indent(&first)),
    ];
    for form in forms {
        let pipeline = parse(&format!("{own}{form}")).unwrap_or_else(|errors| panic!("{errors}\n{form}"));
        let json = pipeline.redacted_json();
        assert_eq!(json["source"]["group_id"], "analytics-pipeline-v2");
        assert_eq!(json["source"]["start"], "latest");
        assert_eq!(json["source"]["session_timeout"], "30s");
        assert_eq!(json["source"]["heartbeat_interval"], "10s");
        assert_eq!(json["source"]["max_poll_interval"], "5m");
        assert_eq!(json["delivery"]["batch"]["max_events"], 500, "the lowest of 16000, 500 and 1000");
        let retry = json!({ "max_retries": 3, "initial_backoff": "1s", "max_backoff": "30s", "multiplier": 2.0, "breaker_threshold": 5 });
        assert_eq!(json["retry_policy"], retry);
        assert_eq!(json["dead_letter"]["topic"], "analytics_dlq");
        assert_eq!(json["dead_letter"]["alert_depth"], 5);
        assert_eq!(json["backpressure"]["lag_threshold"], 10_000);
        assert_eq!(json["backpressure"]["resume_lag_margin"], 2_000);
    }
}

#[test]
fn a_setting_under_both_of_its_names_is_an_error() {
    let text = with("consumer: { group_id: other, session_timeout_ms: 30000, auto_offset_reset: latest }\n")
        .replace("start: earliest", "start: earliest\n  session_timeout: 30s");
    let expected = "\
p.yaml:5:3: source.group_id: is already set by consumer.group_id; keep one of the two
p.yaml:6:3: source.start: is already set by consumer.auto_offset_reset; keep one of the two
p.yaml:7:3: source.session_timeout: is already set by consumer.session_timeout_ms; keep one of the two";
    assert_eq!(parse(&text).unwrap_err(), expected);
    let text = with("consumer: { enable_auto_commit: true, group: g }\nretry_policy: {}\n")
        .replace("consumer: {", "consumer: { retry_policy: {},");
    let expected = "\
p.yaml:19:51: consumer.enable_auto_commit: true cannot be honoured: an offset is committed together with its rows and outputs, never by a timer; write false or remove the key
p.yaml:19:57: consumer.group: unknown key; did you mean group_id?
p.yaml:20:1: retry_policy: is already set by consumer.retry_policy; keep one of the two";
    assert_eq!(parse(&text).unwrap_err(), expected);
}

#[test]
fn defaults_adapt_to_the_values_that_are_set() {
    let text = spoil("start: earliest", "start: earliest\n  max_poll_interval: 10s");
    let pipeline = parse(&text).unwrap();
    assert_eq!(pipeline.source.session_timeout, Duration::from_secs(5));
    assert_eq!(pipeline.source.heartbeat_interval, Duration::from_millis(1_666));
    assert_eq!(pipeline.delivery.transaction_timeout, Duration::from_secs(5));
    let slow = parse(&with("retry_policy: { initial_backoff: 1m }")).unwrap();
    assert_eq!(slow.retry.max_backoff, Duration::from_secs(60));
    let large = parse(&spoil("protos: proto", "protos: proto\n  max_bytes: 8MiB")).unwrap();
    assert_eq!(large.delivery.batch.max_bytes, 8 << 20);
}

#[test]
fn columns_read_in_every_form() {
    let columns = "  columns:
    currency: {}
    none:
    status: { as: enum_name, strip_prefix: STATUS_ }
    kind: { field: k, as: { enum_name: { strip_prefix: KIND_ } } }
    plain: { as: { enum_name: } }
    count: { add: 1 }
    total: { add: amount.minor }
    own: { add: true }
    step: { value: -2, add: true }
    seen: { now: true, insert_only: true }
    version: { header: schema-version, as: int }
    at: { record: timestamp, as: unix_ms }
";
    let text = LEAST.split("  columns:").next().unwrap().to_owned() + columns;
    let json = parse(&text).unwrap().redacted_json();
    let expected = json!({
        "transaction_id": { "field": "transaction_id" },
        "currency": { "field": "currency" },
        "none": { "field": "none" },
        "status": { "field": "status", "as": "enum_name without STATUS_" },
        "kind": { "field": "k", "as": "enum_name without KIND_" },
        "plain": { "field": "plain", "as": "enum_name" },
        "count": { "value": 1, "add": true },
        "total": { "field": "amount.minor", "add": true },
        "own": { "field": "own", "add": true },
        "step": { "value": -2, "add": true },
        "seen": { "now": true, "insert_only": true },
        "version": { "header": "schema-version", "as": "int" },
        "at": { "record": "timestamp", "as": "unix_ms" },
    });
    assert_eq!(json["postgres"]["columns"], expected);
}

#[test]
fn start_takes_a_time() {
    for (written, millis) in [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("\"2026-01-31T12:00:00.5+01:00\"", 1_769_857_200_500),
        ("1769860800000", 1_769_860_800_000),
    ] {
        let pipeline = parse(&spoil("start: earliest", &format!("start: {written}"))).unwrap();
        assert_eq!(pipeline.source.start, Start::Timestamp(millis), "{written}");
    }
}

#[test]
fn the_limit_can_be_off_and_admin_too() {
    let pipeline = parse(
        &spoil("topic: payments.dlq", "topic: d\n  limit: off")
            .replace("pipeline:", "admin: { listen: off }\npipeline:"),
    )
    .unwrap();
    assert_eq!(pipeline.dead_letter.limit, None);
    assert_eq!(pipeline.admin.listen, None);
    let remote = parse(&with("admin: { listen: \"0.0.0.0:80\", allow_remote: true }")).unwrap();
    assert_eq!(remote.admin.listen.as_deref(), Some("0.0.0.0:80"));
}

#[test]
fn nothing_secret_is_ever_shown() {
    let text = "\
pipeline: p
source:
  brokers: ${KAFKA_BROKERS}
  topic: t
  group_id: g
  start: latest
  security:
    tls: { certificate: c.pem, key: k.pem, key_password: \"${SECRET}\" }
    sasl: { mechanism: PLAIN, username: u, password: \"${SECRET}\" }
  kafka: { ssl.keystore.password: s3cret, sasl.oauthbearer.config: s3cret, fetch.wait.max.ms: 5 }
contract: { protos: p, message: a.B }
transforms: [{ component: a.wasm, config: { token: \"${SECRET}\", limit: 3 } }]
dead_letter: { topic: d }
postgres: { url: \"${DATABASE_URL}\", table: s.t, key: [k], columns: {} }
";
    let pipeline = parse(text).unwrap();
    let debug = format!("{pipeline:?}");
    let json = pipeline.redacted_json();
    assert!(!debug.contains("s3cret"), "{debug}");
    assert!(!json.to_string().contains("s3cret"), "{json}");
    assert_eq!(json["postgres"]["url"], "postgres://app:***@db/app?sslmode=require&sslpassword=***");
    assert_eq!(json["transforms"][0]["config"], json!({ "token": "${SECRET}", "limit": 3 }));
    assert_eq!(json["source"]["kafka"]["fetch.wait.max.ms"], "5");
    assert_eq!(pipeline.types[0].transforms[0].config, Some(json!({ "token": "s3cret", "limit": 3 })));
    // A refused value from outside is not shown either.
    for key in ["lanes", "shutdown", "pipeline"] {
        let said = parse(&format!("{key}: \"${{SECRET}} \"\n")).unwrap_err();
        assert!(!said.contains("s3cret"), "{said}");
    }
    let said = parse("postgres: { url: \"s3cret@db\" }\n").unwrap_err();
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn what_comes_from_a_variable_is_masked_whatever_its_key() {
    // A suggestion contains parts of the value, such as 47 for `47` without a unit, or a type's name without its dot.
    let env = |name: &str| match name {
        "DIGITS" => Some("471147114711".to_owned()),
        "DOTTED" => Some(".s3cret.Type".to_owned()),
        "FOLDER" => Some("no/s3cret".to_owned()),
        _ => None,
    };
    let text = "shutdown: ${DIGITS}\ncontract: { message: \"${DOTTED}\" }\n";
    let said = Pipeline::parse(Path::new("p.yaml"), text, &env).unwrap_err().to_string();
    assert!(!said.contains("s3cret") && !said.contains("4711"), "{said}");
    assert!(said.contains("the value of ${DIGITS} is a duration without a unit"), "{said}");
    let text = "\
pipeline: p
source: { brokers: 'h:1', topic: t, group_id: g, start: latest }
contract: { protos: [\"${FOLDER}\", fine], message: a.B }
transforms: [{ component: \"${FOLDER}/a.wasm\" }]
dead_letter: { topic: d }
postgres: { url: 'postgres://h/d', table: s.t, key: [k], columns: {} }
";
    let pipeline = Pipeline::parse(Path::new("/etc/pipes/p.yaml"), text, &env).unwrap();
    let shown = |path: &str| pipeline.shown(Path::new(path)).display().to_string();
    assert_eq!(shown("/etc/pipes/no/s3cret/x/y.proto"), "${FOLDER}/x/y.proto");
    assert_eq!(shown("/etc/pipes/no/s3cret/a.wasm"), "${FOLDER}/a.wasm");
    assert_eq!(shown("no/s3cret/a.wasm"), "${FOLDER}/a.wasm");
    assert_eq!(shown("/etc/pipes/fine/no/s3cret"), "/etc/pipes/fine/no/s3cret");
    assert!(!format!("{pipeline:?}").contains("origins: [s3cret"));
}

#[test]
fn urls_are_masked_whatever_they_look_like() {
    for (url, shown) in [
        ("postgres://h/d", "postgres://h/d"),
        ("postgres://u@h/d", "postgres://u@h/d"),
        ("postgres://u:a@b@h/d", "postgres://u:***@h/d"),
        ("postgres://u:a?b@h/d", "postgres://u:***@h/d"),
        ("postgres://h/d?password=x&sslmode=require", "postgres://h/d?password=***&sslmode=require"),
        ("nonsense", "***"),
    ] {
        assert_eq!(Secret::new(url.to_owned()).masked_url(), shown, "{url}");
    }
}

#[test]
fn the_full_example_parses() {
    let (pipeline, _) = parse_seen(Path::new("docs/pipeline.full.yaml"), FULL, &env);
    let pipeline = pipeline.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(pipeline.resolve(Path::new("proto")), Path::new("docs/proto"));
    assert_eq!(pipeline.postgres.tls_ca.as_deref(), Some(Path::new("docs/postgres-ca.pem")));
    let tls = pipeline.source.security.tls.unwrap();
    assert_eq!(tls.ca.as_deref(), Some(Path::new("docs/ca.pem")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_makes_it_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(vec![
            "", ":", " ", "\n", "{", "}", "[", "]", "\"", "#", "- ", "&a ", "*a", "!!x ", "${", "}", "$${", "~", "-1", "1e99",
            "99999999999999999999", "é", "\u{0}", "\t", "null", "numeric(", ",", ".", "|", ">", "off", "9223372036854775807ms",
        ])), 1..8),
        client in any::<bool>(),
    ) {
        let mut text = if client { format!("{LEAST}{CLIENT_BLOCK}{CLIENT_POLICIES}") } else { FULL.to_owned() };
        for (at, length, insert) in cuts {
            let mut from = at.index(text.len());
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            let mut to = (from + length).min(text.len());
            while !text.is_char_boundary(to) {
                to += 1;
            }
            text.replace_range(from..to, insert);
        }
        if let Err(said) = parse(&text) {
            prop_assert!(!said.is_empty());
        }
    }
}
