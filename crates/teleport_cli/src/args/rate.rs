//! Options of `teleport rate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use super::{MOST_ROUNDS, congestion, seconds};
use crate::bench::tls::{TlsFiles, TlsOptions};
use crate::size::Size;

/// Bytes of the smallest message: a binary of ten bytes, in which the warm-up puts a number.
const LEAST_SIZE: usize = 16;

/// Bytes of the largest message: above this, `ring` measures what matters.
const LARGEST_SIZE: usize = 1 << 20;

pub(crate) const HELP: &str = "\
Measure how many small messages per second go from one node to another.

Both nodes are processes of their own on this machine. Every pair has a sender at the first node and a receiver, \
a registered mailbox, at the second; senders send as fast as they are let. A message is one Binary whose encoded \
term has --size bytes; it is made once and sent with `send` over and over. Counted is what receivers take out of \
their mailboxes. There are two baselines of plain blocking sockets, one per pair, with the same bytes and a length in \
front of each message:

  raw     The sender hands a copy of each message through a queue to a thread that owns the socket, and that writes \
what has come together, up to 64 KiB at once. At the other node a thread reads large blocks and hands a copy of each \
message through a queue to the receiver, which takes one at a time. A handover at either side is what every program \
needs in which processes share a socket and have mailboxes; there is no order, credit or acknowledgement beyond TCP's. \
`x raw` in the table is the ratio to it.

  inline  No queues: one thread makes the messages, copies them into a block of 64 KiB and writes it; another one \
reads blocks, copies each message out and counts. The bound that nothing with a handover reaches.

With --mode call every pair has a caller that makes one call after the other, and nothing else goes on; request and \
reply are such messages. `raw` writes the same bytes to a socket, and reads them back, on one thread at either side; \
there is no `inline`.

Most of a call's time, and much of a lone pair's, goes into waking threads. An application that does little but \
pass messages on can have its node run on its own runtime with `NodeBuilder::runtime`: --threads shared or single. \
That makes round trips much shorter than threads of the node's own do.

The rounds of the transports are interleaved, after a warm-up round each in which it is verified that messages \
arrive complete and in order. After every round all messages that were sent must have arrived.";

/// Options of `teleport rate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RateOptions {
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Mode::Send)]
    pub(crate) mode: Mode,

    /// Size of a message, from 16B to 1MiB.
    #[arg(long, default_value = "64B", value_name = "SIZE", value_parser = small)]
    pub(crate) size: Size,

    /// Pairs of sender and receiver.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) pairs: u16,

    /// How long a round is measured, e.g. 5 or 0.5.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = fraction)]
    pub(crate) seconds: Duration,

    /// Timed rounds per transport.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST_ROUNDS))]
    pub(crate) rounds: u32,

    /// What to compare, separated by commas [default: teleport,raw,inline; of calls teleport,raw].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,..")]
    transport: Vec<RateTransport>,

    /// Which threads teleport's nodes run on.
    #[arg(long, value_enum, default_value_t = Threads::Own)]
    pub(crate) threads: Threads,

    /// TCP congestion control of every transport's sockets, e.g. cubic or bbr [default: the system's].
    #[arg(long, value_name = "NAME", value_parser = congestion)]
    pub(crate) congestion: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Also write all results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// How long any single step, such as the start, may take before the run is given up.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) deadline: Duration,
}

impl RateOptions {
    /// What to compare, each transport once.
    pub(crate) fn transports(&self) -> Vec<RateTransport> {
        let mut transports = Vec::new();
        for &transport in &self.transport {
            if !transports.contains(&transport) {
                transports.push(transport);
            }
        }
        if transports.is_empty() {
            transports.extend(RateTransport::value_variants());
            transports.retain(|&transport| match transport {
                RateTransport::Tls => false,
                RateTransport::Inline => self.mode == Mode::Send,
                RateTransport::Teleport | RateTransport::Raw => true,
            });
        }
        if self.tls.is_wanted() && !transports.contains(&RateTransport::Tls) {
            transports.insert(0, RateTransport::Tls);
        }
        transports
    }

    /// What the declaration cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Call && self.transport.contains(&RateTransport::Inline) {
            return Err("--mode call has no `--transport inline`: calls have one baseline, `raw`, which \
                        hands nothing from thread to thread either"
                .to_owned());
        }
        Ok(())
    }
}

