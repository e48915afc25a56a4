//! Tests the errors of compiling rules.

use tollgate_contract::Fields;

use super::contract_of;

fn error(text: &str) -> String {
    contract_of(text).unwrap_err().to_string()
}

#[test]
fn rules_that_do_not_compile_name_their_place_and_what_to_do() {
    let field =
        |kind: &str, rule: &str| format!("message M {{ message N {{}} {kind} f = 1 [(buf.validate.field).{rule}]; }}");
    let message = |rule: &str| format!("message M {{ option (buf.validate.message).{rule}; int32 f = 1; }}");
    for (text, parts) in [
        (field("string", "string.pattern = \"a(b\""), ["rule string.pattern of a.M.f: ", "unclosed group"]),
        (field("int32", "string.min_len = 1"), ["rule string of a.M.f: ", "use int32 instead of string"]),
        (field("N", "string.min_len = 1"), ["rule string of a.M.f: ", "put them on the message's own fields"]),
        (field("repeated string", "string.min_len = 1"), ["rule string of a.M.f: ", "use repeated instead of string"]),
        (
            field("repeated string", "repeated.items.int32.gt = 1"),
            ["rule repeated.items.int32 of a.M.f: ", "use string"],
        ),
        (
            field("map<string, int32>", "map.values.string.min_len = 1"),
            ["rule map.values.string of a.M.f: ", "use int32"],
        ),
        (field("int32", "cel = {id: \"x\", expression: \"this >\"}"), ["rule cel[0] of a.M.f: ", "ERROR"]),
        (
            field("int32", "cel = {id: \"x\", expression: \"this > 'a'\"}"),
            ["rule cel[0] of a.M.f: ", "no matching overload"],
        ),
        (field("int32", "cel_expression = \"that > 1\""), ["rule cel_expression[0] of a.M.f: ", "that"]),
        (field("int32", "cel = {id: \"x\", expression: \"this + 1\"}"), ["rule cel[0] of a.M.f: ", "bool or string"]),
        (message("cel = {id: \"x\", expression: \"this.g > 1\"}"), ["rule cel[0] of a.M: ", "a.M has no field g"]),
        (message("oneof = {fields: [\"g\"]}"), ["rule oneof of a.M: ", "has no field g"]),
        (message("oneof = {fields: [\"f\", \"f\"]}"), ["rule oneof of a.M: ", "named twice"]),
        (message("oneof = {}"), ["rule oneof of a.M: ", "name at least one"]),
    ] {
        let error = error(&text);
        for part in parts {
            assert!(error.contains(part), "{error} lacks {part:?}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn rules_below_an_ignored_field_do_not_count() {
    let text = r#"message N { string s = 1 [(buf.validate.field).string.min_len = 1]; }
        message M { N checked = 1; N ignored = 2 [(buf.validate.field).ignore = IGNORE_ALWAYS]; }"#;
    let contract = contract_of(text).unwrap();
    let mut fields = Fields::new();
    contract.check(&[0x12, 0x00], &mut fields).unwrap();
    assert!(contract.check(&[0x0a, 0x00], &mut fields).is_err());
    assert!(contract.check(&[0x12, 0x00, 0x0a, 0x00], &mut fields).is_err());
}

#[test]
fn predefined_rules_are_rules() {
    let text = r#"import "google/protobuf/descriptor.proto";
        message M { string s = 1 [(buf.validate.field).string.(a.starts) = "x"]; }"#;
    // Only proto2 can extend the rule messages, so the extension is in a separate file.
    let folder = tempfile::tempdir().unwrap();
    let rules = r#"syntax = "proto2"; package a; import "buf/validate/validate.proto";
        extend buf.validate.StringRules { optional string starts = 50001 [(buf.validate.predefined).cel = {
            id: "a.starts" expression: "this.startsWith(rule) ? '' : 'must start with %s'.format([rule])" }]; }"#;
    std::fs::write(folder.path().join("rules.proto"), rules).unwrap();
    let head = r#"syntax = "proto3"; package a; import "buf/validate/validate.proto"; import "rules.proto";"#;
    std::fs::write(folder.path().join("a.proto"), format!("{head}\n{text}")).unwrap();
    let pool = super::pool_of("a.proto", folder.path().to_str().unwrap());
    let contract =
        tollgate_contract::Contract::compile(&pool, "a.M", tollgate_contract::Policies::default(), &[]).unwrap();
    let mut fields = Fields::new();
    contract.check(&[0x0a, 0x02, b'x', b'y'], &mut fields).unwrap();
    let rejection = contract.check(&[0x0a, 0x02, b'y', b'x'], &mut fields).unwrap_err();
    let violation = &rejection.violations[0];
    assert_eq!((violation.rule.as_str(), violation.message.as_str()), ("a.starts", "must start with x"));
    assert_eq!(violation.rule_path, "string.[a.starts]");
}

#[test]
fn the_digest_covers_the_rules() {
    let digest = |text: &str| contract_of(text).unwrap().digest();
    let one = "message M { string s = 1 [(buf.validate.field).string.min_len = 1]; int32 i = 2; }";
    let same = "// A comment.\nmessage M { int32 i = 2; string s = 1 [(buf.validate.field).string = {min_len: 1}]; }";
    assert_eq!(digest(one), digest(same));
    for changed in [
        "message M { string s = 1 [(buf.validate.field).string.min_len = 2]; int32 i = 2; }",
        "message M { string s = 1; int32 i = 2; }",
        "message M { string s = 1 [(buf.validate.field).string.min_len = 1]; int32 i = 2 [(buf.validate.field).required = true]; }",
        "message M { option (buf.validate.message).cel_expression = \"this.i > 0\";
            string s = 1 [(buf.validate.field).string.min_len = 1]; int32 i = 2; }",
    ] {
        assert_ne!(digest(one), digest(changed), "{changed}");
    }
}
