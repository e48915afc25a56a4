//! Tests `tollgate check` and the offline verbs of `tollgate contract` as a CI job runs them, with the real program and
//! the real git.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tollgate_compat::{RULES, Severity};

const FILE: &str = "proto/shop/v1/order.proto";
const ORDER: &str = r#"syntax = "proto3";
package shop.v1;
enum Status { STATUS_UNSPECIFIED = 0; STATUS_PAID = 1; }
message Order {
  string id = 1;
  int32 amount = 2;
  Status status = 3;
}
"#;

/// A folder that contains a repository on branch main.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        project.git(&["init", "-q", "-b", "main"]);
        project.put(FILE, ORDER);
        project.commit("first");
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path().join(FILE)).unwrap();
        assert!(text.contains(from), "{from}");
        self.put(FILE, &text.replace(from, to));
    }

    fn git(&self, arguments: &[&str]) {
        git(self.path(), arguments);
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(self.path(), arguments)
    }

    fn check(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["check", "--against", "main"], arguments].concat())
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args([
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "protocol.file.allow=always",
    ]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn is(self, code: i32, parts: &[&str]) -> Ran {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        for part in parts {
            assert!(self.out.contains(part) || self.err.contains(part), "{part:?} in\n{}\n{}", self.out, self.err);
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    fn ids(&self) -> Vec<String> {
        let findings = self.json()["result"]["findings"].as_array().unwrap().clone();
        findings.iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    for variable in ["TOLLGATE_REGISTRY", "KAFKA_BROKERS", "DATABASE_URL", "TOLLGATE_LOG"] {
        command.env_remove(variable);
    }
    // The test's folder may be inside another repository.
    command.current_dir(folder).args(arguments).env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_code_says_compatible_incompatible_or_not_checked() {
    let project = Project::new();
    project.check(&[]).is(0, &["compatible against main (wire-json, full)"]);
    project.change("string id = 1;", "string id = 1; string note = 9;");
    project.check(&[]).is(0, &["compatible"]);
    project.change("int32 amount = 2;", "double amount = 2;");
    let ran =
        project.check(&[]).is(1, &["field-type-changed (wire)", "proto/shop/v1/order.proto:6:3", "not compatible"]);
    assert!(
        ran.err.contains("not compatible") && ran.out.contains("field-type-changed"),
        "data on stdout, the end on stderr"
    );
    project.change("double amount = 2;", "double amount;");
    project.check(&[]).is(2, &["order.proto:6:"]);
    project.check(&["--mode", "sideways"]).is(2, &["sideways", "backward"]);
    project.run(&["check"]).is(2, &["--against"]);
    project.run(&["check", "nowhere", "--against", "main"]).is(2, &["nowhere"]);
}

#[test]
fn a_warning_fails_where_it_is_asked_for() {
    let project = Project::new();
    project.change("STATUS_PAID = 1;", "STATUS_PAID = 1; STATUS_SENT = 2;");
    project.check(&[]).is(0, &["warning", "enum-value-added", "compatible: 1 warning"]);
    project.check(&["--strict"]).is(1, &["enum-value-added", "not compatible"]);
    project.check(&["--strict", "--mode", "backward"]).is(0, &["compatible"]);
    project.put("tollgate-check.yaml", "strict: true\nmode: forward\n");
    project.check(&[]).is(1, &["enum-value-added", "forward"]);
}

#[test]
fn categories_and_modes_narrow_what_counts() {
    let project = Project::new();
    project.change("int32 amount = 2;", "int32 sum = 2;");
    project.check(&["--category", "wire"]).is(0, &["compatible against main (wire, full)"]);
    project.check(&[]).is(1, &["field-renamed"]);
    project.change("int32 sum = 2;", "optional int32 amount = 2;");
    project.check(&[]).is(0, &[]);
    project.check(&["--category", "package"]).is(1, &["field-presence-changed"]);
    project.check(&["--mode", "backward_transitive"]).is(0, &["backward_transitive"]);
}

#[test]
fn any_earlier_version_will_do() {
    let project = Project::new();
    let old = tempfile::tempdir().unwrap();
    fs::create_dir_all(old.path().join("shop/v1")).unwrap();
    fs::write(old.path().join("shop/v1/order.proto"), ORDER).unwrap();
    let pool = protox::Compiler::new([old.path()])
        .unwrap()
        .include_imports(true)
        .open_file("shop/v1/order.proto")
        .unwrap()
        .encode_file_descriptor_set();
    let set = old.path().join("old.binpb");
    fs::write(&set, pool).unwrap();
    project.change("int32 amount = 2;", "double amount = 2;");
    project.commit("second");
    for against in ["main~1", "HEAD^", "git:main~1", old.path().to_str().unwrap(), set.to_str().unwrap()] {
        project.run(&["check", "--against", against]).is(1, &["field-type-changed"]);
        project.run(&["check", FILE, "--against", against]).is(1, &["field-type-changed"]);
    }
    // A finding is reported once, however many versions show it.
    let ran = project.run(&["check", "--against", "main~1", "--against", set.to_str().unwrap(), "--output", "json"]);
    assert_eq!(ran.is(1, &[]).ids(), ["field-type-changed", "field-type-changed-json"]);
    // The check runs in a subfolder, and on a contract that main does not have.
    run(&project.path().join("proto"), &["check", ".", "--against", "main"]).is(0, &[]);
    project.put("other/a.proto", "syntax = \"proto3\"; message A {}");
    project.run(&["check", "other", "--against", "main"]).is(0, &["main has no other: everything in it is new"]);
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let project = Project::new();
    project
        .run(&["check", "--against", "mian"])
        .is(2, &["`mian` is neither a folder, a file, nor a ref", "did you mean main?"]);
    project.run(&["check", "--against", "--upload-pack=x"]).is(2, &[]);
    project.run(&["check", "--against", "git:-x"]).is(2, &["is not a git ref"]);
    project.run(&["check", "--against", "registry:orders-value"]).is(2, &["--registry URL"]);
    project.run(&["check", "--against", "registry:"]).is(2, &["needs a subject"]);
    let alone = tempfile::tempdir().unwrap();
    run(alone.path(), &["check", "--against", "main"]).is(2, &["no folder `proto` here"]);
    fs::create_dir(alone.path().join("proto")).unwrap();
    run(alone.path(), &["check", "--against", "main"]).is(2, &["has no .proto files"]);
    fs::write(alone.path().join("proto/a.proto"), "syntax = \"proto3\"; message A {}").unwrap();
    run(alone.path(), &["check", "--against", "main"]).is(2, &["in no git repository", "a folder or a descriptor set"]);
    project.run(&["validate", "--output", "sarif", "x.yaml"]).is(2, &["only with `tollgate check`"]);
}

#[test]
fn a_shallow_clone_says_how_to_deepen_it() {
    let project = Project::new();
    project.change("int32 amount = 2;", "double amount = 2;");
    project.commit("second");
    let clone = tempfile::tempdir().unwrap();
    let url = format!("file://{}", project.path().display());
    git(clone.path(), &["clone", "-q", "--depth", "1", &url, "."]);
    run(clone.path(), &["check", "--against", "HEAD~1"]).is(2, &["shallow", "git fetch --unshallow", "fetch-depth: 0"]);
    run(clone.path(), &["check", "--against", "origin/release"])
        .is(2, &["shallow and lacks origin/release", "git fetch --depth=1 origin release:refs/remotes/origin/release"]);
    git(clone.path(), &["fetch", "-q", "--unshallow"]);
    run(clone.path(), &["check", "--against", "HEAD~1"]).is(1, &["field-type-changed"]);
}

#[test]
fn a_suppression_has_a_reason_and_an_end() {
    let project = Project::new();
    project.change("int32 amount = 2;", "double amount = 2;");
    let suppress = |rule: &str, element: &str, expires: &str| {
        format!("  - {{ rule: {rule}, element: {element}, reason: nobody reads it, expires: {expires} }}\n")
    };
    let file = |lines: &[String]| project.put("tollgate-check.yaml", &format!("suppress:\n{}", lines.concat()));
    let both = |expires| {
        [
            suppress("field-type-changed", "shop.v1.Order.amount", expires),
            suppress("field-type-changed-json", "shop.v1.*", expires),
        ]
    };
    file(&both("2999-12-31"));
    let ran = project.check(&["--output", "json"]).is(0, &[]);
    let suppressed = ran.json()["result"]["suppressed"].as_array().unwrap().clone();
    assert_eq!((ran.ids().len(), suppressed.len(), &suppressed[0]["reason"]), (0, 2, &Value::from("nobody reads it")));
    project.check(&[]).is(0, &["suppressed until 2999-12-31: field-type-changed", "2 suppressed findings"]);
    // On the day after, the finding is reported again, and so is the expired suppression.
    file(&both("2020-01-01"));
    let mut ids = project.check(&["--output", "json"]).is(1, &[]).ids();
    ids.sort();
    assert_eq!(ids, ["field-type-changed", "field-type-changed-json", "suppression-expired", "suppression-expired"]);
    file(&[suppress("field-deleted", "shop.v1.Order.gone", "2999-12-31")]);
    project.check(&["--category", "file"]).is(1, &["warning tollgate-check.yaml:2:", "suppression-unused"]);
    for (bad, said) in [
        (
            "  - { rule: field-type-changed, element: x, expires: 2999-12-31 }\n",
            "suppress[0].reason: required key is missing",
        ),
        ("  - { rule: feild-deleted, element: x, reason: y, expires: 2999-12-31 }\n", "did you mean field-deleted?"),
        ("  - { rule: field-deleted, element: x, reason: y, expires: 31.12.2999 }\n", "is not a date"),
        ("  - { rule: suppression-expired, element: x, reason: y, expires: 2999-12-31 }\n", "cannot be suppressed"),
    ] {
        file(&[bad.to_owned()]);
        project.check(&[]).is(2, &["tollgate-check.yaml:2:", said]);
    }
    project.check(&["--config", "none.yaml"]).is(2, &["none.yaml"]);
}

#[test]
fn sarif_and_github_have_their_shape() {
    let project = Project::new();
    project.change("int32 amount = 2;", "double amount = 2;");
    project.change("STATUS_PAID = 1;", "STATUS_PAID = 1; STATUS_SENT = 2;");
    let sarif = project.check(&["--output", "sarif"]).is(1, &[]).json();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules: Vec<&str> =
        run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        assert!(rules.contains(&result["ruleId"].as_str().unwrap()));
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], FILE);
        assert!(place["region"]["startLine"].as_u64().unwrap() > 0);
    }
    // Paths are relative to the repository's top, whatever the job's working directory is.
    let ran = self::run(&project.path().join("proto"), &["check", ".", "--against", "main", "--output", "github"]);
    let ran = ran.is(1, &[]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with(&format!("::warning file={FILE},line=3,col=")), "{}", lines[0]);
    assert!(
        lines[1].starts_with(&format!("::error file={FILE},line=6,col=3,title=field-type-changed::")),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains("%0A"), "one line a finding");
    let json = project.check(&["--output", "json"]).is(1, &[]).json();
    assert_eq!(
        (&json["command"], &json["ok"], &json["error"]["code"]),
        (&"check".into(), &false.into(), &"check.incompatible".into())
    );
}

#[test]
fn a_syntax_error_is_annotated_where_it_stands() {
    let project = Project::new();
    project.change("int32 amount = 2;", "int32 amount 2;");
    let ran = self::run(&project.path().join("proto"), &["check", ".", "--against", "main", "--output", "github"]);
    let ran = ran.is(2, &[]);
    assert!(ran.out.starts_with(&format!("::error file={FILE},line=6,col=")), "{}", ran.out);
    assert!(ran.out.contains(",title=check.protos::") && ran.out.lines().count() == 1, "{}", ran.out);
    // A finding without a place is still an annotation.
    let ran = self::run(project.path(), &["check", "nowhere", "--against", "main", "--output", "github"]);
    assert!(ran.is(2, &[]).out.starts_with("::error title=check.protos::nowhere cannot be read"));
}

#[test]
fn wrong_arguments_and_errors_are_told_in_the_form_that_was_asked_for() {
    let project = Project::new();
    for arguments in [&["check", "--output", "json", "--againts", "x"][..], &["check", "--nothing", "--output=json"]] {
        let told = project.run(arguments).is(2, &[]);
        let (json, err) = (told.json(), &told.err);
        assert_eq!((&json["command"], &json["ok"], err.as_str()), (&"check".into(), &false.into(), ""));
        assert_eq!(json["error"]["code"], "config.arguments");
        assert!(json["error"]["message"].as_str().unwrap().starts_with("unexpected argument '--"), "{json}");
    }
    let plain = project.run(&["check", "--nothing"]).is(2, &[]);
    assert!(plain.out.is_empty() && plain.err.starts_with("error: unexpected argument"), "{}", plain.err);
    for arguments in [
        &["run", "missing.yaml", "--log-format", "json"][..],
        &["run", "missing.yaml", "--log-format=json", "--log", "off"],
        &["run", "--nothing", "--log-format", "json"],
    ] {
        let told = project.run(arguments).is(2, &[]);
        assert!(told.out.is_empty(), "{}", told.out);
        for line in told.err.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["level"], "ERROR");
            assert!(line["code"].as_str().unwrap().starts_with("config."), "{line}");
            assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["message"].is_string(), "{line}");
        }
        assert_eq!(told.err.lines().count(), 1, "{}", told.err);
    }
}

