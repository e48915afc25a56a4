//! `tidy`: rejects functions over 70 lines, files over 500, files that import each other in a circle (tests aside),
//! crates with forbidden dependencies, and invariants that no line of the code names. There are no exceptions.

mod boundaries;
mod circles;
mod invariants;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use xtask::{Failure, Result};

use crate::args::Args;
use crate::project::{Project, capture};
use crate::say;

const FUNCTION: usize = 70;
const FILE: usize = 500;
/// The first line of a file that a test generates.
const GENERATED: &str = "// @generated";

/// # Errors
/// Fails if something is too long, in a circle, a forbidden dependency, or an unnamed invariant (exit code 1).
pub(crate) fn run(project: &Project, _args: &Args) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(&project.root);
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", "*.rs"]);
    let (mut files, mut product) = (BTreeMap::new(), Vec::new());
    for path in capture(&mut git)?.lines().filter(|path| !is_test(path)) {
        // Git still lists a file whose deletion is not committed yet.
        let Ok(text) = fs::read_to_string(project.root.join(path)) else { continue };
        if !text.starts_with(GENERATED) {
            files.insert(path.to_owned(), source::read(&text));
        }
        if path.starts_with("host/") {
            product.push(text);
        }
    }
    let mut faults: Vec<String> = files.iter().flat_map(|(path, source)| too_long(path, source)).collect();
    let circles = circles::find(&files).into_iter().map(|circle| circle.join(", "));
    faults.extend(circles.map(|circle| format!("these files import each other in a circle: {circle}")));
    faults.extend(boundaries::crossed(project)?);
    faults.extend(invariants::unnamed(project, product.iter().map(String::as_str))?);
    if faults.is_empty() {
        say::line(&format!("tidy: {} files", files.len()));
        return Ok(());
    }
    Err(Failure::failed(format!("not tidy:\n  {}", faults.join("\n  "))))
}

/// Tests may be longer than the limit.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn too_long(path: &str, source: &source::Source) -> Vec<String> {
    let functions = source.functions.iter().filter(|(_, lines)| *lines > FUNCTION);
    let mut faults: Vec<String> =
        functions.map(|(name, lines)| format!("{path}::{name}: {lines} lines, {FUNCTION} at most")).collect();
    if source.lines > FILE {
        faults.push(format!("{path}: {} lines, {FILE} at most", source.lines));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_known_by_their_place() {
        assert!(["tests/src/lib.rs", "host/tests/a.rs", "host/src/lane/tests.rs"].into_iter().all(is_test));
        assert!(!["host/src/contests.rs", "xtask/src/tidy.rs"].into_iter().any(is_test));
    }

    #[test]
    fn a_long_function_and_a_long_file_are_found() {
        let text = format!("fn short() {{}}\nfn long() {{\n{}}}\n", "    work();\n".repeat(69));
        let faults = |text: &str| too_long("a.rs", &source::read(text));
        assert_eq!(faults(&text), ["a.rs::long: 71 lines, 70 at most"]);
        assert_eq!(faults(&"const A: u8 = 1;\n".repeat(501)), ["a.rs: 501 lines, 500 at most"]);
        assert!(faults(&"// x\n".repeat(500)).is_empty());
    }
}
