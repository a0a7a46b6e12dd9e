//! A cluster in virtual time: all of a node's machines in one world, with simulated connections, clocks and faults.
//!
//! [`run`] takes a seed and lets a few nodes dial, prove themselves, tick, and send one another messages and calls. Connections are slow,
//! cut, stalled, half dead and opened twice; nodes are stopped and restarted, their clocks run at different rates and jump, all of
//! it decided by that seed. The bytes really go through the encoders and decoders of `teleport_proto`,
//! in pieces of any size. Every promise of the session is checked all the while, and once the faults have stopped
//! everything has to come to its end. There is no clock and no thread in here, so a seed is always the same run.
//!
//! ```
//! use teleport_testkit::cluster::{Scenario, run};
//!
//! let coverage = run(7, &Scenario::two_nodes()).unwrap();
//! assert!(coverage.delivered > 0);
//! ```

mod alive;
mod budget;
mod callers;
mod calls;
mod chaos;
mod claims;
mod climate;
mod clock;
mod control;
mod coverage;
mod event;
mod handshake;
mod ledger;
mod link;
mod many;
mod node;
mod peers;
mod pool;
mod quiet;
mod rng;
mod session;
mod shake;
mod still;
mod traffic;
mod world;

pub use coverage::Coverage;
pub use many::{Report, kept_seeds, outcome, run_many};
pub use rng::Rng;

use std::fmt;

/// Virtual time, in microseconds since the run began.
pub type Micros = u64;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Nodes; each two of them have a session.
    pub nodes: usize,
    /// About how many messages each node sends.
    pub messages: usize,
    /// How many of the nodes stand still, or acknowledge nothing, until all others are done.
    pub standing_still: usize,
    /// Print every step to standard error.
    pub trace: bool,
    /// Faults planted in the session machines.
    #[cfg(feature = "planted-faults")]
    pub planted: teleport_proto::Faults,
}

impl Scenario {
    /// Two nodes, one session.
    pub fn two_nodes() -> Self {
        Self { nodes: 2, messages: 60, ..Self::default() }
    }

    /// Six nodes, fifteen sessions.
    pub fn six_nodes() -> Self {
        Self { nodes: 6, messages: 60, ..Self::default() }
    }

    /// The scenario that is run with a seed where many are run.
    pub fn of(seed: u64) -> Self {
        match seed % 8 {
            0..=4 => Self::two_nodes(),
            5 => Self { nodes: 3, ..Self::two_nodes() },
            6 => Self::six_nodes(),
            _ => Self::standing_still(),
        }
    }

    /// Six nodes, of which three are no good to the others until they are done.
    pub fn standing_still() -> Self {
        Self { standing_still: 3, ..Self::six_nodes() }
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, after {at} virtual microseconds: {what}")]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// When.
    pub at: Micros,
    /// Which promise, and how.
    pub what: String,
}

/// Runs the scenario that belongs to a seed.
///
/// # Errors
///
/// [`Failure`]: the property that broke, at which step.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Coverage, Failure> {
    let mut world = world::World::new(seed, scenario);
    let result = world.run();
    result.map_err(|Broken(what)| Failure { seed, at: world.now(), what })?;
    Ok(world.coverage())
}

/// A promise that was broken, before it is known with which seed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken(String);

impl Broken {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    fn by(what: &str, error: impl fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}
