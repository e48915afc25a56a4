//! Compares exported schemas with the gate: the contract, ajv and zod check the same messages.
//!
//! ajv and zod need Node.js. `TOLLGATE_EXPORTS` names a folder in which `npm ci` was run on
//! `tests/exports/package.json`. Without it only the messages and the gate's verdicts on them are checked.
#![allow(clippy::unwrap_used, reason = "a test's own failure ends the test")]

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tollgate_compat::export::{Types, jsonschema, zod};
use tollgate_contract::{Contract, Fields, Policies};

const MESSAGE: &str = "rules.v1.All";

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports")
}

/// Returns a message that satisfies every rule.
fn good() -> Map<String, Value> {
    let good = json!({
        "inside": 1, "outside": 3, "far": 10.5, "longOutside": "7", "among": "7", "pattern": "abc", "length": "ab",
        "filled": "x", "present": "", "agreed": true, "set": true, "colour": "COLOUR_RED", "chosen": "COLOUR_BLUE",
        "tags": ["a"], "numbers": [0], "counts": { "ab": 1 }, "labels": { "": "" }, "data": "AAEC", "constructor": "abc",
        "toString": "x", "number": 4, "ratio": 0.5, "inner": { "name": "n" }, "affixes": "a.-z", "skipped": 1,
        "pairs": ["a", "b"], "words": ["abc", ""], "brief": "1234", "at": "2020-01-01T00:00:00Z", "pick": 2, "wrapped": 3,
        "nothing": 0, "id": "0e8f1c5a-93b1-4c55-8d0a-5f3f3b1f9d21", "blue": "COLOUR_BLUE",
    });
    good.as_object().unwrap().clone()
}

/// Returns alternative values for each field. Every field may also be absent.
fn candidates() -> Vec<(&'static str, Vec<Value>)> {
    let outside = [0, 4, 5, 6, 10, 11, -3].map(Value::from).to_vec();
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    vec![
        ("inside", [0, 1, 9, 10, -1].map(Value::from).to_vec()),
        ("outside", outside),
        ("far", [0.0, 9.5, 10.0, -10.0, -9.5, 1e9].map(Value::from).to_vec()),
        ("longOutside", texts(&["0", "49", "50", "75", "100", "101"])),
        ("among", texts(&["0", "7", "8", "18446744073709551615"])),
        ("pattern", texts(&["", "a", "A"])),
        ("length", texts(&["", "a", "ab", "\u{1f600}\u{1f600}", "abcd"])),
        ("filled", texts(&["", "a"])),
        ("present", texts(&["", "a"])),
        ("agreed", vec![json!(false)]),
        ("set", vec![json!(false)]),
        ("colour", texts(&["COLOUR_UNSPECIFIED", "COLOUR_BLUE"])),
        ("chosen", texts(&["COLOUR_UNSPECIFIED", "COLOUR_RED"])),
        ("tags", vec![json!([]), json!([""]), json!(["a", "a"]), json!(["a", "b"]), json!(["a", "b", "c"])]),
        ("numbers", vec![json!([]), json!([1, 1])]),
        ("counts", vec![json!({}), json!({ "a": 1 }), json!({ "ab": 0 }), json!({ "ab": 1, "cd": 2, "ef": 3 })]),
        ("labels", vec![json!({}), json!({ "constructor": "x" })]),
        ("data", texts(&["", "AA==", "AAEC"])),
        ("constructor", texts(&["", "a", "abcd"])),
        ("toString", texts(&["", "a"])),
        ("number", [0, 3, 4].map(Value::from).to_vec()),
        ("valueOf", texts(&["", "a"])),
        ("ratio", vec![json!("NaN"), json!("Infinity"), json!(0)]),
        ("inner", vec![json!({}), json!({ "name": "" }), json!({ "name": "a", "hasOwnProperty": "ab" })]),
        ("affixes", texts(&["", "a.z", "a.-", "-z", "a.-z"])),
        ("skipped", [0, 1, 6].map(Value::from).to_vec()),
        ("pairs", vec![json!([]), json!(["a"])]),
        ("words", vec![json!([]), json!(["ab"]), json!([""])]),
        ("brief", texts(&["", "12345"])),
        ("at", texts(&["2999-01-01T00:00:00Z"])),
        ("pick", [0, 1, 4].map(Value::from).to_vec()),
        ("wrapped", [0, 2, 3].map(Value::from).to_vec()),
        ("nothing", vec![json!(1)]),
        ("id", texts(&["", "no uuid"])),
        ("blue", texts(&["COLOUR_UNSPECIFIED", "COLOUR_RED"])),
    ]
}

