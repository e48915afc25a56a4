//! Reads record keys that are Protobuf messages: `delete.key: { message: … }`.

use prost_reflect::DescriptorPool;
use tollgate_contract::frame::{Frame, FrameFault, Indexing};
use tollgate_contract::{Contract, FieldPath, Fields, Policies, Rejection, Slot};

use crate::postgres::cell::PgColumn;
use crate::postgres::column;
use crate::postgres::row::{Cell, Misfit, RecordView};
use crate::postgres::rows::RowWriter;
use tollgate_config::{As, Column, From, Mapping, Nul};

/// The message of a record key, and a cell for each column of the table's key.
#[derive(Debug)]
pub struct MessageKey {
    contract: Contract,
    cells: Vec<Cell>,
}

/// The reason why a record key names no row.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error("the record key is not a valid {message}: {rejection}")]
    Rejected { message: String, rejection: Rejection },
    #[error("the record key begins like a frame of a schema registry's serializer: {0}")]
    Frame(FrameFault),
    #[error("the record key is a frame of a schema registry's serializer: set `contract.registry`")]
    Framed,
}

/// Matches the columns of the table's key with the fields of the key's message that fill them. A field has the column's
/// name, or the name of the column's own field.
///
/// # Errors
/// Returns each column without a field, or the unknown message.
pub fn matched(mapping: &Mapping, message: &str, pool: &DescriptorPool) -> Result<Vec<Column>, Vec<String>> {
    let compile = |fields: &[FieldPath]| Contract::compile(pool, message, Policies::default(), fields);
    let whole = compile(&[]).map_err(|error| vec![error.to_string()])?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for mapped in mapping.key.iter().filter_map(|name| mapping.columns.iter().find(|column| column.name == *name)) {
        let names = names(mapped);
        match names.iter().find(|name| compile(&[FieldPath::new(**name)]).is_ok()) {
            Some(name) => {
                found.push(Column { from: From::Field((*name).to_owned()), default: None, ..mapped.clone() });
            }
            None => {
                let fields: Vec<String> = whole.message().fields().map(|field| field.name().to_owned()).collect();
                problems.push(format!(
                    "{message} has no field {} for the key column {}; it has {}",
                    names.join(" or "),
                    mapped.name,
                    if fields.is_empty() { "none".to_owned() } else { fields.join(", ") }
                ));
            }
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// Returns the possible field names: the column's name, the last part of its field's path, and the whole path.
fn names(column: &Column) -> Vec<&str> {
    let mut names = vec![column.name.as_str()];
    if let From::Field(path) = &column.from {
        names.extend([path.rsplit('.').next().unwrap_or(path), path]);
    }
    names.dedup();
    names
}

impl MessageKey {
    /// Compiles the key's message. `events` is the contract of the table's events; the message must be in the same files.
    ///
    /// # Errors
    /// Returns all mismatches between the message and the table's key.
    pub fn new(
        mapping: &Mapping,
        message: &str,
        columns: &[&PgColumn],
        events: &Contract,
    ) -> Result<Self, Vec<String>> {
        let pool = events.message().parent_pool();
        let told = |problem: String| format!("delete.key: {problem}");
        let matched = matched(mapping, message, pool)
            .map_err(|problems| problems.into_iter().map(told).collect::<Vec<String>>())?;
        let paths: Vec<FieldPath> = matched.iter().filter_map(|column| column.from.path()).collect();
        let policies = Policies { absent: events.policies().absent, ..Policies::default() };
        let contract = Contract::compile(pool, message, policies, &paths);
        let contract = contract.map_err(|error| vec![told(error.to_string())])?;
        let (mut cells, mut problems) = (Vec::new(), Vec::new());
        for (slot, (column, of_table)) in matched.iter().zip(columns).enumerate() {
            // Use the conversion of the event's field if the key's field has its kind; otherwise none.
            let natural = Column { as_: As::Natural, ..column.clone() };
            let cell = |column| {
                column::plan(column, of_table, Slot(slot), &contract, true, Nul::Reject).map(|planned| planned.cell)
            };
            match cell(column).or_else(|problem| cell(&natural).map_err(|_| problem)) {
                Ok(cell) => cells.push(cell),
                Err(problem) => problems.push(told(format!("of {message}: {problem}"))),
            }
        }
        if problems.is_empty() { Ok(Self { contract, cells }) } else { Err(problems) }
    }

    /// Returns the full name of the message.
    pub fn message(&self) -> &str {
        self.contract.message().full_name()
    }

    /// Returns the message's bytes without the frame of a registry's serializer, which begins with a zero, as no
    /// message does. `indexing` is set if there is a registry.
    pub fn unframed(key: &[u8], indexing: Option<Indexing>) -> Result<&[u8], Undecodable> {
        match (key.first(), indexing) {
            (Some(0), Some(indexing)) => {
                let payload = Frame::parse(key).and_then(|frame| frame.protobuf(indexing));
                payload.map(|(_, payload)| payload).map_err(Undecodable::Frame)
            }
            (Some(0), None) => Err(Undecodable::Framed),
            _ => Ok(key),
        }
    }

    /// Reads the key's message.
    pub fn read<'k>(&self, payload: &'k [u8], fields: &mut Fields<'k>) -> Result<(), Undecodable> {
        let message = || self.message().to_owned();
        self.contract
            .check(payload, fields)
            .map_err(|rejection| Undecodable::Rejected { message: message(), rejection })
    }

    /// Writes the key's columns.
    pub fn write(&self, fields: &Fields<'_>, row: &mut RowWriter<'_>) -> Result<(), Misfit> {
        // Every cell reads a field, so the record is not used.
        let record =
            RecordView { topic: "", partition: 0, offset: 0, timestamp: -1, key: None, digest: "", header: &|_| None };
        self.cells.iter().try_for_each(|cell| cell.write(&self.contract, fields, &record, row))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_reflect::prost::Message as _;
    use prost_reflect::{DynamicMessage, Value};

    use super::*;
    use crate::postgres::Rows;
    use crate::postgres::table::{Table, UnfitTable};
    use tollgate_config::{DeleteKey, Deletes, Nul, TableName};

    const PROTO: &str = r#"syntax = "proto3"; package a;
        import "google/protobuf/timestamp.proto";
        enum Kind { KIND_NONE = 0; KIND_A = 1; }
        message Ref { string tenant = 1; }
        message Line { Ref ref = 1; int64 line_no = 2; Kind kind = 3; int64 at = 4; bytes id = 5; string what = 6; }
        message Key { int64 line_no = 7; string tenant = 1; Kind kind = 2; google.protobuf.Timestamp at = 3; bytes id = 4; }
        message Other { string tenant = 1; string line = 2; Kind kind = 3; int64 at = 4; bytes id = 5; }
        message Wrong { string tenant = 1; double line_no = 2; Kind kind = 3; int64 at = 4; bytes id = 5; }"#;

    fn pool() -> DescriptorPool {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.proto"), PROTO).unwrap();
        let set = protox::compile(["a.proto"], [folder.path()]).unwrap();
        DescriptorPool::from_file_descriptor_set(set).unwrap()
    }

    fn table(key: DeleteKey) -> Result<Table, UnfitTable> {
        let column = |name: &str, path: &str, as_: As| Column {
            from: From::Field(path.to_owned()),
            as_,
            ..Column::field(name.to_owned())
        };
        let names = ["owner", "line_no", "kind", "at", "id"];
        let mapping = Mapping {
            table: TableName { schema: None, name: "t".to_owned() },
            key: names.map(str::to_owned).to_vec(),
            columns: vec![
                column("what", "what", As::Natural),
                column("owner", "ref.tenant", As::Natural),
                column("line_no", "line_no", As::Natural),
                column("kind", "kind", As::EnumName { strip_prefix: Some("KIND_".to_owned()) }),
                column("at", "at", As::UnixMillis),
                column("id", "id", As::Uuid),
            ],
            only_if_newer: None,
            partitions: None,
            nul: Nul::Reject,
            delete: Deletes { key: Some(key), ..Deletes::default() },
        };
        let columns = [
            ("what", "text"),
            ("owner", "text"),
            ("line_no", "int8"),
            ("kind", "text"),
            ("at", "timestamptz"),
            ("id", "uuid"),
        ]
        .map(|(name, type_name)| PgColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            sql_type: type_name.to_owned(),
            typmod: -1,
            ..PgColumn::default()
        });
        let paths = crate::postgres::table::fields(&mapping);
        Table::of(&mapping, &columns, &Contract::compile(&pool(), "a.Line", Policies::default(), &paths).unwrap())
    }

    /// Returns the key columns of the rows that the record keys delete.
    fn deleted(table: &Table, keys: &[&[u8]], indexing: Option<Indexing>) -> Result<Vec<Vec<u8>>, String> {
        let (mut rows, delete) = (Rows::default(), table.delete.as_ref().unwrap());
        for key in keys {
            delete.write(key, indexing, &mut rows).map_err(|undeleted| undeleted.to_string())?;
        }
        let folded = rows.fold(&table.shape);
        Ok((0..5).map(|place| rows.deleted(&table.shape, &folded, place)).collect())
    }

    fn key(tenant: &str, line: i64, kind: i32, seconds: i64, id: [u8; 16]) -> Vec<u8> {
        let pool = pool();
        let mut key = DynamicMessage::new(pool.get_message_by_name("a.Key").unwrap());
        let mut at = DynamicMessage::new(pool.get_message_by_name("google.protobuf.Timestamp").unwrap());
        at.set_field_by_name("seconds", Value::I64(seconds));
        key.set_field_by_name("tenant", Value::String(tenant.to_owned()));
        key.set_field_by_name("line_no", Value::I64(line));
        key.set_field_by_name("kind", Value::EnumNumber(kind));
        key.set_field_by_name("at", Value::Message(at));
        key.set_field_by_name("id", Value::Bytes(id.to_vec().into()));
        key.encode_to_vec()
    }

    #[test]
    fn a_message_and_json_name_the_same_row() {
        let (message, json) = (table(DeleteKey::Message("a.Key".to_owned())).unwrap(), table(DeleteKey::Json).unwrap());
        let strategy = ("[^\\x00]{0,8}", any::<i64>(), 0..2_i32, 0..4_000_000_000_i64, any::<[u8; 16]>());
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(64));
        let ran = runner.run(&strategy, |(tenant, line, kind, seconds, id)| {
            let hex = hex::encode(id);
            let text = serde_json::json!({
                "tenant": tenant, "line_no": line, "kind": if kind == 0 { "NONE" } else { "A" }, "id": hex,
                "at": tollgate_contract::iso::show_date_time(seconds * 1_000_000, "Z"),
            });
            let bytes = key(&tenant, line, kind, seconds, id);
            let expected = deleted(&json, &[text.to_string().as_bytes()], None).unwrap();
            prop_assert_eq!(deleted(&message, &[&bytes], None).unwrap(), expected.clone());
            let framed = [&[0, 0, 0, 0, 7, 0], &*bytes].concat();
            prop_assert_eq!(deleted(&message, &[&framed], Some(Indexing::Required)), Ok(expected));
            Ok(())
        });
        ran.unwrap();
    }

    #[test]
    fn a_key_that_is_no_message_says_why() {
        let table = table(DeleteKey::Message("a.Key".to_owned())).unwrap();
        let why = |key: &[u8], indexing| deleted(&table, &[key], indexing).unwrap_err();
        let text = why(br#"{"tenant":"t1"}"#, None);
        assert!(text.starts_with("the record key is not a valid a.Key: "), "{text}");
        let framed = [0, 0, 0, 0, 7, 0, 10, 1, b'x'];
        assert!(why(&framed, None).ends_with("set `contract.registry`"));
        assert!(why(&framed[..3], Some(Indexing::Required)).contains("the frame ends inside the schema id"));
        let unset = key("t", 1, 0, 0, [1; 16]);
        // The message in `at` is missing, or the bytes are not a UUID.
        let at = unset.windows(2).position(|bytes| bytes == [0x1a, 0]).unwrap();
        let without = [&unset[..at], &unset[at + 2..]].concat();
        assert_eq!(why(&without, None), "column at: the column is NOT NULL, and the event has no value for it");
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_with_what_it_has() {
        let problems = |message: &str| table(DeleteKey::Message(message.to_owned())).unwrap_err().to_string();
        assert_eq!(
            problems("a.Other"),
            "delete.key: a.Other has no field line_no for the key column line_no; it has tenant, line, kind, at, id"
        );
        assert_eq!(problems("a.Keyy"), "delete.key: message a.Keyy is not in the descriptors; did you mean a.Key?");
        let wrong =
            "delete.key: of a.Wrong: column line_no has type int8, but its value needs double precision or real";
        assert!(problems("a.Wrong").starts_with(wrong), "{}", problems("a.Wrong"));
    }
}
