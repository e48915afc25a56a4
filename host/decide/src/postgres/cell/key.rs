//! Encodes key columns: equal values must be equal bytes.

use super::{Encoder, PgColumn};
use crate::postgres::declared::Declared;
use crate::postgres::times::{Target, Times};
use crate::postgres::unfit::mapping::UnfitColumn;

/// Returns the encoder of a key column. Events with the same key are matched by bytes, so equal values must have equal
/// bytes.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are passed on")]
pub fn for_key(encoder: Encoder, column: &PgColumn) -> Result<Encoder, UnfitColumn> {
    let refused = || Err(UnfitColumn::Key { column: column.name.clone(), sql_type: column.sql_type.clone() });
    if column.type_name == "citext" {
        return refused();
    }
    let declared = match encoder {
        Encoder::Float8 => Declared::KeyFloat { width: 8 },
        Encoder::Float4 => Declared::KeyFloat { width: 4 },
        Encoder::Declared(declared) => match *declared {
            Declared::Number { keep, .. } => Declared::Number { keep, key: true },
            Declared::KnownNumber { known, keep, .. } => Declared::KnownNumber { known, keep, key: true },
            Declared::JsonText { .. } | Declared::KnownTime { target: Target::Interval, .. } => return refused(),
            Declared::Times(Times { target: Target::Interval, .. }) => return refused(),
            declared => declared,
        },
        Encoder::List(_) => return refused(),
        encoder => return Ok(encoder),
    };
    Ok(Encoder::Declared(Box::new(declared)))
}
