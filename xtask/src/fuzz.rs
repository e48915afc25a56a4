//! `fuzz`: builds the targets of `fuzz/` with coverage counters, runs each for a while, and reports the findings.

mod report;

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use xtask::failure::Context;
use xtask::process::{Group, Signal};
use xtask::{Failure, Result};

use crate::args::{self, Args};
use crate::check::{self, Uses};
use crate::project::{Project, capture, run as run_program, succeed};
use crate::say;
use report::Outcome;

pub(crate) const USAGE: &str = "\
fuzz [target…] [option…]       default: every target, one after the other
      --seconds N         how long each target runs, default 10
      --jobs N            targets that run at the same time, default 1
      --replay FILE       run one target on one input and show what it says
      --output json       one JSON object instead of the table
      --install           as for the other verbs
  targets: decode rules frame json compat files record (fuzz/README.md); new inputs are kept in TOLLGATE_CACHE/fuzz";

/// In the order in which an event passes these stages.
pub(crate) const TARGETS: &[&str] = &["decode", "rules", "frame", "json", "compat", "files", RECORD];

/// The one target that links the whole engine.
const RECORD: &str = "record";

/// The flags with which rustc counts coverage for libFuzzer. They are LLVM options, so a stable compiler accepts them.
/// AddressSanitizer would require a nightly one, and the tested code has no unsafe blocks.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// Interesting payloads are small, and small ones can be tried more often.
const INPUT_BYTES: &str = "4096";
/// Seconds after which one input counts as a hang.
const HANG: &str = "10";
const MEMORY_MB: &str = "2048";

struct Options {
    targets: Vec<&'static str>,
    seconds: u32,
    jobs: usize,
    replay: Option<PathBuf>,
    json: bool,
    install: bool,
}

/// The folders of the built programs and of the kept inputs.
struct Bench<'a> {
    project: &'a Project,
    programs: Programs,
}

/// The folders of the built programs.
struct Programs {
    own: PathBuf,
    /// The folder of [`RECORD`].
    product: PathBuf,
}

/// Builds and runs the chosen targets, and prints a table.
///
/// # Errors
/// Fails if the arguments are wrong (2), a program is missing (3), a build fails, or there is a finding (1). For a
/// finding the message names the input and the command that repeats it.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let options = parse(&args.rest)?;
    say::to_stderr();
    check::check(project, Uses::Build, options.install)?;
    let bench = Bench { project, programs: build(project, &options.targets)? };
    if let Some(input) = &options.replay {
        return bench.replay(&options, input);
    }
    let outcomes = bench.all(&options)?;
    report::print(&outcomes, options.json);
    report::verdict(&outcomes)
}

/// Runs the part of `ci`: every target, two at a time, for ten seconds each, or with `full` for five minutes each.
///
/// # Errors
/// Fails as [`run`] does.
pub(crate) fn part(project: &Project, full: bool) -> Result<()> {
    let seconds = if full { 300 } else { 10 };
    let options = Options { targets: TARGETS.to_vec(), seconds, jobs: 2, replay: None, json: false, install: false };
    let bench = Bench { project, programs: build(project, &options.targets)? };
    let outcomes = bench.all(&options)?;
    report::print(&outcomes, false);
    report::verdict(&outcomes)
}

