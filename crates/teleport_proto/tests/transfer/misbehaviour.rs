//! What a peer may get wrong: the connection closes, or the session ends, and nothing else happens.
//!
//! The frames are put together by hand, after docs/protocol.md, so that they can be wrong.

use super::support::{
    LARGE, MAX_MESSAGE, Mailboxes, Two, WINDOW, config, joined, machine, message, process, receive, reference,
};
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use teleport_proto::transfer::{
    Buffers, Credit, Outgoing, PlainBuffers, ReceiveError, Transfer, Unlimited, Violation,
};
use teleport_proto::wire::batch::split_batch;
use teleport_proto::wire::control::{ControlFrame, TransferFrame};
use teleport_proto::wire::envelope::{Destination, Envelope, Kind, Seq};
use teleport_proto::wire::pool::{Class, FRAGMENT_HEADER_LEN, FragmentHeader};

const EXPRESS: u64 = 1;
const BULK: u64 = 2;
pub(super) const FRAGMENT: u32 = 16 * 1024;

/// A receiver with one connection of each class.
fn receiver() -> Transfer {
    let mut receiver = machine(config(false));
    assert!(receiver.connection_up(EXPRESS, Class::Express) && receiver.connection_up(BULK, Class::Bulk));
    receiver
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

pub(super) fn batch(messages: &[(Envelope, usize)]) -> Vec<u8> {
    let mut inner = BytesMut::new();
    for (envelope, len) in messages {
        envelope.encode(&mut inner);
        let mut rest = *len;
        while rest >= 0x80 {
            inner.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        inner.put_u8(rest as u8);
        inner.put_bytes(7, *len);
    }
    let mut frame = BytesMut::new();
    frame.put_u32(12 + inner.len() as u32);
    frame.put_slice(&[1, 0]);
    frame.put_u16(messages.len() as u16);
    frame.put_u64(0);
    frame.put_slice(&inner);
    frame.to_vec()
}

/// The batch, with another place for its first message among all small messages.
pub(super) fn at(position: u64, mut batch: Vec<u8>) -> Vec<u8> {
    batch[8..16].copy_from_slice(&position.to_be_bytes());
    batch
}

/// A fragment of the message that `envelope` belongs to.
pub(super) fn fragment(envelope: &Envelope, total: u64, index: u32) -> Vec<u8> {
    let mut head = BytesMut::new();
    if index == 0 {
        envelope.encode(&mut head);
    }
    let offset = u64::from(index) * u64::from(FRAGMENT);
    let data = (total - offset).min(FRAGMENT.into()) as usize;
    let mut frame = BytesMut::new();
    frame.put_u32((28 + head.len() + data) as u32);
    frame.put_slice(&[2, envelope.kind.is_exempt().into()]);
    frame.put_u16(head.len() as u16);
    frame.put_u64(envelope.seq);
    frame.put_u64(total);
    frame.put_u32(FRAGMENT);
    frame.put_u32(index);
    frame.put_slice(&head);
    frame.put_bytes(7, data);
    frame.to_vec()
}

fn express(receiver: &mut Transfer, frame: &[u8], sink: &mut Mailboxes) -> Result<(), ReceiveError> {
    receive(receiver, EXPRESS, Class::Express, frame, sink)
}

fn bulk(receiver: &mut Transfer, frame: &[u8], sink: &mut Mailboxes) -> Result<(), ReceiveError> {
    receive(receiver, BULK, Class::Bulk, frame, sink)
}

#[test]
fn frames_put_together_by_hand_are_delivered() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    express(&mut receiver, &batch(&[(envelope(1), 0), (envelope(2), 300)]), &mut sink).unwrap();
    let total = u64::from(FRAGMENT) * 4 + 9000;
    for index in [4, 0, 3, 1, 2] {
        bulk(&mut receiver, &fragment(&envelope(3), total, index), &mut sink).unwrap();
    }
    let lengths: Vec<_> = sink.0.iter().map(|delivery| delivery.body.len() as u64).collect();
    assert_eq!(lengths, [0, 300, total]);
    assert_eq!(receiver.stats().undelivered_bytes, 0);
}

/// The examples in docs/protocol.md.
#[test]
fn the_described_bytes_are_the_bytes() {
    let to = Destination::Name("log".into());
    let described = Envelope { predecessor: Some(5), account: 2, to, from: process(1), ..envelope(7) };
    let mut frame = batch(&[(described, 5)]);
    let body = frame.len() - 5;
    frame[body..].copy_from_slice(b"hello");
    let expected = "0000001d 01 00 0001 0000000000000000  0b 00 07 02 02 03 6c6f67 01 00  05 68656c6c6f";
    assert_eq!(hex(&frame), expected.replace(' ', ""));

    let above = [(9, 9), (11, 400)].into_iter().collect();
    let mut said = BytesMut::new();
    ControlFrame::Transfer(TransferFrame::Delivered { watermark: 7, above }).encode(&mut said);
    assert_eq!(hex(&said), "0008 11 07 02  02 00  02 8503".replace(' ', ""));

    use teleport_proto::wire::{control::MAX_CONTROL_LEN, envelope::MAX_ENVELOPE_LEN};
    assert_eq!((MAX_CONTROL_LEN - 2, MAX_ENVELOPE_LEN), (5_141, 329));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_batch_that_does_not_parse_closes_its_connection_and_delivers_nothing() {
    let good = batch(&[(envelope(1), 10), (envelope(2), 20)]);
    let mut too_many_messages = good.clone();
    too_many_messages[7] = 3;
    let mut too_few_messages = good.clone();
    too_few_messages[7] = 1;
    let mut cut = good[..good.len() - 1].to_vec();
    cut[3] -= 1;
    let mut unknown_flags = good.clone();
    unknown_flags[16] |= 0x80;
    let mut unknown_kind = good.clone();
    unknown_kind[17] = 9;
    for frame in [too_many_messages, too_few_messages, cut, unknown_flags, unknown_kind] {
        let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
        let result = express(&mut receiver, &frame, &mut sink);
        assert!(matches!(result, Err(ReceiveError::Connection(_))), "{result:?}");
        assert!(sink.0.is_empty());
        let stats = receiver.stats();
        assert_eq!((stats.express_connections, stats.bulk_connections, stats.undelivered_bytes), (0, 1, 0));
        // What the peer sends again by another connection is welcome.
        assert!(receiver.connection_up(3, Class::Express));
        receive(&mut receiver, 3, Class::Express, &good, &mut sink).unwrap();
        assert_eq!(sink.0.len(), 2);
    }
}

#[test]
fn an_envelope_that_contradicts_its_fragment_closes_the_connection() {
    let mut other_number = fragment(&envelope(5), 100_000, 0);
    other_number[15] = 6;
    let mut other_exemption = fragment(&envelope(5), 100_000, 0);
    other_exemption[5] = 1;
    for frame in [other_number, other_exemption] {
        let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
        let result = bulk(&mut receiver, &frame, &mut sink);
        assert!(matches!(result, Err(ReceiveError::Connection(_))), "{result:?}");
        assert_eq!((receiver.stats().bulk_connections, receiver.stats().undelivered_bytes), (0, 0));
    }
}

#[test]
fn headers_that_contradict_themselves_are_not_decoded() {
    let good = fragment(&envelope(5), 100_000, 0);
    // Length, type, flags, envelope length, fragment size, index.
    for (at, value) in [(3, 1), (4, 1), (5, 4), (7, 0), (26, 0), (31, 7)] {
        let mut fixed: [u8; FRAGMENT_HEADER_LEN] = good[..FRAGMENT_HEADER_LEN].try_into().unwrap();
        fixed[at] = value;
        assert!(FragmentHeader::decode(&fixed).is_err(), "byte {at}");
    }
    for (at, value) in [(0, 1), (4, 2), (5, 1)] {
        let mut frame = BytesMut::from(&batch(&[(envelope(1), 10)])[..]);
        frame[at] = value;
        assert!(split_batch(&mut frame).is_err(), "byte {at}");
    }
}

#[test]
fn a_frame_of_a_retired_connection_is_ignored() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    receiver.retire(EXPRESS);
    receiver.retire(BULK);
    express(&mut receiver, &batch(&[(envelope(1), 10)]), &mut sink).unwrap();
    bulk(&mut receiver, &fragment(&envelope(2), 100_000, 0), &mut sink).unwrap();
    assert!(sink.0.is_empty());
    assert_eq!(receiver.stats().entries, 2, "two connections that are being retired");
    // Of a connection that nobody knows, too.
    receive(&mut receiver, 99, Class::Express, &batch(&[(envelope(1), 10)]), &mut sink).unwrap();
    assert!(sink.0.is_empty());
}

#[test]
fn a_gap_holds_the_message_until_it_is_closed() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    let after = |seq, predecessor| Envelope { predecessor: Some(predecessor), ..envelope(seq) };
    express(&mut receiver, &batch(&[(after(3, 2), 30), (after(2, 1), 20)]), &mut sink).unwrap();
    assert!(sink.0.is_empty());
    express(&mut receiver, &at(2, batch(&[(envelope(1), 10)])), &mut sink).unwrap();
    assert_eq!(sink.0.iter().map(|delivery| delivery.seq).collect::<Vec<_>>(), [1, 2, 3]);
}

