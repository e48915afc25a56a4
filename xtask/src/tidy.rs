//! `tidy`: functions over 70 lines, files over 500, and files that import each other in a circle; tests aside.
//!
//! The files of today's circles stand in `xtask/circles.allow`, one a line. That list only shrinks, as [`CIRCULAR`] does.
//!
//! A function that must be longer stands in `xtask/tidy.allow` with a reason that a reader accepts, and its length: it may
//! not grow, and when it shrinks the list must follow. The list itself only shrinks too: see [`ALLOWED`].

mod circles;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use xtask::failure::Context;
use xtask::{Failure, Result};

use crate::args::Args;
use crate::project::{Project, capture};
use crate::say;

const FUNCTION: usize = 70;
const FILE: usize = 500;
/// How many exceptions there are. Lower it with the list, never raise it.
const ALLOWED: usize = 0;
/// How many files import each other in circles. Lower it with the list, never raise it.
const CIRCULAR: usize = 69;

/// Something too long: `path::function` or `path`, and its lines.
#[derive(Debug, PartialEq)]
struct Long {
    name: String,
    lines: usize,
}

/// A line of the list: `<name> <lines> <reason>`.
#[derive(Debug, PartialEq)]
struct Exception {
    name: String,
    lines: usize,
}

/// # Errors
/// Where something is too long, or the list does not match (exit code 1).
pub fn run(project: &Project, _args: &Args) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(&project.root);
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", "*.rs"]);
    let mut files = BTreeMap::new();
    for path in capture(&mut git)?.lines().filter(|path| !is_test(path)) {
        // A file that is deleted and not yet committed is listed all the same.
        let Ok(text) = fs::read_to_string(project.root.join(path)) else { continue };
        files.insert(path.to_owned(), source::read(&text));
    }
    let list = |name: &str| {
        let path = project.root.join("xtask").join(name);
        fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))
    };
    let exceptions = read(&list("tidy.allow")?)?;
    let long: Vec<Long> = files.iter().flat_map(|(path, source)| measure(path, source)).collect();
    let mut faults = judge(&long, &exceptions, ALLOWED);
    let circular = list("circles.allow")?;
    let circular: BTreeSet<&str> = circular.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    faults.extend(judge_circles(&circles::find(&files), &circular, CIRCULAR));
    if faults.is_empty() {
        let (files, exceptions) = (files.len(), exceptions.len());
        say::line(&format!("tidy: {files} files, {exceptions} exceptions, {} files in import circles", circular.len()));
        return Ok(());
    }
    Err(Failure::failed(format!("not tidy:\n  {}", faults.join("\n  "))))
}

/// Tests may be as long as what they tell.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn measure(path: &str, source: &source::Source) -> Vec<Long> {
    let functions = source.functions.iter().filter(|(_, lines)| *lines > FUNCTION);
    let mut long: Vec<Long> =
        functions.map(|(name, lines)| Long { name: format!("{path}::{name}"), lines: *lines }).collect();
    if source.lines > FILE {
        long.push(Long { name: path.to_owned(), lines: source.lines });
    }
    long
}

/// Compares the circles that exist with the files that may be in one.
fn judge_circles(circles: &[Vec<&str>], allowed: &BTreeSet<&str>, count: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for circle in circles.iter().filter(|circle| circle.iter().any(|file| !allowed.contains(file))) {
        faults.push(format!("these files import each other in a circle: {}", circle.join(", ")));
    }
    let circular: BTreeSet<&str> = circles.iter().flatten().copied().collect();
    let needless = allowed.iter().filter(|file| !circular.contains(*file));
    faults.extend(needless.map(|file| format!("{file} is in no circle any more: delete it from circles.allow")));
    if allowed.len() != count {
        let listed = allowed.len();
        faults.push(format!("circles.allow has {listed} files, tidy.rs says {count}: the number only goes down"));
    }
    faults
}

fn read(list: &str) -> Result<Vec<Exception>> {
    let entries = list.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    entries
        .map(|(index, line)| {
            let mut words = line.split_whitespace();
            let name = words.next().map(str::to_owned);
            let lines = words.next().and_then(|lines| lines.parse().ok());
            match (name, lines, words.next()) {
                (Some(name), Some(lines), Some(_reason)) => Ok(Exception { name, lines }),
                _ => Err(Failure::failed(format!("tidy.allow line {}: expected `<name> <lines> <reason>`", index + 1))),
            }
        })
        .collect()
}