const PIPELINE: &str = "pipeline: orders
source: { brokers: \"${KAFKA_BROKERS}\", topic: orders, group_id: g, start: earliest }
contract: { protos: proto, message: shop.v1.Order }
dead_letter: { topic: orders.dlq }
postgres:
  url: \"${DATABASE_URL}\"
  table: orders
  key: [id]
  columns:
    id: { field: id }
    amount: { field: amount }
    status: { field: status, as: enum_name }
";

#[test]
fn a_pipeline_is_checked_with_its_contract() {
    let project = Project::new();
    project.put("pipeline.yaml", PIPELINE);
    let ids = |from: &str, to: &str| {
        project.put(FILE, ORDER);
        project.change(from, to);
        let ran = project.run(&["check", "pipeline.yaml", "--against", "main", "--output", "json"]);
        let mut ids = ran.ids();
        ids.retain(|id| id.starts_with("sink-"));
        ids
    };
    let none: [&str; 0] = [];
    assert_eq!(ids("int32 amount = 2;", "int32 amount = 2; bool x = 4;"), none);
    assert_eq!(ids("int32 amount = 2;", "int32 total = 2;"), ["sink-field-deleted"]);
    assert_eq!(ids("int32 amount = 2;", "string amount = 2;"), ["sink-conversion-changed"]);
    assert_eq!(ids("int32 amount = 2;", "int64 amount = 2;"), ["sink-conversion-changed"]);
    assert_eq!(ids("Status status = 3;", "string status = 3;"), ["sink-conversion-changed"]);
    assert_eq!(ids("int32 amount = 2;", "sint32 amount = 2;"), none);
    assert_eq!(ids("int32 amount = 2;", "optional int32 amount = 2;"), ["sink-column-may-be-null"]);
    assert_eq!(ids("string id = 1;", "optional string id = 1;"), ["sink-key-may-be-null"]);
    assert_eq!(ids("STATUS_PAID = 1;", "STATUS_DONE = 1;"), ["sink-enum-text-changed"]);
    assert_eq!(ids("message Order {", "message Purchase {"), ["sink-message-deleted"]);
    project.put(FILE, ORDER);
    project.change("int32 amount = 2;", "int32 total = 2;");
    project
        .run(&["check", "--against", "main", "--pipeline", "pipeline.yaml"])
        .is(1, &["pipeline.yaml:11:", "sink-field-deleted"]);
}

#[test]
fn each_type_of_a_pipeline_is_checked_and_so_is_their_envelope() {
    let envelope = "message Outer { string kind = 1; bytes body = 2; string trace = 3; }\n";
    let project = Project::new();
    project.put("outer/shop/v1/outer.proto", &format!("syntax = \"proto3\";\npackage shop.v1;\n{envelope}"));
    let pipeline = PIPELINE
        .replace(
            "contract: { protos: proto, message: shop.v1.Order }",
            "contract: { protos: [proto, outer], envelope: { message: shop.v1.Outer, type: kind, payload: body, headers: { trace: trace } } }",
        )
        .replace("    amount: { field: amount }\n    status: { field: status, as: enum_name }\n", "")
        + "types:
  order.created:
    message: shop.v1.Order
    postgres: { columns: { amount: {} } }
";
    project.put("pipeline.yaml", &pipeline);
    project.commit("types");
    project.change("int32 amount = 2;", "int32 total = 2;");
    project.put(
        "outer/shop/v1/outer.proto",
        &format!("syntax = \"proto3\";\npackage shop.v1;\n{}", envelope.replace("trace", "track")),
    );
    project.run(&["check", "pipeline.yaml", "--against", "main"]).is(
        1,
        &[
            "types.order.created.postgres.columns.amount: field amount",
            "contract.envelope.headers.trace: field trace",
            "sink-field-deleted",
        ],
    );
}

#[test]
fn components_are_held_to_the_types_they_were_built_for() {
    let project = Project::new();
    let source = repository().join("examples/payments");
    let proto = fs::read_to_string(source.join("proto/payments/v1/payment.proto")).unwrap();
    project.put("proto/payments/v1/payment.proto", &proto);
    project.put("pipeline.yaml", &fs::read_to_string(source.join("pipeline.yaml")).unwrap());
    fs::create_dir_all(project.path().join("components")).unwrap();
    for name in ["payment-rules", "payment-risk"] {
        let component = project.path().join(format!("components/{name}.wasm"));
        tollgate_guests::build(&repository().join("transforms").join(name), Some(&component), false).unwrap();
    }
    project.commit("payments");
    let check = || project.run(&["check", "pipeline.yaml", "--against", "main"]);
    check().is(0, &["compatible against main"]);
    project.put(
        "proto/payments/v1/payment.proto",
        &proto.replace("string tenant_id = 7;", "string tenant_id = 7;\n  bool test = 20;"),
    );
    check().is(
        0,
        &["transform-contract-changed", "payment-rules is built for an earlier version of payments.v1.PaymentEvent"],
    );
    project.put("proto/payments/v1/payment.proto", &proto.replace("message RatedPayment", "message ScoredPayment"));
    check().is(
        1,
        &["transform-message-deleted", "payment-risk is built for payments.v1.RatedPayment, which no longer exists"],
    );
}

#[test]
fn a_released_version_does_not_change_silently() {
    let project = Project::new();
    project.run(&["contract", "lock", "--check"]).is(1, &["not up to date for 1 contract"]);
    project.run(&["contract", "lock"]).is(0, &["shop.v1.Order 1: first version"]);
    let lock = || fs::read_to_string(project.path().join("contracts.lock")).unwrap();
    let first = lock();
    assert_eq!(first.lines().filter(|line| line.starts_with("shop.v1.Order 1 sha256:")).count(), 1, "{first}");
    project.run(&["contract", "lock"]).is(0, &["up to date"]);
    assert_eq!(lock(), first);
    project.commit("released");
    // A comment does not change the contract, but a field does.
    project.change("int32 amount = 2;", "int32 amount = 2; // in cents");
    project.check(&[]).is(0, &[]);
    project.change("string id = 1;", "string id = 1; string note = 9;");
    project.check(&[]).is(1, &["released-version-changed", "version 1", "tollgate contract lock"]);
    project.run(&["contract", "lock"]).is(0, &["shop.v1.Order 2: new version"]);
    project.check(&[]).is(0, &[]);
    project.commit("second");
    // A rewritten history is detected by comparison with the history.
    let second = lock();
    let digest = |version: &str| {
        let line = second.lines().find(|line| line.starts_with(&format!("shop.v1.Order {version} "))).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    project.put("contracts.lock", &second.replace(&digest("1"), &digest("2")));
    project.check(&[]).is(1, &["contracts.lock:", "version 1 of shop.v1.Order has another digest"]);
    let without: String =
        second.lines().filter(|line| !line.contains("Order 1")).map(|line| format!("{line}\n")).collect();
    project.put("contracts.lock", &without);
    project.check(&[]).is(1, &["released-version-removed"]);
    project.put("contracts.lock", "<<<<<<< HEAD\n");
    project.check(&[]).is(2, &["contracts.lock:1:", "merge"]);
    // A version that no producer has used yet may be amended.
    project.put("contracts.lock", &second);
    project.change("string note = 9;", "string remark = 9;");
    project.run(&["contract", "lock", "--amend"]).is(0, &["shop.v1.Order 2: changed"]);
}

#[test]
fn what_goes_was_deprecated_in_the_last_releases() {
    const RULE: &str = "field-removed-without-notice";
    let project = Project::new();
    let lock = |project: &Project, expected: &str| project.run(&["contract", "lock"]).is(0, &[expected]);
    project.change("string id = 1;", "string id = 1; string note = 9;");
    lock(&project, "shop.v1.Order 1: first version");
    project.commit("released before anybody asked for notice");
    project.put("tollgate-check.yaml", "deprecate_for: 2\n");
    let go = "reserved 9; reserved \"note\";";
    // The field was never deprecated; without the setting this is a clean removal.
    project.change("string note = 9;", go);
    lock(&project, "shop.v1.Order 2: new version");
    project.check(&[]).is(1, &[RULE, "shop.v1.Order.note was removed, but was deprecated in 0 of the last 2"]);
    project.put("tollgate-check.yaml", "strict: false\n");
    project.check(&[]).is(0, &[]);
    project.put("tollgate-check.yaml", "deprecate_for: 2\n");
    // One release with the deprecation is too few.
    project.change(go, "string note = 9 [deprecated = true];");
    lock(&project, "shop.v1.Order 3: new version");
    let text = fs::read_to_string(project.path().join("contracts.lock")).unwrap();
    assert!(text.lines().any(|line| line.ends_with(" deprecated:shop.v1.Order.note")), "{text}");
    lock(&project, "up to date");
    project.commit("deprecated");
    project.change("string note = 9 [deprecated = true];", go);
    lock(&project, "shop.v1.Order 4: new version");
    project.check(&[]).is(1, &[RULE, "in 1 of the last 2 released versions of shop.v1.Order"]);
    // Two are enough. It does not matter in which version the removal itself happens.
    project.change(go, "string note = 9 [deprecated = true]; string memo = 10;");
    lock(&project, "shop.v1.Order 5: new version");
    project.change("string memo = 10;", "string memo = 10; string more = 11;");
    lock(&project, "shop.v1.Order 6: new version");
    project.commit("released twice");
    project.change("string note = 9 [deprecated = true];", go);
    lock(&project, "shop.v1.Order 7: new version");
    project.check(&[]).is(0, &[]);
}

#[test]
fn a_diff_shows_what_both_say() {
    let project = Project::new();
    project.run(&["contract", "diff", "main"]).is(0, &["no differences"]);
    project.change("int32 amount = 2;", "reserved 2; optional string memo = 4 [deprecated = true];");
    let ran = project.run(&["contract", "diff", "main"]).is(0, &["3 differences"]);
    for line in [
        "  shop.v1.Order",
        "-     int32 amount = 2",
        "+     optional string memo = 4  [deprecated]",
        "+     reserved 2",
    ] {
        assert!(ran.out.lines().any(|found| found == line), "{line}\n{}", ran.out);
    }
    project.run(&["contract", "diff", "main", "--message", "shop.v1.Ordr"]).is(2, &["did you mean shop.v1.Order?"]);
    project.run(&["contract", "diff", "nothing"]).is(2, &["nor a ref"]);
}

/// Compares the output of `export` and `docs` for a contract that uses every feature. `BLESS=1` rewrites the files;
/// before you commit, check the difference, and try it in the tools that read it (docs/contract-export.md describes
/// how).
#[test]
fn exports_and_pages_are_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract");
    let project = Project::new();
    fs::remove_dir_all(project.path().join("proto")).unwrap();
    fs::create_dir(project.path().join("proto")).unwrap();
    fs::copy(folder.join("shop.proto"), project.path().join("proto/shop.proto")).unwrap();
    for (file, arguments) in [
        ("shop.schema.json", ["export", "--format", "jsonschema"]),
        ("shop.types.ts", ["export", "--format", "typescript"]),
        ("shop.zod.ts", ["export", "--format", "zod"]),
        ("shop.md", ["docs", "--format", "markdown"]),
        ("shop.html", ["docs", "--format", "html"]),
    ] {
        let mut words = vec!["contract"];
        words.extend(arguments);
        let ran = project.run(&[&words[..], &["--message", "shop.v1.Order"]].concat()).is(0, &[]);
        let golden = folder.join(file);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&golden, &ran.out).unwrap();
        }
        assert_eq!(ran.out, fs::read_to_string(&golden).unwrap(), "{file}");
    }
    project.run(&["contract", "export", "--format", "sql"]).is(2, &["name the pipeline file"]);
    project.run(&["contract", "export", "--format", "avro"]).is(2, &["avro", "jsonschema"]);
    project.run(&["contract", "docs"]).is(2, &["--out", "--message"]);
    project.run(&["contract", "docs", "--out", "pages", "--against", "main"]).is(0, &["4 pages in pages"]);
    let page = fs::read_to_string(project.path().join("pages/shop.v1.Order.md")).unwrap();
    assert!(page.contains("## Changes since main"), "{page}");
}

