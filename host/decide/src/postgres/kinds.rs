//! Returns the input kind that a field of each kind provides.

use tollgate_contract::Kind;

use super::cell::InputKind;
use super::declared::Known;
use tollgate_config::{As, Column};

/// Returns the input kind of a mapped field of this kind.
pub fn field_kind(mapping: &Column, kind: &Kind) -> InputKind {
    if mapping.as_ == As::Jsonb { InputKind::Json } else { kind_of(kind) }
}

/// Returns the input kind of a field of this kind.
pub fn kind_of(kind: &Kind) -> InputKind {
    match kind {
        Kind::Bool => InputKind::Bool,
        Kind::I32 | Kind::I64 | Kind::U32 | Kind::U64 => InputKind::Int,
        Kind::F32 | Kind::F64 => InputKind::Float,
        Kind::String => InputKind::Text,
        Kind::Bytes => InputKind::Bytes,
        Kind::Enum(_) => InputKind::Enum,
        Kind::Oneof(_) => InputKind::Oneof,
        Kind::Timestamp => InputKind::Micros,
        Kind::Duration => InputKind::Known(Known::Duration),
        Kind::Message(name) => Known::of(name).map_or(InputKind::Json, InputKind::Known),
        Kind::Repeated(element) => element_kind(element),
        Kind::Map(..) => InputKind::Json,
    }
}

/// Returns the kind of a list of scalars or times. Other lists can only become JSON.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
fn element_kind(element: &Kind) -> InputKind {
    InputKind::List(match kind_of(element) {
        InputKind::Bool => &InputKind::Bool,
        InputKind::Int => &InputKind::Int,
        InputKind::Float => &InputKind::Float,
        InputKind::Text => &InputKind::Text,
        InputKind::Bytes => &InputKind::Bytes,
        InputKind::Enum => &InputKind::Enum,
        InputKind::Micros => &InputKind::Micros,
        _ => return InputKind::Json,
    })
}
