//! `${VAR}`, `${VAR:default}`, `${file:/run/secrets/x}` and the escape `$${` in one scalar.
//!
//! References are replaced after the YAML is parsed, in each scalar, so a value from outside can never start a key, a
//! list or a comment. Messages never contain a value, only the name of its source.

use crate::limits;
use std::io::Read;
use std::path::Path;

/// The source of variables: the process's environment, or a table in tests.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Why a reference has no value.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("${{ without its }}; for a literal ${{ write $${{")]
    Unclosed,
    #[error("${{…}} must contain a variable's name (letters, digits and _), NAME:default or file:/path")]
    Name,
    /// The shell reads `${X:-1}` as 1; by the rule here it would be -1.
    #[error("${{{0}:-…}} is shell syntax; write a default as ${{{0}:default}}")]
    ShellDefault(String),
    #[error("the variable {0} is not set; set it, or write a default: ${{{0}:default}}")]
    Unset(String),
    #[error("the file {path} cannot be read: {fault}")]
    Unreadable { path: String, fault: FileFault },
}

/// Why a file that a reference names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it has more than {most} bytes", most = limits::SECRET_FILE_BYTES)]
    TooLarge,
    #[error("it is not UTF-8")]
    NotText,
}

/// Returns the text with every reference replaced, and whether there was one.
///
/// # Errors
/// A variable is not set, a file cannot be read, or a reference is malformed. The message contains no value.
pub fn interpolate(text: &str, env: Environment<'_>, base: &Path) -> Result<(String, bool), ReferenceError> {
    let mut out = String::with_capacity(text.len());
    let mut replaced = false;
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = after.find('}') else {
                return Err(ReferenceError::Unclosed);
            };
            out.push_str(&resolve(&after[..end], env, base)?);
            replaced = true;
            rest = &after[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok((out, replaced))
}

fn resolve(reference: &str, env: Environment<'_>, base: &Path) -> Result<String, ReferenceError> {
    if let Some(path) = reference.strip_prefix("file:") {
        return read_file(path, base).map_err(|fault| ReferenceError::Unreadable { path: path.to_owned(), fault });
    }
    let (name, default) = match reference.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable(name) {
        return Err(ReferenceError::Name);
    }
    if default.is_some_and(|default| default.starts_with(['-', '?', '+', '='])) {
        return Err(ReferenceError::ShellDefault(name.to_owned()));
    }
    match (env(name), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ReferenceError::Unset(name.to_owned())),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the file's text without its trailing newline.
fn read_file(path: &str, base: &Path) -> Result<String, FileFault> {
    let file = std::fs::File::open(base.join(path))?;
    let mut bytes = Vec::new();
    file.take(limits::SECRET_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits::SECRET_FILE_BYTES {
        return Err(FileFault::TooLarge);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| FileFault::NotText)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
