//! One case: the input event, and its expected outcome.

use std::path::{Path, PathBuf};

use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value};
use tollgate_contract::read_json;
use tollgate_sandbox::{BatchMeta, Events, Manifest};

use super::{Types, outcome, yaml};
use tollgate_config::ConfigErrors;
use tollgate_config::reader::{self, Complaint, Table, boolean, choice, number_within, signed, text, whole, within};

/// By how many percent fuel may differ from the expected value, unless the case sets its own tolerance.
const FUEL_TOLERANCE: f64 = 10.0;
/// The key that `--update` rewrites, at the beginning of its line.
const EXPECT: &str = "expect:";

/// A parsed case.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub file: PathBuf,
    text: String,
    key: Option<Vec<u8>>,
    /// The payload, or `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    offset: i64,
    timestamp: i64,
    pub meta: BatchMeta,
    /// `batch_time`, if the case has it.
    pub time: Option<i64>,
    /// The configuration that is merged over transform.yaml's.
    pub config: Option<Value>,
    /// The tolerance as a fraction, not in percent.
    pub fuel_tolerance: f64,
    /// The expected outcome in the form of [`outcome::describe`].
    pub expect: Value,
}

/// Returns a case's name: its file name without the extension.
pub(super) fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Case {
    /// Reads a case. If it is to be updated, the expectation may be missing.
    pub(super) fn read(file: &Path, types: (&Types, &Manifest), update: bool) -> Result<Case, ConfigErrors> {
        let text = reader::load_text(file)?;
        let shown = file.display().to_string();
        let parsed = reader::read_text(&shown, &text, reader::folder_of(file), &|_| None, |table| {
            read(table, file, types, update)
        })?;
        Ok(Case { text, ..parsed })
    }

    /// Returns a batch of only this event.
    pub(super) fn events(&self) -> Events {
        let mut events = Events::default();
        events.push(self.key.as_deref(), self.value.as_deref(), self.offset, self.timestamp);
        for (name, value) in &self.headers {
            events.headers.push(name, Some(value));
        }
        events.headers.end_record();
        events
    }

    /// Returns the file's text with the actual outcome as its expectation.
    pub(super) fn rewritten(&self, got: &Value) -> Result<String, Misplaced> {
        let (input, golden) = match self.text.match_indices(EXPECT).find(|(at, _)| begins_line(&self.text, *at)) {
            Some((at, _)) => self.text.split_at(at),
            None => (self.text.as_str(), ""),
        };
        let follows = |line: &&str| line.starts_with(|first: char| !first.is_whitespace() && first != '#');
        if let Some(line) = golden.lines().skip(1).find(follows) {
            return Err(Misplaced { line: line.to_owned() });
        }
        let gap = if input.is_empty() || input.ends_with('\n') { "" } else { "\n" };
        Ok(format!("{input}{gap}{EXPECT}\n{}", yaml::block(got, 1)))
    }
}

/// A key follows the expectation, so that rewriting the expectation would delete it.
#[derive(Debug, thiserror::Error)]
#[error("`expect` must be the last key, but `{line}` follows it: move that up")]
pub(super) struct Misplaced {
    line: String,
}

fn begins_line(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes()[at - 1] == b'\n'
}

