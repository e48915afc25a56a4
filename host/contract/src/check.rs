//! The walk: one pass over the wire bytes along the plan.
//!
//! Nothing is decoded into an object. A value is read in place, checked, and kept only if its field has a slot.
//! Messages are walked whether wanted or not, so that an accepted payload is valid to the last byte. The walk recurses
//! over message nesting, which the recursion limit bounds, and allocates only to describe a rejection.
//!
//! Two rules of Protobuf are not local. *Merging*: a singular message may be split into several parts; slots below it
//! simply see the parts one after the other. *Required fields* must be set in the merged message, not in each part, so
//! a part without one is only suspect, and [`Contract::check`] decides by decoding the whole payload.
//!
//! *Rules* on values are tested in place; a payload that cannot be judged this way, or that fails, is judged as a whole
//! (`rules::fast` explains why that is enough). The walk is compiled with and without rules, so that contracts without
//! rules pay nothing.
//!
//! If Protobuf leaves a choice, the gate is strict. It rejects a known field with another wire type, because parsers
//! would treat it as unknown, and the field would silently be empty. It rejects a string that is not UTF-8, in proto2
//! too, because PostgreSQL could not store it. Map entries count as nesting, since each is a message on the wire. Minus
//! zero is a set value even if zero is not.

mod arrival;
mod fallback;
mod judge;
mod place;
mod required;
mod survey;

use std::time::SystemTime;

use prost_reflect::DynamicMessage;

pub(crate) use arrival::Skew;
use arrival::{Signals, unix_nanos};
use judge::Marks;
use place::{locate, quoted};
use required::{missing, missing_required};

use crate::plan::{FieldPlan, NO_CHECK, NO_SLOT, Node, Op};
use crate::rejection::{Fault, ReasonCode};
use crate::rules::{Findings, MAX_VIOLATIONS, Rules};
use crate::wire::{Cursor, WireType, truncate};
use crate::{Contract, Fields, Rejection, Text, UnknownEnums, UnknownFields, Value};

/// The field number of the key in a map's entry; the value's is 2.
const MAP_KEY: u32 = 1;

type Walked<T> = Result<T, Box<Fault>>;

#[inline]
fn zigzag64(varint: u64) -> i64 {
    (varint >> 1).cast_signed() ^ -(varint & 1).cast_signed()
}

#[inline]
fn zigzag32(varint: u64) -> i32 {
    let varint = truncate(varint);
    (varint >> 1).cast_signed() ^ -(varint & 1).cast_signed()
}

