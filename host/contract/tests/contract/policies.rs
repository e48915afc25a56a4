//! Tests every setting of every policy, on the wire and in JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_contract::{
    ClockSkew, Contract, Fields, Notes, Policies, Rejection, Slot, TimeUnit, UnknownEnums, UnknownFields,
    UnknownVariants, UnsetOneofs, Value,
};

use super::common::{bytes, contract, int, pool, text, varint};

const MESSAGE: &str = "policies.v1.Payment";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn payment(policies: Policies, fields: &[&str]) -> Contract {
    contract(MESSAGE, policies, fields)
}

fn admit(contract: &Contract, payload: &[u8]) -> (Result<(), Rejection>, Notes) {
    let mut notes = Notes::new();
    let verdict = contract.admit(payload, &mut Fields::new(), now(), &mut notes);
    (verdict, notes)
}

/// Returns `ok` or `code field`, followed by the notes: `policy type member xcount`.
fn told(contract: &Contract, payload: &[u8]) -> String {
    let (verdict, notes) = admit(contract, payload);
    let verdict = match verdict {
        Ok(()) => "ok".to_owned(),
        Err(rejection) => format!("{} {}", rejection.code, rejection.field).trim_end().to_owned(),
    };
    let notes = notes.iter().map(|note| {
        let name = note.type_name.trim_start_matches("policies.v1.");
        format!("; {} {name} {} x{}", note.policy.as_str(), note.member, note.count)
    });
    std::iter::once(verdict).chain(notes).collect()
}

#[track_caller]
fn expect(contract: &Contract, cases: &[(&str, Vec<u8>, &str)]) {
    for (name, payload, expected) in cases {
        assert_eq!(told(contract, payload), *expected, "{name}");
    }
}

fn fields(unknown_fields: UnknownFields) -> Policies {
    Policies { unknown_fields, unknown_variants: UnknownVariants::Allow, ..Policies::default() }
}

#[test]
fn unknown_fields_pass_pass_with_a_note_or_do_not() {
    let nested =
        [int(99, 1), int(98, 1), int(99, 2), bytes(20, &text(97, "x")), bytes(3, &bytes(2, &int(96, 1)))].concat();
    expect(&payment(fields(UnknownFields::Allow), &[]), &[("allow", nested.clone(), "ok")]);
    let noted = "ok; unknown_fields Payment 99 x2; unknown_fields Payment 98 x1; unknown_fields Cash 97 x1; \
                 unknown_fields Method 96 x1";
    expect(
        &payment(fields(UnknownFields::Warn), &[]),
        &[("warn", nested.clone(), noted), ("nothing", int(4, 1), "ok")],
    );
    expect(&payment(fields(UnknownFields::Reject), &[]), &[("reject", nested, "unknown-field 99")]);
}

#[test]
fn what_is_unknown_in_a_message_that_comes_in_parts_is_noted_once_for_each_time() {
    let parts = [bytes(1, &[text(1, "c"), int(99, 1)].concat()), bytes(1, &int(99, 1))].concat();
    let warn = payment(fields(UnknownFields::Warn), &[]);
    expect(&warn, &[("parts", parts, "ok; unknown_fields Method 99 x2")]);
}

