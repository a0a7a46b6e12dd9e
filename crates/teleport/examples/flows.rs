//! One large message over 1 to 16 bulk connections, each of which may carry only so much, as clouds limit single flows; and over as
//! many as the sender finds worth having. Both nodes are in this program, on loopback.
//!
//! ```sh
//! cargo run --release --example flows -- 300 100 5    # 300 MiB, 100 MB/s for each connection, 5 rounds: the default
//! cargo run --release --example flows -- 300 none 5   # without a limit
//! ```

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use teleport::{Binary, Config, Node, NodeName, SendOptions, StaticPeers};

const COOKIE: &str = "nV4yTq8RzMw2LsXd";
const CONNECTIONS: [u32; 5] = [1, 2, 4, 8, 16];
/// The most connections of the sender that finds out for itself.
const MOST: u32 = 8;

/// A sender, and how long its messages took.
struct Flow {
    label: String,
    node: Node,
    seconds: Vec<f64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => flows(300, NonZeroU64::new(100), 5).await,
        [mib, limit, rounds] => match (mib.parse(), limit.parse(), rounds.parse()) {
            (Ok(mib @ 1..=4000), Ok(limit), Ok(rounds @ 1..=100)) => flows(mib, Some(limit), rounds).await,
            (Ok(mib @ 1..=4000), Err(_), Ok(rounds @ 1..=100)) if limit == "none" => {
                flows(mib, None, rounds).await
            }
            _ => Err("1 to 4000 MiB, MB/s or `none`, and 1 to 100 rounds, please".into()),
        },
        _ => Err("usage: flows [<MiB> <MB/s>|none <rounds>]".into()),
    };
    result.map_or_else(failed, |()| ExitCode::SUCCESS)
}

async fn flows(mib: usize, limit: Option<NonZeroU64>, rounds: usize) -> Result<(), Box<dyn Error>> {
    let config = |connections, most| {
        let mut config = Config::default();
        (config.bulk_connections, config.most_bulk_connections) = (connections, most);
        config.max_pacing_rate =
            limit.map(|limit| limit.saturating_mul(NonZeroU64::MIN.saturating_add(999_999)));
        config.max_message = NonZeroU64::MIN.saturating_add(8 << 30);
        config
    };
    let receiver = Node::builder("receiver@127.0.0.1").cookie(COOKIE).config(config(16, 16)).start().await?;
    let mut sink = receiver.register("sink")?;
    tokio::spawn(async move { while sink.recv().await.is_some() {} });
    let peers = StaticPeers::new();
    peers.insert(receiver.name().clone(), receiver.address());

    let fixed = CONNECTIONS.map(|connections| (connections.to_string(), config(connections, connections)));
    let mut flows = Vec::new();
    for (label, config) in fixed.into_iter().chain([(format!("1 to {MOST}"), config(1, MOST))]) {
        let name = format!("sender{}@127.0.0.1", flows.len());
        let node = Node::builder(&name).cookie(COOKIE).config(config).resolver(peers.clone()).start().await?;
        node.prime(receiver.name()).await?;
        flows.push(Flow { label, node, seconds: Vec::new() });
    }

    let binary = Binary::from(vec![7; mib << 20]);
    let each = limit.map_or("as much as it can".to_owned(), |limit| format!("{limit} MB/s"));
    println!("one message of {mib} MiB, {rounds} rounds in turns; each connection carries {each}");
    for _ in 0..rounds {
        for flow in &mut flows {
            let begin = Instant::now();
            deliver(&flow.node, receiver.name(), &binary).await?;
            flow.seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let rate = |seconds: f64| binary.len() as f64 / 1e6 / seconds;
    let mut alone = None;
    println!("{:>11}  {:>6}  {:>15}  times one", "connections", "MB/s", "least - most");
    for Flow { label, seconds, .. } in &mut flows {
        seconds.sort_by(f64::total_cmp);
        let [median, least, most] = [rounds / 2, rounds - 1, 0].map(|at| rate(seconds[at]));
        let times = median / *alone.get_or_insert(median);
        println!("{label:>11}  {median:>6.0}  {:>15}  {times:>9.2}", format!("{least:.0} - {most:.0}"));
    }
    let nodes = flows.into_iter().map(|flow| flow.node).chain([receiver]);
    for node in nodes {
        let report = node.shutdown(Duration::from_secs(10)).await;
        if let Some((peer, count)) = report.unconfirmed.first() {
            return Err(format!("{count} messages to {peer} are unconfirmed").into());
        }
    }
    Ok(())
}

/// Returns when it is in the receiver's mailbox.
async fn deliver(from: &Node, to: &NodeName, binary: &Binary) -> Result<(), Box<dyn Error>> {
    let sent = from.process().send_acknowledged(("sink", to), binary, SendOptions::default()).await?;
    Ok(sent.await?)
}

fn failed(error: Box<dyn Error>) -> ExitCode {
    eprintln!("flows: {error}");
    ExitCode::FAILURE
}
