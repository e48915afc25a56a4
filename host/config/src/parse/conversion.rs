//! `as:` the conversion of a value for its column.

use crate::limits;
use crate::model::{As, Between, TimeForm, TimeSpec};
use crate::reader::{Complaint, Field, Table, choice, nearest, text};
use tollgate_contract::iso;

/// Reads `as: unix_ms`, `as: "numeric(18,2)"`, `as: enum_name` with `strip_prefix:`, or the long forms `as: {
/// enum_name: … }` and `as: { time: … }`.
pub(super) fn read_as(table: &Table<'_>) -> As {
    let strip_prefix = table.get("strip_prefix", text);
    let as_ = match table.field("as") {
        Some(field) if field.is_table() => field.table(read_as_table),
        Some(field) => read_as_word(&field),
        None => Some(As::Natural),
    };
    match (as_, strip_prefix) {
        (Some(As::EnumName { strip_prefix: None }), prefix) => As::EnumName { strip_prefix: prefix },
        (Some(as_), Some(_)) => {
            table.error("strip_prefix", "needs as: enum_name");
            as_
        }
        (as_, _) => as_.unwrap_or(As::Natural),
    }
}

fn read_as_table(table: &Table<'_>) -> Option<As> {
    let (enum_name, time) = (table.entry("enum_name"), table.has("time"));
    let time = time.then(|| read_time(table)).or_else(|| {
        // These are read in any case, so that they are known keys.
        let _ = (table.field("time"), table.field("between"));
        None
    });
    match (enum_name, time) {
        (Some(_), Some(_)) => {
            table.error("time", "cannot be combined with enum_name; keep one of the two");
            None
        }
        (None, Some(spec)) => spec.map(As::Time),
        (Some(field), None) => {
            let strip_prefix = field.table(|settings| Some(settings.get("strip_prefix", text)))?;
            Some(As::EnumName { strip_prefix })
        }
        (None, None) => {
            table.error("time", "required key is missing: only the conversions time and enum_name have settings");
            None
        }
    }
}

/// Reads `{ time: [iso, unix_s, unix_ms], between: [2000-01-01, 2100-01-01] }`.
pub(super) fn read_time(table: &Table<'_>) -> Option<TimeSpec> {
    let field = table.field("time")?;
    let forms = if field.is_list() {
        table.list("time", choice(&TimeForm::ALL))
    } else {
        field.scalar(choice(&TimeForm::ALL)).into_iter().collect()
    };
    let bounds = table.list("between", bound);
    let between = match bounds.as_slice() {
        [] => None,
        [from, until] if from < until => Some(Between { from: *from, until: *until }),
        _ => {
            table.error("between", "must be two times, the earlier one first: [2000-01-01, 2100-01-01]");
            return None;
        }
    };
    if forms.is_empty() {
        table.error("time", "lists no form of a time");
        return None;
    }
    if let Some((at, form)) = forms.iter().enumerate().find(|(at, form)| forms[..*at].contains(form)) {
        let _ = at;
        table.error("time", format!("lists {} twice", form.name()));
    }
    let numbers = forms.iter().filter(|form| **form != TimeForm::Iso).count();
    if numbers > 1 && between.is_none() {
        table.error("between", "is missing: without bounds the first form for numbers would accept every number");
        return None;
    }
    Some(TimeSpec { forms, between })
}

/// Reads a date, or a time with its zone, as microseconds since 1970.
fn bound(text: &str) -> Result<i64, Complaint> {
    let time = || {
        let time = iso::date_time(text)?;
        Some(time.micros - time.offset?)
    };
    let micros = iso::date(text).map(|days| days * iso::DAY).or_else(time);
    micros.ok_or_else(|| Complaint::new("is neither a date such as 2026-01-31 nor a time such as 2026-01-31T12:00:00Z"))
}

fn read_as_word(field: &Field<'_>) -> Option<As> {
    const WORDS: [&str; 13] = [
        "unix_s",
        "unix_ms",
        "unix_us",
        "unix_days",
        "iso",
        "enum_name",
        "int",
        "numeric",
        "text",
        "jsonb",
        "json_text",
        "uuid",
        "array",
    ];
    let time = |form| As::Time(TimeSpec { forms: vec![form], between: None });
    field.scalar(|text| match text {
        "unix_s" => Ok(As::UnixSeconds),
        "unix_ms" => Ok(As::UnixMillis),
        "unix_us" => Ok(As::UnixMicros),
        "unix_days" => Ok(time(TimeForm::UnixDays)),
        "iso" => Ok(time(TimeForm::Iso)),
        "enum_name" => Ok(As::EnumName { strip_prefix: None }),
        "int" => Ok(As::Int),
        "numeric" => Ok(As::Decimal),
        "text" => Ok(As::Text),
        "jsonb" => Ok(As::Jsonb),
        "json_text" => Ok(As::JsonText),
        "uuid" => Ok(As::Uuid),
        "array" => Ok(As::Array),
        _ if text.starts_with("numeric") => numeric(text),
        _ => Err(Complaint {
            nearest: nearest(text, WORDS.into_iter()),
            ..Complaint::new(format!("is none of {}, numeric(p,s)", WORDS.join(", ")))
        }),
    })
}

/// Reads `numeric(18,2)`: at most `precision` digits, `scale` of them after the point.
fn numeric(text: &str) -> Result<As, Complaint> {
    let digits = text.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')'));
    let parsed = digits.and_then(|digits| {
        let (precision, scale) = digits.split_once(',')?;
        Some((precision.trim().parse::<u16>().ok()?, scale.trim().parse::<u16>().ok()?))
    });
    let Some((precision, scale)) = parsed else {
        return Err(Complaint::new(
            "is neither numeric, which keeps every digit, nor numeric(p,s), such as \"numeric(18,2)\"",
        ));
    };
    if precision == 0 || precision > limits::NUMERIC_PRECISION || scale > precision {
        let largest = limits::NUMERIC_PRECISION;
        return Err(Complaint::new(format!("is out of range; p is 1 to {largest} and s at most p")));
    }
    Ok(As::Numeric { precision, scale })
}
