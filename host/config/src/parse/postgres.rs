//! `postgres:` the target table and the sources of its columns.

use super::conversion::read_as;
use super::{names, policies};
use crate::limits;
use crate::model::{
    As, Column, DeleteKey, DeleteWhen, Deletes, Every, From, Mapping, Mode, Nul, Partitions, Postgres, RecordPart,
    TableName,
};
use crate::reader::{Complaint, Field, Table, boolean, choice, path, signed, text, within};
use std::path::Path;
use tollgate_contract::Absent;

/// Reads the server and the mapping of the only type. With `types:` (`typed`) it reads the common part of the mappings.
pub(super) fn read(root: &Table<'_>, base: &Path, typed: bool) -> Option<(Postgres, Draft)> {
    root.need_table("postgres", |table| {
        let url = table.need("url", names::postgres_url);
        let tls_ca = table.get("tls_ca", path).map(|path| base.join(path));
        let mut draft = Draft::read(table);
        if !typed {
            draft.complete(table);
        }
        Some((Postgres { url: url?, tls_ca }, draft))
    })
}

/// Reads a mapping that inherits nothing: that of a route.
pub(super) fn read_mapping(table: &Table<'_>) -> Option<Mapping> {
    let mut draft = Draft::read(table);
    draft.complete(table);
    draft.mapping
}

/// A mapping that may be incomplete: the keys that are present and valid.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    table: Option<TableName>,
    key: Option<Vec<String>>,
    columns: Option<Vec<Column>>,
    only_if_newer: Option<String>,
    nul: Option<Nul>,
    delete: Option<Deletes>,
    partitions: Option<Partitions>,
    /// The keys that are present, valid or not.
    given: Vec<&'static str>,
    pub(super) mapping: Option<Mapping>,
}

const NEEDED: [&str; 3] = ["table", "key", "columns"];

impl Draft {
    fn read(table: &Table<'_>) -> Draft {
        Draft {
            table: table.get("table", names::table),
            key: read_key(table),
            columns: table.table("columns", |columns| Some(read_columns(columns))),
            only_if_newer: table.get("only_if_newer", names::column),
            nul: table.get("nul", choice(&Nul::ALL)),
            delete: table.table("delete", read_delete),
            partitions: table.table("partitions", read_partitions),
            given: NEEDED.into_iter().filter(|key| table.has(key)).collect(),
            mapping: None,
        }
    }

    /// Returns a type's mapping: the type's keys override these, and its columns are added to these.
    pub(super) fn with(&self, table: &Table<'_>) -> Draft {
        let own = Draft::read(table);
        let mut columns = self.columns.clone().unwrap_or_default();
        for column in own.columns.into_iter().flatten() {
            match columns.iter_mut().find(|known| known.name == column.name) {
                Some(known) => *known = column,
                None => columns.push(column),
            }
        }
        let mut given = self.given.clone();
        given.extend(own.given);
        let mut draft = Draft {
            table: own.table.or_else(|| self.table.clone()),
            key: own.key.or_else(|| self.key.clone()),
            columns: given.contains(&"columns").then_some(columns),
            only_if_newer: own.only_if_newer.or_else(|| self.only_if_newer.clone()),
            nul: own.nul.or(self.nul),
            delete: own.delete.or_else(|| self.delete.clone()),
            partitions: own.partitions.or_else(|| self.partitions.clone()),
            given,
            mapping: None,
        };
        draft.complete(table);
        draft
    }

