//! Tests Protobuf's JSON mapping: what is accepted, what is refused and where, and what is written.

use super::common::{bytes, contract, int, text};
use tollgate_contract::{Contract, DuplicateMembers, Fields, Notes, Policies, ReasonCode, Slot, UnknownFields, Value};

fn rich() -> Contract {
    contract("rich.v1.Rich", Policies::default(), &[])
}

fn strict() -> Contract {
    contract("rich.v1.Rich", Policies { unknown_fields: UnknownFields::Reject, ..Policies::default() }, &[])
}

/// Returns the bytes' JSON, or `code field`.
fn round(contract: &Contract, json: &str) -> String {
    let mut wire = Vec::new();
    match contract.transcode_json(json.as_bytes(), &mut wire) {
        Ok(()) => contract.to_json(&wire).unwrap(),
        Err(rejection) => format!("{} {}", rejection.code, rejection.field).trim_end().into(),
    }
}

#[test]
fn values_come_through() {
    let cases = [
        ("{}", "{}"),
        (r#"{"i64":"9007199254740993"}"#, r#"{"i64":"9007199254740993"}"#),
        (r#"{"i64":9007199254740993}"#, r#"{"i64":"9007199254740993"}"#),
        (r#"{"i32":"7","u32":3e2}"#, r#"{"i32":7,"u32":300}"#),
        (r#"{"double":"NaN","float":"-Infinity"}"#, r#"{"float":"-Infinity","double":"NaN"}"#),
        (r#"{"color":"GREEN"}"#, r#"{"color":"GREEN"}"#),
        (r#"{"color":2}"#, r#"{"color":"GREEN"}"#),
        (r#"{"blob":"_-8="}"#, r#"{"blob":"/+8="}"#),
        (r#"{"text":null}"#, "{}"),
        (r#"{"maybe":0}"#, r#"{"maybe":0}"#),
        (r#"{"choice_text":"x"}"#, r#"{"choiceText":"x"}"#),
        (r#"{"byId":{"7":{"name":"Ann"}}}"#, r#"{"byId":{"7":{"name":"Ann"}}}"#),
        (r#"{"at":"2026-01-01T00:00:00.5Z","took":"-1.5s"}"#, r#"{"at":"2026-01-01T00:00:00.500Z","took":"-1.500s"}"#),
    ];
    for (json, expected) in cases {
        // Objects are compared as values: with maps in the contract the keys are sorted.
        let found: serde_json::Value = serde_json::from_str(&round(&rich(), json)).unwrap_or_default();
        assert_eq!(found, serde_json::from_str::<serde_json::Value>(expected).unwrap(), "{json}");
    }
}

#[test]
fn refusals_name_code_and_path() {
    let cases = [
        ("", "json-invalid"),
        ("{", "json-invalid"),
        ("{} {}", "json-invalid"),
        ("{'a':1}", "json-invalid"),
        ("{\"text\":\"\u{1}\"}", "json-invalid"),
        ("[]", "json-wrong-type"),
        ("\"text\"", "json-wrong-type"),
        (r#"{"i32":"seven"}"#, "json-wrong-type i32"),
        (r#"{"i32":2147483648}"#, "json-wrong-type i32"),
        (r#"{"u32":-1}"#, "json-wrong-type u32"),
        (r#"{"i32":1.5}"#, "json-wrong-type i32"),
        (r#"{"text":5}"#, "json-wrong-type text"),
        (r#"{"flag":"true"}"#, "json-wrong-type flag"),
        (r#"{"payer":{"address":{"city":5}}}"#, "json-wrong-type payer.address.city"),
        (r#"{"payers":[{},{"name":[]}]}"#, "json-wrong-type payers[1].name"),
        (r#"{"counts":{"a":{}}}"#, "json-wrong-type counts[\"a\"]"),
        (r#"{"blob":"*"}"#, "json-wrong-type blob"),
        (r#"{"at":"yesterday"}"#, "json-wrong-type at"),
        (r#"{"choiceText":"a","choiceNumber":1}"#, "json-wrong-type choice_number"),
        (r#"{"i32":1,"text":"a","i32":1}"#, "json-duplicate-member i32"),
        (r#"{"choiceText":"a","choice_text":"b"}"#, "json-duplicate-member choice_text"),
        (r#"{"payer":{"name":"a","name":"a"}}"#, "json-duplicate-member payer.name"),
        (r#"{"counts":{"a":1,"\u0061":1}}"#, "json-duplicate-member counts[\"a\"]"),
        (r#"{"byId":{"7":{},"7.0":{}}}"#, "json-duplicate-member by_id[\"7\"]"),
        (r#"{"color":"PURPLE"}"#, "unknown-enum color"),
        (r#"{"payer":{"nick":"A"}}"#, "unknown-field payer.nick"),
    ];
    for (json, expected) in cases {
        assert_eq!(round(&strict(), json), expected, "{json}");
    }
    let deep = format!("{}{}", r#"{"child":"#.repeat(200), "1");
    assert_eq!(round(&strict(), &deep).split(' ').next(), Some("recursion-limit"));
}

#[test]
fn unknown_keys_may_be_allowed_and_unknown_enum_names_never() {
    assert_eq!(
        round(&rich(), r#"{"nick":[{}],"payer":{"name":"A","nick":1},"text":"x"}"#),
        r#"{"text":"x","payer":{"name":"A"}}"#
    );
    assert_eq!(
        round(&rich(), r#"{"byId":{"1":{"nick":1}},"payers":[{"nick":1}]}"#),
        r#"{"payers":[{}],"byId":{"1":{}}}"#
    );
    assert_eq!(round(&rich(), r#"{"nick":1,"color":"PURPLE"}"#), "unknown-enum color");
    assert_eq!(round(&rich(), r#"{"nick":1,"payer":{"name":1}}"#), "json-wrong-type payer.name");
    let rejection = rich().transcode_json(&[b'{', 0xff, b'}'], &mut Vec::new()).unwrap_err();
    assert_eq!(rejection.code, ReasonCode::JsonInvalid);
}

#[test]
fn the_same_json_gives_the_same_bytes_whatever_the_maps_order() {
    let entries: Vec<String> = (0..50).map(|n| format!("\"key{n}\":{n}")).collect();
    let json = format!("{{\"counts\":{{{}}},\"text\":\"t\",\"packed\":[1,2]}}", entries.join(","));
    let bytes = || {
        let mut out = b"left over".to_vec();
        rich().transcode_json(json.as_bytes(), &mut out).unwrap();
        out
    };
    let first = bytes();
    assert!((0..10).all(|_| bytes() == first));
    let contract = contract("rich.v1.Rich", Policies::default(), &["counts", "text", "packed"]);
    let mut fields = Fields::new();
    contract.check(&first, &mut fields).unwrap();
    assert_eq!(fields.get(Slot(1)), Value::Str("t".into()));
    let Value::Map(map) = fields.get(Slot(0)) else { panic!("no map") };
    assert_eq!(map.len(), 50);
    assert_eq!(fields.entries(map).next(), Some((Value::Str("key0".into()), Value::I64(0))));
}

#[test]
fn minus_zero_stays_minus_zero() {
    let contract = contract("rich.v1.Rich", Policies::default(), &["double", "float", "child.double", "u64"]);
    for json in [
        r#"{"double":-0.0,"float":-0.0,"child":{"double":"-0"},"u64":"0"}"#,
        r#"{"double":-1e-400,"float":-0.0,"child":{"double":-0.0}}"#,
    ] {
        let mut wire = Vec::new();
        contract.transcode_json(json.as_bytes(), &mut wire).unwrap();
        let mut fields = Fields::new();
        contract.check(&wire, &mut fields).unwrap();
        let found: Vec<String> = (0..4).map(|slot| format!("{:?}", fields.get(Slot(slot)))).collect();
        assert_eq!(found, ["F64(-0.0)", "F32(-0.0)", "F64(-0.0)", "Default"], "{json}");
    }
}

#[test]
fn duplicates_may_be_allowed_and_then_the_last_one_counts() {
    let lenient = Policies { duplicate_members: DuplicateMembers::Last, ..Policies::default() };
    let lenient = contract("rich.v1.Rich", lenient, &[]);
    for (json, expected) in [
        (r#"{"i32":1,"i32":2}"#, r#"{"i32":2}"#),
        (r#"{"i32":"no number","i32":2}"#, r#"{"i32":2}"#),
        (r#"{"choiceText":"a","choice_text":"b"}"#, r#"{"choiceText":"b"}"#),
        (r#"{"choice_text":"b","choiceText":"a"}"#, r#"{"choiceText":"a"}"#),
        (r#"{"i32":1,"i32":null}"#, "{}"),
        (r#"{"payer":{"name":"a"},"payer":{}}"#, r#"{"payer":{}}"#),
        (r#"{"counts":{"a":1,"a":2}}"#, r#"{"counts":{"a":"2"}}"#),
        (r#"{"nick":1,"nick":2}"#, "{}"),
    ] {
        assert_eq!(round(&lenient, json), expected, "{json}");
    }
    // The producer meant one of the two, and the gate cannot know which.
    assert_eq!(round(&rich(), r#"{"nick":1,"nick":2,"i32":1}"#), r#"{"i32":1}"#, "what is not read is not judged");
    let mut out = Vec::new();
    rich().transcode_json_anyway(br#"{"i32":1,"i32":2}"#, &mut out, &mut Notes::new()).unwrap();
    assert_eq!(rich().to_json(&out).unwrap(), r#"{"i32":2}"#);
}

#[test]
fn floats_are_the_decimals_that_were_meant() {
    let contract = contract("rich.v1.Rich", Policies::default(), &["float", "child"]);
    let mut wire = Vec::new();
    contract.transcode_json(br#"{"float":2.675,"child":{"float":0.1,"double":0.1}}"#, &mut wire).unwrap();
    let text = r#"{"float":2.675,"child":{"float":0.1,"double":0.1}}"#;
    assert_eq!(contract.to_json(&wire).unwrap(), text);
    let mut fields = Fields::new();
    contract.check(&wire, &mut fields).unwrap();
    assert_eq!(contract.field_json(Slot(0), &fields).unwrap().unwrap(), "2.675");
    assert_eq!(contract.field_json(Slot(1), &fields).unwrap().unwrap(), r#"{"float":0.1,"double":0.1}"#);
}

#[test]
fn proto2_and_its_extensions() {
    let legacy = contract("legacy.v1.Legacy", Policies::default(), &[]);
    let json = r#"{"name":"n","inners":[{"id":1}],"[legacy.v1.extra]":5}"#;
    assert_eq!(round(&legacy, json).replace(' ', ""), r#"{"name":"n","inners":[{"id":1}],"[legacy.v1.extra]":5}"#);
    let mut wire = Vec::new();
    legacy.transcode_json(br#"{"inners":[{}],"name":"n"}"#, &mut wire).unwrap();
    let rejection = legacy.check(&wire, &mut Fields::new()).unwrap_err();
    assert_eq!((rejection.code, rejection.field.as_str()), (ReasonCode::MissingRequired, "inners[0].id"));
}

#[test]
fn what_has_no_json_form_is_said_so() {
    // One second after the year 9999.
    let payload = bytes(30, &int(1, 253_402_300_800));
    let rejection = rich().to_json(&payload).unwrap_err();
    assert_eq!(rejection.code, ReasonCode::NoJsonForm);
    // 29 seconds minus 5 nanoseconds, with signs that no Duration may have: not -28.999999995s.
    let torn = bytes(31, &[int(1, 29), int(2, (-5_i64).cast_unsigned())].concat());
    assert_eq!(rich().to_json(&torn).unwrap_err().code, ReasonCode::NoJsonForm);
    assert_eq!(rich().to_json(&[0]).unwrap_err().code, ReasonCode::Undecodable);
}

#[test]
fn one_field_as_json() {
    let contract =
        contract("rich.v1.Rich", Policies::default(), &["text", "i64", "at", "color", "payer", "maybe", "tags"]);
    let payload = [int(3, 5), bytes(30, &int(1, 0)), int(16, 1), bytes(17, &text(2, "Ann"))].concat();
    let mut fields = Fields::new();
    contract.check(&payload, &mut fields).unwrap();
    let json: Vec<Option<String>> = (0..7).map(|slot| contract.field_json(Slot(slot), &fields).unwrap()).collect();
    let expected = [
        Some("\"\""),
        Some("\"5\""),
        Some("\"1970-01-01T00:00:00Z\""),
        Some("\"RED\""),
        Some("{\"name\":\"Ann\"}"),
        None,
        Some("[]"),
    ];
    assert_eq!(json.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}
