//! Tests the central property of the sandbox: a verdict depends on the event alone.

use proptest::prelude::*;

use crate::{actor, events, outcome, run};

/// Generates everything that the actor can do, including each kind of fault and harm to later events.
fn value() -> impl Strategy<Value = String> {
    let harmless = prop::sample::select(vec!["p", "d", "rX", "R", "eX", "1X", "k", "x", "h", "K", "I", ""]);
    let hostile = prop::sample::select(vec![
        "f", "t", "/", "o", "l", "m", "s", "O", "N", "W", "G", "B", "C", "A", "V", "D", "H", "X", "U", "b", "P", "Q",
    ]);
    prop_oneof![3 => harmless, 1 => hostile].prop_map(str::to_owned)
}

/// Generates values for a chain of two actors.
fn nested() -> impl Strategy<Value = String> {
    (prop::sample::select(vec!["", "e", "1"]), value()).prop_map(|(first, then)| first.to_owned() + &then)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_gives_each_event_the_verdict_it_gets_alone(values in prop::collection::vec(value(), 0..40)) {
        same_as_alone(&values, 1)?;
    }

    #[test]
    fn and_so_does_a_chain(values in prop::collection::vec(nested(), 0..16)) {
        same_as_alone(&values, 2)?;
    }
}

fn same_as_alone(values: &[String], length: usize) -> Result<(), TestCaseError> {
    let chain = vec![actor(); length];
    let batch = events(values);
    let results = run(&chain, &batch).map_err(|error| TestCaseError::fail(error.to_string()))?;
    for (event, value) in values.iter().enumerate() {
        let mut single = tollgate_sandbox::Events::default();
        single.push(batch.key(event), batch.value(event), batch.record_offsets[event], batch.timestamps[event]);
        for (name, value) in batch.headers.iter(event) {
            single.headers.push(name, value);
        }
        single.headers.end_record();
        let single = std::sync::Arc::new(single);
        let alone = run(&chain, &single).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(outcome(&results, &batch, event), outcome(&alone, &single, 0), "{}", value);
    }
    Ok(())
}
