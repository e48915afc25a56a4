//! Tests that the published program has no failpoints.
#![cfg(not(feature = "hazards"))]
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::fs;
use std::process::Command;

use tollgate_engine::hazards::VARIABLES;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tollgate");

#[test]
fn a_variable_of_the_tests_is_refused() {
    for variable in VARIABLES {
        let run = Command::new(PROGRAM).args(["run", "none.yaml"]).env(variable, "at-begin").output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{variable} is for Tollgate's own tests")), "{said}");
    }
}

#[test]
fn the_program_does_not_contain_them() {
    let bytes = fs::read(PROGRAM).unwrap();
    let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains(VARIABLES[0]), "the way to look does not find what is there");
    for text in ["at-first-offset", "after-step-3", "no-compare-and-swap", "continuing after the failpoint"] {
        assert!(!contains(text), "{text} is in the program");
    }
}
