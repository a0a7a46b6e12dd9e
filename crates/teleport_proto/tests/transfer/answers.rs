//! What goes without credit to a peer that does not take it: bounded, told, counted, and no concern of other peers.

use super::support::{LARGE, Mailboxes, Two, config, joined, message, receive, reference};
use bytes::BytesMut;
use std::sync::{Arc, Mutex};
use teleport_proto::transfer::{
    Budget, Delivery, Disposition, FairWindow, MESSAGE_COST, Outgoing, PlainBuffers, Refused, Sent, Sharing,
    Sink, Transfer, TransferConfig, Unlimited,
};
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::wire::envelope::{Kind, ProcessId, Seq};
use teleport_proto::wire::pool::Class;

const SIZE: u64 = 2 * 1024 * 1024;

/// The node's window for answers, and one session's part in it.
#[derive(Clone)]
struct Part(Arc<Mutex<FairWindow<u32>>>, u32);

impl Budget for Part {
    fn try_take(&self, class: Class, bytes: u64) -> bool {
        self.0.lock().unwrap().try_take(&self.1, class, bytes)
    }

    fn take(&self, class: Class, bytes: u64) {
        self.0.lock().unwrap().take(&self.1, class, bytes);
    }

    fn give_back(&self, class: Class, bytes: u64) {
        self.0.lock().unwrap().give_back(&self.1, class, bytes, |_| {});
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.lock().unwrap().leave(&self.1, |_| {});
    }
}

/// Sessions of one node, each with its peer. The node is the `sender`.
fn sessions(count: u32) -> (Arc<Mutex<FairWindow<u32>>>, Vec<Two>) {
    let window =
        FairWindow::new(Sharing { size: SIZE, share: 4 * LARGE as u64, alone: true, most: u64::MAX });
    let window = Arc::new(Mutex::new(window));
    let session = |number| {
        let mut two = Two::new();
        let part = Part(window.clone(), number);
        two.sender = Transfer::new(
            config(true),
            Arc::new(Unlimited),
            Arc::new(part),
            Arc::new(Unlimited),
            Arc::new(PlainBuffers),
        );
        two.sender.prime();
        two.open_all();
        two
    };
    let sessions = (0..count).map(session).collect();
    (window, sessions)
}

fn reply(number: u32, len: usize) -> Outgoing {
    Outgoing { kind: Kind::Reply(reference(number)), ..message(1, 2, len) }
}

/// Replies until one is refused; how many were accepted.
fn fill(two: &mut Two, len: usize) -> u32 {
    (1..10_000)
        .find(|&number| match two.send(reply(number, len)) {
            Ok(sent) => {
                assert_eq!(sent, Sent::Accepted);
                false
            }
            Err(Refused::AnswersFull { waiting }) => {
                assert_eq!(waiting, two.sender.stats().answer_bytes);
                true
            }
            Err(other) => panic!("{other}"),
        })
        .expect("there is a bound")
        - 1
}

/// Carries everything that both have for each other.
fn exchange(two: &mut Two, back: &mut Mailboxes) {
    loop {
        let before = two.delivered.0.len() + back.0.len();
        for id in 1..=4 {
            let class = if id <= 2 { Class::Express } else { Class::Bulk };
            two.carry(id, class);
            while let Some(frame) = two.receiver.next_frame(id) {
                let bytes = super::support::joined(frame);
                super::support::receive(&mut two.sender, id, class, &bytes, back).unwrap();
            }
        }
        two.talk().unwrap();
        if two.delivered.0.len() + back.0.len() == before {
            return;
        }
    }
}

