//! A peer that has proved itself and means harm: what it can make the other side keep, compute or believe.
//!
//! Frames are made with the crate's own encoders, since they are well-formed; it is their sense that is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use bytes::{BufMut, Bytes, BytesMut};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use teleport_etf::Segments;
use teleport_proto::transfer::{
    Delivery, Disposition, GrantCap, Granter, MESSAGE_COST, Outgoing, PlainBuffers, ReceiveError, Renewal,
    Sink, Transfer, TransferConfig, Unlimited, Violation,
};
use teleport_proto::wire::batch::split_batch;
use teleport_proto::wire::control::{Need, TransferFrame};
use teleport_proto::wire::envelope::{Destination, Envelope, Kind, Lane, ProcessId, RefId, Seq};
use teleport_proto::wire::pool::Class;

const EXPRESS: u64 = 1;
const BULK: u64 = 2;
/// More than are sent by chance.
const FLOOD: u64 = 3_000_000;

fn config() -> TransferConfig {
    TransferConfig {
        dialler: false,
        max_message: 1 << 30,
        send_window: 64 << 20,
        receive_window: 64 << 20,
        mailbox_window: Some(32 << 20),
        own_mailbox_window: Some(32 << 20),
        fragment_size: 16 * 1024,
        express_connections: 1,
        bulk_connections: 1,
        most_bulk_connections: 1,
    }
}

fn victim() -> Transfer {
    machine(config())
}

fn machine(config: TransferConfig) -> Transfer {
    let mut transfer = granted(config);
    assert!(transfer.connection_up(EXPRESS, Class::Express) && transfer.connection_up(BULK, Class::Bulk));
    transfer
}

/// One that has granted its window, and has been granted all.
fn granted(config: TransferConfig) -> Transfer {
    let unlimited = || Arc::new(Unlimited);
    let mut transfer = Transfer::new(config, unlimited(), unlimited(), unlimited(), Arc::new(PlainBuffers));
    renew(&mut transfer);
    for lane in [Lane::Ordinary, Lane::Exempt] {
        transfer.control(TransferFrame::Granted { lane, express: 1 << 50, bulk: 1 << 50 }).unwrap();
    }
    transfer
}

/// Lets it grant more for what it has delivered.
fn renew(transfer: &mut Transfer) {
    transfer.take_control(&mut BytesMut::new());
}

fn process(id: u32) -> ProcessId {
    ProcessId { id, serial: 0 }
}

fn envelope(seq: Seq) -> Envelope {
    Envelope {
        seq,
        predecessor: None,
        behind_all: false,
        account: 0,
        kind: Kind::Data,
        acknowledge: false,
        from: process(1),
        to: Destination::Process(process(2)),
    }
}

/// A batch of messages with an empty body, the first of which has such a place among all small messages.
fn batch(position: u64, envelopes: impl IntoIterator<Item = Envelope>) -> Bytes {
    let (mut inner, mut count) = (BytesMut::new(), 0u16);
    for envelope in envelopes {
        envelope.encode(&mut inner);
        inner.put_u8(0);
        count += 1;
    }
    let mut frame = BytesMut::new();
    frame.put_u32(12 + inner.len() as u32);
    frame.put_slice(&[1, 0]);
    frame.put_u16(count);
    frame.put_u64(position);
    frame.put_slice(&inner);
    split_batch(&mut frame).unwrap().whole().unwrap()
}

fn outgoing(len: usize) -> Outgoing {
    Outgoing::new(process(1), Destination::Process(process(2)), Segments::from(Bytes::from(vec![7; len])))
}

fn exempt() -> Outgoing {
    let mut message = outgoing(0);
    (message.unordered, message.kind) = (true, Kind::Reply(RefId::new(&[1]).unwrap()));
    message
}

/// Takes everything, keeps nothing.
struct Taker(Disposition);

impl Sink for Taker {
    fn deliver(&mut self, _: Delivery) -> Disposition {
        self.0
    }
}

/// Sends what `make` makes of 1, 2, 3, … in batches until the victim has had enough, and says why.
fn flood(victim: &mut Transfer, end: Disposition, make: impl Fn(u64) -> Envelope) -> Option<ReceiveError> {
    const BATCH: u64 = 4000;
    let mut sink = Taker(end);
    (0..FLOOD / BATCH).find_map(|i| {
        let frame = batch(i * BATCH, (1..=BATCH).map(|k| make(i * BATCH + k)));
        renew(victim);
        victim.receive_batch(EXPRESS, frame, &mut sink).err()
    })
}

