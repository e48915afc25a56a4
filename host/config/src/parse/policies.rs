//! The policies of `contract:`.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate_contract::{
    Absent, ClockSkew, Coercion, DuplicateMembers, FieldPath, Mode, Policies, TimeForm, TimeUnit, UnknownEnums,
    UnknownFields, UnknownVariants, UnsetOneofs,
};

use super::conversion::read_time;
use super::names;
use crate::limits;
use crate::reader::{Complaint, Field, Table, bytes_within, choice, duration_within, text};

/// Reads the policies, which are keys of `contract:` itself.
pub(super) fn read(table: &Table<'_>) -> Policies {
    let fields = [("allow", UnknownFields::Allow), ("warn", UnknownFields::Warn), ("reject", UnknownFields::Reject)];
    let unset = [("allow", UnsetOneofs::Allow), ("reject", UnsetOneofs::Reject)];
    let variants =
        [("allow", UnknownVariants::Allow), ("warn", UnknownVariants::Warn), ("reject", UnknownVariants::Reject)];
    let duplicates = [("reject", DuplicateMembers::Reject), ("last", DuplicateMembers::Last)];
    let modes = [("observe", Mode::Observe), ("dead_letter", Mode::DeadLetter), ("halt", Mode::Halt)];
    Policies {
        unknown_fields: table.or("unknown_fields", choice(&fields), UnknownFields::default()),
        unknown_enums: table.field("unknown_enums").and_then(|field| read_enums(&field)).unwrap_or_default(),
        unset_oneofs: table.or("unset_oneofs", choice(&unset), UnsetOneofs::default()),
        unknown_variants: table.or("unknown_variants", choice(&variants), UnknownVariants::default()),
        duplicate_members: table.or("duplicate_members", choice(&duplicates), DuplicateMembers::default()),
        absent: read_absent(table).unwrap_or_default(),
        coerce: table.table("coerce", |table| Some(read_coercions(table))).unwrap_or_default(),
        clock_skew: table.table("clock_skew", |table| Some(read_clocks(table))).unwrap_or_default(),
        mode: table.or("mode", choice(&modes), Mode::default()),
        max_bytes: table.or("max_bytes", bytes_within(1, limits::EVENT_BYTES_MAX), limits::EVENT_BYTES),
        ..Policies::default()
    }
}

/// Reads `absent:` of a contract or a column. YAML's null means the word `null`.
pub(super) fn read_absent(table: &Table<'_>) -> Option<Absent> {
    let words = [("default", Absent::Default), ("null", Absent::Null), ("reject", Absent::Reject)];
    let field = table.entry("absent")?;
    if field.is_null() { Some(Absent::Null) } else { field.scalar(choice(&words)) }
}

/// Reads `reject`, `keep`, or `{ fallback: { enum: value } }`.
fn read_enums(field: &Field<'_>) -> Option<UnknownEnums> {
    if !field.is_table() {
        let words = [("reject", false), ("keep", true)];
        let word = |text: &str| match text {
            "fallback" => Err(Complaint::new(
                "needs a value for each enum: { fallback: { payments.v1.Currency: CURRENCY_UNSPECIFIED } }",
            )),
            _ => choice(&words)(text),
        };
        return field.scalar(word).map(|keep| if keep { UnknownEnums::Keep } else { UnknownEnums::Reject });
    }
    field.table(|table| {
        table.need_table("fallback", |named| {
            let named = named.any().into_iter();
            let named: BTreeMap<String, String> =
                named.filter_map(|(name, field)| Some((name, field.scalar(text)?))).collect();
            Some(UnknownEnums::Fallback(named))
        })
    })
}

/// Reads the accepted JSON forms of fields, by path.
fn read_coercions(table: &Table<'_>) -> Vec<Coercion> {
    let mut coercions = Vec::new();
    for (path, field) in table.any() {
        if let Err(complaint) = names::field_path(&path) {
            field.complain::<()>(format!("the field {}", complaint.message));
            continue;
        }
        coercions.extend(field.table(|forms| {
            forms.need_field("time");
            let time = read_time(forms)?;
            if time.forms.contains(&TimeForm::UnixDays) {
                forms.error(
                    "time",
                    "lists unix_days, which is a date; a Timestamp allows iso, unix_s, unix_ms and unix_us",
                );
            }
            Some(Coercion { field: FieldPath::new(path.as_str()), time })
        }));
    }
    coercions
}

/// Reads the clock bounds of fields, by path.
fn read_clocks(table: &Table<'_>) -> Vec<ClockSkew> {
    let units = [("unix_s", TimeUnit::Seconds), ("unix_ms", TimeUnit::Millis), ("unix_us", TimeUnit::Micros)];
    let mut clocks = Vec::new();
    for (path, field) in table.any() {
        if let Err(complaint) = names::field_path(&path) {
            field.complain::<()>(format!("the field {}", complaint.message));
            continue;
        }
        clocks.extend(field.table(|clock| {
            let unit = clock.get("as", choice(&units));
            let bound = duration_within(Duration::ZERO, limits::CLOCK_SKEW_MAX);
            let (past, future) = (clock.get("past", &bound), clock.get("future", &bound));
            if past.is_none() && future.is_none() {
                clock.error_at(clock.path(), "has no bound; set past, future or both");
            }
            Some(ClockSkew { field: FieldPath::new(path.as_str()), unit, past, future })
        }));
    }
    clocks
}