#[test]
fn what_a_peer_does_not_take_is_bounded_and_its_requests_are_rejected_meanwhile() {
    for len in [500, LARGE] {
        let (window, mut sessions) = sessions(1);
        let two = &mut sessions[0];
        let kept = fill(two, len);
        assert!(kept > 1);
        let stats = two.sender.stats();
        assert_eq!(stats.answer_bytes, u64::from(kept) * (len as u64 + MESSAGE_COST));
        assert_eq!((stats.answers_refused, stats.unconfirmed), (1, kept.into()));
        assert!(stats.answer_bytes <= SIZE && window.lock().unwrap().used() == stats.answer_bytes);

        let request = Outgoing { kind: Kind::Request(reference(77)), ..message(5, 6, 10) };
        two.receiver.send(request.clone()).unwrap();
        let mut servers = Mailboxes::default();
        let frame = two.receiver.next_frame(1).map(super::support::joined).unwrap();
        super::support::receive(&mut two.sender, 1, Class::Express, &frame, &mut servers).unwrap();
        assert!(servers.0.is_empty(), "no server has more to do for it");
        assert_eq!(two.sender.stats().answers_refused, 2);

        // Once it takes them it gets them, and the end of its call; and everything is as before.
        exchange(two, &mut servers);
        let rejected: Vec<_> =
            two.delivered.0.iter().filter(|delivery| matches!(delivery.kind, Kind::Reject(_))).collect();
        let [rejected] = rejected[..] else { panic!("{rejected:?}") };
        assert_eq!((rejected.kind, rejected.from), (Kind::Reject(reference(77)), ProcessId::NOBODY));
        let text: String = teleport_etf::from_bytes(&rejected.body).unwrap();
        assert!(text.contains(&format!("{} bytes wait", stats.answer_bytes)), "{text}");
        assert_eq!(two.delivered.0.len(), kept as usize + 1);
        let (stats, asker) = (two.sender.stats(), two.receiver.stats());
        assert_eq!((stats.answer_bytes, stats.unconfirmed_bytes, window.lock().unwrap().used()), (0, 0, 0));
        assert_eq!((asker.unconfirmed, two.receiver.in_window()), (0, 0), "the request's credit is back");
        two.receiver.send(request).unwrap();
        exchange(two, &mut servers);
        assert_eq!(servers.0.len(), 1, "requests are let in again");
    }
}

#[test]
fn peers_that_take_no_answers_keep_none_from_another() {
    let (window, mut sessions) = sessions(41);
    let (healthy, stopped) = sessions.split_first_mut().unwrap();
    for (i, two) in stopped.iter_mut().enumerate() {
        fill(two, [500, LARGE][i % 2]);
    }
    let kept = window.lock().unwrap().used();
    assert!(kept <= SIZE + 40 * 4 * LARGE as u64, "{kept}");
    let mut none = Mailboxes::default();
    for round in 0..100 {
        for len in [0, 500, LARGE] {
            assert_eq!(healthy.send(reply(round, len)), Ok(Sent::Accepted));
        }
        exchange(healthy, &mut none);
    }
    assert_eq!((healthy.delivered.0.len(), healthy.sender.stats().answers_refused), (300, 0));
    // The end of a session gives back what it has kept.
    sessions.iter_mut().for_each(|two| two.sender.end());
    let window = window.lock().unwrap();
    assert_eq!((window.used(), window.members()), (0, 0));
}

#[test]
fn notices_are_always_let_in_and_counted() {
    let (_, mut sessions) = sessions(1);
    let two = &mut sessions[0];
    for len in [500, LARGE] {
        fill(two, len);
    }
    let before = two.sender.stats().answer_bytes;
    let notice = |kind, len| Outgoing { kind, ..message(1, 2, len) };
    let notices = [
        notice(Kind::Down(reference(1)), 200),
        notice(Kind::Reject(reference(2)), 5_000),
        notice(Kind::Monitor(reference(3)), 0),
        notice(Kind::Demonitor(reference(3)), 0),
    ];
    for notice in notices {
        assert_eq!(two.send(notice), Ok(Sent::Accepted));
    }
    assert_eq!(two.sender.stats().answer_bytes, before + 5_200 + 4 * MESSAGE_COST);
    let reason = notice(Kind::Down(reference(1)), 70_000);
    assert!(matches!(two.send(reason), Err(Refused::AnswersFull { .. })));
}

/// Defers whatever is small, and keeps the order of it.
#[derive(Default)]
struct Deferring(Vec<Delivery>);

