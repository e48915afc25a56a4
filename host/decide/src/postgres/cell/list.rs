//! Encodes repeated fields as PostgreSQL arrays. They are sent as array literals in text, which the statement casts.
//! Their binary form cannot be sent, because `unnest` flattens arrays of arrays down to their elements.

use tollgate_contract::{Value, timestamp_micros};

use super::{Encoder, PgColumn};
use crate::postgres::input::Input;
use crate::postgres::times::{self, Target};
use crate::postgres::unfit::Unfit;
use crate::postgres::{binary, decimal};

/// The way in which a list is written as an array literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub element: Encoder,
    shape: Shape,
}

/// The type of an element's binary form, which decides its text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Bool,
    Int,
    Float4,
    Float8,
    Numeric,
    Uuid,
    Bytea,
    Time(Target),
    Text,
}

impl List {
    /// Returns `None` if the element's type has no text form here.
    pub fn new(element: Encoder, column: &PgColumn) -> Option<List> {
        let shape = match column.type_name.as_str() {
            "bool" => Shape::Bool,
            "int2" | "int4" | "int8" => Shape::Int,
            "float4" => Shape::Float4,
            "float8" => Shape::Float8,
            "numeric" => Shape::Numeric,
            "uuid" => Shape::Uuid,
            "bytea" => Shape::Bytea,
            "text" | "varchar" | "bpchar" | "citext" | "enum" => Shape::Text,
            name => Shape::Time(Target::of(name)?),
        };
        Some(List { element, shape })
    }

    /// Writes the literal: `{"red","with \"quote\""}`.
    pub fn encode<'a, 'n>(
        &self,
        items: impl Iterator<Item = Value<'a>>,
        enum_name: impl Fn(i32) -> Option<&'n str> + Copy,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        let mut bytes = Vec::new();
        out.push(b'{');
        for (at, item) in items.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            bytes.clear();
            let input = self.input(item).ok_or(Unfit::Element)?;
            self.element.encode(input, enum_name, &mut bytes)?;
            self.show(&bytes, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn input<'v>(&self, value: Value<'v>) -> Option<Input<'v>> {
        Some(match value {
            Value::Bool(value) => Input::Bool(value),
            Value::I32(value) => Input::Int(i128::from(value)),
            Value::I64(value) => Input::Int(i128::from(value)),
            Value::U32(value) => Input::Int(i128::from(value)),
            Value::U64(value) => Input::Int(i128::from(value)),
            Value::F32(value) => Input::Float(self.element.widen(value)),
            Value::F64(value) => Input::Float(value),
            Value::Str(value) => Input::Text(value),
            Value::Bytes(value) => Input::Bytes(value),
            Value::Enum(value) => Input::Enum(value),
            // Lists can contain messages, but only timestamps are planned as elements.
            Value::Message(bytes) => Input::Micros(timestamp_micros(bytes)?),
            Value::Absent | Value::Default | Value::Split(_) | Value::List(_) | Value::Map(_) => return None,
        })
    }

    fn show(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        let text = match self.shape {
            Shape::Text => {
                out.push(b'"');
                for byte in bytes {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
                out.push(b'"');
                return Ok(());
            }
            Shape::Bool => Some(if bytes == [1] { "t" } else { "f" }.to_owned()),
            Shape::Int => Some(binary::signed(bytes).to_string()),
            Shape::Float4 => bytes.first_chunk().map(|bytes| f32::from_be_bytes(*bytes).to_string()),
            Shape::Float8 => bytes.first_chunk().map(|bytes| f64::from_be_bytes(*bytes).to_string()),
            Shape::Numeric => Some(decimal::show(bytes)),
            Shape::Uuid => Some(hex::encode(bytes)),
            Shape::Bytea => Some(format!("\"\\\\x{}\"", hex::encode(bytes))),
            Shape::Time(target) => times::show(target, bytes).map(|text| format!("\"{text}\"")),
        };
        out.extend_from_slice(text.ok_or(Unfit::Element)?.as_bytes());
        Ok(())
    }
}
