//! Reads libFuzzer's log of a run and prints the results for people and for scripts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use xtask::{Failure, Result};

/// The maximum length in characters of a finding's message, because payloads are long. A replay shows all of it.
const SHOWN: usize = 400;

/// The result of running one target.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub target: String,
    pub executions: u64,
    pub per_second: u64,
    /// The number of reached edges and combinations of edges (libFuzzer's features).
    pub coverage: u64,
    pub features: u64,
    /// The number of inputs that were kept because each reached something new.
    pub corpus: u64,
    pub finding: Option<Finding>,
    pub log: PathBuf,
}

/// An input for which the target fails.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    pub input: PathBuf,
    /// The message of the panic, or of libFuzzer for a hang or too much memory.
    pub message: String,
}

impl Outcome {
    pub(super) fn read(target: &str, text: &str, log: PathBuf) -> Outcome {
        let mut outcome = Outcome { target: target.to_owned(), log, ..Outcome::default() };
        for line in text.lines() {
            // `#1234	NEW    cov: 1 ft: 2 corp: 3/4b …`
            if let Some(rest) = line.strip_prefix('#') {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let after = |name: &str| {
                    let at = words.iter().position(|word| *word == name)?;
                    words.get(at + 1)?.split('/').next()?.parse().ok()
                };
                outcome.executions = words.first().and_then(|word| word.parse().ok()).unwrap_or(outcome.executions);
                for (name, place) in [
                    ("cov:", &mut outcome.coverage),
                    ("ft:", &mut outcome.features),
                    ("corp:", &mut outcome.corpus),
                    ("exec/s:", &mut outcome.per_second),
                ] {
                    *place = after(name).unwrap_or(*place);
                }
            }
            let stat = |name: &str| {
                line.strip_prefix("stat::")?.strip_prefix(name)?.trim_start_matches(':').trim().parse().ok()
            };
            outcome.executions = stat("number_of_executed_units").unwrap_or(outcome.executions);
            outcome.per_second = stat("average_exec_per_sec").unwrap_or(outcome.per_second);
        }
        outcome.finding = text
            .lines()
            .find_map(|line| line.split_once("Test unit written to "))
            .map(|(_, path)| Finding { input: path.trim().into(), message: said(text) });
        outcome
    }

    fn again(&self, finding: &Finding) -> String {
        format!("cargo xtask fuzz {} --replay {}", self.target, finding.input.display())
    }
}

/// Returns the first panic's message, else libFuzzer's error.
fn said(text: &str) -> String {
    let mut lines = text.lines();
    let panicked = lines.by_ref().any(|line| line.contains("panicked at"));
    let message = if panicked { lines.next() } else { None };
    let error = || text.lines().find(|line| line.contains("ERROR: libFuzzer:"));
    let message = message.or_else(error).unwrap_or("no message").trim();
    match message.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

pub(super) fn print(outcomes: &[Outcome], json: bool) {
    let text = if json { as_json(outcomes) } else { as_table(outcomes) };
    // A closed pipe is no reason to fail.
    let _gone = writeln!(std::io::stdout(), "{text}");
}

fn as_table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:8}{:>12}{:>9}{:>10}{:>10}{:>8}  findings",
        "target", "executions", "exec/s", "coverage", "features", "corpus"
    );
    for one in outcomes {
        let finding = if one.finding.is_some() { "FOUND" } else { "none" };
        let _ = write!(
            text,
            "\n{:8}{:>12}{:>9}{:>10}{:>10}{:>8}  {finding}",
            one.target, one.executions, one.per_second, one.coverage, one.features, one.corpus
        );
    }
    text
}

