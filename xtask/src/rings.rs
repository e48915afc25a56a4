//! `test`: the rings of tests, from the cheap to the real. Each is run with cargo's own output, so that who reads a log for
//! cargo's closing lines finds them.

use std::process::Command;
use std::time::Instant;

use xtask::Result;
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions};

use crate::args::Args;
use crate::check::{self, Uses};
use crate::guests;
use crate::project::{Project, step, succeed, summary};
use crate::say;

/// In this order: a fault shows in the cheapest ring that can show it.
pub const NAMES: &[&str] = &["unit", "guests", "cases", "e2e"];

/// Runs the named rings, or all.
///
/// # Errors
/// Where a program is missing (exit code 3) or a ring fails (1); the message says how to repeat that ring.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let chosen: Vec<&str> =
        NAMES
            .iter()
            .copied()
            .filter(|name| {
                if args.words.is_empty() { has(name, &args.rest) } else { args.words.iter().any(|word| word == name) }
            })
            .collect();
    let real = chosen.iter().any(|name| matches!(*name, "unit" | "e2e"));
    check::check(project, if real { Uses::Kafka } else { Uses::Build }, args.has("--install"))?;
    check::foretell(project, &format!("run {}, some minutes", chosen.join(", ")));
    let steps: Vec<_> = chosen.iter().map(|ring| step(ring, || run_ring(project, ring, &args.rest))).collect();
    summary(&steps, |ring| repetition(ring, &args.rest))
}

/// A filter chooses among tests by name; golden cases have none.
fn has(ring: &str, filter: &[String]) -> bool {
    filter.is_empty() || ring != "cases"
}

fn repetition(ring: &str, filter: &[String]) -> String {
    let mut command = format!("cargo xtask test {ring}");
    if !filter.is_empty() {
        command += &format!(" -- {}", filter.join(" "));
    }
    command
}

fn run_ring(project: &Project, ring: &str, filter: &[String]) -> Result<()> {
    match ring {
        "unit" => unit(project, filter),
        "guests" => native(project, filter),
        "cases" => cases(project),
        _ => end_to_end(project, filter),
    }
}

fn cargo_test(command: &mut Command, what: &str, filter: &[String]) -> Result<()> {
    if !filter.is_empty() {
        command.arg("--").args(filter);
    }
    succeed(what, command)
}

/// Units, properties, corpora: all that runs without a server. The servers' own library is tested here too.
fn unit(project: &Project, filter: &[String]) -> Result<()> {
    let mut command = project.cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
    cargo_test(&mut command, "cargo test", filter)
}

/// The guests' functions as ordinary code, on this machine's own processor.
fn native(project: &Project, filter: &[String]) -> Result<()> {
    for workspace in project.guest_workspaces() {
        say::line(&format!("-- {}", project.relative(&workspace)));
        let mut command = project.guest_cargo(&workspace, &["test", "--release", "--workspace", "--no-fail-fast"]);
        cargo_test(&mut command, &format!("cargo test in {}", project.relative(&workspace)), filter)?;
    }
    Ok(())
}

/// The golden cases of every transform, on its component, within its fuel.
fn cases(project: &Project) -> Result<()> {
    project.build_tollgate()?;
    guests::build_all(project)?;
    let transforms = project.transforms();
    let mut command = project.tollgate(&["test"]);
    command.args(&transforms);
    succeed("tollgate test", &mut command)
}

/// The product as users have it: its binary, a real Kafka, a real PostgreSQL. One of each is started here and shared; a test
/// that breaks a server starts its own.
fn end_to_end(project: &Project, filter: &[String]) -> Result<()> {
    project.build_tollgate()?;
    guests::build_all(project)?;
    let began = Instant::now();
    let (kafka, postgres) = servers(project)?;
    say::line(&format!(
        "Kafka {} and PostgreSQL {} are up ({:.1} s); logs: {} and {}",
        kafka.brokers(),
        postgres.url(),
        began.elapsed().as_secs_f64(),
        kafka.log().display(),
        postgres.log().display()
    ));
    let mut command =
        project.cargo(&["test", "--release", "--workspace", "--test", "ring3", "--test", "ring4", "--no-fail-fast"]);
    command.env("TOLLGATE_TEST_KAFKA", kafka.brokers()).env("TOLLGATE_TEST_POSTGRES", postgres.url());
    command.env("TOLLGATE_BIN", project.tollgate_program()).env("TOLLGATE_CACHE", project.cache.root());
    command.env("TOLLGATE_GUESTS_TARGET", project.cache.guests());
    cargo_test(&mut command, "cargo test -p tollgate-tests", filter)
}

/// A Kafka and a PostgreSQL as tests and manual play want them.
pub fn servers(project: &Project) -> Result<(Kafka, Postgres)> {
    let options = PostgresOptions {
        // Latency is measured on the server's own clock.
        settings: vec![("track_commit_timestamp".to_owned(), "on".to_owned())],
        ..PostgresOptions::default()
    };
    // Kafka takes two seconds, PostgreSQL one: both at once.
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::start(&project.cache, &KafkaOptions::default()));
        let postgres = Postgres::start(&project.cache, &options);
        let kafka = kafka.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((kafka?, postgres?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_leaves_out_what_has_no_names() {
        let filter = vec!["happy".to_owned()];
        let left: Vec<&str> = NAMES.iter().copied().filter(|ring| has(ring, &filter)).collect();
        assert_eq!(left, ["unit", "guests", "e2e"]);
        assert!(NAMES.iter().all(|ring| has(ring, &[])));
        assert_eq!(repetition("e2e", &filter), "cargo xtask test e2e -- happy");
        assert_eq!(repetition("unit", &[]), "cargo xtask test unit");
    }
}
