//! Tests headers that no ordinary producer writes: names that are not UTF-8, and names that are reserved for Tollgate.

use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::events;
use tollgate_tests::guests::Guest;
use tollgate_tests::kafka::{Letter, Record};

/// A Latin-1 name, and a truncated UTF-8 character.
const NAMES: [&[u8]; 2] = [b"caf\xe9", b"\xe2\x82"];

fn hostile(record: Record) -> Record {
    let named = NAMES.iter().fold(record, |record, name| record.header(name, b"\xff\x00".to_vec()));
    named
        .header("tollgate.attempt", "7")
        .header("tollgate.pipeline", "somebody")
        .header("tollgate.attempt", "8")
        .header("__connect.errors.stage", "forged")
        .header("trace", "abc")
}

/// Returns the values of all headers with this name.
fn values<'l>(letter: &'l Letter, name: &str) -> Vec<&'l str> {
    let named = letter.headers.iter().filter(|(found, _)| found == name.as_bytes());
    named.map(|(_, value)| std::str::from_utf8(value.as_deref().unwrap()).unwrap()).collect()
}

/// Returns a dead letter as a new record with the same key, value and headers.
fn back(letter: &Letter) -> Record {
    let headers = letter.headers.iter().map(|(name, value)| (name.clone(), value.clone().unwrap()));
    Record { key: letter.key.clone(), value: letter.value.clone(), headers: headers.collect(), ..Record::default() }
}

fn export(case: &Case) -> Vec<Value> {
    let export = case.tollgate(&["dlq", "export", "pipeline.yaml", "-o", "letters.ndjson"], &[]);
    assert!(export.wait().success(), "{}", export.log());
    let text = std::fs::read_to_string(case.folder().join("letters.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn hostile_names_pass_and_none_of_them_passes_for_ours() {
    let case = Case::new("hostile").guest(&Guest::revision(3)).setup();
    let good = events::encode(&json!({ "id": "good", "amount": "5" }));
    case.kafka.produce(&case.source(), &[hostile(Record::new("k", good)), hostile(Record::new("bad", [0x0a]))]);
    let log = case.drain().log();
    let summary = "since the start events=2 rows=1 outputs=1 dead_letters=1 reasons=\"undecodable 1\" lag=";
    assert!(log.contains(summary), "{log}");

    let (outputs, dead) = (case.kafka.read(&case.output()), case.kafka.read(&case.dead()));
    assert_eq!((outputs.len(), dead.len()), (1, 1));
    for record in outputs.iter().chain(&dead) {
        for (header, name) in record.headers.iter().zip(NAMES) {
            assert_eq!(*header, (name.to_vec(), Some(b"\xff\x00".to_vec())), "byte for byte, and first");
        }
        assert_eq!(record.header("trace"), Some("abc"));
        assert_eq!(values(record, "original.tollgate.attempt"), ["7"], "once, and the first");
        assert_eq!(values(record, "original.tollgate.pipeline"), ["somebody"]);
        assert_eq!(values(record, "original.__connect.errors.stage"), ["forged"]);
    }
    assert!(values(&outputs[0], "tollgate.attempt").is_empty() && values(&outputs[0], "tollgate.pipeline").is_empty());
    assert_eq!(values(&dead[0], "tollgate.attempt"), ["1"], "a stranger's headers are no history");
    assert_eq!(values(&dead[0], "__connect.errors.stage"), ["contract"]);

    let exported = export(&case);
    assert_eq!((exported.len(), &exported[0]["reason"]), (1, &json!("undecodable")));

    // A dead letter that is produced again with all its headers fails again, counts its attempts, and does not grow.
    let mut letter = dead[0].clone();
    let first = letter.header("tollgate.first-failed-at").unwrap().to_owned();
    let mut sizes = Vec::new();
    for attempt in ["2", "3", "4"] {
        case.kafka.produce(&case.source(), &[back(&letter)]);
        case.drain();
        letter = case.kafka.read(&case.dead()).pop().unwrap();
        assert_eq!(values(&letter, "tollgate.attempt"), [attempt]);
        assert_eq!(values(&letter, "tollgate.first-failed-at"), [first.as_str()]);
        assert_eq!(values(&letter, "original.tollgate.attempt"), ["7"]);
        let bytes = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| name.len() + value.as_ref().map_or(0, Vec::len);
        sizes.push((letter.headers.len(), letter.headers.iter().map(bytes).sum::<usize>()));
    }
    assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
    assert_eq!(export(&case).len(), 4);
}
