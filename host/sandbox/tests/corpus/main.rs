//! Ring 2 of the tests: the sandbox against a corpus of guests, most of them hostile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod guests;
mod verdicts;

use std::sync::Arc;

use tollgate_sandbox::{BatchMeta, Chain, Events, Overrides, Results, RunError, Sandbox, Settings, Transform};

pub fn sandbox() -> Sandbox {
    Sandbox::new(Settings { lanes: 4, transforms: 4, ..Settings::default() }).unwrap()
}

pub fn load(wasm: &[u8]) -> Transform {
    sandbox().load(wasm, &Overrides::default()).unwrap()
}

pub fn meta() -> BatchMeta {
    BatchMeta { topic: "payments".into(), partition: 3, schema_id: 7, batch_time: 1_700_000_000_000, seed: 42 }
}

/// Events with a key each, offsets from 100.
pub fn events(values: &[&str]) -> Arc<Events> {
    let mut events = Events::default();
    for (index, value) in values.iter().enumerate() {
        let offset = i64::try_from(index).unwrap() + 100;
        events.push(Some(format!("key-{index}").as_bytes()), Some(value.as_bytes()), offset, 1_000 + offset);
        events.headers.end_record();
    }
    Arc::new(events)
}

pub fn run(chain: &[&Transform], events: &Arc<Events>) -> Result<Results, RunError> {
    let mut results = Results::default();
    Chain::new(chain.iter().copied().cloned().collect()).run(&meta(), events, &mut results)?;
    assert_eq!(results.outcomes.len(), events.len());
    assert_eq!(results.fuel.len(), events.len());
    Ok(results)
}
