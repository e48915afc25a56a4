//! Builds the repository's own transforms and runs their golden cases, with the real cargo and the real sandbox.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tollgate_sandbox::{Sandbox, Settings, limits};

use super::build::BuildError;
use super::golden::{self, GoldenError, Options, Report};
use super::{Built, build, folders};
use tollgate_config::error::Exit;

fn transforms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../transforms").canonicalize().unwrap()
}

/// Each transform's component, built once into a folder that is kept until the process ends.
fn components() -> &'static [(PathBuf, Built)] {
    static BUILT: OnceLock<Vec<(PathBuf, Built)>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = tempfile::tempdir().unwrap().keep();
        // The SDK is built from a copy of only its folder: files outside of it would not be published.
        let mut folders = folders(&[transforms()]);
        folders.push(copy_of_sdk().join("probe"));
        let build = |folder: PathBuf| {
            let file = out.join(format!("{}.wasm", folder.file_name().unwrap().display()));
            let built = build(&folder, Some(&file), false).unwrap_or_else(|error| panic!("{error}"));
            (folder, built)
        };
        folders.into_iter().map(build).collect()
    })
}

/// Copies the SDK's folder without its surroundings; the compiled dependencies are shared.
fn copy_of_sdk() -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in from.read_dir().unwrap().map(Result::unwrap) {
            let (path, target) = (entry.path(), to.join(entry.file_name()));
            match path.is_dir() {
                true if entry.file_name() == "target" => {}
                true => copy(&path, &target),
                false => drop(fs::copy(&path, &target).unwrap()),
            }
        }
    }
    let sdk = transforms().join("../guest-sdk");
    let copied = tempfile::tempdir().unwrap().keep().join("guest-sdk");
    copy(&sdk, &copied);
    #[cfg(unix)]
    std::os::unix::fs::symlink(sdk.join("target"), copied.join("target")).unwrap();
    copied
}

#[test]
fn the_sdks_copies_are_the_repositorys_files() {
    let root = transforms().join("..");
    for (copy, original) in [
        ("guest-sdk/rust/wit/transform.wit", "wit/transform.wit"),
        ("guest-sdk/rust/build/proto/buf/validate/validate.proto", "proto/buf/validate/validate.proto"),
        (
            "guest-sdk/rust/build/proto/tollgate/envelope/v1/domain_event.proto",
            "proto/tollgate/envelope/v1/domain_event.proto",
        ),
        (
            "guest-sdk/rust/build/proto/tollgate/envelope/v1/event_envelope.proto",
            "proto/tollgate/envelope/v1/event_envelope.proto",
        ),
    ] {
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert!(read(copy) == read(original), "{copy} is a copy of {original}, and differs: copy it again");
    }
}

