//! One holder of the cookie does its worst to a node for a while: what the node's memory and the calls of others come to.
//!
//! The besieged node is a process of its own, in Rust or, with `--victim`, whatever prints `victim <name> <ip>:<port>` and
//! then runs until its standard input ends (`scripts/siege.sh erlang`). So is the attacker, which comes from 127.0.0.2 under
//! many names, with sessions that it never means well: it fills windows with messages that can never be delivered, asks for
//! answers that it does not take, opens and drops monitors, sends terms that take far more memory than bytes. Meanwhile honest
//! nodes, here, call, send, ask for large answers and hold monitors.
//!
//! ```text
//! cargo run --release -p teleport --example siege -- --seconds 60 --json siege.json
//! cargo run --release -p teleport --example siege -- stopped --least 0.8    # what peers that stand still leave to one that does not
//! ```

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

mod attack;
mod honest;
mod peer;
mod stopped;
mod victim;

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use teleport::NodeName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const COOKIE: &str = "XVTqZ3vF0cYbN7sLk2Rw";
const MIB: u64 = 1 << 20;
const USAGE: &str = "usage: siege [--seconds N] [--kinds windows,mailbox,answers,watches,terms,sessions,oversize] \
                     [--stop-at MIB] [--most MIB] [--p99 MS] [--victim COMMAND] [--json FILE] | siege stopped [--least RATIO]";

/// What is asked for.
struct Options {
    seconds: u64,
    kinds: String,
    /// The siege ends when the victim has this many bytes.
    stop_at: u64,
    /// What the victim may have at the most, in bytes, and the honest calls' 99th percentile, in milliseconds: else the program fails.
    /// With the second it also fails if a call or a large answer failed, or a monitor was lost.
    most: Option<u64>,
    p99: Option<f64>,
    victim: Option<String>,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: VecDeque<String>) -> Result<Self> {
        let mut options = Self {
            seconds: 60,
            kinds: "windows,mailbox,answers,watches,terms,sessions".into(),
            stop_at: 4096 * MIB,
            most: None,
            p99: None,
            victim: None,
            json: None,
        };
        while let Some(option) = arguments.pop_front() {
            let value = arguments.pop_front().ok_or(USAGE)?;
            match &*option {
                "--seconds" => options.seconds = value.parse()?,
                "--kinds" => options.kinds = value,
                "--stop-at" => options.stop_at = value.parse::<u64>()? * MIB,
                "--most" => options.most = Some(value.parse::<u64>()? * MIB),
                "--p99" => options.p99 = Some(value.parse()?),
                "--victim" => options.victim = Some(value),
                "--json" => options.json = Some(value.into()),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    seconds: f64,
    /// Whether the victim took too much.
    stopped: bool,
    /// The victim's memory before, its most, and some seconds after, in bytes.
    before: u64,
    peak: u64,
    after: u64,
    /// What honest nodes met with, in peace and under siege.
    peace: honest::Figures,
    siege: honest::Figures,
    attack: attack::Figures,
    /// What the victim has counted itself, if it does.
    victim: Option<victim::Figures>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments: VecDeque<String> = std::env::args().skip(1).collect();
    match arguments.front().map(String::as_str) {
        Some("victim") => victim::run().await,
        Some("stopped") => stopped::run(arguments.into_iter().skip(1).collect()).await,
        Some("peer") => stopped::peer(arguments.into_iter().skip(1).collect()).await,
        Some("attack") => attack::run(arguments.into_iter().skip(1).collect()).await,
        _ => {
            let options = Options::parse(std::mem::take(&mut arguments))?;
            let outcome = besiege(&options).await?;
            println!("{}", table(&outcome));
            if let Some(path) = &options.json {
                std::fs::write(path, json(&outcome)?)?;
            }
            hold_to_bars(&options, &outcome)
        }
    }
}

fn hold_to_bars(options: &Options, outcome: &Outcome) -> Result<()> {
    let peak = outcome.peak;
    if let Some(most) = options.most.filter(|most| peak > *most) {
        return Err(format!("the victim had {} MiB at the most, of {} MiB", peak / MIB, most / MIB).into());
    }
    let honest::Figures { p99, failed, large_failed, monitors_lost, .. } = outcome.siege;
    match options.p99 {
        Some(most) if p99 > most || failed + large_failed + monitors_lost > 0 => Err(format!(
            "99 of 100 honest calls took {p99:.1} ms, of {most} ms; {failed} failed; {large_failed} large answers did not come; \
             {monitors_lost} monitors were lost"
        )
        .into()),
        _ => Ok(()),
    }
}

async fn besiege(options: &Options) -> Result<Outcome> {
    let victim = Victim::start(options.victim.as_deref()).await?;
    let honest = honest::Honest::start(&victim.name, victim.address).await?;
    let calm = Duration::from_secs((options.seconds / 10).clamp(1, 5));
    let peace = honest.measure(calm).await;
    let before = victim.memory()?;

    let begun = Instant::now();
    let mut attacker = Command::new("nice")
        .args(["-n", "19"])
        .arg(std::env::current_exe()?)
        .args(["attack", victim.name.as_str(), &victim.address.to_string()])
        .args([&options.seconds.to_string(), &options.kinds])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = attacker.stdout.take().ok_or("the attacker has no output")?;
    let peak = AtomicU64::new(before);
    let sampling = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if peak.fetch_max(victim.memory()?, Ordering::Relaxed) > options.stop_at {
                return Result::Ok(());
            }
        }
    };
    let siege = tokio::select! {
        figures = honest.measure(Duration::from_secs(options.seconds)) => Some(figures),
        ended = sampling => {
            ended?;
            None
        }
    };
    let (stopped, peak) = (siege.is_none(), peak.load(Ordering::Relaxed));
    let seconds = begun.elapsed().as_secs_f64();
    let mut attack = String::new();
    if !stopped {
        tokio::time::timeout(Duration::from_secs(20), said.read_to_string(&mut attack)).await??;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let after = victim.memory()?;
    drop(attacker);
    let victim = if stopped { None } else { victim.end().await? };
    Ok(Outcome {
        seconds,
        stopped,
        before,
        peak,
        after,
        peace,
        siege: siege.unwrap_or_default(),
        attack: attack::Figures::parse(&attack),
        victim,
    })
}

/// The besieged node.
struct Victim {
    child: Child,
    stdin: Option<ChildStdin>,
    output: BufReader<tokio::process::ChildStdout>,
    name: NodeName,
    address: SocketAddr,
}

impl Victim {
    async fn start(command: Option<&str>) -> Result<Self> {
        let mut child = match command {
            Some(command) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("exec {command}")]);
                shell
            }
            None => {
                let mut own = Command::new(std::env::current_exe()?);
                own.arg("victim");
                own
            }
        }
        .env("TELEPORT_COOKIE", COOKIE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the victim has no output")?);
        let stdin = child.stdin.take();
        let mut line = String::new();
        loop {
            line.clear();
            if output.read_line(&mut line).await? == 0 {
                return Err("the victim has not said where it listens".into());
            }
            if let Some((name, address)) =
                line.trim().strip_prefix("victim ").and_then(|rest| rest.split_once(' '))
            {
                let (name, address) = (name.parse()?, address.parse()?);
                return Ok(Self { child, stdin, output, name, address });
            }
        }
    }

    /// Bytes that it has in memory.
    fn memory(&self) -> Result<u64> {
        let process = self.child.id().ok_or("the victim has ended")?;
        let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the victim has ended")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Ends it. What it says last.
    async fn end(mut self) -> Result<Option<victim::Figures>> {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.shutdown().await; // its end is what it waits for
        }
        let mut said = String::new();
        let end = Duration::from_secs(20);
        tokio::time::timeout(end, self.output.read_to_string(&mut said)).await??;
        tokio::time::timeout(end, self.child.wait()).await??;
        Ok(victim::Figures::parse(&said))
    }
}

