//! Converts an event's value to a column's binary form: which conversions exist, and which values each rejects.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

mod fallback;
mod hint;
mod key;
mod list;

use self::list::List;
pub use fallback::{absent, default};
pub use key::for_key;

use super::binary;
use super::decimal::Keep;
use super::declared::{Declared, Known, Labels};
use super::input::{Input, shown, utf8};
use super::names::Names;
use super::times::{Target, Times};
use super::unfit::Unfit;
use super::unfit::mapping::UnfitColumn;
use tollgate_contract::decimal;

use tollgate_config::limits;
use tollgate_config::{As, TimeForm, TimeSpec};

/// The kind of an input, known when the pipeline starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Enum,
    /// The set branch of a oneof. It is passed as an [`Input::Enum`], of which only the name is used.
    Oneof,
    Micros,
    Json,
    /// A header, whose bytes are read as text.
    Header,
    /// A message that one of PostgreSQL's column types can hold.
    Known(Known),
    /// A repeated field, with the kind of its elements.
    List(&'static InputKind),
}

/// A column of the target table, as PostgreSQL's catalogue describes it.
#[derive(Debug, Clone, Default)]
pub struct PgColumn {
    pub name: String,
    /// The type's name in the catalogue: int4, text, numeric, …; `enum` for enum types.
    pub type_name: String,
    /// The type in SQL syntax.
    pub sql_type: String,
    pub oid: u32,
    pub array_sql_type: String,
    pub array_oid: u32,
    /// The type's modifier, or -1 if it has none.
    pub typmod: i32,
    pub not_null: bool,
    pub has_default: bool,
    pub generated: bool,
    /// The labels of an enum type.
    pub labels: Vec<String>,
    /// The element of an array type, or `None` for other types.
    pub element: Option<Box<PgColumn>>,
    /// The base type of all domains, in SQL syntax without a modifier.
    pub base_sql_type: String,
    /// Whether the column is `GENERATED ALWAYS AS IDENTITY`.
    pub identity: bool,
}

/// The way in which an input is encoded as the column's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoder {
    Bool,
    Int {
        width: usize,
    },
    Float4,
    Float8,
    /// Text. `blank` is set for char(n), which ignores trailing blanks; they are removed, so that equal keys are equal
    /// bytes.
    Text {
        most: Option<usize>,
        blank: bool,
    },
    Bytea,
    /// A whole number of units since 1970, where `micros` is the length of a unit in microseconds.
    Unix {
        micros: i64,
    },
    Micros,
    Numeric {
        precision: u16,
        scale: u16,
    },
    Json {
        binary: bool,
    },
    Uuid,
    /// Text or bytes that are parsed as an integer.
    ParsedInt {
        width: usize,
    },
    EnumName(Names),
    /// A conversion that is too rare to be inlined.
    Declared(Box<Declared>),
    /// A repeated field's array literal.
    List(Box<List>),
}

/// Precision and scale for integers in a plain `numeric` column.
const NUMERIC: u16 = 20;

/// Finds the conversion, or returns what would fit instead.
pub fn encoder(kind: InputKind, conversion: &As, column: &PgColumn) -> Result<Encoder, UnfitColumn> {
    use InputKind::{Bool, Bytes, Enum, Float, Header, Int, Json, Text};
    let most = usize::try_from(column.typmod - 4).ok().filter(|_| column.type_name != "text");
    let name = column.type_name.as_str();
    let found = match (conversion, kind) {
        (As::Natural, InputKind::Oneof) => enum_name(String::new(), column, most),
        (As::Natural, kind) => natural(kind, column, most).ok_or(natural_types(kind)),
        (As::Jsonb, Json) => json(name).ok_or("jsonb"),
        (As::Array, InputKind::List(element)) => list(*element, &As::Natural, column)?.ok_or("an array"),
        (conversion, InputKind::List(element)) => list(*element, conversion, column)?.ok_or("an array"),
        (
            As::Numeric { precision, scale },
            Float | Int | Text | Header | InputKind::Known(Known::Money | Known::Decimal),
        ) => {
            return numeric(*precision, *scale, kind, column);
        }
        (As::Decimal, Float | Int | Text | Header | InputKind::Known(Known::Money | Known::Decimal)) => {
            let keep = Keep::Exact { within: numeric_modifier(column.typmod) };
            (name == "numeric").then(|| number(kind, keep)).ok_or("numeric")
        }
        (As::UnixSeconds, Int) => unix(1_000_000, column).ok_or("timestamptz"),
        (As::UnixMillis, Int) => unix(1_000, column).ok_or("timestamptz"),
        (As::UnixMicros, Int) => unix(1, column).ok_or("timestamptz"),
        (As::Time(spec), Int | Text | Header) => return time(spec, column),
        (As::EnumName { strip_prefix }, Enum) => enum_name(strip_prefix.clone().unwrap_or_default(), column, most),
        (As::Int, Header | Text | Bytes) => {
            width(name).map(|width| Encoder::ParsedInt { width }).ok_or("smallint, integer or bigint")
        }
        (As::Uuid, Text | Header | Bytes) => (name == "uuid").then_some(Encoder::Uuid).ok_or("uuid"),
        (As::JsonText, Text | Header | Bytes) => match name {
            "jsonb" => Ok(Encoder::Declared(Box::new(Declared::JsonText { binary: true }))),
            "json" => Ok(Encoder::Declared(Box::new(Declared::JsonText { binary: false }))),
            _ => Err("jsonb or json"),
        },
        (As::Text, Text | Header | Bytes | Int | Bool | Float) => {
            textual(name).then_some(Encoder::Text { most, blank: name == "bpchar" }).ok_or("text")
        }
        (conversion, kind) => {
            let (column, conversion) = (column.name.clone(), conversion.clone());
            return Err(UnfitColumn::Conversion { column, conversion, kind: kind_name(kind) });
        }
    };
    found.map_err(|expected| match conversion {
        As::Natural => mismatch(column, expected, hint::hint(kind, column)),
        _ => mismatch(column, expected, String::new()),
    })
}

