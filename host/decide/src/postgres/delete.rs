//! Deletes rows, by a tombstone's key or by an event that marks a deletion.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

pub mod message;

use serde_json::Value as Json;
use tollgate_contract::frame::Indexing;
use tollgate_contract::{Contract, Fields, Kind, Slot, Value};

use self::message::{MessageKey, Undecodable};
use super::cell::{self, Encoder, InputKind, PgColumn, encoder};
use super::input::{self, Input};
use super::quote::quote;
use super::row::Misfit;
use super::rows::{RowWriter, Rows};
use super::times::Target;
use super::unfit::Unfit;
use super::unfit::mapping::UnfitDelete;
use tollgate_config::{As, Column, DeleteKey, DeleteWhen, From, Mapping, TimeForm, TimeSpec};

/// The delete statement, and how record keys become its parameters.
#[derive(Debug)]
pub struct Delete {
    pub statement: String,
    /// The OIDs of the parameters' array types, in key order.
    pub arrays: Vec<u32>,
    key: RecordKey,
}

/// The way in which a record key encodes the columns of the table's key.
#[derive(Debug)]
enum RecordKey {
    /// The value of a single column, or JSON.
    Text {
        is_json: bool,
        columns: Vec<KeyColumn>,
    },
    Message(Box<MessageKey>),
}

/// The reason why a record key deletes no row.
#[derive(Debug, thiserror::Error)]
pub enum Undeleted {
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

/// A column of the key.
#[derive(Debug)]
struct KeyColumn {
    name: String,
    /// The alternative name in a JSON key, which is that of the column's field.
    field: Option<String>,
    encoder: Encoder,
    /// Whether it is an integer, which a key must write in digits only.
    whole: bool,
}

impl Delete {
    /// Plans the deletes. `columns` are those of the mapping's key, in key order. Returns `None` if a text key cannot
    /// express one of them.
    ///
    /// # Errors
    /// Returns all mismatches between the key's message and the columns.
    pub fn new(
        table: &str,
        mapping: &Mapping,
        columns: &[&PgColumn],
        soft: Option<&Soft>,
        events: &Contract,
    ) -> Result<Option<Delete>, Vec<String>> {
        let key = match mapping.delete.key_form(columns.len()) {
            DeleteKey::Message(message) => {
                RecordKey::Message(Box::new(MessageKey::new(mapping, &message, columns, events)?))
            }
            form => {
                let columns: Option<Vec<KeyColumn>> =
                    columns.iter().map(|column| key_column(mapping, column)).collect();
                let Some(columns) = columns else { return Ok(None) };
                RecordKey::Text { is_json: form == DeleteKey::Json, columns }
            }
        };
        let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
        let places: Vec<String> = (0..names.len()).map(|at| format!("c{at}")).collect();
        let types: Vec<String> =
            columns.iter().enumerate().map(|(at, column)| format!("${}::{}", at + 1, column.array_sql_type)).collect();
        let same: Vec<String> =
            names.iter().zip(&places).map(|(name, place)| format!("t.{name} = k.{place}")).collect();
        let keys_of = format!("unnest({}) AS k({}) WHERE {}", types.join(", "), places.join(", "), same.join(" AND "));
        let statement = match soft {
            Some(Soft { column, marked, .. }) => format!("UPDATE {table} AS t SET {column} = {marked} FROM {keys_of}"),
            None => format!("DELETE FROM {table} AS t USING {keys_of}"),
        };
        let arrays = columns.iter().map(|column| column.array_oid).collect();
        Ok(Some(Delete { statement, arrays, key }))
    }

    /// Returns the message of record keys, if they are messages.
    pub fn message(&self) -> Option<&str> {
        match &self.key {
            RecordKey::Text { .. } => None,
            RecordKey::Message(key) => Some(key.message()),
        }
    }

    /// Adds the deletion of the row that a record key names. `indexing` is set if message keys may have a registry's
    /// frame.
    pub fn write(&self, record_key: &[u8], indexing: Option<Indexing>, rows: &mut Rows) -> Result<(), Undeleted> {
        match &self.key {
            RecordKey::Text { is_json, columns } => Ok(write_text(columns, *is_json, record_key, rows)?),
            RecordKey::Message(key) => {
                let mut fields = Fields::new();
                key.read(MessageKey::unframed(record_key, indexing)?, &mut fields)?;
                let mut row = rows.begin();
                key.write(&fields, &mut row)?;
                row.deletes();
                row.finish();
                Ok(())
            }
        }
    }
}

fn write_text(columns: &[KeyColumn], is_json: bool, record_key: &[u8], rows: &mut Rows) -> Result<(), Misfit> {
    let whole = |unfit| Misfit { column: columns[0].name.clone(), unfit };
    let text = input::utf8(record_key).map_err(whole)?;
    let json = if is_json {
        serde_json::from_str(text).map_err(|_| {
            whole(Unfit::Format { value: text.chars().take(64).collect(), expected: "a record key in JSON" })
        })?
    } else {
        Json::String(text.to_owned())
    };
    let json = without_schema(columns, json);
    let mut row = rows.begin();
    for key in columns {
        let misfit = |unfit| Misfit { column: key.name.clone(), unfit };
        let member = match &json {
            Json::Object(members) => {
                members.get(&key.name).or_else(|| members.get(key.field.as_ref()?)).unwrap_or(&Json::Null)
            }
            value if columns.len() == 1 => value,
            _ => {
                return Err(misfit(Unfit::Format {
                    value: text.chars().take(64).collect(),
                    expected: "a JSON object",
                }));
            }
        };
        let value = match member {
            Json::String(text) => text.clone(),
            Json::Number(_) | Json::Bool(_) => member.to_string(),
            Json::Null => return Err(misfit(Unfit::Null)),
            Json::Array(_) | Json::Object(_) => {
                return Err(misfit(Unfit::Format { value: member.to_string(), expected: "one value" }));
            }
        };
        let digits = value.strip_prefix('-').unwrap_or(&value);
        if key.whole && !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(misfit(Unfit::Format { value, expected: "a whole number" }));
        }
        let start = row.open();
        key.encoder.encode(Input::Text(value.as_str().into()), |_| None, row.out()).map_err(misfit)?;
        row.close(start);
    }
    row.deletes();
    row.finish();
    Ok(())
}

