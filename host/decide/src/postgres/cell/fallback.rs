//! Replaces a value that an event lacks.

use tollgate_contract::{Absent, FieldInfo, Kind, Presence};

use super::{Encoder, InputKind, PgColumn, encoder};
use crate::postgres::input::Input;
use crate::postgres::times::Target;
use crate::postgres::unfit::mapping::{DefaultFault, UnfitColumn};
use tollgate_config::{As, Column, Mode, TimeForm, TimeSpec};

/// Returns what to do about a field that has no presence and is not on the wire. `contract` is used if the column does
/// not decide.
pub fn absent(mapping: &Column, field: &FieldInfo, contract: Absent, not_null: bool) -> Result<Absent, UnfitColumn> {
    if field.presence != Presence::Implicit || matches!(field.kind, Kind::Repeated(_) | Kind::Map(..)) {
        // A field with presence is already NULL if it is unset, and an empty list is a value.
        return Ok(Absent::Default);
    }
    if mapping.default.is_some() {
        // The column's default replaces NULL.
        return Ok(Absent::Null);
    }
    match (mapping.absent, contract) {
        // An absent value adds nothing.
        (None, Absent::Null) if mapping.mode == Mode::Add => Ok(Absent::Default),
        (Some(Absent::Null), _) | (None, Absent::Null) if not_null => {
            Err(UnfitColumn::AbsentNull { column: mapping.name.clone() })
        }
        (Some(absent), _) | (None, absent) => Ok(absent),
    }
}

/// Encodes a column's `default:` in the column's binary form.
pub fn default(text: &str, of_events: &Encoder, column: &PgColumn) -> Result<Box<[u8]>, UnfitColumn> {
    let refused = |fault: DefaultFault| UnfitColumn::Default { column: column.name.clone(), fault };
    let mut out = Vec::new();
    let written = match (column.type_name.as_str(), of_events) {
        ("bool", _) => match text {
            "true" | "false" => {
                out.push(u8::from(text == "true"));
                Ok(())
            }
            _ => return Err(refused(DefaultFault::Bool(text.to_owned()))),
        },
        (name @ ("float4" | "float8"), _) => {
            let number: f64 = text.parse().map_err(|_| refused(DefaultFault::Number(text.to_owned())))?;
            let encoder = if name == "float8" { Encoder::Float8 } else { Encoder::Float4 };
            encoder.encode(Input::Float(number), |_| None, &mut out)
        }
        (_, Encoder::Text { .. } | Encoder::ParsedInt { .. } | Encoder::Uuid | Encoder::Numeric { .. }) => {
            of_events.encode(Input::Text(text.into()), |_| None, &mut out)
        }
        (name, _) => {
            let conversion = match name {
                "int2" | "int4" | "int8" => As::Int,
                "numeric" => As::Decimal,
                "json" | "jsonb" => As::JsonText,
                name if Target::of(name).is_some() => As::Time(TimeSpec { forms: vec![TimeForm::Iso], between: None }),
                _ => As::Natural,
            };
            let encoder = encoder(InputKind::Text, &conversion, column)
                .map_err(|_| refused(DefaultFault::Type(column.sql_type.clone())))?;
            encoder.encode(Input::Text(text.into()), |_| None, &mut out)
        }
    };
    written.map_err(|unfit| refused(unfit.into()))?;
    Ok(out.into())
}