#[test]
fn what_was_never_sent_cannot_be_delivered_and_the_machine_survives_the_claim() {
    for len in [10, 100_000] {
        let mut victim = granted(config());
        for _ in 0..3 {
            victim.send(outgoing(len)).unwrap();
        }
        let claim = TransferFrame::Delivered { watermark: 3, above: Default::default() };
        assert!(matches!(victim.control(claim), Err(Violation::NeverSent { .. })));
        // The session ends, but not in the same instant: connections still come up and ask for work.
        assert!(victim.connection_up(EXPRESS, Class::Express) && victim.connection_up(BULK, Class::Bulk));
        victim.send(outgoing(len)).unwrap();
        let _ = (victim.next_frame(EXPRESS), victim.next_frame(BULK));
        let _ = (victim.next_frame(EXPRESS), victim.next_frame(BULK));
    }
}

#[test]
fn accounts_that_are_never_closed_and_gaps_that_never_close_end_the_session() {
    for make in [(|i| Envelope { account: i, ..envelope(i) }) as fn(u64) -> Envelope, |i| envelope(2 * i)] {
        let mut victim = victim();
        let error = flood(&mut victim, Disposition::NoProcess, make);
        assert!(matches!(error, Some(ReceiveError::Session(Violation::Credit { .. }))), "{error:?}");
    }
}

#[test]
fn questions_whose_answers_are_not_fetched_end_the_session() {
    let mut victim = victim();
    // What it takes of express messages, in answers: nothing is granted for those that are not fetched.
    let limit = (16 << 20) / MESSAGE_COST * (MESSAGE_COST + 9);
    let error = flood(&mut victim, Disposition::Delivered, |i| Envelope { acknowledge: true, ..envelope(i) });
    assert!(matches!(error, Some(ReceiveError::Session(Violation::Credit { .. }))), "{error:?}");
    let kept = victim.stats().answer_bytes;
    assert!(kept < limit + 4_000 * (MESSAGE_COST + 9), "{kept}");
}

#[test]
fn watches_of_nobody_whose_ends_are_not_fetched_end_the_session() {
    let noproc = || teleport_etf::Term::atom("noproc").encode().unwrap();
    let old_noproc = || Segments::from(Bytes::from_static(b"\x83\x64\x00\x06noproc"));
    let normal = || teleport_etf::Term::atom("normal").encode().unwrap();
    let bodies = [(ProcessId::NOBODY, normal()), (process(1), noproc()), (process(1), old_noproc())];
    for (from, body) in bodies {
        let mut victim = victim();
        let most = config().receive_window / (MESSAGE_COST + body.len() as u64);
        let mut tell = |from, body: Segments, times| {
            let (kind, to) = (Kind::Down(RefId::new(&[1]).unwrap()), Destination::Process(process(2)));
            for _ in 0..times {
                victim.send(Outgoing::of_kind(kind, from, to.clone(), body.clone())).unwrap();
            }
            let seq = victim.stats().messages_received + 1;
            victim
                .receive_batch(EXPRESS, batch(seq - 1, [envelope(seq)]), &mut Taker(Disposition::Delivered))
                .err()
        };
        // Processes that have ended are as many as there were.
        assert_eq!(tell(process(1), normal(), 1000), None);
        assert_eq!(tell(from, body.clone(), most), None);
        let error = tell(from, body, 1);
        assert!(matches!(error, Some(ReceiveError::Session(Violation::Answers { .. }))), "{error:?}");
    }
}

/// All is taken that others may have.
struct NothingLeft;

impl Granter for NothingLeft {
    fn renew(&self, _lane: Lane, _class: Class, _renewal: Renewal) -> u64 {
        0
    }
}

