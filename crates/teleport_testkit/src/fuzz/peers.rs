//! Session machines, and what is kept account of while they are told anything.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use teleport_etf::Segments;
use teleport_proto::transfer::{
    Buffers, Credit, Delivery, Disposition, Outgoing, ReceiveError, Region, Sink, Transfer, TransferConfig,
    Unlimited,
};
use teleport_proto::wire::batch::split_batch;
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId, Seq};
use teleport_proto::wire::pool::{BULK_PROBE, Class, FRAGMENT_HEADER_LEN, FragmentHeader};

const WINDOW: usize = 256 * 1024;

/// Counts what is lent for large messages.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Buffers for Counted {
    fn allocate(&self, len: usize) -> BytesMut {
        let lent = len + self.0.fetch_add(len, Ordering::Relaxed);
        assert!(lent <= 2 * WINDOW, "{lent} bytes are lent, of a window of {WINDOW} in each lane");
        BytesMut::with_capacity(len)
    }

    fn freeze(&self, message: BytesMut) -> Bytes {
        self.0.fetch_sub(message.len(), Ordering::Relaxed);
        message.freeze()
    }
}

/// Takes each message once, in every way that there is.
#[derive(Default)]
struct Taker {
    taken: Vec<(Seq, usize)>,
    seen: HashSet<Seq>,
    credits: Vec<Credit>,
}

impl Sink for Taker {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        assert!(self.seen.insert(delivery.seq), "message {} has come twice", delivery.seq);
        self.taken.push((delivery.seq, delivery.body.len()));
        match delivery.seq % 3 {
            0 => Disposition::NoProcess,
            1 => Disposition::Consumed,
            _ => {
                self.credits.push(delivery.credit);
                Disposition::Delivered
            }
        }
    }
}

/// The side that takes what comes.
pub(super) struct Victim {
    pub(super) transfer: Transfer,
    sink: Taker,
    connections: u64,
}

impl Victim {
    /// The acceptor of a session that has granted its peer all there is.
    pub(super) fn new() -> Self {
        Self { transfer: machine(false), sink: Taker::default(), connections: 0 }
    }

    pub(super) fn open(&mut self, class: Class) -> u64 {
        self.connections += 1;
        assert!(self.transfer.connection_up(self.connections, class));
        self.connections
    }

    /// Reads what stands before the data of one frame, and begins it. `None` if there is not all of it.
    pub(super) fn fragment(
        &mut self,
        id: u64,
        bytes: &[u8],
    ) -> Result<(usize, Option<Region>), Option<ReceiveError>> {
        let (fixed, rest) = bytes.split_first_chunk::<FRAGMENT_HEADER_LEN>().ok_or(None)?;
        if *fixed == BULK_PROBE {
            self.transfer.receive_bulk_probe(id);
            return Ok((FRAGMENT_HEADER_LEN, None));
        }
        let header =
            FragmentHeader::decode(fixed).map_err(|error| Some(self.transfer.out_of_step(id, error)))?;
        let head = rest.get(..header.envelope_len.into()).ok_or(None)?;
        let region = self.transfer.begin_fragment(id, &header, head)?;
        let missing = region.as_ref().map_or(0, Region::missing);
        assert!(region.is_none() || missing as u64 == header.data_len());
        Ok((FRAGMENT_HEADER_LEN + head.len(), region))
    }

    pub(super) fn fill(&mut self, id: u64, mut region: Region) -> Result<(), ReceiveError> {
        let missing = region.missing();
        region.buffer().put_bytes(7, missing);
        self.transfer.end_fragment(id, region, &mut self.sink)
    }

    /// Takes a whole batch.
    pub(super) fn batch(&mut self, id: u64, frame: Bytes) -> Result<(), ReceiveError> {
        self.transfer.receive_batch(id, frame, &mut self.sink)
    }

    /// Takes a whole frame of a peer that follows the rules.
    fn read(&mut self, id: u64, class: Class, frame: &[u8]) {
        match class {
            Class::Express => {
                let front = split_batch(&mut BytesMut::from(frame)).expect("a good batch");
                self.batch(id, front.whole().expect("a whole one")).expect("good messages");
            }
            Class::Bulk => {
                let (_, region) = self.fragment(id, frame).expect("a good fragment");
                self.fill(id, region.expect("the connection lives")).expect("a good message");
            }
        }
    }

    /// All there is to say.
    fn says(&mut self) -> BytesMut {
        let mut said = BytesMut::new();
        self.transfer.control_up();
        self.transfer.take_control(&mut said);
        said
    }

