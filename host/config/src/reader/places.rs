//! Information about a file besides its values: the positions of keys, and the values from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Position;

/// The position of each key of a file, by path, for findings after reading.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<String, Position>);

impl Places {
    pub(super) fn note(&mut self, path: String, at: Position) {
        self.0.insert(path, at);
    }

    /// Returns the position of `path`, or of its nearest parent in the file.
    pub fn find(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(at) = self.0.get(path) {
                return *at;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Position { line: 1, column: 1 },
            }
        }
    }
}

/// The values of `${…}` in a file, each with the text in the file. A value from outside may be secret whatever its key
/// is, so messages show the text.
#[derive(Clone, Default)]
pub struct Origins(BTreeMap<String, String>);

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values()).finish()
    }
}

impl Origins {
    pub(super) fn note(&mut self, value: String, written: String) {
        self.0.insert(value, written);
    }

    /// Returns a path from the file, or one below it, for use in messages. The file's relative paths start in `base`.
    pub fn shown(&self, path: &Path, base: &Path) -> PathBuf {
        let masked = |candidate: &Path| {
            let mut above = candidate.ancestors().filter(|above| !above.as_os_str().is_empty());
            above.find_map(|above| {
                let written = self.0.get(above.to_str()?)?;
                let rest = candidate.strip_prefix(above).ok()?;
                Some(if rest.as_os_str().is_empty() { PathBuf::from(written) } else { Path::new(written).join(rest) })
            })
        };
        let inside = path.strip_prefix(base).ok();
        inside.and_then(masked).or_else(|| masked(path)).unwrap_or_else(|| path.to_owned())
    }
}
