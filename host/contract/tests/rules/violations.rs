//! Tests the contents of a rejection.

use std::time::{Duration, UNIX_EPOCH};

use tollgate_contract::{Fields, ReasonCode, Rejection};

use super::{contract, contract_of, payload};

fn rejection(message: &str, json: &str) -> Rejection {
    contract(message).check(&payload(message, json), &mut Fields::new()).unwrap_err()
}

/// Returns all violations as `field: rule`.
fn found(rejection: &Rejection) -> Vec<String> {
    rejection.violations.iter().map(|violation| format!("{}: {}", violation.field, violation.rule)).collect()
}

const GOOD: &str = r#""tags":["a"],"text":"t","inner":{"id":1},"one":"a","agreed":true,"signed":"7""#;

#[test]
fn an_event_that_keeps_the_rules_passes() {
    let bytes = payload("ruled.v1.Fast", &format!("{{{GOOD}}}"));
    contract("ruled.v1.Fast").check(&bytes, &mut Fields::new()).unwrap();
}

#[test]
fn every_violation_is_told_with_rule_field_and_message() {
    let rejection = rejection(
        "ruled.v1.Fast",
        r#"{"text":"too long","small":-1,"tags":["a","c"],"counts":{"":0,"k\"]":1,"l":1},"inner":{"name":"A","id":1},
            "inners":[{"id":1},{"few":[1,2,3],"next":{}}],"byId":{"7":{"id":0}},"two":{"id":2},"agreed":true,"signed":"9",
            "maybe":1,"ratio":"Infinity","color":"GREEN","blob":"AA==","ignored":{"name":"A"}}"#,
    );
    assert_eq!(rejection.code, ReasonCode::RuleViolated);
    assert_eq!(
        found(&rejection),
        [
            "text: string.max_len",
            "small: int32.gte_lt",
            "maybe: uint32.gt",
            "ratio: double.lte",
            "ratio: double.finite",
            "color: enum.not_in",
            "tags[1]: string.in",
            "counts: map.max_pairs",
            r#"counts[""]: string.min_len"#,
            r#"counts[""]: int32.gt"#,
            "inner.name: string.pattern",
            "blob: bytes.len",
            "inners[1].few: repeated.max_items",
            "inners[1].id: required",
            "inners[1].next.id: required",
            "by_id[7].id: required",
        ]
    );
    let key = &rejection.violations[8];
    assert!(
        key.for_key && key.rule_path == "map.keys.string.min_len" && key.message == "must be at least 1 characters"
    );
    assert_eq!((rejection.field.as_str(), rejection.rule()), ("text", Some("string.max_len")));
    assert_eq!(rejection.message, "must be at most 4 characters (string.max_len); 15 more");
}

#[test]
fn what_is_not_there_can_break_rules_too() {
    assert_eq!(
        found(&rejection("ruled.v1.Fast", "{}")),
        [
            "choice: required",
            "text: string.min_len",
            "tags: repeated.min_items",
            "inner: required",
            "agreed: required",
            "signed: sint64.gt_lt_exclusive",
        ]
    );
}

