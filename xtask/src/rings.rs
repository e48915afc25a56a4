//! `test`: runs the rings of tests, from the cheapest to the end-to-end tests. The output of cargo is not changed, so
//! that its closing lines can be found in a log.

use std::process::Command;
use std::time::Instant;

use xtask::Result;
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions, versions};

use crate::args::{Args, FULL};
use crate::check::{self, Uses};
use crate::guests;
use crate::project::{Project, step, succeed, summary};
use crate::say;

/// In this order, so that a fault shows in the cheapest ring that can detect it.
pub(crate) const NAMES: &[&str] = &["unit", "guests", "cases", "e2e"];

/// The flags that choose the servers' versions, and the variables that pass them to programs that start servers.
pub(crate) const VERSIONS: &[(&str, &str)] =
    &[("--kafka", versions::KAFKA_VARIABLE), ("--postgres", versions::POSTGRES_VARIABLE)];

/// Runs the named rings, or all.
///
/// # Errors
/// Fails if a chosen version does not exist (exit code 2), a program is missing (exit code 3) or a ring fails (1). The
/// message shows how to repeat that ring.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let chosen: Vec<&str> =
        NAMES
            .iter()
            .copied()
            .filter(|name| {
                if args.words.is_empty() { has(name, &args.rest) } else { args.words.iter().any(|word| word == name) }
            })
            .collect();
    let real = chosen.iter().any(|name| matches!(*name, "unit" | "e2e"));
    versions::kafka(args.value("--kafka"))?;
    versions::postgres(args.value("--postgres"))?;
    check::check(project, if real { Uses::Tests } else { Uses::Build }, args.has("--install"))?;
    check::foretell(project, &format!("run {}, some minutes", chosen.join(", ")));
    let steps: Vec<_> = chosen.iter().map(|ring| step(ring, || run_ring(project, ring, args))).collect();
    summary(&steps, |ring| repetition(ring, args))
}

/// Returns whether a ring has tests for this filter. A filter selects tests by name; golden cases have no test names.
fn has(ring: &str, filter: &[String]) -> bool {
    filter.is_empty() || ring != "cases"
}

fn repetition(ring: &str, args: &Args) -> String {
    let mut command = format!("cargo xtask test {ring}");
    for (flag, _) in VERSIONS {
        if let Some(version) = args.value(flag) {
            command += &format!(" {flag} {version}");
        }
    }
    if args.has(FULL) {
        command += " --full";
    }
    if !args.rest.is_empty() {
        command += &format!(" -- {}", args.rest.join(" "));
    }
    command
}

fn run_ring(project: &Project, ring: &str, args: &Args) -> Result<()> {
    match ring {
        "unit" => unit(project, args),
        "guests" => native(project, &args.rest),
        "cases" => cases(project),
        _ => end_to_end(project, args),
    }
}

/// Set for the tests by `--full`: a test with variants that take too long for every change runs all of them.
const FULL_VARIABLE: &str = "TOLLGATE_FULL";

/// Passes the chosen versions to programs that start their own servers.
fn tell_versions(command: &mut Command, args: &Args) {
    if args.has(FULL) {
        command.env(FULL_VARIABLE, "1");
    }
    for (flag, variable) in VERSIONS {
        if let Some(version) = args.value(flag) {
            command.env(variable, version);
        }
    }
}

fn cargo_test(command: &mut Command, what: &str, filter: &[String]) -> Result<()> {
    if !filter.is_empty() {
        command.arg("--").args(filter);
    }
    succeed(what, command)
}

/// Runs all tests that need no server: units, properties and corpora. The servers' own library is tested here too.
fn unit(project: &Project, args: &Args) -> Result<()> {
    let mut command = project.cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
    tell_versions(&mut command, args);
    cargo_test(&mut command, "cargo test", &args.rest)
}

/// Tests the guests' functions as ordinary code, compiled for this machine.
fn native(project: &Project, filter: &[String]) -> Result<()> {
    for workspace in project.guest_workspaces() {
        say::line(&format!("-- {}", project.relative(&workspace)));
        let mut command = project.guest_cargo(&workspace, &["test", "--release", "--workspace", "--no-fail-fast"]);
        cargo_test(&mut command, &format!("cargo test in {}", project.relative(&workspace)), filter)?;
    }
    Ok(())
}

/// Runs the golden cases of every transform against its component, within its fuel limit.
fn cases(project: &Project) -> Result<()> {
    project.build_tollgate()?;
    guests::build_all(project)?;
    let transforms = project.transforms();
    let mut command = project.tollgate(&["test"]);
    command.args(&transforms);
    succeed("tollgate test", &mut command)
}

/// Tests the product as users have it: its binary, a real Kafka and a real PostgreSQL. One server of each kind is
/// started here and shared. A test that breaks a server starts its own.
fn end_to_end(project: &Project, args: &Args) -> Result<()> {
    project.build_tollgate()?;
    guests::build_all(project)?;
    project.build_hazards()?;
    let began = Instant::now();
    let (kafka, postgres) = servers(project, args)?;
    say::line(&format!(
        "Kafka {} ({}) and PostgreSQL {} ({}) are up ({:.1} s); logs: {} and {}",
        kafka.version(),
        kafka.brokers(),
        postgres.version(),
        postgres.url(),
        began.elapsed().as_secs_f64(),
        kafka.log().display(),
        postgres.log().display()
    ));
    let mut command =
        project.cargo(&["test", "--release", "--workspace", "--test", "ring3", "--test", "ring4", "--no-fail-fast"]);
    command.env("TOLLGATE_TEST_KAFKA", kafka.brokers()).env("TOLLGATE_TEST_POSTGRES", postgres.url());
    command.env("TOLLGATE_BIN", project.tollgate_program()).env("TOLLGATE_CACHE", project.cache.root());
    command.env("TOLLGATE_HAZARDS_BIN", project.hazards_program());
    command.env("TOLLGATE_GUESTS_TARGET", project.cache.guests());
    tell_versions(&mut command, args);
    cargo_test(&mut command, "cargo test -p tollgate-tests", &args.rest)
}

/// Starts a Kafka and a PostgreSQL for tests and manual experiments, in the versions that the flags choose.
pub(crate) fn servers(project: &Project, args: &Args) -> Result<(Kafka, Postgres)> {
    let kafka = KafkaOptions { version: args.value("--kafka").map(str::to_owned), ..KafkaOptions::default() };
    let postgres = PostgresOptions {
        version: args.value("--postgres").map(str::to_owned),
        // The tests measure latency with the server's own clock.
        settings: vec![("track_commit_timestamp".to_owned(), "on".to_owned())],
        ..PostgresOptions::default()
    };
    // Kafka takes two seconds to start, and PostgreSQL one. Both start at the same time.
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::start(&project.cache, &kafka));
        let postgres = Postgres::start(&project.cache, &postgres);
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
    }

    #[test]
    fn how_to_repeat_a_ring() {
        let parse = |line: &str| {
            let given = line.split_whitespace().map(str::to_owned).collect();
            Args::parse("test", given, &["--kafka V", "--postgres V"], NAMES).unwrap()
        };
        let line = "e2e --kafka 3.7 --postgres 18 -- happy";
        assert_eq!(repetition("e2e", &parse(line)), format!("cargo xtask test {line}"));
        assert_eq!(repetition("unit", &parse("")), "cargo xtask test unit");
    }
}