#[test]
fn unknown_keys_of_json_follow_the_same_policy() {
    let json = br#"{"text": "a", "surprise": 1, "method": {"card": "x", "nfc": {}}, "methods": [{"nfc": 1}]}"#;
    let mut out = Vec::new();
    let mut notes = Notes::new();
    payment(fields(UnknownFields::Allow), &[]).transcode_json_noting(json, &mut out, &mut notes).unwrap();
    assert!(notes.is_empty());
    payment(fields(UnknownFields::Warn), &[]).transcode_json_noting(json, &mut out, &mut notes).unwrap();
    let mut told: Vec<String> =
        notes.iter().map(|note| format!("{} {} x{}", note.type_name, note.member, note.count)).collect();
    told.sort();
    assert_eq!(told, ["policies.v1.Method nfc x2", "policies.v1.Payment surprise x1"]);
    let reject = payment(fields(UnknownFields::Reject), &[]);
    let mut notes = Notes::new();
    let refused = reject.transcode_json_noting(json, &mut out, &mut notes).unwrap_err();
    assert_eq!((refused.code.as_str(), refused.field.as_str()), ("unknown-field", "surprise"));
    reject.transcode_json_anyway(json, &mut out, &mut notes).unwrap();
    assert!(notes.is_empty(), "what was refused is told as refused, not as let pass");
    assert_eq!(reject.to_json(&out).unwrap(), r#"{"method":{"card":"x"},"methods":[{}],"text":"a"}"#);
}

fn fallbacks(of: &[(&str, &str)]) -> Policies {
    let of: BTreeMap<String, String> = of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Policies { unknown_enums: UnknownEnums::Fallback(of), ..Policies::default() }
}

#[test]
fn unknown_enum_numbers_are_refused_kept_or_replaced() {
    let nine = int(5, 9);
    expect(&payment(Policies::default(), &[]), &[("reject", nine.clone(), "unknown-enum currency")]);
    let keep = Policies { unknown_enums: UnknownEnums::Keep, ..Policies::default() };
    expect(&payment(keep, &[]), &[("keep", nine.clone(), "ok")]);

    let contract = payment(fallbacks(&[("policies.v1.Currency", "CURRENCY_LAST")]), &["currency"]);
    expect(&contract, &[("until it is mended", nine.clone(), "unknown-enum currency")]);
    let mut out = Vec::new();
    let mut notes = Notes::new();
    assert!(contract.apply_fallbacks(&nine, &mut out, &mut notes));
    let mut read = Fields::new();
    contract.check(&out, &mut read).unwrap();
    assert_eq!(read.get(Slot(0)), Value::Enum(-1));
}

/// Returns the fixed payload, if there is one, and the replacements as `field=was`.
fn mended(contract: &Contract, payload: &[u8]) -> (Option<Vec<u8>>, String) {
    let mut out = Vec::new();
    let mut notes = Notes::new();
    let done = contract.apply_fallbacks(payload, &mut out, &mut notes);
    let told: Vec<String> =
        notes.take_replaced().iter().map(|replaced| format!("{}={}", replaced.field, replaced.was)).collect();
    (done.then_some(out), told.join(","))
}

#[test]
fn a_fallback_reaches_every_place_and_leaves_the_rest_alone() {
    let contract = payment(fallbacks(&[("policies.v1.Currency", "CURRENCY_EURO"), ("legacy.v1.Mode", "TWO")]), &[]);
    let far = varint(i64::cast_unsigned(-7));
    let packed = |items: &[&[u8]]| bytes(6, &items.concat());
    let cases = [
        ("known", int(5, 1), None, ""),
        ("singular", int(5, 9), Some(int(5, 1)), "currency=9"),
        ("negative", [vec![5 << 3], far.clone()].concat(), Some(int(5, 1)), "currency=-7"),
        (
            "packed",
            packed(&[&[1], &[9], &far, &[0]]),
            Some(packed(&[&[1], &[1], &[1], &[0]])),
            "currencies=9,currencies=-7",
        ),
        (
            "repeated, not packed",
            [int(6, 9), int(6, 1)].concat(),
            Some([int(6, 1), int(6, 1)].concat()),
            "currencies=9",
        ),
        (
            "a map's value",
            bytes(7, &[text(1, "k"), int(2, 9)].concat()),
            Some(bytes(7, &[text(1, "k"), int(2, 1)].concat())),
            "by_name=9",
        ),
        ("nested", bytes(20, &int(1, 9)), Some(bytes(20, &int(1, 1))), "cash.currency=9"),
        (
            "below a oneof, a list and a map",
            [bytes(2, &bytes(2, &int(1, 9))), bytes(3, &[text(1, "k"), bytes(2, &bytes(2, &int(1, 8)))].concat())]
                .concat(),
            Some(
                [bytes(2, &bytes(2, &int(1, 1))), bytes(3, &[text(1, "k"), bytes(2, &bytes(2, &int(1, 1)))].concat())]
                    .concat(),
            ),
            "methods.cash.currency=9,named.cash.currency=8",
        ),
        ("closed", int(9, 7), Some(int(9, 2)), "mode=7"),
        ("not named", int(8, 9), None, ""),
        ("one of two named", [int(8, 9), int(5, 9)].concat(), Some([int(8, 9), int(5, 1)].concat()), "currency=9"),
        (
            "beside unknown fields and a length that takes a byte more",
            [int(99, 9), bytes(20, &[int(1, 9), text(99, &"x".repeat(124))].concat())].concat(),
            Some([int(99, 9), bytes(20, &[int(1, 1), text(99, &"x".repeat(124))].concat())].concat()),
            "cash.currency=9",
        ),
        ("no message", [int(5, 9), vec![0xff]].concat(), None, "currency=9"),
    ];
    for (name, payload, expected, told) in cases {
        let (found, replaced) = mended(&contract, &payload);
        assert_eq!((found, replaced.as_str()), (expected, told), "{name}");
    }
    let not_named = [int(8, 9), int(5, 1)].concat();
    expect(&contract, &[("an enum that is not named", not_named, "unknown-enum other")]);
    assert!(!payment(Policies::default(), &[]).has_fallbacks());
}

#[test]
fn a_fallback_stands_for_unknown_names_of_json() {
    let contract = payment(fallbacks(&[("policies.v1.Currency", "CURRENCY_EUR")]), &[]);
    let json = br#"{"currency": "CURRENCY_XAU", "byName": {"a": "CURRENCY_EUR", "b": "GOLD"}, "currencies": ["?", 9],
                    "method": {"cash": {"currency": "SILVER"}}}"#;
    let (mut out, mut notes) = (Vec::new(), Notes::new());
    contract.transcode_json_noting(json, &mut out, &mut notes).unwrap();
    let mut told: Vec<String> =
        notes.take_replaced().iter().map(|replaced| format!("{}={}", replaced.field, replaced.was)).collect();
    told.sort();
    assert_eq!(told, ["by_name=GOLD", "currencies=?", "currency=CURRENCY_XAU", "method.cash.currency=SILVER"]);
    // The number must still be fixed, like any other.
    let mut whole = Vec::new();
    assert!(contract.apply_fallbacks(&out, &mut whole, &mut notes));
    contract.check(&whole, &mut Fields::new()).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&contract.to_json(&whole).unwrap()).unwrap();
    assert_eq!(shown["currencies"], serde_json::json!(["CURRENCY_EUR", "CURRENCY_EUR"]));
    let refused = contract.transcode_json(br#"{"other": "GOLD"}"#, &mut out).unwrap_err();
    assert_eq!(refused.code.as_str(), "unknown-enum");
    let refused = contract.transcode_json_anyway(br#"{"other": "GOLD"}"#, &mut out, &mut notes).unwrap_err();
    assert_eq!(refused.code.as_str(), "unknown-enum", "a name without a number cannot go on");
}

fn oneofs(unset_oneofs: UnsetOneofs, unknown_variants: UnknownVariants) -> Contract {
    payment(Policies { unset_oneofs, unknown_variants, ..Policies::default() }, &[])
}

#[test]
fn an_unset_oneof_passes_or_is_refused() {
    let (set, unset) = (bytes(1, &text(1, "c")), bytes(1, &text(3, "n")));
    expect(
        &oneofs(UnsetOneofs::Allow, UnknownVariants::Reject),
        &[("allow", unset.clone(), "ok"), ("set", set.clone(), "ok")],
    );
    let entry = |inner: &[u8]| bytes(3, &[text(1, "k"), inner.to_vec()].concat());
    expect(
        &oneofs(UnsetOneofs::Reject, UnknownVariants::Allow),
        &[
            ("set", set, "ok"),
            ("set to the empty text", bytes(1, &text(1, "")), "ok"),
            ("set to an empty message", bytes(1, &bytes(2, &[])), "ok"),
            ("unset", unset, "oneof-unset method.kind"),
            ("an empty message", bytes(1, &[]), "oneof-unset method.kind"),
            ("no message: its oneof is not asked for", int(4, 1), "ok"),
            ("in a list", [bytes(2, &text(1, "c")), bytes(2, &[])].concat(), "oneof-unset methods[1].kind"),
            ("in a map", entry(&bytes(2, &[])), "oneof-unset named.kind"),
            ("in a map's missing value", entry(&[]), "oneof-unset named.kind"),
            ("set in the second part", [bytes(1, &text(3, "n")), bytes(1, &text(1, "c"))].concat(), "ok"),
            ("unset in both parts", [bytes(1, &text(3, "n")), bytes(1, &[])].concat(), "oneof-unset method.kind"),
            ("an unknown variant is another policy's", bytes(1, &int(9, 1)), "ok"),
            ("unset in a displaced variant", bytes(1, &[bytes(4, &[]), text(1, "c")].concat()), "ok"),
            (
                "unset in what took its place",
                bytes(1, &[text(1, "c"), bytes(4, &[])].concat()),
                "oneof-unset method.behind.kind",
            ),
            ("unset in a replaced entry", [entry(&bytes(2, &[])), entry(&bytes(2, &text(1, "c")))].concat(), "ok"),
        ],
    );
}

#[test]
fn an_unknown_variant_passes_passes_with_a_note_or_is_refused() {
    let variant = bytes(1, &int(9, 1));
    let beside = bytes(1, &[text(1, "c"), int(9, 1)].concat());
    let parts = [bytes(1, &int(9, 1)), bytes(1, &text(1, "c"))].concat();
    expect(&oneofs(UnsetOneofs::Allow, UnknownVariants::Allow), &[("allow", variant.clone(), "ok")]);
    expect(
        &oneofs(UnsetOneofs::Allow, UnknownVariants::Warn),
        &[
            ("warn", variant.clone(), "ok; unknown_variants Method kind x1"),
            ("a field beside a variant", beside.clone(), "ok"),
            ("unknown elsewhere", [int(99, 1), bytes(1, &[])].concat(), "ok"),
            ("set in another part", parts.clone(), "ok"),
        ],
    );
    expect(
        &oneofs(UnsetOneofs::Allow, UnknownVariants::Reject),
        &[
            ("reject", variant.clone(), "unknown-variant method.kind"),
            ("a field beside a variant", beside, "ok"),
            ("in a list", [bytes(2, &text(1, "c")), bytes(2, &int(9, 1))].concat(), "unknown-variant methods[1].kind"),
            ("set in another part", parts, "ok"),
        ],
    );
    // If unknown fields are refused, they are reported first.
    let strict = Policies { unknown_fields: UnknownFields::Reject, ..Policies::default() };
    expect(&payment(strict, &[]), &[("strict", variant, "unknown-field method.9")]);
}

fn clock(field: &str, unit: Option<TimeUnit>) -> ClockSkew {
    ClockSkew {
        field: field.into(),
        unit,
        past: Some(Duration::from_secs(3_600)),
        future: Some(Duration::from_secs(60)),
    }
}

#[test]
fn clocks_in_every_form_are_held_against_the_batchs_time() {
    let now = 1_800_000_000_u64;
    let skews = [
        clock("at", None),
        clock("at_ms", Some(TimeUnit::Millis)),
        clock("at_s", Some(TimeUnit::Seconds)),
        clock("at_us", Some(TimeUnit::Micros)),
    ];
    let contract = payment(Policies { clock_skew: skews.into(), ..Policies::default() }, &["text"]);
    let at = |seconds: u64, nanos: u64| bytes(10, &[int(1, seconds), int(2, nanos)].concat());
    let us = |us: u64| [vec![13 << 3 | 1], us.to_le_bytes().to_vec()].concat();
    let s = |s: u64| int(12, s);
    let ms = |ms: u64| int(11, ms);
    expect(
        &contract,
        &[
            ("nothing set", text(14, "a"), "ok"),
            ("now", [at(now, 0), ms(now * 1_000), s(now), us(now * 1_000_000)].concat(), "ok"),
            ("last nanosecond", at(now + 60, 0), "ok"),
            ("a nanosecond too late", at(now + 60, 1), "clock-skew at"),
            ("earliest", at(now - 3_600, 0), "ok"),
            ("a nanosecond too early", at(now - 3_601, 999_999_999), "clock-skew at"),
            ("an empty timestamp is 1970", at(0, 0), "clock-skew at"),
            ("no timestamp at all", at(now, 1_000_000_000), "clock-skew at"),
            ("in parts", [bytes(10, &int(1, 5)), bytes(10, &int(1, now))].concat(), "ok"),
            ("milliseconds, late", ms(now * 1_000 + 60_001), "clock-skew at_ms"),
            ("seconds where milliseconds are meant", ms(now), "clock-skew at_ms"),
            ("zero without presence is not set", ms(0), "ok"),
            ("zero with presence is", s(0), "clock-skew at_s"),
            ("microseconds", us((now - 3_601) * 1_000_000), "clock-skew at_us"),
            ("negative", ms(u64::MAX), "clock-skew at_ms"),
        ],
    );
    let (verdict, _) = admit(&contract, &ms((now + 7_300) * 1_000));
    let message = "is 2 h 1 min after the time at which its batch was received, but the contract allows 60 s";
    assert_eq!(verdict.unwrap_err().message, message);
    assert_eq!(contract.fields().len(), 1, "the clocks are nobody's wanted fields");
    let only_future = ClockSkew { past: None, ..clock("at", None) };
    let open = payment(Policies { clock_skew: vec![only_future], ..Policies::default() }, &[]);
    expect(&open, &[("long ago", at(1, 0), "ok"), ("late", at(now + 61, 0), "clock-skew at")]);
}

#[test]
fn what_was_refused_can_be_read_unless_it_is_broken() {
    let skew = vec![clock("at_ms", Some(TimeUnit::Millis))];
    let policies = Policies {
        unknown_fields: UnknownFields::Reject,
        unset_oneofs: UnsetOneofs::Reject,
        clock_skew: skew,
        ..Policies::default()
    };
    let contract = payment(policies, &["text", "currency"]);
    let payload = [int(5, 9), int(99, 1), bytes(1, &[]), int(11, 1), text(14, "kept")].concat();
    assert_eq!(told(&contract, &payload), "unknown-enum currency");
    let mut read = Fields::new();
    contract.read(&payload, &mut read).unwrap();
    assert_eq!((read.get(Slot(0)), read.get(Slot(1))), (Value::Str("kept".into()), Value::Enum(9)));
    let broken = contract.read(&[payload, vec![14 << 3 | 2, 200]].concat(), &mut Fields::new()).unwrap_err();
    assert_eq!((broken.code.as_str(), broken.code.is_readable()), ("undecodable", false));
}

#[test]
fn names_are_checked_when_the_contract_is_compiled() {
    let problem = |policies: Policies| Contract::compile(&pool(), MESSAGE, policies, &[]).unwrap_err().to_string();
    assert_eq!(
        problem(fallbacks(&[("policies.v1.Curency", "CURRENCY_EUR")])),
        "unknown_enums.fallback: policies.v1.Payment uses no enum policies.v1.Curency; did you mean policies.v1.Currency or policies.v1.Other?"
    );
    assert!(problem(fallbacks(&[("rich.v1.Color", "RED")])).contains("uses no enum rich.v1.Color"));
    assert_eq!(
        problem(fallbacks(&[("legacy.v1.Mode", "TW")])),
        "unknown_enums.fallback: enum legacy.v1.Mode has no value TW; did you mean TWO?"
    );
    let skew = |field: &str, unit| Policies { clock_skew: vec![clock(field, unit)], ..Policies::default() };
    assert!(problem(skew("att", None)).contains("has no field att; did you mean at"));
    for (field, unit, expected) in [
        ("at", Some(TimeUnit::Millis), "clock_skew: field at is a Timestamp, which needs no unit"),
        ("at_ms", None, "clock_skew: field at_ms is a whole number; set `as` to"),
        ("text", None, "clock_skew: field text is string, which is not a time"),
    ] {
        let problem = problem(skew(field, unit));
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn every_policy_enters_the_digest() {
    let base = Policies::default();
    let others = [
        base.clone(),
        Policies { unknown_fields: UnknownFields::Warn, ..base.clone() },
        Policies { unknown_fields: UnknownFields::Reject, ..base.clone() },
        Policies { unknown_enums: UnknownEnums::Keep, ..base.clone() },
        fallbacks(&[("legacy.v1.Mode", "ONE")]),
        fallbacks(&[("legacy.v1.Mode", "TWO")]),
        Policies { unset_oneofs: UnsetOneofs::Reject, ..base.clone() },
        Policies { unknown_variants: UnknownVariants::Allow, ..base.clone() },
        Policies { unknown_variants: UnknownVariants::Reject, ..base.clone() },
        Policies { absent: tollgate_contract::Absent::Null, ..base.clone() },
        Policies { absent: tollgate_contract::Absent::Reject, ..base.clone() },
        Policies { mode: tollgate_contract::Mode::Observe, ..base.clone() },
        Policies { mode: tollgate_contract::Mode::Halt, ..base.clone() },
        Policies { clock_skew: vec![clock("at", None)], ..base.clone() },
        Policies { clock_skew: vec![ClockSkew { past: None, ..clock("at", None) }], ..base.clone() },
        Policies { max_bytes: 7, ..base.clone() },
        Policies { recursion_limit: 7, ..base },
    ];
    let digests: std::collections::BTreeSet<[u8; 32]> =
        others.iter().map(|policies| payment(policies.clone(), &[]).digest()).collect();
    assert_eq!(digests.len(), others.len());
}
