//! The supply chain: licences, bans, sources; advisories where their database can be had.

use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use xtask::Result;

use crate::project::{Project, answer, run, succeed};
use crate::say;

/// Known to understand deny.toml; a later one may reject a key.
const VERSION: &str = "0.20.2";

/// # Errors
/// Where a check fails, or cargo-deny can neither be found nor built.
pub fn check(project: &Project) -> Result<()> {
    let program = program(project)?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(&project.root).args(arguments).stdin(Stdio::null());
        command
    };
    succeed("cargo deny check bans licenses sources", &mut deny(&["check", "bans", "licenses", "sources"]))?;
    if !run(&mut deny(&["fetch", "db"]))?.success() {
        say::line("advisories: NOT checked, their database cannot be fetched here");
        return Ok(());
    }
    succeed("cargo deny check advisories", &mut deny(&["check", "--disable-fetch", "advisories"]))
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
