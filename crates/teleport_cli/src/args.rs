//! What can be said on the command line.

mod rate;
mod scale;
mod soak;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};

use crate::bench::payload::LEAST_SIZE;
use crate::bench::tls::{TlsFiles, TlsOptions};
use crate::size::Size;

pub(crate) use rate::{Mode, RateNodeOptions, RateOptions, RateTransport, Threads};
pub(crate) use scale::{ScaleNodeOptions, ScaleOptions};
pub(crate) use soak::{FaultKind, Plant, SoakNodeOptions, SoakOptions};

/// Messages of any size between the nodes of an Erlang-style cluster.
#[derive(Debug, Parser)]
#[command(name = "teleport", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What the user wants, if it makes sense; ends the program if not.
    pub(crate) fn parse_and_check() -> Self {
        let cli = Self::parse();
        let checked = match &cli.command {
            Command::Ring(options) => options.check(),
            Command::Rate(options) => options.check(),
            Command::Soak(_)
            | Command::Scale(_)
            | Command::RingNode(_)
            | Command::RateNode(_)
            | Command::SoakNode(_)
            | Command::ScaleNode(_) => Ok(()),
        };
        if let Err(conflict) = checked {
            Self::command().error(ErrorKind::ArgumentConflict, conflict).exit();
        }
        cli
    }
}

/// The program's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure transports side by side on a ring of nodes on this machine.
    #[command(long_about = RING_HELP)]
    Ring(RingOptions),
    /// One node of a ring; started by `teleport ring`, which speaks to it over stdin and stdout.
    #[command(hide = true)]
    RingNode(NodeOptions),
    /// Measure how many small messages, or calls, per second go from one node to another.
    #[command(long_about = rate::HELP)]
    Rate(RateOptions),
    /// One node of `teleport rate`.
    #[command(hide = true)]
    RateNode(RateNodeOptions),
    /// Run nodes under load and faults, and see that every promise is kept.
    #[command(long_about = soak::HELP)]
    Soak(SoakOptions),
    /// One node of `teleport soak`.
    #[command(hide = true)]
    SoakNode(SoakNodeOptions),
    /// Measure what idle and lightly used peers cost: memory, descriptors, threads, wake-ups.
    #[command(long_about = scale::HELP)]
    Scale(ScaleOptions),
    /// One node of `teleport scale`.
    #[command(hide = true)]
    ScaleNode(ScaleNodeOptions),
}

/// A day: longer than anybody waits, and a time that clocks can add.
const MOST_SECONDS: u64 = 86_400;

/// Far more than anybody waits for; with as many to warm up it is still a number of rounds.
const MOST_ROUNDS: i64 = 1_000_000_000;

const RING_HELP: &str = "\
Measure transports side by side on a ring of nodes on this machine.

Every node is a process of its own. In a round each of a node's workers sends one message to the \
same-numbered worker of the neighbouring node (even nodes forwards, odd nodes backwards); it is received \
whole and passed on until it has made nodes-1 hops, where the last node acknowledges it to the sender. \
Meanwhile every node sends its neighbours a 16-byte tick and a 1 KiB echo every 10 ms.

The rounds of all transports are interleaved, after warm-up rounds in which payloads are verified: only \
figures of one and the same run can be compared.

With --chaos it is teleport alone, and another workload: every worker pipelines numbered messages of all \
sizes up to --size to mailboxes on several other nodes, while at least five pool connections per second are \
killed, and control connections now and then. Afterwards nothing may be lost, doubled, out of order or \
damaged; the exit code is 1 if anything is.";

