//! Tests offsets that somebody else moved: nothing is written or produced for them, and the command in the halt's
//! message resolves the halt.

use serde_json::{Value, json};
use tollgate_tests::case::Case;
use tollgate_tests::engine::Engine;
use tollgate_tests::kafka::Record;
use tollgate_tests::{events, wait_for};

fn produce(case: &Case, partition: i32, ids: std::ops::Range<usize>) {
    let record = |id: usize| Record { partition, ..Record::new("k", events::encode(&json!({ "id": id.to_string() }))) };
    case.kafka.produce(&case.source(), &ids.map(record).collect::<Vec<_>>());
}

/// Waits until the broker has noticed that the last member left.
fn committed(case: &Case, expected: &[Option<i64>]) {
    let partitions = i32::try_from(expected.len()).unwrap();
    wait_for(&format!("the group to stand at {expected:?}"), || {
        (case.kafka.committed(&case.name, &case.source(), partitions).ok()? == expected).then_some(())
    });
}

fn halts(case: &Case, message: &str) -> Engine {
    let engine = case.tollgate(&["run", "pipeline.yaml", "--drain"], &[]);
    let status = engine.wait();
    assert_eq!(status.code(), Some(1), "{}", engine.log());
    assert!(engine.log().contains(message), "{message:?} is not in\n{}", engine.log());
    engine
}

/// Returns the command with this `--from` from a halt's message.
fn printed(engine: &Engine, from: &str) -> Vec<String> {
    let log = engine.log();
    let mut commands = log.split('`').filter(|part| part.starts_with("tollgate offsets adopt "));
    let command =
        commands.find(|command| command.ends_with(from)).unwrap_or_else(|| panic!("no --from {from} in {log}"));
    command.split(' ').skip(1).map(str::to_owned).collect()
}

fn tollgate(case: &Case, arguments: &[String], more: &[&str], code: i32) -> Value {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let verb = case.tollgate(&[&arguments[..], &["--output", "json"]].concat(), &[]);
    let status = verb.wait();
    assert_eq!(status.code(), Some(code), "{arguments:?}: {}{}", verb.stdout(), verb.log());
    serde_json::from_str(&verb.stdout()).unwrap()
}

fn epochs(case: &Case) -> Vec<i64> {
    case.database
        .texts("SELECT epoch::text FROM tollgate.progress ORDER BY partition")
        .iter()
        .map(|e| e.parse().unwrap())
        .collect()
}

/// Returns the number of rows that were written `times` times.
fn rows(case: &Case, times: i64) -> i64 {
    case.database.number(&format!("SELECT count(*) FROM seen WHERE n = {times}"))
}

fn outputs(case: &Case) -> usize {
    case.kafka.read(&case.output()).len()
}

#[test]
fn an_offset_that_an_operator_moved_halts_and_the_printed_command_goes_on() {
    let case = Case::new("operator").set("/delivery/batch", json!({ "max_events": 10 })).setup_with(2);
    produce(&case, 0, 0..100);
    produce(&case, 1, 0..20);
    case.drain();
    produce(&case, 0, 100..150);
    committed(&case, &[Some(100), Some(20)]);
    let before = epochs(&case)[0];
    // Moves one offset forward past unread records, and the other back into the last batch.
    case.kafka.commit(&case.name, &case.source(), 0, 150);
    for _ in 0..2 {
        halts(&case, "the consumer group's offset 150 was not committed by Tollgate, which is at 100");
    }
    case.kafka.commit(&case.name, &case.source(), 1, 17);
    let before = [before, epochs(&case)[1]];
    let halted = halts(&case, "offset 17 was not committed by Tollgate");
    assert_eq!(epochs(&case), before, "a takeover that halts fences nobody");
    assert_eq!((rows(&case, 1), outputs(&case)), (120, 120));

    // The printed command names one partition; without it all partitions are adopted.
    let mut command = printed(&halted, "progress");
    let named = command.iter().position(|word| word == "--partition").unwrap();
    command.drain(named..named + 2);
    let dry = tollgate(&case, &command, &[], 0);
    assert_eq!(dry["result"]["dry_run"], json!(true));
    assert_eq!(dry["result"]["partitions"][0]["halt"]["code"], json!("group-offset-foreign"));
    assert_eq!(dry["result"]["partitions"][0]["progress"]["next_offset"], json!(100));
    committed(&case, &[Some(150), Some(17)]);
    let group = ["offsets", "adopt", "pipeline.yaml"].map(str::to_owned);
    let followed = tollgate(&case, &group, &[], 0);
    assert_eq!(followed["result"]["partitions"][0]["rows"]["skipped"], json!([100, 150]));
    assert_eq!(followed["result"]["partitions"][1]["rows"]["repeated"], json!([17, 20]));
    let done = tollgate(&case, &command, &["--yes"], 0);
    assert_eq!(done["summary"], json!("2 partitions adopted; start the pipeline"));
    case.drain();
    assert_eq!((rows(&case, 1), outputs(&case)), (170, 170), "nothing is lost and nothing comes twice");
    let nothing = tollgate(&case, &group, &["--yes"], 0);
    assert_eq!(nothing["result"]["partitions"], json!([]));

    // Following the operator's offset instead repeats the events that the dry run listed.
    committed(&case, &[Some(150), Some(20)]);
    case.kafka.commit(&case.name, &case.source(), 1, 17);
    let halted = halts(&case, "was not committed by Tollgate");
    tollgate(&case, &printed(&halted, "group"), &["--yes"], 0);
    case.drain();
    assert_eq!((rows(&case, 1), rows(&case, 2), outputs(&case)), (167, 3, 173));

    // An older release takes the partition over and commits without a token; the row shows that.
    committed(&case, &[Some(150), Some(20)]);
    case.database.run("UPDATE tollgate.progress SET epoch = epoch + 1");
    case.kafka.commit(&case.name, &case.source(), 1, 20);
    produce(&case, 1, 20..30);
    case.drain();
    assert_eq!((rows(&case, 1), outputs(&case)), (177, 183));

    let engine = case.run();
    engine.ready();
    let refused = tollgate(&case, &group, &["--yes"], 1);
    assert_eq!(refused["error"]["code"], json!("offsets.running"));
    engine.stop();
}

