//! Tests guests that fail: the cost of each fault, and that it affects no other event.

use tollgate_sandbox::{Class, FailureCode, LimitsSpec, Overrides, RunError};

use crate::{SANDBOX, actor, events, failed, guests, load, outcome, run};

/// Puts a fault between valid events and checks the outcome of all of them.
fn between_good_ones(fault: &str, code: FailureCode, message: &str) {
    let events = events(&["p before", "eA", fault, "p after", fault, "eB"]);
    let results = run(&[actor()], &events).unwrap();
    for (event, expected) in [
        (0, "0:key-0=p before"),
        (1, "0:key=A trace=valued | 0:key-1=A"),
        (3, "0:key-3=p after"),
        (5, "0:key=B trace=valued | 0:key-5=B"),
    ] {
        assert_eq!(outcome(&results, &events, event), expected, "{fault}");
    }
    for event in [2, 4] {
        let failed = failed(&results, event);
        assert_eq!(failed.code, code, "{fault}: {failed:?}");
        assert!(failed.message.contains(message), "{fault}: {failed:?}");
        assert!(failed.fuel_used > 0 && failed.fuel_used <= 100_000, "{fault}: {failed:?}");
        assert_eq!(failed.fuel_used, results.fuel[event]);
    }
    // No output of the failed events is left.
    assert_eq!(results.arena, b"keyAAkeyBB", "{fault}");
}

#[test]
fn a_panic_says_why() {
    between_good_ones("f", FailureCode::Panic, "index out of bounds at rule 7");
}

#[test]
fn traps_name_themselves() {
    between_good_ones("t", FailureCode::Trap, "unreachable");
    between_good_ones("/", FailureCode::Trap, "divide by zero, in event");
    between_good_ones("o", FailureCode::Trap, "out of bounds memory access");
}

#[test]
fn an_infinite_loop_ends_by_fuel() {
    between_good_ones("l", FailureCode::FuelExhausted, "fuel");
    let results = run(&[actor()], &events(&["l"])).unwrap();
    assert_eq!(failed(&results, 0).fuel_used, 100_000);
}

#[test]
fn calling_the_host_for_ever_ends_by_fuel() {
    between_good_ones("W", FailureCode::FuelExhausted, "fuel");
}

#[test]
fn allocating_for_ever_ends_at_the_memory_limit() {
    between_good_ones("m", FailureCode::MemoryLimit, "limits.memory");
}

#[test]
fn recursing_for_ever_ends_at_the_stack() {
    between_good_ones("s", FailureCode::StackOverflow, "call stack exhausted, in recurse");
}

#[test]
fn the_stack_suffices_on_a_thread_of_the_documented_size() {
    let thread = std::thread::Builder::new().stack_size(tollgate_sandbox::limits::THREAD_STACK);
    thread.spawn(recursing_for_ever_ends_at_the_stack).unwrap().join().unwrap();
}

#[test]
fn emitting_a_gigabyte_ends_at_the_output_limit() {
    between_good_ones("O", FailureCode::OutputLimit, "65536 bytes of outputs");
    between_good_ones("N", FailureCode::OutputLimit, "more than 8 outputs");
}

#[test]
fn what_is_against_the_verdict_table_is_a_protocol_violation() {
    for (fault, message) in [
        ("A", "next(start) before the current event"),
        ("B.", "pass after 1 outputs"),
        ("C", "replace without an output"),
        ("D.", "route 2 is not one of the 1"),
        ("G", "out of bounds"),
        ("H", "set-header of `tollgate.digest`"),
        ("J", "set-header of `__connect.errors.stage`"),
        ("U", "utf-8"),
        ("V", "discriminant"),
        ("X", "explain with the code `Bad Code`"),
    ] {
        between_good_ones(fault, FailureCode::Protocol, message);
    }
}

