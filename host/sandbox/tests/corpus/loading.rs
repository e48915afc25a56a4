//! Tests the errors when components are loaded, and their messages.

use serde_json::{Value, json};
use tollgate_sandbox::{Class, LimitsError, LimitsSpec, LoadError, ManifestError, Overrides, limits};

use crate::guests::{self, INIT, LOG_IMPORT, LOOP, PROCESS};
use crate::{SANDBOX, hostile, load};

const PASS: &str = "(func $event (param i32) (result i32) (i32.const 1))";

fn refused(wasm: &[u8]) -> LoadError {
    match SANDBOX.load(wasm, &Overrides::default()) {
        Ok(transform) => panic!("{transform:?} was accepted"),
        Err(error) => error,
    }
}

fn stamped(manifest: &Value) -> Vec<u8> {
    guests::component(&[INIT, PROCESS, LOOP, PASS], manifest)
}

#[test]
fn what_is_not_a_component() {
    assert!(matches!(refused(b"not wasm at all"), LoadError::NotWasm));
    assert!(matches!(refused(b""), LoadError::NotWasm));
    let core = guests::module("", &[INIT, PROCESS, LOOP, PASS]);
    let error = refused(&core);
    assert!(matches!(error, LoadError::CoreModule) && error.to_string().contains("tollgate build"), "{error}");
    assert_eq!(error.class(), Class::Fatal);
    let whole = stamped(&guests::manifest("whole"));
    let cut = &whole[..whole.len() / 2];
    assert!(matches!(refused(cut), LoadError::Malformed(_)), "{}", refused(cut));
    assert!(matches!(refused(&vec![0; limits::COMPONENT_BYTES + 1]), LoadError::TooLarge { .. }));
}

#[test]
fn no_byte_of_a_component_can_be_changed_into_a_panic() {
    let whole = stamped(&guests::manifest("whole"));
    for at in (0..whole.len()).step_by(7) {
        let mut bent = whole.clone();
        bent[at] ^= 0x55;
        // Most are refused; some have only changed names or constants, and are loaded.
        let _ = SANDBOX.load(&bent, &Overrides::default());
    }
}

#[test]
fn a_component_without_its_manifest() {
    let bare = guests::encode(&guests::module("", &[INIT, PROCESS, LOOP, PASS]));
    assert!(matches!(refused(&bare), LoadError::NoManifest));
    assert!(refused(&bare).to_string().contains("built without `tollgate build`"));
    let error = refused(&guests::stamp(bare.clone(), b"{}"));
    assert!(matches!(&error, LoadError::Manifest(why) if why.to_string().contains("name")), "{error}");
    let manifest = guests::manifest("twice").to_string();
    let twice = guests::stamp(guests::stamp(bare, manifest.as_bytes()), manifest.as_bytes());
    assert!(matches!(refused(&twice), LoadError::Manifest(ManifestError::Twice)));
}

#[test]
fn limits_are_required_and_bounded() {
    let mut manifest = guests::manifest("unlimited");
    manifest["limits"] = json!({});
    assert!(matches!(refused(&stamped(&manifest)), LoadError::Limits(LimitsError::NoFuel)));
    manifest["limits"] = json!({"fuel": 1_000_000_000_000_u64});
    let error = refused(&stamped(&manifest));
    assert!(error.to_string().contains("limits.fuel is 1000000000000"), "{error}");
}

#[test]
fn what_it_may_not_import() {
    let wasi = r#"
        package wasi:cli@0.2.3;
        interface environment { count: func() -> u32; }
        world transform { import environment; }
    "#;
    let core = wat::parse_str(
        r#"(module (import "wasi:cli/environment@0.2.3" "count" (func $count (result i32)))
             (func (export "use") (drop (call $count))))"#,
    );
    let manifest = guests::manifest("curious").to_string();
    let error = refused(&guests::stamp(guests::encode_in(&core.unwrap(), wasi, "transform"), manifest.as_bytes()));
    assert!(matches!(&error, LoadError::Import { import, .. } if import == "wasi:cli/environment@0.2.3"), "{error}");
    assert!(error.to_string().contains("allowed are `tollgate:transform/host@0.1.0`"), "{error}");
}

#[test]
fn a_capability_is_asked_for() {
    let event =
        "(func $event (param i32) (result i32) (call $write (i32.const 1) (i32.const 0) (i32.const 0)) (i32.const 1))";
    let component = guests::encode(&guests::module(LOG_IMPORT, &[INIT, PROCESS, LOOP, event]));
    let mut manifest = guests::manifest("talker");
    let error = refused(&guests::stamp(component.clone(), manifest.to_string().as_bytes()));
    assert!(error.to_string().contains("add `log` to `capabilities`"), "{error}");
    manifest["capabilities"] = json!(["log"]);
    load(&guests::stamp(component, manifest.to_string().as_bytes()));
}