#[track_caller]
fn assert_ends(result: Result<(), ReceiveError>, expected: Violation) {
    assert_eq!(result, Err(ReceiveError::Session(expected)));
}

#[test]
fn what_comes_twice_ends_the_session() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    let frame = batch(&[(envelope(1), 10)]);
    express(&mut receiver, &frame, &mut sink).unwrap();
    assert_ends(express(&mut receiver, &at(1, frame.clone()), &mut sink), Violation::Duplicate { seq: 1 });
    assert_eq!(sink.0.len(), 1);
    // Its place has been taken, whatever its number.
    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());
    express(&mut receiver, &frame, &mut sink).unwrap();
    assert_ends(
        express(&mut receiver, &batch(&[(envelope(2), 10)]), &mut sink),
        Violation::Duplicate { seq: 2 },
    );
    let early = at(5, batch(&[(envelope(6), 10)]));
    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());
    express(&mut receiver, &early, &mut sink).unwrap();
    assert_ends(express(&mut receiver, &early, &mut sink), Violation::Duplicate { seq: 6 });
    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());
    express(&mut receiver, &at(1, batch(&[(envelope(2), 10)])), &mut sink).unwrap();
    let both = batch(&[(envelope(1), 10), (envelope(3), 10)]);
    assert_ends(express(&mut receiver, &both, &mut sink), Violation::Duplicate { seq: 2 });
    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());

    let first = fragment(&envelope(2), 100_000, 0);
    bulk(&mut receiver, &first, &mut sink).unwrap();
    assert_ends(bulk(&mut receiver, &first, &mut sink), Violation::Duplicate { seq: 2 });

    let twice = Envelope { predecessor: Some(8), ..envelope(9) };
    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());
    let held = batch(&[(twice.clone(), 5), (twice, 5)]);
    assert_ends(express(&mut receiver, &held, &mut sink), Violation::Duplicate { seq: 9 });
}

