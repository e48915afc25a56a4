//! The identity of a contract: a hash over a canonical text of everything that decides about a payload.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{EnumDescriptor, Kind as ReflectKind, MessageDescriptor};
use sha2::{Digest as _, Sha256};

use crate::schema::shapes;
use crate::{DuplicateMembers, Policies};

/// Identifies the canonical form; to be raised when the meaning of the text changes.
const FORM: &str = "tollgate-contract/1";

/// `rules` is the rules' own canonical text; empty if there are none.
pub(crate) fn of(top: &MessageDescriptor, policies: &Policies, rules: &str) -> [u8; 32] {
    let mut types = BTreeMap::new();
    let mut queue = vec![top.clone()];
    while let Some(message) = queue.pop() {
        if types.contains_key(message.full_name()) {
            continue;
        }
        let mut text = String::new();
        for shape in shapes(&message) {
            let kind = match &shape.kind {
                ReflectKind::Message(inner) => {
                    queue.push(inner.clone());
                    inner.full_name().to_owned()
                }
                ReflectKind::Enum(inner) => {
                    types.entry(inner.full_name().to_owned()).or_insert_with(|| enum_text(inner));
                    inner.full_name().to_owned()
                }
                scalar => format!("{scalar:?}"),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "field {} {} {} {kind} list={} map={} group={} {:?} rivals={:?}",
                shape.number,
                shape.name,
                shape.json_name,
                shape.is_list,
                shape.is_map,
                shape.is_group,
                shape.presence,
                shape.rivals
            );
        }
        types.insert(message.full_name().to_owned(), text);
    }

    let mut hash = Sha256::new();
    hash.update(format!("{FORM}\nmessage {}\n{:?}\n", top.full_name(), Text(policies)));
    for (name, text) in types {
        hash.update(format!("type {name}\n{text}"));
    }
    hash.update(rules);
    hash.finalize().into()
}

/// Formats the policies like a derived `Debug`, but omits later additions with their default value, so that contracts compiled by
/// an older release keep their digest.
struct Text<'p>(&'p Policies);

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Policies {
            unknown_fields,
            unknown_enums,
            unset_oneofs,
            unknown_variants,
            duplicate_members,
            absent,
            clock_skew,
            coerce,
            mode,
            max_bytes,
            recursion_limit,
        } = self.0;
        let mut text = f.debug_struct("Policies");
        text.field("unknown_fields", unknown_fields)
            .field("unknown_enums", unknown_enums)
            .field("unset_oneofs", unset_oneofs)
            .field("unknown_variants", unknown_variants)
            .field("absent", absent)
            .field("clock_skew", clock_skew)
            .field("mode", mode)
            .field("max_bytes", max_bytes)
            .field("recursion_limit", recursion_limit);
        if *duplicate_members != DuplicateMembers::default() {
            text.field("duplicate_members", duplicate_members);
        }
        if !coerce.is_empty() {
            text.field("coerce", coerce);
        }
        text.finish()
    }
}

fn enum_text(descriptor: &EnumDescriptor) -> String {
    // In declaration order: the first value is the default, and the first alias is the displayed name.
    descriptor.values().map(|value| format!("value {} {}\n", value.number(), value.name())).collect()
}