#[test]
fn to_ask_for_more_than_is_granted_lets_nobody_leave_more_answers() {
    let unlimited = || Arc::new(Unlimited);
    let (grants, buffers) = (Arc::new(NothingLeft), Arc::new(PlainBuffers));
    let mut victim = Transfer::new(config(), unlimited(), unlimited(), grants, buffers);
    assert!(victim.connection_up(EXPRESS, Class::Express));
    renew(&mut victim);
    let mut tell = |times| {
        let all = Need { needed: 1 << 40, wanted: 1 << 40, waived: 0 };
        for lane in [Lane::Ordinary, Lane::Exempt] {
            victim.control(TransferFrame::Needed { lane, express: all, bulk: all }).unwrap();
        }
        let (kind, to) = (Kind::Down(RefId::new(&[1]).unwrap()), Destination::Process(process(2)));
        for _ in 0..times {
            let down = Outgoing::of_kind(kind, ProcessId::NOBODY, to.clone(), Segments::default());
            victim.send(down).unwrap();
        }
        let seq = victim.stats().messages_received + 1;
        victim
            .receive_batch(EXPRESS, batch(seq - 1, [envelope(seq)]), &mut Taker(Disposition::Delivered))
            .err()
    };
    assert_eq!(tell(2000), None);
    let error = tell(100);
    assert!(matches!(error, Some(ReceiveError::Session(Violation::Answers { .. }))), "{error:?}");
}

/// Lets in what a session cannot do without, whatever that is.
struct Obliging;

impl Granter for Obliging {
    fn renew(&self, _lane: Lane, _class: Class, renewal: Renewal) -> u64 {
        renewal.needed
    }
}

/// One that keeps nothing back, with messages of a megabyte at the most, of which the peer says that it needs more than there is.
fn obliged() -> Transfer {
    let unlimited = || Arc::new(Unlimited);
    let config = TransferConfig { max_message: 1 << 20, ..config() };
    let mut victim =
        Transfer::new(config, unlimited(), unlimited(), Arc::new(Obliging), Arc::new(PlainBuffers));
    assert!(victim.connection_up(EXPRESS, Class::Express) && victim.connection_up(BULK, Class::Bulk));
    renew(&mut victim);
    ask_for_all(&mut victim);
    victim
}

fn ask_for_all(victim: &mut Transfer) {
    let all = Need { needed: 1 << 40, wanted: 1 << 40, waived: 0 };
    for lane in [Lane::Ordinary, Lane::Exempt] {
        victim.control(TransferFrame::Needed { lane, express: all, bulk: all }).unwrap();
    }
    renew(victim);
}

#[test]
fn nobody_needs_more_than_one_message() {
    let victim = obliged();
    let one = |largest: u64| 2 * (largest + MESSAGE_COST);
    let most = 2 * one(64 << 10) + one(1 << 20); // the small ones that each may have in any case, and one more
    assert!(victim.stats().granted_bytes <= most, "{} are granted", victim.stats().granted_bytes);
}

/// A read buffer.
struct Buffer(Arc<Vec<u8>>);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn a_batch_that_waits_for_its_turn_keeps_no_more_than_itself() {
    let mut victim = victim();
    let frame = batch(1000, [envelope(1001)]);
    let buffer = Arc::new(frame.to_vec());
    let frame = Bytes::from_owner(Buffer(buffer.clone()));
    victim.receive_batch(EXPRESS, frame, &mut Taker(Disposition::Delivered)).unwrap();
    assert!(victim.stats().entries > 0);
    assert_eq!(Arc::strong_count(&buffer), 1, "the buffer is still in use");
}

/// What all sessions of a node have together, and one of them.
struct Capped(Mutex<GrantCap<()>>);

impl Granter for Capped {
    fn renew(&self, lane: Lane, class: Class, renewal: Renewal) -> u64 {
        self.0.lock().unwrap().renew(1, &(), (lane, class), renewal, |_| {})
    }
}

#[test]
fn what_delivered_messages_leave_behind_takes_their_credit() {
    const CAP: u64 = 1 << 20;
    for (what, each, make) in [
        ("accounts", 64, (|i| Envelope { account: i, ..envelope(i) }) as fn(u64) -> Envelope),
        ("gaps", 64, |i| envelope(2 * i)),
        ("gaps of replies", 64, |i| Envelope {
            kind: Kind::Reply(RefId::new(&[1]).unwrap()),
            ..envelope(2 * i)
        }),
        ("accounts and gaps", 128, |i| Envelope { account: i, ..envelope(2 * i) }),
    ] {
        let (unlimited, cap) = (|| Arc::new(Unlimited), Arc::new(Capped(Mutex::new(GrantCap::new(CAP)))));
        let mut victim = Transfer::new(config(), unlimited(), unlimited(), cap, Arc::new(PlainBuffers));
        assert!(victim.connection_up(EXPRESS, Class::Express));
        let refused = (0..FLOOD).find(|&i| {
            ask_for_all(&mut victim);
            let frame = batch(i, [make(i + 1)]);
            victim.receive_batch(EXPRESS, frame, &mut Taker(Disposition::NoProcess)).is_err()
        });
        // What each session has in any case, some things more, and what is there for all.
        let most = (2 * 65_664 + CAP / 4) / each + 1100;
        let refused = refused.expect("there is no end of it");
        assert!(refused <= most, "{refused} messages, {most} are allowed, with {what}");
    }
}

