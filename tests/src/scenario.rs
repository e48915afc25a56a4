//! Runs scenario directories: `tests/cases/<name>/`.
//!
//! | file | what it says |
//! |---|---|
//! | `pipeline.yaml` | the pipeline; `${CASE}` begins every name, `${KAFKA}` and `${POSTGRES}` are the servers |
//! | `schema.sql` | optional: run before `tollgate setup` |
//! | `input.jsonl` | a record a line: `key`, `headers`, `partition`, and one of `event` (as Protobuf), `text`, `hex`, `zeros` (a count), `null` |
//! | `expected.jsonl` | what becomes of the record in the same line: `output` (its events), `dead` (reason, and whatever else is written there of `field`, `stage`, `transform`) or `nothing` |
//! | `expected.rows.json` | the table, its rows as JSON, in order |

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::case::Case;
use crate::events;
use crate::guests::{self, Guest};
use crate::kafka::{Letter, Record};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// Runs a scenario and compares its results. `rows` is a query that returns the table as one JSON object a row.
pub fn run(name: &str, rows: &str) {
    let folder = folder().join(name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let lines = |file: &str| -> Vec<Value> {
        read(file).lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let case = Case::new(name);
    case.put("guest.wasm", &guests::component(&Guest::revision(7)));
    case.put("pipeline.yaml", read("pipeline.yaml").as_bytes());
    if folder.join("schema.sql").exists() {
        case.database.run(&read("schema.sql"));
    }
    let variables = [
        ("CASE", case.name.as_str()),
        ("KAFKA", case.pipeline["source"]["brokers"].as_str().unwrap()),
        ("POSTGRES", case.database.url()),
    ];
    // The source accepts records that the contract rejects.
    case.kafka.create_topic(&case.source(), 2, &[("max.message.bytes", "10000000")]);
    let setup = case.tollgate(&["setup", "pipeline.yaml", "--partitions", "2"], &variables);
    assert!(setup.wait().success(), "{}", setup.log());
    let input = lines("input.jsonl");
    let mut coordinates = Vec::new();
    let mut counts = [0; 2];
    let records: Vec<Record> = input.iter().map(record).collect();
    for record in &records {
        let next = &mut counts[usize::try_from(record.partition).unwrap()];
        coordinates.push((record.partition, *next));
        *next += 1;
    }
    case.kafka.produce(&case.source(), &records);
    let engine = case.tollgate(&["run", "pipeline.yaml", "--drain"], &variables);
    assert!(engine.wait().success(), "{}", engine.log());

    let (outputs, dead) = (case.kafka.read(&case.output()), case.kafka.read(&case.dead()));
    let expected = lines("expected.jsonl");
    assert_eq!(expected.len(), input.len(), "a line in expected.jsonl for each of input.jsonl");
    let mut wrong = Vec::new();
    for ((expected, record), coordinate) in expected.iter().zip(&records).zip(&coordinates) {
        let theirs = |letters: &[Letter]| -> Vec<Letter> {
            letters.iter().filter(|letter| letter.source() == *coordinate).cloned().collect()
        };
        let found = became(&theirs(&outputs), &theirs(&dead), record, expected);
        if found != *expected {
            wrong.push(format!("{coordinate:?}\nexpected {expected}\nfound    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    let found: Vec<Value> = case.database.texts(rows).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let expected: Value = serde_json::from_str(&read("expected.rows.json")).unwrap();
    assert_eq!(Value::Array(found), expected, "{name}: the table");
}

fn record(line: &Value) -> Record {
    let text = |value: &Value| value.as_str().unwrap().as_bytes().to_vec();
    let value = if let Some(event) = line.get("event") {
        Some(events::encode(event))
    } else if let Some(value) = line.get("text") {
        Some(text(value))
    } else if let Some(digits) = line.get("hex") {
        let digits = digits.as_str().unwrap();
        Some((0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect())
    } else if let Some(zeros) = line.get("zeros") {
        Some(vec![0; usize::try_from(zeros.as_u64().unwrap()).unwrap()])
    } else {
        assert_eq!(line["null"], json!(true), "a line of input.jsonl says what its value is: {line}");
        None
    };
    let headers = line.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
    Record {
        partition: i32::try_from(line["partition"].as_i64().unwrap_or(0)).unwrap(),
        key: line.get("key").map(text),
        value,
        headers: headers.iter().map(|(name, value)| (name.clone().into_bytes(), text(value))).collect(),
        timestamp: None,
    }
}

/// Returns the result of a record in the form of `expected.jsonl`. A dead letter must equal the record byte for byte.
fn became(outputs: &[Letter], dead: &[Letter], record: &Record, expected: &Value) -> Value {
    let mut found = Map::new();
    if !outputs.is_empty() {
        let payload = |letter: &Letter| letter.value.as_deref().map_or(Value::Null, events::decode);
        found.insert("output".into(), outputs.iter().map(payload).collect());
    }
    for letter in dead {
        assert!(found.insert("dead".into(), json!(letter.header("tollgate.reason"))).is_none(), "two dead letters");
        for key in ["field", "stage", "transform", "stored"] {
            if expected.get(key).is_some() {
                found.insert(key.into(), json!(letter.header(&format!("tollgate.{key}"))));
            }
        }
        assert_eq!(letter.key, record.key, "the key stays as it came");
        match (letter.header("tollgate.stored"), &record.value) {
            (None, value) => assert_eq!(letter.value, *value, "the value stays as it came"),
            (Some(_), value) => {
                let (head, whole) = (letter.value.as_deref().unwrap(), value.as_deref().unwrap());
                assert!(whole.starts_with(head) && head.len() < whole.len(), "the value's first bytes");
                assert_eq!(letter.header("tollgate.value-bytes"), Some(whole.len().to_string().as_str()));
            }
        }
        let own: Vec<_> = record.headers.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        assert_eq!(letter.headers[..own.len()], own, "its own headers come first");
    }
    if found.is_empty() {
        found.insert("nothing".into(), json!(true));
    }
    Value::Object(found)
}
