//! The supply chain: licences, bans, sources; advisories where their database can be had.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::Result;

use crate::project::{Project, answer, run, succeed};
use crate::say;

/// Known to understand deny.toml; a later one may reject a key.
const VERSION: &str = "0.20.2";

/// The main workspace, the fuzz targets' and the guests', by the same rules.
///
/// # Errors
/// Where a check fails, or cargo-deny can neither be found nor built.
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
        // The lists of licences are those of all workspaces: none of them has each.
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

/// The one on the `PATH`, else our own, built into the cache at the first time.
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
    // A debug build without debug information takes a third of the time of a release build, and checks as well.
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
    // Some 400 MB of intermediate results that nothing needs again.
    let _left = std::fs::remove_dir_all(tools.join("target"));
    Ok(built)
}
