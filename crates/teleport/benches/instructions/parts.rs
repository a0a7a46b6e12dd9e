//! What is counted.

use std::hint::black_box;
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use teleport_etf::{Binary, from_bytes, to_segments};
use teleport_proto::transfer::{
    Bodies, Credit, Deliveries, Delivery, Disposition, PlainBuffers, Posted, Sink, Transfer, TransferConfig,
    Tray, Unlimited,
};
use teleport_proto::wire::batch::split_batch;
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};
use teleport_proto::wire::pool::Class;

/// A part of the way.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// How many messages suffice for a steady figure.
    pub(crate) messages: usize,
    /// Takes this many messages through it, and perhaps more.
    pub(crate) run: fn(usize),
    /// The function whose instructions count, if not all do.
    pub(crate) only: Option<&'static str>,
}

/// By their order on the way. Messages have 64 bytes, unless the name says otherwise.
pub(crate) const PARTS: [Part; 8] = [
    Part { name: "encode", messages: 10_000, run: encode, only: None },
    Part { name: "encode_10_MiB", messages: 2_000, run: encode_large, only: None },
    Part { name: "accept_to_frame", messages: 20_480, run: whole_way, only: Some("*Pair*accept*") },
    Part { name: "frame_to_mailbox", messages: 20_480, run: whole_way, only: Some("*Pair*receive*") },
    Part { name: "grant_and_confirm", messages: 20_480, run: whole_way, only: Some("*Pair*talk*") },
    Part { name: "all_three", messages: 20_480, run: whole_way, only: None },
    Part { name: "decode", messages: 10_000, run: decode, only: None },
    Part { name: "decode_10_MiB", messages: 2_000, run: decode_large, only: None },
];

/// Messages in a batch, as in a flood.
const BATCH: usize = 64;

/// A message as applications send them, of 64 bytes when it is encoded.
fn order() -> (&'static str, u32, &'static str, [u16; 4], Binary) {
    ("order", 123_456, "pending", [1, 300, 2, 700], Binary::from(vec![7; 13]))
}

fn encode(messages: usize) {
    assert_eq!(document(&order()).len(), 64);
    for _ in 0..messages {
        black_box(to_segments(black_box(&order())).expect("a term"));
    }
}

fn encode_large(messages: usize) {
    let large = ("chunk", Binary::from(vec![7; 10 << 20]));
    for _ in 0..messages {
        black_box(to_segments(black_box(&large)).expect("a term"));
    }
}

fn decode(messages: usize) {
    let document = document(&order());
    for _ in 0..messages {
        let order: (String, u32, String, [u16; 4], Binary) =
            from_bytes(black_box(&document)).expect("an order");
        black_box(order);
    }
}

fn decode_large(messages: usize) {
    let document = document(&("chunk", Binary::from(vec![7; 10 << 20])));
    for _ in 0..messages {
        let chunk: (String, Binary) = from_bytes(black_box(&document)).expect("a chunk");
        black_box(chunk);
    }
}

fn document(value: &impl serde::Serialize) -> Bytes {
    to_segments(value).expect("a term").into_contiguous()
}

/// From a message that is offered to one in a mailbox, and what both sides say of it over control.
fn whole_way(messages: usize) {
    let mut pair = Pair::new(messages);
    for _ in 0..messages / BATCH {
        for frame in pair.accept() {
            pair.receive(frame);
        }
        pair.talk();
    }
}

/// A mailbox that is read at once.
#[derive(Default)]
struct Mailbox(Vec<(Bodies, Credit)>);

impl Sink for Mailbox {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        self.0.push((Bodies::one(delivery.body), delivery.credit));
        Disposition::Delivered
    }

    fn deliver_all(&mut self, deliveries: &mut Deliveries<'_>) -> Option<Disposition> {
        self.0.push((mem::take(&mut deliveries.bodies), deliveries.credit));
        Some(Disposition::Delivered)
    }
}

