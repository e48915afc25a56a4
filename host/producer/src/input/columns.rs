//! Reads CSV: a header of field paths, and rows whose cells are converted to the fields' types.
//!
//! | the field is | the cell holds |
//! |---|---|
//! | an integer | digits with an optional sign, within the type's range |
//! | `float`, `double` | a number, `NaN`, `Infinity`, `-Infinity` |
//! | `bool` | `true`, `false`, `1`, `0` |
//! | `string` | the text |
//! | `bytes` | base64 |
//! | an enum | a name or a number of it |
//! | `Timestamp`, `Duration`, `FieldMask` | their JSON form: `2026-01-31T12:00:00Z`, `1.5s`, `a,b` |
//! | a list, a map, any other message | JSON |
//!
//! An empty cell is a field that is not set.

use crate::Violation;
use csv_core::ReadRecordResult;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Number, Value};

/// The maximum number of similar names in an error, and their minimum similarity (0 to 1).
const NEAR: (usize, f64) = (2, 0.75);

/// The cells of the current record.
pub(super) struct Table {
    reader: csv_core::Reader,
    output: Vec<u8>,
    written: usize,
    ends: Vec<usize>,
    count: usize,
}

impl Table {
    pub(super) fn new(delimiter: u8) -> Table {
        let reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Table { reader, output: vec![0; 4 << 10], written: 0, ends: vec![0; 64], count: 0 }
    }

    /// Takes one line, including its end. Returns whether the record is complete, which it is not if quotes are open.
    pub(super) fn feed(&mut self, mut line: &[u8]) -> bool {
        // The last line of a file may lack its end.
        let bare = !line.ends_with(b"\n");
        loop {
            let (result, read, written, ends) =
                self.reader.read_record(line, &mut self.output[self.written..], &mut self.ends[self.count..]);
            line = &line[read..];
            self.written += written;
            self.count += ends;
            match result {
                ReadRecordResult::Record => return true,
                ReadRecordResult::OutputFull => self.output.resize(self.output.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if bare => return self.end_bare(),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return false,
            }
        }
    }

    /// Supplies the missing line end at the end of the input. Inside of quotes it does not end the record.
    fn end_bare(&mut self) -> bool {
        self.feed(b"\n")
    }

    pub(super) fn reset(&mut self) {
        self.reader.reset();
        (self.written, self.count) = (0, 0);
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|index| {
            let begin = if index == 0 { 0 } else { self.ends[index - 1] };
            self.output.get(begin..self.ends[index]).unwrap_or_default()
        })
    }
}

/// The conversion of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Bool,
    I32,
    I64,
    U32,
    U64,
    Float,
    Text,
    Enum,
    Json,
}

impl Cell {
    fn of(field: &FieldDescriptor) -> Cell {
        if field.is_list() || field.is_map() {
            return Cell::Json;
        }
        Cell::of_kind(&field.kind())
    }

    fn of_kind(kind: &Kind) -> Cell {
        match kind {
            Kind::Bool => Cell::Bool,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Cell::I32,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Cell::I64,
            Kind::Uint32 | Kind::Fixed32 => Cell::U32,
            Kind::Uint64 | Kind::Fixed64 => Cell::U64,
            Kind::Float | Kind::Double => Cell::Float,
            Kind::String | Kind::Bytes => Cell::Text,
            Kind::Enum(_) => Cell::Enum,
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask" => Cell::Text,
                name if name.starts_with("google.protobuf.")
                    && name.ends_with("Value")
                    && name != "google.protobuf.Value" =>
                {
                    // A wrapped scalar has the scalar's JSON form.
                    message.get_field_by_name("value").map_or(Cell::Json, |field| Cell::of_kind(&field.kind()))
                }
                _ => Cell::Json,
            },
        }
    }

    /// Returns the cell's value in Protobuf's JSON mapping.
    fn value(self, text: &str) -> Result<Value, &'static str> {
        match self {
            Cell::Text => Ok(Value::String(text.to_owned())),
            Cell::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(Value::Bool(true)),
                "false" | "0" => Ok(Value::Bool(false)),
                _ => Err("this is not a bool; write true or false"),
            },
            Cell::I32 => text.parse::<i32>().map(Value::from).map_err(|_| "this is not a 32-bit integer"),
            Cell::I64 => text.parse::<i64>().map(Value::from).map_err(|_| "this is not a 64-bit integer"),
            Cell::U32 => text.parse::<u32>().map(Value::from).map_err(|_| "this is not an unsigned 32-bit integer"),
            Cell::U64 => text.parse::<u64>().map(Value::from).map_err(|_| "this is not an unsigned 64-bit integer"),
            Cell::Float => float(text),
            Cell::Enum => Ok(text.parse::<i32>().map_or_else(|_| Value::String(text.to_owned()), Value::from)),
            Cell::Json => {
                serde_json::from_str(text).map_err(|_| "this is not JSON, which lists, maps and messages need")
            }
        }
    }
}