#[test]
fn a_piece_that_is_being_read_is_not_lent_again() {
    let mut receiver = receiver();
    assert!(receiver.connection_up(3, Class::Bulk));
    let frame = fragment(&envelope(2), 100_000, 1);
    let header = FragmentHeader::decode(frame.first_chunk().unwrap()).unwrap();
    let region = receiver.begin_fragment(BULK, &header, &[]).unwrap();
    assert!(region.is_some());
    let again = receiver.begin_fragment(3, &header, &[]).map(|region| region.is_some());
    assert_eq!(again, Err(ReceiveError::Session(Violation::Duplicate { seq: 2 })));
}

/// On a slow way a fragment takes longer than a connection may be idle: closed for that, it would never arrive.
#[test]
fn a_connection_with_a_piece_on_its_way_is_not_idle() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    let frame = fragment(&envelope(2), 100_000, 0);
    let header = FragmentHeader::decode(frame.first_chunk().unwrap()).unwrap();
    let envelope_end = FRAGMENT_HEADER_LEN + usize::from(header.envelope_len);
    let (head, data) = (&frame[FRAGMENT_HEADER_LEN..envelope_end], &frame[envelope_end..]);
    let mut region = receiver.begin_fragment(BULK, &header, head).unwrap().unwrap();
    for _ in 0..5 {
        assert!(receiver.sweep_idle(), "the connection was closed while something came over it");
    }
    region.buffer().put_slice(data);
    receiver.end_fragment(BULK, region, &mut sink).unwrap();
    assert!(receiver.sweep_idle(), "something has come since the last time");
    assert!(!receiver.sweep_idle());
}

