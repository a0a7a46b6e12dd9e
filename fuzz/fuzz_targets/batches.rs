//! `teleport_testkit::fuzz::batches` on any bytes: `scripts/fuzz.sh 60 batches`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teleport_testkit::fuzz::batches(bytes);
});
