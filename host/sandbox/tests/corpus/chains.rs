//! Tests several transforms in sequence: three actors that each do what the first byte of their input tells them.

use tollgate_sandbox::{Bytes, Outcome, Transform};

use crate::{actor, events, failed, outcome, run};

fn three() -> [&'static Transform; 3] {
    [actor(), actor(), actor()]
}

#[test]
fn each_sees_what_the_one_before_it_emitted() {
    let cases = [
        ("p", "0:key-0=p"),
        (
            "eeep",
            "0:key=p trace=valued | 0:key=p trace=valued | 0:key=p trace=valued | 0:key-1=p | \
                  0:key=p trace=valued | 0:key-1=p | 0:key-1=p | 0:key-1=p",
        ),
        ("d", "dropped by 0"),
        ("ed", "dropped by 1"),
        ("eed", "dropped by 2"),
        ("r", "rejected by 0: amount.too-large [payment.amount] the amount ?[31mis too large"),
        ("eeR", "rejected by 2: rejected [] "),
        ("et", "failed at 1: wasm-trap"),
        // A tombstone stays a tombstone, with the key that was set.
        ("x", "0:key=~ trace=valued"),
        // The next transform reads the headers and the key as they are now.
        ("eh", "0:key=valued trace=valued | 0:key-9=v-9"),
        ("eK", "0:key=key trace=valued | 0:key=key-10 trace=valued"),
        ("k", "0:key=k trace=valued"),
    ];
    let events = events(&cases.map(|(value, _)| value));
    let results = run(&three(), &events).unwrap();
    for (event, (value, expected)) in cases.iter().enumerate() {
        let outcome = outcome(&results, &events, event);
        if *value == "eeep" {
            assert_eq!(results.outputs_of(event).len(), 8, "{outcome}");
        } else if *value == "et" {
            assert!(outcome.starts_with(expected), "{outcome}");
        } else {
            assert_eq!(&outcome, expected, "{value}");
        }
    }
}

#[test]
fn a_named_route_leaves_where_it_was_named_if_the_event_goes_through() {
    let events = events(&["11p", "1d", "1r", "1t", "11d"]);
    let results = run(&three(), &events).unwrap();
    assert_eq!(outcome(&results, &events, 0), "1:key-0=1p | 1:key-0=p | 0:key-0=p");
    let transforms: Vec<_> = results.outputs_of(0).iter().map(|output| output.transform).collect();
    assert_eq!(transforms, [0, 1, 2], "routes are per transform");
    assert_eq!(outcome(&results, &events, 1), "1:key-1=d", "dropped on the main route, not on the side");
    assert!(outcome(&results, &events, 2).starts_with("rejected by 1"), "nothing leaves of a rejected event");
    assert_eq!(failed(&results, 3).transform, 1);
    assert_eq!(outcome(&results, &events, 4), "1:key-4=1d | 1:key-4=d");
}

#[test]
fn an_untouched_event_is_never_copied() {
    let events = events(&["p", "", "p and more"]);
    let results = run(&three(), &events).unwrap();
    assert!(results.arena.is_empty());
    for event in 0..3 {
        assert_eq!(results.outputs_of(event)[0].payload, Bytes::Input);
        assert_eq!(
            results.outcomes[event],
            Outcome::Outputs(u32::try_from(event).unwrap()..u32::try_from(event + 1).unwrap())
        );
    }
}

#[test]
fn one_bad_output_settles_its_event_once_and_no_other() {
    // The next transform rejects the second of the two outputs, so no output of the event is sent.
    let events = events(&["p", "eer", "ep", "eeet", "p"]);
    let results = run(&three(), &events).unwrap();
    assert_eq!(outcome(&results, &events, 0), "0:key-0=p");
    assert!(outcome(&results, &events, 1).starts_with("rejected by 2"));
    assert_eq!(results.outputs_of(2).len(), 2);
    assert_eq!(outcome(&results, &events, 4), "0:key-4=p");
    assert_eq!(results.outputs.len(), 1 + 2 + results.outputs_of(3).len() + 1);
}

#[test]
fn fuel_is_summed_over_the_chain() {
    let events = events(&["eep", "t"]);
    let one = run(&[actor()], &events).unwrap();
    let three = run(&three(), &events).unwrap();
    assert!(three.fuel[0] > 3 * one.fuel[0], "{:?} {:?}", one.fuel, three.fuel);
    assert_eq!(three.fuel[1], one.fuel[1], "a failed event costs the others nothing");
}