#[test]
fn there_is_no_message_zero() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    assert!(express(&mut receiver, &batch(&[(envelope(0), 1)]), &mut sink).is_err());
    assert!(bulk(&mut receiver, &fragment(&envelope(0), 100_000, 0), &mut sink).is_err());
    assert!(sink.0.is_empty());
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    for (position, seq) in (0..).zip([Seq::MAX - 1, Seq::MAX - 2, Seq::MAX - 3]) {
        express(&mut receiver, &at(position, batch(&[(envelope(seq), 1)])), &mut sink).unwrap();
    }
    express(&mut receiver, &at(u64::MAX, batch(&[(envelope(9), 1)])), &mut sink).unwrap();
    let result = express(&mut receiver, &at(3, batch(&[(envelope(Seq::MAX), 1)])), &mut sink);
    assert!(matches!(result, Err(ReceiveError::Connection(_))), "{result:?}");
    let mut said = BytesMut::new();
    receiver.take_control(&mut said);
    while ControlFrame::decode(&mut said).unwrap().is_some() {}
    for connection in [u64::MAX, u64::MAX - 1, u64::MAX] {
        receiver.control(TransferFrame::Retired { connection, frames: 0 }).unwrap();
    }
}

#[test]
fn more_than_the_credit_ends_the_session() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    let part = WINDOW - WINDOW / 4;
    let first = bulk(&mut receiver, &fragment(&envelope(1), part - 200, 0), &mut sink);
    assert_eq!(first, Ok(()));
    let bytes = 100_000 + 128;
    let used = part - 200 + 128;
    let result = bulk(&mut receiver, &fragment(&envelope(2), 100_000, 0), &mut sink);
    assert_ends(result, Violation::Credit { used, bytes });
    // What is exempt has a window of its own.
    let reply = |seq| Envelope { kind: Kind::Reply(reference(1)), ..envelope(seq) };
    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());
    bulk(&mut receiver, &fragment(&envelope(1), part - 128, 0), &mut sink).unwrap();
    assert_eq!(bulk(&mut receiver, &fragment(&reply(3), part - 200, 0), &mut sink), Ok(()));
    let result = bulk(&mut receiver, &fragment(&reply(4), 100_000, 0), &mut sink);
    assert_ends(result, Violation::Credit { used, bytes });
}

#[test]
fn too_large_or_contradictory_messages_end_the_session() {
    let (mut receiver, mut sink) = (receiver(), Mailboxes::default());
    let size = MAX_MESSAGE + 1;
    let result = bulk(&mut receiver, &fragment(&envelope(1), size, 0), &mut sink);
    assert_ends(result, Violation::TooLarge { size, limit: MAX_MESSAGE });
    assert_eq!(receiver.stats().undelivered_bytes, 0);

    let (mut receiver, mut sink) = (self::receiver(), Mailboxes::default());
    bulk(&mut receiver, &fragment(&envelope(1), 100_000, 0), &mut sink).unwrap();
    let result = bulk(&mut receiver, &fragment(&envelope(1), 100_001, 1), &mut sink);
    assert_ends(result, Violation::Inconsistent { seq: 1 });
}

#[test]
fn acknowledging_what_was_never_sent_ends_the_session() {
    let never = |what, number| Err(Violation::NeverSent { what, number });
    let mut two = Two::new();
    let [express, ..] = two.open_all();
    two.send(message(1, 2, 10)).unwrap();
    two.send(message(1, 2, 10)).unwrap();
    // Accepted, but not on its way yet.
    let delivered = |watermark| TransferFrame::Delivered { watermark, above: Default::default() };
    assert_eq!(two.sender.control(delivered(3)), never("message", 3));
    assert_eq!(two.sender.control(delivered(2)), never("message", 1));

    let received = |frames| TransferFrame::Received { connection: express, frames };
    let retired = |frames| TransferFrame::Retired { connection: express, frames };
    let sender = || {
        let mut two = Two::new();
        two.open_all();
        for _ in 0..3 {
            two.send(message(1, 2, 10)).unwrap();
            assert!(two.sender.next_frame(express).is_some());
        }
        two.sender
    };
    assert_eq!(sender().control(received(4)), never("frame", 4));
    assert_eq!(sender().control(retired(4)), never("frame", 4));
    let mut shrinks = sender();
    shrinks.control(received(2)).unwrap();
    shrinks.control(received(1)).unwrap(); // old news
    assert_eq!(shrinks.control(retired(1)), never("final frame count", 1));
    let mut grows = sender();
    grows.control(retired(1)).unwrap();
    assert_eq!(grows.control(received(2)), never("frame", 2));
}

