//! `bench`: builds the engines, starts its own servers, and runs `rounds` (package tollgate-bench), which measures
//! them. That package and docs/performance.md describe the measurements and how they are judged.

mod contract;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::failure::Context;
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions};
use xtask::{Cache, Failure, Result};

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, answer, succeed};
use crate::say;

pub(crate) const USAGE: &str = "\
bench [drain] [latency] [micro] [option…]     default: all three
bench delivery [option…]                      what the guarantee costs: drains, commits, latencies
bench contract [option…]                      the contract stage by itself, without servers
      --rounds N          drains of each engine, default 3; turns of `contract`, default 5
      --n N               events of a drain, default 1000000
      --pairs N           latency runs of each engine, default 5
      --latency-secs N    seconds of a latency run that count, default 30
      --idle-wait N       seconds to wait for an idle machine before each run, default 90
      --against PROGRAM   also drain by another build of tollgate, in turn; the report has the ratio
      --engines LIST      of node, earlier (--against), tollgate, tollgate-output, floor
      --no-node           leave Node's column out
      --output json       one JSON object instead of the tables
      --install           as for the other verbs
  contract takes --rounds, --no-node, --output and --install
  TOLLGATE_BASELINE names the folder of the Node baseline, default ../shared/baseline";

/// Options of `rounds` that users may set and that take a value. This module sets the others.
const WITH_VALUE: [&str; 8] =
    ["--rounds", "--n", "--pairs", "--latency-secs", "--idle-wait", "--against", "--engines", "--output"];
const PARTS: [&str; 4] = ["drain", "latency", "micro", "delivery"];
/// Builds with the features of the whole workspace, like all other builds here, so that no dependency is compiled
/// twice.
const BUILD: [&str; 11] =
    ["build", "--release", "--workspace", "--bin", "tollgate", "--bin", "rounds", "--bin", "floor", "--bin", "micro"];

struct Options {
    /// Options that are passed to `rounds` unchanged.
    passed: Vec<String>,
    node: bool,
    install: bool,
}

/// Runs the bench. The figures go to stdout, the progress to stderr.
///
/// # Errors
/// Fails if the arguments are wrong (2), a program or a server is missing (3), an engine fails, or an oracle disagrees
/// (1).
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    if args.rest.iter().any(|word| word == contract::PART) {
        return contract::run(project, &contract::parse(&args.rest)?);
    }
    let options = parse(&args.rest)?;
    say::to_stderr();
    check::check(project, Uses::Kafka, options.install)?;
    check::foretell(project, "measure, about twenty minutes for all three parts");
    succeed("the build of the bench", &mut project.cargo(&BUILD))?;
    let work = project.cache.folder("bench")?;
    let component = component(project, &work)?;
    let node = if options.node { node(&project.root, &work)? } else { None };

    let (kafka, postgres) = servers(&project.cache)?;
    let program = |name: &str| project.cache.target().join("release").join(name);
    let mut rounds = Command::new(program("rounds"));
    rounds.args(&options.passed).args(["--brokers", &kafka.brokers(), "--database", &postgres.url()]);
    for (option, id) in [("--broker-pid", kafka.id()), ("--postmaster", postgres.id())] {
        let id = id.ok_or_else(|| Failure::environment("a server ended at once"))?;
        rounds.args([option, &id.to_string()]);
    }
    rounds.arg("--work").arg(&work).arg("--floor").arg(program("floor")).arg("--micro").arg(program("micro"));
    rounds.arg("--tollgate").arg(program("tollgate")).arg("--protos").arg(project.root.join("proto"));
    rounds.arg("--component").arg(component);
    if let Some(node) = node {
        rounds.arg("--node").arg(node);
    }
    succeed("the bench", rounds.stdin(Stdio::null()))
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { passed: Vec::new(), node: true, install: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--no-node" => options.node = false,
            "--install" => options.install = true,
            part if PARTS.contains(&part) => options.passed.push(arg.clone()),
            option if WITH_VALUE.contains(&option) => {
                let value = rest.next().ok_or_else(|| Failure::usage(format!("{option} needs a value\n{USAGE}")))?;
                options.passed.extend([arg.clone(), value.clone()]);
            }
            unknown => return Err(Failure::usage(format!("unknown argument {unknown:?}\n{USAGE}"))),
        }
    }
    Ok(options)
}

