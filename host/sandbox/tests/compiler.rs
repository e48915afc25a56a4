//! Tests components that a compiler process refuses without any harm to the program that loads them.
//!
//! This test has no harness, because the compiler process is this program itself, started again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]
#![allow(clippy::print_stdout, reason = "without a harness, a test reports by itself")]

#[allow(dead_code, reason = "shared with the corpus, which uses all of it")]
#[path = "corpus/guests.rs"]
mod guests;
#[allow(dead_code, reason = "shared with the corpus")]
#[path = "corpus/hostile.rs"]
mod hostile;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tollgate_sandbox::{Chain, Events, LoadError, Outcome, Overrides, Results, Sandbox, Settings, Transform, limits};

type Test = (&'static str, fn(&Sandbox));

fn main() -> ExitCode {
    if let Some(code) = tollgate_sandbox::compiler_process() {
        return code;
    }
    let tests: [Test; 5] = [
        ("a_component_compiled_elsewhere_runs_here", a_component_compiled_elsewhere_runs_here),
        ("too_much_time_to_compile_is_refused", too_much_time_to_compile_is_refused),
        ("too_much_memory_to_compile_is_refused", too_much_memory_to_compile_is_refused),
        ("what_the_compiler_says_arrives", what_the_compiler_says_arrives),
        ("a_large_honest_component_is_compiled", a_large_honest_component_is_compiled),
    ];
    let sandbox = Sandbox::new(Settings::default()).unwrap();
    for (name, test) in tests {
        let began = Instant::now();
        test(&sandbox);
        println!("test {name} ... ok ({:.1?})", began.elapsed());
    }
    ExitCode::SUCCESS
}

fn load(sandbox: &Sandbox, wasm: &[u8], seconds: u64) -> Result<Transform, LoadError> {
    let overrides = Overrides { compile_time: Some(Duration::from_secs(seconds)), ..Overrides::default() };
    sandbox.load(wasm, &overrides)
}

fn a_component_compiled_elsewhere_runs_here(sandbox: &Sandbox) {
    let transform = sandbox.load(&guests::actor(), &Overrides::default()).unwrap();
    let mut events = Events::default();
    events.push(None, Some(b"p"), 0, 0);
    events.headers.end_record();
    let mut results = Results::default();
    let meta = tollgate_sandbox::BatchMeta {
        topic: String::new(),
        partition: 0,
        schema_id: 0,
        batch_time: 0,
        seed: 0,
        overdue: Vec::new(),
    };
    Chain::new(vec![transform]).run(&meta, &events.into(), &mut results).unwrap();
    assert!(matches!(results.outcomes[0], Outcome::Outputs(_)));
}

fn too_much_time_to_compile_is_refused(sandbox: &Sandbox) {
    for (name, wasm) in
        [("nested loops", hostile::nested_loops(24_000)), ("many functions", hostile::many_functions(300_000))]
    {
        let error = load(sandbox, &wasm, 1).unwrap_err();
        assert!(matches!(error, LoadError::CompileTime { .. }), "{name}: {error}");
        assert!(error.to_string().contains("more than 1 s of CPU time"), "{name}: {error}");
    }
}

fn too_much_memory_to_compile_is_refused(sandbox: &Sandbox) {
    // These are four million instances. On some machines the default time would be over first.
    let error = load(sandbox, &hostile::doubling_instances(22), 60).unwrap_err();
    assert!(matches!(error, LoadError::CompilerDied { .. }), "{error}");
    assert!(error.to_string().contains("MiB of memory"), "{error}");
}

fn what_the_compiler_says_arrives(sandbox: &Sandbox) {
    let error = load(sandbox, &hostile::invalid_code(), 10).unwrap_err();
    assert!(matches!(error, LoadError::Compile(_)), "{error}");
    assert!(error.to_string().contains("type mismatch"), "{error}");
    let error = load(sandbox, &hostile::transcoding(), 10).unwrap_err();
    assert!(matches!(error, LoadError::Transcodes), "{error}");
}

fn a_large_honest_component_is_compiled(sandbox: &Sandbox) {
    // This is half a megabyte of functions, under the limits that apply to every component.
    let wasm = hostile::many_functions(5_000);
    assert!(limits::compile_time(wasm.len()) == limits::COMPILE_TIME);
    sandbox.load(&wasm, &Overrides::default()).unwrap();
}
