//! A worker's lane: sends its own messages, and passes on those of others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use serde::{Deserialize, Serialize};
use teleport::{Binary, Mailbox, Node};

use super::{Setup, node_name};
use crate::bench::child::NodeError;
use crate::ring::arrivals::Arrivals;
use crate::ring::payload::checksum;
use crate::ring::topology::Direction;

/// What goes round the ring.
#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    origin: u16,
    worker: u16,
    round: u32,
    /// How often it was sent so far, 1 on the first hop.
    hop: u16,
    /// Set if the last node is to check the payload.
    checksum: Option<u64>,
    payload: Binary,
}

/// What a worker is asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) round: u32,
    pub(super) verify: bool,
}

/// A worker's sending half.
pub(super) struct Sender {
    setup: Setup,
    worker: u16,
    direction: Direction,
    mailbox: Mailbox,
    payload: Binary,
}

impl Sender {
    /// A worker with a random payload of its own.
    pub(super) fn new(
        node: &Node,
        setup: Setup,
        worker: u16,
        direction: Direction,
    ) -> Result<Self, NodeError> {
        let mut payload = vec![0; setup.size];
        rand::rng().fill_bytes(&mut payload);
        let mailbox = register(node, &sender_name(worker))?;
        Ok(Self { setup, worker, direction, mailbox, payload: Binary::from(payload) })
    }

    /// Sends the message of a round; answers how long it took until the last node had it.
    pub(super) async fn send(mut self, job: Job) -> Result<(Self, Duration), NodeError> {
        let start = Instant::now();
        let neighbour = node_name(self.setup.ring.neighbour(self.setup.index, self.direction))?;
        let parcel = Parcel {
            origin: self.setup.index,
            worker: self.worker,
            round: job.round,
            hop: 1,
            checksum: job.verify.then(|| checksum(&self.payload)),
            payload: self.payload.clone(),
        };
        self.mailbox
            .send((&*lane_name(self.worker, self.direction), neighbour), &parcel)
            .await
            .map_err(NodeError::teleport("cannot send a message"))?;
        drop(parcel);
        let mut acknowledged = 0;
        while acknowledged != job.round {
            let ack = self.mailbox.recv().await.ok_or(NodeError::ThreadGone("node"))?;
            acknowledged = ack.decode().map_err(NodeError::teleport("cannot read an acknowledgement"))?;
        }
        Ok((self, start.elapsed()))
    }
}

/// One lane at one node.
pub(super) struct Relay {
    setup: Setup,
    worker: u16,
    direction: Direction,
    mailbox: Mailbox,
    arrivals: Arc<Mutex<Arrivals>>,
}

impl Relay {
    pub(super) fn new(
        node: &Node,
        setup: Setup,
        worker: u16,
        direction: Direction,
        arrivals: Arc<Mutex<Arrivals>>,
    ) -> Result<Self, NodeError> {
        let mailbox = register(node, &lane_name(worker, direction))?;
        Ok(Self { setup, worker, direction, mailbox, arrivals })
    }

    /// Until the node ends.
    pub(super) async fn run(mut self) -> Result<(), NodeError> {
        let ahead = node_name(self.setup.ring.neighbour(self.setup.index, self.direction))?;
        let lane = lane_name(self.worker, self.direction);
        while let Some(message) = self.mailbox.recv().await {
            let mut parcel: Parcel =
                message.decode().map_err(NodeError::teleport("cannot read the neighbour's message"))?;
            drop(message);
            if parcel.hop == self.setup.ring.hops() {
                self.arrive(parcel).await?;
                continue;
            }
            parcel.hop += 1;
            self.mailbox
                .send((&*lane, &ahead), &parcel)
                .await
                .map_err(NodeError::teleport("cannot pass a message on"))?;
        }
        Ok(())
    }

    async fn arrive(&self, parcel: Parcel) -> Result<(), NodeError> {
        let Parcel { origin, worker, round, checksum: expected, payload, .. } = parcel;
        if expected.is_some_and(|expected| expected != checksum(&payload)) {
            return Err(NodeError::Damaged { origin, worker, round });
        }
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).record(origin, worker, round);
        self.mailbox
            .send((&*sender_name(worker), node_name(origin)?), &round)
            .await
            .map_err(NodeError::teleport(format!("cannot acknowledge a message of node {origin}")))
    }
}

fn register(node: &Node, name: &str) -> Result<Mailbox, NodeError> {
    node.register(name).map_err(NodeError::teleport("cannot register a worker"))
}

fn sender_name(worker: u16) -> String {
    format!("sender {worker}")
}

fn lane_name(worker: u16, direction: Direction) -> String {
    match direction {
        Direction::Forwards => format!("forwards {worker}"),
        Direction::Backwards => format!("backwards {worker}"),
    }
}