#[test]
fn returning_early_is_the_first_unsettled_events_fault() {
    // `b` is settled, and then the guest returns while it holds the next event. That event passes when it runs alone.
    let four = events(&["p", "b", "p", "p"]);
    let results = run(&[actor()], &four).unwrap();
    for (event, value) in ["p", "b", "p", "p"].iter().enumerate() {
        assert_eq!(outcome(&results, &four, event), format!("0:key-{event}={value}"));
    }
    assert_eq!(results.outputs.len(), 4);
    let process = "(func $process (drop (call $next (i32.const 0))))";
    let hasty = load(&guests::component(&[guests::INIT, process], &guests::manifest("hasty")));
    let two = events(&["p", "p"]);
    let results = run(&[&hasty], &two).unwrap();
    for event in [0, 1] {
        let expected = "failed at 0: protocol-violation process returned before the end mark";
        assert_eq!(outcome(&results, &two, event), expected);
    }
}

#[test]
fn never_calling_next_is_each_events_fault() {
    let lazy = load(&guests::component(&[guests::INIT, "(func $process)"], &guests::manifest("lazy")));
    let results = run(&[&lazy], &events(&["p", "p"])).unwrap();
    for event in [0, 1] {
        assert_eq!(failed(&results, event).code, FailureCode::Protocol);
        assert!(failed(&results, event).message.contains("without calling next"));
    }
}

#[test]
fn an_event_that_suffers_from_another_passes_alone() {
    let events = events(&["P", "Q", "t", "Q", "P", "Q", "Q"]);
    let results = run(&[actor()], &events).unwrap();
    for (event, value) in [(0, "P"), (1, "Q"), (3, "Q"), (4, "P"), (5, "Q"), (6, "Q")] {
        assert_eq!(outcome(&results, &events, event), format!("0:key-{event}={value}"));
    }
    assert_eq!(failed(&results, 2).code, FailureCode::Trap);
}

#[test]
fn a_call_before_the_first_next_is_nobodys_event() {
    for call in [
        "(call $emit (i32.const 0) (i32.const 0) (i32.const 0))",
        "(call $delete (i32.const 0))",
        "(call $set_key (i32.const 0) (i32.const 0))",
        "(call $set_header (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        "(call $header (i32.const 0) (i32.const 0) (i32.const 128))",
        "(call $explain (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        "(drop (call $next (i32.const 1)))",
        "unreachable",
        "(loop $for_ever (br $for_ever))",
    ] {
        let process = format!("(func $process {call})");
        let broken = load(&guests::component(&[guests::INIT, &process], &guests::manifest("broken")));
        let error = run(&[&broken], &events(&["p", "p"])).unwrap_err();
        let RunError::Revision { transform, message } = &error else { panic!("{call}: {error}") };
        assert_eq!((transform.as_str(), error.class()), ("broken", Class::Fatal));
        assert!(message.contains("before its first event"), "{call}: {message}");
    }
}

#[test]
fn what_happens_after_the_end_mark_changes_no_verdict() {
    for call in [
        "(drop (call $next (i32.const 1)))",
        "(call $delete (i32.const 0))",
        "(call $fail (i32.const 0) (i32.const 0))",
        "unreachable",
        "(loop $for_ever (br $for_ever))",
    ] {
        let process = format!("(func $process (call $loop) {call})");
        let parts = [guests::INIT, &process, guests::LOOP, guests::ACTOR];
        let late = load(&guests::component(&parts, &guests::manifest("late")));
        let events = events(&["eA", "t", "p"]);
        let results = run(&[&late], &events).unwrap();
        assert_eq!(outcome(&results, &events, 0), "0:key=A trace=valued | 0:key-0=A", "{call}");
        assert_eq!(failed(&results, 1).code, FailureCode::Trap, "{call}");
        assert_eq!(outcome(&results, &events, 2), "0:key-2=p", "{call}");
        assert_eq!(results.outputs.len(), 3, "{call}: settled once");
    }
}

