#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

fn env(name: &str) -> Option<String> {
    match name {
        "TOPIC" => Some("payments".to_owned()),
        "EMPTY" => Some(String::new()),
        "PASSWORD" => Some("hunter2".to_owned()),
        "LIMIT" => Some("12".to_owned()),
        _ => None,
    }
}

fn read<T>(text: &str, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Result<T, String> {
    read_text("p.yaml", text, Path::new("/nowhere"), &env, read).map_err(|errors| errors.to_string())
}

fn read_one<T>(text: &str, kind: impl Fn(&str) -> Result<T, Complaint>) -> Result<T, String> {
    read(text, |table| table.need("k", kind))
}

#[test]
fn every_error_is_reported_at_once_in_line_order() {
    let text = "source:\n  topic: [a]\n  sesion_timeout: 30s\n  start: erliest\n  lanes: many\nextra: 1\nsource: {}\n";
    let errors = read(text, |table| {
        table.table("source", |source| {
            source.get("session_timeout", duration);
            source.need("topic", self::text);
            source.need("group_id", self::text);
            source.get("start", choice(&[("earliest", 1), ("latest", 2)]));
            source.get("lanes", whole);
            Some(())
        })
    })
    .unwrap_err();
    let expected = "\
p.yaml:1:1: source.group_id: required key is missing
p.yaml:2:3: source.topic: must be one value, not a list
p.yaml:3:3: source.sesion_timeout: unknown key; did you mean session_timeout?
p.yaml:4:10: source.start: erliest is none of earliest, latest; did you mean earliest?
p.yaml:5:10: source.lanes: many is not a whole number; write digits only
p.yaml:6:1: extra: unknown key
p.yaml:7:1: source: duplicate key; it is already set on line 1";
    assert_eq!(errors, expected);
}

#[test]
fn durations_need_units_and_sizes_know_both_systems() {
    let cases = [("25ms", 25), ("5s", 5_000), ("1m", 60_000), ("1h", 3_600_000), ("0s", 0)];
    for (text, ms) in cases {
        assert_eq!(read_one(&format!("k: {text}"), duration).unwrap(), Duration::from_millis(ms), "{text}");
    }
    let refused = read_one("k: 30", duration).unwrap_err();
    assert_eq!(refused, "p.yaml:1:4: k: 30 is a duration without a unit; did you mean 30ms or 30s?");
    for text in ["s", "-5s", "5 days", "1.5s", "99999999999999999999s", "9999999999999999h"] {
        assert!(read_one(&format!("k: {text}"), duration).is_err(), "{text}");
    }
    assert_eq!(read_one("k: 30000", milliseconds).unwrap(), Duration::from_secs(30));
    assert!(read_one("k: 30s", milliseconds).is_err());
    for (text, size) in [("1MiB", 1 << 20), ("64KiB", 65_536), ("500kB", 500_000), ("7", 7), ("2 GiB", 2 << 30)] {
        assert_eq!(read_one(&format!("k: {text}"), bytes).unwrap(), size, "{text}");
    }
    for text in ["MiB", "1mib", "1Mb", "-1", "1.5MiB", "99999999999GiB"] {
        assert!(read_one(&format!("k: {text}"), bytes).is_err(), "{text}");
    }
    assert_eq!(
        read_one("k: 2GiB", bytes_within(1, 1 << 30)).unwrap_err(),
        "p.yaml:1:4: k: 2GiB is out of range; it must be 1B to 1GiB"
    );
    assert_eq!(
        read_one("k: yes", boolean).unwrap_err(),
        "p.yaml:1:4: k: yes is neither true nor false; did you mean true?"
    );
}

#[test]
fn references_are_replaced_in_scalars_only() {
    let cases = [
        ("k: ${TOPIC}", "payments"),
        ("k: a-${TOPIC}.${TOPIC}", "a-payments.payments"),
        ("k: ${NOT_SET:fallback}", "fallback"),
        ("k: \"${NOT_SET:a: b # c}\"", "a: b # c"),
        ("k: $${TOPIC}", "${TOPIC}"),
        ("k: price $5", "price $5"),
        ("k: ${TOPIC:x}", "payments"),
    ];
    for (yaml, expected) in cases {
        assert_eq!(read_one(yaml, text).unwrap(), expected, "{yaml}");
    }
}

#[test]
fn a_bad_reference_is_reported_with_its_line_and_without_values() {
    let cases = [
        ("k: ${NOT_SET}", "1:4: k: the variable NOT_SET is not set; set it, or write a default: ${NOT_SET:default}"),
        ("k: ${OPEN", "1:4: k: ${ without its }; for a literal ${ write $${"),
        ("k: ${NOT_SET:-1}", "1:4: k: ${NOT_SET:-…} is shell syntax; write a default as ${NOT_SET:default}"),
        ("k: ${}", "1:4: k: ${…} must contain a variable's name (letters, digits and _), NAME:default or file:/path"),
        ("k: ${EMPTY}", "1:4: k: the value of ${EMPTY} is empty; set a value or remove the key"),
    ];
    for (yaml, expected) in cases {
        assert_eq!(read_one(yaml, text).unwrap_err(), format!("p.yaml:{expected}"), "{yaml}");
    }
    let refused = read_one("k: ${PASSWORD}", whole).unwrap_err();
    assert_eq!(refused, "p.yaml:1:4: k: the value of ${PASSWORD} is not a whole number; write digits only");
    let missing = read_one("k: ${file:none}", text).unwrap_err();
    assert!(missing.starts_with("p.yaml:1:4: k: the file none cannot be read: "), "{missing}");
}

#[test]
fn secret_files_lose_one_newline_and_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n\n").unwrap();
    std::fs::write(folder.path().join("large"), vec![b'x'; 1 << 20]).unwrap();
    let read = |yaml: &str| read_text("p.yaml", yaml, folder.path(), &env, |table| table.need("k", secret));
    let value = read("k: ${file:password}").unwrap();
    assert_eq!(value.expose(), "hunter2\n");
    assert_eq!(format!("{value:?}"), "***");
    assert!(read("k: ${file:large}").unwrap_err().to_string().contains("has more than 65536 bytes"));
}

