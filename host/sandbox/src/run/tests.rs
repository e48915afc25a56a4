//! Tests cases that the corpus cannot provoke from outside: a slow machine, a full pool, an artefact of this very
//! engine.

use std::time::{Duration, Instant};

use super::*;
use crate::{Chain, Class, Outcome, Overdue, Overrides, Sandbox, Settings};

#[allow(dead_code, reason = "shared with the corpus, which uses all of it")]
#[path = "../../tests/corpus/guests.rs"]
mod guests;

const META: BatchMeta =
    BatchMeta { topic: String::new(), partition: 0, schema_id: 0, batch_time: 0, seed: 0, overdue: Vec::new() };

fn events(values: &[&str]) -> Arc<Events> {
    let mut events = Events::default();
    for (offset, value) in (7..).zip(values) {
        events.push(None, Some(value.as_bytes()), offset, -1);
        events.headers.end_record();
    }
    Arc::new(events)
}

/// Returns a guest with so much fuel that a deadline of a few milliseconds, from a wrong calibration, comes first.
fn slow_machine() -> (Sandbox, Transform) {
    let mut sandbox = Sandbox::new(Settings::default()).unwrap();
    sandbox.fuel_per_ms = u64::MAX;
    let mut manifest = guests::manifest("slow");
    manifest["limits"]["fuel"] = limits::MAX_FUEL.into();
    manifest["limits"]["deadline"] = "1ms".into();
    let wasm = guests::component(&[guests::INIT, guests::PROCESS, guests::LOOP, guests::ACTOR], &manifest);
    let transform = sandbox.load(&wasm, &Overrides::default()).unwrap();
    (sandbox, transform)
}

fn run_with(transform: &Transform, batch: &Arc<Events>, overdue: Vec<Overdue>) -> Result<Results, RunError> {
    let mut results = Results::default();
    let meta = BatchMeta { overdue, ..META };
    Chain::new(vec![transform.clone()]).run(&meta, batch, &mut results).map(|()| results)
}

#[test]
fn an_event_that_uses_its_whole_deadline_is_the_lanes_to_count_and_fails_in_the_end() {
    let (_sandbox, transform) = slow_machine();
    let batch = events(&["p", "l", "p", "l"]);
    // On an overloaded machine it is interrupted too, and the event is not blamed.
    let error = loop {
        let error = run_with(&transform, &batch, Vec::new()).unwrap_err();
        assert_eq!(error.class(), Class::Transient);
        if !matches!(error, RunError::Interrupted { cpu_spent: false, .. }) {
            break error;
        }
    };
    let interrupted =
        |offset| RunError::Interrupted { transform: "slow".into(), place: 0, partition: 0, offset, cpu_spent: true };
    assert_eq!(error, interrupted(8));
    // A slow event runs alone. An event that always exceeds its deadline fails without being run, and the batch
    // continues with the next one.
    let known = |offset, fails| Overdue { transform: 0, offset, fails };
    let again = run_with(&transform, &batch, vec![known(8, false)]).unwrap_err();
    assert!(matches!(again, RunError::Interrupted { offset: 8, .. }), "{again}");
    let next = run_with(&transform, &batch, vec![known(8, true)]).unwrap_err();
    assert!(matches!(next, RunError::Interrupted { offset: 10, .. }), "{next}");
    let results = run_with(&transform, &batch, vec![known(8, true), known(10, true)]).unwrap();
    for event in [0, 2] {
        assert!(matches!(results.outcomes[event], Outcome::Outputs(_)), "{:?}", results.outcomes);
    }
    for event in [1, 3] {
        let Outcome::Failed(failed) = &results.outcomes[event] else { panic!("{:?}", results.outcomes) };
        assert_eq!(failed.code, FailureCode::DeadlineExceeded);
        assert!(failed.message.contains("limits.deadline"), "{}", failed.message);
    }
    // An event of another transform at that offset does not count.
    let elsewhere = Overdue { transform: 1, offset: 8, fails: true };
    assert!(run_with(&transform, &batch, vec![elsewhere]).is_err());
}

