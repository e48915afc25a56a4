//! The checkout, the cache, and functions that run programs on them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use xtask::failure::Context;
use xtask::process::{Group, Signal};
use xtask::{Cache, Failure, Result};

use crate::say;

pub(crate) struct Project {
    pub root: PathBuf,
    pub cache: Cache,
}

impl Project {
    /// Opens the checkout that this program was built in, and the user's cache.
    ///
    /// # Errors
    /// Fails if either cannot be found.
    pub(crate) fn open() -> Result<Self> {
        // `cargo run` sets the variable; a binary started by hand uses the path that it was built in.
        let here =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = here.parent().map(Path::to_path_buf).filter(|root| root.join("wit").is_dir());
        let root = root.ok_or_else(|| Failure::environment("the checkout of this program does not exist"))?;
        Ok(Project { root, cache: Cache::open()? })
    }

    /// Returns a cargo command in `folder` of the checkout that builds into `target`.
    pub(crate) fn cargo_in(&self, folder: &Path, target: &Path) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(folder).env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
        // `cargo run` describes xtask in these variables. A build script that reads one of them would run again.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Returns a cargo command on the main workspace.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.cargo_in(&self.root, &self.cache.target());
        command.args(arguments);
        command
    }

    /// Returns a cargo command on a guest workspace. It has another target folder, so that host and guests never wait
    /// for each other's lock.
    pub(crate) fn guest_cargo(&self, workspace: &Path, arguments: &[&str]) -> Command {
        let mut command = self.cargo_in(workspace, &self.cache.guests());
        command.args(arguments);
        command
    }

    /// Returns the path of the built `tollgate`.
    pub(crate) fn tollgate_program(&self) -> PathBuf {
        self.cache.target().join("release/tollgate")
    }

    /// Returns the path of the build with failpoints, which only the rings start.
    pub(crate) fn hazards_program(&self) -> PathBuf {
        self.cache.target().join("release/tollgate-hazards")
    }

    /// Returns the path of the published build of `tollgate`.
    pub(crate) fn dist_program(&self) -> PathBuf {
        self.cache.target().join("dist/tollgate")
    }

    /// Returns a `tollgate` command with the environment that it needs to build guests. The program must have been
    /// built.
    pub(crate) fn tollgate(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tollgate_program());
        command.args(arguments).current_dir(&self.root).stdin(Stdio::null());
        command.env("CARGO_TARGET_DIR", self.cache.guests()).env("TOLLGATE_CACHE", self.cache.root());
        command
    }

    /// Builds `tollgate` with the features of the whole workspace, so that no dependency is compiled again.
    ///
    /// # Errors
    /// Fails if the program does not compile.
    pub(crate) fn build_tollgate(&self) -> Result<()> {
        succeed("the build of tollgate", &mut self.cargo(&["build", "--release", "--workspace", "--bin", "tollgate"]))
    }

    /// Builds `tollgate-hazards`. Only the library is compiled again, not the dependencies.
    ///
    /// # Errors
    /// Fails if the program does not compile.
    pub(crate) fn build_hazards(&self) -> Result<()> {
        let began = Instant::now();
        let build =
            ["build", "--release", "--workspace", "--features", "tollgate/hazards", "--bin", "tollgate-hazards"];
        succeed("the build of tollgate-hazards", &mut self.cargo(&build))?;
        say::line(&format!("tollgate-hazards is built ({:.1} s)", began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Returns whether the heavy dependencies have yet to be compiled, which takes minutes.
    pub(crate) fn is_cold(&self) -> bool {
        let compiled = fs::read_dir(self.cache.target().join("release/deps"));
        !compiled
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libwasmtime-"))
    }

    /// Returns the folders below `transforms/` that hold a transform, sorted.
    pub(crate) fn transforms(&self) -> Vec<PathBuf> {
        folders_with(&self.root.join("transforms"), "transform.yaml")
    }

    /// Returns the workspaces of guests: the SDK's, and the transforms' (one for all, or one each).
    pub(crate) fn guest_workspaces(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in ["guest-sdk", "transforms"] {
            let folder = self.root.join(name);
            if folder.join("Cargo.toml").is_file() {
                found.push(folder);
            } else {
                found.extend(folders_with(&folder, "Cargo.toml"));
            }
        }
        found
    }

    /// Returns the workspace of the fuzz targets, which has other flags and another target folder.
    pub(crate) fn fuzz_workspace(&self) -> PathBuf {
        self.root.join("fuzz")
    }

    /// Returns a path as this project's messages show it: relative to the root.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> std::borrow::Cow<'a, str> {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy()
    }
}

fn folders_with(parent: &Path, file: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join(file).is_file()).collect();
    folders.sort();
    folders
}

