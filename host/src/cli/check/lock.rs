//! contracts.lock: records the released versions of contracts, so that they cannot change silently.
//!
//! The file has one line per released version, sorted, so that diffs are easy to read and branches merge:
//! `payments.v1.PaymentEvent 2 sha256:…`. The digest ([`fingerprint`]) covers fields, types, rules and reservations of
//! the message and of all messages that it reaches, but not comments or the order of declarations. If a project
//! requires deprecation before removal ([`super::notice`]), a fourth word lists what was deprecated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use tollgate_compat::{Finding, Place, Rule, Side, fingerprint, place, rules};

use tollgate_config::error::Failure;

pub const FILE: &str = "contracts.lock";
const HEAD: &str = "# The released versions of contracts: message type, version, digest. Written by `tollgate contract lock`; commit it.\n";

/// The contents of the file: the released versions by message type and version.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lock {
    pub messages: BTreeMap<String, BTreeMap<u32, Released>>,
}

/// A released version of a message type.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Released {
    pub digest: String,
    /// The fields and enum values that were deprecated in this version, or `None` if that was not recorded.
    pub deprecated: Option<BTreeSet<String>>,
    /// The line in the file.
    pub line: usize,
}

/// The prefix of the word that lists what is deprecated, separated by commas.
const DEPRECATED: &str = "deprecated:";

impl Lock {
    /// # Errors
    /// Fails if a line is malformed, or if a version appears twice, as after a bad merge.
    pub fn parse(file: &str, text: &str) -> Result<Lock, Failure> {
        let mut lock = Lock::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| Failure::configuration("check.lock", format!("{file}:{}: {what}", at + 1));
            let words: Vec<&str> = line.split_whitespace().collect();
            let (message, version, digest, deprecated) = match words.as_slice() {
                [message, version, digest] => (message, version, digest, None),
                [message, version, digest, word] if word.starts_with(DEPRECATED) => {
                    let list = word[DEPRECATED.len()..].split(',').filter(|element| !element.is_empty());
                    (message, version, digest, Some(list.map(str::to_owned).collect()))
                }
                _ => {
                    return Err(wrong("expected message type, version and digest; was a merge left unfinished?"));
                }
            };
            let version = version.parse().map_err(|_| wrong("the version is not a whole number"))?;
            if !digest
                .strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            {
                return Err(wrong("the digest is not sha256: and 64 hexadecimal digits"));
            }
            let versions = lock.messages.entry((*message).to_owned()).or_default();
            let released = Released { digest: (*digest).to_owned(), deprecated, line: at + 1 };
            if versions.insert(version, released).is_some() {
                return Err(wrong("this version appears twice; give one of them the next number"));
            }
        }
        Ok(lock)
    }

    /// # Errors
    /// Fails if the file cannot be read or parsed.
    pub fn read(path: &Path) -> Result<Lock, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::configuration("check.lock", format!("{} cannot be read: {error}", path.display()))
        })?;
        Lock::parse(&path.display().to_string(), &text)
    }

    pub fn render(&self) -> String {
        let mut text = HEAD.to_owned();
        for (message, versions) in &self.messages {
            for (version, Released { digest, deprecated, .. }) in versions {
                text += &format!("{message} {version} {digest}");
                if let Some(deprecated) = deprecated {
                    let list: Vec<&str> = deprecated.iter().map(String::as_str).collect();
                    text += &format!(" {DEPRECATED}{}", list.join(","));
                }
                text.push('\n');
            }
        }
        text
    }

    /// Returns the newest version of a message type.
    pub fn latest(&self, message: &str) -> Option<(u32, &str)> {
        let (version, released) = self.messages.get(message)?.last_key_value()?;
        Some((*version, &released.digest))
    }
}

/// Returns a message's digest in the form of the file.
pub fn digest(message: &prost_reflect::MessageDescriptor) -> String {
    format!("sha256:{}", hex::encode(fingerprint(message)))
}

/// Returns the first lock file that exists: in the current directory, or in each path's folder and its parent folder.
pub fn find(paths: &[PathBuf]) -> Option<PathBuf> {
    let beside = paths.iter().flat_map(|path| {
        let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(path) };
        [folder.join(FILE), folder.parent().map_or_else(|| PathBuf::from(FILE), |parent| parent.join(FILE))]
    });
    std::iter::once(PathBuf::from(FILE)).chain(beside).find(|file| file.is_file())
}

fn finding(rule: &'static Rule, element: &str, place: Place, message: String) -> Finding {
    let severity = rule.backward.unwrap_or(tollgate_compat::Severity::Error);
    Finding { rule, severity, element: element.to_owned(), place, was: None, message }
}

/// Returns a finding for each contract that differs from its newest released version.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn current(file: Option<&Path>, pool: &DescriptorPool) -> Result<Vec<Finding>, Failure> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let lock = Lock::read(file)?;
    let mut findings = Vec::new();
    for name in lock.messages.keys() {
        let (Some(message), Some((version, released))) = (pool.get_message_by_name(name), lock.latest(name)) else {
            continue;
        };
        if digest(&message) != released {
            let text = format!("{name} differs from its released version {version} ({})", file.display());
            findings.push(finding(&rules::RELEASED_CHANGED, name, place(Side::New, &message), text));
        }
    }
    Ok(findings)
}

/// Returns a finding for each released version that the file has changed or lost since its earlier text.
///
/// # Errors
/// Fails if one of the two cannot be read.
pub fn history(file: Option<&Path>, old: Option<&str>) -> Result<Vec<Finding>, Failure> {
    let (Some(file), Some(old)) = (file, old) else { return Ok(Vec::new()) };
    let (new, old) = (Lock::read(file)?, Lock::parse(&format!("the earlier {}", file.display()), old)?);
    let mut findings = Vec::new();
    let at = |line| Place { side: Side::New, file: file.display().to_string(), line, column: 1 };
    for (name, versions) in &old.messages {
        for (version, released) in versions {
            match new.messages.get(name).and_then(|versions| versions.get(version)) {
                Some(now) if now.digest == released.digest && now.deprecated == released.deprecated => {}
                Some(now) => {
                    let what = if now.digest == released.digest { "list of deprecations" } else { "digest" };
                    let text = format!("version {version} of {name} has another {what} than when it was released");
                    findings.push(finding(&rules::RELEASED_CHANGED, name, at(now.line), text));
                }
                None => {
                    let text = format!("version {version} of {name} was released and is no longer listed");
                    findings.push(finding(&rules::RELEASED_REMOVED, name, at(1), text));
                }
            }
        }
    }
    Ok(findings)
}
