//! Tests the verdicts of a well-behaved guest, and their results.

use std::sync::Arc;

use serde_json::json;
use tollgate_sandbox::{Bytes, Events, Outcome, Overrides, Results};

use crate::{SANDBOX, actor, events, guests, outcome, outputs, run};

#[test]
fn pass_is_the_event_itself() {
    let results = run(&[actor()], &events(&["p one", "", "p two"])).unwrap();
    for event in 0..3 {
        let [output] = results.outputs_of(event) else { panic!("{:?}", results.outcomes[event]) };
        assert_eq!((output.route, &output.payload, &output.key), (0, &Bytes::Input, &Bytes::Input));
        assert!(output.headers.is_empty());
        assert!((20..1_000).contains(&results.fuel[event]), "{:?}", results.fuel);
    }
    assert!(results.arena.is_empty());
    assert_eq!(results.outcomes[2], Outcome::Outputs(2..3));
}

#[test]
fn an_empty_chain_passes_everything() {
    let events = events(&["a", "b"]);
    let results = run(&[], &events).unwrap();
    assert_eq!(outputs(&results, &events, 1), ["0:key-1=b"]);
}

#[test]
fn an_empty_batch_is_no_work() {
    assert!(run(&[actor()], &Arc::new(Events::default())).unwrap().outcomes.is_empty());
}

#[test]
fn every_verdict_has_its_outcome() {
    let events = events(&["k", "eX", "d", "r", "R", "x", "1X", "p"]);
    let results = run(&[actor()], &events).unwrap();
    let expected = [
        "0:key=k trace=valued",
        // Key and headers apply to the next output only.
        "0:key=X trace=valued | 0:key-1=X",
        "dropped by 0",
        "rejected by 0: amount.too-large [payment.amount] the amount ?[31mis too large",
        "rejected by 0: rejected [] ",
        "0:key=~ trace=valued",
        "1:key-6=X | 0:key-6=X",
        "0:key-7=p",
    ];
    for (event, expected) in expected.iter().enumerate() {
        assert_eq!(&outcome(&results, &events, event), expected);
    }
    // Outputs of dropped and rejected events are discarded.
    assert_eq!(results.arena, b"keykeyXXkeyXX");
    let Outcome::Rejected(rejected) = &results.outcomes[3] else { panic!("{:?}", results.outcomes[3]) };
    assert!(rejected.fuel_used > 0 && rejected.fuel_used == results.fuel[3]);
}

#[test]
fn a_header_is_the_last_with_a_value() {
    let mut two = Events::clone(&events(&["h"]));
    two.push(None, Some(b"h"), 101, -1);
    two.headers.push("other", Some(b"value"));
    two.headers.end_record();
    let two = Arc::new(two);
    let results = run(&[actor()], &two).unwrap();
    assert_eq!(outcome(&results, &two, 0), "0:key-0=v-0");
    assert_eq!(outcome(&results, &two, 1), "dropped by 0", "a header that is not there reads as none");
}

#[test]
fn the_guest_sees_where_the_batch_comes_from() {
    let mut events = Events::default();
    events.push(Some(b"k"), Some(b"p"), 6, 7);
    events.push(None, Some(b"M"), i64::MAX, -1);
    let events = Arc::new(events);
    let results = run(&[actor()], &events).unwrap();
    let seen: Vec<_> =
        results.outputs_of(1).iter().map(|output| results.payload(output, &events, 1).unwrap()).collect();
    let mut meta = Vec::new();
    meta.extend(3_i32.to_le_bytes());
    meta.extend(7_u32.to_le_bytes());
    meta.extend(1_700_000_000_000_i64.to_le_bytes());
    meta.extend(42_u64.to_le_bytes());
    assert_eq!(seen, [&meta[..], b"payments", &i64::MAX.to_le_bytes(), &(-1_i64).to_le_bytes(), &[1]]);
    assert_eq!(results.key(&results.outputs_of(1)[0], &events, 1), None);
}

#[test]
fn a_tombstone_is_not_an_empty_value() {
    let mut events = Events::default();
    events.push(Some(b"gone"), None, 0, 0);
    events.push(Some(b"empty"), Some(b""), 1, 0);
    let events = Arc::new(events);
    let results = run(&[actor()], &events).unwrap();
    assert_eq!(results.outputs_of(0)[0].payload, Bytes::Null);
    assert_eq!(outcome(&results, &events, 1), "0:empty=");
}

#[test]
fn init_gets_the_merged_config() {
    let mut manifest = guests::manifest("configured");
    manifest["config"] = json!({"above": 10, "tiers": {"a": 1}});
    let wasm = guests::component(&[guests::INIT, guests::PROCESS, guests::LOOP, guests::ACTOR], &manifest);
    let overrides = Overrides { config: Some(json!({"tiers": {"b": 2}})), ..Overrides::default() };
    let events = events(&["I"]);
    let results = run(&[&SANDBOX.load(&wasm, &overrides).unwrap()], &events).unwrap();
    assert_eq!(outcome(&results, &events, 0), r#"0:key-0={"above":10,"tiers":{"a":1,"b":2}}"#);
}

#[test]
fn results_are_reused_from_batch_to_batch() {
    let chain = tollgate_sandbox::Chain::new(vec![actor().clone(), actor().clone()]);
    let mut results = Results::default();
    for batch in [&["eep", "d"][..], &["r"], &["p", "t", "ep"]] {
        let events = events(batch);
        chain.run(&crate::meta(), &events, &mut results).unwrap();
        let fresh = run(&[actor(), actor()], &events).unwrap();
        assert_eq!((&results.outcomes, &results.outputs), (&fresh.outcomes, &fresh.outputs));
        assert_eq!((&results.arena, &results.fuel), (&fresh.arena, &fresh.fuel));
    }
}
