//! Finds what a change of a contract breaks in a pipeline: its columns, keys and components.

use std::collections::BTreeSet;
use std::path::Path;

use prost_reflect::DescriptorPool;
use tollgate_compat::{Finding, Place, Rule, Severity, Side, fingerprint, rules};
use tollgate_contract::{Contract, FieldInfo, FieldPath, Kind, Policies, Presence, Slot};
use tollgate_sandbox::{Manifest, SECTION};
use wasmparser::{Parser, Payload};

use crate::cli::validate::offline::{converts, input_kind};
use tollgate_config::{As, Column, DeleteKey, Destination, EventType, Mapping, Pipeline};
use tollgate_decide::postgres::ddl;
use tollgate_decide::postgres::delete::message::matched;

/// SQL types in order: each holds all values of those before it.
const WIDENING: [&[&str]; 2] = [&["integer", "bigint", "numeric(20)"], &["real", "double precision"]];

struct Look<'p> {
    pipeline: &'p Pipeline,
    old: &'p DescriptorPool,
    new: &'p DescriptorPool,
    findings: Vec<Finding>,
}

/// Returns everything that the new contracts break in a pipeline. It reads the components; an unreadable one becomes a
/// note.
pub fn compare(
    pipeline: &Pipeline,
    old: &DescriptorPool,
    new: &DescriptorPool,
    notes: &mut Vec<String>,
) -> Vec<Finding> {
    let mut look = Look { pipeline, old, new, findings: Vec::new() };
    look.envelope();
    for kind in &pipeline.types {
        look.kind(kind, notes);
    }
    look.findings
}

/// Returns a field's kind and presence, or why the field does not exist.
fn field(pool: &DescriptorPool, message: &str, path: &str) -> Result<(Contract, FieldInfo), String> {
    found(pool, message, FieldPath::new(path))
}

/// Returns the same as [`field`], and also accepts a oneof.
fn found(pool: &DescriptorPool, message: &str, path: FieldPath) -> Result<(Contract, FieldInfo), String> {
    let contract = Contract::compile(pool, message, Policies::default(), std::slice::from_ref(&path));
    let contract = contract.map_err(|error| error.to_string())?;
    let info = contract.fields().first().cloned().ok_or_else(|| format!("{path} is not a field"))?;
    Ok((contract, info))
}

