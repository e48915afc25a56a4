//! The reference evaluator: all rules, over a message decoded as a whole.
//!
//! It defines what the rules mean here, and tests compare the walk over the wire bytes with it. It runs for events that
//! the walk cannot judge, and for those that the walk rejects, to list every violation.

use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, MapKey, Value as ReflectValue};

use super::cel::{self, Boxed, Expression, Reading};
use super::fault::Unevaluated;
use super::model::{FieldRules, Group, MessageRules, Rule, ValueRules};
use super::test::{Subject, Test};
use super::{Rules, Violation, is_set, standard};

/// The result of an evaluation.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub violations: Vec<Violation>,
    /// A rule that could not be evaluated; it ends the evaluation.
    pub failure: Option<Violation>,
}

/// A step from a message into it.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a MapKey),
}

struct Evaluation<'a> {
    rules: &'a Rules,
    now: Option<i128>,
    limit: usize,
    path: Vec<Step<'a>>,
    for_key: bool,
    findings: Findings,
}

/// Returned when nothing more can be found.
struct Enough;

impl Rules {
    /// Evaluates all rules, up to `limit` violations. `now` is in nanoseconds since the epoch.
    pub(crate) fn evaluate(&self, message: &DynamicMessage, now: Option<i128>, limit: usize) -> Findings {
        let path = Vec::new();
        let mut evaluation =
            Evaluation { rules: self, now, limit, path, for_key: false, findings: Findings::default() };
        // Stopping early is not a failure, because the findings show why it ended.
        let _ = evaluation.message(self.root(), message);
        evaluation.findings
    }
}

impl<'a> Evaluation<'a> {
    fn message(&mut self, rules: &'a MessageRules, message: &'a DynamicMessage) -> Result<(), Enough> {
        if !rules.expressions.is_empty() {
            self.expressions(&rules.expressions, &|| cel::message(message, Reading::Event))?;
        }
        for group in &rules.groups {
            self.group(group, message)?;
        }
        for oneof in &rules.required {
            if !oneof.fields().any(|field| message.has_field(&field)) {
                self.path.push(Step::Field(oneof.name()));
                self.found("required", "exactly one field is required in oneof", "")?;
                self.path.pop();
            }
        }
        for field in &rules.fields {
            self.path.push(Step::Field(field.field.name()));
            self.field(field, message)?;
            self.path.pop();
        }
        Ok(())
    }

    fn group(&mut self, group: &Group, message: &DynamicMessage) -> Result<(), Enough> {
        let set = group.fields.iter().filter(|field| is_set(message, field)).count();
        let names = || group.fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
        if set > 1 {
            self.found("message.oneof", &format!("only one of {} can be set", names()), "")
        } else if set == 0 && group.required {
            self.found("message.oneof", &format!("one of {} must be set", names()), "")
        } else {
            Ok(())
        }
    }

    fn field(&mut self, rules: &'a FieldRules, message: &'a DynamicMessage) -> Result<(), Enough> {
        let set = is_set(message, &rules.field);
        if rules.required && !set {
            return self.found("required", "value is required", "required");
        }
        if !set && rules.skip_unset {
            return Ok(());
        }
        if !set {
            // The value is a zero, or an empty list or map, so it contains nothing to evaluate.
            let zero = message.get_field(&rules.field).into_owned();
            return self.unset(rules, &zero, message);
        }
        match message.get_field(&rules.field) {
            std::borrow::Cow::Borrowed(value) => {
                let this = || cel::convert_field(message, &rules.field, Reading::Event);
                self.value(&rules.value, value, &this)
            }
            // The reader borrows set fields, so an owned value is unset.
            std::borrow::Cow::Owned(value) => self.unset(rules, &value, message),
        }
    }

    /// Evaluates only the value's own rules.
    fn unset(&mut self, rules: &'a FieldRules, value: &ReflectValue, message: &DynamicMessage) -> Result<(), Enough> {
        if !rules.value.expressions.is_empty() {
            self.expressions(&rules.value.expressions, &|| cel::convert_field(message, &rules.field, Reading::Event))?;
        }
        self.tests(&rules.value, value)
    }