/// Options of `teleport rate-node`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RateNodeOptions {
    /// What carries the messages.
    #[arg(long, value_enum)]
    pub(crate) transport: RateTransport,

    /// 0 sends or calls, 1 receives or answers.
    #[arg(long, value_parser = value_parser!(u16).range(0..=1))]
    pub(crate) index: u16,

    /// What to measure.
    #[arg(long, value_enum)]
    pub(crate) mode: Mode,

    /// Size of a message.
    #[arg(long, value_parser = small)]
    pub(crate) size: Size,

    /// Pairs of sender and receiver.
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) pairs: u16,

    /// Which threads a node of teleport runs on.
    #[arg(long, value_enum)]
    pub(crate) threads: Threads,

    /// TCP congestion control.
    #[arg(long, value_parser = congestion)]
    pub(crate) congestion: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsFiles,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Messages one way, as many as possible.
    Send,
    /// Calls, one after the other.
    Call,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RateTransport {
    /// This product.
    Teleport,
    /// This product with TLS 1.3.
    Tls,
    /// Blocking sockets with next to no protocol, and a thread for each that messages are handed to and from.
    Raw,
    /// Plain sockets without handing anything over: the bound.
    Inline,
}

/// Which threads a node of the product runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Threads {
    /// Its own; senders and receivers have a runtime of the same size beside it. The product's default.
    Own,
    /// Those of the runtime of senders and receivers, one per core: fast calls, and the cores stay of use.
    Shared,
    /// One, which is that of senders and receivers, too: fastest for calls and for one busy pair.
    Single,
}

impl Mode {
    /// The name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Call => "call",
        }
    }
}

impl RateTransport {
    /// The name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Teleport => "teleport",
            Self::Tls => "tls",
            Self::Raw => "raw",
            Self::Inline => "inline",
        }
    }
}

impl Threads {
    /// The name on the command line and in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
            Self::Single => "single",
        }
    }
}

fn small(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: crate::size::SizeError| error.to_string())?;
    if !(LEAST_SIZE..=LARGEST_SIZE).contains(&size.bytes()) {
        return Err(format!("{size} is not between 16B and 1MiB; `teleport ring` measures large messages"));
    }
    Ok(size)
}

fn fraction(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not a number of seconds from 0.01 to 3600; example: 5"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn rate(arguments: &[&str]) -> Result<RateOptions, clap::Error> {
        let cli = Cli::try_parse_from(["teleport", "rate"].iter().chain(arguments))?;
        match cli.command {
            Command::Rate(options) => Ok(options),
            _ => unreachable!("`rate` was parsed"),
        }
    }

    #[test]
    fn defaults_are_the_published_benchmark() {
        let options = rate(&[]).unwrap();
        assert_eq!((options.mode, options.pairs, options.rounds), (Mode::Send, 1, 5));
        assert_eq!((options.size.bytes(), options.seconds), (64, Duration::from_secs(5)));
        let all = [RateTransport::Teleport, RateTransport::Raw, RateTransport::Inline];
        assert_eq!(options.transports(), all);
        assert_eq!(options.check(), Ok(()));
    }

    #[test]
    fn calls_have_one_baseline() {
        let options = rate(&["--mode", "call"]).unwrap();
        assert_eq!(options.transports(), [RateTransport::Teleport, RateTransport::Raw]);
        assert_eq!(options.check(), Ok(()));
        let conflict = rate(&["--mode", "call", "--transport", "raw,inline"]).unwrap().check().unwrap_err();
        assert!(conflict.contains("--transport inline"), "{conflict}");
    }

    #[test]
    fn seconds_may_be_fractions() {
        assert_eq!(rate(&["--seconds", "0.25"]).unwrap().seconds, Duration::from_millis(250));
    }

    #[test]
    fn errors_name_the_input() {
        for (flag, value) in [
            ("--size", "15B"),
            ("--size", "2MiB"),
            ("--size", "small"),
            ("--seconds", "0"),
            ("--seconds", "NaN"),
            ("--pairs", "0"),
            ("--transport", "disterl"),
            ("--pairs", "257"),
            ("--seconds", "1e300"),
            ("--rounds", "4294967295"),
        ] {
            let error = rate(&[flag, value]).unwrap_err().to_string();
            assert!(error.contains(value) && error.contains(flag), "{error}");
        }
    }
}