/// The files in a folder are its own, including Google's packages. A file that the tool supplies for an import is not.
#[test]
fn the_files_below_the_folder_are_checked_and_no_others() {
    let project = Project::new();
    let money = "syntax = \"proto3\"; package google.protobuf; message Money { int64 units = 1; }";
    project.put("proto/google/protobuf/money.proto", money);
    let import = "import \"tollgate/envelope/v1/domain_event.proto\";\n";
    project.change("enum Status", &format!("{import}enum Status"));
    project.commit("a vendored file, and an import of one that is shipped");
    project.change(import, "");
    project.check(&["--category", "file"]).is(0, &["compatible"]);
    project.put("proto/google/protobuf/money.proto", &money.replace("int64", "double"));
    let ran = project.check(&["--output", "json"]).is(1, &[]);
    assert_eq!(ran.ids(), ["field-type-changed", "field-type-changed-json"]);
}

/// The page must contain each rule as it is in the program: id, category, severities, advice.
#[test]
fn the_page_lists_every_finding() {
    let page = fs::read_to_string(repository().join("docs/check.md")).unwrap();
    let rows: Vec<Vec<String>> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches(" | ").count() >= 6)
        .map(|line| {
            line.trim_matches('|').replace("\\|", "\u{0}").split('|').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    let shown = |severity: Option<Severity>| severity.map_or("–", Severity::as_str).to_owned();
    let mut listed = Vec::new();
    for rule in RULES {
        let id = format!("`{}`", rule.id);
        let row = rows.iter().find(|row| row[0] == id).unwrap_or_else(|| panic!("docs/check.md lacks {id}"));
        let expected = [rule.category.as_str().to_owned(), shown(rule.backward), shown(rule.forward)];
        assert_eq!(row[1..4], expected, "{id}");
        assert_eq!(row[6], rule.advice, "{id}");
        assert_ne!(row[4], row[5], "{id}: before and after");
        listed.push(id);
    }
    let written: Vec<&String> = rows.iter().map(|row| &row[0]).filter(|id| !listed.contains(id)).collect();
    assert!(written.is_empty(), "docs/check.md has findings that there are not: {written:?}");
}

#[test]
fn sql_is_what_setup_would_create() {
    let example = repository().join("examples/payments");
    let ran = run(&example, &["contract", "export", "pipeline.yaml", "--format", "sql"]).is(0, &[]);
    assert_eq!(ran.out.trim_end(), fs::read_to_string(example.join("schema.sql")).unwrap().trim_end());
}