    fn hear(&mut self, said: &BytesMut) {
        let mut said = said.clone();
        while let Some(frame) = ControlFrame::decode(&mut said).expect("a good control frame") {
            let ControlFrame::Transfer(frame) = frame else { continue };
            self.transfer.control(frame).expect("a frame that follows the rules");
        }
    }

    /// Does what the machine asks for.
    pub(super) fn settle(&mut self) {
        while self.transfer.poll_action().is_some() {}
        self.transfer.take_control(&mut BytesMut::new());
    }

    /// Ends the session: it tells what was under way, and what it has had is within its window.
    pub(super) fn end(mut self) -> Vec<(Seq, usize)> {
        self.settle();
        let stats = self.transfer.stats();
        assert!(stats.undelivered_bytes <= 2 * WINDOW as u64, "{stats:?}");
        assert_eq!(self.transfer.ending().unconfirmed, stats.unconfirmed);
        self.sink.taken
    }
}

fn machine(dialler: bool) -> Transfer {
    let window = WINDOW as u64;
    let config = TransferConfig {
        dialler,
        max_message: window,
        send_window: window,
        receive_window: window,
        mailbox_window: Some(window),
        own_mailbox_window: Some(window),
        fragment_size: 16 * 1024,
        express_connections: 1,
        bulk_connections: 2,
        most_bulk_connections: 2,
    };
    let unlimited = || Arc::new(Unlimited);
    let mut transfer =
        Transfer::new(config, unlimited(), unlimited(), unlimited(), Arc::new(Counted::default()));
    // Grants the peer its whole window.
    transfer.take_control(&mut BytesMut::new());
    transfer
}

fn message(kind: Kind, to: u32, len: usize) -> Outgoing {
    let from = ProcessId { id: 1, serial: 0 };
    let to = match to {
        0 => Destination::Name("shop".into()),
        id => Destination::Process(ProcessId { id, serial: 0 }),
    };
    Outgoing { kind, ..Outgoing::new(from, to, Segments::from(Bytes::from(vec![7; len]))) }
}

/// Two sides in the middle of an exchange.
pub(super) struct Exchange {
    /// The dialler, which has something of everything under way.
    pub(super) sender: Victim,
    /// What the acceptor would say, of what it has received of that and has done with it.
    pub(super) said: BytesMut,
    /// All frames of the sender.
    pub(super) frames: Vec<(Class, Vec<u8>)>,
}

/// Messages of every kind under way: the last two frames have not come, and a connection has been retired.
pub(super) fn exchange() -> Exchange {
    let mut sender = Victim { transfer: machine(true), ..Victim::new() };
    let mut receiver = Victim::new();
    sender.hear(&receiver.says());
    receiver.hear(&sender.says());
    sender.transfer.prime();
    let mut open = Vec::new();
    while let Some((id, class)) = sender.transfer.next_join() {
        assert!(sender.transfer.connection_up(id, class) && receiver.transfer.connection_up(id, class));
        open.push((id, class));
    }
    let reference = |word| RefId::new(&[word]).expect("one word");
    let messages = [
        message(Kind::Data, 2, 3),
        message(Kind::Data, 0, 64),
        message(Kind::Request(reference(1)), 0, 20),
        message(Kind::Reply(reference(2)), 3, 30),
        message(Kind::Down(reference(3)), 3, 9),
        message(Kind::Data, 5, 70_000),
        Outgoing { acknowledge: Some(1), ..message(Kind::Data, 2, 200) },
        message(Kind::Data, 5, 90_000),
        message(Kind::Data, 4, 200_000),
    ];
    let mut frames = Vec::new();
    for message in messages {
        assert!(sender.transfer.send(message).is_ok());
        for &(id, class) in &open {
            let frame = sender.transfer.next_frame(id).map(|frame| frame.into_chunks().concat());
            frames.extend(frame.map(|frame| (id, class, frame)));
        }
    }
    let come = frames.len() - 2;
    for (id, class, frame) in &frames[..come] {
        receiver.read(*id, *class, frame);
    }
    for credit in std::mem::take(&mut receiver.sink.credits) {
        receiver.transfer.consumed(credit);
    }
    receiver.transfer.prime();
    receiver.transfer.retire(2);
    receiver.transfer.reader_stopped(2, None);
    let said = receiver.says();
    Exchange { sender, said, frames: frames.into_iter().map(|(_, class, frame)| (class, frame)).collect() }
}
