//! A small message never queues behind a large one of another pair, and a slow destination slows nobody else.

use super::support::{LARGE, MAILBOX, Two, WINDOW, config, joined, message, process, receive, reference};
use std::sync::{Arc, Mutex};
use teleport_proto::transfer::{
    Action, Budget, Delivery, Disposition, Granter, MESSAGE_COST, Outgoing, PlainBuffers, Refused, Renewal,
    Sent, Sink, Transfer, TransferConfig, Unlimited,
};
use teleport_proto::wire::envelope::{Destination, Kind, Lane};
use teleport_proto::wire::pool::Class;

/// Sends large messages from process 1 to process 2 until one has to wait.
fn fill_mailbox(two: &mut Two) -> u64 {
    loop {
        match two.send(message(1, 2, LARGE)) {
            Ok(Sent::Accepted) => {}
            Ok(Sent::Waiting(ticket)) => return ticket,
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// Sends large messages to other and other processes until one has to wait.
fn fill_window(two: &mut Two) {
    let waits = (10..).find_map(|to| match two.send(message(1, to, LARGE)) {
        Ok(Sent::Waiting(ticket)) => Some(ticket),
        _ => None,
    });
    assert!(waits.is_some());
    assert!(two.sender.in_window() + LARGE as u64 > WINDOW - WINDOW / 4);
}

#[test]
fn small_messages_pass_while_every_bulk_connection_is_stalled() {
    let mut two = Two::new();
    let [express, _, first, second] = two.open_all();
    fill_window(&mut two);
    // Both bulk writers have a frame that does not get through.
    assert!(two.sender.next_frame(first).is_some() && two.sender.next_frame(second).is_some());
    for to in 200..400 {
        assert_eq!(two.send(message(9, to, 500)), Ok(Sent::Accepted));
    }
    two.carry(express, Class::Express);
    assert_eq!(two.delivered.0.len(), 200);
}

/// Whoever pulls messages ahead has to know what others would go past.
#[test]
fn what_no_small_message_goes_past_is_told_from_what_it_does() {
    let mut two = Two::new();
    let mut waiting = |from: u32, to: u32, len: usize, behind_all: bool| {
        let message = Outgoing { kind: Kind::Carried, behind_all, ..message(from, to, len) };
        loop {
            if let Ok(Sent::Waiting(ticket)) = two.send(message.clone()) {
                return (ticket, two.sender.waits_among_small(ticket));
            }
        }
    };
    assert!(!waiting(1, 2, LARGE, false).1);
    assert!(!waiting(1, 2, 500, false).1, "it is small, and waits for large ones of its pair");
    let (small, among_small) = waiting(3, 4, 500, false);
    assert!(among_small);
    // Behind what waits for all of them.
    assert!(waiting(5, 6, 500, true).1);
    assert!(waiting(7, 8, 500, false).1);
    assert!(!waiting(7, 8, LARGE, false).1);
    assert!(two.sender.cancel(small) && !two.sender.waits_among_small(small));
}

#[test]
fn a_full_mailbox_holds_back_nobody_else() {
    let mut two = Two::new();
    let [_, _, bulk, _] = two.open_all();
    fill_mailbox(&mut two);
    two.carry(bulk, Class::Bulk);
    two.talk().unwrap();
    // Delivered, so out of the peer's window, and not consumed.
    assert_eq!(two.sender.in_window(), 0);
    assert_eq!(two.sender.stats().waiting, 1);
    assert_eq!(two.send(message(1, 3, LARGE)), Ok(Sent::Accepted));
    assert_eq!(two.send(message(4, 3, 100)), Ok(Sent::Accepted));
}

#[test]
fn a_small_message_to_a_mailbox_passes_a_large_one_of_another_pair() {
    let mut two = Two::new();
    fill_mailbox(&mut two);
    assert_eq!(two.send(message(9, 2, 500)), Ok(Sent::Accepted));
}

#[test]
fn a_small_message_waits_behind_the_large_one_of_its_own_pair() {
    let mut two = Two::new();
    let [express, _, bulk, _] = two.open_all();
    let large = fill_mailbox(&mut two);
    let Ok(Sent::Waiting(small)) = two.send(message(1, 2, 500)) else { panic!("overtakes its own pair") };
    let accepted = two.sender.stats().messages_sent as usize;
    two.carry(bulk, Class::Bulk);
    assert_eq!(two.delivered.0.len(), accepted);
    for delivery in two.delivered.0.drain(..) {
        two.receiver.consumed(delivery.credit);
    }
    two.talk().unwrap();
    let granted: Vec<_> = two.actions.iter().filter(|a| matches!(a, Action::Granted(_))).collect();
    assert_eq!(granted, [&Action::Granted(large), &Action::Granted(small)]);
    // The small one arrives first and is held.
    two.carry(express, Class::Express);
    assert_eq!(two.delivered.0.len(), 0);
    two.carry(bulk, Class::Bulk);
    let lengths: Vec<_> = two.delivered.0.iter().map(|delivery| delivery.body.len()).collect();
    assert_eq!(lengths, [LARGE, 500]);
}

#[test]
fn a_small_message_behind_a_large_one_of_its_pair_is_not_starved_by_others() {
    let mut two = Two::new();
    let [express, _, bulk, _] = two.open_all();
    fill_mailbox(&mut two);
    let Ok(Sent::Waiting(behind)) = two.send(message(1, 2, 60_000)) else { panic!("overtakes its pair") };
    let mut impatient = message(3, 2, 5_000);
    impatient.nosuspend = true;
    while two.send(impatient.clone()) == Ok(Sent::Accepted) {}
    // Room for large ones; none for the small one, which is first now.
    two.carry(bulk, Class::Bulk);
    two.delivered.0.drain(..).for_each(|delivery| two.receiver.consumed(delivery.credit));
    two.talk().unwrap();
    let granted = |two: &Two| two.actions.contains(&Action::Granted(behind));
    assert!(!granted(&two));
    // Other senders go on as soon as there is room for theirs.
    for rounds in 0.. {
        assert!(rounds < 100, "it never gets its turn");
        two.carry(express, Class::Express);
        let Some(first) = (!two.delivered.0.is_empty()).then(|| two.delivered.0.remove(0)) else { break };
        two.receiver.consumed(first.credit);
        two.talk().unwrap();
        let _ = two.send(message(3 + rounds, 2, 5_000));
        if granted(&two) {
            return;
        }
    }
    panic!("everything has been delivered but that message");
}

/// Where mailboxes of some processes are full of what others have sent to them.
#[derive(Default)]
struct Full {
    processes: Vec<u32>,
    placed: Vec<u64>,
    delivered: Vec<Delivery>,
}

impl Sink for Full {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        let placed = self.processes.iter().any(|&id| delivery.to == Destination::Process(process(id)));
        if placed {
            self.placed.push(delivery.seq);
        }
        self.delivered.push(delivery);
        if placed { Disposition::Placed } else { Disposition::Consumed }
    }
}

#[test]
fn mailboxes_that_others_have_filled_hold_back_nobody_else() {
    let as_large_as_the_peers = |dialler| TransferConfig {
        mailbox_window: Some(WINDOW),
        own_mailbox_window: Some(WINDOW),
        ..config(dialler)
    };
    for (len, full) in [(1_000, vec![2, 3, 4, 5]), (LARGE, vec![2])] {
        let mut two = Two::with(as_large_as_the_peers);
        let connections = two.open_all();
        let mut sink = Full { processes: full.clone(), ..Full::default() };
        let carry = |two: &mut Two, sink: &mut Full| {
            for (id, class) in
                connections.into_iter().zip([Class::Express, Class::Express, Class::Bulk, Class::Bulk])
            {
                while let Some(frame) = two.sender.next_frame(id) {
                    receive(&mut two.receiver, id, class, &joined(frame), sink).unwrap();
                }
            }
            two.talk().unwrap();
        };
        let mut sent = 0;
        for &id in &full {
            while two.send(message(1, id, len)) == Ok(Sent::Accepted) {
                sent += 1;
                carry(&mut two, &mut sink);
            }
        }
        for _ in 0..50 {
            assert_eq!(two.send(message(1, 9, len)), Ok(Sent::Accepted), "{len} bytes");
            carry(&mut two, &mut sink);
        }
        assert_eq!((sink.delivered.len(), two.sender.stats().waiting), (sent + 50, full.len()));
        // What waits goes as there is room.
        while let Some(seq) = sink.placed.pop() {
            two.receiver.finish_delivery(seq, Disposition::Delivered, &mut sink).unwrap();
            carry(&mut two, &mut sink);
        }
        assert_eq!((sink.delivered.len(), two.sender.stats().waiting), (sent + 50 + full.len(), 0));
        assert_eq!(two.sender.in_window(), 0);
    }
}

/// The node has granted all that it may: each session has what is guaranteed.
struct Exhausted;

impl Granter for Exhausted {
    fn renew(&self, _: Lane, _: Class, _: Renewal) -> u64 {
        0
    }
}

#[test]
fn a_mailbox_that_others_have_filled_leaves_something_of_the_least_that_is_granted() {
    let as_large_as_the_peers = |dialler| TransferConfig {
        mailbox_window: Some(WINDOW),
        own_mailbox_window: Some(WINDOW),
        ..config(dialler)
    };
    let mut two = Two::granted_by(Exhausted, as_large_as_the_peers);
    let [express, ..] = two.open_all();
    let mut sink = Full { processes: vec![2], ..Full::default() };
    let carry = |two: &mut Two, sink: &mut Full| {
        while let Some(frame) = two.sender.next_frame(express) {
            receive(&mut two.receiver, express, Class::Express, &joined(frame), sink).unwrap();
        }
        two.talk().unwrap();
    };
    while two.send(message(1, 2, 1000)) == Ok(Sent::Accepted) {
        carry(&mut two, &mut sink);
    }
    let filled = sink.delivered.len();
    for calls in 1..100 {
        assert_eq!(two.send(message(1, 9, 1000)), Ok(Sent::Accepted));
        carry(&mut two, &mut sink);
        assert_eq!(sink.delivered.len(), filled + calls);
    }
    // And that mailbox goes on when there is room in it.
    while let Some(seq) = sink.placed.pop() {
        two.receiver.finish_delivery(seq, Disposition::Delivered, &mut sink).unwrap();
        carry(&mut two, &mut sink);
    }
    assert_eq!((sink.delivered.len(), two.sender.stats().waiting), (filled + 100, 0));
}

#[test]
fn however_scattered_what_is_delivered_is_said() {
    /// Every other message takes longer.
    struct EveryOther(Vec<u64>);
    impl Sink for EveryOther {
        fn deliver(&mut self, delivery: Delivery) -> Disposition {
            if delivery.seq.is_multiple_of(2) {
                return Disposition::Delivered;
            }
            self.0.push(delivery.seq);
            Disposition::Placed
        }
    }
    let mut two = Two::roomy();
    let [express, ..] = two.open_all();
    let (mut sink, each) = (EveryOther(Vec::new()), 128 + 10);
    for _ in 0..12_000 {
        two.send(message(1, 2, 10)).unwrap();
    }
    while let Some(frame) = two.sender.next_frame(express) {
        receive(&mut two.receiver, express, Class::Express, &joined(frame), &mut sink).unwrap();
    }
    two.talk().unwrap();
    assert_eq!(two.sender.in_window(), 6000 * each);
    // What the peer has not heard is said again.
    two.receiver.control_up();
    two.talk().unwrap();
    assert_eq!(two.sender.in_window(), 6000 * each);
    for seq in sink.0.split_off(0) {
        two.receiver.finish_delivery(seq, Disposition::Delivered, &mut sink).unwrap();
    }
    two.talk().unwrap();
    assert_eq!((two.sender.in_window(), two.receiver.stats().undelivered_bytes), (0, 0));
}

#[test]
fn replies_wait_for_nothing() {
    let mut two = Two::new();
    fill_window(&mut two);
    fill_mailbox(&mut two);
    while two.send(message(7, 2, 30_000)) == Ok(Sent::Accepted) {}
    for len in [0, 500, 30_000, LARGE, MAILBOX as usize * 2] {
        let mut reply = message(1, 2, len);
        (reply.kind, reply.nosuspend) = (Kind::Reply(reference(1)), true);
        assert_eq!(two.send(reply), Ok(Sent::Accepted), "{len} bytes");
    }
}

#[test]
fn nosuspend_is_refused_and_leaves_nothing_behind() {
    let mut two = Two::new();
    let ticket = fill_mailbox(&mut two);
    let before = two.sender.stats();
    let mut impatient = message(5, 2, LARGE);
    impatient.nosuspend = true;
    assert_eq!(two.send(impatient), Err(Refused::Busy));
    assert_eq!(two.sender.stats(), before);
    assert!(two.sender.cancel(ticket) && !two.sender.cancel(ticket));
    assert_eq!(two.sender.stats().waiting, 0);
}

#[test]
fn what_a_connection_was_woken_for_goes_by_another_when_it_dies() {
    let mut two = Two::new();
    for id in two.open_all() {
        assert!(two.sender.next_frame(id).is_none(), "a new connection's writer looks for work, and rests");
    }
    two.send(message(1, 2, 10)).unwrap();
    let Some(Action::Wake(woken)) = two.sender.poll_action() else { panic!("nobody was woken") };
    two.sender.retire(woken);
    let actions: Vec<_> = std::iter::from_fn(|| two.sender.poll_action()).collect();
    let other = actions.iter().find_map(|action| match action {
        Action::Wake(id) => Some(*id),
        _ => None,
    });
    two.carry(other.expect("another is woken, before the peer has answered"), Class::Express);
    assert_eq!(two.delivered.0.len(), 1);
}

/// A node's window that notes what comes back, and in how many calls.
#[derive(Default)]
struct Notes(Mutex<Vec<(Class, u64)>>);

impl Budget for Notes {
    fn try_take(&self, _: Class, _: u64) -> bool {
        true
    }

    fn take(&self, _: Class, _: u64) {}

    fn give_back(&self, class: Class, bytes: u64) {
        self.0.lock().unwrap().push((class, bytes));
    }
}

/// Every call takes a lock that all sessions of the node share.
#[test]
fn what_a_control_frame_returns_for_many_mailboxes_comes_back_at_once() {
    let (mut two, notes) = (Two::new(), Arc::new(Notes::default()));
    two.sender = Transfer::new(
        config(true),
        notes.clone(),
        Arc::new(Unlimited),
        Arc::new(Unlimited),
        Arc::new(PlainBuffers),
    );
    two.receiver.control_up();
    two.sender.control_up();
    two.talk().unwrap();
    two.sender.prime();
    let [express, _, bulk, _] = two.open_all();
    for to in 10..110 {
        assert_eq!(two.send(message(1, to, 100)), Ok(Sent::Accepted));
    }
    for to in 10..12 {
        assert_eq!(two.send(message(1, to, LARGE)), Ok(Sent::Accepted));
    }
    two.carry(express, Class::Express);
    two.carry(bulk, Class::Bulk);
    two.talk().unwrap();
    let large = 2 * (LARGE as u64 + MESSAGE_COST);
    let returned = std::mem::take(&mut *notes.0.lock().unwrap());
    assert_eq!(returned, [(Class::Bulk, large), (Class::Express, 100 * (100 + MESSAGE_COST))]);
    assert_eq!((two.delivered.0.len(), two.sender.in_window()), (102, 0));
}
