//! Honest newcomers in a flood of strangers, in virtual time: every handshake takes its round trips, and a connection that is
//! dropped in it has failed.

#![allow(clippy::unwrap_used)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use teleport_proto::newcomers::Newcomers;

/// Connections that may be under way: the engine's default.
const ROOM: usize = 1024;
const HONEST: u32 = 1;

/// What strangers do, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Silent,
    /// They say hello, and never prove anything.
    Hello,
    /// One and the other in turn.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    OneOther,
    /// Each has an address of its own.
    Everywhere,
    /// The address of the honest one.
    Same,
}

#[derive(Debug, Clone, Copy)]
struct Flood {
    per_second: u64,
    kind: Kind,
    from: From,
}

/// Who goes first.
trait Room {
    fn arrived(&mut self, number: u64, source: u32) -> Option<u64>;
    fn spoke(&mut self, number: u64);
    fn proved(&mut self, number: u64) -> bool;
}

impl Room for Newcomers<u32> {
    fn arrived(&mut self, number: u64, source: u32) -> Option<u64> {
        self.arrived(number, source)
    }
    fn spoke(&mut self, number: u64) {
        self.spoke(number);
    }
    fn proved(&mut self, number: u64) -> bool {
        self.proved(number)
    }
}

/// As it was: 256 in all, 64 of a source, the oldest first.
#[derive(Default)]
struct OldestFirst(VecDeque<(u64, u32)>);