fn textual(name: &str) -> bool {
    matches!(name, "text" | "varchar" | "bpchar" | "citext")
}

fn mismatch(column: &PgColumn, needed: impl Into<String>, hint: String) -> UnfitColumn {
    let PgColumn { name, sql_type, .. } = column;
    UnfitColumn::Type { column: name.clone(), sql_type: sql_type.clone(), needed: needed.into(), hint }
}

fn enum_name(strip: String, column: &PgColumn, most: Option<usize>) -> Result<Encoder, &'static str> {
    match column.type_name.as_str() {
        "enum" => {
            let labels = Some((column.sql_type.clone(), column.labels.clone()));
            Ok(Encoder::EnumName(Names::new(strip, labels, None)))
        }
        name if textual(name) => Ok(Encoder::EnumName(Names::new(strip, None, most))),
        _ => Err("text or an enum type"),
    }
}

fn unix(micros: i64, column: &PgColumn) -> Option<Encoder> {
    matches!(column.type_name.as_str(), "timestamptz" | "timestamp").then_some(Encoder::Unix { micros })
}

fn time(spec: &TimeSpec, column: &PgColumn) -> Result<Encoder, UnfitColumn> {
    let target = Target::of(&column.type_name)
        .ok_or_else(|| mismatch(column, "timestamptz, timestamp, date, time or interval", String::new()))?;
    if let Some(form) = spec.forms.iter().find(|form| !target.takes(**form)) {
        let needed = if *form == TimeForm::UnixDays { "date" } else { "timestamptz or timestamp" };
        let (column, sql_type) = (column.name.clone(), column.sql_type.clone());
        return Err(UnfitColumn::TimeForm { column, sql_type, form: form.name(), needed });
    }
    Ok(Encoder::Declared(Box::new(Declared::Times(Times { spec: spec.clone(), target }))))
}

/// Encodes a number with as many digits as the column keeps.
fn number(kind: InputKind, keep: Keep) -> Encoder {
    Encoder::Declared(Box::new(match kind {
        InputKind::Known(known) => Declared::KnownNumber { known, keep, key: false },
        _ => Declared::Number { keep, key: false },
    }))
}

fn numeric(precision: u16, scale: u16, kind: InputKind, column: &PgColumn) -> Result<Encoder, UnfitColumn> {
    if column.type_name != "numeric" {
        return Err(mismatch(column, format!("numeric({precision},{scale})"), String::new()));
    }
    let wide = |value: u16| i32::from(value);
    if let Some((p, s)) = numeric_modifier(column.typmod)
        && (i32::from(s) < wide(scale) || wide(p) - i32::from(s) < wide(precision) - wide(scale))
    {
        return Err(mismatch(column, format!("at least numeric({precision},{scale})"), String::new()));
    }
    if precision > limits::NUMERIC_FAST || matches!(kind, InputKind::Known(_)) {
        return Ok(number(kind, Keep::Rounded { precision, scale }));
    }
    Ok(Encoder::Numeric { precision, scale })
}

/// Returns the array encoder of a list if the column is an array.
fn list(element: InputKind, conversion: &As, column: &PgColumn) -> Result<Option<Encoder>, UnfitColumn> {
    let Some(of) = &column.element else { return Ok(None) };
    let encoder = encoder(element, conversion, of)?;
    Ok(List::new(encoder, of).map(|list| Encoder::List(Box::new(list))))
}

/// Returns the size of an integer type in bytes.
fn width(name: &str) -> Option<usize> {
    match name {
        "int2" => Some(2),
        "int4" => Some(4),
        "int8" => Some(8),
        _ => None,
    }
}