fn read(table: &Table<'_>, file: &Path, types: (&Types, &Manifest), update: bool) -> Option<Case> {
    let value = value(table, &types.0.input);
    let key = table.get("key", outcome::parse_bytes);
    let headers = table.field("headers").map_or(Some(Vec::new()), |headers| {
        headers.table(|headers| {
            let read = |(name, value): (String, reader::Field<'_>)| Some((name, value.scalar(outcome::parse_bytes)?));
            Some(headers.any().into_iter().filter_map(read).collect())
        })
    });
    let time = table.get("batch_time", signed);
    let meta = BatchMeta {
        topic: table.or("topic", text, "test".to_owned()),
        partition: table.or("partition", within(0_i32, i32::MAX), 0),
        schema_id: 0,
        batch_time: time.unwrap_or_default(),
        seed: table.or("seed", whole, 0),
        overdue: Vec::new(),
    };
    let offset = table.or("offset", within(0_i64, i64::MAX), 0);
    let timestamp = table.or("timestamp", signed, -1);
    let config = table.json("config").map(|config| config.value);
    let tolerance = table.or("fuel_tolerance", number_within(0.0, 100.0), FUEL_TOLERANCE);
    let expect = if update && !table.has("expect") {
        table.field("expect");
        Some(Value::Object(Map::new()))
    } else {
        table.need_table("expect", |expect| read_expect(expect, types))
    };
    Some(Case {
        file: file.to_path_buf(),
        text: String::new(),
        key,
        value: value?,
        headers: headers?,
        offset,
        timestamp,
        meta,
        time,
        config,
        fuel_tolerance: tolerance / 100.0,
        expect: expect?,
    })
}

/// Reads exactly one of `event`, `bytes` and `tombstone`. The outer `None` is an error, the inner a tombstone.
fn value(table: &Table<'_>, input: &MessageDescriptor) -> Option<Option<Vec<u8>>> {
    let given: Vec<_> = ["event", "bytes", "tombstone"].into_iter().filter(|key| table.has(key)).collect();
    let event = table.json("event");
    let bytes = table.get("bytes", hex);
    let tombstone = table.or("tombstone", boolean, false);
    if given.len() != 1 {
        table.error("event", "exactly one of event, bytes (hex digits) and tombstone: true is required");
        return None;
    }
    match given[0] {
        "event" => {
            let message = message(table, "event", input, &event?.value)?;
            Some(Some(message.encode_to_vec()))
        }
        "bytes" => Some(Some(bytes?)),
        _ => tombstone.then_some(None),
    }
}

fn message(table: &Table<'_>, key: &str, kind: &MessageDescriptor, json: &Value) -> Option<DynamicMessage> {
    read_json(kind, json.to_string().as_bytes())
        .map_err(|rejection| {
            let place = if rejection.field.is_empty() { String::new() } else { format!("{}: ", rejection.field) };
            let said = format!("is not valid JSON for {}: {place}{}", kind.full_name(), rejection.message);
            table.error(key, said);
        })
        .ok()
}

fn read_expect(table: &Table<'_>, types: (&Types, &Manifest)) -> Option<Value> {
    let verdicts = ["pass", "replace", "drop", "reject", "fail"].map(|verdict| (verdict, verdict));
    let verdict = table.need("verdict", choice(&verdicts));
    let mut expect = Map::new();
    for key in ["code", "field", "message"] {
        if let Some(value) = table.get(key, |value| Ok(value.to_owned())) {
            expect.insert(key.to_owned(), value.into());
        }
    }
    let stages = ["contract", "transform", "output"].map(|stage| (stage, stage));
    match table.get("stage", choice(&stages)) {
        Some(stage) if verdict == Some("reject") => {
            // Without a stage, a rejection is the transform's own.
            expect.extend((stage != "transform").then(|| ("stage".to_owned(), stage.into())));
        }
        Some(_) => table.error("stage", "only a rejection has a stage"),
        None => {}
    }
    if verdict == Some("reject") && !expect.contains_key("code") {
        table.error("code", "required key is missing: a rejection is identified by its code");
    }
    read_edits(table, &mut expect);
    let outputs = table.tables("outputs", |output| read_output(output, types));
    if verdict == Some("replace") {
        expect.insert("outputs".to_owned(), outputs.into());
    } else if table.has("outputs") {
        table.error("outputs", "only a replaced event has outputs");
    }
    if let Some(fuel) = table.get("fuel", whole) {
        expect.insert("fuel".to_owned(), fuel.into());
    }
    expect.insert("verdict".to_owned(), verdict?.into());
    Some(Value::Object(expect))
}

fn read_output(table: &Table<'_>, types: (&Types, &Manifest)) -> Option<Value> {
    let mut output = Map::new();
    let (types, manifest) = types;
    let mut kind = types.outputs.first();
    if let Some(route) = table.get("route", text) {
        kind = manifest.routes.iter().position(|known| *known == route).and_then(|at| types.outputs.get(at + 1));
        if kind.is_none() {
            let complaint = match manifest.routes.as_slice() {
                [] => "the transform has no routes".to_owned(),
                routes => format!("unknown route {route}; the transform has {}", routes.join(", ")),
            };
            table.error("route", complaint);
        }
        output.insert("route".to_owned(), route.into());
    }
    let json = table.json("message");
    let bytes = table.get("bytes", |digits| hex(digits).map(|_| digits.to_lowercase()));
    let tombstone = table.or("tombstone", boolean, false);
    match (json, bytes) {
        (Some(json), None) if !tombstone => {
            let message = message(table, "message", kind?, &json.value)?;
            output.insert("message".to_owned(), outcome::message_json(&message));
        }
        (None, Some(digits)) if !tombstone => drop(output.insert("bytes".to_owned(), digits.into())),
        (None, None) if tombstone => drop(output.insert("tombstone".to_owned(), true.into())),
        _ => {
            table.error("message", "exactly one of message, bytes (hex digits) and tombstone: true is required");
            return None;
        }
    }
    read_edits(table, &mut output);
    Some(Value::Object(output))
}

/// Reads the changes that the transform made on an output: a new key, headers.
fn read_edits(table: &Table<'_>, into: &mut Map<String, Value>) {
    let key = table.entry("key");
    if let Some(key) = key {
        let value =
            if key.is_null() { Some(Value::Null) } else { key.scalar(|text| Ok(text.to_owned())).map(Value::from) };
        into.extend(value.map(|value| ("key".to_owned(), value)));
    }
    if let Some(headers) = table.json("headers") {
        into.insert("headers".to_owned(), headers.value);
    }
}

fn hex(digits: &str) -> Result<Vec<u8>, Complaint> {
    hex::decode(digits).map_err(|_| Complaint::new("is not a sequence of bytes; write two hex digits for each"))
}
