//! Any cut of a byte stream gives the same frames.

use super::support::{LARGE, Two, joined, message};
use bytes::BytesMut;
use proptest::prelude::*;
use teleport_proto::wire::batch::{Front, split_batch};
use teleport_proto::wire::control::{ControlFrame, TransferFrame};
use teleport_proto::wire::pool::Class;

/// The bytes of an express connection, a few messages to a frame, and what was sent.
fn express_stream() -> (Vec<Vec<u8>>, Vec<usize>) {
    let mut two = Two::roomy();
    let [express, ..] = two.open_all();
    let lengths = [0, 1, 127, 128, 5_000, 300, 65_536, 2, 0];
    let mut frames = Vec::new();
    for group in lengths.chunks(2) {
        for &len in group {
            two.send(message(1, 2, len)).unwrap();
        }
        while let Some(frame) = two.sender.next_frame(express) {
            frames.push(joined(frame));
        }
    }
    (frames, lengths.to_vec())
}

/// Pieces of the stream that end at the given places.
fn pieces<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut last = 0;
    ends.into_iter().map(|end| &stream[std::mem::replace(&mut last, end)..end]).collect()
}

proptest! {
    #[test]
    fn batches_are_the_same_whatever_the_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let (frames, lengths) = express_stream();
        let stream = frames.concat();
        let mut two = Two::roomy();
        let [express, ..] = two.open_all();
        let mut received = BytesMut::new();
        let mut split = Vec::new();
        for piece in pieces(&stream, &cuts) {
            received.extend_from_slice(piece);
            while let Front::Whole(frame) = split_batch(&mut received).unwrap() {
                split.push(frame.to_vec());
                two.receiver.receive_batch(express, frame, &mut two.delivered).unwrap();
            }
        }
        prop_assert!(received.is_empty());
        prop_assert_eq!(split, frames);
        let delivered: Vec<usize> = two.delivered.0.iter().map(|delivery| delivery.body.len()).collect();
        prop_assert_eq!(delivered, lengths);
    }

    #[test]
    fn an_incomplete_batch_says_how_many_bytes_it_will_have(at: prop::sample::Index) {
        let (frames, _) = express_stream();
        for frame in frames {
            let mut received = BytesMut::from(&frame[..at.index(frame.len())]);
            let known = received.len() >= 16;
            let Front::Begun(needed) = split_batch(&mut received).unwrap() else { panic!("a whole frame") };
            prop_assert_eq!(needed, if known { frame.len() } else { 16 });
        }
    }
}

/// A connection that is cut at every byte of an exchange, and replaced: everything is delivered once, in order.
#[test]
fn a_cut_at_any_byte_loses_nothing() {
    for (class, lengths) in
        [(Class::Express, vec![0, 10, 200, 3]), (Class::Bulk, vec![LARGE, LARGE / 2, LARGE])]
    {
        let sizes: Vec<usize> = {
            let (mut two, id) = sent(class, &lengths);
            std::iter::from_fn(|| two.sender.next_frame(id)).map(|frame| frame.len()).collect()
        };
        let mut boundary = 0;
        let mut cuts: Vec<usize> = vec![0];
        for size in sizes {
            // Inside a batch, and around the ends and heads of fragments.
            let inside = if class == Class::Express { size } else { 60 };
            cuts.extend(boundary..boundary + inside);
            boundary += size;
            cuts.extend(boundary - 1..boundary + 2);
        }
        for cut in cuts {
            cut_at(class, &lengths, cut);
        }
    }
}

/// A session with the messages sent, and the connection that they will go by.
fn sent(class: Class, lengths: &[usize]) -> (Two, u64) {
    let mut two = Two::roomy();
    let [express, _, bulk, _] = two.open_all();
    for &len in lengths {
        two.send(message(1, 2, len)).unwrap();
    }
    (two, if class == Class::Express { express } else { bulk })
}

