//! Plans a mapped column: the source of its value, and its encoding as the column's bytes.

use tollgate_contract::{Absent, Contract, Slot};

use super::cell::{self, Encoder, InputKind, PgColumn, encoder};
use super::kinds::field_kind;
use super::row::{Cell, Source};
use super::unfit::mapping::UnfitColumn;
use tollgate_config::{As, Column, From, Mode, Nul, RecordPart};

/// The OID of bigint. `add` sums as bigint, and PostgreSQL casts to the column's type.
const INT8: u32 = 20;
const INT8_ARRAY: u32 = 1016;
/// The OID of text. Arrays are sent as text.
const TEXT: u32 = 25;
const TEXT_ARRAY: u32 = 1009;

/// A column whose value comes from each event, and its type in the statement.
pub(super) struct Planned {
    pub cell: Cell,
    /// The OIDs of the type and of its array type.
    pub element: u32,
    pub array: u32,
    pub array_sql: String,
}

/// Finds the conversion from the mapping's source to the column's type. `slot` is the field's slot in the contract.
///
/// # Errors
/// The column cannot be written; the error names what would fit.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
pub(super) fn plan(
    mapping: &Column,
    column: &PgColumn,
    slot: Slot,
    contract: &Contract,
    key: bool,
    nul: Nul,
) -> Result<Planned, UnfitColumn> {
    let (source, kind) = source(mapping, slot, contract, &column.type_name);
    let add = mapping.mode == Mode::Add;
    let not_null = column.not_null || key;
    let absent = match source {
        Source::Slot(slot) => cell::absent(mapping, contract.field(slot), contract.policies().absent, not_null)?,
        _ => Absent::Default,
    };
    let (encoder, element, array, array_sql) = if add {
        if kind != InputKind::Int || !matches!(column.type_name.as_str(), "int2" | "int4" | "int8" | "numeric") {
            return Err(UnfitColumn::Add { column: column.name.clone() });
        }
        (Encoder::Int { width: 8 }, INT8, INT8_ARRAY, "bigint[]".to_owned())
    } else {
        let mut encoder = encoder(kind, &mapping.as_, column)?;
        if let (Encoder::EnumName(names), Source::Slot(slot)) = (&mut encoder, &source) {
            names.prepare(|number| contract.enum_name(*slot, number));
        }
        if key {
            encoder = cell::for_key(encoder, column)?;
        }
        (encoder, column.oid, column.array_oid, column.array_sql_type.clone())
    };
    let source = match (&encoder, source) {
        (Encoder::List(_), Source::Slot(slot)) => Source::List(slot),
        (Encoder::Declared(declared), Source::Slot(slot)) if declared.reads_message() => Source::Message(slot),
        (_, source) => source,
    };
    let (element, array, array_sql) = match &encoder {
        Encoder::List(_) => (TEXT, TEXT_ARRAY, "text[]".to_owned()),
        _ => (element, array, array_sql),
    };
    let default = mapping.default.as_ref().map(|text| cell::default(text, &encoder, column)).transpose()?;
    let cell = Cell { name: mapping.name.clone(), source, encoder, not_null, add, absent, default, nul };
    Ok(Planned { cell, element, array, array_sql })
}

fn source(mapping: &Column, slot: Slot, contract: &Contract, column: &str) -> (Source, InputKind) {
    match &mapping.from {
        From::Field(_) => {
            let info = contract.field(slot);
            // A wrapper's value is a scalar; its JSON form predates the support for wrappers and is kept.
            let as_json = info.is_wrapped && mapping.as_ == As::Natural && matches!(column, "json" | "jsonb");
            let kind = if as_json { InputKind::Json } else { field_kind(mapping, &info.kind) };
            (Source::Slot(slot), kind)
        }
        From::Oneof(_) => (Source::Slot(slot), InputKind::Oneof),
        From::Header(name) => (Source::Header(name.clone()), InputKind::Header),
        From::Record(part) => {
            let kind = match part {
                RecordPart::Topic | RecordPart::Digest => InputKind::Text,
                RecordPart::Key => InputKind::Header,
                RecordPart::Partition | RecordPart::Offset => InputKind::Int,
                RecordPart::Timestamp => InputKind::Micros,
            };
            (Source::Record(*part), kind)
        }
        From::Constant(value) => (Source::Constant(*value), InputKind::Int),
        // This was handled earlier, because it is an expression in the statement.
        From::Now => (Source::Constant(0), InputKind::Micros),
    }
}