/// Returns messages with each candidate alone, with each field absent alone, and then `random` messages with several of
/// both.
fn messages(random: usize) -> Vec<Map<String, Value>> {
    let candidates = candidates();
    let mut messages = vec![good()];
    for (name, values) in &candidates {
        for value in values {
            let mut message = good();
            message.insert((*name).to_owned(), value.clone());
            messages.push(message);
        }
        let mut message = good();
        message.remove(*name);
        messages.push(message);
    }
    let mut state = 35_u64;
    let mut dice = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % sides
    };
    for _ in 0..random {
        let mut message = good();
        for _ in 0..1 + dice(3) {
            let (name, values) = &candidates[dice(candidates.len())];
            match values.get(dice(values.len() + 1)) {
                Some(value) => drop(message.insert((*name).to_owned(), value.clone())),
                None => drop(message.remove(*name)),
            }
        }
        messages.push(message);
    }
    messages
}

/// Returns the rules that a message violates, or the code of another rejection.
fn broken(contract: &Contract, message: &Map<String, Value>) -> Vec<String> {
    let mut bytes = Vec::new();
    let text = serde_json::to_vec(message).unwrap();
    let checked = contract
        .transcode_json(&text, &mut bytes)
        .and_then(|()| contract.check_at(&bytes, &mut Fields::new(), SystemTime::now()));
    let Err(rejection) = checked else { return Vec::new() };
    if rejection.violations.is_empty() {
        return vec![rejection.code.as_str().to_owned()];
    }
    rejection.violations.into_iter().map(|violation| violation.rule).collect()
}

/// Returns whether docs/contract-export.md lists the rule as one that the target cannot express.
fn unsaid(target: &str, rule: &str) -> bool {
    let heads: &[&str] = match target {
        "ajv" => &["bytes.", "timestamp.", "brief", "int64.gt", "int64.lt"],
        _ => &["bytes.", "timestamp.", "brief"],
    };
    heads.iter().any(|head| rule.starts_with(head))
}

#[test]
fn exports_differ_from_the_gate_only_where_the_target_cannot_express_a_rule() {
    let pool = tollgate_protos::load(&[folder().join("rules.proto")]).unwrap();
    let contract = Contract::compile(&pool, MESSAGE, Policies::default(), &[]).unwrap();
    let messages = messages(300);
    let verdicts: Vec<Vec<String>> = messages.iter().map(|message| broken(&contract, message)).collect();
    assert_eq!(verdicts[0], [""; 0], "the good message is good");
    let accepted = verdicts.iter().filter(|broken| broken.is_empty()).count();
    assert!((100..messages.len() - 100).contains(&accepted), "{accepted} of {} are accepted", messages.len());

    let Some(node) = std::env::var_os("TOLLGATE_EXPORTS") else { return };
    let types = Types::reach(&[pool.get_message_by_name(MESSAGE).unwrap()]);
    let work = tempfile::tempdir_in(&node).unwrap();
    let write = |name: &str, text: String| std::fs::write(work.path().join(name), text).unwrap();
    write("schema.json", format!("{:#}", jsonschema::render(&types)));
    write("schema.zod.ts", zod::render(&types));
    let lines: Vec<String> = messages.iter().map(|message| serde_json::to_string(message).unwrap()).collect();
    write("messages.ndjson", lines.join("\n"));
    write("compare.cjs", std::fs::read_to_string(folder().join("compare.cjs")).unwrap());
    let ran = Command::new("node").arg(work.path().join("compare.cjs")).arg(work.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let answers: Vec<[bool; 3]> =
        String::from_utf8(ran.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), messages.len());
    let mut wrong = Vec::new();
    for (((line, broken), answers), message) in lines.iter().zip(&verdicts).zip(answers).zip(&messages) {
        for (target, accepts) in ["ajv", "zod 3", "zod 4"].into_iter().zip(answers) {
            // The target expresses that the field of bytes must be present, but not its length.
            let said =
                |rule: &String| !unsaid(target, rule) || (rule.starts_with("bytes.") && !message.contains_key("data"));
            let expected = !broken.iter().any(said);
            if accepts != expected {
                wrong.push(format!("{target} says {accepts}, the gate {broken:?}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), messages.len() * 3, wrong.join("\n"));
    let types =
        ["--strict", "--noEmit", "--skipLibCheck", "--module", "commonjs", "--target", "es2022", "schema.zod.ts"];
    let tsc = Path::new(&node).join("node_modules/typescript/bin/tsc");
    let checked = Command::new("node").arg(tsc).args(types).current_dir(work.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
