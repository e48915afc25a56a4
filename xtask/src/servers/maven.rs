//! Maven as the way to what is kept in Maven Central. It compares what it downloads with the checksums that are there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::explain;
use crate::cache::Cache;
use crate::failure::{Context, Failure, Result};
use crate::process::{Group, Signal};

/// The folder `name` in `home`, made by `make` at the first time. Programs that start at the same time wait for the one
/// that makes it, and the name appears only when all of it is there.
///
/// # Errors
/// What `make` says, or the file system refuses.
pub(super) fn once(home: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let made = home.join(name);
    let lock = File::create(home.join("lock")).context(|| format!("cannot write to {}", home.display()))?;
    lock.lock().context(|| format!("cannot lock {}", home.display()))?;
    if made.is_dir() {
        return Ok(made);
    }
    let part = home.join(format!("{name}.part"));
    let _left = fs::remove_dir_all(&part);
    fs::create_dir(&part).context(|| format!("cannot create {}", part.display()))?;
    make(&part)?;
    fs::rename(&part, &made).context(|| format!("cannot rename {}", part.display()))?;
    made.is_dir().then_some(made).ok_or_else(|| Failure::environment(format!("{} vanished", part.display())))
}

/// Runs a goal of Maven's dependency plugin.
///
/// # Errors
/// Where Maven is missing or fails; the message begins with `fault` and ends with what Maven said.
pub(super) fn goal<A: AsRef<OsStr>>(
    cache: &Cache,
    folder: &Path,
    fault: &str,
    goal: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-ntp", "--strict-checksums"]);
    maven.arg(format!("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:{goal}")).args(arguments);
    run(cache, maven, folder, fault)
}

/// Unpacks an archive of any compression that tar knows.
///
/// # Errors
/// Where tar, or the program that it decompresses with, is missing or fails.
pub(super) fn untar(cache: &Cache, archive: &Path, into: &Path, fault: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    // Owners in the archive are those of the machine that packed it.
    tar.arg("--no-same-owner").arg("-xf").arg(archive).arg("-C").arg(into);
    run(cache, tar, into, fault)
}

/// A child process whose output is kept for the message of its failure.
fn run(cache: &Cache, mut command: Command, folder: &Path, fault: &str) -> Result<()> {
    let (path, log) = cache.log("maven")?;
    let errors = log.try_clone().context(|| format!("cannot write {}", path.display()))?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(errors);
    let status = Group::spawn(&mut command, Signal::TERM)?.wait();
    if status.success() { Ok(()) } else { Err(explain(&format!("{fault} ({status})"), &path)) }
}
