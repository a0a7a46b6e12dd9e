//! Whose term is built next, which knows nothing of the virtual machine and so can be tested without one.

#[path = "../src/lock.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod lock;
#[path = "../src/work/turns.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod turns;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use turns::{Turns, Whose};

/// A session of an address.
fn of(place: u8, session: u64) -> Whose {
    Whose { place: IpAddr::V4(Ipv4Addr::new(10, 0, 0, place)), session }
}

#[test]
fn sessions_take_turns_however_much_one_brings() {
    let turns = Arc::new(Turns::new(1, 100));
    (0..5).for_each(|job| turns.push(of(1, 1), (1, job), 10));
    turns.push(of(1, 2), (2, 0), 10);
    turns.push(of(1, 3), (3, 0), 10);
    let order: Vec<_> = (0..7).filter_map(|_| turns.next().map(|(job, _turn)| job)).collect();
    assert_eq!(order, [(1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
}

#[test]
fn an_address_leaves_a_thread_and_memory_to_the_others() {
    let turns = Arc::new(Turns::new(3, 100));
    (0..3).for_each(|job| turns.push(of(1, 1), (1, job), 30));
    turns.push(of(2, 2), (2, 0), 60);
    turns.push(of(3, 3), (3, 0), 1000);
    let (first, one) = turns.next().expect("a job");
    let (second, two) = turns.next().expect("another");
    assert_eq!((first, second), ((1, 0), (2, 0)));
    // The third is too large beside others. None passes it, however little it takes.
    let waiting = std::thread::spawn({
        let turns = turns.clone();
        move || turns.next().map(|(job, turn)| (job, drop(turn)).0)
    });
    drop(two);
    drop(one);
    assert_eq!(waiting.join().expect("no panic"), Some((3, 0)), "alone it may take any");
    let rest: Vec<_> = (0..2).filter_map(|_| turns.next().map(|(job, _turn)| job)).collect();
    assert_eq!(rest, [(1, 1), (1, 2)]);
    turns.close();
    assert!(turns.next().is_none());
}

#[test]
fn addresses_take_turns_however_many_sessions_one_has() {
    let turns = Arc::new(Turns::new(1, 100));
    (0..5).for_each(|session| turns.push(of(1, session), (1, session), 10));
    turns.push(of(2, 9), (2, 9), 10);
    let order: Vec<_> = (0..6).filter_map(|_| turns.next().map(|(job, _turn)| job)).collect();
    assert_eq!(order, [(1, 0), (2, 9), (1, 1), (1, 2), (1, 3), (1, 4)]);
}

#[test]
fn an_address_leaves_a_quarter_of_the_memory_to_the_others() {
    let turns = Arc::new(Turns::new(8, 100));
    (0..4).for_each(|session| turns.push(of(1, session), (1, session), 20));
    let begun: Vec<_> = (0..4).filter_map(|_| turns.try_next()).collect();
    assert_eq!(begun.len(), 3, "of one address, however many sessions it has");
    turns.push(of(2, 9), (2, 9), 40);
    let other = turns.try_next().map(|(job, _turn)| job);
    assert_eq!(other, Some((2, 9)), "what waits for its address holds up no other");
    drop(begun);
    assert_eq!(turns.try_next().map(|(job, _turn)| job), Some((1, 3)));
}