    fn value(
        &mut self,
        rules: &'a ValueRules,
        value: &'a ReflectValue,
        this: &dyn Fn() -> Result<Boxed, ::cel::ExecutionError>,
    ) -> Result<(), Enough> {
        if rules.skip_zero && is_zero(value) {
            return Ok(());
        }
        if !rules.expressions.is_empty() {
            self.expressions(&rules.expressions, this)?;
        }
        self.tests(rules, value)?;
        match value {
            ReflectValue::Message(inner) => match rules.message.and_then(|index| self.rules.message(index)) {
                Some(rules) => self.message(rules, inner),
                None => Ok(()),
            },
            ReflectValue::List(items) => match &rules.items {
                Some(rules) => items.iter().enumerate().try_for_each(|(index, item)| {
                    self.within(Step::Index(index), |found| {
                        found.value(rules, item, &|| cel::convert_item(item, Reading::Event))
                    })
                }),
                None => Ok(()),
            },
            ReflectValue::Map(entries) => {
                // Entries are taken in key order, because the map is unordered, and the same payload must get the same
                // result.
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                entries
                    .into_iter()
                    .try_for_each(|(key, item)| self.within(Step::Key(key), |found| found.entry(rules, key, item)))
            }
            _ => Ok(()),
        }
    }

    fn entry(&mut self, rules: &'a ValueRules, key: &MapKey, item: &'a ReflectValue) -> Result<(), Enough> {
        if let Some(rules) = &rules.keys {
            let key = ReflectValue::from(key.clone());
            if !(rules.skip_zero && is_zero(&key)) {
                self.for_key = true;
                if !rules.expressions.is_empty() {
                    self.expressions(&rules.expressions, &|| cel::convert_item(&key, Reading::Event))?;
                }
                self.tests(rules, &key)?;
                self.for_key = false;
            }
        }
        match &rules.items {
            Some(rules) => self.value(rules, item, &|| cel::convert_item(item, Reading::Event)),
            None => Ok(()),
        }
    }

    fn within(&mut self, step: Step<'a>, evaluate: impl FnOnce(&mut Self) -> Result<(), Enough>) -> Result<(), Enough> {
        self.path.push(step);
        evaluate(self)?;
        self.path.pop();
        Ok(())
    }

    fn expressions(
        &mut self,
        expressions: &'a [Expression],
        this: &dyn Fn() -> Result<Boxed, ::cel::ExecutionError>,
    ) -> Result<(), Enough> {
        for expression in expressions {
            let answer = this().map_err(Unevaluated::Value).and_then(|this| expression.evaluate(this, self.now));
            match answer {
                Ok(None) => {}
                Ok(Some(message)) => self.found(&expression.id, &message, &expression.path)?,
                Err(error) => return self.failed(&expression.id, &error.to_string(), &expression.path),
            }
        }
        Ok(())
    }

    fn tests(&mut self, rules: &'a ValueRules, value: &ReflectValue) -> Result<(), Enough> {
        let inner;
        let value = if rules.wrapped {
            inner = value.as_message().and_then(|wrapper| wrapper.get_field_by_name("value"));
            inner.as_deref().unwrap_or(value)
        } else {
            value
        };
        for rule in &rules.tests {
            self.test(rule, value)?;
        }
        Ok(())
    }

    fn test(&mut self, rule: &Rule, value: &ReflectValue) -> Result<(), Enough> {
        let holds = match &rule.test {
            Test::Count { min, max } => len(value).is_some_and(|len| (*min..=*max).contains(&len)),
            Test::Unique => is_unique(value),
            Test::AnyUrl { listed, allowed } => {
                let url = value.as_message().and_then(|any| any.get_field_by_name("type_url"));
                let url = url.as_ref().and_then(|url| url.as_str()).unwrap_or_default();
                listed.iter().any(|one| one == url) == *allowed
            }
            Test::Mask(mask) => {
                let paths = value.as_message().and_then(|mask| mask.get_field_by_name("paths"));
                let paths = paths.as_ref().and_then(|paths| paths.as_list()).unwrap_or_default();
                mask.holds(&paths.iter().filter_map(ReflectValue::as_str).collect::<Vec<_>>())
            }
            test => match subject(value) {
                Some(subject) => match test.holds(subject, self.now) {
                    Ok(holds) => holds,
                    Err(unknown) => return self.failed(&rule.id, unknown.message(), &rule.path),
                },
                None => true,
            },
        };
        if holds { Ok(()) } else { self.found(&rule.id, &rule.message, &rule.path) }
    }

