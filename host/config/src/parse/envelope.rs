//! `contract.envelope:` the message around each event, and its idempotency key.

use super::names;
use crate::limits;
use crate::model::{Envelope, IdempotencyKey, KeyPart, SHIPPED};
use crate::reader::{Complaint, Field, Table, choice, text};

pub(super) fn read(table: &Table<'_>, typed: bool) -> Option<Envelope> {
    let foreign = table.has("debezium");
    for key in ["message", "type", "payload", "version", "headers", "idempotency_key"] {
        if foreign && table.has(key) {
            table.error(key, "cannot be combined with debezium, which has its own settings");
        }
    }
    let message =
        if foreign { table.get("message", names::message_type) } else { table.need("message", names::message_type) };
    let shipped = message.as_ref().and_then(|message| SHIPPED.iter().find(|shipped| shipped.message == *message));
    let path = |key: &str, own: Option<&str>| table.get(key, names::field_path).or_else(|| own.map(str::to_owned));
    let kind = path("type", shipped.map(|shipped| shipped.kind));
    let payload = path("payload", shipped.map(|shipped| shipped.payload));
    let version = path("version", shipped.map(|shipped| shipped.version));
    let headers = table.table("headers", |table| Some(read_headers(table)));
    let headers = headers.unwrap_or_else(|| {
        let own = shipped.map(|shipped| shipped.headers).unwrap_or_default();
        own.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect()
    });
    let key = table.table("idempotency_key", |table| read_key(table, shipped.map(|shipped| shipped.key)));
    if message.is_some() && payload.is_none() && !table.has("payload") {
        table.error("payload", "required key is missing: the envelope's field that holds the event");
    }
    if payload.as_ref().is_some_and(|path| path.contains('.')) {
        table.error("payload", "must be a field of the envelope itself");
    }
    if headers.len() > limits::ENVELOPE_PARTS {
        table.error("headers", format!("has more than {} entries", limits::ENVELOPE_PARTS));
    }
    if !typed && table.has("type") {
        table.error("type", "needs types: without it all events have the same type");
    }
    Some(Envelope { message: message?, kind, payload: payload?, version, headers, idempotency_key: key })
}

pub(super) fn read_headers(table: &Table<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, field) in table.any() {
        if let Err(complaint) = names::header(&name) {
            field.complain::<()>(format!("the header's name {}", complaint.message));
        } else if limits::RESERVED_HEADERS.iter().any(|prefix| name.starts_with(prefix)) {
            let prefixes = limits::RESERVED_HEADERS.join(" and ");
            field.complain::<()>(format!(
                "names that begin with {prefixes} are reserved for Tollgate; choose another name"
            ));
        } else if let Some(path) = field.scalar(names::field_path) {
            headers.push((name, path));
        }
    }
    headers
}

fn read_key(table: &Table<'_>, own: Option<&str>) -> Option<IdempotencyKey> {
    let field = match own {
        Some(own) => Some(table.or("field", names::field_path, own.to_owned())),
        None => table.need("field", names::field_path),
    };
    table.or("algorithm", choice(&[("sha256", ())]), ());
    let separator = table.or("separator", text, ":".to_owned());
    let of = table.need_field("of").and_then(|field| read_parts(&field));
    Some(IdempotencyKey { field: field?, of: of?, separator })
}

/// Reads the hashed parts of a key, in order.
pub(super) fn read_parts(field: &Field<'_>) -> Option<Vec<KeyPart>> {
    let items = field.items()?;
    if items.is_empty() || items.len() > limits::ENVELOPE_PARTS {
        return field.complain(format!("must list 1 to {} parts", limits::ENVELOPE_PARTS));
    }
    let parts: Vec<KeyPart> = items.iter().filter_map(|item| item.scalar(part)).collect();
    (parts.len() == items.len()).then_some(parts)
}

fn part(text: &str) -> Result<KeyPart, Complaint> {
    if text == "record.key" {
        return Ok(KeyPart::Key);
    }
    if let Some(text) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Ok(KeyPart::Text(text.to_owned()));
    }
    if let Some(name) = text.strip_prefix("header.") {
        return names::header(name).map(KeyPart::Header);
    }
    let path = |path: &str| {
        names::field_path(path).map_err(|_| {
            Complaint::new(
                "is not a part of a key; write a field of the envelope (source), payload.<field>, header.<name>, record.key or \
                 a text in single quotes",
            )
        })
    };
    match text.strip_prefix("payload.") {
        Some(rest) => path(rest).map(KeyPart::Payload),
        None => path(text).map(KeyPart::Envelope),
    }
}
