//! Tests records that Kafka refuses although they complied with their topics' settings when the engine read those.

use std::collections::BTreeSet;

use serde_json::json;
use tollgate_tests::case::Case;
use tollgate_tests::engine::Engine;
use tollgate_tests::kafka::Record;
use tollgate_tests::seed::Seed;
use tollgate_tests::{events, wait_for};
use xtask::process::Signal;

/// The number of events in each of two partitions, which two lanes process.
const EVENTS: usize = 300;

fn event(partition: i32, id: &str) -> Record {
    Record { partition, ..Record::new(id, events::encode(&json!({ "id": id }))) }
}

/// Returns digits that compress to no less than half.
fn noise(seed: u64, digits: usize) -> String {
    let mut seed = Seed::new(seed);
    (0..digits).map(|_| char::from(b"0123456789abcdef"[usize::try_from(seed.below(16)).unwrap()])).collect()
}

/// Changes a topic until it refuses or accepts a record.
fn change(case: &Case, topic: &str, setting: (&str, &str), probe: &Record, takes: bool) {
    case.kafka.alter_topic(topic, &[setting]);
    for partition in 0..case.kafka.partitions(topic) {
        let probe = Record { partition, ..probe.clone() };
        wait_for(&format!("{setting:?} in {topic}/{partition}"), || {
            (case.kafka.takes(topic, &probe) == takes).then_some(())
        });
    }
}

fn keyless(record: Record) -> Record {
    Record { key: None, ..record }
}

/// Returns the number of attempts that failed because of a record. A busy machine has other failures too.
fn given_up(engine: &Engine) -> usize {
    engine.log().lines().filter(|line| line.contains("batch failed, retrying") && line.contains("record")).count()
}

/// Partitions and offsets in the source.
type Places = BTreeSet<(i32, i64)>;

/// Returns the source coordinates of the records in a topic, and their number.
fn sources(case: &Case, topic: &str) -> (Places, usize) {
    let letters = case.kafka.read(topic);
    (letters.iter().map(|letter| letter.source()).collect(), letters.len())
}

fn ends(counts: [usize; 2]) -> Vec<i64> {
    counts.iter().map(|count| i64::try_from(*count).unwrap()).collect()
}

/// Makes the output topic compacted while the engine runs. Only the events without a key become dead letters.
fn compacted_meanwhile(mode: &str) -> (Case, Engine, Places, Places) {
    let case = Case::new("keyless").set("/delivery/mode", json!(mode)).setup();
    let engine = case.run();
    engine.ready();
    change(&case, &case.output(), ("cleanup.policy", "compact"), &keyless(event(0, "probe")), false);
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    let mut records = Vec::new();
    for partition in [0, 1] {
        for n in 0..EVENTS {
            let record = event(partition, &format!("{partition}-{n:03}"));
            // One alone, several in a row, the first and the last.
            let refused = partition == 0 && [0, 100, 101, 102, 200, EVENTS - 1].contains(&n);
            let place = (partition, i64::try_from(n).unwrap());
            if refused {
                bad.insert(place)
            } else {
                good.insert(place)
            };
            records.push(if refused { keyless(record) } else { record });
        }
    }
    case.kafka.produce(&case.source(), &records);
    case.settled(&ends([EVENTS, EVENTS]));
    for letter in case.kafka.read(&case.dead()) {
        assert_eq!(letter.header("tollgate.reason"), Some("output-refused"));
        assert_eq!(letter.header("tollgate.stage"), Some("output"));
        let message = letter.header("tollgate.message").unwrap();
        assert!(message.starts_with(&format!("topic {} rejected the output: ", case.output())), "{message}");
        assert!(message.contains(": InvalidRecord (") && message.ends_with("and no key"), "{message}");
    }
    let rows: Places = case
        .database
        .texts("SELECT p || ' ' || o FROM seen WHERE n = 1")
        .iter()
        .map(|row| row.split_once(' ').map(|(p, o)| (p.parse().unwrap(), o.parse().unwrap())).unwrap())
        .collect();
    assert_eq!(rows, good);
    assert_eq!(given_up(&engine), 0, "each was found at once");
    (case, engine, good, bad)
}

#[test]
fn outputs_that_their_topic_refuses_are_dead_letters_alone() {
    let (case, engine, good, bad) = compacted_meanwhile("effectively_once");
    assert_eq!(sources(&case, &case.output()), (good.clone(), good.len()), "each exactly once");
    assert_eq!(sources(&case, &case.dead()), (bad.clone(), bad.len()), "each exactly once");
    assert_eq!(engine.metric("tollgate_events_total", "output-refused"), bad.len() as f64);

    // The engine continues, even if all records of a batch are refused.
    let fresh = |n| keyless(event(1, &format!("late-{n}")));
    case.kafka.produce(&case.source(), &(0..200).map(fresh).chain([event(1, "last")]).collect::<Vec<_>>());
    case.settled(&ends([EVENTS, EVENTS + 201]));
    assert_eq!(case.kafka.read(&case.dead()).len(), bad.len() + 200);
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE id LIKE 'la%'"), ["last"]);
    // Beside one other record it may be either of the two, so they are sent one by one.
    case.kafka.produce(&case.source(), &[fresh(900), event(1, "beside")]);
    case.settled(&ends([EVENTS, EVENTS + 203]));
    assert_eq!(case.kafka.read(&case.dead()).len(), bad.len() + 201);
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE id = 'beside'").len(), 1);
    engine.stop();
}

