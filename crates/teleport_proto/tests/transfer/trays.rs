//! Trays: messages that are accepted without the session take their place in it, and their room comes back.

use super::support::{LARGE, Two, config, message, process};
use teleport_proto::ConnectionId;
use teleport_proto::transfer::{MESSAGE_COST, Sent, Transfer, TransferConfig, Tray};
use teleport_proto::wire::control::TransferFrame;
use teleport_proto::wire::envelope::{Destination, Kind};
use teleport_proto::wire::pool::Class;

fn to() -> Destination {
    Destination::Process(process(2))
}

fn post(transfer: &mut Transfer, body: &[u8]) {
    transfer.post(Kind::Data, process(1), &to(), body);
}

/// A pair's tray, behind two messages of its that were posted.
fn open(transfer: &mut Transfer) -> Tray {
    post(transfer, b"1");
    assert!(transfer.open_tray(process(1), &to()).is_none(), "one message makes no flood");
    post(transfer, b"2");
    transfer.open_tray(process(1), &to()).expect("two are under way, and all connections are busy")
}

/// Lays all that there is room for, and says how many that were.
fn fill(tray: &mut Tray) -> usize {
    (0..).take_while(|_| tray.lay(&[0; 64])).count()
}

fn with_pool() -> (Two, [ConnectionId; 4]) {
    let mut two = Two::new();
    let ids = two.open_all();
    (two, ids)
}

fn bodies(two: &Two) -> Vec<&[u8]> {
    two.delivered.0.iter().map(|delivery| &delivery.body[..]).collect()
}

/// Everything that was sent is delivered, and nothing is kept.
fn finish(mut two: Two, express: ConnectionId) {
    two.carry(express, Class::Express);
    two.talk().unwrap();
    std::mem::take(&mut two.delivered.0).into_iter().for_each(|d| two.receiver.consumed(d.credit));
    two.talk().unwrap();
    let stats = two.sender.stats();
    assert_eq!((two.sender.in_window(), stats.unconfirmed, stats.entries), (0, 0, 0));
}

#[test]
fn what_is_laid_comes_behind_what_was_posted_and_before_what_is_sent_next() {
    let (mut two, [express, ..]) = with_pool();
    let mut tray = open(&mut two.sender);
    assert!(tray.lay(b"3") && tray.lay(b"") && tray.lay(b"5"));
    assert!(two.sender.fetch(&mut tray));
    two.sender.accept_fetched();
    assert!(tray.lay(b"6"));
    two.sender.put_away(tray);
    post(&mut two.sender, b"7");
    assert_eq!(two.sender.stats().messages_sent, 7);
    two.carry(express, Class::Express);
    assert_eq!(bodies(&two), [&b"1"[..], b"2", b"3", b"", b"5", b"6", b"7"]);
    finish(two, express);
}

#[test]
fn what_is_laid_waits_for_a_large_message_before_it() {
    let (mut two, [express, _, bulk, _]) = with_pool();
    assert_eq!(two.send(message(1, 2, LARGE)), Ok(Sent::Accepted));
    post(&mut two.sender, b"2");
    let mut tray = two.sender.open_tray(process(1), &to()).expect("two are under way");
    assert!(tray.lay(b"3") && tray.lay(b"4"));
    two.sender.put_away(tray);
    two.carry(express, Class::Express);
    assert_eq!(bodies(&two).len(), 0);
    two.carry(bulk, Class::Bulk);
    assert_eq!(bodies(&two)[1..], [&b"2"[..], b"3", b"4"]);
    finish(two, express);
}

#[test]
fn a_tray_holds_a_part_of_the_windows_and_renews_it_when_it_is_fetched() {
    let (mut two, [express, ..]) = with_pool();
    let before = two.sender.in_window();
    let mut tray = open(&mut two.sender);
    let first = fill(&mut tray);
    assert!(first > 10, "{first}");
    assert!(two.sender.fetch(&mut tray));
    two.sender.accept_fetched();
    assert_eq!(fill(&mut tray), first);
    let held = two.sender.in_window() - before;
    assert!(!tray.lay(&[0; 64]) && held < 2 * 64 * 1024, "{held}");
    two.sender.put_away(tray);
    assert_eq!(two.sender.stats().unconfirmed, 2 + 2 * first as u64);
    finish(two, express);
}

#[test]
fn a_tray_that_was_not_used_gives_its_room_back() {
    let (mut two, [express, ..]) = with_pool();
    let mut tray = open(&mut two.sender);
    let with_tray = two.sender.in_window();
    assert!(!two.sender.fetch(&mut tray), "nothing was laid");
    two.sender.put_away(tray);
    assert!(two.sender.in_window() < with_tray);
    finish(two, express);
}

#[test]
fn there_are_no_trays_where_nobody_fetches() {
    let (mut two, [express, ..]) = with_pool();
    let tray = open(&mut two.sender);
    two.sender.put_away(tray);
    two.carry(express, Class::Express);
    assert!(!two.sender.serves_trays(), "a connection is idle, and would have to be woken");
    post(&mut two.sender, b"3");
    assert!(two.sender.serves_trays());
    let Ok(Sent::Waiting(_)) =
        (0..).map(|_| two.send(message(3, 4, LARGE))).find(|sent| *sent != Ok(Sent::Accepted)).unwrap()
    else {
        panic!("windows fill")
    };
    assert!(!two.sender.serves_trays(), "somebody waits for room");
}

#[test]
fn there_are_no_trays_where_a_tray_might_take_what_is_too_large() {
    let mut two = Two::with(|dialler| TransferConfig { max_message: 1000, ..config(dialler) });
    two.open_all();
    (0..3).for_each(|_| post(&mut two.sender, b"small"));
    assert!(two.sender.serves_trays());
    assert!(two.sender.open_tray(process(1), &to()).is_none());
}

#[test]
fn a_peer_cannot_report_the_room_of_a_tray_as_consumed() {
    let (mut two, _) = with_pool();
    let mut tray = open(&mut two.sender);
    assert!(tray.lay(&[0; 64]));
    let posted = 2 * (1 + MESSAGE_COST);
    let reported = |express| TransferFrame::Consumed { account: 1, express, bulk: 0 };
    assert_eq!(two.sender.control(reported(posted)), Ok(()));
    two.sender.control(reported(posted + 1)).expect_err("it has been sent nothing more");
}
