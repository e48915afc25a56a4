//! Builds one cell of a row: the source of its value, and how it is added to the batch.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a match asks for some of Protobuf's kinds or values, and treats all others alike"
)]

use tollgate_contract::{Absent, Contract, Fields, Kind, Slot, Value, timestamp_micros};

use super::binary;
use super::cell::Encoder;
use super::input::Input;
use super::rows::RowWriter;
use super::unfit::Unfit;
use tollgate_config::{Nul, RecordPart};

#[derive(Debug)]
pub(super) struct Cell {
    pub name: String,
    pub source: Source,
    pub encoder: Encoder,
    pub not_null: bool,
    /// Whether its value is an addend.
    pub add: bool,
    /// The rule for a field without presence that is not on the wire.
    pub absent: Absent,
    /// The replacement for NULL, in the column's binary form.
    pub default: Option<Box<[u8]>>,
    pub nul: Nul,
}

#[derive(Debug)]
pub(super) enum Source {
    Slot(Slot),
    /// A message that becomes a value of a PostgreSQL type.
    Message(Slot),
    /// A repeated field that becomes an array.
    List(Slot),
    Header(String),
    Record(RecordPart),
    Constant(i64),
}

/// The source of a row's values in addition to the message, which is its record.
pub struct RecordView<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub digest: &'a str,
    /// Returns the last header of a name.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

/// A value that does not fit its column.
#[derive(Debug, thiserror::Error)]
#[error("column {column}: {unfit}")]
pub struct Misfit {
    pub column: String,
    pub unfit: Unfit,
}

impl Cell {
    #[cold]
    pub(super) fn misfit(&self, unfit: Unfit) -> Misfit {
        Misfit { column: self.name.clone(), unfit }
    }

    /// Adds the cell to a row.
    #[inline]
    pub(super) fn write(
        &self,
        contract: &Contract,
        fields: &Fields<'_>,
        record: &RecordView<'_>,
        row: &mut RowWriter<'_>,
    ) -> Result<(), Misfit> {
        match &self.source {
            Source::Slot(slot) if self.absent != Absent::Default && matches!(fields.get_ref(*slot), Value::Default) => {
                match self.absent {
                    Absent::Reject => Err(self.misfit(Unfit::Absent)),
                    Absent::Null | Absent::Default => self.put(contract, Input::Null, row),
                }
            }
            Source::Slot(slot) if matches!(self.encoder, Encoder::Json { .. }) => {
                let json = contract.field_json(*slot, fields);
                let json = json.map_err(|rejection| self.misfit(Unfit::NoJson(rejection.message)))?;
                self.put(contract, json.as_deref().map_or(Input::Null, Input::Json), row)
            }
            Source::Slot(slot) => self.field(contract, fields, *slot, row),
            Source::Message(slot) => {
                let bytes = fields.message(*slot);
                self.put(contract, bytes.as_deref().map_or(Input::Null, Input::Message), row)
            }
            Source::List(slot) => self.list(contract, fields, *slot, row),
            Source::Header(name) => self.put(contract, (record.header)(name).map_or(Input::Null, Input::Bytes), row),
            Source::Record(part) => self.put(contract, from_record(*part, record), row),
            Source::Constant(value) => self.put(contract, Input::Int(i128::from(*value)), row),
        }
    }

    /// Adds a field's value. Each kind of value has a separate inlined call of `put`, so that only the conversions of
    /// that kind are left, and the value goes from its slot to the batch without passing through memory.
    fn field(
        &self,
        contract: &Contract,
        fields: &Fields<'_>,
        slot: Slot,
        row: &mut RowWriter<'_>,
    ) -> Result<(), Misfit> {
        let default;
        let value = match fields.get_ref(slot) {
            Value::Default => {
                default = contract.field(slot).default_value();
                &default
            }
            value => value,
        };
        match *value {
            Value::Bool(value) => self.put(contract, Input::Bool(value), row),
            Value::I32(value) => self.put(contract, Input::Int(i128::from(value)), row),
            Value::I64(value) => self.put(contract, Input::Int(i128::from(value)), row),
            Value::U32(value) => self.put(contract, Input::Int(i128::from(value)), row),
            Value::U64(value) => self.put(contract, Input::Int(i128::from(value)), row),
            Value::F32(value) => self.put(contract, Input::Float(self.encoder.widen(value)), row),
            Value::F64(value) => self.put(contract, Input::Float(value), row),
            Value::Str(value) => self.put(contract, Input::Text(value), row),
            Value::Bytes(value) => self.put(contract, Input::Bytes(value), row),
            Value::Enum(value) => self.put(contract, Input::Enum(value), row),
            Value::Message(_) | Value::Split(_) if contract.field(slot).kind == Kind::Timestamp => {
                let bytes = fields.message(slot).unwrap_or_default();
                let range = || Unfit::Range { value: "the timestamp".into(), into: "timestamptz".into() };
                let micros = timestamp_micros(&bytes).ok_or_else(|| self.misfit(range()))?;
                self.put(contract, Input::Micros(micros), row)
            }
            // Messages, lists and maps are planned as JSON, which is handled above.
            Value::Absent | Value::Default | Value::Message(_) | Value::Split(_) | Value::List(_) | Value::Map(_) => {
                self.put(contract, Input::Null, row)
            }
        }
    }

