//! `tollgate contract lock`: records the released versions of contracts.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Select, load};
use crate::cli::check::lock::{FILE, Lock, Released, digest, find};
use crate::cli::check::notice::deprecated;
use crate::cli::check::suppress::Settings;
use crate::cli::{Success, build};
use tollgate_config::error::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub select: Select,
    /// The lock file. Default: the first contracts.lock that exists in the current directory, in the folder of a PATH,
    /// or in that folder's parent; a new one is created in the current directory.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Change nothing; exit with code 1 if the lock file is not up to date.
    #[arg(long)]
    pub check: bool,
    /// Change the newest version instead of adding one, for a version that no producer has used yet.
    #[arg(long, conflicts_with = "check")]
    pub amend: bool,
}

/// # Errors
/// Fails with exit code 2 if a file cannot be read, 1 if --check finds that the lock file is not up to date.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let loaded = load(&args.select)?;
    let file = args.lock.clone().or_else(|| find(&loaded.paths)).unwrap_or_else(|| PathBuf::from(FILE));
    let shown = file.display();
    let mut lock = if file.exists() { Lock::read(&file)? } else { Lock::default() };
    // With `deprecate_for`, releases also record deprecations, so a new deprecation is a change by itself.
    let notice = Settings::load(None)?.deprecate_for.is_some();
    let mut changes: Vec<(String, u32, &'static str)> = Vec::new();
    for message in loaded.messages(&args.select)? {
        let (name, digest) = (message.full_name().to_owned(), digest(&message));
        let deprecated = notice.then(|| deprecated(&message));
        let latest = lock.messages.get(&name).and_then(|versions| versions.last_key_value());
        let same = latest.is_some_and(|(_, released)| !notice || released.deprecated == deprecated);
        let (version, what) = match lock.latest(&name) {
            Some((_, known)) if known == digest && same => continue,
            Some((version, _)) if args.amend => (version, "changed"),
            Some((version, _)) => (version + 1, "new version"),
            None => (1, "first version"),
        };
        lock.messages.entry(name.clone()).or_default().insert(version, Released { digest, deprecated, line: 0 });
        changes.push((name, version, what));
    }
    let list: Vec<Value> = changes
        .iter()
        .map(|(name, version, what)| json!({ "message": name, "version": version, "change": what }))
        .collect();
    let result = json!({ "file": file, "changes": list });
    let text: String = changes.iter().map(|(name, version, what)| format!("{name} {version}: {what}\n")).collect();
    if changes.is_empty() {
        return Ok(Success::new(format!("{shown} is up to date"), result, String::new()));
    }
    let number = build::count(changes.len(), "contract");
    if args.check {
        let message = format!(
            "{shown} is not up to date for {number}: `tollgate contract lock` records the current contracts as a new version"
        );
        return Err(Failure::failed("contract.lock", message).with(result, text));
    }
    std::fs::write(&file, lock.render())
        .map_err(|error| Failure::environment("environment.disk", format!("{shown} cannot be written: {error}")))?;
    let summary = format!("{shown}: {number} written");
    Ok(Success::new(summary.clone(), result, format!("{text}{summary}\n")))
}
