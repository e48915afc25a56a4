#![no_main]

libfuzzer_sys::fuzz_target!(init: tollgate_fuzz::frame::warm(), |input: &[u8]| tollgate_fuzz::frame::run(input));
