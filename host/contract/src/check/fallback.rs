//! Fallbacks: rewrites a payload with its unknown enum numbers replaced. This is rare, so it may copy.

use prost::encoding::encode_varint;

use crate::notes::{Member, Notes};
use crate::plan::{FieldPlan, Node, Op};
use crate::wire::{Cursor, Malformed, WireType, put_tag, truncate};
use crate::{Contract, EnumTable};

/// Returned if the bytes are not a message, or nest too deep. The check reports this in more detail.
struct Broken;

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl Contract {
    /// Returns whether an enum has a fallback; then [`Contract::apply_fallbacks`] may fix a payload that was rejected for an
    /// unknown enum number.
    #[must_use]
    pub fn has_fallbacks(&self) -> bool {
        self.fallbacks.iter().any(Option::is_some)
    }

    /// Writes the payload to `out` (cleared first), with every unknown number of an enum that has a fallback replaced
    /// by it, and records the replacements in `notes`. All other bytes stay the same, except for the lengths around a
    /// replacement.
    ///
    /// Returns `false` if there was nothing to replace or the bytes are not a message; then `out` is meaningless. The
    /// result must still be checked.
    pub fn apply_fallbacks(&self, payload: &[u8], out: &mut Vec<u8>, notes: &mut Notes) -> bool {
        out.clear();
        let mut fallbacks = Fallbacks { contract: self, notes, path: Vec::new(), replaced: false };
        fallbacks.message(self.root(), payload, 0, out).is_ok() && fallbacks.replaced
    }
}

struct Fallbacks<'c, 'n> {
    contract: &'c Contract,
    notes: &'n mut Notes,
    path: Vec<&'c str>,
    replaced: bool,
}

impl<'c> Fallbacks<'c, '_> {
    fn message(&mut self, node: &'c Node, bytes: &[u8], depth: u32, out: &mut Vec<u8>) -> Result<(), Broken> {
        let limit = self.contract.policies.recursion_limit;
        if depth > limit {
            return Err(Broken);
        }
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            let start = cursor.position();
            let (number, wire) = cursor.tag()?;
            let value = cursor;
            cursor.skip(number, wire, limit.saturating_sub(depth))?;
            let whole = bytes.get(start..cursor.position()).unwrap_or_default();
            match node.by_number(number) {
                Some(field) => self.field(field, wire, value, whole, depth, out)?,
                None => out.extend_from_slice(whole),
            }
        }
        Ok(())
    }

    /// Copies one field. `value` is the rest after its tag, and `whole` the bytes including the tag.
    fn field(
        &mut self,
        field: &'c FieldPlan,
        wire: WireType,
        mut value: Cursor<'_>,
        whole: &[u8],
        depth: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let contract = self.contract;
        self.path.push(&field.name);
        match field.op {
            Op::Message | Op::Map if wire == WireType::Delimited => {
                let node = contract.plan.nodes.get(field.target as usize).ok_or(Broken)?;
                let mut inner = Vec::new();
                self.message(node, value.delimited()?, depth + 1, &mut inner)?;
                put_delimited(field.number, &inner, out);
            }
            Op::Enum if wire == WireType::Delimited && field.packable => {
                let mut items = Cursor::new(value.delimited()?);
                let mut inner = Vec::new();
                while !items.is_empty() {
                    let raw = items.varint()?;
                    encode_varint(self.number(field, raw).unwrap_or(raw), &mut inner);
                }
                put_delimited(field.number, &inner, out);
            }
            Op::Enum if wire == WireType::Varint => match self.number(field, value.varint()?) {
                Some(number) => {
                    put_tag(field.number, WireType::Varint, out);
                    encode_varint(number, out);
                }
                None => out.extend_from_slice(whole),
            },
            _ => out.extend_from_slice(whole),
        }
        self.path.pop();
        Ok(())
    }

    /// Returns the replacement of a number, as its varint; `None` if the number may stay or has no fallback.
    fn number(&mut self, field: &FieldPlan, raw: u64) -> Option<u64> {
        let place = field.target as usize;
        let number = truncate(raw).cast_signed();
        let table: &EnumTable = self.contract.plan.enums.get(place)?;
        let fallback = (*self.contract.fallbacks.get(place)?)?;
        if table.contains(number) {
            return None;
        }
        let path: Vec<&str> = self.path.iter().copied().filter(|name| !name.is_empty()).collect();
        self.notes.replace(&path.join("."), table.name(), &Member::Number(number.into()));
        self.replaced = true;
        Some(i64::from(fallback).cast_unsigned())
    }
}

fn put_delimited(number: u32, inner: &[u8], out: &mut Vec<u8>) {
    put_tag(number, WireType::Delimited, out);
    encode_varint(inner.len() as u64, out);
    out.extend_from_slice(inner);
}
