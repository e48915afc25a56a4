//! `chaos`: injects random faults into real servers and checks the results with an oracle. tests/src/chaos.rs
//! implements the run.

use std::process::Stdio;

use xtask::Result;

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, succeed};
use crate::rings::VERSIONS;
use crate::say;

pub(crate) const USAGE: &str = "\
chaos [option…]
      --minutes N   how long, default 10
      --seed N      what is drawn from, default 1
      --rate N      events/s, default 20000
      --kafka V     on this version of Kafka
      --postgres V  on this version of PostgreSQL
      --output json one JSON object instead of the list";

/// Builds the product and starts the chaos run. Progress goes to stderr, results to stdout.
///
/// # Errors
/// Fails if a program is missing (exit code 3), an argument is wrong, or an event was lost, duplicated or changed (1).
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    say::to_stderr();
    check::check(project, Uses::Kafka, false)?;
    bout(project, &args.rest)
}

/// Runs the part of `ci`: two minutes, or ten with `full`. The faults are the same each time.
///
/// # Errors
/// Fails as [`run`] does.
pub(crate) fn part(project: &Project, full: bool) -> Result<()> {
    bout(project, &["--minutes", if full { "10" } else { "2" }].map(str::to_owned))
}

fn bout(project: &Project, words: &[String]) -> Result<()> {
    let build = ["build", "--release", "--workspace", "--bin", "tollgate", "--bin", "chaos"];
    succeed("the build", &mut project.cargo(&build))?;
    let mut chaos = std::process::Command::new(project.cache.target().join("release/chaos"));
    chaos.stdin(Stdio::null());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match VERSIONS.iter().find(|(flag, _)| flag == word) {
            Some((_, variable)) => chaos.env(variable, words.next().map_or("", String::as_str)),
            None => chaos.arg(word),
        };
    }
    chaos.env("TOLLGATE_BIN", project.tollgate_program()).env("TOLLGATE_CACHE", project.cache.root());
    succeed("the bout", &mut chaos)
}
