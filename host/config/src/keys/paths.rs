//! The keys' paths, with those of sections that are the same as another one.

use super::Kind::{Same, Tables};
use super::{KEYS, Key};

/// Every path, those below a [`Kind::Same`] written out.
pub fn all_paths() -> Vec<(String, &'static Key)> {
    let mut paths = Vec::new();
    for key in KEYS.iter() {
        write_out(key.path.to_owned(), key, &mut paths);
    }
    paths
}

/// A path, and below it those of the key that it is the same as, which may have such keys itself.
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

/// Whether the key with this path is a list of tables.
pub fn is_list(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path && key.kind == Tables)
}
