//! Options of `teleport scale`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};

use super::seconds;

pub(crate) const HELP: &str = "\
Measure what peers cost that have little or nothing to say.

Every node is a process of its own, with the defaults of the product, on this machine. What the system knows of each process is \
read three times:

  alone  before a node has a session with any other
  idle   each node has a session with each other one, and has sent and got a message over it; nothing has been said since, \
but ticks
  used   each node calls each other one once a second, with 1 KiB

Memory per peer is what a node takes more than alone, divided by its peers. Wake-ups are voluntary context switches of all threads of \
a node's process while it is idle: its own ticks, those of its peers, and the answers to both.";

/// Options of `teleport scale`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScaleOptions {
    /// Nodes, each of which has a session with every other.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = value_parser!(u16).range(2..=200))]
    pub(crate) nodes: u16,

    /// How long nodes are watched while they are idle, and again while they are used.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Duration,

    /// Also write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// How long any single step, such as connecting all nodes, may take before the run is given up.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) deadline: Duration,
}

/// Options of `teleport scale-node`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScaleNodeOptions {
    /// This node's place among all.
    #[arg(long)]
    pub(crate) index: u16,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn scale(arguments: &[&str]) -> Result<ScaleOptions, clap::Error> {
        let cli = Cli::try_parse_from(["teleport", "scale"].iter().chain(arguments))?;
        match cli.command {
            Command::Scale(options) => Ok(options),
            _ => unreachable!("`scale` was parsed"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let options = scale(&[]).unwrap();
        assert_eq!((options.nodes, options.seconds), (50, Duration::from_secs(60)));
    }

    #[test]
    fn errors_name_the_input() {
        for (flag, value) in
            [("--nodes", "1"), ("--nodes", "201"), ("--seconds", "0"), ("--deadline", "soon")]
        {
            let error = scale(&[flag, value]).unwrap_err().to_string();
            assert!(error.contains(value) && error.contains(flag), "{error}");
        }
    }
}