/// Options of `teleport ring`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RingOptions {
    /// Nodes in the ring.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = value_parser!(u16).range(2..=64))]
    pub(crate) nodes: u16,

    /// Workers per node, each of which sends one message per round.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// Size of a message, e.g. 64B, 1KiB, 10MiB, 10MB; with --chaos the largest.
    #[arg(long, default_value = "10MiB", value_name = "SIZE")]
    pub(crate) size: Size,

    /// Timed rounds per transport.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST_ROUNDS))]
    pub(crate) rounds: u32,

    /// Rounds per transport before the timed ones; the first is reported as the cold round.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = value_parser!(u32).range(..=MOST_ROUNDS))]
    pub(crate) warmup: u32,

    /// What to compare, separated by commas [default: teleport,raw,disterl].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,..")]
    transport: Vec<Transport>,

    /// Further flags for `erl`, as in --erl-flags "+zdbbl 131072". Give it several times to compare several
    /// settings in one run; "" stands for the defaults.
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub(crate) erl_flags: Vec<String>,

    /// TCP congestion control of every transport's sockets, e.g. cubic or bbr [default: the system's].
    #[arg(long, value_name = "NAME", value_parser = congestion)]
    pub(crate) congestion: Option<String>,

    /// Also write all results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// How long any single step, such as a round, may take before the run is given up.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) deadline: Duration,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Kill teleport's connections while messages of all sizes are under way, and see that nothing is lost,
    /// doubled, out of order or damaged.
    #[arg(long, conflicts_with_all = ["rounds", "warmup", "erl_flags"])]
    chaos: bool,

    /// How long connections are killed [default: 60].
    #[arg(long, value_name = "N", requires = "chaos", value_parser = value_parser!(u64).range(1..=MOST_SECONDS))]
    seconds: Option<u64>,

    /// What sizes, destinations and faults are drawn from [default: random; printed].
    #[arg(long, value_name = "N", requires = "chaos")]
    seed: Option<u64>,
}

/// A run under chaos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChaosOptions {
    /// How long connections are killed.
    pub(crate) seconds: u64,
    /// What everything is drawn from.
    pub(crate) seed: u64,
}

impl RingOptions {
    /// What to compare, each transport once.
    pub(crate) fn transports(&self) -> Vec<Transport> {
        let mut transports = Vec::new();
        for &transport in &self.transport {
            if !transports.contains(&transport) {
                transports.push(transport);
            }
        }
        if transports.is_empty() {
            transports = vec![Transport::Teleport, Transport::Raw, Transport::Disterl];
        }
        if self.tls.is_wanted() && !transports.contains(&Transport::Tls) {
            transports.insert(0, Transport::Tls);
        }
        transports
    }

    /// What is run under chaos.
    pub(crate) fn of_chaos(&self) -> Transport {
        let is_encrypted = self.tls.is_wanted() || self.transport.contains(&Transport::Tls);
        if is_encrypted { Transport::Tls } else { Transport::Teleport }
    }

    /// Set for a run under chaos. Without a seed each call draws another one.
    pub(crate) fn chaos(&self) -> Option<ChaosOptions> {
        let seed = || rand::random::<u32>().into(); // short enough to be typed
        self.chaos.then(|| ChaosOptions {
            seconds: self.seconds.unwrap_or(60),
            seed: self.seed.unwrap_or_else(seed),
        })
    }

    /// What the declaration cannot say.
    fn check(&self) -> Result<(), String> {
        if !self.chaos {
            return Ok(());
        }
        let is_other = |transport: &&Transport| !matches!(transport, Transport::Teleport | Transport::Tls);
        if let Some(other) = self.transport.iter().find(is_other) {
            let name = other.name();
            return Err(format!("--chaos is for teleport only, not for --transport {name}: leave that out"));
        }
        if self.size.bytes() < LEAST_SIZE {
            let size = self.size;
            return Err(format!("--chaos sends messages of 64B and more: --size {size} is too small"));
        }
        Ok(())
    }
}

/// Options of `teleport ring-node`.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// What carries the messages.
    #[arg(long, value_enum)]
    pub(crate) transport: Transport,

    /// This node's place in the ring.
    #[arg(long)]
    pub(crate) index: u16,

    /// Nodes in the ring.
    #[arg(long, value_parser = value_parser!(u16).range(2..=64))]
    pub(crate) nodes: u16,

    /// Workers per node.
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// Size of a message.
    #[arg(long)]
    pub(crate) size: Size,

    /// TCP congestion control.
    #[arg(long, value_parser = congestion)]
    pub(crate) congestion: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsFiles,

    /// Be a node of a run under chaos, with this seed.
    #[arg(long, value_name = "SEED")]
    pub(crate) chaos: Option<u64>,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// This product: pools of connections, with order, acknowledgement and credit.
    Teleport,
    /// This product with TLS 1.3.
    Tls,
    /// Blocking sockets without a protocol, one per worker and direction: the ceiling.
    Raw,
    /// Erlang nodes and plain `!`: what people have today.
    Disterl,
}