fn judge(long: &[Long], exceptions: &[Exception], allowed: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for Long { name, lines } in long {
        match exceptions.iter().find(|exception| exception.name == *name) {
            None => {
                let limit = if name.contains("::") { FUNCTION } else { FILE };
                faults.push(format!("{name}: {lines} lines, {limit} at most"));
            }
            Some(exception) if exception.lines < *lines => {
                faults.push(format!("{name}: grew from {} to {lines} lines", exception.lines));
            }
            Some(exception) if exception.lines > *lines => {
                faults.push(format!("{name}: has {lines} lines now, say so in tidy.allow"));
            }
            Some(_) => {}
        }
    }
    let needless = exceptions.iter().filter(|exception| long.iter().all(|long| long.name != exception.name));
    faults.extend(needless.map(|exception| format!("{}: needs no exception any more, delete it", exception.name)));
    if exceptions.len() != allowed {
        faults.push(format!(
            "tidy.allow has {} exceptions, tidy.rs says {allowed}: the number only goes down",
            exceptions.len()
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(name: &str, lines: usize) -> Long {
        Long { name: name.to_owned(), lines }
    }

    fn exceptions(list: &str) -> Vec<Exception> {
        read(list).unwrap()
    }

    #[test]
    fn the_list_only_shrinks() {
        let found = [long("a.rs::f", 80)];
        assert!(judge(&found, &exceptions("a.rs::f 80 a table"), 1).is_empty());
        assert_eq!(judge(&found, &[], 0), ["a.rs::f: 80 lines, 70 at most"]);
        assert_eq!(judge(&found, &exceptions("a.rs::f 75 a table"), 1), ["a.rs::f: grew from 75 to 80 lines"]);
        assert_eq!(
            judge(&found, &exceptions("a.rs::f 90 a table"), 1),
            ["a.rs::f: has 80 lines now, say so in tidy.allow"]
        );
        assert_eq!(
            judge(&[], &exceptions("a.rs::f 80 a table"), 1),
            ["a.rs::f: needs no exception any more, delete it"]
        );
        assert_eq!(judge(&found, &exceptions("a.rs::f 80 a table"), 0).len(), 1);
        assert_eq!(judge(&[long("a.rs", 501)], &[], 0), ["a.rs: 501 lines, 500 at most"]);
    }

    #[test]
    fn an_exception_without_a_reason_is_refused() {
        assert!(read("# a comment\n\na.rs 600 one table of reason codes\n").is_ok());
        assert_eq!(read("a.rs 600\n").unwrap_err().message, "tidy.allow line 1: expected `<name> <lines> <reason>`");
        assert!(read("a.rs many words here\n").is_err());
    }

    #[test]
    fn tests_are_known_by_their_place() {
        assert!(["tests/src/lib.rs", "host/tests/a.rs", "host/src/lane/tests.rs"].into_iter().all(is_test));
        assert!(!["host/src/contests.rs", "xtask/src/tidy.rs"].into_iter().any(is_test));
    }

    #[test]
    fn a_long_function_and_a_long_file_are_found() {
        let text = format!("fn short() {{}}\nfn long() {{\n{}}}\n", "    work();\n".repeat(69));
        let measured = |text: &str| measure("a.rs", &source::read(text));
        assert_eq!(measured(&text), [long("a.rs::long", 71)]);
        assert_eq!(measured(&"const A: u8 = 1;\n".repeat(501)), [long("a.rs", 501)]);
        assert!(measured(&"// x\n".repeat(500)).is_empty());
    }

    #[test]
    fn the_list_of_circles_only_shrinks() {
        let circles = [vec!["a.rs", "b.rs"]];
        assert!(judge_circles(&circles, &BTreeSet::from(["a.rs", "b.rs"]), 2).is_empty());
        let words = "these files import each other in a circle: a.rs, b.rs";
        assert_eq!(judge_circles(&circles, &BTreeSet::from(["a.rs"]), 1), [words]);
        let words = "b.rs is in no circle any more: delete it from circles.allow";
        assert_eq!(judge_circles(&[], &BTreeSet::from(["b.rs"]), 1), [words]);
        assert_eq!(judge_circles(&circles, &BTreeSet::from(["a.rs", "b.rs"]), 1).len(), 1);
    }
}
