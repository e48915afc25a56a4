//! Finds one member of a JSON object without decoding the rest of it.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use crate::{DuplicateMembers, ReasonCode, Rejection};

/// A field may also occur under both of its names: `amount_minor` next to `amountMinor`.
pub(crate) const DUPLICATE: &str = "this member appears more than once, under one name or two, and readers differ in which \
                                    one they use; send it once";

/// Returns the range of the value of an object's member in `json`: the member with one of these names, and the last
/// such member where duplicates are allowed. `None` if there is none; `null` is a value. Also checks that the text is
/// one JSON object.
///
/// # Errors
/// Fails for text that is not a JSON object, or that has the member twice.
pub fn find_member(
    json: &[u8],
    names: &[&str],
    duplicates: DuplicateMembers,
) -> Result<Option<Range<usize>>, Rejection> {
    let mut found = None;
    visit(json, |name, place| {
        let again = names.contains(&name) && found.replace(place).is_some();
        refuse(name, again, duplicates)
    })?;
    Ok(found)
}

/// Like [`find_member`], for several members in one pass: returns the range for each name.
///
/// # Errors
/// Fails for text that is not a JSON object, or that has one of the members twice.
pub fn find_members<const N: usize>(
    json: &[u8],
    names: [&str; N],
    duplicates: DuplicateMembers,
) -> Result<[Option<Range<usize>>; N], Rejection> {
    let mut found = [const { None }; N];
    visit(json, |name, place| {
        let Some(index) = names.iter().position(|known| *known == name) else { return Ok(()) };
        refuse(name, found[index].replace(place).is_some(), duplicates)
    })?;
    Ok(found)
}

fn refuse(name: &str, again: bool, duplicates: DuplicateMembers) -> Result<(), Rejection> {
    if again && duplicates == DuplicateMembers::Reject {
        return Err(Rejection::new(ReasonCode::JsonDuplicateMember, name, DUPLICATE));
    }
    Ok(())
}

/// Calls `each` with the name and the range of every member of an object, in order.
fn visit(json: &[u8], mut each: impl FnMut(&str, Range<usize>) -> Result<(), Rejection>) -> Result<(), Rejection> {
    let mut at = skip_blanks(json, 0);
    if json.get(at) != Some(&b'{') {
        return Err(wrong(ReasonCode::JsonWrongType, "the text is not a JSON object"));
    }
    at = skip_blanks(json, at + 1);
    if json.get(at) == Some(&b'}') {
        return end(json, at);
    }
    loop {
        let (name, after) = read::<String>(json, at)?;
        at = skip_blanks(json, after);
        if json.get(at) != Some(&b':') {
            return Err(wrong(ReasonCode::JsonInvalid, &format!("expected : at byte {at}")));
        }
        let begin = skip_blanks(json, at + 1);
        let (_, after) = read::<IgnoredAny>(json, begin)?;
        each(&name, begin..after)?;
        at = skip_blanks(json, after);
        match json.get(at) {
            Some(b',') => at = skip_blanks(json, at + 1),
            Some(b'}') => return end(json, at),
            _ => return Err(wrong(ReasonCode::JsonInvalid, &format!("expected , or }} at byte {at}"))),
        }
    }
}

/// Reads one value from `at`, and returns where it ends.
fn read<'j, T: serde::Deserialize<'j>>(json: &'j [u8], at: usize) -> Result<(T, usize), Rejection> {
    let rest = json.get(at..).unwrap_or_default();
    let mut values = Deserializer::from_slice(rest).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => Ok((value, at + values.byte_offset())),
        Some(Err(error)) => Err(wrong(ReasonCode::JsonInvalid, &format!("{error}, counted from byte {at}"))),
        None => Err(wrong(ReasonCode::JsonInvalid, "the text ends within the object")),
    }
}

