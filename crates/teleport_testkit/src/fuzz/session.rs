//! What a peer may say over the connections of a session: batches, fragments, control frames.

use bytes::BytesMut;
use teleport_proto::transfer::{ReceiveError, Region};
use teleport_proto::wire::batch::{Front, MAX_BATCH_LEN, split_batch};
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::wire::envelope::Seq;
use teleport_proto::wire::pool::Class;

use super::peers::{Victim, exchange};

/// The stream of an express connection, behind the length of the pieces that it comes in. What is made of it is the same
/// whatever the pieces.
pub fn batches(bytes: &[u8]) -> bool {
    let Some((&step, stream)) = bytes.split_first() else { return false };
    let whole = express(stream, stream.len());
    assert_eq!(express(stream, usize::from(step)), whole, "in pieces of {step}");
    whole.good && !whole.taken.is_empty()
}

/// What the stream of a connection has come to.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    taken: Vec<(Seq, usize)>,
    good: bool,
}

fn express(stream: &[u8], step: usize) -> Taken {
    let mut victim = Victim::new();
    let id = victim.open(Class::Express);
    let mut received = BytesMut::new();
    let mut good = true;
    'pieces: for piece in stream.chunks(step.max(1)) {
        received.extend_from_slice(piece);
        loop {
            let result = match split_batch(&mut received) {
                Ok(Front::Whole(frame)) => victim.batch(id, frame),
                Ok(Front::Begun(needed)) => {
                    assert!((received.len() + 1..=MAX_BATCH_LEN).contains(&needed));
                    break;
                }
                Err(error) => Err(victim.transfer.out_of_step(id, error)),
            };
            if result.is_err() {
                good = false;
                break 'pieces;
            }
        }
    }
    good &= received.is_empty();
    Taken { taken: victim.end(), good }
}

/// The heads of frames on bulk connections, each behind a byte that says by which of two connections it comes and how: whole, for
/// a while, or up to where the connection is lost. Their data is made here.
pub fn fragments(bytes: &[u8]) -> bool {
    let mut victim = Victim::new();
    let mut connections = [Class::Bulk; 2].map(|class| victim.open(class));
    let mut begun: [Option<Region>; 2] = [None, None];
    let mut rest = bytes;
    let mut good = true;
    while let Some((&how, behind)) = rest.split_first() {
        let which = usize::from(how % 2);
        if let Some(region) = begun[which].take()
            && victim.fill(connections[which], region).is_err()
        {
            good = false;
        }
        match victim.fragment(connections[which], behind) {
            Ok((len, region)) => {
                rest = &behind[len..];
                match (how / 2 % 4, region) {
                    (0, region) => begun[which] = region,
                    (1, region) => {
                        // The part of it that has come is for nothing.
                        victim.transfer.retire(connections[which]);
                        victim.transfer.reader_stopped(connections[which], region);
                        connections[which] = victim.open(Class::Bulk);
                        good = false;
                    }
                    (_, Some(region)) => good &= victim.fill(connections[which], region).is_ok(),
                    (_, None) => {}
                }
            }
            Err(Some(ReceiveError::Connection(_))) => {
                victim.transfer.reader_stopped(connections[which], None);
                connections[which] = victim.open(Class::Bulk);
                rest = &behind[1.min(behind.len())..];
                good = false;
            }
            Err(_) => {
                good = false;
                break;
            }
        }
    }
    let left = begun.iter().any(Option::is_some);
    good & !left & !victim.end().is_empty()
}

/// What a control connection receives, behind the length of the pieces that it comes in: by a node that has something of everything
/// under way.
pub fn control(bytes: &[u8]) -> bool {
    let Some((&step, stream)) = bytes.split_first() else { return false };
    let mut victim = exchange().sender;
    let mut received = BytesMut::new();
    let mut frames = 0;
    for piece in stream.chunks(usize::from(step.max(1))) {
        received.extend_from_slice(piece);
        loop {
            let frame = match ControlFrame::decode(&mut received) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return false,
            };
            let mut again = BytesMut::new();
            frame.encode(&mut again);
            assert_eq!(ControlFrame::decode(&mut again), Ok(Some(frame.clone())));
            frames += 1;
            let ControlFrame::Transfer(frame) = frame else { continue };
            let before = victim.transfer.stats();
            if victim.transfer.control(frame).is_err() {
                assert_eq!(victim.transfer.stats().messages_sent, before.messages_sent);
                victim.end();
                return false;
            }
            victim.settle();
        }
    }
    victim.end();
    frames > 0 && received.is_empty()
}