    #[cold]
    fn list(
        &self,
        contract: &Contract,
        fields: &Fields<'_>,
        slot: Slot,
        row: &mut RowWriter<'_>,
    ) -> Result<(), Misfit> {
        let (Value::List(items), Encoder::List(list)) = (fields.get_ref(slot), &self.encoder) else {
            return self.put(contract, Input::Null, row);
        };
        let start = row.open();
        let name = |number| contract.enum_name(slot, number);
        list.encode(fields.items(*items), name, row.out()).map_err(|unfit| self.misfit(unfit))?;
        row.close(start);
        Ok(())
    }

    #[inline(always)]
    fn put(&self, contract: &Contract, input: Input<'_>, row: &mut RowWriter<'_>) -> Result<(), Misfit> {
        if self.add {
            let Input::Int(value) = input else { return Err(self.misfit(Unfit::Null)) };
            let range = |_| self.misfit(Unfit::Range { value: value.to_string(), into: "bigint".into() });
            row.add(i64::try_from(value).map_err(range)?);
        } else if matches!(input, Input::Null) {
            match &self.default {
                Some(default) => {
                    let start = row.open();
                    row.out().extend_from_slice(default);
                    row.close(start);
                }
                None if self.not_null => return Err(self.misfit(Unfit::Null)),
                None => row.null(),
            }
        } else {
            let name = |number| match &self.source {
                Source::Slot(slot) | Source::List(slot) | Source::Message(slot) => contract.enum_name(*slot, number),
                Source::Header(_) | Source::Record(_) | Source::Constant(_) => None,
            };
            let start = row.open();
            if let Err(unfit) = self.encoder.encode(input, name, row.out()) {
                self.without_nul(input, unfit, start, row)?;
            }
            row.close(start);
        }
        Ok(())
    }

    /// Writes a text without its NULs, if they are why it was rejected and the mapping allows removing them.
    #[cold]
    fn without_nul(&self, input: Input<'_>, unfit: Unfit, start: usize, row: &mut RowWriter<'_>) -> Result<(), Misfit> {
        let replacement = match (self.nul, &unfit) {
            (Nul::Strip, Unfit::Nul) => "",
            (Nul::Replace, Unfit::Nul) => "\u{fffd}",
            _ => return Err(self.misfit(unfit)),
        };
        let cleaned = match input {
            Input::Text(text) => text.as_str().replace('\0', replacement),
            Input::Bytes(bytes) => String::from_utf8_lossy(bytes).replace('\0', replacement),
            Input::Json(json) => binary::replace_escaped_nul(json, replacement),
            _ => return Err(self.misfit(unfit)),
        };
        let input = match input {
            Input::Json(_) => Input::Json(&cleaned),
            _ => Input::Text(cleaned.as_str().into()),
        };
        row.out().truncate(start);
        self.encoder.encode(input, |_| None, row.out()).map_err(|unfit| self.misfit(unfit))?;
        row.cleaned();
        Ok(())
    }
}

fn from_record<'a>(part: RecordPart, record: &RecordView<'a>) -> Input<'a> {
    match part {
        RecordPart::Topic => Input::Text(record.topic.into()),
        RecordPart::Partition => Input::Int(i128::from(record.partition)),
        RecordPart::Offset => Input::Int(i128::from(record.offset)),
        RecordPart::Timestamp if record.timestamp < 0 => Input::Null,
        RecordPart::Timestamp => Input::Micros(record.timestamp.saturating_mul(1_000)),
        RecordPart::Key => record.key.map_or(Input::Null, Input::Bytes),
        RecordPart::Digest => Input::Text(record.digest.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_is_the_decimal_that_was_meant_unless_the_column_is_binary() {
        let written = |value: f32, encoder: &Encoder| {
            let mut out = Vec::new();
            encoder.encode(Input::Float(encoder.widen(value)), |_| None, &mut out).unwrap();
            out
        };
        let numeric = Encoder::Numeric { precision: 18, scale: 2 };
        let decimal = |text: &str| {
            let mut out = Vec::new();
            numeric.encode(Input::Text(text.into()), |_| None, &mut out).unwrap();
            out
        };
        assert_eq!(written(2.675, &numeric), decimal("2.68"));
        assert_eq!(written(0.1, &numeric), decimal("0.10"));
        let text = Encoder::Text { most: None, blank: false };
        assert_eq!(written(0.1, &text), b"0.1");
        assert_eq!(written(f32::INFINITY, &text), b"Infinity");
        assert_eq!(written(0.1, &Encoder::Float8), f64::from(0.1_f32).to_be_bytes());
        assert_eq!(written(0.1, &Encoder::Float4), 0.1_f32.to_be_bytes());
    }
}
