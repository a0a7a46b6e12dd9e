//! `teleport_testkit::fuzz::handshake` on any bytes: `scripts/fuzz.sh 60 handshake`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teleport_testkit::fuzz::handshake(bytes);
});
