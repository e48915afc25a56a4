//! Runs the cases of Protobuf's conformance suite for JSON and the wire format: tests/conformance.cases.

use std::collections::{BTreeMap, BTreeSet};

use super::common::contract;
use tollgate_contract::{Contract, Fields, Policies, UnknownEnums, UnknownFields};

const CASES: &str = include_str!("../conformance.cases");

/// Returns a contract that refuses unknown members, and one that skips them.
fn contracts(message: &str) -> [Contract; 2] {
    // The policy decides about unknown enum numbers, not the suite.
    let keep = || Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    let strict = Policies { unknown_fields: UnknownFields::Reject, ..keep() };
    [contract(message, strict, &[]), contract(message, keep(), &[])]
}

/// Returns the gate's result: the message as JSON, `!code` if it is refused, or `~code` if it has no JSON form.
fn outcome(contract: &Contract, wire: &[u8]) -> String {
    match contract.check(wire, &mut Fields::new()) {
        Err(rejection) => format!("!{}", rejection.code),
        Ok(()) => contract.to_json(wire).unwrap_or_else(|rejection| format!("~{}", rejection.code)),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn found(contracts: &BTreeMap<bool, [Contract; 2]>, kind: &str, input: &str) -> String {
    let two = kind.ends_with('2');
    let [strict, lenient] = &contracts[&two];
    let contract = match kind.trim_end_matches('2') {
        "json" => strict,
        "ignore" => lenient,
        "wire" => return outcome(lenient, &bytes(input)),
        other => panic!("no such kind: {other}"),
    };
    let mut wire = Vec::new();
    match contract.transcode_json(input.replace('␤', "\n").as_bytes(), &mut wire) {
        Err(rejection) => format!("!{}", rejection.code),
        Ok(()) => outcome(contract, &wire),
    }
}

#[test]
fn every_case_of_protobufs_conformance_suite_has_its_verdict() {
    let contracts: BTreeMap<bool, [Contract; 2]> =
        [(false, contracts("every.v1.Every")), (true, contracts("every.v2.Every"))].into();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [level, name, kind, input, expected] = *line.split('|').collect::<Vec<_>>() else { panic!("{line}") };
        *counts.entry(level).or_default() += 1;
        assert!(names.insert((name, kind)), "{name} is there twice");
        let found = found(&contracts, kind, input);
        if found != expected {
            wrong.push(format!("{level} {name}: {input}\n    {found}\n    {expected}, expected"));
        }
    }
    assert!(wrong.is_empty(), "{} of {counts:?}:\n{}", wrong.len(), wrong.join("\n"));
    // Every case was used.
    assert_eq!(counts, [("exception", 6), ("recommended", 90), ("required", 770)].into());
}

#[test]
fn depth_is_bounded_in_both_forms() {
    let [strict, _] = contracts("every.v1.Every");
    let structs = |depth: usize| format!(r#"{{"struct":{}1{}}}"#, r#"{"n":"#.repeat(depth), "}".repeat(depth));
    let lists = |depth: usize| format!(r#"{{"value":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let values = |depth: usize| format!(r#"{{"value":{}1{}}}"#, r#"{"n":"#.repeat(depth), "}".repeat(depth));
    for nested in [&structs as &dyn Fn(usize) -> String, &lists, &values] {
        let mut wire = Vec::new();
        strict.transcode_json(nested(25).as_bytes(), &mut wire).unwrap();
        strict.check(&wire, &mut Fields::new()).unwrap();
        let refused = strict.transcode_json(nested(200).as_bytes(), &mut wire).unwrap_err();
        assert_eq!(refused.code.as_str(), "recursion-limit");
    }
    let mut deep = Vec::new();
    for _ in 0..200 {
        deep = super::common::bytes(27, &deep);
    }
    assert_eq!(outcome(&strict, &deep), "!recursion-limit");
}
