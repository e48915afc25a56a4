//! `types:` the types of event on the topic; without it there is one. The root's keys are the defaults of each type.

use super::postgres::Draft;
use super::routes::PARTITIONS;
use super::{contract, envelope, names, read_transform};
use crate::limits;
use crate::model::{
    Column, Contract, Destination, EventType, From, KeyPart, Mapping, Mode, Output, OutputPartition, Pipeline,
    Postgres, Routing, Transform,
};
use crate::reader::{Table, choice};

/// The root's keys, which are defaults for every type.
struct Common<'c> {
    transforms: Vec<Transform>,
    output: Option<OutputDraft>,
    mapping: Option<&'c Draft>,
    contract: Option<&'c Contract>,
}

/// The keys of `output:` that are present.
#[derive(Clone, Default)]
struct OutputDraft {
    topic: Option<String>,
    contract: Option<String>,
    partition: Option<OutputPartition>,
    key: Vec<String>,
}

pub(super) fn read(
    root: &Table<'_>,
    contract: Option<&(Contract, Option<String>)>,
    postgres: Option<&(Postgres, Draft)>,
) -> Option<Vec<EventType>> {
    let typed = root.has("types");
    let common = Common {
        transforms: root.tables("transforms", read_transform),
        output: root.table("output", |table| {
            let output = OutputDraft::read(table);
            if !typed {
                table.need_field("topic");
            }
            Some(output)
        }),
        mapping: postgres.map(|(_, draft)| draft),
        contract: contract.map(|(contract, _)| contract),
    };
    if typed {
        return root.table("types", |types| read_types(types, &common));
    }
    // The key is read so that the error for a typo such as `type` can suggest it.
    root.field("types");
    let mapping = common.mapping?.mapping.clone();
    let output = common.output.map(OutputDraft::complete);
    Some(vec![EventType {
        name: String::new(),
        message: contract?.1.clone()?,
        transforms: common.transforms,
        // An invalid topic was already reported.
        output: output.flatten(),
        mapping: mapping?,
        versions: contract?.0.versions.clone(),
        idempotency_of: None,
    }])
}

fn read_types(table: &Table<'_>, common: &Common<'_>) -> Option<Vec<EventType>> {
    let entries = table.any();
    let count = entries.len();
    if count == 0 || count > limits::EVENT_TYPES {
        table.error_at(table.path(), format!("must list 1 to {} event types", limits::EVENT_TYPES));
        return None;
    }
    let mut types = Vec::with_capacity(count);
    for (name, field) in entries {
        if let Err(complaint) = names::event_type(&name) {
            field.complain::<()>(format!("the name {}", complaint.message));
        }
        types.extend(field.table(|table| read_type(table, &name, common)));
    }
    (types.len() == count).then_some(types)
}

fn read_type(table: &Table<'_>, name: &str, common: &Common<'_>) -> Option<EventType> {
    let message = table.need("message", names::message_type);
    let own = table.tables("transforms", read_transform);
    let transforms = if table.has("transforms") { own } else { common.transforms.clone() };
    let wants_output = table.has("output") || common.output.is_some();
    let output = match table.table("output", |own| Some(OutputDraft::read(own))) {
        Some(own) => own.over(common.output.as_ref()),
        None => common.output.clone().unwrap_or_default(),
    };
    let nested = table.has("output");
    if wants_output && output.topic.is_none() && !nested {
        table.error_at("output", "topic is missing; set it here or in the output of each type");
    } else if nested && output.topic.is_none() {
        table.error("output", "topic is missing; set it here or in the root's output");
    }
    let mapping = table.table_or_empty("postgres", |own| {
        let empty = Draft::default();
        // If the root's section is not a table, this was already reported.
        common.mapping.unwrap_or(&empty).with(own).mapping
    });
    let versions = contract::read_versions_over(table, common.contract);
    let idempotency_of = table.field("idempotency_of").and_then(|field| envelope::read_parts(&field));
    Some(EventType {
        name: name.to_owned(),
        message: message?,
        transforms,
        output: wants_output.then(|| output.complete()).flatten(),
        mapping: mapping?,
        versions,
        idempotency_of,
    })
}

impl OutputDraft {
    fn read(table: &Table<'_>) -> OutputDraft {
        OutputDraft {
            topic: table.get("topic", names::topic),
            contract: table.get("contract", names::message_type),
            partition: table.get("partition", choice(&PARTITIONS)),
            key: read_output_key(table),
        }
    }

