//! Reads Debezium's change events, `contract.envelope: debezium`: the operation on a row, and the row before and after
//! it.
//!
//! | `op` | |
//! |---|---|
//! | `c`, `u`, `r` | the event is `after`; it passes contract, chain and row like any event |
//! | `d` | the row of `before`, or of the record's key, is deleted; the chain does not run |
//! | `t`, `m` | no row: a dead letter, or dropped |

use std::borrow::Cow;
use std::collections::BTreeMap;

use prost_reflect::DescriptorPool;
use serde_json::Value as Json;
use tollgate_contract::{
    Contract, DuplicateMembers, FieldPath, Fields, Kind, Policies, ReasonCode, Rejection, Slot, Value, find_members,
    text_of,
};

use super::envelope::{Problem, Slots, no_text, rejection};
use tollgate_config::{Debezium, Pipeline, WithoutRow};

const AT: &str = "contract.envelope.debezium";

/// The reader of a pipeline's change events.
pub struct Changes {
    spec: Debezium,
    /// The header names, in the order of `headers:`.
    pub headers: Vec<String>,
    /// The paths of their values in JSON.
    paths: Vec<Vec<String>>,
    /// The path of the type's name in JSON.
    kind: Option<Vec<String>>,
    /// The message type of change events, or `None` if they are JSON.
    pub proto: Option<Proto>,
}

/// A change event's message type.
pub struct Proto {
    pub contract: Contract,
    /// The contract's digest in hex.
    pub digest: String,
    pub op: Slot,
    pub before: Slot,
    pub after: Slot,
    /// Each header whose field exists: its index in [`Changes::headers`], and its slot.
    pub headers: Vec<(usize, Slot)>,
}

/// The operation on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The row exists as in `after`: created, updated, or read by a snapshot.
    Row,
    Delete,
    Truncate,
    Message,
}

/// A decoded change event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'v> {
    pub op: Op,
    pub kind: Option<String>,
    pub before: Option<Cow<'v, [u8]>>,
    pub after: Option<Cow<'v, [u8]>>,
    /// The index of each header's name, and its value.
    pub headers: Vec<(usize, String)>,
}

impl Op {
    pub fn of(letter: &str) -> Option<Op> {
        match letter {
            "c" | "u" | "r" => Some(Op::Row),
            "d" => Some(Op::Delete),
            "t" => Some(Op::Truncate),
            "m" => Some(Op::Message),
            _ => None,
        }
    }
}

impl Changes {
    /// Checks the settings of a pipeline with `envelope: debezium` against its message types. `validate` and `run` use
    /// it.
    ///
    /// # Errors
    /// Returns all settings that do not match the change event's message type.
    pub fn compile(pipeline: &Pipeline, spec: &Debezium, pool: &DescriptorPool) -> Result<Changes, Vec<Problem>> {
        let split = |path: &str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
        let headers = spec.headers();
        let proto = spec.message.as_ref().map(|message| Proto::compile(pipeline, message, spec, pool)).transpose()?;
        Ok(Changes {
            spec: spec.clone(),
            paths: headers.iter().map(|(_, path)| split(path)).collect(),
            headers: headers.into_iter().map(|(name, _)| name).collect(),
            kind: spec.kind.as_deref().map(split),
            proto,
        })
    }

    /// Returns whether every change event is JSON, whatever its headers declare.
    pub fn only_json(&self) -> bool {
        self.proto.is_none()
    }

    /// Returns what to do with a change that concerns no row.
    pub fn without_row(&self, op: Op) -> WithoutRow {
        if op == Op::Truncate { self.spec.truncates } else { self.spec.messages }
    }

    /// Reads a change event in JSON, alone or next to its schema as Kafka Connect's `JsonConverter` writes it.
    pub fn read_json<'v>(&self, json: &'v [u8]) -> Result<Change<'v>, Rejection> {
        const NAMES: [&str; 4] = ["op", "before", "after", "payload"];
        let mut json = json;
        let mut found = find_members(json, NAMES, DuplicateMembers::Reject)?;
        if let [None, _, _, Some(payload)] = found {
            json = &json[payload];
            found = find_members(json, NAMES, DuplicateMembers::Reject)?;
        }
        let [op, before, after, _] = found;
        let row = |place: Option<std::ops::Range<usize>>| {
            place.map(|place| &json[place]).filter(|text| *text != b"null").map(Cow::Borrowed)
        };
        let letter: Option<String> = op.and_then(|place| serde_json::from_slice(&json[place]).ok());
        let op = op_of(letter.as_deref())?;
        let mut told = Told { json, members: BTreeMap::new() };
        let mut headers = Vec::new();
        for (index, path) in self.paths.iter().enumerate() {
            headers.extend(told.text(path)?.map(|text| (index, text)));
        }
        let kind = self.kind.as_ref().map(|path| told.text(path)).transpose()?.flatten();
        Ok(Change { op, kind, before: row(before), after: row(after), headers })
    }
}

