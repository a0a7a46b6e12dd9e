//! Two machines and nothing between them: the test carries every frame itself.

use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use teleport_etf::Segments;
use teleport_proto::ConnectionId;
use teleport_proto::transfer::{
    Action, Delivery, Disposition, Frame, Granter, Outgoing, PlainBuffers, ReceiveError, Refused, Sent, Sink,
    Transfer, TransferConfig, Unlimited, Violation,
};
use teleport_proto::wire::batch::split_batch;
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::wire::envelope::{Destination, ProcessId, RefId};
use teleport_proto::wire::pool::{BULK_PROBE, Class, FRAGMENT_HEADER_LEN, FragmentHeader};

pub(crate) const WINDOW: u64 = 1024 * 1024;
pub(crate) const MAILBOX: u64 = 256 * 1024;
pub(crate) const MAX_MESSAGE: u64 = 2 * 1024 * 1024;
pub(crate) const LARGE: usize = 150_000;

pub(crate) fn config(dialler: bool) -> TransferConfig {
    TransferConfig {
        dialler,
        max_message: MAX_MESSAGE,
        send_window: WINDOW,
        receive_window: WINDOW,
        mailbox_window: Some(MAILBOX),
        own_mailbox_window: Some(MAILBOX),
        fragment_size: 16 * 1024,
        express_connections: 2,
        bulk_connections: 2,
        most_bulk_connections: 2,
    }
}

pub(crate) fn machine(config: TransferConfig) -> Transfer {
    machine_of(config, Unlimited)
}

/// One that grants its peer no more than that has.
fn machine_of(config: TransferConfig, granter: impl Granter + 'static) -> Transfer {
    let unlimited = || Arc::new(Unlimited);
    let mut transfer =
        Transfer::new(config, unlimited(), unlimited(), Arc::new(granter), Arc::new(PlainBuffers));
    transfer.take_control(&mut BytesMut::new()); // grants the peer its whole window
    transfer
}

pub(crate) fn process(id: u32) -> ProcessId {
    ProcessId { id, serial: 0 }
}

pub(crate) fn message(from: u32, to: u32, len: usize) -> Outgoing {
    let body: Bytes = (0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into();
    Outgoing::new(process(from), Destination::Process(process(to)), Segments::from(body))
}

/// A reference that some caller might use.
pub(crate) fn reference(word: u32) -> RefId {
    RefId::new(&[word]).expect("one word")
}

/// Every mailbox exists.
#[derive(Default)]
pub(crate) struct Mailboxes(pub(crate) Vec<Delivery>);

impl Sink for Mailboxes {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        self.0.push(delivery);
        Disposition::Delivered
    }
}

/// A sender, which is the session's dialler, and a receiver.
pub(crate) struct Two {
    pub(crate) sender: Transfer,
    pub(crate) receiver: Transfer,
    pub(crate) delivered: Mailboxes,
    pub(crate) actions: Vec<Action>,
}

impl Two {
    pub(crate) fn new() -> Self {
        Self::with(config)
    }

    /// With windows that nothing fills.
    pub(crate) fn roomy() -> Self {
        let window = 64 * WINDOW;
        Self::with(|dialler| TransferConfig {
            send_window: window,
            receive_window: window,
            mailbox_window: Some(window),
            ..config(dialler)
        })
    }

    pub(crate) fn with(config: impl Fn(bool) -> TransferConfig) -> Self {
        Self::granted_by(Unlimited, config)
    }

    /// Where the receiver has that to grant.
    pub(crate) fn granted_by(
        granter: impl Granter + 'static,
        config: impl Fn(bool) -> TransferConfig,
    ) -> Self {
        let (sender, receiver) = (machine(config(true)), machine_of(config(false), granter));
        let mut two = Self { sender, receiver, delivered: Mailboxes::default(), actions: Vec::new() };
        two.sender.control_up();
        two.receiver.control_up();
        two.sender.prime();
        two.talk().expect("what each grants");
        two.actions.clear();
        two
    }

    pub(crate) fn send(&mut self, message: Outgoing) -> Result<Sent, Refused> {
        self.sender.send(message)
    }

    /// Opens the next connection that the dialler misses.
    pub(crate) fn open(&mut self) -> (ConnectionId, Class) {
        let (id, class) = self.sender.next_join().expect("a connection is missing");
        assert!(self.receiver.connection_up(id, class) && self.sender.connection_up(id, class));
        (id, class)
    }

    /// Opens the whole pool: two express connections, then two bulk ones.
    pub(crate) fn open_all(&mut self) -> [ConnectionId; 4] {
        [(); 4].map(|()| self.open().0)
    }

    /// Carries every frame that the sender has for a connection.
    pub(crate) fn carry(&mut self, id: ConnectionId, class: Class) {
        while let Some(frame) = self.sender.next_frame(id) {
            receive(&mut self.receiver, id, class, &joined(frame), &mut self.delivered)
                .expect("a good frame");
        }
    }

    /// Lets both say what they have to say, until they have nothing more.
    pub(crate) fn talk(&mut self) -> Result<(), Violation> {
        while self.sender.control_due().is_some() || self.receiver.control_due().is_some() {
            hear(&mut self.receiver, &mut self.sender)?;
            hear(&mut self.sender, &mut self.receiver)?;
        }
        while let Some(action) = self.sender.poll_action() {
            self.actions.push(action);
        }
        Ok(())
    }
}

/// Lets one side take all that the other has to say.
pub(crate) fn hear(listener: &mut Transfer, speaker: &mut Transfer) -> Result<(), Violation> {
    let mut said = BytesMut::new();
    speaker.take_control(&mut said);
    while let Some(frame) = ControlFrame::decode(&mut said).expect("a good control frame") {
        if let ControlFrame::Transfer(frame) = frame {
            listener.control(frame)?;
        }
    }
    Ok(())
}

pub(crate) fn joined(frame: Frame) -> Vec<u8> {
    frame.into_chunks().concat()
}

/// Takes the bytes of one frame as a reader would.
pub(crate) fn receive(
    transfer: &mut Transfer,
    id: ConnectionId,
    class: Class,
    bytes: &[u8],
    sink: &mut dyn Sink,
) -> Result<(), ReceiveError> {
    match class {
        Class::Express => {
            let mut received = BytesMut::from(bytes);
            let frame = split_batch(&mut received).map_err(ReceiveError::Connection)?;
            let frame = frame.whole().expect("a whole frame");
            transfer.receive_batch(id, frame, sink)
        }
        Class::Bulk => {
            let (fixed, rest) = bytes.split_first_chunk::<FRAGMENT_HEADER_LEN>().expect("a header");
            if *fixed == BULK_PROBE {
                transfer.receive_bulk_probe(id);
                return Ok(());
            }
            let header = FragmentHeader::decode(fixed).map_err(ReceiveError::Connection)?;
            let (head, data) = rest.split_at(header.envelope_len.into());
            let Some(mut region) = transfer.begin_fragment(id, &header, head)? else { return Ok(()) };
            let missing = region.missing();
            region.buffer().put_slice(&data[..missing]);
            transfer.end_fragment(id, region, sink)
        }
    }
}
