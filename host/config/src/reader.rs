//! A strict reader of configuration files that reports all errors at once.
//!
//! A file is read as *tables* (mappings with known keys). The code that reads a table requests each key with the kind
//! of its value. Errors are collected with their line and key path, and a key that was never requested is an unknown
//! key. Serde is not used, because it stops at the first error and does not know lines.
//!
//! ```
//! use tollgate_config::reader::{self, duration, text};
//! let limits = "name: rules\ndeadline: 5s\n";
//! let read = reader::read_text("transform.yaml", limits, ".".as_ref(), &|_| None, |table| {
//!     let name = table.need("name", text);
//!     let deadline = table.get("deadline", duration);
//!     Some((name?, deadline))
//! });
//! assert_eq!(read.unwrap().0, "rules");
//! ```

mod interpolate;
mod json;
mod kinds;
mod places;
mod tree;

pub use interpolate::{Environment, interpolate};
pub use json::Json;
pub use kinds::*;
pub use places::{Origins, Places};

use crate::limits;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::Path;
use tree::{Entry, Node, Scalar, Value};

/// A position in a file. Both numbers start at 1; columns count characters. Line 0 means no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// An error in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub at: Position,
    /// Dotted key path, `transforms[0].component`; empty for the file itself.
    pub path: String,
    pub message: String,
    /// The nearest valid key or value.
    pub suggestion: Option<String>,
}

impl ConfigError {
    pub fn new(at: Position, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError { at, path: path.to_owned(), message: message.into(), suggestion: None }
    }
}

/// All errors in a file, in the order of its lines. Printed as `file:12:5: key.path: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    pub file: String,
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if error.at.line > 0 {
                write!(f, ":{}:{}", error.at.line, error.at.column)?;
            }
            if !error.path.is_empty() {
                write!(f, ": {}", error.path)?;
            }
            write!(f, ": {}", error.message)?;
            if let Some(suggestion) = &error.suggestion {
                write!(f, "; did you mean {suggestion}?")?;
            }
        }
        Ok(())
    }
}

/// Results of reading a file besides its value.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub places: Places,
    pub origins: Origins,
    /// Every key that was requested, as a pattern: `transforms[].component`, `postgres.columns.*.field`.
    pub keys: BTreeSet<String>,
}