/// Loops endlessly over instructions that do their work in the runtime.
const LIBCALLS: [(&str, &str); 13] = [
    ("memory.grow", "(drop (memory.grow (i32.const 0)))"),
    ("table.grow", "(drop (table.grow $table (ref.null func) (i32.const 0)))"),
    ("memory.copy", "(memory.copy (i32.const 0) (i32.const 8) (i32.const 1))"),
    ("memory.fill", "(memory.fill (i32.const 0) (i32.const 0) (i32.const 1))"),
    ("table.copy", "(table.copy $table $table (i32.const 0) (i32.const 0) (i32.const 1))"),
    ("table.fill", "(table.fill $table (i32.const 0) (ref.null func) (i32.const 1))"),
    ("ref.func", "(table.set $table (i32.const 0) (ref.func $event))"),
    ("table.get", "(drop (table.get $table (i32.const 1)))"),
    ("memory.init", "(memory.init $data (i32.const 0) (i32.const 0) (i32.const 0))"),
    ("table.init", "(table.init $table $elements (i32.const 0) (i32.const 0) (i32.const 0))"),
    ("data.drop", "(data.drop $data)"),
    ("elem.drop", "(elem.drop $elements)"),
    ("call_indirect", "(drop (call_indirect $table (param i32) (result i32) (i32.const 0) (i32.const 1)))"),
];

#[test]
fn a_loop_over_what_the_runtime_does_ends_by_fuel_long_before_the_deadline() {
    let sandbox = Sandbox::new(Settings::default()).unwrap();
    let mut manifest = guests::manifest("greedy");
    // Some 50 ms of ordinary code.
    let fuel = sandbox.fuel_per_ms * 50;
    manifest["limits"]["fuel"] = fuel.into();
    for (name, instruction) in LIBCALLS {
        let event = format!(
            "(table $table 2 funcref) (data $data \"x\") (elem $elements func $one) (elem declare func $event) (elem (table $table) (i32.const 1) func $one) (func $one (param i32) (result i32) (i32.const 1))
             (func $event (param i32) (result i32) (loop $again {instruction} (br $again)) (i32.const 1))"
        );
        let wasm = guests::component(&[guests::INIT, guests::PROCESS, guests::LOOP, &event], &manifest);
        let transform = sandbox.load(&wasm, &Overrides::default()).unwrap();
        let from = crate::watch::thread_time();
        let results = run_with(&transform, &events(&["e"]), Vec::new()).unwrap();
        // It ran once in the batch, and once more alone.
        let taken = (crate::watch::thread_time() - from) / 2;
        let Outcome::Failed(failed) = &results.outcomes[0] else { panic!("{name}: {:?}", results.outcomes) };
        assert_eq!(failed.code, FailureCode::FuelExhausted, "{name}");
        let fair = Duration::from_millis(50);
        println!("{name}: {:.1} times the time of ordinary code", taken.as_secs_f64() / fair.as_secs_f64());
        assert!(taken < fair * limits::DEADLINE_FACTOR / 3, "{name} took {taken:?} for fuel that is worth {fair:?}");
    }
}

#[test]
fn the_deadline_is_each_events_own() {
    let (sandbox, _) = slow_machine();
    // Each takes milliseconds, and all of them together several times the deadline.
    let busy = "(global $n (mut i32) (i32.const 0)) (func $event (param i32) (result i32)
        (global.set $n (i32.const 3000000))
        (loop $again (global.set $n (i32.sub (global.get $n) (i32.const 1))) (br_if $again (global.get $n)))
        (i32.const 1))";
    let mut manifest = guests::manifest("busy");
    manifest["limits"]["fuel"] = limits::MAX_FUEL.into();
    manifest["limits"]["deadline"] = "200ms".into();
    let wasm = guests::component(&[guests::INIT, guests::PROCESS, guests::LOOP, busy], &manifest);
    let busy = sandbox.load(&wasm, &Overrides::default()).unwrap();
    let batch = events(&["p"; 300]);
    let run = Run { transform: &busy, place: 0, meta: &META, events: &batch };
    // Without retries: `run` would hide an interruption by retrying. A machine that stalls for a deadline interrupts an
    // event anyway; a deadline per batch would interrupt every time.
    let settled = (0..5).any(|_| {
        let (mut work, began) = (Work::default(), Instant::now());
        let settled = matches!(run.attempt(0..300, &mut work), End::Settled);
        let taken = began.elapsed();
        assert!(!settled || work.results.outputs.len() == 300);
        assert!(!settled || taken > busy.limits().deadline, "the batch must outlast a deadline: {taken:?}");
        settled
    });
    assert!(settled);
}

