//! Runs cargo-deny: licences, bans and sources, and also advisories if their database can be downloaded.
//!
//! Building cargo-deny takes minutes on a new machine, and the result depends only on the lock files and on deny.toml. So the
//! hashes of these files are committed when the checks have passed, and a machine without cargo-deny compares the hashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::Result;
use xtask::failure::Context;

use crate::project::{Project, answer, capture, run, succeed};
use crate::say;

/// This version is known to understand deny.toml; a later one may reject a key.
const VERSION: &str = "0.20.2";

/// The hashes of the files with which the checks passed last.
const PASSED: &str = "xtask/golden/supply.txt";

/// Checks the main workspace, the fuzz targets' and the guests' by the same rules. `always`: also if these files have
/// passed before.
///
/// # Errors
/// Fails if a check fails, or if cargo-deny can neither be found nor built.
pub(crate) fn check(project: &Project, always: bool) -> Result<()> {
    let mut workspaces = vec![project.root.clone(), project.fuzz_workspace()];
    workspaces.extend(project.guest_workspaces());
    let (now, passed) = (hashes(project, &workspaces)?, project.root.join(PASSED));
    let known = fs::read_to_string(&passed).is_ok_and(|text| text == now);
    let program = match found(project)? {
        Some(program) => program,
        None if known && !always => {
            say::line(
                "the lock files and deny.toml are those that passed; cargo-deny is not here and is not built for them",
            );
            return Ok(());
        }
        None => build(project)?,
    };
    with(project, &program, &workspaces)?;
    if !known {
        fs::write(&passed, now).context(|| format!("cannot write {PASSED}"))?;
        say::line(&format!("written: {PASSED}; commit it, so that other machines need not repeat the checks"));
    }
    Ok(())
}

/// Returns a line for each file that the checks depend on: its hash and its path.
fn hashes(project: &Project, workspaces: &[PathBuf]) -> Result<String> {
    let mut files = vec![project.root.join("deny.toml")];
    files.extend(workspaces.iter().map(|workspace| workspace.join("Cargo.lock")));
    let lines = files.iter().map(|file| {
        let hash = capture(Command::new("git").current_dir(&project.root).arg("hash-object").arg(file))?;
        Ok(format!("{} {}\n", hash.trim_end(), project.relative(file)))
    });
    lines.collect()
}

fn with(project: &Project, program: &Path, workspaces: &[PathBuf]) -> Result<()> {
    let deny = |workspace: &Path| {
        let mut command = Command::new(program);
        command.current_dir(&project.root).stdin(Stdio::null());
        command.arg("--manifest-path").arg(workspace.join("Cargo.toml")).args(["--config", "deny.toml"]);
        command
    };
    for workspace in workspaces {
        let manifest = workspace.join("Cargo.toml");
        let what = format!("cargo deny check of {}", project.relative(&manifest));
        say::line(&format!("-- {}", project.relative(&manifest)));
        // deny.toml lists the licences of all workspaces together, so each workspace lacks some of them.
        let mut command = deny(workspace);
        command.args(["check", "--allow", "license-not-encountered", "--allow", "license-exception-not-encountered"]);
        command.args(["bans", "licenses", "sources"]);
        succeed(&what, &mut command)?;
    }
    if !run(deny(&project.root).args(["fetch", "db"]).stderr(Stdio::null()))?.success() {
        say::line("advisories: NOT checked, their database cannot be fetched here");
        return Ok(());
    }
    for workspace in workspaces {
        succeed("cargo deny check advisories", deny(workspace).args(["check", "--disable-fetch", "advisories"]))?;
    }
    Ok(())
}

/// Returns the cargo-deny on the `PATH`, or one that was built into the cache.
fn found(project: &Project) -> Result<Option<PathBuf>> {
    if answer("cargo-deny", &["--version"]).is_some() {
        return Ok(Some("cargo-deny".into()));
    }
    let built = built(project)?;
    Ok(built.is_file().then_some(built))
}

fn built(project: &Project) -> Result<PathBuf> {
    Ok(project.cache.folder("tools")?.join("bin/cargo-deny"))
}

/// Builds cargo-deny into the cache.
fn build(project: &Project) -> Result<PathBuf> {
    let tools = project.cache.folder("tools")?;
    say::line(&format!("cargo-deny {VERSION} is missing: building it into {}, two minutes, once", tools.display()));
    // A debug build without debug information takes a third of a release build's time and gives the same results.
    let mut install = project.cargo(&[
        "install",
        "--locked",
        "--debug",
        "--no-default-features",
        "--version",
        VERSION,
        "cargo-deny",
        "--root",
    ]);
    succeed(
        "the build of cargo-deny",
        install.arg(&tools).env("CARGO_TARGET_DIR", tools.join("target")).env("CARGO_PROFILE_DEV_DEBUG", "0"),
    )?;
    // These are about 400 MB of intermediate build results that are not needed again.
    let _left = std::fs::remove_dir_all(tools.join("target"));
    built(project)
}
