#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qmk_testkit::fuzz::image(bytes));