fn json(name: &str) -> Option<Encoder> {
    match name {
        "jsonb" => Some(Encoder::Json { binary: true }),
        "json" => Some(Encoder::Json { binary: false }),
        _ => None,
    }
}

/// Returns the conversion of the type map of docs/tables.md. It needs no `as:`, because it loses nothing.
fn natural(kind: InputKind, column: &PgColumn, most: Option<usize>) -> Option<Encoder> {
    let name = column.type_name.as_str();
    Some(match (kind, name) {
        (InputKind::Bool, "bool") => Encoder::Bool,
        (InputKind::Int | InputKind::Enum, "int2") => Encoder::Int { width: 2 },
        (InputKind::Int | InputKind::Enum, "int4") => Encoder::Int { width: 4 },
        (InputKind::Int | InputKind::Enum, "int8") => Encoder::Int { width: 8 },
        (InputKind::Int, "numeric") => {
            let (precision, scale) = numeric_modifier(column.typmod).unwrap_or((NUMERIC, 0));
            // A negative scale would round integers, which needs an explicit `as:`.
            let scale = u16::try_from(scale).ok()?;
            if precision.max(scale) > limits::NUMERIC_FAST {
                number(kind, Keep::Rounded { precision, scale })
            } else {
                Encoder::Numeric { precision, scale }
            }
        }
        (InputKind::Float, "float8") => Encoder::Float8,
        (InputKind::Float, "float4") => Encoder::Float4,
        (InputKind::Text | InputKind::Header, "text" | "varchar" | "bpchar" | "citext") => {
            Encoder::Text { most, blank: name == "bpchar" }
        }
        (InputKind::Text | InputKind::Header | InputKind::Bytes, "uuid") => Encoder::Uuid,
        (InputKind::Text | InputKind::Header, "enum") => {
            Encoder::Declared(Box::new(Declared::Label(Labels::new(&column.sql_type, &column.labels))))
        }
        (InputKind::Text | InputKind::Header, "inet" | "cidr") => {
            Encoder::Declared(Box::new(Declared::Inet { cidr: name == "cidr" }))
        }
        (InputKind::Known(_), "json" | "jsonb") | (InputKind::List(_), "json" | "jsonb") => return json(name),
        (InputKind::Known(Known::Decimal), "numeric") => {
            number(kind, Keep::Exact { within: numeric_modifier(column.typmod) })
        }
        (InputKind::Known(known), name) => {
            let target = Target::of(name).filter(|target| known.is(*target))?;
            Encoder::Declared(Box::new(Declared::KnownTime { known, target }))
        }
        (InputKind::List(element), _) => return list(*element, &As::Natural, column).ok().flatten(),
        (InputKind::Bytes | InputKind::Header, "bytea") => Encoder::Bytea,
        (InputKind::Micros, "timestamptz" | "timestamp") => Encoder::Micros,
        (InputKind::Json, name) => return json(name),
        _ => return None,
    })
}

fn natural_types(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Bool => "boolean",
        InputKind::Int => "smallint, integer, bigint or numeric",
        InputKind::Float => "double precision or real",
        InputKind::Text => "text, varchar, uuid, inet or an enum type",
        InputKind::Bytes => "bytea",
        InputKind::Enum => "integer",
        InputKind::Oneof => "text or an enum type",
        InputKind::Micros => "timestamptz",
        InputKind::Json => "jsonb",
        InputKind::Header => "text or bytea",
        InputKind::Known(known) => known.fits(),
        InputKind::List(_) => "jsonb, or an array whose elements fit",
    }
}

fn kind_name(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Bool => "a bool",
        InputKind::Int => "a whole number",
        InputKind::Float => "a floating-point number",
        InputKind::Text => "a string",
        InputKind::Bytes => "bytes",
        InputKind::Enum => "an enum",
        InputKind::Oneof => "a oneof",
        InputKind::Micros => "a timestamp",
        InputKind::Json => "a message, list or map",
        InputKind::Header => "a header",
        InputKind::Known(known) => known.name(),
        InputKind::List(_) => "a list",
    }
}

/// Reads precision and scale from `atttypmod`, in which the scale is an 11-bit signed number.
fn numeric_modifier(typmod: i32) -> Option<(u16, i16)> {
    let packed = u32::try_from(typmod.checked_sub(4)?).ok()?;
    let low = i16::try_from(packed & 0x7ff).ok()?;
    Some((u16::try_from(packed >> 16).ok()?, if low >= 0x400 { low - 0x800 } else { low }))
}

impl Encoder {
    /// Returns a float as a double: the exact value for a binary float column, its decimal form for all others.
    #[inline]
    pub fn widen(&self, value: f32) -> f64 {
        let is_binary = match self {
            Encoder::Float4 | Encoder::Float8 => true,
            Encoder::Declared(declared) => matches!(**declared, Declared::KeyFloat { .. }),
            _ => false,
        };
        if is_binary { f64::from(value) } else { decimal(value) }
    }