/// One that waits for its turn in the window of what goes without credit, behind one that fills that.
#[test]
fn acknowledging_a_reply_that_still_waits_ends_the_session_and_changes_nothing() {
    for len in [10, LARGE] {
        let mut two = Two::new();
        let [express, _, bulk, _] = two.open_all();
        let reply = |len| Outgoing { kind: Kind::Reply(reference(1)), ..message(1, 2, len) };
        let fills = if len == LARGE { WINDOW as usize } else { 60_000 };
        while two.sender.stats().exempt_waiting == 0 {
            two.send(reply(fills)).unwrap();
        }
        two.send(reply(len)).unwrap();
        while two.sender.next_frame(express).or_else(|| two.sender.next_frame(bulk)).is_some() {}
        let before = two.sender.stats();
        let last = before.unconfirmed;
        let delivered = TransferFrame::Delivered { watermark: last, above: Default::default() };
        let refused = two.sender.control(delivered);
        let expected =
            Violation::NeverSent { what: "message", number: last - before.exempt_waiting as u64 + 1 };
        assert_eq!(refused, Err(expected));
        assert_eq!(two.sender.stats(), before);
    }
}

#[test]
fn consuming_more_than_was_sent_ends_the_session() {
    let mut two = Two::new();
    two.send(message(1, 2, 10)).unwrap();
    let consumed = |account, express| TransferFrame::Consumed { account, express, bulk: 0 };
    assert_eq!(two.sender.control(consumed(1, 139)), Err(Violation::Consumed { account: 1 }));
    assert_eq!(two.sender.control(consumed(7, 1)), Err(Violation::Consumed { account: 7 }));
    assert_eq!(two.sender.control(consumed(1, 138)), Ok(()));
    // Closed by now; the peer may not have heard it.
    assert_eq!(two.sender.control(consumed(1, 138)), Ok(()));
}

#[test]
fn control_about_what_nobody_knows_is_answered_or_ignored() {
    let mut two = Two::new();
    two.open_all();
    two.talk().unwrap();
    let unknown = 99;
    for frame in [
        TransferFrame::Received { connection: unknown, frames: 5 },
        TransferFrame::RetireNoted { connection: unknown },
        TransferFrame::RetireUnknown { connection: unknown },
        TransferFrame::AccountClosed { account: unknown },
    ] {
        two.sender.control(frame).unwrap();
        assert_eq!(two.sender.control_due(), None);
    }
    two.sender.control(TransferFrame::Retired { connection: unknown, frames: 5 }).unwrap();
    let mut said = BytesMut::new();
    two.sender.take_control(&mut said);
    let answer = ControlFrame::Transfer(TransferFrame::RetireUnknown { connection: unknown });
    assert_eq!(ControlFrame::decode(&mut said), Ok(Some(answer)));
}

/// Counts what is allocated.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Buffers for Counting {
    fn allocate(&self, len: usize) -> BytesMut {
        self.0.fetch_add(len, Ordering::Relaxed);
        PlainBuffers.allocate(len)
    }

    fn freeze(&self, message: BytesMut) -> Bytes {
        PlainBuffers.freeze(message)
    }
}

pub(super) fn transfer_frames() -> impl Strategy<Value = TransferFrame> {
    let number = || prop_oneof![0u64..12, any::<u64>()];
    prop_oneof![
        (number(), number()).prop_map(|(connection, frames)| TransferFrame::Received { connection, frames }),
        (number(), prop::collection::vec((2u64..9, 0u64..9), 0..4)).prop_map(|(watermark, gaps)| {
            let mut last = watermark;
            let above = gaps.into_iter().map(|(gap, len)| {
                let first = last.saturating_add(gap);
                last = first.saturating_add(len);
                (first, last)
            });
            TransferFrame::Delivered { watermark, above: above.collect() }
        }),
        (number(), number(), number()).prop_map(|(account, express, bulk)| TransferFrame::Consumed {
            account,
            express,
            bulk
        }),
        number().prop_map(|account| TransferFrame::AccountClosed { account }),
        (number(), number()).prop_map(|(connection, frames)| TransferFrame::Retired { connection, frames }),
        number().prop_map(|connection| TransferFrame::RetireNoted { connection }),
        number().prop_map(|connection| TransferFrame::RetireUnknown { connection }),
        (any::<u32>(), any::<u32>()).prop_map(|(express, bulk)| TransferFrame::Wanted { express, bulk }),
    ]
}