/// Runs a program to its end. The program inherits stdout and stderr.
///
/// # Errors
/// Fails if the program cannot be started.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    Ok(Group::spawn(command, Signal::TERM)?.wait())
}

/// Runs a program as [`run`] does. Any other exit status than success is a failure that names `what`.
///
/// # Errors
/// Fails if the program cannot be started or does not succeed.
pub(crate) fn succeed(what: &str, command: &mut Command) -> Result<()> {
    let status = run(command)?;
    if status.success() { Ok(()) } else { Err(Failure::failed(format!("{what} failed ({status})"))) }
}

/// Returns a program's output, or `None` if it cannot be run or fails. Only for programs that answer at once.
pub(crate) fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(text)
}

/// Returns what a program prints to stdout.
///
/// # Errors
/// Fails if the program cannot be run or fails; the message ends with its stderr.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().context(|| format!("cannot start {program}"))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).context(|| format!("{program} printed no text"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("{program} failed ({}): {}", output.status, said.trim())))
}

/// A finished part of a long run, for the table at its end.
pub(crate) struct Step {
    pub name: String,
    pub took: Duration,
    pub failed: Option<String>,
}

/// Runs a part under its headline. A failure is kept for [`summary`], so that the other parts still run.
pub(crate) fn step(name: &str, part: impl FnOnce() -> Result<()>) -> Step {
    say::headline(name);
    let began = Instant::now();
    let failed = part().err().map(|failure| failure.message);
    if let Some(message) = &failed {
        say::error(message);
    }
    Step { name: name.to_owned(), took: began.elapsed(), failed }
}

/// Prints how many minutes each part took, and fails with the names of the parts that failed. `repeat` returns the
/// command that repeats a part alone.
///
/// # Errors
/// Fails if a part failed (exit code 1).
pub(crate) fn summary(steps: &[Step], repeat: impl Fn(&str) -> String) -> Result<()> {
    say::headline("summary");
    say::line(table(steps).trim_end());
    verdict(steps, repeat)
}

/// Returns a table with one line for each part, and their sum. A part may take seconds or half an hour, so both units
/// are shown.
fn table(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0).max("all".len());
    let line = |name: &str, took: Duration, verdict: &str| {
        let seconds = took.as_secs_f64();
        format!("{name:width$}  {:>5.1} min  {seconds:>7.1} s  {verdict}", seconds / 60.0).trim_end().to_owned() + "\n"
    };
    let mut text = String::new();
    for step in steps {
        text += &line(&step.name, step.took, if step.failed.is_some() { "FAILED" } else { "ok" });
    }
    text + &line("all", steps.iter().map(|step| step.took).sum(), "")
}

fn verdict(steps: &[Step], repeat: impl Fn(&str) -> String) -> Result<()> {
    let failed: Vec<&Step> = steps.iter().filter(|step| step.failed.is_some()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let lines = failed.iter().map(|step| {
        // The rest of a longer message was shown when the part failed.
        let message = step.failed.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        format!("{}: {}; again: {}", step.name, message.trim_end_matches(':'), repeat(&step.name))
    });
    Err(Failure::failed(lines.collect::<Vec<_>>().join("\n       ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_minutes_of_each_part_and_their_sum() {
        let step = |name: &str, seconds, failed: Option<&str>| Step {
            name: name.to_owned(),
            took: Duration::from_secs(seconds),
            failed: failed.map(str::to_owned),
        };
        let text = table(&[step("test", 906, None), step("fuzz", 24, Some("no luck"))]);
        assert_eq!(
            text,
            "test   15.1 min    906.0 s  ok\nfuzz    0.4 min     24.0 s  FAILED\nall    15.5 min    930.0 s\n"
        );
    }

    #[test]
    fn a_failed_part_is_named_with_its_repetition() {
        let step = |name: &str, failed: Option<&str>| Step {
            name: name.to_owned(),
            took: Duration::ZERO,
            failed: failed.map(str::to_owned),
        };
        let steps = [step("good", None), step("bad", Some("no luck:\n  at all"))];
        let failure = verdict(&steps, |name| format!("cargo xtask {name}")).unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (1, "bad: no luck; again: cargo xtask bad"));
        assert!(verdict(&steps[..1], str::to_owned).is_ok());
    }
}
