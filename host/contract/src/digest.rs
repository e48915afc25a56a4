//! The identity of a contract: a hash over everything that decides about a payload.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, Kind as ReflectKind, MessageDescriptor};

use crate::schema::{Shape, shapes};
use crate::{
    Absent, CanonicalHash, ClockSkew, Coercion, DuplicateMembers, Mode, Policies, Presence, TimeForm, TimeUnit,
    UnknownEnums, UnknownFields, UnknownVariants, UnsetOneofs, type_name,
};

/// Identifies the canonical form. Change it when the meaning of the values changes.
const FORM: &str = "tollgate-contract/2";

/// A message or enum type, by its full name.
enum Type {
    Message(Vec<Shape>),
    Enum(EnumDescriptor),
}

/// Computes the digest. `rules` is the rules' own canonical text, or empty if there are none.
pub(crate) fn of(top: &MessageDescriptor, policies: &Policies, rules: &str) -> [u8; 32] {
    let mut types = BTreeMap::new();
    let mut queue = vec![top.clone()];
    while let Some(message) = queue.pop() {
        if types.contains_key(message.full_name()) {
            continue;
        }
        let fields = shapes(&message);
        for shape in &fields {
            match &shape.kind {
                ReflectKind::Message(inner) => queue.push(inner.clone()),
                ReflectKind::Enum(inner) => {
                    types.entry(inner.full_name().to_owned()).or_insert_with(|| Type::Enum(inner.clone()));
                }
                _ => {}
            }
        }
        types.insert(message.full_name().to_owned(), Type::Message(fields));
    }
    let mut hash = CanonicalHash::new(FORM);
    hash.text(top.full_name());
    add_policies(&mut hash, policies);
    hash.count(types.len());
    for (name, kind) in &types {
        hash.text(name);
        match kind {
            Type::Message(fields) => {
                hash.text("message");
                hash.count(fields.len());
                fields.iter().for_each(|field| add_field(&mut hash, field));
            }
            // The values are in declaration order: the first value is the default, and the first alias is the displayed
            // name.
            Type::Enum(values) => {
                hash.text("enum");
                hash.count(values.values().len());
                for value in values.values() {
                    hash.number(value.number());
                    hash.text(value.name());
                }
            }
        }
    }
    hash.text(rules);
    hash.finish()
}

fn add_field(hash: &mut CanonicalHash, field: &Shape) {
    // Packed lists are ignored, because both forms are read.
    let Shape { number, name, json_name, kind, is_list, is_map, is_group, is_packed: _, presence, rivals } = field;
    hash.number(*number);
    hash.text(name);
    hash.text(json_name);
    hash.text(type_name(kind));
    [*is_list, *is_map, *is_group].into_iter().for_each(|flag| hash.flag(flag));
    hash.text(match presence {
        Presence::Implicit => "implicit",
        Presence::Explicit => "explicit",
        Presence::Required => "required",
    });
    hash.count(rivals.len());
    rivals.iter().for_each(|rival| hash.number(*rival));
}

fn add_policies(hash: &mut CanonicalHash, policies: &Policies) {
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
    } = policies;
    hash.text(match unknown_fields {
        UnknownFields::Allow => "allow",
        UnknownFields::Warn => "warn",
        UnknownFields::Reject => "reject",
    });
    match unknown_enums {
        UnknownEnums::Reject => hash.text("reject"),
        UnknownEnums::Keep => hash.text("keep"),
        UnknownEnums::Fallback(values) => {
            hash.text("fallback");
            hash.count(values.len());
            for (name, value) in values {
                hash.text(name);
                hash.text(value);
            }
        }
    }
    hash.text(match unset_oneofs {
        UnsetOneofs::Allow => "allow",
        UnsetOneofs::Reject => "reject",
    });
    hash.text(match unknown_variants {
        UnknownVariants::Allow => "allow",
        UnknownVariants::Warn => "warn",
        UnknownVariants::Reject => "reject",
    });
    hash.text(match duplicate_members {
        DuplicateMembers::Reject => "reject",
        DuplicateMembers::Last => "last",
    });
    hash.text(match absent {
        Absent::Default => "default",
        Absent::Null => "null",
        Absent::Reject => "reject",
    });
    hash.text(match mode {
        Mode::Observe => "observe",
        Mode::DeadLetter => "dead_letter",
        Mode::Halt => "halt",
    });
    hash.count(*max_bytes);
    hash.number(*recursion_limit);
    hash.count(clock_skew.len());
    clock_skew.iter().for_each(|clock| add_clock(hash, clock));
    hash.count(coerce.len());
    coerce.iter().for_each(|coercion| add_coercion(hash, coercion));
}

fn add_clock(hash: &mut CanonicalHash, clock: &ClockSkew) {
    let ClockSkew { field, unit, past, future } = clock;
    hash.text(field.as_str());
    hash.optional(*unit, |hash, unit| {
        hash.text(match unit {
            TimeUnit::Seconds => "seconds",
            TimeUnit::Millis => "millis",
            TimeUnit::Micros => "micros",
        });
    });
    for span in [past, future] {
        hash.optional(*span, |hash, span| hash.number(i128::try_from(span.as_nanos()).unwrap_or(i128::MAX)));
    }
}

fn add_coercion(hash: &mut CanonicalHash, coercion: &Coercion) {
    let Coercion { field, time } = coercion;
    hash.text(field.as_str());
    hash.count(time.forms.len());
    for form in &time.forms {
        hash.text(match form {
            TimeForm::Iso => "iso",
            TimeForm::UnixSeconds => "unix_s",
            TimeForm::UnixMillis => "unix_ms",
            TimeForm::UnixMicros => "unix_us",
            TimeForm::UnixDays => "days",
        });
    }
    hash.optional(time.between, |hash, between| {
        hash.number(between.from);
        hash.number(between.until);
    });
}