#[test]
fn free_blocks_follow_the_core_schema() {
    let yaml = "\
k:
  whole: 12
  from_env: ${LIMIT}
  quoted: \"12\"
  hex: 0x1F
  octal: 0o17
  old_octal: 017
  float: 1e3
  dot: .5
  yes: yes
  no_value:
  truth: True
  list: [1, -2, +3, ~]
  date: 2024-01-02
  large: 18446744073709551615
  secret: ${PASSWORD}
  nested: { a: { b: [c] } }
";
    let json = read(yaml, |table| table.json("k")).unwrap();
    let expected = json!({
        "whole": 12, "from_env": 12, "quoted": "12", "hex": 31, "octal": 15, "old_octal": 17, "float": 1000.0,
        "dot": 0.5, "yes": "yes", "no_value": null, "truth": true, "list": [1, -2, 3, null], "date": "2024-01-02",
        "large": 18_446_744_073_709_551_615_u64, "secret": "hunter2", "nested": {"a": {"b": ["c"]}},
    });
    assert_eq!(json.value, expected);
    assert_eq!(json.written["secret"], "${PASSWORD}");
    assert!(!format!("{json:?}").contains("hunter2"));
    for (yaml, expected) in [
        ("k: { a: .nan }", "1:9: k.a: infinity and NaN have no JSON form; quote it to get a text"),
        ("k: { a: 18446744073709551616 }", "1:9: k.a: whole number exceeds 64 bits; quote it to get a text"),
        ("k: { a: 1, a: 2 }", "1:12: k.a: duplicate key"),
        ("k: [{ a: 1e999 }]", "1:10: k[0].a: number exceeds the range of a double; quote it to get a text"),
    ] {
        assert_eq!(read(yaml, |table| table.json("k")).unwrap_err(), format!("p.yaml:{expected}"), "{yaml}");
    }
}