proptest! {
    #[test]
    fn arbitrary_control_frames_never_panic(frames in prop::collection::vec(transfer_frames(), 1..40)) {
        let mut two = Two::new();
        let [express, _, bulk, _] = two.open_all();
        for (i, frame) in frames.into_iter().enumerate() {
            let _ = two.send(message(1, i as u32 % 3, if i % 4 == 0 { LARGE } else { 30 }));
            let _ = two.sender.next_frame([express, bulk][i % 2]);
            if two.sender.control(frame).is_err() {
                break;
            }
            while two.sender.poll_action().is_some() {}
            while let Some((id, class)) = two.sender.next_join() {
                prop_assert!(two.sender.connection_up(id, class));
            }
            let mut said = BytesMut::new();
            two.sender.take_control(&mut said);
        }
        let _ = two.sender.stats();
    }

    #[test]
    fn arbitrary_batches_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in 0u16..20,
    ) {
        let mut frame = BytesMut::new();
        frame.put_u32(12 + bytes.len() as u32);
        frame.put_slice(&[1, 0]);
        frame.put_u16(count);
        frame.put_u64(0);
        frame.put_slice(&bytes);
        let _ = express(&mut receiver(), &frame, &mut Mailboxes::default());
        let raw = Bytes::from(bytes);
        let _ = receiver().receive_batch(EXPRESS, raw, &mut Mailboxes::default());
    }

    #[test]
    fn flipped_bits_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6),
        large: bool,
    ) {
        let mut two = Two::new();
        let [express, _, bulk, _] = two.open_all();
        let mut frames = Vec::new();
        for len in [5, 500, 0, 70] {
            let mut it = message(1, 2, if large { len + LARGE } else { len });
            it.acknowledge = Some(len as u64);
            two.send(it).unwrap();
        }
        let (id, class) = if large { (bulk, Class::Bulk) } else { (express, Class::Express) };
        while let Some(frame) = two.sender.next_frame(id) {
            frames.push(joined(frame));
        }
        for (index, bit) in flips {
            let frame = index.index(frames.len());
            let at = index.index(frames[frame].len().min(64));
            frames[frame][at] ^= 1 << bit;
        }
        for mut frame in frames {
            // The length has to be right, or a reader would wait for more.
            let len = frame.len() as u32 - 4;
            frame[..4].copy_from_slice(&len.to_be_bytes());
            if receive(&mut two.receiver, id, class, &frame, &mut two.delivered).is_err() {
                break;
            }
        }
    }

    #[test]
    fn no_more_is_allocated_than_the_credit_allows(
        fragments in prop::collection::vec((1u64..40, 1u64..3 * 1024 * 1024, any::<u32>()), 1..60),
    ) {
        let buffers = Arc::new(Counting::default());
        let mut receiver = Transfer::new(config(false), Arc::new(Unlimited), Arc::new(Unlimited), Arc::new(Unlimited), buffers.clone());
        assert!(receiver.connection_up(BULK, Class::Bulk));
        let mut regions = Vec::new();
        for (seq, total, pick) in fragments {
            let index = 1 + u64::from(pick) % total.div_ceil(FRAGMENT.into());
            if index * u64::from(FRAGMENT) >= total {
                continue;
            }
            let header = FragmentHeader {
                seq, total, fragment_size: FRAGMENT, index: index as u32, envelope_len: 0, exempt: false,
                carried: false,
            };
            match receiver.begin_fragment(BULK, &header, &[]) {
                Ok(region) => regions.push(region),
                Err(_) => break,
            }
        }
        // One message alone may be larger than its part of the window.
        let most = WINDOW.max(MAX_MESSAGE + WINDOW / 4);
        prop_assert!(buffers.0.load(Ordering::Relaxed) as u64 <= most);
        prop_assert!(receiver.stats().undelivered_bytes <= most + 128 * 40);
    }
}

#[test]
fn credit_of_no_account_is_nothing_to_talk_about() {
    let mut receiver = receiver();
    receiver.consumed(Credit { account: 0, class: Class::Express, bytes: 100 });
    assert_eq!(receiver.control_due(), None);
}