impl Room for OldestFirst {
    fn arrived(&mut self, number: u64, source: u32) -> Option<u64> {
        let of_source = self.0.iter().filter(|other| other.1 == source).count();
        let at = match of_source >= 64 {
            true => self.0.iter().position(|other| other.1 == source),
            false => (self.0.len() >= 256).then_some(0),
        };
        self.0.push_back((number, source));
        at.and_then(|at| self.0.remove(at)).map(|victim| victim.0)
    }
    fn spoke(&mut self, _: u64) {}
    fn proved(&mut self, number: u64) -> bool {
        let at = self.0.iter().position(|other| other.0 == number);
        at.and_then(|at| self.0.remove(at)).is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Stranger,
    Honest,
    Speaks(u64),
    Proves(u64),
}

/// How many honest connections of a hundred get through. Each has a round trip to its peer, and waits for this long until its
/// node comes to what it says.
fn through(room: &mut impl Room, flood: Flood, round_trip: Duration, node: Duration, known: bool) -> usize {
    let mut due = BinaryHeap::new();
    let at = |due: &mut BinaryHeap<_>, time: Duration, step| due.push(Reverse((time, step)));
    let mut honest = HashMap::new();
    let (mut number, mut strangers) = (0, 0);
    if known {
        // The address has proved itself before.
        room.arrived(number, HONEST);
        room.proved(number);
    }
    at(&mut due, Duration::ZERO, Step::Stranger);
    for i in 0..100 {
        at(&mut due, Duration::from_millis(500 + 10 * i), Step::Honest);
    }
    while let Some(Reverse((now, step))) = due.pop() {
        if now > Duration::from_secs(2) {
            break;
        }
        match step {
            Step::Stranger => {
                number += 1;
                strangers += 1;
                let source = match flood.from {
                    From::OneOther => 2,
                    From::Everywhere => 1000 + strangers,
                    From::Same => HONEST,
                };
                room.arrived(number, source);
                let speaks = match flood.kind {
                    Kind::Silent => false,
                    Kind::Hello => true,
                    Kind::Mixed => strangers.is_multiple_of(2),
                };
                if speaks {
                    at(&mut due, now + node, Step::Speaks(number));
                }
                at(&mut due, now + Duration::from_secs(1) / flood.per_second as u32, Step::Stranger);
            }
            Step::Honest => {
                number += 1;
                room.arrived(number, HONEST);
                honest.insert(number, false);
                // The hello follows at once; the proof takes a round trip.
                at(&mut due, now + node, Step::Speaks(number));
                at(&mut due, now + round_trip + 2 * node, Step::Proves(number));
            }
            Step::Speaks(number) => room.spoke(number),
            Step::Proves(number) => {
                honest.insert(number, room.proved(number));
            }
        }
    }
    honest.values().filter(|through| **through).count()
}

const LOOPBACK: Duration = Duration::from_micros(100);
const REMOTE: Duration = Duration::from_millis(20);

fn all_floods(per_second: u64) -> impl Iterator<Item = Flood> {
    let kinds = [Kind::Silent, Kind::Hello, Kind::Mixed];
    let sources = [From::OneOther, From::Everywhere, From::Same];
    kinds.into_iter().flat_map(move |kind| sources.map(|from| Flood { per_second, kind, from }))
}

#[test]
fn no_honest_newcomer_is_dropped_in_a_flood_of_twenty_thousand_a_second() {
    for flood in all_floods(20_000) {
        for round_trip in [LOOPBACK, REMOTE] {
            for node in [Duration::from_micros(20), Duration::from_millis(2)] {
                let through = through(&mut Newcomers::new(ROOM), flood, round_trip, node, false);
                assert_eq!(through, 100, "{flood:?}, {round_trip:?}, {node:?}");
            }
        }
    }
}

#[test]
fn oldest_first_drops_them() {
    let flood = Flood { per_second: 20_000, kind: Kind::Hello, from: From::Same };
    let node = Duration::from_millis(2);
    assert!(through(&mut OldestFirst::default(), flood, LOOPBACK, node, false) < 100);
    for flood in all_floods(20_000).filter(|flood| flood.from != From::OneOther) {
        assert_eq!(through(&mut OldestFirst::default(), flood, REMOTE, node, false), 0, "{flood:?}");
    }
}

#[test]
fn a_flood_from_elsewhere_drops_nobody_whatever_its_speed() {
    for flood in all_floods(200_000).filter(|flood| flood.from == From::OneOther) {
        let round_trip = Duration::from_millis(300);
        assert_eq!(through(&mut Newcomers::new(ROOM), flood, round_trip, REMOTE, false), 100, "{flood:?}");
    }
}

#[test]
fn a_source_that_has_proved_itself_is_not_dropped_for_strangers_from_everywhere() {
    let flood = Flood { per_second: 200_000, kind: Kind::Mixed, from: From::Everywhere };
    let round_trip = Duration::from_millis(100);
    assert_eq!(through(&mut Newcomers::new(ROOM), flood, round_trip, REMOTE, true), 100);
    // But a stranger of its kind is: this is where the room ends.
    assert_eq!(through(&mut Newcomers::new(ROOM), flood, round_trip, REMOTE, false), 0);
}

#[test]
fn what_a_flood_from_the_own_address_can_do_begins_at_the_room_over_the_round_trip() {
    let node = Duration::from_micros(20);
    let through = |per_second| {
        let flood = Flood { per_second, kind: Kind::Hello, from: From::Same };
        through(&mut Newcomers::new(ROOM), flood, REMOTE, node, false)
    };
    assert_eq!((through(45_000), through(60_000)), (100, 0));
}

#[test]
fn a_flood_from_an_address_that_has_proved_itself_has_no_privilege() {
    let mut room = Newcomers::new(ROOM);
    room.arrived(0, 7);
    assert!(room.proved(0));
    let mut dropped = (1..=10_000).filter_map(|number| room.arrived(number, 7)).count();
    assert_eq!(dropped, 10_000 - ROOM);
    // Newcomers from elsewhere take the place of what it has above its allowance.
    for number in 20_000..20_500 {
        let victim = room.arrived(number, number as u32).unwrap();
        assert!(victim <= 10_000, "{victim}");
        dropped += 1;
    }
    assert_eq!(dropped, 10_000 - ROOM + 500);
}

#[test]
fn everything_that_ends_is_forgotten() {
    let mut room = Newcomers::new(4);
    for number in 0..100 {
        let victim = room.arrived(number, (number % 3) as u32);
        assert_eq!(victim.is_some(), number >= 4);
        if number % 2 == 0 {
            room.spoke(number);
        }
        if let Some(victim) = victim {
            assert!(!room.left(victim), "it has gone");
            room.spoke(victim);
            assert!(!room.proved(victim));
        }
    }
    let left = (0..100).filter(|number| room.left(*number)).count();
    assert_eq!((left, room.drop_one()), (4, None));
}
