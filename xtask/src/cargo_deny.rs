//! Runs cargo-deny: licences, bans and sources, and also advisories if their database can be downloaded.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::Result;

use crate::project::{Project, answer, run, succeed};
use crate::say;

/// This version is known to understand deny.toml; a later one may reject a key.
const VERSION: &str = "0.20.2";

/// Checks the main workspace, the fuzz targets' and the guests' by the same rules.
///
/// # Errors
/// Fails if a check fails, or if cargo-deny can neither be found nor built.
pub(crate) fn check(project: &Project) -> Result<()> {
    let program = program(project)?;
    let deny = |workspace: &Path| {
        let mut command = Command::new(&program);
        command.current_dir(&project.root).stdin(Stdio::null());
        command.arg("--manifest-path").arg(workspace.join("Cargo.toml")).args(["--config", "deny.toml"]);
        command
    };
    let mut workspaces = vec![project.root.clone(), project.fuzz_workspace()];
    workspaces.extend(project.guest_workspaces());
    for workspace in &workspaces {
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
    for workspace in &workspaces {
        succeed("cargo deny check advisories", deny(workspace).args(["check", "--disable-fetch", "advisories"]))?;
    }
    Ok(())
}

/// Returns the cargo-deny on the `PATH`, else one that is built into the cache on first use.
fn program(project: &Project) -> Result<PathBuf> {
    if answer("cargo-deny", &["--version"]).is_some() {
        return Ok("cargo-deny".into());
    }
    let tools = project.cache.folder("tools")?;
    let built = tools.join("bin/cargo-deny");
    if built.is_file() {
        return Ok(built);
    }
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
    Ok(built)
}