    /// Builds the mapping if no required key is missing.
    fn complete(&mut self, table: &Table<'_>) {
        for key in NEEDED {
            if !self.given.contains(&key) {
                table.error(key, "required key is missing");
            }
        }
        let (Some(name), Some(key), Some(mut columns)) = (self.table.clone(), self.key.clone(), self.columns.clone())
        else {
            return;
        };
        let only_if_newer = self.only_if_newer.clone();
        complete_key(table, &key, &mut columns);
        if let Some(newer) = &only_if_newer {
            check_newer(table, newer, &key, &columns);
        }
        let delete = self.delete.clone().unwrap_or_default();
        check_delete(table, &delete, &key, only_if_newer.is_some());
        let nul = self.nul.unwrap_or_default();
        let partitions = self.partitions.clone();
        if let Some(Partitions { column, .. }) = partitions.as_ref().filter(|by| !key.contains(&by.column)) {
            let message = format!(
                "{column} is not in the key, but a unique index over all partitions must contain the partition column; add it \
                 to the key (two events that differ only in {column} are then two rows)"
            );
            table.error_at(&format!("{}.partitions.column", table.path()), message);
        }
        self.mapping = Some(Mapping { table: name, key, columns, only_if_newer, nul, delete, partitions });
    }
}

fn read_delete(table: &Table<'_>) -> Option<Deletes> {
    let when = table.table("when", |when| {
        let field = when.need("field", names::field_path);
        let is = when.list("is", text);
        if is.is_empty() {
            when.error("is", "lists no value; list the values that delete the row");
        }
        Some(DeleteWhen { field: field?, is })
    });
    Some(Deletes {
        key: table.field("key").and_then(|field| read_delete_key(&field)),
        when,
        soft: table.get("soft", names::column),
    })
}

/// Reads `text`, `json`, or `{ message: payments.v1.Key }`.
fn read_delete_key(field: &Field<'_>) -> Option<DeleteKey> {
    if field.is_table() {
        return field.table(|key| key.need("message", names::message_type).map(DeleteKey::Message));
    }
    let is_json = field.scalar(choice(&[("text", false), ("json", true)]))?;
    Some(if is_json { DeleteKey::Json } else { DeleteKey::Text })
}

fn read_partitions(table: &Table<'_>) -> Option<Partitions> {
    let column = table.need("column", names::column);
    let every = table.need("every", choice(&Every::ALL));
    let ahead = table.or("ahead", within(1, limits::PARTITIONS_AHEAD_MAX), limits::PARTITIONS_AHEAD);
    Some(Partitions { column: column?, every: every?, ahead })
}

/// Checks that a delete can identify its row.
fn check_delete(table: &Table<'_>, delete: &Deletes, key: &[String], guarded: bool) {
    let place = |below: &str| format!("{}.delete.{below}", table.path());
    if delete.key == Some(DeleteKey::Text) && key.len() > 1 {
        let columns = key.join(", ");
        table.error_at(
            &place("key"),
            format!("one text cannot hold several columns ({columns}); use json or a message"),
        );
    }
    if delete.when.is_some() && delete.soft.is_none() && guarded {
        let message = "with only_if_newer a deleted row keeps no version, so an older event would create it again; \
                       set delete.soft, so that the row stays, marked, with its version";
        table.error_at(&place("when"), message);
    }
    if let Some(soft) = delete.soft.as_ref().filter(|soft| key.contains(soft)) {
        table.error_at(&place("soft"), format!("{soft} is a key column, which cannot mark a row as deleted"));
    }
}

fn read_key(table: &Table<'_>) -> Option<Vec<String>> {
    table.field("key")?;
    let key = table.list("key", names::column);
    if key.is_empty() {
        table.error("key", "lists no column; an upsert needs the columns of a unique index");
        return None;
    }
    for (index, name) in key.iter().enumerate() {
        if key[..index].contains(name) {
            table.error("key", format!("lists {name} twice"));
        }
    }
    Some(key)
}

