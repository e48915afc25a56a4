//! Measures the cost of an event in the sandbox: `cargo run --release -p tollgate-sandbox --example sandbox_cost`.
//!
//! It runs batches of 1,000 events of 108 bytes on one thread and shows the tenth percentile of the rounds. The guests
//! do next to nothing, so that the sandbox itself is measured: the call, the copy, `next` and `emit`, fuel, epochs and
//! a new instance.
#![allow(clippy::unwrap_used, reason = "an example that cannot go on should end")]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/corpus/guests.rs"]
mod guests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_sandbox::{BatchMeta, Chain, Events, Overrides, Results, Sandbox, Settings, Transform};

const EVENTS: u32 = 1_000;
const PAYLOAD: usize = 108;
const ROUNDS: usize = 2_000;

const PASS: &str = "(func $event (param i32) (result i32) (i32.const 1))";
const REPLACE: &str = "(func $event (param $i i32) (result i32)
    (call $emit (i32.const 0) (call $value (local.get $i)) (call $length (local.get $i))) (i32.const 2))";
const EDIT: &str = "(func $event (param $i i32) (result i32)
    (call $set_key (call $value (local.get $i)) (i32.const 16))
    (call $emit (i32.const 0) (call $value (local.get $i)) (call $length (local.get $i))) (i32.const 2))";

fn main() {
    let sandbox = Sandbox::new(Settings::default()).unwrap();
    let load = |name, event| {
        let parts = [guests::INIT, guests::PROCESS, guests::LOOP, event];
        sandbox.load(&guests::component(&parts, &guests::manifest(name)), &Overrides::default()).unwrap()
    };
    let (pass, replace, edit) = (load("pass", PASS), load("replace", REPLACE), load("edit", EDIT));
    let events = batch(EVENTS);
    for (name, chain) in [
        ("empty chain", vec![]),
        ("pass", vec![pass.clone()]),
        ("replace", vec![replace.clone()]),
        ("replace with set-key", vec![edit]),
        ("pass, pass, pass", vec![pass.clone(); 3]),
        ("replace, pass, replace", vec![replace.clone(), pass.clone(), replace]),
    ] {
        println!("{name:>24}: {:6.1} ns an event", nanos(&cost(chain, &events)) / f64::from(EVENTS));
    }
    println!("{:>24}: {:6.1} ns a batch", "a fresh instance", nanos(&cost(vec![pass], &batch(1))));
}

fn cost(chain: Vec<Transform>, events: &Arc<Events>) -> Duration {
    let chain = Chain::new(chain);
    let meta =
        BatchMeta { topic: "payments".into(), partition: 0, schema_id: 0, batch_time: 0, seed: 0, overdue: Vec::new() };
    let mut results = Results::default();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            chain.run(&meta, events, &mut results).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 10]
}

fn batch(length: u32) -> Arc<Events> {
    let mut events = Events::default();
    for event in 0..length {
        events.push(Some(b"0123456789abcdef"), Some(&[0x5a; PAYLOAD]), event.into(), 0);
        events.headers.end_record();
    }
    Arc::new(events)
}

fn nanos(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
