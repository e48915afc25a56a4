//! `ci`: all that must hold before a change goes in. CI calls this verb and nothing else.

use xtask::Result;

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, step, succeed, summary};
use crate::{cargo_deny, golden, rings, say, tidy};

type Part = fn(&Project, &Args) -> Result<()>;

/// Cheap ones first.
const PARTS: &[(&str, Part, &str)] = &[
    ("format", |project, _| format(project), "cargo fmt --all --check"),
    ("tidy", tidy::run, "cargo xtask tidy"),
    ("supply chain", |project, _| cargo_deny::check(project), "cargo deny check bans licenses sources"),
    ("lints", |project, _| lints(project), "cargo clippy --release --workspace --all-targets -- -D warnings"),
    ("golden", |project, _| golden::compare(project), "cargo xtask golden --check"),
    ("test", rings::run, "cargo xtask test"),
];

/// Runs every part, also after one that failed.
///
/// # Errors
/// Where a program is missing (exit code 3) or a part fails (1); the message says how to repeat that part.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    check::check(project, Uses::Kafka, args.has("--install"))?;
    check::foretell(project, "run every check and every test");
    let steps: Vec<_> = PARTS.iter().map(|(name, part, _)| step(name, || part(project, args))).collect();
    summary(&steps, |name| {
        let part = PARTS.iter().find(|(part, _, _)| *part == name);
        part.map_or_else(String::new, |(_, _, command)| (*command).to_owned())
    })
}

fn format(project: &Project) -> Result<()> {
    succeed("cargo fmt --check", &mut project.cargo(&["fmt", "--all", "--check"]))?;
    for workspace in project.guest_workspaces() {
        let what = format!("cargo fmt --check in {}", project.relative(&workspace));
        succeed(&what, &mut project.guest_cargo(&workspace, &["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn lints(project: &Project) -> Result<()> {
    const ARGUMENTS: &[&str] = &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    succeed("cargo clippy", &mut project.cargo(ARGUMENTS))?;
    for workspace in project.guest_workspaces() {
        let name = project.relative(&workspace).into_owned();
        say::line(&format!("-- {name}"));
        succeed(&format!("cargo clippy in {name}"), &mut project.guest_cargo(&workspace, ARGUMENTS))?;
    }
    Ok(())
}
