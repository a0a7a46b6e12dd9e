//! Options of `teleport soak`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use super::seconds;
use crate::bench::payload::LEAST_SIZE;
use crate::size::Size;

/// A week: longer than that, and the ledgers of lives that are over fill memory.
const MOST_MINUTES: f64 = 7.0 * 24.0 * 60.0;

/// A second: less proves nothing.
const LEAST_MINUTES: f64 = 0.02;

pub(crate) const HELP: &str = "\
Run nodes under load and faults, and see that every promise is kept.

Every node is a process of its own. Its senders send numbered messages of mixed sizes (64 B to --size; most are small, \
most of the bytes are in large ones) to mailboxes of all other nodes: plainly, acknowledged, as casts, as broadcasts. \
Callers call servers, with a timeout or without; watchers monitor processes that send something and end. Meanwhile:

  cut         a pool connection breaks
  control     a control connection breaks
  disconnect  a session is ended by one side
  exit        servers end and come back under their names
  stop        a node is stopped for a moment (SIGSTOP, SIGCONT), its sessions stay
  silence     a node is stopped for longer than its sessions bear
  kill        a node is killed (SIGKILL), and comes back under its name
  restart     a node is shut down in order, and comes back under its name

Each end keeps a ledger, and at the end they are compared: every message that was accepted has arrived once and in its \
place, or a session of its two nodes has ended after it was sent, and then it is unconfirmed, and was reported as such. \
The ledger of a node that is killed is the one it told last, a second or two before: what it sent and took later is \
nobody's claim, all before is. Calls and monitors have ended once each, and when all is quiet nothing is left of the \
load: no bytes under way, no watches, nothing queued. The exit code is 1 otherwise.";

/// Options of `teleport soak`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SoakOptions {
    /// How long there are load and faults, in minutes; 0.5 is half a minute.
    #[arg(long, default_value = "10", value_name = "N", value_parser = minutes)]
    pub(crate) minutes: Duration,

    /// Nodes, each of which talks to all others.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = value_parser!(u16).range(2..=64))]
    pub(crate) nodes: u16,

    /// What traffic and faults are drawn from [default: random; printed].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Size of the largest message.
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = largest)]
    pub(crate) size: Size,

    /// What goes wrong, separated by commas [default: all of it].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,..")]
    faults: Vec<FaultKind>,

    /// Also write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// How long nodes may take to answer, and all of them to come to rest at the end.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) deadline: Duration,

    /// A fault of the product, played by a node: the run has to fail.
    #[arg(long, value_enum, hide = true)]
    pub(crate) plant: Option<Plant>,
}

impl SoakOptions {
    /// What goes wrong, each kind once.
    pub(crate) fn faults(&self) -> Vec<FaultKind> {
        let wanted = |kind: &FaultKind| self.faults.is_empty() || self.faults.contains(kind);
        FaultKind::value_variants().iter().copied().filter(wanted).collect()
    }

    /// The seed asked for; else each call draws another one.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| rand::random::<u32>().into()) // short enough to be typed
    }
}

/// Options of `teleport soak-node`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SoakNodeOptions {
    /// This node's place among all.
    #[arg(long)]
    pub(crate) index: u16,

    /// Nodes there are.
    #[arg(long)]
    pub(crate) nodes: u16,

    /// The how manieth node of this name it is, from 0.
    #[arg(long)]
    pub(crate) life: u32,

    /// Of the run.
    #[arg(long)]
    pub(crate) seed: u64,

    /// Size of the largest message.
    #[arg(long)]
    pub(crate) size: Size,

    /// A fault to play.
    #[arg(long, value_enum)]
    pub(crate) plant: Option<Plant>,
}

/// Something that goes wrong on purpose; [`HELP`] says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum FaultKind {
    Cut,
    Control,
    Disconnect,
    Exit,
    Stop,
    Silence,
    Kill,
    Restart,
}

/// A promise that a node breaks, so that it can be seen whether the run notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// A message counts as accepted, and is not sent.
    Lose,
    /// A message is sent twice.
    Double,
    /// A message is sent behind the next one.
    Swap,
    /// A call is never answered.
    Hang,
}

impl FaultKind {
    /// The name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Control => "control",
            Self::Disconnect => "disconnect",
            Self::Exit => "exit",
            Self::Stop => "stop",
            Self::Silence => "silence",
            Self::Kill => "kill",
            Self::Restart => "restart",
        }
    }

    /// Whether sessions may end by it.
    pub(crate) const fn ends_sessions(self) -> bool {
        matches!(self, Self::Disconnect | Self::Silence | Self::Kill | Self::Restart)
    }
}

impl Plant {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lose => "lose",
            Self::Double => "double",
            Self::Swap => "swap",
            Self::Hang => "hang",
        }
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (LEAST_MINUTES..=MOST_MINUTES).contains(&minutes) => {
            Ok(Duration::from_secs_f64(minutes * 60.0))
        }
        _ => Err(format!(
            "`{text}` is not a number of minutes from {LEAST_MINUTES} to {MOST_MINUTES}; examples: 10, 0.5"
        )),
    }
}

fn largest(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error| format!("{error}"))?;
    if size.bytes() < LEAST_SIZE {
        return Err(format!("`{text}` is too small: the smallest message has {LEAST_SIZE}B"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn soak(arguments: &[&str]) -> Result<SoakOptions, clap::Error> {
        let cli = Cli::try_parse_from(["teleport", "soak"].iter().chain(arguments))?;
        match cli.command {
            Command::Soak(options) => Ok(options),
            _ => unreachable!("`soak` was parsed"),
        }
    }

    #[test]
    fn the_defaults_have_all_faults() {
        let options = soak(&[]).unwrap();
        assert_eq!((options.minutes, options.nodes), (Duration::from_secs(600), 6));
        assert_eq!(options.size.bytes(), 64 << 20);
        assert_eq!(options.faults().len(), 8);
    }

    #[test]
    fn what_is_asked_for_is_had() {
        let options = soak(&["--minutes", "0.5", "--seed", "7", "--faults", "kill,stop,kill"]).unwrap();
        assert_eq!((options.minutes, options.seed()), (Duration::from_secs(30), 7));
        assert_eq!(options.faults(), [FaultKind::Stop, FaultKind::Kill]);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in FaultKind::value_variants() {
            assert_eq!(soak(&["--faults", kind.name()]).unwrap().faults(), [*kind]);
        }
        for plant in Plant::value_variants() {
            assert_eq!(soak(&["--plant", plant.name()]).unwrap().plant, Some(*plant));
        }
    }

    #[test]
    fn errors_name_the_input() {
        for (flag, value) in [
            ("--minutes", "0"),
            ("--minutes", "0.019"),
            ("--minutes", "ten"),
            ("--minutes", "inf"),
            ("--nodes", "1"),
            ("--size", "63B"),
            ("--size", "2GiB"),
            ("--faults", "kill,flood"),
            ("--deadline", "0"),
        ] {
            let error = soak(&[flag, value]).unwrap_err().to_string();
            let named = value.rsplit(',').next().unwrap();
            assert!(error.contains(named) && error.contains(flag), "{error}");
        }
    }
}
