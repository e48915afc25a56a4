#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Converts to serde_json's value; of equal names the last one counts.
fn value(json: &Json<'_>) -> serde_json::Value {
    match json {
        Json::Null => serde_json::Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => serde_json::from_str(number).unwrap(),
        Json::Text(text) => text.as_ref().into(),
        Json::List(items) => items.iter().map(value).collect(),
        Json::Object(members) => {
            members.iter().map(|(name, member)| (name.clone().into_owned(), value(member))).collect()
        }
    }
}

fn message(text: &str) -> String {
    parse(text.as_bytes()).unwrap_err().message
}

/// If both accept a text, they read the same; they differ beyond the range of serde_json's numbers.
fn agrees(text: &[u8]) {
    match (parse(text), serde_json::from_slice::<serde_json::Value>(text)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(value(&ours), theirs),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => assert!(error.to_string().starts_with("number out of range"), "{error}"),
        (Err(rejection), Ok(_)) => panic!("{rejection}: {}", String::from_utf8_lossy(text)),
    }
}

#[test]
fn problems_have_a_place() {
    for (text, expected) in [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        ("{\"a\":1,}", "expected a member name in double quotes at line 1 column 8"),
        ("{'a':1}", "expected a member name in double quotes at line 1 column 2"),
        ("{\n\"a\" 1}", "expected `:` at line 2 column 5"),
        ("[1 2]", "expected `,` or `]` at line 1 column 4"),
        ("{\"a\":01}", "invalid number at line 1 column 7"),
        ("{\"a\":+1}", "expected a value at line 1 column 6"),
        ("[1.]", "invalid number at line 1 column 4"),
        ("[nul", "the text ends too early at line 1 column 2"),
        ("{} {}", "unexpected characters after the value at line 1 column 4"),
        ("\"\\ud800\"", "half a surrogate pair in a string at line 1 column 2"),
        ("\"\\x\"", "invalid escape in a string at line 1 column 2"),
        ("\"\u{1}\"", "control character in a string; write it as an escape at line 1 column 2"),
        ("\u{feff}{}", "the text starts with a byte order mark, which JSON does not have; send it without one"),
    ] {
        assert_eq!(message(text), expected, "{text:?}");
    }
    let deep = "[".repeat(200_000);
    assert_eq!(parse(deep.as_bytes()).unwrap_err().code, ReasonCode::RecursionLimit);
    assert!(parse(format!("{}{}", "[".repeat(127), "]".repeat(127)).as_bytes()).is_ok());
    assert_eq!(parse(&[b'{', 0xff, b'}']).unwrap_err().message, "the text is not UTF-8 at line 1 column 2");
}

#[test]
fn what_a_mapping_asks_for_is_kept() {
    let text = r#"{"a":1.50,"a":-0,"b\u0061":["x\ny","\ud83d\ude01"]}"#;
    let Json::Object(members) = parse(text.as_bytes()).unwrap() else { panic!("no object") };
    assert_eq!(members[0], ("a".into(), Json::Number("1.50")));
    assert_eq!(members[1], ("a".into(), Json::Number("-0")));
    assert_eq!(members[2].0, "ba");
    assert_eq!(members[2].1, Json::List(vec![Json::Text("x\ny".into()), Json::Text("😁".into())]));
}

proptest::proptest! {
    /// Texts similar to JSON: one with any byte changed and truncated anywhere.
    #[test]
    fn it_agrees_with_serde_json(cut in 0..120_usize, at in 0..120_usize, byte: u8) {
        let mut text =
            br#"{"a" : [1, {"data": -2.5e+3}], "d\u00e4ta":{"x":"}\u0022\ud83d\ude01","y":[true,null,false]},"n":-0.5E1, "e":""}"#
                .to_vec();
        text.truncate(cut + 20);
        if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
        agrees(&text);
    }

    #[test]
    fn it_agrees_on_soup(text in "[\\[\\]{}:,\"\\\\u0-9a-f.+eE nultrfs-]{0,24}") {
        agrees(text.as_bytes());
    }
}
