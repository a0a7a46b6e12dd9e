//! One large binary to many nodes at a time, each a process of its own, with one copy of it in the sender's memory.
//! It prints how long that took, the throughput, and by how much the sender's memory grew (Linux). The first rounds
//! are slower: memory that is new to the receivers costs page faults, what they use again does not.
//!
//! ```sh
//! cargo run --release --example fan_out -- 8 100      # 8 nodes, 100 MiB; the default is 4 nodes and 64 MiB
//! ```

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};
use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use teleport::{Binary, Node, NodeName, Process, SendOptions, StaticPeers};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

const COOKIE: &str = "hW8sJq2ZkXc5NvTf";
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => fan_out(4, 64).await,
        ["receive", name] => receive(name).await,
        [nodes, mib] => match (nodes.parse(), mib.parse()) {
            (Ok(nodes @ 1..=100), Ok(mib @ 1..=1000)) => fan_out(nodes, mib).await,
            _ => Err("1 to 100 nodes and 1 to 1000 MiB, please".into()),
        },
        _ => Err("usage: fan_out [<nodes> <MiB>]".into()),
    };
    result.map_or_else(failed, |()| ExitCode::SUCCESS)
}

async fn fan_out(nodes: usize, mib: usize) -> Result<(), Box<dyn Error>> {
    let peers = StaticPeers::new();
    let sender = Node::builder("sender@127.0.0.1").cookie(COOKIE).resolver(peers.clone()).start().await?;
    // Dropping a child kills it.
    let (mut children, mut names) = (Vec::new(), Vec::new());
    for i in 0..nodes {
        let name: NodeName = format!("receiver{i}@127.0.0.1").parse()?;
        let (child, address) = start_receiver(&name).await?;
        peers.insert(name.clone(), address);
        children.push(child);
        names.push(name);
    }
    // Sessions and connections first, so that only the sending is measured.
    try_join_all(names.iter().map(|name| sender.prime(name))).await?;

    let binary = Binary::from((0..mib << 20).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    let memory = status("VmRSS")?;
    println!("{nodes} nodes, {mib} MiB for each; resident with one copy: {memory} MiB");
    let process = sender.process();
    for round in 1..=ROUNDS {
        let begin = Instant::now();
        try_join_all(names.iter().map(|name| deliver(&process, name, &binary))).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let rate = (nodes * binary.len()) as f64 / 1e6 / seconds;
        println!("round {round}: {:.0} ms, {rate:.0} MB/s", seconds * 1e3);
    }
    println!("resident at most: {} MiB, {} more", status("VmHWM")?, status("VmHWM")?.saturating_sub(memory));

    // A call behind the sends of the same pair is answered behind them.
    let expected = (ROUNDS, Binary::from(Sha256::digest(&binary).to_vec()));
    let all = process.multi_call::<_, (usize, Binary)>(names, "sink", "what came?", PATIENCE).await;
    if let Some((name, error)) = all.failures.first() {
        return Err(format!("{name}: {error}").into());
    }
    if let Some((name, _)) = all.replies.iter().find(|(_, reply)| *reply != expected) {
        return Err(format!("{name} got something else").into());
    }
    println!("all {nodes} nodes have got it {ROUNDS} times, the last time with the same SHA-256");
    Ok(())
}

/// Returns when it is in the receiver's mailbox.
async fn deliver(from: &Process, to: &NodeName, binary: &Binary) -> Result<(), Box<dyn Error>> {
    // By reference: each message holds the binary, not a copy of it.
    let sent = from.send_acknowledged(("sink", to), binary, SendOptions::default()).await?;
    Ok(sent.await?)
}

/// Starts this program again, as a receiver.
async fn start_receiver(name: &NodeName) -> Result<(Child, SocketAddr), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["receive", name.as_str()]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("no pipe")?;
    let line = BufReader::new(output).lines().next_line().await?.ok_or("a receiver did not start")?;
    Ok((child, line.parse()?))
}

/// A receiver's part: takes binaries until its input is closed, which also happens when the sender is killed.
async fn receive(name: &str) -> Result<(), Box<dyn Error>> {
    let node = Node::builder(name).cookie(COOKIE).start().await?;
    let mut sink = node.register("sink")?;
    println!("{}", node.address());
    std::io::stdout().flush()?;

    let (mut count, mut last) = (0, Binary::default());
    let (mut input, mut nothing) = (tokio::io::stdin(), [0]);
    loop {
        let message = tokio::select! {
            message = sink.recv() => message.ok_or("the node has been shut down")?,
            _closed = input.read(&mut nothing) => return Ok(()),
        };
        if let Some((caller, _what_came)) = message.call() {
            sink.process().reply(&caller, &(count, Binary::from(Sha256::digest(&last).to_vec())))?;
        } else {
            (count, last) = (count + 1, message.decode()?);
        }
    }
}

/// A field of `/proc/self/status`, in MiB.
fn status(field: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?;
    Ok(kib.parse::<u64>()? / 1024)
}

fn failed(error: Box<dyn Error>) -> ExitCode {
    eprintln!("fan_out: {error}");
    ExitCode::FAILURE
}