impl Contract {
    /// Checks a payload against the contract and leaves the wanted fields' values in `fields`, borrowed from the
    /// payload.
    ///
    /// An empty payload is a message of defaults. After a rejection `fields` is empty or incomplete; do not read it.
    /// Once `fields` is warm, this allocates only to describe a rejection, to decide about a split message with
    /// required fields, and for rules that need the message as a whole (such as CEL).
    ///
    /// A rule that compares with the current time cannot be evaluated here and rejects the payload; see
    /// [`Contract::check_at`].
    ///
    /// # Errors
    /// Returns the first error in the bytes, in wire order; missing required fields come after all others. If the bytes
    /// are valid, returns all violations of the rules, up to 20.
    /// violations of the rules, up to 20.
    pub fn check<'a>(&self, payload: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Rejection> {
        self.check_with(payload, fields, None, &Signals::default())
    }

    /// Like [`Contract::check`], with the time for rules like `timestamp.lt_now`.
    ///
    /// # Errors
    /// Fails as [`Contract::check`] does.
    pub fn check_at<'a>(&self, payload: &'a [u8], fields: &mut Fields<'a>, now: SystemTime) -> Result<(), Rejection> {
        self.check_with(payload, fields, self.needs_clock().then(|| unix_nanos(now)), &Signals::default())
    }

    // I11: one pass over the wire bytes, with the verdict of a reference parser.
    fn check_with<'a>(
        &self,
        payload: &'a [u8],
        fields: &mut Fields<'a>,
        now: Option<i128>,
        signals: &Signals,
    ) -> Result<(), Rejection> {
        self.check_size(payload)?;
        match self.rules.as_ref().filter(|_| !signals.lenient) {
            None => self.walk(Walk::<false>::new(self, signals), payload, fields)?,
            Some(rules) => {
                self.walk(Walk::<true>::new(self, signals).at(now), payload, fields)?;
                if signals.suspect.get() {
                    let findings = self.evaluate(rules, payload, now, MAX_VIOLATIONS)?;
                    Rejection::of(findings).map_or(Ok(()), Err)?;
                }
            }
        }
        for &(from, to) in &self.plan.copies {
            fields.copy(from, to);
        }
        for branch in &self.plan.branches {
            fields.choose(branch.slot, branch.oneof, branch.number);
        }
        Ok(())
    }

    fn walk<'a, const RULES: bool>(
        &self,
        walk: Walk<'_, RULES>,
        payload: &'a [u8],
        fields: &mut Fields<'a>,
    ) -> Result<(), Rejection> {
        fields.reset(&self.plan.initial);
        match walk.message(self.root(), payload, 0, fields) {
            Ok(()) => Ok(()),
            Err(fault) if fault.code == ReasonCode::MissingRequired => {
                fields.reset(&self.plan.initial);
                let lenient = Walk { required: false, ..walk };
                lenient.message(self.root(), payload, 0, fields).map_err(|fault| fault.into_rejection())?;
                self.check_required_merged(payload).map_err(|merged| merged.unwrap_or(fault).into_rejection())
            }
            Err(fault) => Err(fault.into_rejection()),
        }
    }

    #[cold]
    fn evaluate(&self, rules: &Rules, payload: &[u8], now: Option<i128>, limit: usize) -> Result<Findings, Rejection> {
        let message = DynamicMessage::decode(self.message.clone(), payload)
            .map_err(|error| Rejection::new(ReasonCode::Undecodable, "", error.to_string()))?;
        Ok(rules.evaluate(&message, now, limit))
    }

    pub(crate) fn check_size(&self, payload: &[u8]) -> Result<(), Rejection> {
        let limit = self.policies.max_bytes;
        if payload.len() <= limit {
            return Ok(());
        }
        let message = format!("the payload has {} bytes, but the contract allows {limit}", payload.len());
        Err(Rejection::new(ReasonCode::TooLarge, "", message))
    }

    fn root(&self) -> &Node {
        &self.plan.nodes[0]
    }

    /// Checks that the merged message has all required fields; `Err(None)` if it cannot be decoded as a whole.
    fn check_required_merged(&self, payload: &[u8]) -> Result<(), Option<Box<Fault>>> {
        let message = DynamicMessage::decode(self.message.clone(), payload).map_err(|_| None)?;
        missing_required(&message).map_or(Ok(()), |fault| Err(Some(fault)))
    }
}

/// The state of one pass. `RULES` selects whether rules are tested.
#[derive(Clone, Copy)]
struct Walk<'c, const RULES: bool> {
    contract: &'c Contract,
    /// Whether to check for missing required fields.
    required: bool,
    signals: &'c Signals,
    /// The current time, in nanoseconds since the epoch, if a rule needs it.
    now: Option<i128>,
}

impl<'c, const RULES: bool> Walk<'c, RULES> {
    fn new(contract: &'c Contract, signals: &'c Signals) -> Self {
        Self { contract, required: contract.plan.has_required, signals, now: None }
    }

    fn at(self, now: Option<i128>) -> Self {
        Self { now, ..self }
    }