#[test]
fn a_batch_that_the_guest_cannot_take_whole_is_given_in_parts() {
    // The guest traps before its first event if it receives more than 16 bytes, so only single events pass.
    let process =
        "(func $process (if (i32.gt_u (global.get $arena_len) (i32.const 16)) (then unreachable)) (call $loop))";
    let narrow =
        load(&guests::component(&[guests::INIT, process, guests::LOOP, guests::ACTOR], &guests::manifest("narrow")));
    let wide = "p far too much for it";
    let events = events(&["p one", "p two", wide, "p three", "p four", "p five"]);
    let results = run(&[&narrow], &events).unwrap();
    for (event, value) in [(0, "p one"), (1, "p two"), (3, "p three"), (4, "p four"), (5, "p five")] {
        assert_eq!(outcome(&results, &events, event), format!("0:key-{event}={value}"));
    }
    assert_eq!(failed(&results, 2).code, FailureCode::Trap);
}

#[test]
fn a_batch_larger_than_the_guests_memory_goes_through() {
    let large: Vec<_> = (0..120).map(|_| format!("p{}", "x".repeat(20_000))).collect();
    let results = run(&[actor()], &events(&large)).unwrap();
    assert_eq!(results.outputs.len(), 120);
    let too_large = [format!("p{}", "x".repeat(2_000_000)), "p".into()];
    let results = run(&[actor()], &events(&too_large)).unwrap();
    assert_eq!(failed(&results, 0).code, FailureCode::MemoryLimit);
    assert_eq!(results.outputs_of(1).len(), 1);
}

#[test]
fn fuel_is_for_each_event_by_itself() {
    // 2,000 events use far more fuel together than the budget of one.
    let many = vec!["p"; 2_000];
    let results = run(&[actor()], &events(&many)).unwrap();
    assert!(results.fuel.iter().sum::<u64>() > actor().limits().fuel);
    // An emitted byte costs fuel, and so does a copied byte.
    let results = run(&[actor()], &events(&[format!("e{}", "x".repeat(30_000)), "e".into()])).unwrap();
    assert!(results.fuel[0] - results.fuel[1] > 59_900, "{:?}", results.fuel);
}

#[test]
fn a_batch_that_emits_too_much_is_to_be_halved() {
    let ceiling = LimitsSpec { batch_output_bytes: Some(64 << 10), ..LimitsSpec::default() };
    let overrides = Overrides { ceiling, ..Overrides::default() };
    let tight = SANDBOX.load(&guests::actor(), &overrides).unwrap();
    let value = format!("e{}", "x".repeat(25_000));
    let error = run(&[&tight], &events(&[&value, &value])).unwrap_err();
    assert!(matches!(error, RunError::BatchOutput { limit: 65_536, .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(run(&[&tight], &events(&[&value])).unwrap().outputs.len(), 2);
    // Discarded outputs do not count.
    let dropped = format!("d{}", "x".repeat(25_000));
    assert!(run(&[&tight], &events(&[&dropped, &dropped, &dropped, &value])).is_ok());
    // A single event is at fault if a chain makes too much of it.
    let twice = format!("e{value}");
    let results = run(&[actor(), &tight], &events(&[&twice])).unwrap();
    assert_eq!((failed(&results, 0).code, failed(&results, 0).transform), (FailureCode::OutputLimit, 1));
}

#[test]
fn a_poison_storm_settles_every_event() {
    let storm: Vec<_> = (0..600).map(|event| if event % 3 == 0 { "p" } else { "t" }).collect();
    let results = run(&[actor()], &events(&storm)).unwrap();
    for (event, value) in storm.iter().enumerate() {
        assert_eq!(results.outputs_of(event).len(), usize::from(*value == "p"), "event {event}");
    }
}

#[test]
fn a_panic_of_the_host_costs_a_revision_and_not_the_process() {
    let mut broken = tollgate_sandbox::Events::clone(&events(&["p", "p"]));
    broken.timestamps.clear();
    let error = run(&[actor()], &std::sync::Arc::new(broken)).unwrap_err();
    assert!(matches!(&error, RunError::Revision { message, .. } if message.contains("the host panicked")), "{error}");
}
