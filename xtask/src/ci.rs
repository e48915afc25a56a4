//! `ci`: all checks that a change must pass. CI calls this verb and nothing else. `--full` adds checks that take too
//! long for every change; docs/testing.md has the date and the result of their last run.

use xtask::Result;

use crate::args::{Args, FULL};
use crate::check::{self, Uses};
use crate::project::{Project, step, succeed, summary};
use crate::{cargo_deny, chaos, fuzz, golden, rings, say, tidy};

type Part = fn(&Project, &Args) -> Result<()>;

/// The cheap parts come first.
const PARTS: &[(&str, Part)] = &[
    ("format", |project, _| format(project)),
    ("tidy", tidy::run),
    ("supply", |project, args| cargo_deny::check(project, args.has(FULL))),
    ("lints", |project, _| lints(project)),
    ("golden", |project, _| golden::compare(project)),
    ("test", |project, args| rings::run(project, &args.only_flags())),
    ("fuzz", |project, args| fuzz::part(project, args.has(FULL))),
    ("chaos", |project, args| chaos::part(project, args.has(FULL))),
];

pub(crate) const NAMES: &[&str] = &["format", "tidy", "supply", "lints", "golden", "test", "fuzz", "chaos"];

/// Runs the named parts, or all. A failed part does not stop the others.
///
/// # Errors
/// Fails if a program is missing (exit code 3) or a part fails (1). The message shows how to repeat that part.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let chosen = PARTS.iter().filter(|(name, _)| args.words.is_empty() || args.words.iter().any(|word| word == name));
    check::check(project, Uses::Tests, args.has("--install"))?;
    let long = if args.has(FULL) { "an hour and more" } else { "about half an hour" };
    check::foretell(project, &format!("run the checks, {long} for all parts"));
    let steps: Vec<_> = chosen.map(|(name, part)| step(name, || part(project, args))).collect();
    summary(&steps, |name| format!("cargo xtask ci {name}{}", if args.has(FULL) { " --full" } else { "" }))
}

fn format(project: &Project) -> Result<()> {
    succeed("cargo fmt --check", &mut project.cargo(&["fmt", "--all", "--check"]))?;
    let fuzz = project.fuzz_workspace();
    let mut own = project.cargo_in(&fuzz, &project.cache.target());
    succeed("cargo fmt --check in fuzz", own.args(["fmt", "--all", "--check"]))?;
    for workspace in project.guest_workspaces() {
        let what = format!("cargo fmt --check in {}", project.relative(&workspace));
        succeed(&what, &mut project.guest_cargo(&workspace, &["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn lints(project: &Project) -> Result<()> {
    const ARGUMENTS: &[&str] = &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    // Targets that are run only by name are not included in "all". The rings start a program with failpoints.
    const RINGS: &[&str] = &[
        "clippy",
        "--release",
        "--workspace",
        "--features",
        "tollgate/hazards",
        "--bin",
        "tollgate-hazards",
        "--test",
        "ring3",
        "--test",
        "ring4",
        "--",
        "-D",
        "warnings",
    ];
    succeed("cargo clippy", &mut project.cargo(ARGUMENTS))?;
    succeed("cargo clippy of the rings", &mut project.cargo(RINGS))?;
    for workspace in project.guest_workspaces() {
        let name = project.relative(&workspace).into_owned();
        say::line(&format!("-- {name}"));
        succeed(&format!("cargo clippy in {name}"), &mut project.guest_cargo(&workspace, ARGUMENTS))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_named() {
        assert!(PARTS.iter().map(|(name, _)| name).eq(NAMES));
    }
}