    fn over(self, common: Option<&OutputDraft>) -> OutputDraft {
        let Some(common) = common.cloned() else { return self };
        OutputDraft {
            topic: self.topic.or(common.topic),
            contract: self.contract.or(common.contract),
            partition: self.partition.or(common.partition),
            key: if self.key.is_empty() { common.key } else { self.key },
        }
    }

    fn complete(self) -> Option<Output> {
        let partition = self.partition.unwrap_or(OutputPartition::ByKey);
        Some(Output { topic: self.topic?, contract: self.contract, partition, key: self.key })
    }
}

/// Reads one field's path, or a list of paths.
fn read_output_key(table: &Table<'_>) -> Vec<String> {
    match table.field("key") {
        Some(field) if field.is_list() => table.list("key", names::field_path),
        Some(field) => field.scalar(names::field_path).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Checks the types against each other and against the envelope.
pub(super) fn check(root: &Table<'_>, pipeline: &Pipeline) {
    check_tables(root, pipeline);
    for (index, kind) in pipeline.types.iter().enumerate() {
        let before = &pipeline.types[..index];
        let by_message = pipeline.contract.routing == Routing::Frame;
        if let Some(other) = before.iter().find(|other| by_message && other.message == kind.message) {
            let message = format!(
                "{} is also the message of {}, and frames name only the message; set contract.type_header",
                kind.message, other.name
            );
            root.error_at(&kind.place("message"), message);
        }
        let key = pipeline.contract.envelope.as_ref().and_then(|envelope| envelope.idempotency_key.as_ref());
        if kind.idempotency_of.is_some() && key.is_none() {
            let message = "needs contract.envelope.idempotency_key, which names the field of the key";
            root.error_at(&kind.place("idempotency_of"), message);
        }
    }
    check_key_parts(root, pipeline);
}

/// Checks shared tables. Types and routes may share a table if one statement writes the rows of both.
fn check_tables(root: &Table<'_>, pipeline: &Pipeline) {
    let mut before: Vec<(Destination<'_>, &Mapping)> = Vec::new();
    for to in pipeline.destinations() {
        let Some(mapping) = to.mapping() else { continue };
        let shares = |(_, other): &&(Destination<'_>, &Mapping)| other.table == mapping.table;
        if let Some((other, _)) = before.iter().find(shares).filter(|(_, other)| !same_statement(other, mapping)) {
            let owner = match (other.route, other.kind.name.as_str()) {
                (Some((_, route)), _) => format!("route {}", route.name),
                (None, "") => "the pipeline".to_owned(),
                (None, name) => name.to_owned(),
            };
            let message = format!(
                "{} is also the table of {owner}, with another key or other columns, so their events could not be written in \
                 order; give both the same key, columns (in the same order) and modes, or separate tables",
                mapping.table
            );
            root.error_at(&to.place("postgres.table"), message);
        }
        before.push((to, mapping));
    }
}

/// Returns whether one statement can write the rows of both mappings, in the order of their events.
fn same_statement(one: &Mapping, other: &Mapping) -> bool {
    let shape = |column: &Column| (column.name.clone(), column.mode, column.from == From::Now);
    let columns = |mapping: &Mapping| mapping.columns.iter().map(shape).collect::<Vec<(String, Mode, bool)>>();
    let overrides = |mapping: &Mapping| mapping.columns.iter().any(|column| column.overrides_identity);
    one.key == other.key
        && one.only_if_newer == other.only_if_newer
        && one.delete.soft == other.delete.soft
        && one.partitions == other.partitions
        && overrides(one) == overrides(other)
        && columns(one) == columns(other)
}

/// Checks that idempotency keys can differ between events.
fn check_key_parts(root: &Table<'_>, pipeline: &Pipeline) {
    let constant = |parts: &[KeyPart]| !parts.is_empty() && parts.iter().all(|part| matches!(part, KeyPart::Text(_)));
    let Some(key) = pipeline.contract.envelope.as_ref().and_then(|envelope| envelope.idempotency_key.as_ref()) else {
        return;
    };
    let message = "lists only constant texts, so every event would have the same key";
    if constant(&key.of) {
        root.error_at("contract.envelope.idempotency_key.of", message);
    }
    for kind in pipeline.types.iter().filter(|kind| kind.idempotency_of.as_deref().is_some_and(constant)) {
        root.error_at(&kind.place("idempotency_of"), message);
    }
}

#[cfg(test)]
mod tests;
