#![no_main]

libfuzzer_sys::fuzz_target!(init: tollgate_fuzz::json::warm(), |input: &[u8]| tollgate_fuzz::json::run(input));
