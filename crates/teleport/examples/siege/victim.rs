//! The besieged node, if it is one in Rust: servers, a process that takes what it is sent, and one that does not.

use super::{COOKIE, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use teleport::gen_server::{Answer, Context, GenServer};
use teleport::{Binary, Caller, Node};
use teleport_proto::transfer::TransferStats;
use tokio::io::AsyncReadExt;

/// What `desk` is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Answered by itself.
    Echo(u64),
    /// Answered by this many bytes.
    Blob(u64),
}

struct Desk;

impl GenServer for Desk {
    type Call = Ask;
    type Reply = Binary;
    type Cast = ();

    async fn handle_call(
        &mut self,
        request: Ask,
        _caller: &Caller,
        _context: &mut Context,
    ) -> Answer<Binary> {
        match request {
            Ask::Echo(number) => Binary::from(number.to_string()).into(),
            Ask::Blob(len) => Binary::from(vec![0; len as usize]).into(),
        }
    }
}

/// What it has counted, at its most.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// Bytes received, or being received, and not delivered.
    pub(crate) undelivered: u64,
    /// Bytes that peers might have had under way.
    pub(crate) granted: u64,
    /// Bytes of answers that were not taken.
    pub(crate) answers: u64,
    pub(crate) sessions: u64,
}

impl Figures {
    pub(crate) fn parse(said: &str) -> Option<Self> {
        let line = said.lines().find_map(|line| line.strip_prefix("figures "))?;
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { undelivered: next()?, granted: next()?, answers: next()?, sessions: next()? })
    }
}

pub(crate) async fn run() -> Result<()> {
    let node = Node::builder("victim@127.0.0.1").cookie(COOKIE).start().await?;
    // What takes long is asked of another server: what that is busy with, others wait for in any case.
    let _servers = (
        node.register_server("desk", Desk)?,
        node.register_server("store", Desk)?,
        node.register_server("shelf", Desk)?,
    );
    let _unread = node.register("sink")?;
    let mut taker = node.register("taker")?;
    tokio::spawn(async move {
        while let Some(message) = taker.recv().await {
            let _looked_at: std::result::Result<teleport::Term, _> = message.decode();
        }
    });
    println!("victim {} {}", node.name(), node.address());
    let mut figures = Figures::default();
    let watching = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let peers = node.info().peers;
            figures.sessions = figures.sessions.max(peers.len() as u64);
            let all = |of: fn(&TransferStats) -> u64| peers.iter().map(|peer| of(&peer.transfer)).sum();
            figures.undelivered = figures.undelivered.max(all(|stats| stats.undelivered_bytes));
            figures.granted = figures.granted.max(all(|stats| stats.granted_bytes));
            figures.answers = figures.answers.max(all(|stats| stats.answer_bytes));
        }
    };
    let (mut stdin, mut end) = (tokio::io::stdin(), [0]);
    tokio::select! {
        () = watching => {}
        _ = stdin.read(&mut end) => {}
    }
    let Figures { undelivered, granted, answers, sessions } = figures;
    println!("figures {undelivered} {granted} {answers} {sessions}");
    Ok(())
}
