//! The sender's side: reads, sends, and begins again where the receiver is.

use super::{COOKIE, Chunk, RECEIVER, Reply, Request, STORE, Stored};
use crate::store::HashWriter;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::{Duration, Instant};
use teleport::{
    Binary, CallError, DeliveryError, Node, NodeName, Process, SendError, SendOptions, Sever, StaticPeers,
};

/// Large enough that a message's cost does not matter, small enough for a progress bar to move.
const CHUNK: u64 = 1 << 20;
/// Chunks sent and not yet known to be in the store's mailbox.
const IN_FLIGHT: usize = 16;
const ATTEMPTS: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);
/// The disk on the other side has to have written all that is under way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a hand-off stopped.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("sending failed: {0}")]
    Send(#[from] SendError),
    #[error("a part was not delivered: {0}")]
    Delivery(#[from] DeliveryError),
    #[error("the store did not answer: {0}")]
    Call(#[from] CallError),
    #[error("the store refused: {0}")]
    Refused(String),
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
}

impl Failure {
    /// Whether it may go better next time: the receiver is not there, or was there and went.
    fn may_pass(&self) -> bool {
        match self {
            Self::Send(error) | Self::Call(CallError::Send(error)) => {
                !matches!(error, SendError::TooLarge { .. } | SendError::Encode(_) | SendError::NotRunning)
            }
            Self::Call(error) => !matches!(error, CallError::Rejected(_) | CallError::Reply(_)),
            Self::Delivery(_) => true,
            Self::Refused(_) | Self::File(_) => false,
        }
    }
}

struct Handoff {
    process: Process,
    receiver: NodeName,
    partition: u64,
    bar: ProgressBar,
    /// For demonstration: break a connection whenever this many chunks have been sent; 0 for never.
    break_every: u64,
    broken: usize,
}

pub(crate) async fn run(
    address: &str,
    partition: &str,
    path: &str,
    every: &str,
) -> Result<(), Box<dyn Error>> {
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let partition = partition.parse().map_err(|_| format!("{partition:?} is no partition's number"))?;
    let break_every = every.parse().map_err(|_| format!("{every:?} is no number of chunks"))?;
    let mut file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let size = file.metadata()?.len();

    let receiver: NodeName = RECEIVER.parse()?;
    let peers = StaticPeers::from_iter([(receiver.clone(), address)]);
    let name = format!("sender-{}@127.0.0.1", std::process::id());
    let node = Node::builder(&name).cookie(COOKIE).resolver(peers).start().await?;

    let style = "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    let bar = ProgressBar::new(size).with_style(ProgressStyle::with_template(style)?);
    let process = node.process();
    let mut handoff = Handoff { process, receiver, partition, bar, break_every, broken: 0 };
    let mut attempt = 1;
    let (sent, took) = loop {
        match handoff.attempt(&mut file, size).await {
            Ok(done) => break done,
            Err(failure) if failure.may_pass() && attempt < ATTEMPTS => {
                handoff.bar.suspend(|| eprintln!("attempt {attempt}: {failure}; trying again"));
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure.into()),
        }
    };
    handoff.bar.finish_and_clear();
    let (rate, broken) = (sent as f64 / 1e6 / took.as_secs_f64(), handoff.broken);
    println!("partition {partition}: {size} bytes stored and verified");
    println!("{sent} bytes in the last of {attempt} attempts, {rate:.0} MB/s, {broken} connections broken");
    let _all_is_confirmed = node.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

impl Handoff {
    /// Hands over what is missing; gives how much that was, and how long it took.
    async fn attempt(&mut self, file: &mut File, size: u64) -> Result<(u64, Duration), Failure> {
        let partition = self.partition;
        let stored = self.call(&Request::Begin { partition, size }).await?;
        file.rewind()?;
        let mut hash = Sha256::new();
        let mut offset = io::copy(&mut file.by_ref().take(stored.bytes), &mut HashWriter(&mut hash))?;
        if offset != stored.bytes || *stored.sha256 != *hash.clone().finalize() {
            self.call(&Request::Restart { partition, size }).await?; // it is of another file
            file.rewind()?;
            (hash, offset) = (Sha256::new(), 0);
        }
        self.bar.set_position(offset);

        let (begin, first) = (Instant::now(), offset);
        let mut in_flight = VecDeque::new();
        let mut chunks = 0;
        while offset < size {
            let mut data = Vec::with_capacity(CHUNK as usize);
            if file.by_ref().take(CHUNK).read_to_end(&mut data)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            hash.update(&data);
            let length = data.len() as u64;
            let chunk = Chunk { partition, offset, data: Binary::from(data) };
            // Waits while the receiver has more under way than it wants: for the network, or for its disk.
            let sent =
                self.process.send_acknowledged((STORE, &self.receiver), &chunk, SendOptions::default());
            in_flight.push_back((length, sent.await?));
            if in_flight.len() == IN_FLIGHT {
                self.confirm(in_flight.pop_front()).await?;
            }
            offset += length;
            chunks += 1;
            if self.break_every > 0 && chunks % self.break_every == 0 {
                let broken = self.process.node().sever(&self.receiver, Sever::Pool(self.broken));
                self.broken += usize::from(broken);
            }
        }
        while !in_flight.is_empty() {
            self.confirm(in_flight.pop_front()).await?;
        }
        // Sends and calls of one pair keep their order: it comes behind every chunk.
        let sha256 = hash.finalize().to_vec().into();
        let stored = self.call(&Request::Finish { partition, sha256 }).await?;
        Ok((stored.bytes - first, begin.elapsed()))
    }

    async fn confirm(&self, sent: Option<(u64, teleport::Acknowledgement)>) -> Result<(), Failure> {
        if let Some((length, sent)) = sent {
            sent.await?;
            self.bar.inc(length);
        }
        Ok(())
    }

    async fn call(&self, request: &Request) -> Result<Stored, Failure> {
        let reply: Reply = self.process.call((STORE, &self.receiver), request, PATIENCE).await?;
        reply.map_err(Failure::Refused)
    }
}
