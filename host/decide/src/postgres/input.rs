//! The inputs of columns.

use tollgate_contract::{Text, double_text};

use super::unfit::Unfit;

/// A column's input before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text<'a>),
    Bytes(&'a [u8]),
    Enum(i32),
    /// Microseconds since 1970.
    Micros(i64),
    Json(&'a str),
    /// A message's wire bytes.
    Message(&'a [u8]),
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Unfit> {
    std::str::from_utf8(bytes).map_err(|_| Unfit::Format {
        value: String::from_utf8_lossy(bytes).chars().take(64).collect(),
        expected: "UTF-8 text",
    })
}

/// Returns the value for an error message; text is limited to 64 characters.
pub(super) fn shown(input: Input<'_>) -> String {
    match input {
        Input::Null => "null".into(),
        Input::Bool(value) => value.to_string(),
        Input::Int(value) => value.to_string(),
        Input::Float(value) => double_text(value),
        Input::Text(value) => value.as_str().chars().take(64).collect(),
        Input::Bytes(value) => String::from_utf8_lossy(value).chars().take(64).collect(),
        Input::Enum(value) => value.to_string(),
        Input::Micros(value) => value.to_string(),
        Input::Json(value) => value.chars().take(64).collect(),
        Input::Message(value) => format!("a message of {} bytes", value.len()),
    }
}
