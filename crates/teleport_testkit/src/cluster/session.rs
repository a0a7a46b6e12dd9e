//! A session between two nodes: its two machines and what lies between them.

use super::Micros;
use super::clock::Moment;
use super::ledger::{Id, Ledger};
use super::link::Pipe;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, HashMap, VecDeque};
use teleport_proto::absence::Absence;
use teleport_proto::handshake::SessionKey;
use teleport_proto::liveness::Liveness;
use teleport_proto::transfer::{Credit, Region, Transfer, Tray};
use teleport_proto::wire::envelope::{AccountId, Destination, ProcessId, Seq};
use teleport_proto::wire::pool::{Class, FRAGMENT_HEADER_LEN, FragmentHeader};
use teleport_proto::{ConnectionId, Incarnation, SessionId};

/// One side of a session. Side 0 is the dialler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    pub(super) session: usize,
    pub(super) side: usize,
}

impl Who {
    pub(super) fn other(self) -> Who {
        Who { side: 1 - self.side, ..self }
    }
}

pub(super) struct Session {
    pub(super) id: SessionId,
    /// The nodes of side 0 and side 1, and the lives they were in.
    pub(super) nodes: [usize; 2],
    pub(super) lives: [Incarnation; 2],
    pub(super) sides: [Side; 2],
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// By their generations.
    pub(super) controls: BTreeMap<u64, Control>,
}

#[derive(Default)]
pub(super) struct Side {
    /// `None` before the session begins and after it has ended, on this side.
    pub(super) transfer: Option<Transfer>,
    /// Open trays.
    pub(super) trays: Vec<Tray>,
    /// What this side has sent.
    pub(super) ledger: Option<Ledger>,
    /// What further connections prove themselves with.
    pub(super) key: Option<SessionKey>,
    pub(super) watch: Option<Watch>,
    /// It has ended the session without being asked to.
    pub(super) hung_up: bool,
    /// Pool connections in a row that could not be opened.
    pub(super) join_failures: u32,
    /// Deliveries that take longer.
    pub(super) deferred: HashMap<Seq, Deferred>,
    /// Bytes in the host's queue.
    pub(super) queued: u64,
    /// What the peer's messages hold of each mailbox's window here: count and bytes, express and bulk.
    pub(super) held: HashMap<Destination, [(u64, u64); 2]>,
    /// The last account that was seen for each destination.
    pub(super) accounts: HashMap<Destination, AccountId>,
    /// The control connection that this side uses.
    pub(super) link: Option<u64>,
    /// When it will be written to.
    pub(super) flush_at: Option<Micros>,
    /// Something that was said has been lost.
    pub(super) lost: bool,
    pub(super) control_frames: u64,
    /// The largest cost of an accepted message, express and bulk, with credit and without.
    pub(super) largest: [[u64; 2]; 2],
}

impl Side {
    /// Fetches what lies in trays, and puts away those that were not used.
    pub(super) fn fetch_trays(&mut self) {
        let Some(transfer) = &mut self.transfer else { return };
        let (used, unused): (Vec<_>, Vec<_>) = std::mem::take(&mut self.trays)
            .into_iter()
            .map(|mut tray| (transfer.fetch(&mut tray), tray))
            .partition(|(is_used, _)| *is_used);
        transfer.accept_fetched();
        unused.into_iter().for_each(|(_, tray)| transfer.put_away(tray));
        self.trays.extend(used.into_iter().map(|(_, tray)| tray));
    }

    /// Puts all trays away.
    pub(super) fn put_trays_away(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            self.trays.drain(..).for_each(|tray| transfer.put_away(tray));
        }
    }
}

/// How one side knows whether the other one lives.
pub(super) struct Watch {
    pub(super) liveness: Liveness,
    pub(super) absence: Absence,
    /// When any byte came from the peer, and when the last one did over control.
    pub(super) heard: Moment,
    pub(super) control_heard: Moment,
    /// Since when there is no control connection.
    pub(super) alone: Option<Moment>,
    /// When another life of the peer first wanted in.
    pub(super) claimed: Option<Moment>,
    /// When liveness is asked next.
    pub(super) planned: Option<Micros>,
    /// It is looked whether anything listens where the peer is.
    pub(super) looked_for: bool,
}

/// A delivery that has begun.
pub(super) struct Deferred {
    pub(super) id: Id,
    pub(super) from: ProcessId,
    pub(super) to: Destination,
    pub(super) credit: Credit,
    /// It is in its place: others may follow.
    pub(super) placed: bool,
}

impl Deferred {
    /// It is a small one that is not in its place: what comes behind it takes longer, too.
    pub(super) fn is_small(&self) -> bool {
        !self.placed && self.credit.class == Class::Express
    }
}

/// A control connection of the session's.
#[derive(Default)]
pub(super) struct Control {
    /// Under way to each side.
    pub(super) streams: [VecDeque<(Micros, Bytes)>; 2],
    /// Arrived and not decoded.
    pub(super) received: [BytesMut; 2],
    /// What is written from now on is lost.
    pub(super) dead: bool,
    /// And nobody is told so.
    pub(super) silent: bool,
}

/// A pool connection with both of its ends.
pub(super) struct Connection {
    pub(super) class: Class,
    pub(super) ends: [End; 2],
    /// Towards each end.
    pub(super) pipes: [Pipe; 2],
    pub(super) dead: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Not up yet, on this side.
    Coming,
    Up,
    /// Retired; the reader may go on for a while.
    Closing {
        lingers: bool,
    },
    Gone,
}

pub(super) struct End {
    pub(super) life: Life,
    pub(super) reader: Reader,
    /// The rest of the frame that is being written.
    pub(super) writing: VecDeque<Bytes>,
    /// It has been woken, and not gone to sleep since.
    pub(super) awake: bool,
    pub(super) write_due: bool,
}

impl Connection {
    pub(super) fn new(class: Class, pipes: [Pipe; 2]) -> Self {
        let end = || End {
            life: Life::Coming,
            reader: Reader::new(class),
            writing: VecDeque::new(),
            awake: false,
            write_due: false,
        };
        Self { class, ends: [end(), end()], pipes, dead: false }
    }
}

/// What one end's reader has got together, as an engine's reader would.
pub(super) enum Reader {
    Express(BytesMut),
    Bulk {
        /// The fixed header, then the envelope behind it.
        head: Vec<u8>,
        header: Option<FragmentHeader>,
        region: Option<Region>,
    },
}

impl Reader {
    fn new(class: Class) -> Self {
        match class {
            Class::Express => Self::Express(BytesMut::new()),
            Class::Bulk => {
                Self::Bulk { head: Vec::with_capacity(FRAGMENT_HEADER_LEN), header: None, region: None }
            }
        }
    }

    pub(super) fn take_region(&mut self) -> Option<Region> {
        match self {
            Self::Express(_) => None,
            Self::Bulk { region, .. } => region.take(),
        }
    }
}