impl Sink for Deferring {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        self.0.push(delivery);
        Disposition::Deferred
    }
}

#[test]
fn a_rejected_request_lets_no_large_message_pass_a_small_one_before_both() {
    let (_window, mut sessions) = sessions(1);
    let two = &mut sessions[0];
    two.sender.control_up();
    two.talk().unwrap();
    fill(two, LARGE);
    let request = Outgoing { kind: Kind::Request(reference(77)), ..message(5, 6, 10) };
    for message in [message(5, 6, 10), request, message(5, 6, LARGE)] {
        assert_eq!(two.receiver.send(message).unwrap(), Sent::Accepted);
    }
    let mut arrived = Deferring::default();
    for (id, class) in [(1, Class::Express), (2, Class::Express), (3, Class::Bulk), (4, Class::Bulk)] {
        while let Some(frame) = two.receiver.next_frame(id) {
            let bytes = super::support::joined(frame);
            super::support::receive(&mut two.sender, id, class, &bytes, &mut arrived).unwrap();
        }
    }
    let large = |arrived: &Deferring| arrived.0.iter().any(|delivery| delivery.body.len() == LARGE);
    assert!(!large(&arrived), "the large one waits for the small ones");
    let small: Vec<_> = arrived.0.iter().map(|delivery| delivery.seq).collect();
    for seq in small {
        two.sender.finish_delivery(seq, Disposition::Delivered, &mut arrived).unwrap();
    }
    assert!(large(&arrived), "and comes when they are delivered");
}

/// Defers small messages of one byte, and refuses the others, as an allow-list does.
#[derive(Default)]
struct Refusing(Vec<(Seq, usize)>);

impl Sink for Refusing {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        let len = delivery.body.len();
        self.0.push((delivery.seq, len));
        match (len, delivery.kind) {
            (1 | LARGE, _) => Disposition::Deferred,
            (_, Kind::Request(_)) => Disposition::Consumed,
            _ => Disposition::NoProcess,
        }
    }
}

#[test]
fn what_is_refused_lets_no_large_message_pass_a_small_one_before_both() {
    let request = Outgoing { kind: Kind::Request(reference(77)), ..message(5, 6, 2) };
    // One alone, and many of one pair, which come as a run.
    for (refused, count) in [(request, 1), (message(5, 6, 2), 1), (message(5, 6, 2), 7)] {
        let mut two = Two::new();
        let connections = two.open_all();
        let refused = std::iter::repeat_with(|| refused.clone()).take(count);
        let mut messages = vec![message(5, 6, 1)];
        messages.extend(refused.chain([message(5, 6, 1), message(5, 6, 2), message(5, 6, LARGE)]));
        for message in messages {
            assert_eq!(two.send(message).unwrap(), Sent::Accepted);
        }
        let mut arrived = Refusing::default();
        for (id, class) in
            connections.into_iter().zip([Class::Express, Class::Express, Class::Bulk, Class::Bulk])
        {
            while let Some(frame) = two.sender.next_frame(id) {
                receive(&mut two.receiver, id, class, &joined(frame), &mut arrived).unwrap();
            }
        }
        let deferred: Vec<_> = arrived.0.iter().filter(|(_, len)| *len == 1).map(|(seq, _)| *seq).collect();
        let large = |arrived: &Refusing| arrived.0.iter().find(|(_, len)| *len == LARGE).map(|(seq, _)| *seq);
        for seq in deferred {
            assert_eq!(large(&arrived), None, "behind what is deferred");
            two.receiver.finish_delivery(seq, Disposition::Delivered, &mut arrived).unwrap();
        }
        let last = large(&arrived).unwrap();
        two.receiver.finish_delivery(last, Disposition::Delivered, &mut arrived).unwrap();
        two.talk().unwrap();
        assert_eq!(two.sender.stats().unconfirmed, 0);
    }
}

