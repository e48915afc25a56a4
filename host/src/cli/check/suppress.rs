//! tollgate-check.yaml: the strictness of a project's checks, and the findings that it suppresses.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use tollgate_compat::{Category, Finding, Place, RULES, Rule, Severity, Side, find, rules};
use tollgate_contract::iso;

use super::{Direction, Level};
use tollgate_config::error::Failure;
use tollgate_config::limits;
use tollgate_config::reader::{self, Complaint, ConfigErrors, Position, Table, boolean, choice, text, within};

/// The default file name, in the working directory.
pub const FILE: &str = "tollgate-check.yaml";

#[derive(Debug, Default)]
pub struct Settings {
    pub category: Option<Level>,
    pub mode: Option<Direction>,
    pub strict: bool,
    /// The number of released versions in which an element must have been deprecated before its removal. `None` if that
    /// is not required.
    pub deprecate_for: Option<u32>,
    pub suppressions: Vec<Suppression>,
    file: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Suppression {
    pub rule: &'static Rule,
    /// The full name of an element. With `*` at its end, it matches all names that start with it.
    pub element: String,
    pub reason: String,
    /// The last day on which it applies, such as `2026-12-31`.
    pub expires: String,
    at: Position,
}

/// A finding that the project suppresses.
#[derive(Debug)]
pub struct Suppressed {
    pub finding: Finding,
    pub reason: String,
    pub expires: String,
}

impl Settings {
    /// Reads the file. Without a name, reads the default file if it exists.
    ///
    /// # Errors
    /// Returns all errors in the file at once.
    pub fn load(file: Option<&Path>) -> Result<Settings, Failure> {
        let usual = Path::new(FILE);
        let Some(file) = file.or_else(|| usual.is_file().then_some(usual)) else { return Ok(Settings::default()) };
        let invalid = |errors| Failure::configuration("check.config", errors);
        let text = reader::load_text(file).map_err(invalid)?;
        Settings::parse(file, &text).map_err(invalid)
    }

    /// Parses a text as [`Settings::load`] does. `file` is its name in messages.
    ///
    /// # Errors
    /// Returns all errors in the text at once.
    pub fn parse(file: &Path, text: &str) -> Result<Settings, ConfigErrors> {
        let name = file.display().to_string();
        // The file must show what it suppresses, so it may not contain variables.
        let (settings, seen) = reader::read_seen(&name, text, reader::folder_of(file), &|_| None, read);
        let mut settings = settings?;
        settings.file = file.to_owned();
        for (index, suppression) in settings.suppressions.iter_mut().enumerate() {
            suppression.at = seen.places.find(&format!("suppress[{index}]"));
        }
        Ok(settings)
    }
}

fn read(table: &Table<'_>) -> Option<Settings> {
    let levels: Vec<(String, Level)> = named(Level::value_variants());
    let modes: Vec<(String, Direction)> = named(Direction::value_variants());
    fn borrowed<T: Copy>(pairs: &[(String, T)]) -> Vec<(&str, T)> {
        pairs.iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }
    let category = table.get("category", choice(&borrowed(&levels)));
    let mode = table.get("mode", choice(&borrowed(&modes)));
    let strict = table.or("strict", boolean, false);
    let deprecate_for = table.get("deprecate_for", within(1, limits::DEPRECATE_FOR_MAX));
    let suppressions = table.tables("suppress", read_suppression);
    Some(Settings { category, mode, strict, deprecate_for, suppressions, file: PathBuf::new() })
}

fn named<T: clap::ValueEnum + Copy>(values: &[T]) -> Vec<(String, T)> {
    values.iter().filter_map(|value| Some((value.to_possible_value()?.get_name().to_owned(), *value))).collect()
}

fn read_suppression(table: &Table<'_>) -> Option<Suppression> {
    let rule = table.need("rule", rule);
    let element = table.need("element", text);
    let reason = table.need("reason", text);
    let expires = table.need("expires", date);
    Some(Suppression { rule: rule?, element: element?, reason: reason?, expires: expires?, at: Position::default() })
}

fn rule(text: &str) -> Result<&'static Rule, Complaint> {
    let ids = || RULES.iter().filter(|rule| rule.category != Category::Check).map(|rule| rule.id);
    match find(text) {
        Some(rule) if rule.category == Category::Check => {
            Err(Complaint::new("cannot be suppressed, because it reports a problem of the check itself"))
        }
        Some(rule) => Ok(rule),
        None => Err(Complaint {
            nearest: reader::nearest(text, ids()),
            ..Complaint::new("is not a rule; docs/check.md lists all rules")
        }),
    }
}

/// Parses a date such as `2026-12-31`.
fn date(text: &str) -> Result<String, Complaint> {
    match iso::date(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(Complaint::new("is not a date; write it as 2026-12-31")),
    }
}

/// Returns today's date in UTC.
pub fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    iso::show_date(i64::try_from(now.as_secs() / 86_400).unwrap_or_default())
}

impl Suppression {
    fn covers(&self, finding: &Finding) -> bool {
        let named = match self.element.strip_suffix('*') {
            Some(head) => finding.element.starts_with(head),
            None => finding.element == self.element,
        };
        named && finding.rule == self.rule
    }
}

/// Splits findings into those to report and those that are suppressed. Adds findings about expired and unused
/// suppressions.
pub fn apply(settings: &Settings, findings: Vec<Finding>, today: &str) -> (Vec<Finding>, Vec<Suppressed>) {
    let mut used = vec![false; settings.suppressions.len()];
    let (mut left, mut suppressed) = (Vec::new(), Vec::new());
    for finding in findings {
        let covering = settings.suppressions.iter().zip(&mut used).filter(|(one, _)| one.covers(&finding));
        let mut answer = None;
        for (suppression, used) in covering {
            *used = true;
            answer = answer.or(Some(suppression).filter(|one| one.expires.as_str() >= today));
        }
        match answer {
            Some(one) => {
                suppressed.push(Suppressed { finding, reason: one.reason.clone(), expires: one.expires.clone() });
            }
            None => left.push(finding),
        }
    }
    for (suppression, used) in settings.suppressions.iter().zip(used) {
        let Suppression { rule, element, reason, expires, at } = suppression;
        let (about, severity, text) = if expires.as_str() < today {
            (
                &rules::SUPPRESSION_EXPIRED,
                Severity::Error,
                format!("{} of {element} was suppressed until {expires}: {reason}", rule.id),
            )
        } else if !used {
            (
                &rules::SUPPRESSION_UNUSED,
                Severity::Warning,
                format!("{} of {element} is suppressed, but was not found", rule.id),
            )
        } else {
            continue;
        };
        let place =
            Place { side: Side::New, file: settings.file.display().to_string(), line: at.line, column: at.column };
        left.push(Finding { rule: about, severity, element: element.clone(), place, was: None, message: text });
    }
    (left, suppressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_the_calendar() {
        for good in ["2026-12-31", "2024-02-29", "2000-02-29"] {
            assert_eq!(date(good).unwrap(), good);
        }
        for bad in
            ["2026-13-01", "2026-02-29", "1900-02-29", "2026-1-1", "31.12.2026", "2026-04-31", "soon", "2026-00-01"]
        {
            assert!(date(bad).is_err(), "{bad}");
        }
    }
}
