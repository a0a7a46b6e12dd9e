//! The bodies of the fuzz targets, and the seeds that they begin with.
//!
//! Each body takes any bytes, checks what has to hold for them, and says whether they were good: taken in all, as from a peer or
//! an encoder that follows the rules. `tests/fuzz.rs` runs the bodies on `fuzz/seeds` and on what is close to it.

mod handshake;
mod peers;
mod seeds;
mod session;
mod terms;

pub use handshake::handshake;
pub use seeds::seeds;
pub use session::{batches, control, fragments};
pub use terms::{etf_apart, etf_decode};

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name in `fuzz/`.
    pub name: &'static str,
    /// Its body.
    pub body: fn(&[u8]) -> bool,
}

/// Every target.
pub const TARGETS: [Target; 6] = [
    Target { name: "batches", body: batches },
    Target { name: "control", body: control },
    Target { name: "etf_apart", body: etf_apart },
    Target { name: "etf_decode", body: etf_decode },
    Target { name: "fragments", body: fragments },
    Target { name: "handshake", body: handshake },
];
