#![no_main]

libfuzzer_sys::fuzz_target!(init: tollgate_fuzz::rules::warm(), |input: &[u8]| tollgate_fuzz::rules::run(input));