/// Adds the key columns without an entry, with the field of the same name. They come first.
fn complete_key(table: &Table<'_>, key: &[String], columns: &mut Vec<Column>) {
    let missing: Vec<Column> = key
        .iter()
        .filter(|name| !columns.iter().any(|column| column.name == **name))
        .filter(|name| {
            let fits = names::field_path(name).is_ok();
            if !fits {
                let message = format!("{name} is not a valid field name; set its source in columns");
                table.error("key", message);
            }
            fits
        })
        .map(|name| Column::field(name.clone()))
        .collect();
    columns.splice(0..0, missing);
    for column in columns.iter().filter(|column| key.contains(&column.name)) {
        let path = format!("{}.columns.{}", table.path(), column.name);
        match (&column.mode, &column.from) {
            (Mode::Add, _) => table.error_at(&path, "a key column cannot be added to, because it identifies the row"),
            (Mode::InsertOnly, _) => table.error_at(&path, "a key column is never updated; remove insert_only"),
            (Mode::Set, From::Now) => {
                table.error_at(&path, "a key column cannot be now, because a repeated event would be a new row");
            }
            (Mode::Set, _) => {}
        }
    }
}

fn check_newer(table: &Table<'_>, newer: &str, key: &[String], columns: &[Column]) {
    let Some(column) = columns.iter().find(|column| column.name == newer) else {
        table.error("only_if_newer", format!("{newer} is not among the columns"));
        return;
    };
    if key.iter().any(|name| name == newer) {
        table.error("only_if_newer", format!("{newer} is a key column, which never changes within a row"));
    }
    if column.mode != Mode::Set || !matches!(column.from, From::Field(_) | From::Header(_) | From::Record(_)) {
        let message = format!("{newer} must get its value from the event (a field, a header or record metadata)");
        table.error("only_if_newer", message);
    }
    for column in columns.iter().filter(|column| column.mode == Mode::Add) {
        // A batch is folded to one row per key before its statement, and the folding loses which of its events were
        // newer.
        let path = format!("{}.columns.{}", table.path(), column.name);
        let message = "add cannot be combined with only_if_newer, because a folded batch does not know which of its \
                       events count; remove one of the two";
        table.error_at(&path, message);
    }
}

fn read_columns(table: &Table<'_>) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, field) in table.any() {
        if let Err(complaint) = names::column(&name) {
            field.complain::<()>(format!("the column's name {}", complaint.message));
            continue;
        }
        if !field.is_table() && !field.is_null() {
            field.complain::<()>(format!("must be a mapping such as {{ field: {name} }}"));
            continue;
        }
        columns.extend(field.table(|table| read_column(&name, table)));
    }
    columns
}

fn read_column(name: &str, table: &Table<'_>) -> Option<Column> {
    let (add, added) = read_add(table);
    let sources: Vec<(&str, Option<From>)> = [
        ("field", table.get("field", names::field_path).map(From::Field)),
        ("oneof", table.get("oneof", names::field_path).map(From::Oneof)),
        ("header", table.get("header", names::header).map(From::Header)),
        ("record", table.get("record", choice(&RECORD_PARTS)).map(From::Record)),
        ("now", table.get("now", only_true).map(|()| From::Now)),
        ("value", table.get("value", signed).map(From::Constant)),
        ("add", added),
    ]
    .into_iter()
    .filter(|(key, from)| from.is_some() || (*key != "add" && table.has(key)))
    .collect();
    if let [(first, _), (second, _), ..] = sources.as_slice() {
        table.error(second, format!("the column's value already comes from {first}; keep one of the two"));
    }
    let insert_only = table.or("insert_only", boolean, false);
    let as_ = read_as(table);
    if add && insert_only {
        table.error("add", "add cannot be combined with insert_only; remove one of the two");
    }
    let from = match sources.into_iter().next() {
        Some((_, from)) => from?,
        // A column without a source gets the field of the same name.
        None => match names::field_path(name) {
            Ok(field) => From::Field(field),
            Err(_) => {
                let message = format!(
                    "{name} is not a valid field name; set the source of its value: field, oneof, header, record or now"
                );
                table.error_at(table.path(), message);
                return None;
            }
        },
    };
    check_source(table, &from, add, &as_);
    let mode = match (add, insert_only) {
        (true, _) => Mode::Add,
        (false, true) => Mode::InsertOnly,
        (false, false) => Mode::Set,
    };
    let absent = policies::read_absent(table);
    if absent.is_some() && !matches!(from, From::Field(_)) {
        table.error("absent", "applies to fields, but the column gets its value from elsewhere");
    } else if absent == Some(Absent::Null) && mode == Mode::Add {
        table.error("absent", "add needs a number; use default or reject");
    }
    let default = table.get("default", |text| Ok(text.to_owned()));
    if default.is_some() {
        check_default(table, &from, mode, absent);
    }
    let overrides_identity = table.get("identity", choice(&[("override", ())])).is_some();
    let not_null = table.or("not_null", boolean, false);
    Some(Column { name: name.to_owned(), from, as_, mode, absent, default, overrides_identity, not_null })
}

