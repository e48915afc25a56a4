//! Tests times in JSON that are in a declared form and not in Protobuf's: which are accepted, where, and what is
//! counted.

use prost_reflect::DescriptorPool;
use tollgate_contract::{Between, Coercion, Contract, Notes, Policies, Policy, TimeForm, TimeSpec};

const PROTO: &str = r#"syntax = "proto3"; package a;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/any.proto";
    message Step { google.protobuf.Timestamp at = 1; repeated google.protobuf.Timestamp tries = 2; }
    message Order {
      google.protobuf.Timestamp at = 1; Step first = 2; repeated Step steps = 3; map<string, Step> named = 4;
      map<string, google.protobuf.Timestamp> marks = 5; google.protobuf.Timestamp plain = 6; Order child = 7;
      google.protobuf.Any any = 8; oneof last { google.protobuf.Timestamp done = 9; string open = 10; } int64 number = 11;
    }"#;

const FORMS: [TimeForm; 3] = [TimeForm::Iso, TimeForm::UnixSeconds, TimeForm::UnixMillis];

fn compile(coerce: Vec<Coercion>) -> Result<Contract, tollgate_contract::CompileError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.proto"), PROTO).unwrap();
    let set = protox::compile(["a.proto"], [folder.path()]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
    Contract::compile(&pool, "a.Order", Policies { coerce, ..Policies::default() }, &[])
}

fn coercion(path: &str, forms: &[TimeForm]) -> Coercion {
    // 2000-01-01 and 2100-01-01.
    let between = Between { from: 946_684_800_000_000, until: 4_102_444_800_000_000 };
    let between = (forms.len() > 1).then_some(between);
    Coercion { field: path.into(), time: TimeSpec { forms: forms.to_vec(), between } }
}

fn contract() -> Contract {
    let paths = ["at", "first.at", "steps.at", "steps.tries", "named.at", "marks", "child.child.at", "done"];
    compile(paths.iter().map(|path| coercion(path, &FORMS)).collect()).unwrap()
}

/// Returns the bytes' JSON or the rejection, and what was counted.
fn read(contract: &Contract, json: &str) -> (Result<String, String>, Vec<String>) {
    let (mut wire, mut notes) = (Vec::new(), Notes::new());
    let read = contract.transcode_json_noting(json.as_bytes(), &mut wire, &mut notes);
    let shown = read.map(|()| contract.to_json(&wire).unwrap());
    let shown = shown.map_err(|rejection| format!("{} {}: {}", rejection.code, rejection.field, rejection.message));
    let counted = notes.iter().map(|note| {
        assert_eq!(note.policy, Policy::Coerce);
        format!("{} {} {}", note.type_name, note.member, note.count)
    });
    (shown, counted.collect())
}

