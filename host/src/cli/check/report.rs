//! Renders findings for people, scripts, code scanners (SARIF 2.1.0) and GitHub's annotations.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_compat::{Finding, Place, Severity, Side};

use super::count;
use super::git::Repository;
use super::suppress::Suppressed;
use super::versions::Places;
use crate::cli::{Format, Success, build};
use tollgate_config::error::Failure;
use tollgate_protos::{ProtosError, Spot};

/// The code of the only failure whose meaning is "not compatible".
pub const INCOMPATIBLE: &str = "check.incompatible";
const SARIF: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub struct Report {
    pub against: Vec<String>,
    pub category: &'static str,
    pub mode: String,
    pub strict: bool,
    pub findings: Vec<Finding>,
    pub suppressed: Vec<Suppressed>,
    pub notes: Vec<String>,
    pub places: Places,
}

impl Report {
    /// # Errors
    /// Fails with exit code 1 if a finding is an error, or with `strict` a warning.
    pub fn conclude(self, format: Format) -> Result<Success, Failure> {
        for note in &self.notes {
            tracing::warn!("{note}");
        }
        let summary = self.summary();
        let text = match format {
            Format::Text | Format::Json => self.text(&summary),
            Format::Github => self.github(),
            Format::Sarif => format!("{:#}", self.sarif()),
        };
        let result = self.json();
        let bar = if self.strict { Severity::Warning } else { Severity::Error };
        if self.findings.iter().all(|finding| finding.severity < bar) {
            return Ok(Success::new(summary, result, if text.is_empty() { "\n".to_owned() } else { text }));
        }
        Err(Failure::failed(INCOMPATIBLE, summary).with(result, text))
    }

    fn counts(&self) -> [usize; 3] {
        [Severity::Error, Severity::Warning, Severity::Info].map(|severity| count(&self.findings, severity))
    }

    fn summary(&self) -> String {
        let [errors, warnings, infos] = self.counts();
        let against = self.against.join(", ");
        let how = format!("against {against} ({}, {})", self.category, self.mode);
        let mut parts: Vec<String> = Vec::new();
        for (number, word) in
            [(errors, "error"), (warnings, "warning"), (infos, "note"), (self.suppressed.len(), "suppressed finding")]
        {
            if number > 0 {
                parts.push(build::count(number, word));
            }
        }
        let verdict = if errors > 0 || (self.strict && warnings > 0) { "not compatible" } else { "compatible" };
        if parts.is_empty() { format!("{verdict} {how}") } else { format!("{verdict}: {} {how}", parts.join(", ")) }
    }

    /// Returns the path of a place, relative to the working directory.
    fn path(&self, place: &Place) -> PathBuf {
        self.places.find(&place.file)
    }