#[test]
fn a_full_pool_is_transient() {
    let sandbox = Sandbox::new(Settings { lanes: 1, transforms: 1, ..Settings::default() }).unwrap();
    let wasm = guests::actor();
    let transform = sandbox.load(&wasm, &Overrides::default()).unwrap();
    let none = events(&[]);
    let run = Run { transform: &transform, place: 0, meta: &META, events: &none };
    let mut held = Vec::new();
    loop {
        let mut store = run.store(0..0, Work::default()).unwrap();
        match run.start(&mut store) {
            Ok(_) => held.push(store),
            Err(Why::PoolExhausted) => break,
            Err(_) => panic!("the pool has another end"),
        }
        assert!(held.len() < 100, "the pool has no end");
    }
    let chain = Chain::new(vec![transform.clone()]);
    let mut results = Results::default();
    let error = chain.run(&META, &events(&["p"]), &mut results).unwrap_err();
    assert_eq!(error, RunError::PoolExhausted { transform: "actor".into() });
    assert_eq!(error.class(), Class::Transient);
    assert!(matches!(sandbox.load(&wasm, &Overrides::default()), Err(LoadError::PoolExhausted)));
    held.clear();
    chain.run(&META, &events(&["p"]), &mut results).unwrap();
    assert!(matches!(results.outcomes[0], Outcome::Outputs(_)));
}

#[test]
fn a_precompiled_artefact_is_never_accepted() {
    let sandbox = Sandbox::new(Settings::default()).unwrap();
    let artefact = sandbox.engine.precompile_component(&guests::actor()).unwrap();
    assert!(matches!(sandbox.load(&artefact, &Overrides::default()), Err(LoadError::Precompiled)));
}

#[test]
fn a_windows_lists_take_a_quarter_of_the_guests_memory_at_most() {
    let sandbox = Sandbox::new(Settings::default()).unwrap();
    let mut manifest = guests::manifest("small");
    manifest["limits"]["memory"] = "1MiB".into();
    let wasm = guests::component(&[guests::INIT, guests::PROCESS, guests::LOOP, guests::ACTOR], &manifest);
    let small = sandbox.load(&wasm, &Overrides::default()).unwrap();
    // 256 KiB: a hundred such events fit exactly, including their bounds, flags, offsets and timestamps.
    let value = "p".repeat((256 << 10) / 100 - limits::WINDOW_BYTES_AN_EVENT);
    let large = "p".repeat(300 << 10);
    let values: Vec<&str> = std::iter::repeat_n(value.as_str(), 250).chain([large.as_str(), "p"]).collect();
    let batch = events(&values);
    let run = Run { transform: &small, place: 0, meta: &META, events: &batch };
    let (mut windows, mut start) = (Vec::new(), 0);
    while start < batch.len() {
        let end = run.fitting(start, limits::WINDOW);
        windows.push(end - start);
        start = end;
    }
    // The large event fits into no window with other events, and is still accepted.
    assert_eq!(windows, [100, 100, 50, 1, 1]);
    assert_eq!(run.fitting(0, 7), 7);
    let many = events(&["p"; limits::WINDOW + 1]);
    assert_eq!(Run { events: &many, ..run }.fitting(0, limits::WINDOW), limits::WINDOW);
    let mut results = Results::default();
    Chain::new(vec![small]).run(&META, &batch, &mut results).unwrap();
    assert!(results.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Outputs(_))), "each passes all the same");
}
