//! A lane's thread at one node: reads a message whole, then writes it on or acknowledges it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::bench::child::NodeError;
use crate::ring::arrivals::Arrivals;
use crate::ring::payload::checksum;

use super::buffers::Buffers;
use super::wire::{self, HEADER, Header};
use super::{Outgoing, Setup, is_end, locked};

/// One lane at one node.
pub(super) struct Relay {
    pub(super) setup: Setup,
    pub(super) worker: u16,
    /// From the neighbour behind.
    pub(super) incoming: Arc<TcpStream>,
    /// To the neighbour ahead.
    pub(super) outgoing: Outgoing,
    /// To the neighbour ahead, which is the origin of the messages that end here.
    pub(super) acks: Arc<TcpStream>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) arrivals: Arc<Mutex<Arrivals>>,
}

impl Relay {
    /// Until the neighbour closes the connection.
    pub(super) fn run(&self) -> Result<(), NodeError> {
        while let Some(header) = self.read_header()? {
            // Taken only now, so that idle lanes hold no memory.
            let mut payload = self.buffers.take();
            (&*self.incoming)
                .read_exact(&mut payload)
                .map_err(NodeError::io("cannot read a message of the neighbour behind"))?;
            if header.hop < self.setup.ring.hops() {
                self.pass_on(header, &payload)?;
            } else {
                self.arrive(header, &payload)?;
            }
            self.buffers.put(payload);
        }
        Ok(())
    }

    fn read_header(&self) -> Result<Option<Header>, NodeError> {
        let mut bytes = [0; HEADER];
        match (&*self.incoming).read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(NodeError::io("cannot read from the neighbour behind")(error)),
        }
        let header = Header::from_bytes(&bytes);
        let expected = header.length == self.setup.size as u64
            && header.origin < self.setup.nodes
            && header.worker == self.worker
            && (1..=self.setup.ring.hops()).contains(&header.hop);
        if !expected {
            let what = format!("an unexpected message on lane {}: {header:?}", self.worker);
            return Err(NodeError::Protocol { from: "the neighbour behind".to_owned(), what });
        }
        Ok(Some(header))
    }

    fn pass_on(&self, mut header: Header, payload: &[u8]) -> Result<(), NodeError> {
        header.hop += 1;
        wire::write_message(&locked(&self.outgoing), header, payload)
            .map_err(NodeError::io("cannot pass a message on to the neighbour ahead"))
    }

    fn arrive(&self, header: Header, payload: &[u8]) -> Result<(), NodeError> {
        let Header { origin, worker, round, .. } = header;
        if header.verify && checksum(payload) != header.checksum {
            return Err(NodeError::Damaged { origin, worker, round });
        }
        locked(&self.arrivals).record(origin, worker, round);
        let acknowledge = || -> io::Result<()> { (&*self.acks).write_all(&round.to_le_bytes()) };
        acknowledge().map_err(NodeError::io(format!("cannot acknowledge a message of node {origin}")))
    }
}