impl Look<'_> {
    /// Checks every field that the pipeline reads from the envelope, if the envelope's message is one of the contracts.
    fn envelope(&mut self) {
        const AT: &str = "contract.envelope";
        let Some(spec) = &self.pipeline.contract.envelope else { return };
        if self.old.get_message_by_name(&spec.message).is_none() {
            return;
        }
        self.message(&spec.message, &format!("{AT}.message"));
        if self.new.get_message_by_name(&spec.message).is_none() {
            return;
        }
        let parts = [("type", &spec.kind), ("payload", &Some(spec.payload.clone())), ("version", &spec.version)];
        let parts = parts.into_iter().filter_map(|(key, path)| Some((format!("{AT}.{key}"), path.clone()?)));
        let headers = spec.headers.iter().map(|(name, path)| (format!("{AT}.headers.{name}"), path.clone()));
        let key = spec.idempotency_key.iter().map(|key| (format!("{AT}.idempotency_key.field"), key.field.clone()));
        let all: Vec<(String, String)> = parts.chain(headers).chain(key).collect();
        for (key, path) in all {
            if let Err(problem) = field(self.new, &spec.message, &path) {
                self.add(&rules::SINK_FIELD, &key, &format!("{}.{path}", spec.message), problem);
            }
        }
    }

    /// Checks one type with its columns, its key and its components.
    fn kind(&mut self, kind: &EventType, notes: &mut Vec<String>) {
        self.message(&kind.message, &kind.place("message"));
        for to in kind.destinations() {
            self.destination(to);
        }
        for (index, transform) in kind.transforms.iter().enumerate() {
            let path = self.pipeline.resolve(&transform.component);
            match manifest(&path) {
                Ok(manifest) => self.transform(&kind.place(&format!("transforms[{index}].component")), &manifest),
                Err(why) => notes.push(format!("{}: {why}; its message types were not checked", path.display())),
            }
        }
    }

    /// Checks the message, columns and key of a destination.
    fn destination(&mut self, to: Destination<'_>) {
        if to.is_named() {
            self.message(to.message(), &to.place("message"));
        }
        if self.new.get_message_by_name(to.message()).is_none() {
            return;
        }
        if let Some(mapping) = to.mapping() {
            for column in &mapping.columns {
                self.column(to, mapping, column);
            }
            if let Some(DeleteKey::Message(message)) = &mapping.delete.key {
                let place = to.place("postgres.delete.key.message");
                for problem in matched(mapping, message, self.new).err().unwrap_or_default() {
                    self.add(&rules::SINK_FIELD, &place, message, problem);
                }
            }
        }
        let keys = to.keys().into_iter();
        for (key, problem) in keys.filter_map(|key| Some((key, field(self.new, to.message(), key).err()?))) {
            self.add(&rules::SINK_FIELD, &to.place("key"), key, problem);
        }
    }

    fn add(&mut self, rule: &'static Rule, key: &str, element: &str, message: impl std::fmt::Display) {
        let at = self.pipeline.places.find(key);
        let file = self.pipeline.file.display().to_string();
        self.findings.push(Finding {
            rule,
            severity: rule.backward.unwrap_or(Severity::Error),
            element: element.to_owned(),
            place: Place { side: Side::New, file, line: at.line, column: at.column },
            was: None,
            message: format!("pipeline {}, {key}: {message}", self.pipeline.name),
        });
    }

    fn message(&mut self, name: &str, key: &str) {
        if self.new.get_message_by_name(name).is_none() {
            self.add(&rules::SINK_MESSAGE, key, name, format!("message {name} does not exist"));
        }
    }

    fn column(&mut self, to: Destination<'_>, mapping: &Mapping, column: &Column) {
        let Some(path) = column.from.path() else { return };
        let message = to.message();
        let key = to.place(&format!("postgres.columns.{}", column.name));
        let element = format!("{message}.{path}");
        let (contract, info) = match found(self.new, message, path.clone()) {
            Ok(found) => found,
            Err(problem) => return self.add(&rules::SINK_FIELD, &key, &element, problem),
        };
        let unfit = input_kind(column, Some(&info.kind)).and_then(|input| converts(column, input).err());
        if let Some(problem) = unfit {
            return self.add(&rules::SINK_CONVERSION, &key, &element, problem.to_string());
        }
        let Ok((old_contract, old)) = found(self.old, message, path) else { return };
        let was = ddl::sql_type(column, &old_contract, Slot(0));
        let is = ddl::sql_type(column, &contract, Slot(0));
        if was != is && !holds(&was, &is) {
            let text = format!(
                "the field was {} for a column of type {was}, now it is {}, which needs {is}",
                old.kind.name(),
                info.kind.name()
            );
            self.add(&rules::SINK_CONVERSION, &key, &element, text);
        }
        if old.presence == Presence::Implicit && info.presence == Presence::Explicit {
            let is_key = mapping.key.contains(&column.name);
            let rule = if is_key { &rules::SINK_KEY_NULL } else { &rules::SINK_COLUMN_NULL };
            self.add(rule, &key, &element, "an unset field was stored as its empty value and is now stored as NULL");
        }
        let named = match (&column.as_, &old.kind, &info.kind) {
            (As::EnumName { .. }, Kind::Enum(was), Kind::Enum(is)) | (_, Kind::Oneof(was), Kind::Oneof(is)) => {
                Some((was, is))
            }
            _ => None,
        };
        if let Some((was, is)) = named {
            for (number, name) in was.values() {
                let now = is.value_name(number).filter(|now| *now != name);
                if let Some(now) = now {
                    self.add(
                        &rules::SINK_ENUM_TEXT,
                        &key,
                        &element,
                        format!("number {number} was stored as {name}, now as {now}"),
                    );
                }
            }
        }
    }

    fn transform(&mut self, key: &str, manifest: &Manifest) {
        let mut types: BTreeSet<&str> = BTreeSet::from([manifest.input.as_str(), manifest.output()]);
        types.extend(manifest.routes.iter().map(|route| manifest.route_message(route)));
        for name in types {
            let Some(new) = self.new.get_message_by_name(name) else {
                let text = format!("{} is built for {name}, which no longer exists", manifest.name);
                self.add(&rules::TRANSFORM_MESSAGE, key, name, text);
                continue;
            };
            let old = self.old.get_message_by_name(name);
            if old.is_some_and(|old| fingerprint(&old) != fingerprint(&new)) {
                let text = format!("{} is built for an earlier version of {name}", manifest.name);
                self.add(&rules::TRANSFORM_CONTRACT, key, name, text);
            }
        }
    }
}

/// Returns whether a column of one type holds all values of the other.
fn holds(column: &str, value: &str) -> bool {
    WIDENING.iter().any(|order| {
        let at = |name| order.iter().position(|known| *known == name);
        matches!((at(column), at(value)), (Some(column), Some(value)) if column >= value)
    })
}

/// Reads a component's manifest without running the component.
fn manifest(path: &Path) -> Result<Manifest, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(&bytes) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "only the manifest's section and nesting matter here")]
        match payload.map_err(|error| format!("is not a component: {error}"))? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 1 && section.name() == SECTION => {
                return Manifest::parse(section.data()).map_err(|error| error.to_string());
            }
            _ => {}
        }
    }
    Err("has no manifest: build it with `tollgate build`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn a_wider_column_holds_a_narrower_type() {
        assert!(holds("bigint", "integer") && holds("double precision", "real"));
        assert!(!holds("integer", "bigint") && !holds("text", "integer") && !holds("bigint", "real"));
    }
}