#[test]
fn unneeded_yaml_features_are_refused() {
    for (yaml, expected) in [
        ("a: &x 1\nb: *x\n", "p.yaml:1:7: anchors are not supported"),
        ("a: !!int 1\n", "tags are not supported"),
        ("a: 1\n---\nb: 1\n", "second document"),
        ("? [a]\n: 1\n", "a key must be a name, not a list or a mapping"),
        ("- a\n", "p.yaml:1:1: the file must be a mapping"),
        ("a: [1\n", "not YAML"),
        ("a: \"open\n", "not YAML"),
    ] {
        let refused = read(yaml, |_| Some(())).unwrap_err();
        assert!(refused.contains(expected), "{yaml:?}: {refused}");
    }
    assert!(read(&format!("a: {}", "[".repeat(100)), |_| Some(())).unwrap_err().contains("nested too deep"));
    assert!(read(&format!("a: {}", "[".repeat(100_000)), |_| Some(())).is_err());
    assert!(read(&"- ".repeat(50_000), |_| Some(())).is_err());
    assert!(read("", |_| Some(())).is_ok());
    assert!(read("# nothing\n---\n", |_| Some(())).is_ok());
}

#[test]
fn the_nearest_key_is_found_and_a_far_one_is_not() {
    let known = ["group_id", "topic", "brokers", "session_timeout", "start"];
    let near = |word: &str| nearest(word, known.into_iter());
    assert_eq!(near("group").as_deref(), Some("group_id"));
    assert_eq!(near("topics").as_deref(), Some("topic"));
    assert_eq!(near("Brokers").as_deref(), Some("brokers"));
    assert_eq!(near("session_timeuot").as_deref(), Some("session_timeout"));
    assert_eq!(near("consistency"), None);
    assert_eq!(near("x"), None);
}

#[test]
fn many_unknown_keys_take_linear_time() {
    // If every pair of keys were compared, eight times as many keys would take 64 times as long.
    let took = |keys: usize| {
        let text: String = (0..keys).map(|n| format!("unknown_key_{n}: 1\n")).collect();
        let begun = std::time::Instant::now();
        let errors = read(&text, |table| {
            table.get("known_key", whole);
            Some(())
        });
        assert_eq!(errors.unwrap_err().lines().count(), keys);
        begun.elapsed()
    };
    let least = |keys: usize| (0..3).map(|_| took(keys)).min().unwrap();
    let (few, many) = (least(3_000), least(24_000));
    assert!(many < few * 24, "3,000 keys took {few:?}, and eight times as many {many:?}");
    let duplicates = "k: 1\n".repeat(24_000);
    assert!(read(&duplicates, |table| table.get("k", whole)).unwrap_err().ends_with("it is already set on line 1"));
}

#[test]
fn positions_fall_back_to_the_nearest_parent() {
    let text = "a:\n  b:\n    - c: 1\n";
    let (_, seen) = read_seen("p.yaml", text, Path::new("."), &env, |table| {
        table.table("a", |a| {
            a.tables("b", |b| b.get("c", whole));
            Some(())
        })
    });
    assert_eq!(seen.places.find("a.b[0].c"), Position { line: 3, column: 7 });
    assert_eq!(seen.places.find("a.b[0].d"), Position { line: 3, column: 7 });
    assert_eq!(seen.places.find("a.b[7].c"), Position { line: 2, column: 3 });
    assert_eq!(seen.places.find("z"), Position { line: 1, column: 1 });
    assert!(seen.keys.contains("a.b[].c"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~\\n\\t\u{0}-\u{ff}]{0,200}") {
        let _ = read(&text, |table| {
            for (_, field) in table.any() {
                let _ = field.json();
            }
            Some(())
        });
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(parts in prop::collection::vec(prop::sample::select(vec![
        "a", ":", " ", "\n", "- ", "  ", "{", "}", "[", "]", ",", "\"", "'", "#", "&x", "*x", "!t", "|", ">", "?", "---",
        "...", "%YAML", "${", "$$", "}", "~", "1", "0x", "\t", "é", "\u{feff}", "<<", "@", "`", "\\", "\r\n",
    ]), 0..60)) {
        let _ = read(&parts.concat(), |table| {
            for (_, field) in table.any() {
                let _ = field.json();
            }
            Some(())
        });
    }
}