#[test]
fn what_belongs_to_another_pipeline_group_or_topic_halts_and_fences_nobody() {
    let case = Case::new("elsewhere").set("/delivery/batch", json!({ "max_events": 10 })).setup_with(1);
    produce(&case, 0, 0..20);
    case.drain();
    committed(&case, &[Some(20)]);
    // The same pipeline in another group beside the healthy one. Earlier versions fenced the healthy one at every
    // start.
    let mut twin = case.again();
    twin.change("/source/group_id", json!(format!("{}-twin", case.name)));
    let before = [epochs(&case)[0] + 1];
    let engine = case.run();
    wait_for("the owner to have the partition", || (epochs(&case) == before).then_some(()));
    for _ in 0..2 {
        halts(&twin, "the progress row belongs to the consumer group");
    }
    assert_eq!(epochs(&case), before);
    produce(&case, 0, 20..30);
    case.settled(&[30]);
    engine.stop();
    committed(&case, &[Some(30)]);

    // Another pipeline in the same group: the same pipeline under a new name.
    let mut renamed = case.again();
    let name = format!("{}-renamed", case.name);
    renamed.change("/pipeline", json!(name));
    let halted = halts(&renamed, &format!("was committed by the pipeline {}", case.name));
    let adopted = tollgate(&renamed, &printed(&halted, "group"), &["--yes"], 0);
    let partition = &adopted["result"]["partitions"][0];
    assert_eq!((&partition["renamed_from"], &partition["group_offset"]), (&json!(case.name), &json!(30)));
    assert_eq!(partition["rows"], json!({ "skipped": null, "repeated": null }));
    produce(&case, 0, 30..40);
    renamed.drain();
    assert_eq!((rows(&case, 1), outputs(&case)), (40, 40));
    halts(&case, &format!("was committed by the pipeline {name}"));

    // A topic that was deleted and created again has different records at the same offsets.
    wait_for("an empty group", || case.kafka.try_delete_topic(&case.source()));
    case.kafka.create_topic_again(&case.source(), 1);
    produce(&case, 0, 100..150);
    let halted = halts(&renamed, "the topic was deleted and created again");
    tollgate(&renamed, &printed(&halted, "start"), &["--yes"], 0);
    renamed.drain();
    assert_eq!(outputs(&case), 90);
}

#[test]
fn start_committed_takes_a_group_over_from_another_program() {
    let case = Case::new("adopts").set("/source/start", json!("committed")).setup_with(2);
    produce(&case, 0, 0..10);
    produce(&case, 1, 0..10);
    halts(&case, "`start: committed` needs an offset that the consumer group has committed");
    case.kafka.commit(&case.name, &case.source(), 0, 7);
    case.drain();
    assert_eq!(case.database.number("SELECT count(*) FROM seen WHERE p = 0 AND o >= 7"), 3);
    assert_eq!((rows(&case, 1), outputs(&case)), (13, 13), "a partition without an offset begins at its first record");
    case.drain();
    assert_eq!((rows(&case, 1), outputs(&case)), (13, 13));
}

#[test]
fn after_at_least_once_the_rows_say_where_to_go_on() {
    let mut case = Case::new("modes")
        .set("/delivery", json!({ "mode": "at_least_once", "batch": { "max_events": 10 } }))
        .setup_with(1);
    produce(&case, 0, 0..20);
    case.drain();
    committed(&case, &[Some(20)]);
    case.kafka.commit(&case.name, &case.source(), 0, 3);
    case.change("/delivery/mode", json!("effectively_once"));
    produce(&case, 0, 20..30);
    case.drain();
    assert_eq!((rows(&case, 1), outputs(&case)), (30, 30));
    committed(&case, &[Some(30)]);
    case.kafka.commit(&case.name, &case.source(), 0, 3);
    halts(&case, "was not committed by Tollgate");
}