fn as_json(outcomes: &[Outcome]) -> String {
    let targets: Vec<String> = outcomes
        .iter()
        .map(|one| {
            let finding = one.finding.as_ref().map_or("null".to_owned(), |finding| {
                let (input, message) = (quoted(&finding.input.display().to_string()), quoted(&finding.message));
                format!("{{\"input\":{input},\"message\":{message},\"again\":{}}}", quoted(&one.again(finding)))
            });
            format!(
                "{{\"target\":{},\"executions\":{},\"per_second\":{},\"coverage\":{},\"features\":{},\"corpus\":{},\"finding\":{finding}}}",
                quoted(&one.target), one.executions, one.per_second, one.coverage, one.features, one.corpus
            )
        })
        .collect();
    let found = outcomes.iter().filter(|one| one.finding.is_some()).count();
    let error = verdict(outcomes).err().map_or("null".to_owned(), |failure| {
        format!("{{\"code\":\"fuzz.finding\",\"message\":{}}}", quoted(&failure.message))
    });
    format!(
        "{{\"command\":\"fuzz\",\"ok\":{},\"summary\":\"{} targets, {found} findings\",\"result\":{{\"targets\":[{}]}},\"error\":{error}}}",
        found == 0,
        outcomes.len(),
        targets.join(",")
    )
}

/// Returns a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// # Errors
/// Fails if there is a finding. The message names it, its input, and the command that shows it again.
pub(super) fn verdict(outcomes: &[Outcome]) -> Result<()> {
    let lines: Vec<String> = outcomes
        .iter()
        .filter_map(|one| {
            let finding = one.finding.as_ref()?;
            Some(format!("{}: {}\n       again: {}", one.target, finding.message, one.again(finding)))
        })
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::failed(lines.join("\n       "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "INFO: Seed: 1\n#2\tINITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 27Mb\n\
        #19767\tDONE   cov: 10 ft: 12 corp: 4/17b lim: 198 exec/s: 9883 rss: 27Mb\n\
        stat::number_of_executed_units: 19767\nstat::average_exec_per_sec:     9883\n";
    const FOUND: &str = "#5\tNEW    cov: 3 ft: 3 corp: 2/7b lim: 6 exec/s: 0 rss: 27Mb\n\nthread '<unnamed>' (1) panicked at \
        fuzz/src/decode.rs:3:9:\nfound \"this\"\n==1== ERROR: libFuzzer: deadly signal\n\
        artifact_prefix='/c/'; Test unit written to /c/crash-1\n";

    #[test]
    fn figures_and_findings_are_read_from_the_log() {
        let clean = Outcome::read("json", CLEAN, PathBuf::new());
        let figures = (clean.executions, clean.per_second, clean.coverage, clean.features, clean.corpus);
        assert_eq!((figures, &clean.finding), ((19767, 9883, 10, 12, 4), &None));
        let found = Outcome::read("decode", FOUND, PathBuf::new());
        assert_eq!((found.executions, found.coverage), (5, 3));
        let finding = Finding { input: "/c/crash-1".into(), message: "found \"this\"".into() };
        assert_eq!(found.finding, Some(finding));
        let hang = Outcome::read(
            "json",
            "==9== ERROR: libFuzzer: timeout after 10 seconds\nTest unit written to t\n",
            PathBuf::new(),
        );
        assert_eq!(hang.finding.unwrap().message, "==9== ERROR: libFuzzer: timeout after 10 seconds");
    }

    #[test]
    fn a_finding_fails_and_says_how_to_see_it_again() {
        let outcomes = [Outcome::read("json", CLEAN, PathBuf::new()), Outcome::read("decode", FOUND, PathBuf::new())];
        assert!(verdict(&outcomes[..1]).is_ok());
        let failure = verdict(&outcomes).unwrap_err();
        assert_eq!(failure.code, 1);
        assert!(failure.message.ends_with("again: cargo xtask fuzz decode --replay /c/crash-1"), "{failure}");
        assert!(as_table(&outcomes).contains("FOUND"));
        let json = as_json(&outcomes);
        assert!(
            json.starts_with("{\"command\":\"fuzz\",\"ok\":false,") && json.contains("found \\\"this\\\""),
            "{json}"
        );
    }
}