/// Builds the transform that the measured payments pass through.
fn component(project: &Project, work: &Path) -> Result<PathBuf> {
    let component = work.join("payment-rules.wasm");
    let mut build = project.tollgate(&["build", "transforms/payment-rules", "--out"]);
    succeed("the build of payment-rules", build.arg(&component).stdout(Stdio::null()))?;
    Ok(component)
}

/// Starts servers with production settings: durable commits, and commit timestamps, which the figures need.
fn servers(cache: &Cache) -> Result<(Kafka, Postgres)> {
    // These are the options that Kafka's own start script passes to the JVM.
    let collector =
        ["-XX:-UseSerialGC", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"];
    let jvm = ["-Xms1g", "-Xmx1g"].into_iter().chain(collector).map(str::to_owned).collect();
    let kafka = Kafka::start(cache, &KafkaOptions { jvm, ..KafkaOptions::default() })?;
    let settings = [("fsync", "on"), ("track_commit_timestamp", "on")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let postgres = Postgres::start(cache, &PostgresOptions { settings, ..PostgresOptions::default() })?;
    Ok((kafka, postgres))
}

/// Builds the baseline's Node consumer in a copy, because its own folder may be read-only. Returns `None` if the
/// consumer or Node is missing.
fn node(root: &Path, work: &Path) -> Result<Option<PathBuf>> {
    let baseline = env::var_os("TOLLGATE_BASELINE").map_or_else(|| root.join("../shared/baseline"), PathBuf::from);
    let source = baseline.join("node");
    if !source.join("package-lock.json").is_file() {
        return Ok(None);
    }
    if answer("npm", &["--version"]).is_none() {
        say::line("npm is missing; without it Node's column is left out");
        return Ok(None);
    }
    let copy = work.join("baseline");
    let node = copy.join("node");
    let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let installed = node.join("node_modules/.package-lock.json").is_file() && lock(&source) == lock(&node);
    copy_tree(&source, &node)?;
    copy_file(&baseline.join("payment.proto"), &copy.join("payment.proto"))?;
    let npm = |args: &[&str]| {
        let mut npm = Command::new("npm");
        npm.args(args).arg("--silent").current_dir(&node).stdin(Stdio::null()).stdout(Stdio::null());
        succeed(&format!("npm {} of the Node baseline", args.join(" ")), &mut npm)
    };
    if !installed {
        npm(&["ci", "--no-audit", "--no-fund"])?;
    }
    npm(&["run", "build"])?;
    Ok(Some(node))
}

/// Copies files and folders, except those that npm and the build create. The copies are writable.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context(|| format!("cannot create {}", to.display()))?;
    let entries = fs::read_dir(from).context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.context(|| format!("cannot read {}", from.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_file() {
            copy_file(&path, &to.join(name))?;
        } else if name != "node_modules" && name != "dist" {
            copy_tree(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Copies the content only: `fs::copy` would also copy the permissions of a read-only file.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).context(|| format!("cannot read {}", from.display()))?;
    fs::write(to, content).context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use xtask::cache::unique;

    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn known_arguments_are_passed_on_and_typos_refused() {
        let options = parsed("drain --rounds 2 --no-node --output json").unwrap();
        assert_eq!(options.passed, ["drain", "--rounds", "2", "--output", "json"]);
        assert!(!options.node && !options.install);
        for wrong in ["drian", "--rounds", "--work /tmp"] {
            assert_eq!(parsed(wrong).err().map(|failure| failure.code), Some(2), "{wrong}");
        }
    }

    #[test]
    fn a_copy_leaves_out_what_is_built() {
        let top = env::temp_dir().join(unique("xtask-copy"));
        for folder in ["from/src", "from/node_modules", "from/dist"] {
            fs::create_dir_all(top.join(folder)).unwrap();
            fs::write(top.join(folder).join("file"), "x").unwrap();
        }
        copy_tree(&top.join("from"), &top.join("to")).unwrap();
        assert!(top.join("to/src/file").is_file());
        assert!(!top.join("to/node_modules").exists() && !top.join("to/dist").exists());
        fs::remove_dir_all(top).unwrap();
    }
}
