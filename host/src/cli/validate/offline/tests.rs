use super::*;
use crate::cli::validate::{self, Args, Severity};
use serde_json::json;

const PROTO: &str = r#"syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
enum Status { STATUS_UNSPECIFIED = 0; STATUS_PAID = 1; }
message Address { string city = 1; }
message Order {
  string id = 1;
  double amount = 2;
  int64 created_at = 3;
  Status status = 4;
  Address address = 5;
  google.protobuf.Timestamp at = 6;
  repeated string tags = 7;
  string status_text = 8;
  oneof payment { string card = 9; Address cash = 10; }
}
message Rated { string id = 1; int64 score = 2; }
"#;

const HEAD: &str = "\
pipeline: shop
source: { brokers: \"localhost:9092\", topic: orders, group_id: g, start: earliest }
contract: { protos: proto, message: shop.v1.Order }
dead_letter: { topic: orders.dlq }
";

const POSTGRES: &str = "\
postgres:
  url: postgres://app:s3cret@localhost/app
  table: orders
  key: [id]
  only_if_newer: created_at
  columns:
    amount: { as: \"numeric(18,2)\" }
    created_at: { as: unix_ms }
    status: { as: enum_name, strip_prefix: STATUS_ }
    city: { field: address.city }
    at: {}
    tags: { as: jsonb }
    version: { header: schema-version, as: int }
    first_seen: { now: true, insert_only: true }
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(pipeline: &str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("proto")).unwrap();
        std::fs::write(folder.path().join("proto/shop.proto"), PROTO).unwrap();
        std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
        Folder(folder)
    }

    fn report(&self) -> Report {
        let pipeline = Pipeline::load(&self.0.path().join("pipeline.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
        offline(&pipeline)
    }
}

/// Returns each finding as `line: code: path: message`.
fn found(pipeline: &str, severity: Severity) -> Vec<String> {
    let report = Folder::new(pipeline).report();
    let findings = report.findings.iter().filter(|finding| finding.severity == severity);
    findings.map(|found| format!("{}: {}: {}: {}", found.line, found.code, found.config_path, found.message)).collect()
}

#[test]
fn a_good_pipeline_has_no_finding_and_says_its_guarantee() {
    let folder = Folder::new(&format!("{HEAD}{POSTGRES}"));
    let report = folder.report();
    assert_eq!(report.findings, []);
    assert_eq!(report.guarantee.name, "effectively once");
    let args = Args { pipeline: folder.0.path().join("pipeline.yaml"), connect: false };
    let success = validate::run(&args).unwrap();
    assert!(success.summary.ends_with("pipeline.yaml is valid"), "{}", success.summary);
    assert!(success.text.contains("guarantee: effectively once\n  rows: each event takes effect in the table once"));
    assert_eq!(success.result["guarantee"]["name"], "effectively once");
}

#[test]
fn errors_come_first_the_guarantee_last_and_a_warning_can_be_acknowledged() {
    let loose = POSTGRES.replace("  only_if_newer: created_at\n", "");
    let text = format!("{HEAD}{loose}");
    let validated = |text: &str| {
        let folder = Folder::new(text);
        let args = Args { pipeline: folder.0.path().join("pipeline.yaml"), connect: false };
        match validate::run(&args) {
            Ok(success) => (success.summary, success.text, success.result),
            Err(failure) => (failure.message, failure.text, failure.result),
        }
    };
    let (summary, shown, _) = validated(&text);
    assert!(summary.ends_with("is valid, with 1 warning"), "{summary}");
    assert!(shown.contains("warning: postgres.columns: ") && shown.contains(" [order.across_partitions]\n"), "{shown}");

    let meant =
        "acknowledge:\n  order.across_partitions: keys are partitioned by the producer\n  dead_letter.no_limit: x\n";
    let (summary, shown, result) = validated(&format!("{text}{meant}"));
    assert!(summary.ends_with("is valid, with 1 warning"), "only that one is acknowledged in vain: {summary}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].contains("warning: acknowledge.dead_letter.no_limit: there is no warning"), "{shown}");
    assert!(
        lines[2].contains("acknowledged: postgres.columns: ") && lines[2].contains("(acknowledged: keys are"),
        "{shown}"
    );
    assert_eq!(result["findings"][1]["acknowledged"], "keys are partitioned by the producer");
    let guarantee = shown.find("guarantee: ").unwrap();
    assert!(shown.find("memory: ").unwrap() < guarantee && !shown[guarantee..].contains("p.yaml"), "{shown}");

    // An error cannot be acknowledged, and comes before the warnings.
    let wrong =
        format!("{}acknowledge: {{ contract.message: no }}\n", text.replace("shop.v1.Order", "shop.v1.Nothing"));
    let (summary, shown, _) = validated(&wrong);
    assert!(summary.contains("1 error, with 2 warnings"), "{summary}");
    assert!(shown.lines().next().unwrap().contains(": error: "), "{shown}");
}

#[test]
fn the_memory_follows_from_the_settings() {
    let memory = |settings: &str| Folder::new(&format!("{HEAD}{POSTGRES}lanes: 2\n{settings}")).report().memory;
    let mib = |memory: Memory| {
        let parts = [memory.program, memory.ahead, memory.batches, memory.work, memory.transforms];
        assert_eq!(memory.bytes, parts.iter().sum::<usize>());
        parts.map(|bytes| bytes >> 20)
    };
    assert_eq!(mib(memory("")), [64, 24, 50, 160, 0]);
    let small = "backpressure: { max_backlog_bytes: 8MiB }\ndelivery: { batch: { max_bytes: 1MiB } }\n";
    assert_eq!(mib(memory(small)), [64, 4, 9, 64, 0]);
    let never = "backpressure: { pause_on_threshold: false, max_backlog_bytes: 4MiB }\n";
    assert_eq!(mib(memory(never)), [64, 3, 50, 160, 0]);
    let mut with_transforms = memory("");
    with_transforms.instances(2, 16 << 20);
    with_transforms.instances(2, 8 << 20);
    assert_eq!(mib(with_transforms), [64, 24, 50, 160, 32]);
    assert!(with_transforms.to_text().starts_with("memory: at most about 330 MiB: 64 program, 24 fetched ahead"));
}

#[test]
fn each_type_and_the_envelope_are_checked_with_their_lines() {
    let pipeline = "\
pipeline: shop
source: { brokers: \"localhost:9092\", topic: orders, group_id: g, start: earliest }
dead_letter: { topic: orders.dlq }
postgres: { url: postgres://app:s3cret@localhost/app, key: [id], columns: { seen: { now: true } } }
contract:
  protos: proto
  envelope:
    message: tollgate.envelope.v1.DomainEvent
    version: edition
    idempotency_key: { of: [source, payload.number] }
types:
  order:
    message: shop.v1.Order
    postgres: { table: orders, columns: { town: { field: address.town } } }
    idempotency_of: [payload.amount]
  rated: { message: shop.v1.Rated, postgres: { table: rated } }
  none: { message: shop.v1.Nothing, postgres: { table: nothing } }
";
    let expected = [
        "9: contract.envelope: contract.envelope.version: field edition: ",
        "10: contract.field: contract.envelope.idempotency_key.of: field number: shop.v1.Rated has no field number",
        "14: contract.field: types.order.postgres.columns.town: field address.town: shop.v1.Address has no field town",
        "15: contract.envelope: types.order.idempotency_of: payload.amount is double; it must be a string",
        "17: contract.message: types.none.message: message shop.v1.Nothing is not in the descriptors",
    ];
    let told = found(pipeline, Severity::Error);
    for expected in expected {
        assert!(told.iter().any(|told| told.starts_with(expected)), "{expected}\n{told:#?}");
    }
}

#[test]
fn every_field_and_conversion_that_cannot_be_is_told_with_its_line() {
    let postgres = "\
postgres:
  url: postgres://app:s3cret@localhost/app
  table: orders
  key: [identifier]
  only_if_newer: amount
  columns:
    amount: {}
    created_at: { as: uuid }
    status: { field: status_text, as: enum_name }
    city: { field: address.town }
    tag: { field: tags.first }
    total: { field: tags, as: unix_ms }
    bad: { header: x, as: unix_ms }
    method: { oneof: paymnt }
    payment: { oneof: payment }
output: { topic: out, key: nothing }
";
    let errors = found(&format!("{HEAD}{postgres}"), Severity::Error);
    let expected = [
        // A key column without an entry is reported at the line of `columns`.
        "10: contract.field: postgres.columns.identifier: field identifier: shop.v1.Order has no field identifier",
        "9: postgres.only_if_newer: postgres.only_if_newer: only_if_newer needs a whole number or a time; amount is neither",
        "12: postgres.conversion: postgres.columns.created_at: column created_at: `as: uuid` does not apply to a whole number",
        "13: postgres.conversion: postgres.columns.status: column status: `as: enum_name` does not apply to a string",
        "14: contract.field: postgres.columns.city: field address.town: shop.v1.Address has no field town",
        "15: contract.field: postgres.columns.tag: field tags.first: tags is repeated",
        "16: postgres.conversion: postgres.columns.total: column total: `as: unix_ms` does not apply to a string",
        "17: postgres.conversion: postgres.columns.bad: column bad: `as: unix_ms` does not apply to a header",
        "18: contract.field: postgres.columns.method: oneof paymnt: shop.v1.Order has no oneof paymnt; did you mean payment?",
        "20: contract.field: output.key: field nothing: shop.v1.Order has no field nothing",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for expected in expected {
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected} is not in {errors:#?}");
    }
    let adding = format!("{HEAD}{POSTGRES}    total: {{ add: amount }}\n").replace("  only_if_newer: created_at\n", "");
    let expected = "18: postgres.conversion: postgres.columns.total: add needs a whole number";
    assert_eq!(found(&adding, Severity::Error), [expected]);
}

#[test]
fn a_key_message_must_have_a_field_for_each_key_column() {
    let text = |key: &str| {
        let postgres = POSTGRES.replace("  only_if_newer: created_at\n", &format!("  delete: {{ key: {key} }}\n"));
        format!("{HEAD}{postgres}")
    };
    assert_eq!(found(&text("{ message: shop.v1.Rated }"), Severity::Error), [""; 0]);
    let problem = "shop.v1.Address has no field id for the key column id; it has city";
    let expected = format!("9: contract.field: postgres.delete.key.message: {problem}");
    assert_eq!(found(&text("{ message: shop.v1.Address }"), Severity::Error), [expected]);
    let unknown = found(&text("{ message: shop.v1.Rate }"), Severity::Error);
    assert!(unknown[0].contains("did you mean shop.v1.Rated"), "{unknown:?}");
}

#[test]
fn policies_that_fit_no_type_are_told_with_their_line() {
    let policies = "\
contract:
  protos: proto
  message: shop.v1.Order
  coerce:
    at: { time: [iso, unix_ms] }
    address.since: { time: unix_s }
    created_at: { time: unix_s }
    tags.first: { time: unix_s }
  clock_skew: { crated_at: { as: unix_ms, future: 1m } }
  unknown_enums: { fallback: { shop.v1.State: NONE } }
";
    let line = "contract: { protos: proto, message: shop.v1.Order }\n";
    let text = format!("{}{POSTGRES}", HEAD.replace(line, policies));
    let expected = [
        "8: contract.policy: contract.coerce.address.since: field address.since: shop.v1.Address has no field since",
        "9: contract.policy: contract.coerce.created_at: coerce: field created_at is int64; only google.protobuf.Timestamp can be coerced",
        "10: contract.policy: contract.coerce.tags.first: coerce: field tags.first passes through tags, which is string, not \
         a message",
        "11: contract.policy: contract.clock_skew.crated_at: field crated_at: shop.v1.Order has no field crated_at; did you mean created_at?",
        "12: contract.policy: contract.unknown_enums.fallback.shop.v1.State: unknown_enums.fallback: shop.v1.Order uses no enum shop.v1.State",
    ];
    let errors = found(&text, Severity::Error);
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for expected in expected {
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected} is not in {errors:#?}");
    }
}

#[test]
fn a_message_that_is_not_there_is_told_with_the_nearest() {
    let text = format!("{HEAD}{POSTGRES}").replace("shop.v1.Order", "shop.v1.Ordr");
    let errors = found(&text, Severity::Error);
    let expected = "3: contract.message: contract.message: message shop.v1.Ordr is not in the descriptors; did you mean shop.v1.Order";
    assert!(errors.len() == 1 && errors[0].starts_with(expected), "{errors:?}");
    let text = format!("{HEAD}{POSTGRES}").replace("protos: proto", "protos: nowhere");
    let errors = found(&text, Severity::Error);
    assert!(errors.len() == 1 && errors[0].starts_with("3: contract.schema: contract.protos: "), "{errors:?}");
    let text = format!("{HEAD}{POSTGRES}output: {{ topic: out, contract: shop.v1.Rated }}\n")
        .replace("only_if_newer: created_at", "");
    let errors = found(&text, Severity::Error);
    let chain = "the chain emits shop.v1.Order, but rows and outputs expect shop.v1.Rated: set output.contract";
    assert!(errors.iter().any(|error| error.contains(chain)), "{errors:?}");
}

#[test]
fn components_that_are_none_are_told_one_by_one() {
    let transforms = "\
transforms:
  - component: missing.wasm
  - component: pipeline.yaml
";
    let errors = found(&format!("{HEAD}{POSTGRES}{transforms}"), Severity::Error);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("20: transform.file: transforms[0].component: "), "{errors:?}");
    assert!(errors[1].starts_with("21: transform.refused: transforms[1].component: "), "{errors:?}");
    assert!(errors[1].contains("not WASM"), "{errors:?}");
}

#[test]
fn settings_that_librdkafka_does_not_know_are_told_without_secrets() {
    let text = format!("{HEAD}{POSTGRES}").replace(
        "start: earliest }",
        "start: earliest, kafka: { fetch.wait.max.msx: 5, fetch.wait.max.ms: soon, ssl.keystore.passwort: s3cret, fetch.min.bytes: 1 } }",
    );
    let errors = found(&text, Severity::Error);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|error| error.starts_with("2: kafka.setting: source.kafka.")), "{errors:?}");
    assert!(!errors.concat().contains("s3cret"), "{errors:?}");
}

#[test]
fn habits_are_warned_of() {
    let text = format!("{HEAD}{POSTGRES}")
        .replace("  only_if_newer: created_at\n", "")
        .replace("orders.dlq", "orders.dlq, limit: off")
        .replace("@localhost/app", "@db.example/app")
        .replace(
            "start: earliest",
            "start: earliest, session_timeout: 3s, security: { sasl: { mechanism: PLAIN, username: u, password: s3cret } }",
        );
    let folder = Folder::new(&text);
    let report = folder.report();
    assert_eq!(report.count(Severity::Error), 0, "{:?}", report.findings);
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    let expected = [
        "kafka.session_timeout",
        "kafka.sasl_without_tls",
        "dead_letter.no_limit",
        "postgres.tls",
        "order.across_partitions",
    ];
    assert_eq!(codes, expected);
    assert!(report.findings.iter().all(|finding| finding.suggestion.is_some()));
    assert!(!report.to_text("p").contains("s3cret") && !report.to_json().to_string().contains("s3cret"));
    let quiet = text.replace("@db.example/app", "@db.example/app?sslmode=verify-full");
    assert!(!found(&quiet, Severity::Warning).iter().any(|warning| warning.contains("postgres.tls")));
}

#[test]
fn at_least_once_says_what_it_lacks() {
    let text = format!("{HEAD}{POSTGRES}delivery: {{ mode: at_least_once }}\n");
    let report = Folder::new(&text).report();
    assert_eq!(report.guarantee.name, "at least once");
    assert!(report.to_text("p").contains("not stronger, because delivery.mode is at_least_once"));
}

#[test]
fn a_file_that_does_not_read_fails_with_all_findings_as_json() {
    let folder = Folder::new(&format!("{HEAD}{POSTGRES}lane: 2\nshutdown: 5\n"));
    let failure = validate::run(&Args { pipeline: folder.0.path().join("pipeline.yaml"), connect: false }).unwrap_err();
    assert_eq!(failure.exit, tollgate_config::error::Exit::Configuration);
    assert!(failure.message.ends_with("pipeline.yaml has 2 errors"), "{}", failure.message);
    let expected = json!({
        "severity": "error", "code": "config.invalid", "configPath": "lane", "line": 19, "column": 1,
        "message": "unknown key", "suggestion": "lanes",
    });
    assert_eq!(failure.result["findings"][0], expected);
    assert!(failure.text.contains("pipeline.yaml:20:11: shutdown: 5 is a duration without a unit"), "{}", failure.text);
}
