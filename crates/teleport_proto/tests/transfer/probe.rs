//! Whether a connection passes anything on: a frame with nothing in it is asked for on each, and counted.

use super::support::{LARGE, Two, message};
use teleport_proto::ConnectionId;
use teleport_proto::transfer::Action;
use teleport_proto::wire::pool::Class;

const CLASSES: [Class; 4] = [Class::Express, Class::Express, Class::Bulk, Class::Bulk];

fn answers(two: &Two, ids: [ConnectionId; 4]) -> [Option<bool>; 4] {
    ids.map(|id| two.sender.answered(id))
}

#[test]
fn each_connection_answers_for_itself() {
    let mut two = Two::new();
    let ids = two.open_all();
    assert_eq!(answers(&two, ids), [Some(false); 4], "nobody has asked");
    let probed = two.sender.probe();
    assert_eq!(probed, ids.into_iter().zip(CLASSES).collect::<Vec<_>>());
    // The last of them takes what is written, and hands nothing on.
    ids.into_iter().zip(CLASSES).take(3).for_each(|(id, class)| two.carry(id, class));
    assert!(two.sender.next_frame(ids[3]).is_some());
    two.talk().unwrap();
    assert_eq!(answers(&two, ids), [Some(true), Some(true), Some(true), Some(false)]);
    // Once more: the answers of before do not count, and the one that is awaited is not asked for again.
    two.sender.probe();
    assert_eq!(answers(&two, ids), [Some(false); 4]);
    assert!(two.sender.next_frame(ids[3]).is_none());
    two.carry(ids[0], Class::Express);
    two.talk().unwrap();
    assert_eq!(answers(&two, ids), [Some(true), Some(false), Some(false), Some(false)]);
    assert_eq!(two.delivered.0.len(), 0, "nothing was delivered");
    assert!(!two.sender.is_under_way());
}

#[test]
fn an_idle_connection_is_woken_and_a_busy_one_asks_before_what_is_queued() {
    let mut two = Two::new();
    let [express, _, bulk, _] = two.open_all();
    for id in [express, bulk] {
        assert!(two.sender.next_frame(id).is_none(), "it is idle now");
    }
    two.sender.probe();
    two.talk().unwrap();
    for id in [express, bulk] {
        assert!(two.actions.contains(&Action::Wake(id)), "{:?}", two.actions);
    }
    two.send(message(1, 2, 10)).unwrap();
    two.send(message(3, 4, LARGE)).unwrap();
    for (id, class) in [(express, Class::Express), (bulk, Class::Bulk)] {
        assert_eq!(two.sender.next_frame(id).map(|frame| frame.messages()), Some(0), "{class:?}");
        two.carry(id, class);
    }
    assert_eq!(two.delivered.0.len(), 2);
}

#[test]
fn a_probe_that_was_lost_does_not_go_out_again() {
    let mut two = Two::new();
    let ids = two.open_all();
    two.sender.probe();
    for id in ids {
        assert!(two.sender.next_frame(id).is_some());
        two.sender.reader_stopped(id, None);
        two.receiver.reader_stopped(id, None);
    }
    two.talk().unwrap();
    assert_eq!(answers(&two, ids), [None; 4]);
    let stats = two.sender.stats();
    assert_eq!((stats.frames_resent, stats.entries, stats.retiring_connections), (0, 0, 0));
}
