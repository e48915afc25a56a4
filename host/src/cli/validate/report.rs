//! What validating found, as JSON and as text.

use super::Memory;
use crate::config::reader::Position;
use crate::config::{ConfigError, Pipeline};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The pipeline would not start.
    Error,
    /// It would start, and might not do what is meant.
    Warning,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub severity: Severity,
    /// Stable and dotted, for scripts.
    pub code: &'static str,
    pub message: String,
    /// Key path in the file: `postgres.columns.amount`.
    pub config_path: String,
    pub line: usize,
    pub column: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl From<&ConfigError> for Finding {
    fn from(error: &ConfigError) -> Finding {
        Finding {
            severity: Severity::Error,
            code: "config.invalid",
            message: error.message.clone(),
            config_path: error.path.clone(),
            line: error.at.line,
            column: error.at.column,
            suggestion: error.suggestion.clone(),
        }
    }
}

/// What the pipeline promises, and why not more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guarantee {
    pub name: &'static str,
    pub means: Vec<String>,
    pub why_not_stronger: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub guarantee: Guarantee,
    pub memory: Memory,
}

impl Report {
    pub fn new(guarantee: Guarantee, memory: Memory) -> Report {
        Report { findings: Vec::new(), guarantee, memory }
    }

    pub fn error(&mut self, pipeline: &Pipeline, code: &'static str, path: &str, message: impl Into<String>) {
        self.add(pipeline, Severity::Error, code, path, message.into(), None);
    }

    pub fn warn(&mut self, pipeline: &Pipeline, code: &'static str, path: &str, message: &str, suggestion: &str) {
        self.add(pipeline, Severity::Warning, code, path, message.to_owned(), Some(suggestion.to_owned()));
    }

    fn add(
        &mut self,
        pipeline: &Pipeline,
        severity: Severity,
        code: &'static str,
        path: &str,
        message: String,
        suggestion: Option<String>,
    ) {
        let Position { line, column } = pipeline.places.find(path);
        self.findings.push(Finding { severity, code, message, config_path: path.to_owned(), line, column, suggestion });
    }

    /// Errors first, each in the order of the file.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| (finding.severity, finding.line, finding.column));
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    pub fn to_json(&self) -> Value {
        json!({ "findings": self.findings, "guarantee": self.guarantee, "memory": self.memory })
    }

    /// Lines of the form `file:12:5: error: key.path: message; suggestion`, then the guarantee and the memory.
    pub fn to_text(&self, file: &str) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let Finding { line, column, config_path, message, .. } = finding;
            // Writing to a String cannot fail.
            _ = write!(text, "{file}:{line}:{column}: {severity}: {config_path}: {message}");
            if let Some(suggestion) = &finding.suggestion {
                _ = write!(text, "; {suggestion}");
            }
            text.push('\n');
        }
        _ = writeln!(text, "guarantee: {}", self.guarantee.name);
        for line in &self.guarantee.means {
            _ = writeln!(text, "  {line}");
        }
        for line in &self.guarantee.why_not_stronger {
            _ = writeln!(text, "  not stronger, because {line}");
        }
        _ = writeln!(text, "{}", self.memory.to_text());
        text
    }
}

/// `1 error`, `2 errors`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
