//! The paths of all keys, including those of sections that repeat another section.

use super::Kind::{Same, Tables};
use super::{KEYS, Key};

/// Returns every path, including the paths below a [`Kind::Same`].
pub fn all_paths() -> Vec<(String, &'static Key)> {
    let mut paths = Vec::new();
    for key in KEYS.iter() {
        write_out(key.path.to_owned(), key, &mut paths);
    }
    paths
}

/// Adds a path and the paths below the key that it repeats. Those may repeat a key again.
fn write_out(path: String, key: &'static Key, paths: &mut Vec<(String, &'static Key)>) {
    paths.push((path.clone(), key));
    let Same(other) = key.kind else { return };
    for below in KEYS.iter() {
        let rest = below.path.strip_prefix(other).filter(|rest| rest.starts_with(['.', '[']));
        if let Some(rest) = rest {
            write_out(format!("{path}{rest}"), below, paths);
        }
    }
}

/// Returns whether the key with this path is a list of tables.
pub fn is_list(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path && key.kind == Tables)
}