    fn message<'a>(self, node: &Node, bytes: &'a [u8], depth: u32, out: &mut Fields<'a>) -> Walked<()> {
        let mut cursor = Cursor::new(bytes);
        let mut seen = 0;
        let mut marks = Marks::default();
        while let Some(first) = cursor.peek() {
            let start = cursor;
            let (field, wire) = match node.by_tag(first) {
                Some(field) => {
                    cursor.advance();
                    (field, first & 7)
                }
                None => match self.uncommon(node, &mut cursor, depth)? {
                    Some((field, wire)) => (field, wire as u8),
                    None => continue,
                },
            };
            seen |= field.required;
            let read = if field.packable && wire == WireType::Delimited as u8 {
                self.packed(field, &mut cursor, out, &mut marks)
            } else {
                self.value(field, &mut cursor, depth, out, &mut marks)
            };
            read.map_err(|fault| locate(fault, field, bytes, start.position()))?;
        }
        if self.required && seen & node.required != node.required {
            let field = node.fields.iter().find(|field| field.required & !seen != 0);
            return Err(missing(&node.message, field.map_or("", |field| &field.name)));
        }
        if RULES && node.check != NO_CHECK {
            self.judge_message(node, &marks);
        }
        Ok(())
    }

    /// Handles a longer tag, an unknown field, or an error. It skips unknown fields.
    fn uncommon<'n>(
        self,
        node: &'n Node,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Walked<Option<(&'n FieldPlan, WireType)>> {
        let (number, wire) = cursor.tag()?;
        let Some(field) = node.by_number(number) else {
            self.unknown(node, number, wire, cursor, depth)?;
            return Ok(None);
        };
        let expected = field.op.wire();
        if wire == expected && field.op == Op::Group {
            let message = format!(
                "{} declares this field as a group, which is not supported; send a message field instead",
                node.message
            );
            return Err(Fault::new(ReasonCode::GroupField, message).within(&*field.name));
        }
        if wire == expected || field.packable && wire == WireType::Delimited {
            return Ok(Some((field, wire)));
        }
        let message = format!(
            "field number {number} arrived as {}, {} declares it as {}",
            wire.name(),
            node.message,
            expected.name()
        );
        // An end tag without a group is not a field.
        if wire == WireType::EndGroup {
            cursor.skip(number, wire, 0).map_err(|stray| Box::<Fault>::from(stray).within(&*field.name))?;
        }
        Err(Fault::new(ReasonCode::WrongWireType, message).within(&*field.name))
    }

    fn unknown(self, node: &Node, number: u32, wire: WireType, cursor: &mut Cursor<'_>, depth: u32) -> Walked<()> {
        let levels = self.contract.policies.recursion_limit.saturating_sub(depth);
        cursor
            .skip(number, wire, levels)
            .map_err(|malformed| Box::<Fault>::from(malformed).within(number.to_string()))?;
        self.signals.unknown.set(true);
        match self.contract.policies.unknown_fields {
            UnknownFields::Allow | UnknownFields::Warn => Ok(()),
            UnknownFields::Reject if self.signals.lenient => Ok(()),
            UnknownFields::Reject => {
                let message =
                    format!("{} has no field number {number}, and the contract rejects unknown fields", node.message);
                Err(Fault::new(ReasonCode::UnknownField, message).within(number.to_string()))
            }
        }
    }

    /// Reads one value and keeps it if it is wanted.
    #[inline(always)]
    fn value<'a>(
        self,
        field: &FieldPlan,
        cursor: &mut Cursor<'a>,
        depth: u32,
        out: &mut Fields<'a>,
        marks: &mut Marks,
    ) -> Walked<()> {
        for &slot in &field.clears {
            out.unset(slot);
        }
        match field.op {
            Op::Message => {
                let inner = cursor.delimited()?;
                self.enter(field, inner, depth, out)?;
                if RULES && field.check != NO_CHECK {
                    self.judge_inner(field, inner, marks);
                }
                if field.slot == NO_SLOT {
                } else if field.repeated {
                    out.push(field.slot, Value::Absent, Value::Message(inner));
                } else {
                    out.merge_message(field.slot, inner);
                }
            }
            Op::Map => {
                let inner = cursor.delimited()?;
                let (key, value) = self.entry(field, inner, depth, out)?;
                if RULES && field.check != NO_CHECK {
                    self.judge_entry(field, key, value, marks);
                }
                if field.slot != NO_SLOT {
                    out.push(field.slot, key, value);
                }
            }
            // Each value is read and kept in one arm, so that it stays in registers; a value returned by `scalar`
            // passes through memory.
            Op::Bool => self.keep(field, Value::Bool(cursor.varint()? != 0), out, marks),
            Op::Int32 => self.keep(field, Value::I32(truncate(cursor.varint()?).cast_signed()), out, marks),
            Op::Int64 => self.keep(field, Value::I64(cursor.varint()?.cast_signed()), out, marks),
            Op::Uint32 => self.keep(field, Value::U32(truncate(cursor.varint()?)), out, marks),
            Op::Uint64 => self.keep(field, Value::U64(cursor.varint()?), out, marks),
            Op::Double => self.keep(field, Value::F64(f64::from_bits(cursor.fixed64()?)), out, marks),
            Op::String => self.keep(field, Value::Str(text(cursor)?), out, marks),
            Op::Bytes => self.keep(field, Value::Bytes(cursor.delimited()?), out, marks),
            Op::Enum => {
                let number = self.enumeration(field, truncate(cursor.varint()?).cast_signed())?;
                self.keep(field, Value::Enum(number), out, marks);
            }
            Op::Sint32
            | Op::Sint64
            | Op::Fixed32
            | Op::Fixed64
            | Op::Sfixed32
            | Op::Sfixed64
            | Op::Float
            | Op::Group => {
                let value = self.scalar(field, cursor)?;
                self.keep(field, value, out, marks);
            }
        }
        Ok(())
    }

    /// Keeps a single value if it is wanted, and tests it.
    #[inline(always)]
    fn keep<'a>(self, field: &FieldPlan, value: Value<'a>, out: &mut Fields<'a>, marks: &mut Marks) {
        // Keep it first: in the other order, the value would be stored to memory during its test and read back at once.
        if field.slot == NO_SLOT {
        } else if field.repeated {
            out.push(field.slot, Value::Absent, value);
        } else {
            out.set(field.slot, value);
        }
        if RULES && field.check != NO_CHECK {
            self.judge(field, value, marks);
        }
    }

    fn scalar<'a>(self, field: &FieldPlan, cursor: &mut Cursor<'a>) -> Walked<Value<'a>> {
        Ok(match field.op {
            Op::Bool => Value::Bool(cursor.varint()? != 0),
            Op::Int32 => Value::I32(truncate(cursor.varint()?).cast_signed()),
            Op::Int64 => Value::I64(cursor.varint()?.cast_signed()),
            Op::Uint32 => Value::U32(truncate(cursor.varint()?)),
            Op::Uint64 => Value::U64(cursor.varint()?),
            Op::Sint32 => Value::I32(zigzag32(cursor.varint()?)),
            Op::Sint64 => Value::I64(zigzag64(cursor.varint()?)),
            Op::Fixed32 => Value::U32(cursor.fixed32()?),
            Op::Fixed64 => Value::U64(cursor.fixed64()?),
            Op::Sfixed32 => Value::I32(cursor.fixed32()?.cast_signed()),
            Op::Sfixed64 => Value::I64(cursor.fixed64()?.cast_signed()),
            Op::Float => Value::F32(f32::from_bits(cursor.fixed32()?)),
            Op::Double => Value::F64(f64::from_bits(cursor.fixed64()?)),
            Op::String => Value::Str(text(cursor)?),
            Op::Bytes => Value::Bytes(cursor.delimited()?),
            Op::Enum => Value::Enum(self.enumeration(field, truncate(cursor.varint()?).cast_signed())?),
            // Messages and maps are walked, and groups rejected, before a scalar is read.
            Op::Message | Op::Map | Op::Group => Value::Message(cursor.delimited()?),
        })
    }

    #[inline]
    fn enumeration(self, field: &FieldPlan, number: i32) -> Walked<i32> {
        if matches!(self.contract.policies.unknown_enums, UnknownEnums::Keep) {
            return Ok(number);
        }
        match self.contract.plan.enums.get(field.target as usize) {
            Some(table) if !table.contains(number) => self.unknown_enum(table.name(), number),
            _ => Ok(number),
        }
    }

    #[cold]
    fn unknown_enum(self, name: &str, number: i32) -> Walked<i32> {
        if self.signals.lenient {
            return Ok(number);
        }
        Err(Fault::new(ReasonCode::UnknownEnum, format!("{name} has no value with number {number}")))
    }

    /// The packed form of a repeated scalar.
    fn packed<'a>(
        self,
        field: &FieldPlan,
        cursor: &mut Cursor<'a>,
        out: &mut Fields<'a>,
        marks: &mut Marks,
    ) -> Walked<()> {
        let mut inner = Cursor::new(cursor.delimited()?);
        while !inner.is_empty() {
            let value = self.scalar(field, &mut inner)?;
            if RULES && field.check != NO_CHECK {
                self.judge(field, value, marks);
            }
            if field.slot != NO_SLOT {
                out.push(field.slot, Value::Absent, value);
            }
        }
        Ok(())
    }

    fn enter<'a>(self, field: &FieldPlan, bytes: &'a [u8], depth: u32, out: &mut Fields<'a>) -> Walked<()> {
        let node = self.node(field, depth)?;
        for &(slot, value) in &node.initial {
            out.set_if_absent(slot, value);
        }
        self.message(node, bytes, depth + 1, out)
    }

    fn node(self, field: &FieldPlan, depth: u32) -> Walked<&'c Node> {
        let limit = self.contract.policies.recursion_limit;
        match self.contract.plan.nodes.get(field.target as usize) {
            Some(node) if depth < limit => Ok(node),
            _ => Err(Fault::new(ReasonCode::RecursionLimit, format!("messages nest deeper than {limit} levels"))),
        }
    }

    /// Reads a map's entry: a message of a key (1) and a value (2), each its type's default if missing.
    fn entry<'a>(
        self,
        map: &FieldPlan,
        bytes: &'a [u8],
        depth: u32,
        out: &mut Fields<'a>,
    ) -> Walked<(Value<'a>, Value<'a>)> {
        let node = self.node(map, depth)?;
        let (mut key, mut value) = (Value::Absent, Value::Absent);
        let mut cursor = Cursor::new(bytes);
        let mut walk = || -> Walked<()> {
            while !cursor.is_empty() {
                let Some((field, _)) = self.uncommon(node, &mut cursor, depth + 1)? else { continue };
                let read = if field.op == Op::Message {
                    let inner = cursor.delimited()?;
                    if RULES && map.check != NO_CHECK && value != Value::Absent {
                        // The value was split into parts.
                        self.suspect();
                    }
                    value = if map.slot == NO_SLOT { Value::Message(inner) } else { out.join(value, inner) };
                    self.enter(field, inner, depth + 1, out)
                } else {
                    self.scalar(field, &mut cursor)
                        .map(|read| if field.number == MAP_KEY { key = read } else { value = read })
                };
                read.map_err(|fault| fault.within(&*field.name))?;
            }
            for (field, place) in node.fields.iter().zip([&mut key, &mut value]) {
                if *place == Value::Absent {
                    *place = default_scalar(field.op);
                    if field.op == Op::Message {
                        self.enter(field, &[], depth + 1, out)?;
                    }
                }
            }
            Ok(())
        };
        walk().map_err(|fault| match quoted(key) {
            Some(key) => fault.within(key),
            None => fault,
        })?;
        Ok((key, value))
    }
}

#[inline(always)]
fn text<'a>(cursor: &mut Cursor<'a>) -> Walked<Text<'a>> {
    Text::read(cursor.delimited()?).map_err(not_utf8)
}

fn default_scalar(op: Op) -> Value<'static> {
    match op {
        Op::Bool => Value::Bool(false),
        Op::Int32 | Op::Sint32 | Op::Sfixed32 => Value::I32(0),
        Op::Int64 | Op::Sint64 | Op::Sfixed64 => Value::I64(0),
        Op::Uint32 | Op::Fixed32 => Value::U32(0),
        Op::Uint64 | Op::Fixed64 => Value::U64(0),
        Op::Float => Value::F32(0.0),
        Op::Double => Value::F64(0.0),
        Op::String => Value::Str("".into()),
        Op::Bytes => Value::Bytes(&[]),
        // The first number of an enum in a map is zero, in closed enums too.
        Op::Enum => Value::Enum(0),
        Op::Message | Op::Map | Op::Group => Value::Message(&[]),
    }
}

#[cold]
fn not_utf8(after: usize) -> Box<Fault> {
    Fault::new(ReasonCode::InvalidUtf8, format!("the string is not UTF-8 after byte {after}"))
}