fn float(text: &str) -> Result<Value, &'static str> {
    const WRONG: &str = "this is not a number; use a point as decimal mark, and no thousands separators";
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return Ok(Value::String(text.to_owned()));
    }
    let value: f64 = text.parse().map_err(|_| WRONG)?;
    Number::from_f64(value).map(Value::Number).ok_or(WRONG)
}

/// The resolved header.
#[derive(Debug)]
pub(super) struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    /// The path of proto names with dots.
    path: String,
    cell: Cell,
}

impl Columns {
    /// # Errors
    /// Returns an error for every column that the message does not have, that occurs twice, or that is part of another
    /// column.
    pub(super) fn new(message: &MessageDescriptor, header: &Table) -> Result<Columns, Vec<String>> {
        let mut columns: Vec<Column> = Vec::new();
        let mut complaints = Vec::new();
        for (index, name) in header.cells().enumerate() {
            let name = String::from_utf8_lossy(name);
            match resolve(message, name.trim()) {
                Ok(column) => columns.push(column),
                Err(complaint) => complaints.push(format!("column {}: {complaint}", index + 1)),
            }
        }
        for (index, column) in columns.iter().enumerate() {
            for other in &columns[..index] {
                let inside =
                    |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
                if column.path == other.path {
                    complaints.push(format!("{} appears twice in the header", column.path));
                } else if inside(&column.path, &other.path) || inside(&other.path, &column.path) {
                    complaints.push(format!("{} and {} are columns for the same field", other.path, column.path));
                }
            }
        }
        if complaints.is_empty() { Ok(Columns(columns)) } else { Err(complaints) }
    }

    /// Returns a row as JSON.
    ///
    /// # Errors
    /// Fails at the first cell that does not fit its field, or if the row's length differs from the header's.
    pub(super) fn json(&self, row: &Table) -> Result<String, Violation> {
        if row.count != self.0.len() {
            let message = format!("the row has {} cells, but the header has {}", row.count, self.0.len());
            return Err(Violation::new("csv-cells", "", message));
        }
        let mut object = Map::new();
        for (column, cell) in self.0.iter().zip(row.cells()) {
            if cell.is_empty() {
                continue;
            }
            let value =
                std::str::from_utf8(cell).map_err(|_| "this is not UTF-8").and_then(|text| column.cell.value(text));
            let value = value.map_err(|what| Violation::new("csv-value", column.path.as_str(), what))?;
            put(&mut object, &column.path, value);
        }
        Ok(Value::Object(object).to_string())
    }
}

fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(object.insert(path.to_owned(), value)),
        Some((outer, inner)) => {
            let below = object.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, inner, value);
            }
        }
    }
}

/// Why a column's heading names no field.
#[derive(Debug, thiserror::Error)]
enum HeadingFault {
    #[error("it has no name; the header holds field paths")]
    Empty,
    #[error("{path}: {outer} is not a single message, so it has no fields")]
    NoFields { path: String, outer: String },
    /// `near`: similar names, or empty.
    #[error("{message} has no field {field}{near}")]
    Unknown { message: String, field: String, near: String },
}

/// Resolves a path of proto or JSON names through singular messages.
fn resolve(message: &MessageDescriptor, path: &str) -> Result<Column, HeadingFault> {
    if path.is_empty() {
        return Err(HeadingFault::Empty);
    }
    let mut names: Vec<String> = Vec::new();
    let mut place = Some(message.clone());
    let mut cell = Cell::Json;
    for segment in path.split('.') {
        let Some(message) = place.take() else {
            return Err(HeadingFault::NoFields { path: path.to_owned(), outer: names.join(".") });
        };
        let found = message.get_field_by_name(segment).or_else(|| message.get_field_by_json_name(segment));
        let Some(field) = found else {
            let (name, near) = (message.full_name().to_owned(), near(&message, segment));
            return Err(HeadingFault::Unknown { message: name, field: segment.to_owned(), near });
        };
        cell = Cell::of(&field);
        if let (Kind::Message(inner), false) = (field.kind(), field.is_list() || field.is_map()) {
            place = Some(inner);
        }
        names.push(field.name().to_owned());
    }
    Ok(Column { path: names.join("."), cell })
}

fn near(message: &MessageDescriptor, name: &str) -> String {
    let (most, enough) = NEAR;
    let score = |field: &FieldDescriptor| strsim::jaro_winkler(name, field.name());
    let mut found: Vec<_> = message.fields().map(|field| (score(&field), field.name().to_owned())).collect();
    found.retain(|(score, _)| *score >= enough);
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = found.into_iter().take(most).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}