/// Runs the cases on a thread with the stack that guests need.
fn cases(folder: &Path, component: &Path, options: &Options) -> Result<Report, GoldenError> {
    std::thread::scope(|scope| {
        let runner = std::thread::Builder::new().stack_size(2 * limits::THREAD_STACK);
        let run = || {
            let settings = Settings { lanes: 1, transforms: 1, ..Settings::default() };
            golden::test(&Sandbox::new(settings).unwrap(), folder, component, options)
        };
        runner.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

#[test]
fn the_golden_cases_of_every_transform_hold() {
    let components = components();
    // Three transforms, and the probe that does everything the SDK offers.
    assert_eq!(components.len(), 4);
    for (folder, built) in components {
        let report = cases(folder, &built.file, &Options::default()).unwrap_or_else(|error| panic!("{error}"));
        let failed: Vec<_> = report.cases.iter().filter(|case| !case.ok()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(report.suggested_fuel() <= report.fuel_limit, "{}: {}", report.name, report.suggested_fuel());
    }
}

#[test]
fn components_are_small_stamped_and_the_same_when_built_again() {
    for (folder, built) in components() {
        assert!(built.bytes <= 100_000, "{}: {} bytes", built.manifest.name, built.bytes);
        assert!(built.changed && !built.manifest.version.is_empty());
        let again = build(folder, Some(&built.file), false).unwrap();
        assert!(!again.changed, "{}: other bytes", built.manifest.name);
        assert_eq!(again.digest, built.digest);
    }
}

/// Creates a transform's folder with payment-rules' transform.yaml and these cases, without a crate.
fn folder_with(cases: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let protos = transforms().join("../proto");
    let spec = fs::read_to_string(transforms().join("payment-rules/transform.yaml")).unwrap();
    let spec = spec.replace("../../proto", protos.to_str().unwrap());
    fs::write(folder.path().join("transform.yaml"), spec).unwrap();
    fs::create_dir(folder.path().join(golden::CASES)).unwrap();
    for (name, text) in cases {
        fs::write(folder.path().join(golden::CASES).join(name), text).unwrap();
    }
    folder
}

fn rules() -> &'static Path {
    let (_, built) = components().iter().find(|(folder, _)| folder.ends_with("payment-rules")).unwrap();
    &built.file
}

#[test]
fn a_case_that_does_not_hold_says_where_and_update_mends_only_its_expectation() {
    let input = "# why\nevent: { amount: -1 } # in one line\n\nkey: \"k\"\n";
    let text = format!("{input}expect:\n  verdict: reject\n  code: amount-not-positive\n  fuel: 1\n");
    let folder = folder_with(&[("wrong.yaml", &text)]);
    let report = cases(folder.path(), rules(), &Options::default()).unwrap();
    let shown: Vec<_> = report.cases[0].differences.iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], r#"code: "amount-not-positive" → "transaction-id-not-uuid""#);
    assert_eq!(shown[1], r#"field: nothing → "transaction_id""#);
    assert!(shown[2].starts_with("fuel: 1 → ") && !report.ok(), "{shown:?}");

    let update = Options { update: true, ..Options::default() };
    assert!(cases(folder.path(), rules(), &update).unwrap().cases[0].updated);
    let written = fs::read_to_string(folder.path().join("cases/wrong.yaml")).unwrap();
    assert!(
        written.starts_with(&format!("{input}expect:\n  verdict: \"reject\"\n  code: \"transaction-id-not-uuid\"\n")),
        "{written}"
    );
    let report = cases(folder.path(), rules(), &update).unwrap();
    assert!(report.ok() && !report.cases[0].updated, "a case that holds is left alone");
}

/// Creates a transform's folder with its transform.yaml and a case, and with a rule in its contract.
fn folder_with_rule(transform: &str, field: &str, rule: &str, case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let spec = fs::read_to_string(transforms().join(transform).join("transform.yaml")).unwrap();
    fs::write(root.join("transform.yaml"), spec.replace("../../proto", "proto")).unwrap();
    fs::create_dir_all(root.join("proto/payments/v1")).unwrap();
    let contract = fs::read_to_string(transforms().join("../proto/payments/v1/payment.proto")).unwrap();
    let ruled = contract
        .replacen("package payments.v1;", "package payments.v1;\nimport \"buf/validate/validate.proto\";", 1)
        .replacen(field, &format!("{} [(buf.validate.field).{rule}];", field.trim_end_matches(';')), 1);
    assert_ne!(contract, ruled);
    fs::write(root.join("proto/payments/v1/payment.proto"), ruled).unwrap();
    fs::create_dir(root.join(golden::CASES)).unwrap();
    fs::write(root.join("cases/case.yaml"), case).unwrap();
    folder
}

fn built(name: &str) -> &'static Path {
    let (_, built) = components().iter().find(|(folder, _)| folder.ends_with(name)).unwrap();
    &built.file
}

#[test]
fn the_contracts_around_a_transform_are_applied_as_the_engine_applies_them() {
    let event = fs::read_to_string(transforms().join("payment-rules/cases/valid.yaml")).unwrap();
    let event = event.split("expect:").next().unwrap().to_owned();
    let rule = "string.max_len = 2";
    for (transform, field, stage, code) in [
        ("payment-rules", "string tenant_id = 7;", "contract", "rule-violated"),
        ("payment-risk", "string risk_tier = 8;", "output", "output-contract"),
    ] {
        let case = |expect: &str| format!("{event}{expect}");
        let accepts = case("expect: { verdict: pass }\n");
        let folder = folder_with_rule(transform, field, rule, &accepts);
        let report = cases(folder.path(), built(transform), &Options::default()).unwrap();
        let shown: Vec<_> = report.cases[0].differences.iter().map(ToString::to_string).collect();
        assert_eq!(shown[0], r#"verdict: "pass" → "reject""#, "{transform}: {shown:?}");
        let told = format!(r#"stage: nothing → "{stage}""#);
        assert!(shown.contains(&told), "{transform}: {shown:?}");
        let expect =
            format!("expect: {{ verdict: reject, stage: {stage}, code: {code}, field: {} }}\n", field_name(field));
        fs::write(folder.path().join("cases/case.yaml"), case(&expect)).unwrap();
        let report = cases(folder.path(), built(transform), &Options::default()).unwrap();
        assert!(report.ok(), "{:#?}", report.cases);
    }
}

fn field_name(field: &str) -> &str {
    field.split(' ').nth(1).unwrap()
}

#[test]
fn bad_cases_are_told_all_at_once() {
    let expect = "expect: { verdict: pass }\n";
    let bad = [
        (
            "a.yaml",
            format!("event: {{ amuont: 1 }}\n{expect}"),
            "a.yaml:1:1: event: is not valid JSON for payments.v1.PaymentEvent",
        ),
        ("b.yaml", format!("evnet: {{}}\n{expect}"), "b.yaml:1:1: evnet: unknown key; did you mean event?"),
        ("c.yaml", format!("bytes: 0g\n{expect}"), "c.yaml:1:8: bytes: 0g is not a sequence of bytes"),
        ("d.yaml", format!("event: {{}}\ntombstone: true\n{expect}"), "exactly one of event, bytes"),
        ("e.yaml", "event: {}\nexpect: { verdict: accept }\n".to_owned(), "accept is none of pass, replace"),
        (
            "f.yaml",
            "event: {}\nexpect: { verdict: reject }\n".to_owned(),
            "f.yaml:2:1: expect.code: required key is missing",
        ),
        ("g.yaml", "event: {}\n".to_owned(), "g.yaml:1:1: expect: required key is missing"),
        (
            "i.yaml",
            "event: {}\nexpect: { verdict: replace, outputs: [{ route: late, message: {} }] }\n".to_owned(),
            "route: the transform has no routes",
        ),
        ("j.yaml", "event: {}\nexpect: { verdict: pass, stage: output }\n".to_owned(), "only a rejection has a stage"),
        ("h.yaml", "event: {}\nexpect: { verdict: pass, outputs: [] }\n".to_owned(), "only a replaced event"),
    ];
    let files: Vec<_> = bad.iter().map(|(name, text, _)| (*name, text.as_str())).collect();
    let folder = folder_with(&files);
    let error = cases(folder.path(), rules(), &Options::default()).unwrap_err();
    assert_eq!(error.exit(), Exit::Configuration);
    for (_, _, expected) in bad {
        assert!(error.to_string().contains(expected), "{expected}\n---\n{error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let folder = folder_with(&[]);
    let error = cases(folder.path(), rules(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("no cases: write one as NAME.yaml"), "{error}");
    let none = Options { filter: Some("nothing-like-it".into()), ..Options::default() };
    let error = cases(&transforms().join("payment-rules"), rules(), &none).unwrap_err().to_string();
    assert!(error.contains("no case has `nothing-like-it`"), "{error}");
    let error = cases(folder.path(), &folder.path().join("none.wasm"), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("none.wasm cannot be read"), "{error}");
    let error = build(folder.path(), None, false).unwrap_err();
    assert!(error.to_string().contains("Cargo.toml cannot be read"), "{error}");
    assert_eq!(error.exit(), Exit::Configuration);
}

#[test]
fn code_that_does_not_compile_leaves_the_old_component() {
    let folder = folder_with(&[]);
    let root = folder.path();
    let package = "[package]\nname = \"broken\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    fs::write(root.join("Cargo.toml"), package).unwrap();
    fs::create_dir(root.join("src")).unwrap();
    fs::write(root.join("src/lib.rs"), "fn broken( {}").unwrap();
    let old = root.join("payment-rules.wasm");
    fs::write(&old, "old").unwrap();
    let error = build(root, None, false).unwrap_err();
    assert!(matches!(error, BuildError::Toolchain(_)) && error.exit() == Exit::Failed, "{error}");
    assert!(error.to_string().contains("cargo could not compile broken"), "{error}");

    fs::write(root.join("src/lib.rs"), "").unwrap();
    let error = build(root, None, false).unwrap_err();
    assert!(error.to_string().contains("does not export a transform"), "{error}");
    assert_eq!(fs::read_to_string(&old).unwrap(), "old");

    let clock = "use std::time::SystemTime; #[unsafe(no_mangle)] pub extern \"C\" fn f() -> bool { SystemTime::now() > SystemTime::UNIX_EPOCH }";
    fs::write(root.join("src/lib.rs"), clock).unwrap();
    let error = build(root, None, false).unwrap_err().to_string();
    assert!(error.contains("asks for the time") && error.contains("ctx.batch_time()"), "{error}");

    fs::write(root.join("Cargo.toml"), package.replace("cdylib", "rlib")).unwrap();
    let error = build(root, None, false).unwrap_err();
    assert!(error.to_string().contains("does not build a module"), "{error}");
    let left = fs::read_dir(root)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tollgate"));
    assert_eq!(left.count(), 0, "a temporary file was left");
}