#[test]
fn rules_on_whole_messages_speak_for_themselves() {
    let both =
        rejection("ruled.v1.Slow", r#"{"low":3,"high":2,"left":"ab","right":"c","unique":["x","x"],"even":[2,3]}"#);
    assert_eq!(found(&both), [": slow.order", ": message.oneof", "unique: repeated.unique", "even[1]: even"]);
    assert_eq!(both.violations[0].message, "low must not be above high");
    assert_eq!(both.violations[1].message, "only one of left, right can be set");
    assert_eq!(
        (both.violations[3].message.as_str(), both.violations[3].rule_path.as_str()),
        ("must be even", "repeated.items.cel[0]")
    );
    let wrapped = rejection(
        "ruled.v1.Slow",
        r#"{"right":"c","wrapped":"x","any":{"@type":"type.googleapis.com/ruled.v1.Plain"}}"#,
    );
    assert_eq!(found(&wrapped), ["wrapped: string.min_len", "any: any.in"]);
}

#[test]
fn the_list_of_violations_ends() {
    let items = vec!["0"; 1000].join(",");
    let rejection = rejection("ruled.v1.Many", &format!("{{\"items\":[{items}]}}"));
    assert_eq!(rejection.violations.len(), 20);
    assert_eq!(rejection.violations[19].field, "items[19]");
    let bytes = payload("ruled.v1.Many", &format!("{{\"items\":[{items}]}}"));
    assert_eq!(contract("ruled.v1.Many").violations(&bytes, None).unwrap().len(), 1000);
}

#[test]
fn a_rule_without_an_answer_has_a_code_of_its_own() {
    let rejection = rejection("ruled.v1.Many", r#"{"atThree":[1]}"#);
    assert_eq!(rejection.code, ReasonCode::RuleFailed);
    assert_eq!((rejection.field.as_str(), rejection.rule()), ("at_three", Some("many.third")));
    assert!(rejection.message.contains("cannot be evaluated"), "{rejection}");
}

#[test]
fn faults_of_the_bytes_come_first() {
    let contract = contract("ruled.v1.Fast");
    // `small` violates its rule, and then the bytes end inside a field.
    let rejection = contract.check(&[0x10, 0x09, 0x0a, 0x05], &mut Fields::new()).unwrap_err();
    assert_eq!(rejection.code, ReasonCode::Undecodable);
    assert!(rejection.violations.is_empty() && rejection.rule().is_none());
}

#[test]
fn the_present_is_the_callers() {
    let contract = contract("ruled.v1.Clock");
    assert!(contract.needs_clock() && !super::contract("ruled.v1.Fast").needs_clock());
    let bytes = payload("ruled.v1.Clock", r#"{"past":"2026-01-01T00:00:00Z","near":"2026-01-01T00:00:30Z"}"#);
    let mut fields = Fields::new();
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
    contract.check_at(&bytes, &mut fields, at(1_767_225_600)).unwrap();
    let late = contract.check_at(&bytes, &mut fields, at(1_767_225_600 + 91)).unwrap_err();
    assert_eq!(found(&late), ["near: timestamp.within"]);
    let early = contract.check_at(&bytes, &mut fields, at(1_767_225_600 - 1)).unwrap_err();
    assert_eq!(found(&early), ["past: timestamp.lt_now"]);
    let without = contract.check(&bytes, &mut fields).unwrap_err();
    assert_eq!(without.code, ReasonCode::RuleFailed);
    assert!(without.message.contains("the caller passed none"), "{without}");
}

#[test]
fn an_expression_may_ask_what_is_set() {
    let contract = contract_of(
        r#"message M {
            option (buf.validate.message).cel = {
                id: "a.both", message: "name and score come together",
                expression: "has(this.name) == has(this.score) && (!has(this.inner) || this.inner.kind == a.M.Kind.GOOD)" };
            enum Kind { NONE = 0; GOOD = 1; }
            message Inner { Kind kind = 1; }
            optional string name = 1; optional int32 score = 2; Inner inner = 3; }"#,
    )
    .unwrap();
    let mut fields = Fields::new();
    contract.check(&[], &mut fields).unwrap();
    // Both are set, to their defaults.
    contract.check(&[0x0a, 0x00, 0x10, 0x00], &mut fields).unwrap();
    assert!(contract.check(&[0x0a, 0x00], &mut fields).is_err());
    contract.check(&[0x1a, 0x02, 0x08, 0x01], &mut fields).unwrap();
    assert!(contract.check(&[0x1a, 0x00], &mut fields).is_err());
}

#[test]
fn a_bound_on_a_float_is_shown_as_its_author_wrote_it() {
    let text = "message M { float price = 1 [(buf.validate.field).float = { gt: 0.1, in: [2.675, 0.3] }]; }";
    let contract = contract_of(text).unwrap();
    let rejection = contract.check(&[0x0d, 0, 0, 0, 0x3d], &mut Fields::new()).unwrap_err();
    let messages: Vec<&str> = rejection.violations.iter().map(|violation| violation.message.as_str()).collect();
    assert_eq!(messages, ["must be greater than 0.1", "must be in list [2.675, 0.3]"]);
    // The bound is 0.1 itself, whichever way it is written.
    let bytes = [&[0x0d][..], &0.1_f32.to_le_bytes()].concat();
    let rejection = contract.check(&bytes, &mut Fields::new()).unwrap_err();
    assert_eq!(rejection.violations[0].message, "must be greater than 0.1");
}
