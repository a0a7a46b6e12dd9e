//! Any bytes as a document: decoded in every way, encoded again, compared.
//!
//!     cargo +nightly fuzz run etf_decode fuzz/corpus/etf_decode fuzz/seeds/etf_decode

#![no_main]

#[path = "../../crates/teleport_etf/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    support::properties::any_bytes(bytes);
});
