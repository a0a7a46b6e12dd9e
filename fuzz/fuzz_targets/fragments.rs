//! `teleport_testkit::fuzz::fragments` on any bytes: `scripts/fuzz.sh 60 fragments`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teleport_testkit::fuzz::fragments(bytes);
});
