//! `contract.envelope: debezium`, and its requirements for the rest of the file.

use super::envelope::read_headers;
use super::names;
use crate::limits;
use crate::model::{Debezium, DeleteKey, Encoding, Pipeline, Tombstones, WithoutRow};
use crate::reader::{Table, choice};

const AT: &str = "contract.envelope";

/// Reads the long form, `envelope: { debezium: { … } }`.
pub(super) fn read(table: &Table<'_>, typed: bool) -> Option<Debezium> {
    let message = table.get("message", names::message_type);
    let kind = table.get("type", names::field_path);
    let headers = table.table("headers", |table| Some(read_headers(table)));
    if headers.as_ref().is_some_and(|headers| headers.len() > limits::ENVELOPE_PARTS) {
        table.error("headers", format!("has more than {} entries", limits::ENVELOPE_PARTS));
    }
    if !typed && table.has("type") {
        table.error("type", "needs types: without it all events have the same type");
    }
    if typed && table.has("message") {
        let message = "cannot be combined with types: the message type of change events defines before and after, so it \
                       fits only one type";
        table.error("message", message);
    }
    let usual = Debezium::usual(typed);
    Some(Debezium {
        message,
        kind: kind.or(usual.kind),
        headers,
        truncates: table.or("truncates", choice(&WithoutRow::ALL), usual.truncates),
        messages: table.or("messages", choice(&WithoutRow::ALL), usual.messages),
    })
}

/// Checks the rest of the file, and sets the values that follow from Debezium.
pub(super) fn complete(root: &Table<'_>, pipeline: &mut Pipeline) {
    let Some(debezium) = &pipeline.contract.debezium else { return };
    if debezium.message.is_none() {
        let framed = pipeline.contract.registry.is_some();
        if framed || pipeline.contract.encoding == Encoding::Protobuf {
            let key = if framed { "contract.registry" } else { "contract.encoding" };
            let message =
                "needs change events in Protobuf; set their message type, envelope: { debezium: { message: … } }";
            root.error_at(key, message);
        }
    }
    if pipeline.contract.tombstones == Tombstones::Delete {
        let message = "delete cannot be combined with envelope: debezium, where the change before the tombstone deletes the \
                       row; remove the key";
        root.error_at("contract.tombstones", message);
    }
    for kind in &pipeline.types {
        let mapping = &kind.mapping;
        if mapping.only_if_newer.is_none() {
            continue;
        }
        let changed = !kind.transforms.is_empty() || kind.end().message() != kind.message;
        if mapping.delete.soft.is_none() {
            let message = "debezium deletes rows, and with only_if_newer a deleted row keeps no version, so an older \
                           change would create it again; set postgres.delete.soft, or remove only_if_newer";
            root.error_at(AT, message);
        } else if changed {
            let message = "debezium with delete.soft and only_if_newer writes the row in before, which does not \
                           pass the transforms; remove the transforms, only_if_newer or delete.soft";
            root.error_at(AT, message);
        }
    }
    for kind in &mut pipeline.types {
        // Debezium's record keys are objects, even for one column.
        kind.mapping.delete.key.get_or_insert(DeleteKey::Json);
    }
}