#[test]
fn the_wrong_world() {
    let manifest = guests::manifest("stranger").to_string();
    let other = "package other:thing; world transform { export run: func(); }";
    let core = wat::parse_str(r#"(module (func (export "run")))"#).unwrap();
    let error = refused(&guests::stamp(guests::encode_in(&core, other, "transform"), manifest.as_bytes()));
    assert!(matches!(&error, LoadError::World(why) if why.contains("guest@0.1.0")), "{error}");

    for (init, process) in [("func()", "func()"), ("func(config: list<u8>) -> result<_, string>", "func(n: u32)")] {
        let wit = format!(
            "package tollgate:transform@0.1.0;
             interface guest {{ init: {init}; process: {process}; }}
             world transform {{ export guest; }}"
        );
        let (parameters, results) = if init == "func()" { ("", "") } else { ("(param i32 i32)", "(result i32)") };
        let process = if process == "func()" { "" } else { "(param i32)" };
        let core = format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 64)
                 (func (export "tollgate:transform/guest@0.1.0#process") {process})
                 (func (export "tollgate:transform/guest@0.1.0#init") {parameters} {results}
                   {}))"#,
            if results.is_empty() { "" } else { "i32.const 16" }
        );
        let wasm = guests::encode_in(&wat::parse_str(core).unwrap(), &wit, "transform");
        let error = refused(&guests::stamp(wasm, manifest.as_bytes()));
        assert!(error.to_string().contains("world"), "{error}");
    }
}

#[test]
fn an_instance_that_does_not_start() {
    let start = |parts: &[&str]| {
        let mut all = vec![PROCESS, LOOP, PASS];
        all.extend(parts);
        refused(&guests::component(&all, &guests::manifest("weak")))
    };
    let says = r#"(data (i32.const 512) "no rate\n for EUR")
        (func $init (i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 512)) (i32.store (i32.const 24) (i32.const 16)))"#;
    for (parts, why) in [
        (&[says][..], "init failed: no rate  for EUR"),
        (&["(func $init unreachable)"], "unreachable"),
        (&["(func $init (loop $for_ever (br $for_ever)))"], "fuel"),
        (&["(func $init (call $fail (i32.const 512) (i32.const 3)))", r#"(data (i32.const 512) "bad")"#], "bad"),
        (&["(func $init (drop (call $next (i32.const 0))))"], "next was called outside of process"),
        (&["(func $init (call $delete (i32.const 0)))"], "without a current event"),
        (&["(func $init (loop $l (drop (memory.grow (i32.const 1))) (br $l)))"], "limits.memory"),
        (&[INIT, "(func $start unreachable) (start $start)"], "unreachable"),
        (&[INIT, "(func $start (loop $l (br $l))) (start $start)"], "fuel"),
        (&[INIT, "(table 30000 funcref)"], "table"),
    ] {
        let error = start(parts);
        assert!(matches!(error, LoadError::Start(_) | LoadError::World(_) | LoadError::Compile(_)), "{error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn more_memory_at_start_than_the_ceiling_allows() {
    let ceiling = LimitsSpec { memory: Some(64 << 10), ..LimitsSpec::default() };
    let error =
        SANDBOX.load(&stamped(&guests::manifest("big")), &Overrides { ceiling, ..Overrides::default() }).unwrap_err();
    assert!(matches!(&error, LoadError::Start(why) if why.contains("65536 bytes")), "{error}");
}

#[test]
fn a_config_that_is_not_an_object() {
    let overrides = Overrides { config: Some(json!([1])), ..Overrides::default() };
    let error = SANDBOX.load(&stamped(&guests::manifest("list")), &overrides).unwrap_err();
    assert!(matches!(error, LoadError::Config(_)), "{error}");
}

#[test]
fn a_revision_is_the_component_its_limits_and_its_config() {
    let wasm = stamped(&guests::manifest("one"));
    let with = |ceiling: Value, config: Option<Value>| {
        let ceiling: LimitsSpec = serde_json::from_value(ceiling).unwrap();
        SANDBOX.load(&wasm, &Overrides { ceiling, config, compile_time: None }).unwrap()
    };
    let plain = with(json!({}), None);
    assert_eq!(plain.digest().to_string().len(), 64);
    assert_eq!(plain.manifest().name, "one");
    assert_eq!((plain.limits().fuel, plain.limits().memory), (100_000, 1 << 20));
    let same = [with(json!({"fuel": 200_000}), None), with(json!({"deadline": "2s"}), Some(json!({})))];
    for other in &same {
        assert_eq!(other.revision_digest(), plain.revision_digest(), "what changes no verdict changes no revision");
    }
    let tighter = with(json!({"fuel": 50_000}), None);
    let configured = with(json!({}), Some(json!({"a": 1})));
    let renamed = load(&stamped(&guests::manifest("two")));
    assert_eq!((tighter.digest(), tighter.limits().fuel), (plain.digest(), 50_000));
    let mut revisions = [&plain, &tighter, &configured, &renamed].map(|transform| transform.revision_digest()).to_vec();
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 4);
}

#[test]
fn what_is_nested_too_deep_is_refused_before_anything_recurses_over_it() {
    let error = refused(&hostile::nested_types(100_000));
    assert!(matches!(&error, LoadError::Nested { what: "types", .. }), "{error}");
    let error = refused(&hostile::nested_components(1_000));
    assert!(matches!(&error, LoadError::Nested { what: "components", .. }), "{error}");
    // Types that a person may write are accepted.
    for wasm in [hostile::nested_types(limits::TYPE_DEPTH - 2), hostile::nested_components(limits::COMPONENT_DEPTH - 2)]
    {
        load(&wasm);
    }
}

#[test]
fn inner_components_that_pass_strings_to_each_other() {
    assert!(matches!(refused(&hostile::transcoding()), LoadError::Transcodes));
}
