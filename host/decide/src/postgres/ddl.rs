//! The declarations of tables and columns that hold what a mapping writes.

use tollgate_config::{As, Column, From, Mapping, Mode, RecordPart, TimeForm};
use tollgate_contract::{Contract, Kind, Slot};

use super::quote::{quote, quoted_table};

/// Returns a column's declaration in CREATE TABLE.
pub fn declared(column: &Column, mapping: &Mapping, contract: &Contract, slot: Slot) -> String {
    let key = mapping.key.contains(&column.name);
    let mut declared = format!("{} {}", quote(&column.name), sql_type(column, contract, slot));
    if let Some(default) = &column.default {
        declared += &format!(" DEFAULT '{}'", default.replace('\'', "''"));
    }
    if key || column.mode == Mode::Add || column.not_null {
        declared += " NOT NULL";
    }
    declared
}

/// Returns the CREATE TABLE statement for a mapping. `partition_by`: the clause of a partitioned table, or empty.
pub fn create_table(mapping: &Mapping, contract: &Contract, partition_by: &str) -> String {
    let mut slot = 0;
    let mut lines: Vec<String> = Vec::new();
    for column in &mapping.columns {
        let this = Slot(slot);
        slot += usize::from(column.from.path().is_some());
        lines.push(format!("    {}", declared(column, mapping, contract, this)));
    }
    lines.extend(mapping.delete.soft.iter().map(|column| format!("    {} timestamptz", quote(column))));
    let keys: Vec<String> = mapping.key.iter().map(|name| quote(name)).collect();
    lines.push(format!("    PRIMARY KEY ({})", keys.join(", ")));
    format!("CREATE TABLE {} (\n{}\n){partition_by};", quoted_table(&mapping.table), lines.join(",\n"))
}

/// Returns the SQL type that holds every value of a column's source.
pub fn sql_type(column: &Column, contract: &Contract, slot: Slot) -> String {
    if column.mode == Mode::Add {
        return "bigint".into();
    }
    match &column.as_ {
        As::Array | As::EnumName { .. } if of_list(column, contract, slot).is_some() => {
            return of_list(column, contract, slot).unwrap_or_default();
        }
        As::Array => return "jsonb".into(),
        As::Numeric { precision, scale } => return format!("numeric({precision},{scale})"),
        As::Decimal => return "numeric".into(),
        As::JsonText => return "jsonb".into(),
        As::Time(spec) => {
            let days = spec.forms.iter().all(|form| *form == TimeForm::UnixDays);
            return if days { "date".into() } else { "timestamptz".into() };
        }
        As::UnixSeconds | As::UnixMillis | As::UnixMicros => return "timestamptz".into(),
        As::EnumName { .. } | As::Text => return "text".into(),
        As::Int => return "bigint".into(),
        As::Jsonb => return "jsonb".into(),
        As::Uuid => return "uuid".into(),
        As::Natural => {}
    }
    let name = match &column.from {
        From::Now | From::Record(RecordPart::Timestamp) => "timestamptz",
        From::Header(_) | From::Record(RecordPart::Topic | RecordPart::Key | RecordPart::Digest) => "text",
        From::Record(RecordPart::Partition) => "integer",
        From::Record(RecordPart::Offset) | From::Constant(_) => "bigint",
        From::Field(_) | From::Oneof(_) => natural_type(&contract.field(slot).kind),
    };
    name.into()
}

/// Returns the SQL type that holds every value of a field's kind.
fn natural_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::I32 | Kind::Enum(_) => "integer",
        Kind::I64 | Kind::U32 => "bigint",
        Kind::U64 => "numeric(20)",
        Kind::F32 => "real",
        Kind::F64 => "double precision",
        Kind::String | Kind::Oneof(_) => "text",
        Kind::Bytes => "bytea",
        Kind::Timestamp => "timestamptz",
        Kind::Message(_) | Kind::Duration | Kind::Repeated(_) | Kind::Map(..) => "jsonb",
    }
}

/// Returns the array type of a repeated field, if the mapping stores it as an array.
fn of_list(column: &Column, contract: &Contract, slot: Slot) -> Option<String> {
    let (From::Field(_), As::Array | As::EnumName { .. }) = (&column.from, &column.as_) else { return None };
    let Kind::Repeated(element) = &contract.field(slot).kind else { return None };
    let name = if column.as_ == As::Array { natural_type(element) } else { "text" };
    Some(format!("{name}[]"))
}
