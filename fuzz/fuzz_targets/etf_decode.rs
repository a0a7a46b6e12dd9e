//! `teleport_testkit::fuzz::etf_decode` on any bytes: `scripts/fuzz.sh 60 etf_decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teleport_testkit::fuzz::etf_decode(bytes);
});