/// Parses a change event's `op`.
pub fn op_of(letter: Option<&str>) -> Result<Op, Rejection> {
    let Some(letter) = letter.filter(|letter| !letter.is_empty()) else {
        let message = "there is no op, so this is not a change event; the transformation ExtractNewRecordState removes the \
                       envelope: with it, remove `envelope: debezium`";
        return Err(rejection(ReasonCode::JsonWrongType, "op", message.to_owned()));
    };
    Op::of(letter).ok_or_else(|| {
        let letter: String = letter.chars().take(16).collect();
        rejection(ReasonCode::JsonWrongType, "op", format!("unknown op {letter}; known are c, u, r, d, t, m"))
    })
}

/// The members of a JSON change event that become headers, each read once.
struct Told<'v, 'p> {
    json: &'v [u8],
    members: BTreeMap<&'p str, Json>,
}

impl<'p> Told<'_, 'p> {
    /// Returns the text at a path: strings unchanged, numbers and booleans as in JSON. Returns `None` for a missing
    /// value, null, an object or an array.
    fn text(&mut self, path: &'p [String]) -> Result<Option<String>, Rejection> {
        let Some((first, rest)) = path.split_first() else { return Ok(None) };
        if !self.members.contains_key(first.as_str()) {
            let [place] = find_members(self.json, [first.as_str()], DuplicateMembers::Reject)?;
            let value = place.and_then(|place| serde_json::from_slice(&self.json[place]).ok()).unwrap_or(Json::Null);
            self.members.insert(first, value);
        }
        let mut value = &self.members[first.as_str()];
        for name in rest {
            let Some(inner) = value.get(name) else { return Ok(None) };
            value = inner;
        }
        Ok(match value {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            Json::Bool(truth) => Some(truth.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        })
    }
}

impl Proto {
    fn compile(
        pipeline: &Pipeline,
        message: &str,
        spec: &Debezium,
        pool: &DescriptorPool,
    ) -> Result<Proto, Vec<Problem>> {
        let problem = |message: String| vec![Problem { key: format!("{AT}.message"), message }];
        // The rules of the row would also apply to `before`, which often contains only the key.
        let policies = pipeline.contract.policies.leaving();
        let alone =
            Contract::compile(pool, message, policies.clone(), &[]).map_err(|error| problem(error.to_string()))?;
        let mut slots = Slots::new(pool, message);
        // With one message type there is one event type.
        let row = pipeline.types.first().map(|kind| kind.message.as_str()).unwrap_or_default();
        for name in ["before", "after"] {
            let field = alone.message().get_field_by_name(name);
            let found =
                field.as_ref().and_then(|field| field.kind().as_message().map(|kind| kind.full_name().to_owned()));
            if found.as_deref() != Some(row) {
                let found = found.map_or_else(|| "it has none".to_owned(), |found| format!("it is {found}"));
                slots.problems.extend(problem(format!("{message} must have a field {name} of type {row}; {found}")));
            }
        }
        let text = |kind: &Kind| (*kind != Kind::String).then(|| format!("is {}; it must be a string", kind.name()));
        let op = slots.want(&format!("{AT}.message"), "op", text);
        let mut headers = Vec::new();
        for (index, (name, path)) in spec.headers().iter().enumerate() {
            let fields = [FieldPath::new(path)];
            // The change events of some databases lack some of the usual fields.
            let there = Contract::compile(pool, message, Policies::default(), &fields).is_ok();
            if there || spec.headers.is_some() {
                headers.push((index, slots.want(&format!("{AT}.headers.{name}"), path, no_text)));
            }
        }
        if !slots.problems.is_empty() {
            return Err(slots.problems);
        }
        let [before, after] = ["before", "after"].map(|name| slots.add(name));
        let contract =
            Contract::compile(pool, message, policies, &slots.fields).map_err(|error| problem(error.to_string()))?;
        Ok(Proto { digest: hex::encode(contract.digest()), contract, op, before, after, headers })
    }

    /// Reads a change event in Protobuf.
    pub fn read<'v>(&self, value: &'v [u8], fields: &mut Fields<'v>) -> Result<Change<'v>, Rejection> {
        self.contract.read(value, fields)?;
        let letter = text_of(&self.contract, fields, self.op);
        let op = op_of(letter.as_deref())?;
        let mut headers = Vec::new();
        for (index, slot) in &self.headers {
            if !matches!(fields.get(*slot), Value::Absent | Value::Default) {
                headers.extend(text_of(&self.contract, fields, *slot).map(|text| (*index, text.into_owned())));
            }
        }
        Ok(Change { op, kind: None, before: fields.message(self.before), after: fields.message(self.after), headers })
    }
}
