//! `tidy`: functions over 70 lines, files over 500, files that import each other in a circle (tests aside), crates with a
//! dependency that they must not have, invariants that no line of the code names, and durations outside of `limits.rs`. There
//! are no exceptions.

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
/// Something is too long, in a circle, a forbidden dependency, an unnamed invariant, or a stray duration (exit code 1).
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
    faults.extend(files.iter().flat_map(|(path, source)| stray_durations(path, source)));
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

/// A wait or a timeout has a reason, and the reasons stand together.
fn stray_durations(path: &str, source: &source::Source) -> Vec<String> {
    if !path.starts_with("host/") || path.ends_with("/limits.rs") || path.contains("/examples/") {
        return Vec::new();
    }
    let stray = source.durations.iter();
    stray.map(|line| format!("{path}:{line}: a duration belongs into limits.rs, with its reason")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_outside_of_the_limits_is_found() {
        let text = "use std::time::Duration;\nconst A: Duration = Duration::from_secs(5);\nfn a(n: u64) { wait(Duration::from_millis(n)) }\n\
                    #[cfg(test)]\nmod tests { const B: Duration = Duration::from_secs(1); }\n";
        let found = |path| stray_durations(path, &source::read(text)).len();
        assert_eq!([found("host/src/a.rs"), found("host/config/src/limits.rs"), found("xtask/src/a.rs")], [1, 0, 0]);
    }

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