fn parse(given: &[String]) -> Result<Options> {
    let mut options = Options { targets: Vec::new(), seconds: 10, jobs: 1, replay: None, json: false, install: false };
    let mut rest = given.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| Failure::usage(format!("{word} needs a value\n{USAGE}")));
        match word.as_str() {
            "--seconds" => options.seconds = number(word, value()?)?,
            "--jobs" => options.jobs = usize::try_from(number(word, value()?)?).unwrap_or(1),
            "--replay" => options.replay = Some(value()?.into()),
            "--install" => options.install = true,
            "--output" => match value()?.as_str() {
                "json" => options.json = true,
                other => return Err(args::unknown("value of `--output`", other, &["json"])),
            },
            flag if flag.starts_with('-') => {
                let flags = ["--seconds", "--jobs", "--replay", "--output", "--install"];
                return Err(args::unknown("flag of `cargo xtask fuzz`", flag, &flags));
            }
            name => match TARGETS.iter().find(|target| **target == name) {
                Some(target) => options.targets.push(target),
                None => return Err(args::unknown("fuzz target", name, TARGETS)),
            },
        }
    }
    if options.replay.is_some() && options.targets.len() != 1 {
        return Err(Failure::usage("--replay needs exactly one target, the one that the input is for"));
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

fn number(option: &str, text: &str) -> Result<u32> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::usage(format!("{option} needs a whole number of at least 1, not `{text}`")))
}

/// Builds the given targets. The targets of `fuzz/` have their own target folder beside the main one, because other
/// flags produce other code. The target triple is given so that build scripts and macros, which run in the compiler,
/// are built without the flags.
fn build(project: &Project, targets: &[&str]) -> Result<Programs> {
    let product = if targets.contains(&RECORD) { build_record(project)? } else { PathBuf::new() };
    let own = if targets.iter().any(|target| *target != RECORD) { build_own(project)? } else { PathBuf::new() };
    Ok(Programs { own, product })
}

/// Builds [`RECORD`] and returns its folder. It links the product's builds of wasmtime, librdkafka and the other
/// dependencies. Only the crates of the workspace are compiled again, with counters: cargo runs their compiler through
/// a wrapper and stores the results separately.
fn build_record(project: &Project) -> Result<PathBuf> {
    let wrapper = project.cache.folder("fuzz")?.join("rustc");
    let flags = FLAGS.iter().chain(&["-Coverflow-checks=on", "-Cdebug-assertions=on"]);
    let flags: Vec<&str> = flags.copied().collect();
    // Code that runs in the compiler cannot link the counters' runtime.
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n  *\" --crate-name build_script_build \"*|*\" proc-macro \"*) exec \"$@\" ;;\nesac\n\
         exec \"$@\" {}\n",
        flags.join(" ")
    );
    let written =
        fs::write(&wrapper, script).and_then(|()| fs::set_permissions(&wrapper, Permissions::from_mode(0o755)));
    written.context(|| format!("cannot write {}", wrapper.display()))?;
    let target = project.cache.target();
    let mut cargo = project.cargo_in(&project.root, &target);
    // With --workspace the dependencies have the product's features; with -p wasmtime and sqlx would be compiled once
    // more.
    cargo.args(["build", "--release", "--workspace", "--features", "tollgate-fuzz-record/fuzz", "--bin", RECORD]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    succeed("the build of the fuzz target record", &mut cargo)?;
    Ok(target.join("release"))
}

