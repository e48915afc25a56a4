//! Downloads from Maven Central with Maven, which verifies the checksums.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::explain;
use crate::cache::Cache;
use crate::failure::{Context, Failure, Result};
use crate::process::{Group, Signal};

/// Returns the folder `name` in `home`, which `make` fills on first use. Processes that start at the same time wait for
/// the one that fills it. The folder gets its name only when it is complete.
///
/// # Errors
/// Fails if `make` fails, or on an error of the file system.
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
/// Fails if Maven is missing or fails. The message begins with `fault` and ends with Maven's output.
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

/// Unpacks an archive with any compression that tar supports.
///
/// # Errors
/// Fails if tar, or the program that it decompresses with, is missing or fails.
pub(super) fn untar(cache: &Cache, archive: &Path, into: &Path, fault: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    // The owners in the archive are users of the machine that packed it.
    tar.arg("--no-same-owner").arg("-xf").arg(archive).arg("-C").arg(into);
    run(cache, tar, into, fault)
}

/// Runs a command and keeps its output for the error message.
fn run(cache: &Cache, mut command: Command, folder: &Path, fault: &str) -> Result<()> {
    let (path, log) = cache.log("maven")?;
    let errors = log.try_clone().context(|| format!("cannot write {}", path.display()))?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(errors);
    let status = Group::spawn(&mut command, Signal::TERM)?.wait();
    if status.success() { Ok(()) } else { Err(explain(&format!("{fault} ({status})"), &path)) }
}
