//! Tests the readers of users' files: contracts.lock, tollgate-check.yaml, pipeline.yaml. There must be no panic, every
//! error must have a position in the file, and a reader must accept its own output.

use std::path::Path;

use tollgate_config::{ConfigErrors, Pipeline};
use tollgate_readers::{Lock, suppress::Settings};

use crate::choices::Choices;

/// Reads one file, which the first byte selects.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let which = choices.byte();
    let Ok(text) = std::str::from_utf8(choices.rest()) else { return };
    match which % 3 {
        0 => lock(text),
        1 => settings(text),
        _ => pipeline(text),
    }
}

fn lock(text: &str) {
    let Ok(lock) = Lock::parse("contracts.lock", text) else { return };
    let rendered = lock.render();
    let again = Lock::parse("contracts.lock", &rendered);
    let again = again.unwrap_or_else(|failure| panic!("{failure} in what was written: {rendered:?}"));
    assert_eq!(again.render(), rendered);
    for (message, versions) in &lock.messages {
        let digests = |lock: &Lock| -> Vec<(u32, String)> {
            let versions = lock.messages.get(message).into_iter().flatten();
            versions.map(|(version, released)| (*version, released.digest.clone())).collect()
        };
        assert_eq!(digests(&lock), digests(&again));
        assert_eq!(lock.latest(message).map(|(version, _)| version), versions.keys().next_back().copied());
        let inside = versions.values().all(|released| (1..=text.lines().count()).contains(&released.line));
        assert!(inside, "a version stands on no line of the file");
    }
}

fn settings(text: &str) {
    match Settings::parse(Path::new("tollgate-check.yaml"), text) {
        Ok(settings) => {
            for suppression in &settings.suppressions {
                assert_eq!(suppression.expires.len(), 10, "{suppression:?}");
            }
        }
        Err(errors) => complaints(&errors, text),
    }
}

/// Reads a pipeline without variables, so that the verdict depends on the text alone.
fn pipeline(text: &str) {
    // Files that the text names would be read too.
    if text.contains("${file:") {
        return;
    }
    let read = || Pipeline::parse(Path::new("nowhere/pipeline.yaml"), text, &|_| None);
    match (read(), read()) {
        (Ok(pipeline), Ok(again)) => assert_eq!(format!("{pipeline:?}"), format!("{again:?}")),
        (Err(errors), Err(again)) => {
            assert_eq!(errors, again);
            complaints(&errors, text);
        }
        _ => panic!("two verdicts: {text}"),
    }
}

fn complaints(errors: &ConfigErrors, text: &str) {
    assert!(!errors.errors.is_empty());
    // YAML has more line breaks than Rust.
    let lines =
        1 + text.chars().filter(|char| matches!(char, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')).count();
    for error in &errors.errors {
        assert!(error.at.line <= lines + 1, "{error:?} is beyond the {lines} lines of {text:?}");
        assert!(!error.message.is_empty());
    }
    assert!(!errors.to_string().is_empty());
}