fn table(outcome: &Outcome) -> String {
    let Outcome { seconds, stopped, before, peak, after, peace, siege, attack, victim } = outcome;
    let mib = |bytes: &u64| bytes / MIB;
    let mut lines = vec![
        format!(
            "siege of {seconds:.0} s{}",
            if *stopped { ", ended early: the victim took too much" } else { "" }
        ),
        format!("victim, MiB      before {}, most {}, after {}", mib(before), mib(peak), mib(after)),
        format!(
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "honest calls", "answered", "failed", "p50 ms", "p99 ms", "max ms"
        ),
    ];
    for (what, figures) in [("in peace", peace), ("under siege", siege)] {
        let honest::Figures { answered, failed, p50, p99, max, .. } = figures;
        lines.push(format!("{what:<16} {answered:>9} {failed:>9} {p50:>9.2} {p99:>9.2} {max:>9.2}"));
    }
    let seconds: Vec<String> = siege.seconds.iter().map(|worst| format!("{worst:.0}")).collect();
    lines.push(format!("worst by second  {}", seconds.join(" ")));
    lines.push(format!(
        "honest sends     in peace {} small and {} large, under siege {} and {}; failed {}",
        peace.small, peace.large, siege.small, siege.large, siege.unsent
    ));
    lines.push(format!(
        "large answers    in peace {}, under siege {}; failed {}; monitors lost {}",
        peace.large_answers, siege.large_answers, siege.large_failed, siege.monitors_lost
    ));
    lines.push(format!("attack           {attack:?}"));
    if let Some(victim) = victim {
        lines.push(format!("victim counted   {victim:?}"));
    }
    lines.join("\n")
}

/// As JSON. There is no writer for it among what the crate uses, and none is needed: keys, numbers and booleans.
fn json(outcome: &Outcome) -> Result<String> {
    let figures = |f: &honest::Figures| {
        format!(
            "{{\"answered\":{},\"failed\":{},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"max_ms\":{:.3},\"small\":{},\"large\":{},\"unsent\":{},\
             \"large_answers\":{},\"large_failed\":{},\"monitors_lost\":{}}}",
            f.answered,
            f.failed,
            f.p50,
            f.p99,
            f.max,
            f.small,
            f.large,
            f.unsent,
            f.large_answers,
            f.large_failed,
            f.monitors_lost,
        )
    };
    let Outcome { seconds, stopped, before, peak, after, peace, siege, attack, victim } = outcome;
    let accounted = victim.as_ref().map_or("null".into(), |victim| {
        let victim::Figures { undelivered, granted, answers, sessions } = victim;
        format!(
            "{{\"undelivered\":{undelivered},\"granted\":{granted},\"answers\":{answers},\"sessions\":{sessions}}}"
        )
    });
    Ok(format!(
        "{{\"seconds\":{seconds:.3},\"stopped\":{stopped},\"before\":{before},\"peak\":{peak},\"after\":{after},\
         \"peace\":{},\"siege\":{},\"sessions\":{},\"refused\":{},\"lost\":{},\"bytes\":{},\"victim\":{accounted}}}\n",
        figures(peace),
        figures(siege),
        attack.sessions,
        attack.refused,
        attack.lost,
        attack.bytes,
    ))
}