/// Builds the other targets and returns their folder.
fn build_own(project: &Project) -> Result<PathBuf> {
    let target = project.cache.target().join("fuzz");
    let version = capture(Command::new("rustc").arg("-vV").current_dir(&project.root))?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
    let triple = triple.ok_or_else(|| Failure::environment("rustc -vV names no host"))?;
    let mut cargo = project.cargo_in(&project.fuzz_workspace(), &target);
    cargo.args(["build", "--release", "--bins", "--target", triple]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    succeed("the build of the fuzz targets", &mut cargo)?;
    Ok(target.join(triple).join("release"))
}

impl Bench<'_> {
    /// Returns the folder of the inputs with which a target reached new code.
    fn corpus(&self, target: &str) -> Result<PathBuf> {
        self.project.cache.folder(&format!("fuzz/corpus/{target}"))
    }

    fn program(&self, target: &str) -> Command {
        let folder = if target == RECORD { &self.programs.product } else { &self.programs.own };
        let mut command = Command::new(folder.join(target));
        command.current_dir(&self.project.root).stdin(Stdio::null());
        command.args([&format!("-timeout={HANG}"), &format!("-rss_limit_mb={MEMORY_MB}")]);
        command
    }

    fn replay(&self, options: &Options, input: &Path) -> Result<()> {
        let target = options.targets.first().copied().unwrap_or_default();
        let input = input.canonicalize().context(|| format!("cannot read {}", input.display()))?;
        let status = run_program(self.program(target).arg(&input).env("RUST_BACKTRACE", "1"))?;
        if status.success() {
            say::line(&format!("{target} accepts {}", input.display()));
            return Ok(());
        }
        Err(Failure::failed(format!("{target} fails on {} ({status})", input.display())))
    }

    /// Runs every target, `jobs` at a time, and returns the outcomes in the targets' order.
    fn all(&self, options: &Options) -> Result<Vec<Outcome>> {
        let waiting: Mutex<VecDeque<_>> = Mutex::new(options.targets.iter().copied().enumerate().collect());
        let done = Mutex::new(Vec::new());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        thread::scope(|scope| {
            for _ in 0..options.jobs.min(options.targets.len()) {
                scope.spawn(|| {
                    while let Some((at, target)) = next() {
                        let outcome = self.one(target, options.seconds);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Runs one target for `seconds` or until a finding. It starts from the committed inputs and those found earlier.
    fn one(&self, target: &str, seconds: u32) -> Result<Outcome> {
        say::line(&format!("-- {target}: {seconds} s"));
        let findings = self.project.cache.folder(&format!("fuzz/findings/{target}"))?;
        let (log, file) = self.project.cache.log(&format!("fuzz-{target}"))?;
        let mut command = self.program(target);
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES}"));
        command.arg(format!("-artifact_prefix={}/", findings.display())).arg("-print_final_stats=1");
        command.arg(self.corpus(target)?);
        let seeds = self.project.root.join("fuzz/corpus").join(target);
        let dictionary = self.project.root.join("fuzz/dictionaries").join(target);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let status = Group::spawn(command.stdout(Stdio::null()).stderr(file), Signal::TERM)?.wait();
        let text = fs::read(&log).context(|| format!("cannot read {}", log.display()))?;
        let outcome = Outcome::read(target, &String::from_utf8_lossy(&text), log);
        if status.success() || outcome.finding.is_some() {
            return Ok(outcome);
        }
        Err(Failure::failed(format!(
            "{target} ended with {status} and without an input; see {}",
            outcome.log.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn targets_and_options_are_read() {
        let options = parsed("frame decode --seconds 3 --jobs 2 --output json").unwrap();
        assert_eq!((options.targets.as_slice(), options.seconds, options.jobs), (&["frame", "decode"][..], 3, 2));
        assert!(options.json && parsed("").unwrap().targets == TARGETS);
        assert_eq!(parsed("json --replay x").unwrap().replay, Some(PathBuf::from("x")));
    }

    #[test]
    fn wrong_words_are_refused_with_the_nearest() {
        let message = |line: &str| parsed(line).err().map(|failure| (failure.code, failure.message)).unwrap();
        assert_eq!(message("decod"), (2, "unknown fuzz target: `decod`; did you mean `decode`?".to_owned()));
        assert_eq!(
            message("--second 4"),
            (2, "unknown flag of `cargo xtask fuzz`: `--second`; did you mean `--seconds`?".to_owned())
        );
        for wrong in ["--seconds", "--seconds 0", "--seconds soon", "--replay x", "--output yaml"] {
            assert_eq!(message(wrong).0, 2, "{wrong}");
        }
    }

    #[test]
    fn every_target_can_be_named_and_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets");
        let mut there: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        there.sort();
        let mut named = TARGETS.to_vec();
        named.sort_unstable();
        assert_eq!(there, named);
        assert!(TARGETS.iter().all(|target| USAGE.contains(target)));
    }
}
