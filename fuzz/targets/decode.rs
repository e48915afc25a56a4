#![no_main]

libfuzzer_sys::fuzz_target!(init: tollgate_fuzz::decode::warm(), |input: &[u8]| tollgate_fuzz::decode::run(input));