/// Removes the schema that Kafka Connect's `JsonConverter` writes next to the key.
fn without_schema(columns: &[KeyColumn], json: Json) -> Json {
    let ours = |name: &str| columns.iter().any(|key| key.name == name || key.field.as_deref() == Some(name));
    match json {
        Json::Object(mut members) if members.len() == 2 && members.contains_key("schema") && !ours("payload") => {
            members.remove("payload").unwrap_or(Json::Object(members))
        }
        json => json,
    }
}

/// Returns how a key column's value is read from text.
fn key_column(mapping: &Mapping, column: &PgColumn) -> Option<KeyColumn> {
    let whole = matches!(column.type_name.as_str(), "int2" | "int4" | "int8");
    let conversion = match column.type_name.as_str() {
        _ if whole => As::Int,
        "numeric" => As::Decimal,
        name if Target::of(name).is_some() => As::Time(TimeSpec { forms: vec![TimeForm::Iso], between: None }),
        _ => As::Natural,
    };
    let encoder = encoder(InputKind::Text, &conversion, column).and_then(|found| cell::for_key(found, column)).ok()?;
    let mapped = mapping.columns.iter().find(|mapped| mapped.name == column.name)?;
    let field = match &mapped.from {
        From::Field(path) => path.rsplit('.').next().map(str::to_owned),
        _ => None,
    };
    Some(KeyColumn { name: column.name.clone(), field, encoder, whole })
}

/// The setting `delete.when`, applied to the contract's field.
#[derive(Debug)]
pub struct When {
    slot: Slot,
    is: Vec<String>,
}

impl When {
    /// Compiles the setting. `slot` is the slot of the mapping's field.
    pub fn new(when: &DeleteWhen, slot: Slot, contract: &Contract) -> Result<When, UnfitDelete> {
        let kind = &contract.field(slot).kind;
        let unknown = |known: &dyn Fn(&str) -> bool| when.is.iter().find(|word| !known(word)).cloned();
        let problem = match kind {
            Kind::String => None,
            Kind::Bool => unknown(&|word| matches!(word, "true" | "false")).map(UnfitDelete::Bool),
            Kind::Enum(table) => unknown(&|word| table.values().any(|(_, name)| name == word))
                .map(|value| UnfitDelete::Enum { name: table.name().to_owned(), value }),
            _ => Some(UnfitDelete::Kind { field: when.field.to_string(), kind: kind.name().to_string() }),
        };
        match problem {
            Some(problem) => Err(problem),
            None => Ok(When { slot, is: when.is.clone() }),
        }
    }

    /// Returns whether the event deletes its row.
    pub fn holds(&self, contract: &Contract, fields: &Fields<'_>) -> bool {
        let default;
        let value = match fields.get_ref(self.slot) {
            Value::Default => {
                default = contract.field(self.slot).default_value();
                &default
            }
            value => value,
        };
        let word = match value {
            Value::Str(text) => text.as_str(),
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            Value::Enum(number) => contract.enum_name(self.slot, *number).unwrap_or_default(),
            _ => return false,
        };
        self.is.iter().any(|known| known == word)
    }
}

/// Returns the columns of a mapping's key, in key order, or `None` if the table lacks one.
pub fn key_columns<'c>(mapping: &Mapping, columns: &'c [PgColumn]) -> Option<Vec<&'c PgColumn>> {
    mapping.key.iter().map(|name| columns.iter().find(|column| column.name == *name)).collect()
}

/// Writes the last cell of a row if deletes are upserts: whether the event deletes the row.
pub fn mark(row: &mut RowWriter<'_>, gone: bool) {
    let start = row.open();
    row.out().push(u8::from(gone));
    row.close(start);
}

/// The column that marks deleted rows.
#[derive(Debug)]
pub struct Soft {
    /// The column's name, quoted.
    pub column: String,
    /// Its value for a deleted row, in SQL.
    pub marked: &'static str,
    /// Its value for an existing row.
    pub clear: &'static str,
}

impl Soft {
    /// Checks `delete.soft` against the table.
    pub fn new(column: &str, mapped: &[Column], columns: &[PgColumn]) -> Result<Soft, UnfitDelete> {
        if mapped.iter().any(|mapped| mapped.name == column) {
            return Err(UnfitDelete::SoftMapped(column.to_owned()));
        }
        let Some(found) = columns.iter().find(|known| known.name == column) else {
            return Err(UnfitDelete::SoftMissing(column.to_owned()));
        };
        let (marked, clear) = match found.type_name.as_str() {
            "bool" => ("true", "false"),
            "timestamptz" if !found.not_null => ("now()", "NULL::timestamptz"),
            "timestamp" if !found.not_null => ("now()", "NULL::timestamp"),
            "timestamptz" | "timestamp" => return Err(UnfitDelete::SoftNotNull(column.to_owned())),
            _ => {
                let (column, sql_type) = (column.to_owned(), found.sql_type.clone());
                return Err(UnfitDelete::SoftType { column, sql_type });
            }
        };
        Ok(Soft { column: quote(column), marked, clear })
    }
}