#[test]
fn a_time_in_a_declared_form_is_what_it_would_be_in_protobufs() {
    let contract = contract();
    for (value, form) in [
        (r#""2026-01-01T00:00:00Z""#, None),
        (r#""2026-01-01T01:00:00.000000000+01:00""#, None),
        (r#""2026-01-01 00:00:00Z""#, Some("iso")),
        (r#""2026-01-01t01:00+01""#, Some("iso")),
        ("1767225600", Some("unix_s")),
        ("1767225600.0", Some("unix_s")),
        ("1.7672256e9", Some("unix_s")),
        ("1767225600000", Some("unix_ms")),
        (r#""1767225600""#, Some("unix_s")),
        (r#""1767225600000""#, Some("unix_ms")),
    ] {
        let expected = Ok(r#"{"at":"2026-01-01T00:00:00Z"}"#.to_owned());
        let counted: Vec<String> = form.map(|form| format!("at {form} 1")).into_iter().collect();
        assert_eq!(read(&contract, &format!(r#"{{"at":{value}}}"#)), (expected, counted), "{value}");
    }
    let (fine, _) = read(&contract, r#"{"at":"2026-01-01 00:00:00.123456789Z"}"#);
    assert_eq!(fine.unwrap(), r#"{"at":"2026-01-01T00:00:00.123456789Z"}"#, "no digit is lost");
    let (millis, _) = read(&contract, r#"{"at":1767225600001}"#);
    assert_eq!(millis.unwrap(), r#"{"at":"2026-01-01T00:00:00.001Z"}"#);
    let before = compile(vec![coercion("at", &[TimeForm::UnixMillis])]).unwrap();
    assert_eq!(read(&before, r#"{"at":-1}"#).0.unwrap(), r#"{"at":"1969-12-31T23:59:59.999Z"}"#);
}

#[test]
fn what_fits_no_form_is_refused_with_all_that_would_fit() {
    let contract = contract();
    let forms = r#"expected a time such as "2026-01-31T12:00:00Z", or one of iso, unix_s, unix_ms between 2000-01-01 and 2100-01-01"#;
    for (value, found) in [
        ("1", "number"),
        ("1767225600.5", "number"),
        ("99999999999999999999", "number"),
        (r#""""#, "text"),
        (r#""2026-01-01""#, "text"),
        (r#""2026-01-01 00:00:00""#, "text"),
        (r#""1999-12-31 23:59:59Z""#, "text"),
        (r#""+1767225600""#, "text"),
    ] {
        let refused = Err(format!("json-wrong-type at: {forms}, found another {found}"));
        assert_eq!(read(&contract, &format!(r#"{{"at":{value}}}"#)), (refused, vec![]), "{value}");
    }
    let (object, _) = read(&contract, r#"{"at":{"seconds":1}}"#);
    assert!(object.unwrap_err().ends_with("found an object"));
    // The bounds select among forms and do not apply to times in Protobuf's own form.
    let old = r#"{"at":"1999-12-31T23:59:59Z"}"#;
    assert_eq!(read(&contract, old), (Ok(old.to_owned()), vec![]));
    // This is out of a Timestamp's range.
    let wide = compile(vec![coercion("at", &[TimeForm::UnixSeconds])]).unwrap();
    assert!(read(&wide, r#"{"at":253402300800}"#).0.is_err());
}

#[test]
fn nothing_is_coerced_that_is_not_declared() {
    let contract = contract();
    for json in [
        r#"{"plain":1767225600}"#,
        r#"{"first":{"tries":[1767225600]}}"#,
        r#"{"child":{"at":1767225600}}"#,
        r#"{"child":{"child":{"child":{"at":1767225600}}}}"#,
        r#"{"any":{"@type":"x/google.protobuf.Timestamp","value":1767225600}}"#,
        r#"{"any":{"@type":"x/a.Step","at":1767225600}}"#,
    ] {
        assert!(read(&contract, json).0.unwrap_err().starts_with("json-wrong-type "), "{json}");
    }
}

#[test]
fn a_path_leads_through_messages_lists_and_maps() {
    let json = r#"{"first":{"at":1767225600},"steps":[{"at":1767225600,"tries":[1767225600,"1767225600000"]},{"at":null}],
        "named":{"x":{"at":1767225600}},"marks":{"y":1767225600},"child":{"child":{"at":1767225600}},"done":1767225600,"plain":null}"#;
    let time = "2026-01-01T00:00:00Z";
    let expected = serde_json::json!({
        "first": { "at": time }, "steps": [{ "at": time, "tries": [time, time] }, {}], "named": { "x": { "at": time } },
        "marks": { "y": time }, "child": { "child": { "at": time } }, "done": time,
    });
    let (shown, counted) = read(&contract(), json);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown.unwrap()).unwrap(), expected);
    let expected = [
        "first.at unix_s 1",
        "steps.at unix_s 1",
        "steps.tries unix_s 1",
        "steps.tries unix_ms 1",
        "named.at unix_s 1",
        "marks unix_s 1",
        "child.child.at unix_s 1",
        "done unix_s 1",
    ];
    assert_eq!(counted, expected);
}

#[test]
fn a_path_that_cannot_be_coerced_is_refused() {
    let problem = |path: &str| compile(vec![coercion(path, &[TimeForm::UnixSeconds])]).unwrap_err().to_string();
    assert_eq!(problem("att"), "field att: a.Order has no field att; did you mean at?");
    assert_eq!(problem("steps.att"), "field steps.att: a.Step has no field att; did you mean at?");
    assert_eq!(problem("number"), "coerce: field number is int64; only google.protobuf.Timestamp can be coerced");
    assert_eq!(problem("first"), "coerce: field first is a.Step; only google.protobuf.Timestamp can be coerced");
    assert_eq!(problem("open.at"), "coerce: field open.at passes through open, which is string, not a message");
}

#[test]
fn coercions_are_part_of_the_digest_where_there_are_any() {
    let digest = |coerce| compile(coerce).unwrap().digest();
    let one = digest(vec![coercion("at", &FORMS)]);
    assert_ne!(one, digest(vec![]));
    assert_ne!(one, digest(vec![coercion("at", &[TimeForm::UnixMillis])]));
}
