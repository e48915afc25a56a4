//! A second pass for policies about whole messages: which numbers are unknown, and which oneofs are unset.
//!
//! It runs only if it can find something: the walk has met an unknown number, or unset oneofs are rejected and there
//! are oneofs. The payload has passed the walk, so the bytes are valid and known nodes exist.

use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message as _;

use super::place::locate;
use crate::notes::{Member, Notes, Policy};
use crate::plan::{Node, Op};
use crate::rejection::{Fault, ReasonCode};
use crate::wire::{Cursor, WireType};
use crate::{Contract, Rejection, UnknownFields, UnknownVariants, UnsetOneofs};

/// The findings of a survey.
#[derive(Default)]
struct Finds<'c> {
    /// Message types with their unknown field numbers.
    unknown: Vec<(&'c str, u32)>,
    /// Message types with an unset oneof next to an unknown field.
    variants: Vec<(&'c str, &'c str)>,
    /// Whether single parts may be misleading. If a singular message was split, a oneof that is unset in one part may
    /// be set in another. If a oneof was set twice, or a map has several entries, the earlier value may be replaced.
    split: bool,
}

impl Contract {
    /// Checks a payload that passed the walk against the policies for unknown fields and oneofs. `unknown` means that
    /// the walk met an unknown number.
    #[inline]
    pub(super) fn survey(&self, payload: &[u8], unknown: bool, notes: &mut Notes) -> Result<(), Rejection> {
        let policies = &self.policies;
        let unset = policies.unset_oneofs == UnsetOneofs::Reject && self.plan.has_oneofs;
        let variants = policies.unknown_variants != UnknownVariants::Allow && self.plan.has_oneofs;
        if unset || unknown && (variants || policies.unknown_fields == UnknownFields::Warn) {
            return self.look(payload, notes);
        }
        Ok(())
    }

    #[cold]
    fn look(&self, payload: &[u8], notes: &mut Notes) -> Result<(), Rejection> {
        let mut finds = Finds::default();
        let mut fault =
            self.examine_message(self.root(), payload, &mut finds).map_err(|fault| fault.into_rejection())?;
        if finds.split && (fault.is_some() || !finds.variants.is_empty()) {
            // Encoded again, the parts are merged, and unknown fields are kept.
            if let Ok(whole) = DynamicMessage::decode(self.message.clone(), payload) {
                let whole = whole.encode_to_vec();
                finds.variants.clear();
                let mut again = Finds::default();
                fault =
                    self.examine_message(self.root(), &whole, &mut again).map_err(|fault| fault.into_rejection())?;
                finds.variants.extend(again.variants);
            }
        }
        if let Some(fault) = fault {
            return Err(fault.into_rejection());
        }
        if self.policies.unknown_fields == UnknownFields::Warn {
            for (message, number) in finds.unknown {
                notes.add(Policy::UnknownFields, message, &Member::Number(number.into()));
            }
        }
        if self.policies.unknown_variants == UnknownVariants::Warn {
            for (message, oneof) in finds.variants {
                notes.add(Policy::UnknownVariants, message, &Member::Name(oneof.into()));
            }
        }
        Ok(())
    }

    /// Examines a message and those below it. Returns the first oneof that is not allowed; fails only on bytes that the
    /// walk would have rejected.
    fn examine_message<'c>(
        &'c self,
        node: &'c Node,
        bytes: &[u8],
        finds: &mut Finds<'c>,
    ) -> Result<Option<Box<Fault>>, Box<Fault>> {
        let mut cursor = Cursor::new(bytes);
        let mut set = vec![false; node.oneofs.len()];
        let mut entered: Vec<u32> = Vec::new();
        let mut fault = None;
        let mut unknown = false;
        while !cursor.is_empty() {
            let start = cursor.position();
            let (number, wire) = cursor.tag()?;
            let mut value = cursor;
            cursor.skip(number, wire, crate::Policies::MAX_RECURSION)?;
            let Some(field) = node.by_number(number) else {
                unknown = true;
                finds.unknown.push((&node.message, number));
                continue;
            };
            for (oneof, set) in node.oneofs.iter().zip(&mut set) {
                let member = oneof.members.contains(&number);
                finds.split |= member && *set;
                *set |= member;
            }
            if !matches!(field.op, Op::Message | Op::Map) || wire != WireType::Delimited {
                continue;
            }
            if !field.repeated {
                finds.split |= entered.contains(&number);
            }
            entered.push(number);
            let Some(inner) = self.plan.nodes.get(field.target as usize) else { continue };
            let found = self.examine_message(inner, value.delimited()?, finds)?;
            fault = fault.or_else(|| found.map(|found| locate(found, field, bytes, start)));
        }
        if node.is_entry {
            // A missing value of a map is an empty message.
            let value = node.fields.iter().find(|field| field.op == Op::Message && !entered.contains(&field.number));
            if let Some(inner) = value.and_then(|field| self.plan.nodes.get(field.target as usize)) {
                let found = self.examine_message(inner, &[], finds)?;
                fault = fault.or(found);
            }
        }
        Ok(fault.or(self.look_back(node, &set, unknown, finds)))
    }

    /// Examines a message's oneofs, at its end.
    fn look_back<'c>(&self, node: &'c Node, set: &[bool], unknown: bool, finds: &mut Finds<'c>) -> Option<Box<Fault>> {
        let refused = match unknown {
            true => self.policies.unknown_variants == UnknownVariants::Reject,
            false => self.policies.unset_oneofs == UnsetOneofs::Reject,
        };
        let mut fault = None;
        for (oneof, _) in node.oneofs.iter().zip(set).filter(|(_, set)| !**set) {
            if unknown {
                finds.variants.push((&node.message, &oneof.name));
            }
            if refused && fault.is_none() {
                fault = Some(unset(&node.message, &oneof.name, unknown));
            }
        }
        fault
    }
}

#[cold]
fn unset(message: &str, oneof: &str, unknown: bool) -> Box<Fault> {
    let (code, what) = match unknown {
        true => (
            ReasonCode::UnknownVariant,
            "it has field numbers that the contract does not have, possibly a variant of a newer producer",
        ),
        false => (ReasonCode::OneofUnset, "none of its variants is present"),
    };
    Fault::new(code, format!("{message} does not set the oneof {oneof}: {what}")).within(oneof)
}