#[test]
fn as_much_in_vain_as_the_windows_let_in_at_once_ends_nothing() {
    for receive_window in [1 << 20, 32 << 20] {
        let mut victim = machine(TransferConfig { receive_window, ..config() });
        let to = Destination::Process(process(2));
        // Each message that fits into the express quarter is a request that is rejected, and the same again a monitor.
        let notices =
            [(Kind::Reject(RefId::new(&[1]).unwrap()), 122), (Kind::Down(RefId::new(&[1]).unwrap()), 15)];
        for (kind, len) in notices {
            let body = Segments::from(Bytes::from(vec![7; len]));
            for _ in 0..receive_window / 4 / MESSAGE_COST {
                victim.send(Outgoing::of_kind(kind, ProcessId::NOBODY, to.clone(), body.clone())).unwrap();
            }
        }
        let mut taker = Taker(Disposition::Delivered);
        assert_eq!(victim.receive_batch(EXPRESS, batch(0, [envelope(1)]), &mut taker), Ok(()));
    }
}

#[test]
fn connections_made_up_to_be_retired_end_the_session() {
    let mut victim = victim();
    let error = (0..FLOOD)
        .find_map(|i| victim.control(TransferFrame::Retired { connection: 10 + 2 * i, frames: 0 }).err());
    assert!(matches!(error, Some(Violation::TooMuch { .. })), "{error:?}");
}

#[test]
fn frames_that_are_never_acknowledged_end_the_session() {
    let mut victim = victim();
    let error = (1..FLOOD).find_map(|seq| {
        victim.send(exempt()).unwrap();
        victim.next_frame(EXPRESS).unwrap();
        victim.control(TransferFrame::Delivered { watermark: seq, above: Default::default() }).err()
    });
    assert!(matches!(error, Some(Violation::TooMuch { .. })), "{error:?}");
}

/// Keys that a multiplicative hash puts into one place.
fn colliding(i: u64) -> u64 {
    // The inverse of rustc-hash's factor, modulo 2^64.
    let factor: u64 = 0xf135_7aea_2e62_a9c5;
    let mut inverse = factor;
    for _ in 0..6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(factor.wrapping_mul(inverse)));
    }
    i.wrapping_mul(inverse)
}

#[test]
fn numbers_chosen_for_their_hash_cost_no_more_than_others() {
    let time = |account: &dyn Fn(u64) -> u64| {
        let (mut victim, mut sink) = (victim(), Taker(Disposition::NoProcess));
        let start = Instant::now();
        for i in 0..60 {
            let frame = batch(
                i * 1000,
                (1..=1000).map(|k| {
                    let seq = i * 1000 + k;
                    Envelope { account: account(seq), ..envelope(seq) }
                }),
            );
            renew(&mut victim);
            victim.receive_batch(EXPRESS, frame, &mut sink).unwrap();
        }
        start.elapsed()
    };
    let (plain, crafted) = (time(&|i| i), time(&colliding));
    assert!(crafted < 20 * plain + Duration::from_millis(200), "{plain:?} against {crafted:?}");
}

#[test]
fn processes_chosen_for_their_hash_cost_no_more_than_others() {
    const COUNT: usize = 100_000;
    let plain: Vec<_> = (1..=COUNT as u32).map(process).collect();
    let time = |askers: &[ProcessId]| {
        let (mut victim, mut sink) = (victim(), Taker(Disposition::Delivered));
        let start = Instant::now();
        for (i, askers) in askers.chunks(1000).enumerate() {
            let first = 1000 * i as u64 + 1;
            let frame = batch(
                first - 1,
                (first..).zip(askers).map(|(seq, &from)| Envelope {
                    acknowledge: true,
                    from,
                    ..envelope(seq)
                }),
            );
            renew(&mut victim);
            victim.receive_batch(EXPRESS, frame, &mut sink).unwrap();
        }
        start.elapsed()
    };
    // Each is told what became of its message. What rustc-hash makes of where that goes is the same in all the bits that
    // choose a place in a table of this many.
    let step = |hash: u64, word: u32| hash.wrapping_add(word.into()).wrapping_mul(0xf135_7aea_2e62_a9c5);
    let to_process = [0, 0, 1].into_iter().fold(0, step);
    let all = (1..).flat_map(|id| (0..1 << 20).map(move |serial| ProcessId { id, serial }));
    let in_one_place = |p: &ProcessId| (step(step(to_process, p.id), p.serial) >> 44) & 0xfff == 0;
    let crafted: Vec<_> = all.filter(in_one_place).take(COUNT).collect();
    let (plain, crafted) = (time(&plain), time(&crafted));
    assert!(crafted < 5 * plain + Duration::from_millis(200), "{plain:?} against {crafted:?}");
}