    fn text(&self, summary: &str) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<8}{}  {} ({})\n        {}",
                finding.severity.as_str(),
                self.position(&finding.place),
                finding.rule.id,
                finding.rule.category.as_str(),
                finding.message
            );
            if let Some(was) = finding.was.as_ref().filter(|was| was.line > 0) {
                let _ = writeln!(text, "        it was at {}:{}:{}", was.file, was.line, was.column);
            }
            let _ = writeln!(text, "        → {}", finding.rule.advice);
        }
        for suppressed in &self.suppressed {
            let Suppressed { finding, reason, expires } = suppressed;
            let _ = writeln!(text, "suppressed until {expires}: {} of {} ({reason})", finding.rule.id, finding.element);
        }
        // On failure, the summary is printed as the error on stderr.
        let bar = if self.strict { Severity::Warning } else { Severity::Error };
        if self.findings.iter().all(|finding| finding.severity < bar) {
            let _ = writeln!(text, "{summary}");
        }
        text
    }

    fn position(&self, place: &Place) -> String {
        let path = self.path(place).display().to_string();
        let path = if place.side == Side::Old { format!("{path} (earlier version)") } else { path };
        if place.line == 0 { path } else { format!("{path}:{}:{}", place.line, place.column) }
    }

    fn json(&self) -> Value {
        let [errors, warnings, infos] = self.counts();
        let findings: Vec<Value> = self.findings.iter().map(|finding| self.finding(finding)).collect();
        let suppressed = self.suppressed.iter().map(|suppressed| {
            let mut value = self.finding(&suppressed.finding);
            value["reason"] = json!(suppressed.reason);
            value["expires"] = json!(suppressed.expires);
            value
        });
        json!({
            "against": self.against, "category": self.category, "mode": self.mode, "strict": self.strict,
            "errors": errors, "warnings": warnings, "infos": infos, "findings": findings,
            "suppressed": suppressed.collect::<Vec<_>>(), "notes": self.notes,
        })
    }

    fn finding(&self, finding: &Finding) -> Value {
        let Place { line, column, side, .. } = finding.place;
        let was = finding.was.as_ref().map(|was| json!({ "file": was.file, "line": was.line, "column": was.column }));
        json!({
            "id": finding.rule.id, "category": finding.rule.category, "severity": finding.severity,
            "element": finding.element, "file": self.path(&finding.place), "line": line, "column": column, "version": side,
            "was": was, "message": finding.message, "advice": finding.rule.advice,
        })
    }

    fn path_from_top(&self, place: &Place, top: Option<&Repository>) -> String {
        from_top(&self.path(place), top)
    }

    /// Renders workflow commands. GitHub shows an annotation if its line is part of the change.
    fn github(&self) -> String {
        let top = Repository::of(".".as_ref()).ok();
        let mut text = String::new();
        for finding in &self.findings {
            let level = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "notice",
            };
            let mut place = format!("file={}", property(&self.path_from_top(&finding.place, top.as_ref())));
            if finding.place.line > 0 && finding.place.side == Side::New {
                let _ = write!(place, ",line={},col={}", finding.place.line, finding.place.column);
            }
            let message = data(&format!("{}\n{}", finding.message, finding.rule.advice));
            let _ = writeln!(text, "::{level} {place},title={}::{message}", property(finding.rule.id));
        }
        text
    }

    fn sarif(&self) -> Value {
        let top = Repository::of(".".as_ref()).ok();
        let suppressed = self.suppressed.iter().map(|suppressed| &suppressed.finding);
        let used: BTreeSet<&str> = self.findings.iter().chain(suppressed).map(|finding| finding.rule.id).collect();
        let rules = tollgate_compat::RULES.iter().filter(|rule| used.contains(rule.id)).map(|rule| {
            json!({
                "id": rule.id, "shortDescription": { "text": rule.summary }, "help": { "text": rule.advice },
                "properties": { "category": rule.category },
            })
        });
        let own = self.findings.iter().map(|finding| self.sarif_result(finding, top.as_ref()));
        let answered = self.suppressed.iter().map(|suppressed| {
            let mut result = self.sarif_result(&suppressed.finding, top.as_ref());
            let why = format!("{} (until {})", suppressed.reason, suppressed.expires);
            result["suppressions"] = json!([{ "kind": "external", "justification": why }]);
            result
        });
        json!({
            "$schema": SARIF, "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "tollgate check", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Vec<_>>(),
                } },
                "columnKind": "unicodeCodePoints",
                "results": own.chain(answered).collect::<Vec<_>>(),
            }],
        })
    }

    fn sarif_result(&self, finding: &Finding, top: Option<&Repository>) -> Value {
        let level = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "note",
        };
        let uri = uri(&self.path_from_top(&finding.place, top));
        let mut place = json!({ "artifactLocation": { "uri": uri, "uriBaseId": "%SRCROOT%" } });
        if finding.place.line > 0 && finding.place.side == Side::New {
            place["region"] = json!({ "startLine": finding.place.line, "startColumn": finding.place.column });
        }
        json!({
            "ruleId": finding.rule.id, "level": level,
            "message": { "text": format!("{}. {}", finding.message, finding.rule.advice) },
            "locations": [{
                "physicalLocation": place,
                "logicalLocations": [{ "fullyQualifiedName": finding.element }],
            }],
            // This keeps an alert the same when lines move.
            "partialFingerprints": { "tollgate/v1": format!("{}:{}", finding.rule.id, finding.element) },
        })
    }
}

/// Returns the failure for contracts that do not compile. GitHub gets an annotation at the place, as for a finding.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
pub fn uncompiled(error: &ProtosError, places: &Places, format: Format) -> Failure {
    let failure = super::versions::invalid(error);
    if format != Format::Github {
        return failure;
    }
    let place = match error {
        ProtosError::Invalid { spot: Some(Spot { file, line, column }), .. } => {
            let path = from_top(&places.find(file), Repository::of(".".as_ref()).ok().as_ref());
            format!("file={},line={line},col={column},", property(&path))
        }
        _ => String::new(),
    };
    let text = format!("::error {place}title={}::{}\n", property(failure.code), data(&failure.message));
    failure.with(Value::Null, text)
}

/// Returns a path relative to the repository's top, as CI systems expect it. Without a repository, the path is
/// unchanged.
fn from_top(path: &Path, top: Option<&Repository>) -> String {
    top.and_then(|top| top.relative(path)).unwrap_or_else(|| path.display().to_string())
}

/// Returns a relative URI reference. All bytes except slashes and unreserved characters are percent-encoded.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Escapes text for a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
