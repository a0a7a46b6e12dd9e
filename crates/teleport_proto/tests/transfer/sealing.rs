//! The end that is prepared: nothing is accepted any more, and what was accepted is delivered.

use super::support::{LARGE, Two, message, process, reference};
use bytes::Bytes;
use std::sync::Arc;
use teleport_etf::Segments;
use teleport_proto::transfer::{Action, Outgoing, Refused, Sent};
use teleport_proto::wire::envelope::{Destination, Kind};
use teleport_proto::wire::pool::Class;

fn consume(two: &mut Two) {
    for delivery in std::mem::take(&mut two.delivered.0) {
        two.receiver.consumed(delivery.credit);
    }
}

#[test]
fn a_session_with_something_under_way_is_not_sealed() {
    let mut two = Two::new();
    let [express, ..] = two.open_all();
    two.send(message(1, 2, 10)).unwrap();
    assert!(!two.sender.seal());
    assert_eq!(two.send(message(1, 2, 10)), Ok(Sent::Accepted), "nothing has changed");
    two.carry(express, Class::Express);
    assert!(!two.sender.seal(), "delivered, but it is not known");
    two.talk().unwrap();
    assert!(two.sender.seal());
}

#[test]
fn a_sealed_session_accepts_nothing_and_grants_nothing() {
    let mut two = Two::new();
    let [_, _, bulk, _] = two.open_all();
    two.send(message(1, 2, LARGE)).unwrap();
    let Ok(Sent::Waiting(ticket)) = two.send(message(3, 2, LARGE)) else { panic!("the mailbox has room") };
    two.carry(bulk, Class::Bulk);
    two.talk().unwrap();
    assert_eq!(two.sender.ending().waiting, [ticket]);
    assert!(two.sender.seal());
    assert!(two.sender.seal(), "once more does no harm");
    assert!(two.sender.ending().waiting.is_empty());
    consume(&mut two);
    two.talk().unwrap();
    two.sender.budget_freed();
    assert!(!two.sender.cancel(ticket));
    for kind in [Kind::Data, Kind::Request(reference(1)), Kind::Reply(reference(1)), Kind::Down(reference(2))]
    {
        assert_eq!(two.send(Outgoing { kind, ..message(1, 2, 10) }), Err(Refused::Sealed));
    }
    assert!(!two.actions.contains(&Action::Granted(ticket)));
    let stats = two.sender.stats();
    assert_eq!((stats.waiting, stats.unconfirmed, two.sender.is_under_way()), (0, 0, false));
}

#[test]
fn answers_hold_no_seal_up_and_are_delivered_behind_it() {
    let mut two = Two::new();
    let [express, ..] = two.open_all();
    let answer = Outgoing { kind: Kind::Reply(reference(1)), ..message(1, 2, 10) };
    two.send(answer).unwrap();
    assert!(two.sender.seal());
    assert_eq!(two.sender.stats().unconfirmed, 1);
    two.carry(express, Class::Express);
    two.talk().unwrap();
    assert_eq!((two.delivered.0.len(), two.sender.stats().unconfirmed), (1, 0));
}

/// What the peer sends is taken and confirmed until the end.
#[test]
fn a_sealed_session_still_receives_and_says_what_became_of_it() {
    let mut two = Two::new();
    let [express, ..] = two.open_all();
    assert!(two.receiver.seal());
    let to = Destination::Process(process(2));
    two.send(Outgoing { acknowledge: Some(7), to, ..message(1, 2, 10) }).unwrap();
    two.carry(express, Class::Express);
    two.talk().unwrap();
    assert_eq!((two.delivered.0.len(), two.sender.stats().unconfirmed), (1, 0));
    assert!(two.receiver.next_frame(express).is_some(), "the outcome");
}

/// Memory of a message that says by its count who holds it.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A machine with a full mailbox, and a large message for that.
fn full() -> (Two, Outgoing, Arc<Vec<u8>>) {
    let mut two = Two::new();
    let [_, _, bulk, _] = two.open_all();
    two.send(message(1, 2, LARGE)).unwrap();
    two.carry(bulk, Class::Bulk);
    two.talk().unwrap();
    drop(two.sender.take_spent()); // the one that is delivered
    let memory = Arc::new(vec![7; LARGE]);
    let body = Segments::from(Bytes::from_owner(Shared(memory.clone())));
    (two, Outgoing { body, ..message(3, 2, 0) }, memory)
}

#[test]
fn what_a_seal_gives_up_is_freed_with_the_session() {
    let (mut two, waits, memory) = full();
    assert!(matches!(two.send(waits), Ok(Sent::Waiting(_))));
    assert!(two.sender.seal());
    two.sender.end();
    assert!(two.sender.take_spent().is_empty());
    assert_eq!(Arc::strong_count(&memory), 2);
    assert!(two.sender.held_bytes() >= LARGE as u64);
    drop(two);
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[test]
fn what_is_taken_back_or_refused_is_for_the_caller_to_drop() {
    for nosuspend in [false, true] {
        let (mut two, message, memory) = full();
        match two.send(Outgoing { nosuspend, ..message }) {
            Ok(Sent::Waiting(ticket)) => assert!(two.sender.cancel(ticket)),
            refused => assert_eq!(refused, Err(Refused::Busy)),
        }
        assert_eq!(Arc::strong_count(&memory), 2);
        drop(two.sender.take_spent());
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}
