//! Ring 2 of the tests: the sandbox against a corpus of guests, most of them hostile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod chains;
mod faults;
mod guests;
#[allow(dead_code, reason = "shared with the compiler's test, which uses all of it")]
mod hostile;
mod laws;
mod loading;
mod logs;
mod verdicts;

use std::sync::{Arc, LazyLock};

use tollgate_sandbox::{
    BatchMeta, Chain, Events, Failed, Outcome, Overrides, Results, RunError, Sandbox, Settings, Transform,
};

/// One sandbox for all tests. They run on as many threads as there are cores, and each holds one instance at a time.
pub static SANDBOX: LazyLock<Sandbox> =
    LazyLock::new(|| Sandbox::new(Settings { lanes: 32, transforms: 2, ..Settings::default() }).unwrap());

static ACTOR: LazyLock<Transform> = LazyLock::new(|| load(&guests::actor()));

/// Returns the guest that does what its events tell it.
pub fn actor() -> &'static Transform {
    &ACTOR
}

pub fn load(wasm: &[u8]) -> Transform {
    SANDBOX.load(wasm, &Overrides::default()).unwrap()
}

pub fn meta() -> BatchMeta {
    BatchMeta {
        topic: "payments".into(),
        partition: 3,
        schema_id: 7,
        batch_time: 1_700_000_000_000,
        seed: 42,
        overdue: Vec::new(),
    }
}

/// Returns events with a key and a header `trace` each, and offsets from 100.
pub fn events<T: AsRef<[u8]>>(values: &[T]) -> Arc<Events> {
    let mut events = Events::default();
    for (index, value) in values.iter().enumerate() {
        let offset = i64::try_from(index).unwrap() + 100;
        events.push(Some(format!("key-{index}").as_bytes()), Some(value.as_ref()), offset, 1_000 + offset);
        events.headers.push("trace", Some(b"older"));
        events.headers.push("trace", Some(format!("v-{index}").as_bytes()));
        events.headers.push("trace", None);
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

/// Returns an event's outputs as text: `route:key=payload`, then ` name=value` for each header; `~` is null.
pub fn outputs(results: &Results, events: &Events, event: usize) -> Vec<String> {
    let text = |bytes: Option<&[u8]>| bytes.map_or("~".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    let show = |output| {
        let (key, payload) = (results.key(output, events, event), results.payload(output, events, event));
        let mut line = format!("{}:{}={}", output.route, text(key), text(payload));
        for (name, value) in &output.headers {
            line.push_str(&format!(" {name}={}", text(Some(value))));
        }
        line
    };
    results.outputs_of(event).iter().map(show).collect()
}

/// Returns an event's outcome as text without its fuel.
pub fn outcome(results: &Results, events: &Events, event: usize) -> String {
    match &results.outcomes[event] {
        Outcome::Outputs(_) => outputs(results, events, event).join(" | "),
        Outcome::Dropped { transform } => format!("dropped by {transform}"),
        Outcome::Rejected(rejected) => {
            let (transform, code) = (rejected.transform, &rejected.code);
            format!("rejected by {transform}: {code} [{}] {}", rejected.field, rejected.message)
        }
        Outcome::Failed(failed) => format!("failed at {}: {} {}", failed.transform, failed.code, failed.message),
    }
}

pub fn failed(results: &Results, event: usize) -> &Failed {
    match &results.outcomes[event] {
        Outcome::Failed(failed) => failed,
        other @ (Outcome::Outputs(_) | Outcome::Dropped { .. } | Outcome::Rejected(_)) => panic!("{other:?}"),
    }
}
