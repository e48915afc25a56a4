//! The one folder outside the checkout that xtask writes to.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::failure::{Context, Failure, Result};

/// The number of server logs that are kept. Older ones are deleted when a new one is opened.
const KEPT_LOGS: usize = 60;

/// The cache folder: `TOLLGATE_CACHE`, else `$XDG_CACHE_HOME/tollgate`, else `$HOME/.cache/tollgate`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache folder and creates it if it is missing.
    ///
    /// # Errors
    /// Fails if none of the variables is set, or if the folder cannot be created.
    pub fn open() -> Result<Self> {
        let root = Self::root_from(|name| env::var(name).ok().filter(|value| !value.is_empty()))?;
        fs::create_dir_all(&root).context(|| format!("cannot create the cache folder {}", root.display()))?;
        Ok(Cache { root })
    }

    fn root_from(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
        let root = variable("TOLLGATE_CACHE")
            .map(PathBuf::from)
            .or_else(|| variable("XDG_CACHE_HOME").map(|base| Path::new(&base).join("tollgate")))
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/tollgate")))
            .ok_or_else(|| Failure::environment("no place for the cache: set TOLLGATE_CACHE to a folder"))?;
        if root.is_absolute() {
            return Ok(root);
        }
        // Child processes run in other directories, where a relative path would name another folder.
        env::current_dir().map(|here| here.join(&root)).context(|| format!("cannot resolve {}", root.display()))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the target folder of the main workspace: cargo's own variable if it is set, so that nothing is built
    /// twice.
    pub fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR")
            .filter(|dir| !dir.is_empty())
            .map_or_else(|| self.root.join("target"), PathBuf::from)
    }

    /// Returns the target folder of guest workspaces. They compile for another target with another profile.
    pub fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    /// Returns a folder below the cache, which is created if it is missing.
    ///
    /// # Errors
    /// Fails if the folder cannot be created.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Creates a log file for a server or a step. Returns it with its path, which error messages show.
    ///
    /// # Errors
    /// Fails if the file cannot be created.
    pub fn log(&self, name: &str) -> Result<(PathBuf, File)> {
        let folder = self.folder("logs")?;
        prune(&folder, KEPT_LOGS);
        let path = folder.join(format!("{}.log", unique(name)));
        let file = File::options().create(true).append(true).open(&path);
        Ok((path.clone(), file.context(|| format!("cannot write the log {}", path.display()))?))
    }
}

/// Returns `name-<pid>-<count>-<time>`. No other process or call returns the same name, so a folder of that name has
/// one owner.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    format!("{name}-{}-{}-{nanos:08x}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Deletes the oldest files beyond `keep`. A file that cannot be deleted is left: old logs are no reason to fail.
fn prune(folder: &Path, keep: usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<_> =
        entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    files.sort();
    let surplus = files.len().saturating_sub(keep);
    for (_, path) in files.into_iter().take(surplus) {
        let _gone = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(pairs: &[(&str, &str)]) -> Result<PathBuf> {
        Cache::root_from(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("TOLLGATE_CACHE", "/t")];
        assert_eq!(root(&all).unwrap(), Path::new("/t"));
        assert_eq!(root(&all[..2]).unwrap(), Path::new("/x/tollgate"));
        assert_eq!(root(&all[..1]).unwrap(), Path::new("/h/.cache/tollgate"));
        assert_eq!(root(&[]).unwrap_err().code, 3);
    }

    #[test]
    fn a_relative_folder_is_made_absolute() {
        assert!(root(&[("TOLLGATE_CACHE", "here")]).unwrap().is_absolute());
    }

    #[test]
    fn pruning_keeps_the_newest() {
        let folder = env::temp_dir().join(unique("xtask-prune"));
        fs::create_dir(&folder).unwrap();
        for (age, name) in ["oldest", "older", "newest"].iter().enumerate() {
            let file = File::create(folder.join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64)).unwrap();
        }
        prune(&folder, 1);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["newest"]);
        fs::remove_dir_all(folder).unwrap();
    }
}
