//! Suggests what to write for a column that needs an explicit conversion.

use super::{InputKind, PgColumn, encoder, json};
use tollgate_config::{As, TimeForm, TimeSpec};

/// Returns the explicit conversions from this kind to this column, or an empty text if there is none.
pub(super) fn hint(kind: InputKind, column: &PgColumn) -> String {
    let iso = As::Time(TimeSpec { forms: vec![TimeForm::Iso], between: None });
    let asked = [
        (As::Int, "int"),
        (As::Uuid, "uuid"),
        (As::Text, "text"),
        (As::EnumName { strip_prefix: None }, "enum_name"),
        (As::Decimal, "numeric(p,s)"),
        (iso, "iso"),
        (As::UnixSeconds, "unix_s"),
        (As::UnixMillis, "unix_ms"),
        (As::UnixMicros, "unix_us"),
        (As::JsonText, "json_text"),
    ];
    let fits = asked.iter().filter(|(conversion, _)| encoder(kind, conversion, column).is_ok());
    let mut names: Vec<String> = fits.map(|(_, name)| format!("`as: {name}`")).collect();
    if kind != InputKind::Header && json(&column.type_name).is_some() {
        names.push("`as: jsonb`".to_owned());
    }
    if names.is_empty() { String::new() } else { format!(" (or {})", names.join(", ")) }
}
