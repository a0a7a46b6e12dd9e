//! The promises of a session, checked in a virtual cluster for thousands of seeds.
//!
//! `TELEPORT_SEEDS` says how many seeds (default 2,000 for two nodes; six nodes get a seventh of them). A failure names its
//! seed; `TELEPORT_SEED=<seed>` runs just that one and prints every step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use teleport_testkit::cluster::{Coverage, Scenario, run};

/// Seeds that have failed once.
const REGRESSIONS: &[u64] = &[];

fn seeds(default: u64) -> u64 {
    std::env::var("TELEPORT_SEEDS").ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn one_seed() -> Option<u64> {
    std::env::var("TELEPORT_SEED").ok().and_then(|value| value.parse().ok())
}

fn check(test: &str, scenario: &Scenario, seeds: impl Iterator<Item = u64>) -> Coverage {
    let mut coverage = Coverage::default();
    if let Some(seed) = one_seed() {
        let traced = Scenario { trace: true, ..scenario.clone() };
        run(seed, &traced).unwrap_or_else(|failure| panic!("{failure}"));
        return coverage;
    }
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, scenario))) {
            Ok(Ok(one)) => coverage.add(&one),
            Ok(Err(failure)) => {
                panic!("{failure}\nreproduce: TELEPORT_SEED={seed} cargo test -p teleport_proto {test}")
            }
            Err(_) => panic!(
                "seed {seed}: panic\nreproduce: TELEPORT_SEED={seed} cargo test -p teleport_proto {test}"
            ),
        }
    }
    coverage
}

#[test]
fn two_nodes_keep_every_promise() {
    let all = REGRESSIONS.iter().copied().chain(0..seeds(2_000));
    let coverage = check("two_nodes_keep_every_promise", &Scenario::two_nodes(), all);
    println!("{coverage}");
}

#[test]
fn six_nodes_keep_every_promise() {
    let coverage = check("six_nodes_keep_every_promise", &Scenario::six_nodes(), 0..seeds(2_000) / 7);
    println!("{coverage}");
}