/// Reads a file. Variables come from the process's environment, and relative paths start in the file's folder.
///
/// # Errors
/// Returns all errors in the file at once.
pub fn read_file<T>(path: &Path, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Result<T, ConfigErrors> {
    let text = load_text(path)?;
    let env = |name: &str| std::env::var(name).ok();
    read_text(&path.display().to_string(), &text, folder_of(path), &env, read)
}

/// Returns the folder in which the relative paths of a file start.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns the text of a configuration file.
///
/// # Errors
/// Fails if the file cannot be read, is too large, or is not UTF-8.
pub fn load_text(path: &Path) -> Result<String, ConfigErrors> {
    let fail = |message: String| ConfigErrors {
        file: path.display().to_string(),
        errors: vec![ConfigError::new(Position::default(), "", message)],
    };
    let file = std::fs::File::open(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    file.take(limits::CONFIG_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > limits::CONFIG_BYTES {
        return Err(fail(format!("is too large; a configuration file has at most {} bytes", limits::CONFIG_BYTES)));
    }
    String::from_utf8(bytes)
        .map_err(|error| fail(format!("is not UTF-8 (byte {}); save it as UTF-8", error.utf8_error().valid_up_to())))
}

/// Reads a text like [`read_file`] reads a file. `file` is only for messages.
///
/// # Errors
/// Returns all errors in the text at once.
pub fn read_text<T>(
    file: &str,
    text: &str,
    base: &Path,
    env: Environment<'_>,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    read_seen(file, text, base, env, read).0
}

/// Like [`read_text`], and also returns the keys and positions seen.
pub fn read_seen<T>(
    file: &str,
    text: &str,
    base: &Path,
    env: Environment<'_>,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> (Result<T, ConfigErrors>, Seen) {
    let mut errors = Vec::new();
    let root = tree::parse(text, &mut errors);
    if !errors.is_empty() && root.is_empty() {
        // Without a tree every required key would be reported as missing too.
        return (Err(ConfigErrors { file: file.to_owned(), errors }), Seen::default());
    }
    let reader = Reader { env, base, errors: RefCell::new(errors), seen: RefCell::default() };
    let start = Position { line: 1, column: 1 };
    let value = Table::new(&reader, &root, start, String::new(), String::new()).read(read);
    let mut errors = reader.errors.into_inner();
    errors.sort_by_key(|error| error.at);
    let result = match value {
        Some(value) if errors.is_empty() => Ok(value),
        _ => Err(ConfigErrors { file: file.to_owned(), errors }),
    };
    (result, reader.seen.into_inner())
}

struct Reader<'r> {
    env: Environment<'r>,
    base: &'r Path,
    errors: RefCell<Vec<ConfigError>>,
    seen: RefCell<Seen>,
}

impl Reader<'_> {
    fn report(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    /// Returns a scalar's text after interpolation, and whether it had a reference. Reports errors itself.
    fn interpolated(&self, scalar: &Scalar, at: Position, path: &str) -> Option<(String, bool)> {
        let (text, replaced) = interpolate::interpolate(&scalar.text, self.env, self.base)
            .map_err(|error| self.report(ConfigError::new(at, path, error.to_string())))
            .ok()?;
        if replaced {
            self.seen.borrow_mut().origins.note(text.clone(), scalar.text.clone());
        }
        Some((text, replaced))
    }
}

/// A mapping with known keys. Null values count as absent.
pub struct Table<'r> {
    reader: &'r Reader<'r>,
    entries: &'r [Entry],
    at: Position,
    path: String,
    pattern: String,
    asked: RefCell<BTreeSet<String>>,
}

impl<'r> Table<'r> {
    fn new(reader: &'r Reader<'r>, entries: &'r [Entry], at: Position, path: String, pattern: String) -> Table<'r> {
        let table = Table { reader, entries, at, path, pattern, asked: RefCell::default() };
        let mut firsts: BTreeMap<&str, Position> = BTreeMap::new();
        for entry in entries {
            if let Some(first) = firsts.get(entry.key.as_str()) {
                let message = format!("duplicate key; it is already set on line {}", first.line);
                reader.report(ConfigError::new(entry.at, &table.path_of(&entry.key), message));
            } else {
                firsts.insert(&entry.key, entry.at);
            }
        }
        table
    }

    /// Lets `read` request its keys, then reports the keys that it did not request.
    fn read<T>(self, read: impl FnOnce(&Table<'r>) -> Option<T>) -> Option<T> {
        let value = read(&self);
        let asked = self.asked.borrow();
        for (index, entry) in self.entries.iter().filter(|entry| !asked.contains(&entry.key)).enumerate() {
            let mut error = ConfigError::new(entry.at, &self.path_of(&entry.key), "unknown key");
            if index < limits::CONFIG_SUGGESTIONS {
                error.suggestion = nearest(&entry.key, asked.iter().map(String::as_str));
            }
            self.reader.report(error);
        }
        drop(asked);
        value
    }

    /// Returns the value of a key, of any shape; `None` if it is absent or null.
    pub fn field(&self, key: &str) -> Option<Field<'r>> {
        self.entry(key).filter(|field| !field.node.is_null())
    }

    /// Like [`Table::field`], but also returns a key with a null value.
    pub fn entry(&self, key: &str) -> Option<Field<'r>> {
        let pattern = join(&self.pattern, key);
        self.reader.seen.borrow_mut().keys.insert(pattern.clone());
        self.asked.borrow_mut().insert(key.to_owned());
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.field_of(entry, pattern))
    }

    fn field_of(&self, entry: &'r Entry, pattern: String) -> Field<'r> {
        let path = self.path_of(&entry.key);
        self.reader.seen.borrow_mut().places.note(path.clone(), entry.at);
        Field { reader: self.reader, node: &entry.value, at: entry.at, path, pattern }
    }

    /// Returns every entry of a mapping with arbitrary keys, in file order.
    pub fn any(&self) -> Vec<(String, Field<'r>)> {
        let pattern = join(&self.pattern, "*");
        self.reader.seen.borrow_mut().keys.insert(pattern.clone());
        let mut asked = self.asked.borrow_mut();
        let mut names = BTreeSet::new();
        // A duplicate was already reported.
        let fresh = self.entries.iter().filter(|entry| names.insert(entry.key.as_str()));
        let field = |entry: &'r Entry| {
            asked.insert(entry.key.clone());
            (entry.key.clone(), self.field_of(entry, pattern.clone()))
        };
        fresh.map(field).collect()
    }

    /// Returns a scalar, if the key is present and valid.
    pub fn get<T>(&self, key: &str, kind: impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        self.field(key)?.scalar(kind)
    }

    /// Returns a scalar, or the default if the key is absent or invalid.
    pub fn or<T>(&self, key: &str, kind: impl Fn(&str) -> Result<T, Complaint>, default: T) -> T {
        self.get(key, kind).unwrap_or(default)
    }

    /// Returns a required scalar.
    pub fn need<T>(&self, key: &str, kind: impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        self.need_field(key)?.scalar(kind)
    }

    /// Returns a required value of any shape.
    pub fn need_field(&self, key: &str) -> Option<Field<'r>> {
        let field = self.field(key);
        if field.is_none() {
            self.error(key, "required key is missing");
        }
        field
    }

    /// Reads a nested table, if the key is present.
    pub fn table<T>(&self, key: &str, read: impl FnOnce(&Table<'r>) -> Option<T>) -> Option<T> {
        self.field(key)?.table(read)
    }

    /// Reads a required nested table.
    pub fn need_table<T>(&self, key: &str, read: impl FnOnce(&Table<'r>) -> Option<T>) -> Option<T> {
        self.need_field(key)?.table(read)
    }

    /// Reads a nested table. Without the key it reads an empty table, so that defaults are in one place.
    pub fn table_or_empty<T>(&self, key: &str, read: impl FnOnce(&Table<'r>) -> Option<T>) -> Option<T> {
        match self.field(key) {
            Some(field) => field.table(read),
            None => Table::new(self.reader, &[], self.at, self.path_of(key), join(&self.pattern, key)).read(read),
        }
    }

    /// Returns a list of scalars; empty if the key is absent.
    pub fn list<T>(&self, key: &str, kind: impl Fn(&str) -> Result<T, Complaint>) -> Vec<T> {
        let items = self.field(key).and_then(|field| field.items()).unwrap_or_default();
        items.iter().filter_map(|item| item.scalar(&kind)).collect()
    }

    /// Returns a list of tables; empty if the key is absent.
    pub fn tables<T>(&self, key: &str, read: impl Fn(&Table<'r>) -> Option<T>) -> Vec<T> {
        let items = self.field(key).and_then(|field| field.items()).unwrap_or_default();
        items.iter().filter_map(|item| item.table(&read)).collect()
    }

    /// Returns a block with arbitrary keys as JSON.
    pub fn json(&self, key: &str) -> Option<Json> {
        self.field(key)?.json()
    }

    /// Returns whether the key is present and not null. This does not make the key known.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !entry.value.is_null())
    }

    /// Reports an error for a key, at its line, or at the table's line if the key is absent.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        let at = self.entries.iter().find(|entry| entry.key == key).map_or(self.at, |entry| entry.at);
        self.reader.report(ConfigError::new(at, &self.path_of(key), message));
    }

    /// Reports an error for a full path, at its line or at that of the nearest parent in the file.
    pub fn error_at(&self, path: &str, message: impl Into<String>) {
        let at = self.reader.seen.borrow().places.find(path);
        self.reader.report(ConfigError::new(at, path, message));
    }

    /// Returns the table's path; empty at the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The value of one key, of any shape.
#[derive(Clone)]
pub struct Field<'r> {
    reader: &'r Reader<'r>,
    node: &'r Node,
    /// The position of its key.
    at: Position,
    path: String,
    pattern: String,
}

impl<'r> Field<'r> {
    pub fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// Returns the dotted path of its key.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the scalar, checked by `kind`.
    pub fn scalar<T>(&self, kind: impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        let scalar = match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => scalar,
            Value::Scalar(_) => return self.complain("is empty; set a value or remove it"),
            Value::List(_) => return self.complain("must be one value, not a list"),
            Value::Map(_) => return self.complain("must be one value, not a mapping"),
        };
        let (text, replaced) = self.reader.interpolated(scalar, self.node.at, &self.path)?;
        let complaint = match kind(&text) {
            Ok(value) => return Some(value),
            Err(complaint) => complaint,
        };
        // A value from outside may be secret, so the message shows the reference as written in the file.
        let shown = match (complaint.hide, replaced) {
            (true, _) => "the value".to_owned(),
            (false, true) => format!("the value of {}", scalar.text),
            (false, false) => show(&text),
        };
        let mut error = ConfigError::new(self.node.at, &self.path, format!("{shown} {}", complaint.message));
        // A suggestion contains parts of the text.
        error.suggestion = complaint.nearest.filter(|_| !complaint.hide && !replaced);
        self.reader.report(error);
        None
    }

    /// Reads the nested table; null is an empty table.
    pub fn table<T>(&self, read: impl FnOnce(&Table<'r>) -> Option<T>) -> Option<T> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Scalar(scalar) if scalar.is_null() => &[],
            Value::Scalar(_) => return self.complain("must be a mapping of keys, not one value"),
            Value::List(_) => return self.complain("must be a mapping of keys, not a list"),
        };
        Table::new(self.reader, entries, self.at, self.path.clone(), self.pattern.clone()).read(read)
    }

    /// Returns the items of a list.
    pub fn items(&self) -> Option<Vec<Field<'r>>> {
        let Value::List(items) = &self.node.value else {
            return self.complain("must be a list: [a, b], or one line - a for each item");
        };
        let field = |(index, node): (usize, &'r Node)| {
            let path = format!("{}[{index}]", self.path);
            self.reader.seen.borrow_mut().places.note(path.clone(), node.at);
            Field { reader: self.reader, node, at: node.at, path, pattern: format!("{}[]", self.pattern) }
        };
        Some(items.iter().enumerate().map(field).collect())
    }

    /// Returns the value as JSON, typed by YAML 1.2's core schema.
    pub fn json(&self) -> Option<Json> {
        json::convert(self.reader, self.node, &self.path)
    }

    /// Reports an error for this value.
    pub fn complain<T>(&self, message: impl Into<String>) -> Option<T> {
        self.reader.report(ConfigError::new(self.at, &self.path, message));
        None
    }
}

/// Formats a value for display in an error message: quoted if it contains blanks or is empty, shortened if it is long.
fn show(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    if short.is_empty() || short.chars().any(|c| c.is_whitespace() || c.is_control()) {
        format!("{:?}", format!("{short}{dots}"))
    } else {
        format!("{short}{dots}")
    }
}

/// Returns the word of `known` that `word` is probably a typo of.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    // A third of the letters may differ; a prefix (`group` for `group_id`) counts as one difference.
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    let distance = |candidate: &str| {
        let plain =
            word.len() >= 4 && (candidate.starts_with(word) || (candidate.len() >= 4 && word.starts_with(candidate)));
        if plain { 1 } else { strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()) }
    };
    known
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests;