fn cut_at(class: Class, lengths: &[usize], cut: usize) {
    use teleport_proto::wire::pool::{FRAGMENT_HEADER_LEN, FragmentHeader};
    let (mut two, id) = sent(class, lengths);
    let mut left = cut;
    let mut region = None;
    while let Some(frame) = two.sender.next_frame(id) {
        let frame = joined(frame);
        if left >= frame.len() {
            left -= frame.len();
            super::support::receive(&mut two.receiver, id, class, &frame, &mut two.delivered).unwrap();
            continue;
        }
        if class == Class::Bulk && left > FRAGMENT_HEADER_LEN {
            let header = FragmentHeader::decode(frame.first_chunk().unwrap()).unwrap();
            let data = FRAGMENT_HEADER_LEN + usize::from(header.envelope_len);
            if left >= data {
                let head = &frame[FRAGMENT_HEADER_LEN..data];
                region = two.receiver.begin_fragment(id, &header, head).unwrap();
                region.as_mut().unwrap().buffer().put_slice(&frame[data..left]);
            }
        }
        left = 0;
        break;
    }
    assert_eq!(left.min(1), left, "at most the byte behind the last frame");
    two.receiver.reader_stopped(id, region);
    two.sender.reader_stopped(id, None);
    two.talk().unwrap();
    while two.sender.next_join().is_some_and(|(id, class)| {
        two.receiver.connection_up(id, class) && two.sender.connection_up(id, class)
    }) {}
    for id in 1..10 {
        two.carry(id, class);
    }
    two.talk().unwrap();
    let delivered: Vec<usize> = two.delivered.0.iter().map(|delivery| delivery.body.len()).collect();
    assert_eq!(delivered, lengths, "cut at {cut}");
    for delivery in two.delivered.0.drain(..) {
        two.receiver.consumed(delivery.credit);
    }
    two.talk().unwrap();
    let (sender, receiver) = (two.sender.stats(), two.receiver.stats());
    assert_eq!((sender.entries, sender.unconfirmed, two.sender.in_window()), (0, 0, 0), "cut at {cut}");
    assert_eq!((receiver.entries, receiver.undelivered_bytes), (0, 0), "cut at {cut}");
}

/// Connections that each live for less than a large batch: batches get smaller until they get through.
#[test]
fn connections_that_die_young_carry_everything_in_the_end() {
    const LIFETIME: usize = 40_000;
    let lengths = [1_000; 1_000];
    let (mut two, mut id) = sent(Class::Express, &lengths);
    let mut connections = 0;
    while two.sender.stats().unconfirmed > 0 {
        connections += 1;
        assert!(connections < 100, "{} messages are left", two.sender.stats().unconfirmed);
        let mut left = LIFETIME;
        while let Some(frame) = two.sender.next_frame(id).map(joined).filter(|frame| frame.len() <= left) {
            left -= frame.len();
            super::support::receive(&mut two.receiver, id, Class::Express, &frame, &mut two.delivered)
                .unwrap();
        }
        two.receiver.reader_stopped(id, None);
        two.sender.reader_stopped(id, None);
        two.talk().unwrap();
        while let Some((next, class)) = two.sender.next_join() {
            assert!(two.receiver.connection_up(next, class) && two.sender.connection_up(next, class));
            id = if class == Class::Express { next } else { id };
        }
    }
    assert_eq!(two.delivered.0.len(), lengths.len());
}

/// A control connection that is cut at every byte, and resumed, says everything in the end.
#[test]
fn control_cut_at_any_byte_is_made_good_by_its_resumption() {
    let said = {
        let mut two = exchange();
        let mut said = BytesMut::new();
        two.receiver.take_control(&mut said);
        said.len()
    };
    for cut in 0..said {
        let mut two = exchange();
        let mut said = BytesMut::new();
        two.receiver.take_control(&mut said);
        said.truncate(cut);
        while let Some(ControlFrame::Transfer(frame)) = ControlFrame::decode(&mut said).unwrap() {
            if !matches!(frame, TransferFrame::Wanted { .. }) {
                two.sender.control(frame).unwrap();
            }
        }
        two.sender.control_up();
        two.receiver.control_up();
        two.talk().unwrap();
        assert_eq!((two.sender.stats().entries, two.receiver.stats().entries), (0, 0), "cut at {cut}");
        assert_eq!(two.sender.in_window(), 0);
    }
}

/// Some messages received and consumed, one connection retired by the receiver, and nothing said yet.
fn exchange() -> Two {
    let (mut two, express) = sent(Class::Express, &[10, 20, LARGE, 30]);
    two.carry(express, Class::Express);
    let bulk = 3;
    two.carry(bulk, Class::Bulk);
    two.carry(express, Class::Express);
    assert_eq!(two.delivered.0.len(), 4);
    for delivery in two.delivered.0.drain(..) {
        two.receiver.consumed(delivery.credit);
    }
    two.receiver.reader_stopped(bulk, None);
    two.sender.reader_stopped(bulk, None);
    two
}