/// The two sides of a session with one express connection.
struct Pair {
    sender: Transfer,
    receiver: Transfer,
    mailbox: Mailbox,
    connection: u64,
    tray: Option<Tray>,
    body: Bytes,
}

impl Pair {
    /// With windows that this many messages do not fill.
    fn new(messages: usize) -> Self {
        let window = 1024 * messages as u64;
        let machine = |dialler| {
            let config = TransferConfig {
                dialler,
                max_message: 1 << 20,
                send_window: window,
                receive_window: window,
                mailbox_window: Some(window),
                own_mailbox_window: Some(window),
                fragment_size: 256 * 1024,
                express_connections: 1,
                bulk_connections: 1,
                most_bulk_connections: 1,
            };
            let unlimited = || Arc::new(Unlimited);
            Transfer::new(config, unlimited(), unlimited(), unlimited(), Arc::new(PlainBuffers))
        };
        let (sender, receiver) = (machine(true), machine(false));
        let mut pair = Self {
            sender,
            receiver,
            mailbox: Mailbox::default(),
            connection: 0,
            tray: None,
            body: Bytes::from_static(&[7; 64]),
        };
        pair.sender.control_up();
        pair.receiver.control_up();
        pair.sender.prime();
        pair.talk();
        while let Some((id, class)) = pair.sender.next_join() {
            assert!(pair.receiver.connection_up(id, class) && pair.sender.connection_up(id, class));
            pair.connection = if class == Class::Express { id } else { pair.connection };
        }
        pair.talk();
        pair
    }

    /// Accepts a batch of messages, and makes frames of them.
    #[inline(never)]
    fn accept(&mut self) -> Vec<Bytes> {
        let from = ProcessId { id: 1, serial: 0 };
        let to = Destination::Process(ProcessId { id: 2, serial: 0 });
        let body = self.body.clone();
        for _ in 0..BATCH {
            let body = black_box(&body[..]);
            if self.tray.as_mut().is_some_and(|tray| tray.lay(body)) {
                continue;
            }
            self.put_tray_away();
            assert_ne!(self.sender.post(Kind::Data, from, &to, body), Posted::No, "there is room for it");
            self.tray = self.sender.open_tray(from, &to);
        }
        self.put_tray_away(); // as when the connection that fetches from it is about to rest
        let mut frames = Vec::new();
        while let Some(frame) = self.sender.next_frame(self.connection) {
            let mut written = BytesMut::with_capacity(frame.len());
            frame.chunks().iter().for_each(|chunk| written.extend_from_slice(chunk));
            frames.push(written.freeze());
        }
        assert!(!frames.is_empty(), "nothing goes out");
        frames
    }

    fn put_tray_away(&mut self) {
        self.tray.take().into_iter().for_each(|tray| self.sender.put_away(tray));
    }

    #[inline(never)]
    fn receive(&mut self, frame: Bytes) {
        let mut received = BytesMut::from(frame);
        let frame = split_batch(&mut received).expect("a batch").whole().expect("a whole one");
        self.receiver.receive_batch(self.connection, frame, &mut self.mailbox).expect("good messages");
        assert!(!self.mailbox.0.is_empty(), "nothing has come");
        for (bodies, credit) in self.mailbox.0.drain(..) {
            bodies.for_each(|body| drop(black_box(body)));
            self.receiver.consumed(credit);
        }
    }

    /// Lets both say what they have to say.
    #[inline(never)]
    fn talk(&mut self) {
        for receiver_speaks in [true, false] {
            let (speaker, listener) = match receiver_speaks {
                true => (&mut self.receiver, &mut self.sender),
                false => (&mut self.sender, &mut self.receiver),
            };
            let mut said = BytesMut::new();
            speaker.take_control(&mut said);
            while let Some(frame) = ControlFrame::decode(&mut said).expect("a control frame") {
                let ControlFrame::Transfer(frame) = frame else { continue };
                listener.control(frame).expect("a frame that follows the rules");
            }
            while speaker.poll_action().is_some() {}
        }
    }
}