/// Checks that the value may be missing, and that no other key sets a replacement.
fn check_default(table: &Table<'_>, from: &From, mode: Mode, absent: Option<Absent>) {
    let lacks = from.path().is_some()
        || matches!(from, From::Header(_) | From::Record(RecordPart::Key | RecordPart::Timestamp));
    if !lacks {
        table.error("default", "has no effect, because the column's value is never missing");
    } else if mode == Mode::Add {
        table.error("default", "add needs a number from each event; remove default");
    } else if absent.is_some() {
        table.error("default", "already sets the value of an unset field; remove absent");
    }
}

fn check_source(table: &Table<'_>, from: &From, add: bool, as_: &As) {
    let converted = *as_ != As::Natural;
    match from {
        From::Now if add => table.error("add", "add needs a number; now is a time"),
        From::Now if converted => table.error("as", "now is PostgreSQL's own time and needs no conversion"),
        From::Constant(_) if converted => table.error("as", "a number written here needs no conversion"),
        From::Constant(_) if !add => table.error("value", "a constant can only be added; write add: instead of value:"),
        From::Oneof(_) if add => table.error("add", "add needs a number; the name of a oneof's branch is a text"),
        From::Oneof(_) if converted => {
            table.error("as", "the name of a oneof's branch needs no conversion; its column is a text or an enum type");
        }
        From::Record(RecordPart::Partition | RecordPart::Offset) if converted => {
            table.error("as", "the record's partition and offset are whole numbers and need no conversion");
        }
        From::Field(_) | From::Oneof(_) | From::Header(_) | From::Record(_) | From::Now | From::Constant(_) => {}
    }
}

const RECORD_PARTS: [(&str, RecordPart); 6] = [
    ("topic", RecordPart::Topic),
    ("partition", RecordPart::Partition),
    ("offset", RecordPart::Offset),
    ("timestamp", RecordPart::Timestamp),
    ("key", RecordPart::Key),
    ("digest", RecordPart::Digest),
];

fn only_true(text: &str) -> Result<(), Complaint> {
    match boolean(text)? {
        true => Ok(()),
        false => Err(Complaint::new("has no effect; remove the key")),
    }
}

/// Reads `add: true` next to a source, `add: 1` or `add: field`. Returns whether the column is added to, and the source
/// in `add`.
fn read_add(table: &Table<'_>) -> (bool, Option<From>) {
    enum Add {
        Off,
        On,
        From(From),
    }
    let kind = |text: &str| match text {
        "true" => Ok(Add::On),
        "false" => Ok(Add::Off),
        _ => match text.parse::<i64>() {
            Ok(number) => Ok(Add::From(From::Constant(number))),
            Err(_) => names::field_path(text)
                .map(|field| Add::From(From::Field(field)))
                .map_err(|_| Complaint::new("is neither a whole number nor a field's path nor true")),
        },
    };
    match table.get("add", kind) {
        None | Some(Add::Off) => (false, None),
        Some(Add::On) => (true, None),
        Some(Add::From(from)) => (true, Some(from)),
    }
}
