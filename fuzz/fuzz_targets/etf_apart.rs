//! `teleport_testkit::fuzz::etf_apart` on any bytes: `scripts/fuzz.sh 60 etf_apart`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teleport_testkit::fuzz::etf_apart(bytes);
});