#[test]
fn one_message_that_stays_out_does_not_make_the_others_remembered() {
    let mut victim = machine(TransferConfig { mailbox_window: None, ..config() });
    victim.send(outgoing(200_000)).unwrap();
    for seq in 2..300_000 {
        victim.send(outgoing(1)).unwrap();
        victim.next_frame(EXPRESS).unwrap();
        let above = [(seq, seq)].into_iter().collect();
        victim.control(TransferFrame::Received { connection: EXPRESS, frames: seq - 1 }).unwrap();
        victim.control(TransferFrame::Delivered { watermark: 0, above }).unwrap();
    }
    assert!(victim.stats().entries < 1000, "{:?}", victim.stats());
    // It is still there, and so is the order of what follows.
    while victim.next_frame(BULK).is_some() {}
    victim.control(TransferFrame::Delivered { watermark: 299_999, above: Default::default() }).unwrap();
    assert_eq!((victim.stats().unconfirmed, victim.in_window()), (0, 0));
}

#[test]
fn a_lost_connection_with_many_fragments_is_requeued_in_no_time() {
    let mut victim = victim();
    let part = Bytes::from(vec![7; 16 << 20]);
    let mut body = Segments::default();
    (0..64).for_each(|_| body.push(part.clone()));
    victim.send(Outgoing::new(process(1), Destination::Process(process(2)), body)).unwrap();
    let mut frames = 0;
    while victim.next_frame(BULK).is_some() {
        frames += 1;
    }
    assert_eq!(frames, 65_536);
    let start = Instant::now();
    victim.control(TransferFrame::Retired { connection: BULK, frames: 0 }).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(victim.connection_up(3, Class::Bulk));
    let again = victim.next_frame(3).unwrap().into_chunks();
    assert_eq!(again[0][28..32], [0; 4], "the first fragment comes first");
}

#[test]
fn a_message_of_gigabytes_goes_in_no_more_fragments_than_are_taken() {
    let mut sender = machine(TransferConfig { max_message: 1 << 40, ..config() });
    let part = Bytes::from(vec![7; 16 << 20]);
    let mut body = Segments::default();
    (0..5 * 64).for_each(|_| body.push(part.clone()));
    sender.send(Outgoing::new(process(1), Destination::Process(process(2)), body)).unwrap();
    let (mut frames, mut bytes) = (0, 0);
    while let Some(frame) = sender.next_frame(BULK) {
        (frames, bytes) = (frames + 1, bytes + frame.len() - 32);
    }
    assert!(frames <= 262_144 && bytes >= 5 << 30, "{frames} frames, {bytes} bytes");
}

#[test]
fn a_small_message_over_the_agreed_size_ends_the_session() {
    let mut victim = machine(TransferConfig { max_message: 100, ..config() });
    let mut inner = BytesMut::new();
    envelope(1).encode(&mut inner);
    inner.put_slice(&[101]);
    inner.put_bytes(7, 101);
    let mut frame = BytesMut::new();
    frame.put_u32(12 + inner.len() as u32);
    frame.put_slice(&[1, 0, 0, 1]);
    frame.put_u64(0);
    frame.put_slice(&inner);
    let result = victim.receive_batch(EXPRESS, frame.freeze(), &mut Taker(Disposition::Delivered));
    assert_eq!(result, Err(ReceiveError::Session(Violation::TooLarge { size: 101, limit: 100 })));
}

#[test]
fn connections_without_end_are_not_taken() {
    let mut victim = victim();
    let taken = (3..10_000).filter(|&id| victim.connection_up(id, Class::Express)).count();
    assert!(taken < 2000, "{taken}");
}