#[test]
fn without_transactions_they_are_found_too() {
    let (case, engine, good, bad) = compacted_meanwhile("at_least_once");
    engine.stop();
    assert_eq!(sources(&case, &case.output()).0, good);
    assert_eq!(sources(&case, &case.dead()).0, bad);
}

#[test]
fn a_record_that_became_too_large_is_found_in_a_set_that_is_refused_whole() {
    let case = Case::new("shrunk").setup();
    let engine = case.run();
    engine.ready();
    let large = |n: u64, digits: usize| Record::new("k", events::encode(&json!({ "id": noise(n, digits) })));
    change(&case, &case.output(), ("max.message.bytes", "20000"), &large(0, 60_000), false);
    // Together the events exceed the new limit many times. One is too large, and one nearly so.
    let digits = |n: u64| match n {
        700 => 60_000,
        900 => 15_000,
        _ => 100,
    };
    let records: Vec<Record> = (0..2_000).map(|n| large(n, digits(n))).collect();
    case.kafka.produce(&case.source(), &records);
    case.settled(&ends([2_000, 0]));
    let dead = case.kafka.read(&case.dead());
    let reasons: Vec<_> = dead.iter().map(|letter| (letter.source(), letter.header("tollgate.reason"))).collect();
    assert_eq!(reasons, [((0, 700), Some("output-refused"))]);
    assert!(dead[0].header("tollgate.message").unwrap().contains(": MessageSizeTooLarge ("), "{dead:?}");
    let others: Places = (0..2_000).filter(|n| *n != 700).map(|n| (0, n)).collect();
    assert_eq!(sources(&case, &case.output()), (others.clone(), others.len()));
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE n = 1"), 1_999);
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE o = 700"), 0);

    // The new limit is remembered, so no record is refused any more.
    let refused = || engine.log().matches("records are sent in smaller sets").count();
    let before = refused();
    assert!(before > 0, "the sets were too large");
    case.kafka.produce(&case.source(), &(2_000..4_000).map(|n| large(n, 100)).collect::<Vec<_>>());
    case.settled(&ends([4_000, 0]));
    assert_eq!((refused(), given_up(&engine)), (before, 0));
    engine.stop();
}

/// Asserts that the partition is halted with this message and that nothing has moved. The next start reads the
/// partition again.
fn halts_saying(case: &Case, engine: &Engine, code: &str, words: &str) {
    let halt = wait_for("a halted partition", || engine.status()["halted"].as_array()?.first().cloned());
    assert_eq!((halt["partition"].as_i64(), halt["code"].as_str()), (Some(0), Some(code)), "{halt}");
    assert!(halt["message"].as_str().unwrap().contains(words), "{halt}");
    wait_for("the stored halt", || (case.database.number("SELECT count(*) FROM tollgate.halt") == 1).then_some(()));
    engine.signal(Signal::TERM);
    engine.wait();
    let resume = case.tollgate(&["resume", "pipeline.yaml", "--partition", "0"], &[]);
    assert!(resume.wait().success(), "{}", resume.log());
    assert_eq!(case.kafka.read(&case.output()).len() + case.kafka.read(&case.dead()).len(), 0);
}

#[test]
fn a_dead_letter_that_its_topic_refuses_halts_its_partition_with_the_setting() {
    let case = Case::new("deadlock").setup();
    let engine = case.run();
    engine.ready();
    let bad = Record { value: Some(vec![0xff; 20]), ..keyless(event(0, "")) };
    change(&case, &case.dead(), ("cleanup.policy", "compact"), &bad, false);
    case.kafka.produce(&case.source(), &[event(0, "a"), bad.clone()]);
    let words = format!("topic {} (dead_letter.topic) rejects the dead letter of {}/0/1: ", case.dead(), case.source());
    halts_saying(&case, &engine, "dead-letter-refused", &words);
    assert!(engine.log().contains("cleanup.policy"), "{}", engine.log());
    assert_eq!(case.database.number("SELECT count(*) FROM seen"), 0, "the batch is one decision");
    change(&case, &case.dead(), ("cleanup.policy", "delete"), &bad, true);
    case.drain();
    assert_eq!(sources(&case, &case.dead()), (BTreeSet::from([(0, 1)]), 1));
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE n = 1"), ["a"]);
}

#[test]
fn what_is_produced_from_the_redo_plan_is_not_decided_anew() {
    let case = Case::new("planned").setup();
    let record = keyless(event(0, "planned"));
    case.kafka.produce(&case.source(), std::slice::from_ref(&record));
    // The row is committed, but its output is not.
    assert!(!case.run_with(&[("TOLLGATE_FAILPOINT", "after-step-3:1")]).wait().success());
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE n = 1"), ["planned"]);
    change(&case, &case.output(), ("cleanup.policy", "compact"), &record, false);
    let words = format!(
        "topic {} rejects the output of {}/0/0, whose row is already committed: ",
        case.output(),
        case.source()
    );
    halts_saying(&case, &case.run(), "output-refused", &words);
    change(&case, &case.output(), ("cleanup.policy", "delete"), &record, true);
    case.drain();
    assert_eq!(sources(&case, &case.output()), (BTreeSet::from([(0, 0)]), 1));
    assert_eq!(case.kafka.read(&case.dead()).len(), 0);
    assert_eq!(case.database.texts("SELECT id FROM seen WHERE n = 1"), ["planned"]);
}