    fn found(&mut self, rule: &str, message: &str, path: &str) -> Result<(), Enough> {
        let violation = self.violation(rule, message, path);
        self.findings.violations.push(violation);
        if self.findings.violations.len() < self.limit { Ok(()) } else { Err(Enough) }
    }

    fn failed(&mut self, rule: &str, message: &str, path: &str) -> Result<(), Enough> {
        self.findings.failure = Some(self.violation(rule, message, path));
        Err(Enough)
    }

    fn violation(&self, rule: &str, message: &str, path: &str) -> Violation {
        let mut field = String::new();
        for step in &self.path {
            // Writing to a String cannot fail.
            let _ = match step {
                Step::Field(name) if field.is_empty() => write!(field, "{name}"),
                Step::Field(name) => write!(field, ".{name}"),
                Step::Index(index) => write!(field, "[{index}]"),
                Step::Key(MapKey::String(key)) => write!(field, "[{key:?}]"),
                Step::Key(MapKey::Bool(key)) => write!(field, "[{key}]"),
                Step::Key(MapKey::I32(key)) => write!(field, "[{key}]"),
                Step::Key(MapKey::I64(key)) => write!(field, "[{key}]"),
                Step::Key(MapKey::U32(key)) => write!(field, "[{key}]"),
                Step::Key(MapKey::U64(key)) => write!(field, "[{key}]"),
            };
        }
        Violation {
            rule: rule.to_owned(),
            field,
            message: message.to_owned(),
            rule_path: path.to_owned(),
            for_key: self.for_key,
        }
    }
}

fn len(value: &ReflectValue) -> Option<u64> {
    let len = value.as_list().map(<[_]>::len).or_else(|| value.as_map().map(std::collections::HashMap::len))?;
    u64::try_from(len).ok()
}

fn is_unique(value: &ReflectValue) -> bool {
    let Some(items) = value.as_list() else { return true };
    // Compares by value, so that NaN is unique and both zeros are equal.
    items.iter().enumerate().all(|(position, item)| !items.iter().take(position).any(|other| other == item))
}

/// Returns whether an item, a key or a map's value is its type's zero.
fn is_zero(value: &ReflectValue) -> bool {
    match value {
        ReflectValue::Message(message) => message.fields().next().is_none(),
        value => scalar(value).is_some_and(Subject::is_zero),
    }
}

/// Converts a single value for the tests.
pub(super) fn scalar(value: &ReflectValue) -> Option<Subject<'_>> {
    Some(match value {
        ReflectValue::Bool(value) => Subject::Bool(*value),
        ReflectValue::I32(value) | ReflectValue::EnumNumber(value) => Subject::Int(i64::from(*value)),
        ReflectValue::I64(value) => Subject::Int(*value),
        ReflectValue::U32(value) => Subject::Uint(u64::from(*value)),
        ReflectValue::U64(value) => Subject::Uint(*value),
        ReflectValue::F32(value) => Subject::Double(f64::from(*value)),
        ReflectValue::F64(value) => Subject::Double(*value),
        ReflectValue::String(value) => Subject::Text(value.as_str().into()),
        ReflectValue::Bytes(value) => Subject::Bytes(value),
        ReflectValue::Message(_) | ReflectValue::List(_) | ReflectValue::Map(_) => return None,
    })
}

fn subject(value: &ReflectValue) -> Option<Subject<'_>> {
    match value {
        ReflectValue::Message(_) => standard::nanos(value).map(Subject::Time),
        value => scalar(value),
    }
}