fn end(json: &[u8], brace: usize) -> Result<(), Rejection> {
    let at = skip_blanks(json, brace + 1);
    if at == json.len() { Ok(()) } else { Err(wrong(ReasonCode::JsonInvalid, "trailing characters after the object")) }
}

fn skip_blanks(json: &[u8], mut at: usize) -> usize {
    while json.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

fn wrong(code: ReasonCode, message: &str) -> Rejection {
    Rejection::new(code, "", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn value(json: &str) -> Option<&str> {
        find_member(json.as_bytes(), &["data", "Data"], DuplicateMembers::Reject).unwrap().map(|range| &json[range])
    }

    fn code(json: &str) -> ReasonCode {
        find_member(json.as_bytes(), &["data"], DuplicateMembers::Reject).unwrap_err().code
    }

    #[test]
    fn the_value_is_what_stands_there_byte_for_byte() {
        assert_eq!(value(r#"{"a":1,"data":{"x":[1.50, "}"]} , "b":null}"#), Some(r#"{"x":[1.50, "}"]}"#));
        assert_eq!(value(" {\n \"data\" : \"{\\\"x\\\":1}\"}\n"), Some(r#""{\"x\":1}""#));
        assert_eq!(value(r#"{"d\u0061ta":123456789012345678901234567890}"#), Some("123456789012345678901234567890"));
        assert_eq!(value(r#"{"Data":null}"#), Some("null"));
        assert_eq!(value(r#"{"a":{"data":1}}"#), None);
        assert_eq!(value("{}"), None);
    }

    #[test]
    fn several_members_are_found_in_one_pass() {
        let json = r#"{"b":{"a":1},"x":[],"a":null}"#;
        let found = find_members(json.as_bytes(), ["a", "b", "c"], DuplicateMembers::Reject).unwrap();
        assert_eq!(found.map(|place| place.map(|place| &json[place])), [Some("null"), Some(r#"{"a":1}"#), None]);
        let twice = find_members(br#"{"a":1,"a":2}"#, ["a"], DuplicateMembers::Reject);
        assert_eq!(twice.unwrap_err().code, ReasonCode::JsonDuplicateMember);
    }

    proptest::proptest! {
        /// Truncated anywhere, and with any byte changed: if serde reads it as an object, both find the same value.
        /// (Skipped parts are not decoded: text that is not UTF-8, for example, is left to the reader of that part.)
        #[test]
        fn it_agrees_with_a_parser(cut in 0..100_usize, at in 0..100_usize, byte: u8) {
            let mut json = br#"{"a" : [1, {"data": 2}], "data":{"x":"}\u0022","y":[true,null]},"n":-1.5e3, "e":""}"#.to_vec();
            let end = json.len().min(cut + 40);
            json.truncate(end);
            if let Some(place) = json.get_mut(at) {
                *place = byte;
            }
            let read: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&json).ok();
            let found = find_member(&json, &["data"], DuplicateMembers::Last);
            if let Some(read) = read {
                let found = found.unwrap().map(|range| serde_json::from_slice::<serde_json::Value>(&json[range]).unwrap());
                proptest::prop_assert_eq!(found.as_ref(), read.get("data"));
            }
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (json, expected) in [
            ("[]", ReasonCode::JsonWrongType),
            ("", ReasonCode::JsonWrongType),
            ("{", ReasonCode::JsonInvalid),
            (r#"{"a"}"#, ReasonCode::JsonInvalid),
            (r#"{"a":}"#, ReasonCode::JsonInvalid),
            (r#"{"a":1,}"#, ReasonCode::JsonInvalid),
            (r#"{"a":1"#, ReasonCode::JsonInvalid),
            (r#"{"a":1}}"#, ReasonCode::JsonInvalid),
            (r#"{a:1}"#, ReasonCode::JsonInvalid),
            (r#"{"data":1,"data":2}"#, ReasonCode::JsonDuplicateMember),
        ] {
            assert_eq!(code(json), expected, "{json}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"a":{}{},"data":1}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(value(&deep), Some("1"));
    }
}
