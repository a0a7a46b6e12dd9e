//! A worker: sends its own message and waits until the last node has it.

use std::io::Read;
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use rand::Rng;

use crate::bench::child::NodeError;
use crate::ring::payload::checksum;

use super::wire::{self, ACK, Header};
use super::{Outgoing, Report, Setup, locked};

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
    payload: Vec<u8>,
    checksum: u64,
    outgoing: Outgoing,
    acks: Arc<TcpStream>,
}

impl Sender {
    /// A worker with a random payload of its own.
    pub(super) fn new(setup: &Setup, worker: u16, outgoing: Outgoing, acks: Arc<TcpStream>) -> Self {
        let mut payload = vec![0; setup.size];
        rand::rng().fill_bytes(&mut payload);
        Self { setup: setup.clone(), worker, checksum: checksum(&payload), payload, outgoing, acks }
    }

    /// Does all jobs, one after the other.
    pub(super) fn run(
        self,
        jobs: &mpsc::Receiver<Job>,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), NodeError> {
        for job in jobs {
            let start = Instant::now();
            self.send(job)?;
            let round = self.read_ack()?;
            let report = Report::Acknowledged { worker: self.worker, round, after: start.elapsed() };
            if reports.send(report).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn send(&self, job: Job) -> Result<(), NodeError> {
        let header = Header {
            length: self.payload.len() as u64,
            checksum: self.checksum,
            round: job.round,
            origin: self.setup.index,
            worker: self.worker,
            hop: 1,
            verify: job.verify,
        };
        wire::write_message(&locked(&self.outgoing), header, &self.payload)
            .map_err(NodeError::io("cannot send a message to the neighbour ahead"))
    }

    fn read_ack(&self) -> Result<u32, NodeError> {
        let mut ack = [0; ACK];
        (&*self.acks)
            .read_exact(&mut ack)
            .map_err(NodeError::io("cannot read an acknowledgement from the neighbour behind"))?;
        Ok(u32::from_le_bytes(ack))
    }
}
