//! The findings of a validation, as JSON and as text.

use super::Memory;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tollgate_config::reader::Position;
use tollgate_config::{ConfigError, Pipeline};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The pipeline would not start.
    Error,
    /// The pipeline would start, but might not do what is intended.
    Warning,
}

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub severity: Severity,
    /// A stable code with dots, for scripts.
    pub code: &'static str,
    pub message: String,
    /// The key's path in the file, such as `postgres.columns.amount`.
    pub config_path: String,
    pub line: usize,
    pub column: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The reason from `acknowledge`, if the file acknowledges this warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<String>,
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
            acknowledged: None,
        }
    }
}

/// The delivery guarantee of the pipeline, and why it is not stronger.
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
        let reasons = (severity == Severity::Warning).then_some(&pipeline.acknowledged);
        let acknowledged = reasons.and_then(|reasons| reasons.get(code)).cloned();
        let config_path = path.to_owned();
        self.findings.push(Finding { severity, code, message, config_path, line, column, suggestion, acknowledged });
    }

    /// Sorts errors first, then warnings, then acknowledged warnings, each in the order of the file.
    pub fn sort(&mut self) {
        let key = |finding: &Finding| (finding.severity, finding.acknowledged.is_some(), finding.line, finding.column);
        self.findings.sort_by_key(key);
    }

    /// Counts the findings of a severity, without acknowledged warnings.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity && finding.acknowledged.is_none()).count()
    }

    /// Warns about acknowledgements of warnings that were not found. Either the file has changed, or the code is
    /// mistyped.
    pub fn check_acknowledged(&mut self, pipeline: &Pipeline) {
        for code in pipeline.acknowledged.keys() {
            let warning = |finding: &Finding| finding.severity == Severity::Warning && finding.code == code;
            if !self.findings.iter().any(warning) {
                let path = format!("acknowledge.{code}");
                let message = format!("there is no warning {code} to acknowledge");
                self.warn(pipeline, "acknowledge.unused", &path, &message, "remove it, or correct the code");
            }
        }
        self.sort();
    }

    pub fn to_json(&self) -> Value {
        json!({ "findings": self.findings, "guarantee": self.guarantee, "memory": self.memory })
    }

    /// Formats the findings as `file:12:5: error: key.path: message; suggestion`, then the memory, and the guarantee
    /// last.
    pub fn to_text(&self, file: &str) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let severity = match (finding.severity, &finding.acknowledged) {
                (Severity::Error, _) => "error",
                (Severity::Warning, None) => "warning",
                (Severity::Warning, Some(_)) => "acknowledged",
            };
            let Finding { line, column, code, config_path, message, suggestion, acknowledged, .. } = finding;
            // Writing to a String cannot fail.
            _ = write!(text, "{file}:{line}:{column}: {severity}: {config_path}: {message}");
            match (acknowledged, suggestion) {
                (Some(reason), _) => _ = write!(text, " (acknowledged: {reason})"),
                (None, Some(suggestion)) => _ = write!(text, "; {suggestion}"),
                (None, None) => {}
            }
            _ = writeln!(text, " [{code}]");
        }
        _ = writeln!(text, "{}", self.memory.to_text());
        _ = writeln!(text, "guarantee: {}", self.guarantee.name);
        for line in &self.guarantee.means {
            _ = writeln!(text, "  {line}");
        }
        for line in &self.guarantee.why_not_stronger {
            _ = writeln!(text, "  not stronger, because {line}");
        }
        text
    }
}

/// Formats a count, such as `1 error` or `2 errors`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