    /// Encodes the value. `enum_name` looks a number up in the contract.
    #[inline(always)]
    pub fn encode<'n>(
        &self,
        input: Input<'_>,
        enum_name: impl Fn(i32) -> Option<&'n str>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        let format = |expected| Unfit::Format { value: shown(input), expected };
        match (self, input) {
            (Encoder::Bool, Input::Bool(value)) => out.push(u8::from(value)),
            (Encoder::Int { width }, Input::Int(value)) => binary::integer(value, *width, out)?,
            (Encoder::Int { width }, Input::Enum(value)) => binary::integer(i128::from(value), *width, out)?,
            (Encoder::Float8, Input::Float(value)) => out.extend_from_slice(&value.to_be_bytes()),
            (Encoder::Float4, Input::Float(value)) => out.extend_from_slice(&float4(value)?.to_be_bytes()),
            (Encoder::Text { most, blank }, input) => {
                let start = out.len();
                text(input, *most, out)?;
                while *blank && out.len() > start && out.last() == Some(&b' ') {
                    out.pop();
                }
            }
            (Encoder::Bytea, Input::Bytes(value)) => out.extend_from_slice(value),
            (Encoder::Unix { micros }, Input::Int(value)) => {
                let whole = i64::try_from(value)
                    .map_err(|_| Unfit::Range { value: value.to_string(), into: "timestamptz".into() })?;
                binary::timestamp_in(whole, *micros, out)?;
            }
            (Encoder::Micros, Input::Micros(value)) => binary::timestamp(value, out)?,
            (Encoder::Numeric { precision, scale }, input) => match input {
                Input::Float(value) => binary::numeric_from_f64(value, *precision, *scale, out)?,
                Input::Int(value) => binary::numeric_from_int(value, *precision, *scale, out)?,
                Input::Text(value) => binary::numeric_from_text(value.as_str(), *precision, *scale, out)?,
                Input::Bytes(value) => binary::numeric_from_text(utf8(value)?, *precision, *scale, out)?,
                _ => return Err(format("a number")),
            },
            (Encoder::Json { binary: true }, Input::Json(value)) => binary::jsonb(value, out)?,
            (Encoder::Json { binary: false }, Input::Json(value)) => binary::text(value.into(), None, out)?,
            (Encoder::Uuid, Input::Text(value)) => binary::uuid(value.as_str(), out)?,
            // A text of sixteen bytes is never a UUID.
            (Encoder::Uuid, Input::Bytes(value)) if value.len() == 16 => out.extend_from_slice(value),
            (Encoder::Uuid, Input::Bytes(value)) => binary::uuid(utf8(value)?, out)?,
            (Encoder::ParsedInt { width }, Input::Text(value)) => parsed(value.as_bytes(), *width, out)?,
            (Encoder::ParsedInt { width }, Input::Bytes(value)) => parsed(value, *width, out)?,
            (Encoder::EnumName(names), Input::Enum(number)) => names.write(enum_name, number, out)?,
            (Encoder::Declared(declared), input) => declared.encode(input, out)?,
            // The kinds were matched when the pipeline started.
            _ => return Err(format("a value of the column's type")),
        }
        Ok(())
    }
}

fn parsed(value: &[u8], width: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let number = match digits(value) {
        Some(number) => number,
        None => parsed_rare(utf8(value)?)?,
    };
    binary::integer(i128::from(number), width, out)
}

/// Parses the common case: only digits, and too few to overflow.
#[inline]
fn digits(value: &[u8]) -> Option<i64> {
    if !(1..=18).contains(&value.len()) {
        return None;
    }
    let mut number = 0;
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(number)
}

#[cold]
fn parsed_rare(value: &str) -> Result<i64, Unfit> {
    let unfit = |_| Unfit::Format { value: value.chars().take(64).collect(), expected: "a whole number" };
    value.trim().parse().map_err(unfit)
}

#[inline(always)]
fn text(input: Input<'_>, most: Option<usize>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let owned;
    let value = match input {
        Input::Text(value) => value,
        Input::Bytes(value) => utf8(value)?.into(),
        other => {
            owned = shown(other);
            owned.as_str().into()
        }
    };
    binary::text(value, most, out)
}

#[allow(clippy::cast_possible_truncation, reason = "the check after the cast finds what overflowed")]
fn float4(value: f64) -> Result<f32, Unfit> {
    let narrow = value as f32;
    if narrow.is_infinite() && value.is_finite() {
        return Err(Unfit::Range { value: value.to_string(), into: "real".into() });
    }
    Ok(narrow)
}

#[cfg(test)]
mod tests;
