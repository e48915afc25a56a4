#![no_main]

libfuzzer_sys::fuzz_target!(init: tollgate_fuzz_record::warm(), |input: &[u8]| tollgate_fuzz_record::run(input));
