//! Whether there is memory for a run, before it is filled.

use super::RingError;
use crate::args::{RingOptions, Transport};
use crate::bench::process::available_bytes;

/// Refuses what this machine has no memory for. Where the system does not say how much there is, nothing is refused.
pub(super) fn check(options: &RingOptions) -> Result<(), RingError> {
    let needed = least(options);
    match available_bytes() {
        Some(available) if needed > u128::from(available) => Err(RingError::NoMemory {
            size: options.size.to_string(),
            workers: u32::from(options.nodes) * u32::from(options.workers),
            needed: mib(needed),
            available: mib(available.into()),
        }),
        _ => Ok(()),
    }
}

/// What the nodes of all transports need at the least, in bytes: they stand side by side, and each worker has a message of its own
/// and one that passes by.
fn least(options: &RingOptions) -> u128 {
    let rings = |transport| match transport {
        Transport::Disterl => options.erl_flags.len().max(1),
        Transport::Teleport | Transport::Tls | Transport::Raw => 1,
    };
    let rings: usize = options.transports().into_iter().map(rings).sum();
    let workers = u128::from(options.nodes) * u128::from(options.workers);
    let per_worker = if options.chaos().is_some() { 1 } else { 2 * rings as u128 };
    workers * per_worker * options.size.bytes() as u128
}

fn mib(bytes: u128) -> u128 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn needed(arguments: &[&str]) -> u128 {
        match Cli::parse_from(["teleport", "ring"].iter().chain(arguments)).command {
            Command::Ring(options) => least(&options),
            _ => unreachable!("`ring` was parsed"),
        }
    }

    #[test]
    fn every_worker_of_every_ring_counts() {
        assert_eq!(needed(&["--transport", "raw"]), 6 * 6 * 2 * (10 << 20));
        let flags = ["--erl-flags", "", "--erl-flags", "-hidden"];
        assert_eq!(
            needed(&[&["--nodes", "2", "--workers", "1", "--size", "1B"], &flags[..]].concat()),
            2 * 2 * 4
        );
        assert_eq!(needed(&["--chaos", "--size", "1MiB"]), 36 << 20);
    }

    #[test]
    fn what_nobody_has_is_refused_with_the_numbers() {
        let arguments = ["teleport", "ring", "--nodes", "64", "--workers", "256", "--size", "1GiB"];
        let Command::Ring(options) = Cli::parse_from(arguments).command else {
            unreachable!("`ring` was parsed")
        };
        let refusal = check(&options).unwrap_err().to_string();
        for part in ["--size 1GiB", "16384 workers", "100663296 MiB", "--workers"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