impl Transport {
    /// The name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Teleport => "teleport",
            Self::Tls => "tls",
            Self::Raw => "raw",
            Self::Disterl => "disterl",
        }
    }
}

/// A congestion control's name goes into Erlang terms and `setsockopt`, so only what the kernel uses is let in.
fn congestion(text: &str) -> Result<String, String> {
    let valid = (1..16).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !valid {
        return Err(format!("`{text}` is not the name of a congestion control; examples: cubic, bbr"));
    }
    Ok(text.to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=MOST_SECONDS) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is not a number of seconds from 1 to {MOST_SECONDS}; example: 60")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(arguments: &[&str]) -> Result<RingOptions, clap::Error> {
        let cli = Cli::try_parse_from(["teleport", "ring"].iter().chain(arguments))?;
        match cli.command {
            Command::Ring(options) => Ok(options),
            _ => unreachable!("`ring` was parsed"),
        }
    }

    #[test]
    fn declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_published_benchmark() {
        let options = ring(&[]).unwrap();
        assert_eq!((options.nodes, options.workers, options.rounds, options.warmup), (6, 6, 5, 3));
        assert_eq!(options.size.bytes(), 10 << 20);
        assert_eq!(options.chaos(), None);
        assert_eq!(options.transports(), [Transport::Teleport, Transport::Raw, Transport::Disterl]);
        assert!(options.erl_flags.is_empty());
    }

    #[test]
    fn tls_is_measured_too_if_it_is_asked_for() {
        let of = |arguments| ring(arguments).unwrap();
        let all = [Transport::Tls, Transport::Teleport, Transport::Raw, Transport::Disterl];
        assert_eq!(of(&["--tls"]).transports(), all);
        assert_eq!(of(&["--tls-cert=a", "--tls-key=b", "--tls-ca=c"]).transports(), all);
        assert_eq!(
            of(&["--transport=teleport,tls", "--tls"]).transports(),
            [Transport::Teleport, Transport::Tls]
        );
        assert!(ring(&["--tls-cert=a", "--tls-key=b"]).is_err(), "without authorities");
        let chaos = of(&["--chaos", "--tls"]);
        assert_eq!((chaos.check(), chaos.of_chaos()), (Ok(()), Transport::Tls));
        assert_eq!(of(&["--chaos"]).of_chaos(), Transport::Teleport);
    }

    #[test]
    fn erl_flags_begin_with_a_sign_and_repeat() {
        let options =
            ring(&["--erl-flags", "", "--erl-flags", "+zdbbl 131072", "--erl-flags", "-hidden"]).unwrap();
        assert_eq!(options.erl_flags, ["", "+zdbbl 131072", "-hidden"]);
    }

    #[test]
    fn chaos_is_for_teleport_alone() {
        let options = ring(&["--chaos", "--seed", "7", "--transport", "teleport,teleport"]).unwrap();
        assert_eq!(options.chaos(), Some(ChaosOptions { seconds: 60, seed: 7 }));
        assert_eq!(options.transports(), [Transport::Teleport]);
        assert_eq!(options.check(), Ok(()));
        assert_eq!(ring(&["--chaos"]).unwrap().check(), Ok(()));

        let conflict = ring(&["--chaos", "--transport", "teleport,raw"]).unwrap().check().unwrap_err();
        assert!(conflict.contains("--transport raw"), "{conflict}");
        let conflict = ring(&["--chaos", "--size", "63B"]).unwrap().check().unwrap_err();
        assert!(conflict.contains("--size 63B"), "{conflict}");
        assert!(ring(&["--chaos", "--rounds", "3"]).is_err(), "there are no rounds");
        assert!(ring(&["--seconds", "3"]).is_err(), "rounds take as long as they take");
    }

    #[test]
    fn errors_name_the_input() {
        for (flag, value) in [
            ("--size", "10Mib/s"),
            ("--congestion", "a b"),
            ("--deadline", "0"),
            ("--nodes", "1"),
            ("--size", "100GiB"),
            ("--deadline", "18446744073709551615"),
            ("--nodes", "65"),
            ("--workers", "257"),
            ("--rounds", "4294967295"),
            ("--warmup", "4294967295"),
            ("--deadline", "86401"),
        ] {
            let error = ring(&[flag, value]).unwrap_err().to_string();
            assert!(error.contains(value) && error.contains(flag), "{error}");
        }
    }
}
