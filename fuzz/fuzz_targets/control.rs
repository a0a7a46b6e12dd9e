//! `teleport_testkit::fuzz::control` on any bytes: `scripts/fuzz.sh 60 control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teleport_testkit::fuzz::control(bytes);
});