/// It is the peer alone that decides how many requests are rejected.
#[test]
fn requests_without_end_to_a_peer_that_takes_nothing_cost_what_they_are_worth() {
    let (window, mut sessions) = sessions(1);
    let two = &mut sessions[0];
    fill(two, LARGE);
    let (before, mut servers) = (two.sender.stats().answer_bytes, Mailboxes::default());
    for number in 0..1_000u32 {
        let request = Outgoing { kind: Kind::Request(reference(number)), ..message(number, 6, 10) };
        two.receiver.send(request).unwrap();
        let frame = two.receiver.next_frame(1).map(super::support::joined).unwrap();
        super::support::receive(&mut two.sender, 1, Class::Express, &frame, &mut servers).unwrap();
        // The peer hears of its credit, and takes no message.
        let mut said = BytesMut::new();
        two.sender.take_control(&mut said);
        while let Some(ControlFrame::Transfer(frame)) = ControlFrame::decode(&mut said).unwrap() {
            two.receiver.control(frame).unwrap();
        }
    }
    assert!(servers.0.is_empty());
    let kept = two.sender.stats().answer_bytes - before;
    assert!(kept <= 1_000 * (MESSAGE_COST + 200), "{kept}");
    assert_eq!(window.lock().unwrap().used(), kept + before);
}

/// Whether its last byte or its delivery is heard of first.
#[test]
fn the_memory_of_a_large_message_is_for_the_caller_to_drop() {
    use teleport_proto::wire::control::TransferFrame;
    let mut two = Two::roomy();
    let [express, _, bulk, _] = two.open_all();
    let large = message(1, 2, LARGE);
    let place = large.body.iter().next().unwrap().as_ptr();
    let received = |connection, frames| TransferFrame::Received { connection, frames };
    let delivered = |watermark| TransferFrame::Delivered { watermark, above: Default::default() };
    for (seq, confirm) in [(1, received(bulk, 10)), (2, delivered(2))] {
        two.send(large.clone()).unwrap();
        while two.sender.next_frame(bulk).is_some() {}
        assert!(two.sender.take_spent().is_empty());
        two.sender.control(confirm).unwrap();
        let spent = two.sender.take_spent();
        assert_eq!(spent.len(), 1);
        assert_eq!(spent[0].iter().next().unwrap().as_ptr(), place);
        two.sender.control(delivered(seq)).unwrap();
        assert!(two.sender.take_spent().is_empty(), "once");
    }
    // A small one is dropped at once; and nothing is kept for a peer that does not ask.
    two.send(message(1, 2, 10)).unwrap();
    two.sender.next_frame(express).unwrap();
    two.sender.control(received(express, 1)).unwrap();
    assert!(two.sender.take_spent().is_empty());
}

/// A peer that asks to be told of each message gets no more room while it does not take what it is told; and then it does.
#[test]
fn what_is_held_back_until_answers_are_taken_goes_on_when_they_are() {
    let no_mailboxes =
        |dialler| TransferConfig { mailbox_window: None, own_mailbox_window: None, ..config(dialler) };
    let mut two = Two::with(no_mailboxes);
    two.open_all();
    // What it is told takes more and more of its window, until no more fits.
    let sent = (1..10_000).find(|&token| {
        let told = Outgoing { acknowledge: Some(token), ..message(1, 2, 10) };
        let waits = two.send(told).unwrap() != Sent::Accepted;
        for id in [1, 2] {
            two.carry(id, Class::Express);
        }
        two.talk().unwrap();
        waits
    });
    assert!(two.delivered.0.len() < sent.expect("a window") as usize - 1);
    assert_eq!((two.receiver.control_due(), two.sender.control_due()), (None, None), "all has been said");
    for id in [1, 2] {
        while let Some(frame) = two.receiver.next_frame(id) {
            let frame = super::support::joined(frame);
            super::support::receive(&mut two.sender, id, Class::Express, &frame, &mut Mailboxes::default())
                .unwrap();
        }
    }
    super::support::hear(&mut two.receiver, &mut two.sender).unwrap();
    assert!(two.receiver.control_due().is_some(), "what was held back is granted now");
    two.talk().unwrap();
    exchange(&mut two, &mut Mailboxes::default());
    assert_eq!(Some(two.delivered.0.len() as u64), sent);
}
