//! Liveness in virtual time: an observer that is called when it asks to be, unless a test delays it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use teleport_proto::Time;
use teleport_proto::liveness::{Action, Config, Counts, Liveness};

#[test]
fn ticks_keep_their_cadence_however_late_they_are_sent() {
    let mut liveness = Liveness::new(Config::default(), s(90));
    let mut dues = Vec::new();
    for (due, late) in [(105, 0), (120, 2), (135, 1), (150, 0)] {
        assert_eq!(liveness.next_deadline(), s(due));
        let now = s(due + late);
        for action in liveness.poll(now, now, now) {
            let Action::SendTick { seq, due } = action else { panic!("{action:?}") };
            dues.push((seq, due));
            liveness.tick_answered(seq, now);
        }
    }
    assert_eq!(dues, [(1, s(105)), (2, s(120)), (3, s(135)), (4, s(150))]);
}

proptest! {
    #[test]
    fn no_tick_is_later_than_its_interval_after_the_one_before_nor_much_sooner(
        began in 0_u64..1 << 40,
        interval in 1_000_000_u64..20_000_000_000,
        another in 1_000_000_u64..20_000_000_000,
        restart_after in 0_u64..100_000_000_000,
    ) {
        let [mut since, interval, another] = [began, interval, another].map(Duration::from_nanos);
        let restart = since + Duration::from_nanos(restart_after);
        let config = Config { tick_interval: interval, deadline: 10_000 * interval, reconnect_after: 10_000 * interval };
        let mut liveness = Liveness::new(config, since);
        let (mut now, mut interval, mut number) = (since, interval, 0);
        for _ in 0..40 {
            if since < restart && liveness.next_deadline() >= restart {
                liveness.set_tick_interval(another, restart);
                (since, now, interval, number) = (restart, restart, another, 0);
            }
            now = liveness.next_deadline().max(now);
            for action in liveness.poll(now, now, now) {
                let Action::SendTick { seq, due } = action else { panic!("{action:?}") };
                number += 1;
                // Counted from when the session, or its cadence, began.
                let latest = since + number * interval;
                prop_assert!(due <= latest && now <= latest, "number {number} at {now:?}, not by {latest:?}");
                prop_assert!(due + interval / 4 >= latest, "number {number} at {due:?}, by {latest:?}");
                liveness.tick_answered(seq, now);
            }
        }
        prop_assert!(number > 0);
    }
}

#[test]
fn however_many_peers_there_are_their_ticks_take_four_wake_ups_in_an_interval() {
    const PEERS: u64 = 1000;
    // They have come at any time.
    let begun = |i: u64| Duration::from_micros(i * 7_919_791 % 60_000_000);
    let mut sessions: Vec<_> = (0..PEERS).map(|i| Liveness::new(Config::default(), begun(i))).collect();
    let (mut wake_ups, mut ticks) = (BTreeSet::new(), 0);
    for liveness in &mut sessions {
        while liveness.next_deadline() < s(600) {
            let now = liveness.next_deadline();
            for action in liveness.poll(now, now, now) {
                let Action::SendTick { seq, .. } = action else { panic!("{action:?}") };
                liveness.tick_answered(seq, now);
                if now >= s(300) {
                    wake_ups.insert(now);
                    ticks += 1;
                }
            }
        }
    }
    // 300 s are 20 intervals.
    assert_eq!((wake_ups.len(), ticks), (4 * 20, 20 * PEERS));
}

#[test]
fn ticks_of_all_peers_are_due_together_after_another_cadence_too() {
    let mut sessions: Vec<_> = (0..50).map(|i| Liveness::new(Config::default(), s(i))).collect();
    // The command reaches one session after the other.
    for (i, liveness) in (0..).zip(&mut sessions) {
        liveness.set_intervals(Config::with_ticktime(s(8)), s(60) + Duration::from_millis(i));
    }
    let dues: BTreeSet<_> = sessions.iter().map(Liveness::next_deadline).collect();
    assert_eq!(dues, BTreeSet::from([s(62)]));
}

#[test]
fn round_trips_count_from_when_the_tick_was_due() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    assert_eq!(liveness.poll(s(17), s(17), s(17)), [tick(1, 15)]);
    let round_trip = liveness.tick_answered(1, s(18)).unwrap();
    assert_eq!((round_trip.due, round_trip.round_trip, round_trip.probe), (s(15), s(3), false));
    assert_eq!(liveness.tick_answered(1, s(19)), None, "answered before");
    assert_eq!(liveness.tick_answered(2, s(19)), None, "never sent");
}

#[test]
fn polling_early_does_nothing() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    for now in [0, 1, 5, 14] {
        assert_eq!(liveness.poll(s(now), s(0), s(0)), []);
        assert_eq!(liveness.next_deadline(), s(15));
    }
}

#[test]
fn a_silent_peer_is_down_at_the_deadline_and_not_before() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    let (at, actions) = run_until_down(&mut liveness, |_| (s(7), s(7)));
    assert_eq!(at, s(67));
    let (reconnect, down) = (Action::ReconnectControl, Action::NodeDown);
    assert_eq!(actions, [tick(1, 15), tick(2, 30), reconnect, tick(3, 45), tick(4, 60), down]);
    assert_eq!(liveness.next_deadline(), Time::MAX);
    assert_eq!(liveness.poll(s(1000), s(999), s(999)), [], "said once");
    // The one due at 60 s still had time.
    assert_eq!(liveness.counts(), Counts { sent: 4, missed: 3, ..Counts::default() });
}

#[test]
fn a_peer_that_was_silent_by_other_intervals_has_a_whole_new_deadline() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    // Silent for 14 s, which is all right; and then 8 s are the limit.
    assert_eq!(liveness.poll(s(14), s(0), s(0)), []);
    liveness.set_intervals(Config::with_ticktime(s(8)), s(14));
    let (at, actions) = run_until_down(&mut liveness, |_| (s(0), s(0)));
    assert_eq!(at, s(22));
    assert_eq!(actions, [tick(1, 16), tick(2, 18), tick(3, 20), Action::NodeDown]);
}

#[test]
fn longer_intervals_hold_at_once() {
    let mut liveness = Liveness::new(Config::with_ticktime(s(8)), s(0));
    liveness.set_intervals(Config::default(), s(1));
    let (at, actions) = run_until_down(&mut liveness, |_| (s(0), s(0)));
    assert_eq!(at, s(61));
    assert_eq!(actions[..2], [tick(1, 15), tick(2, 30)]);
}

#[test]
fn timers_that_always_fire_a_little_late_do_not_put_the_end_off() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    let late = Duration::from_millis(3);
    for _ in 0..20 {
        let now = liveness.next_deadline() + late;
        if liveness.poll(now, s(0), s(0)).contains(&Action::NodeDown) {
            assert!(now >= s(60) && now < s(61), "{now:?}");
            return;
        }
    }
    panic!("never down");
}

#[test]
fn any_byte_on_any_connection_is_life() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    for now in (0..1000).map(s) {
        let pool = now.saturating_sub(s(20));
        let actions = liveness.poll(now, pool, s(0));
        assert!(!actions.contains(&Action::NodeDown), "at {now:?}");
    }
}

#[test]
fn an_absence_before_the_peer_was_heard_is_no_excuse_for_its_silence_since() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    // Its machine has slept for a day; what the peer has sent is read before anything else.
    let woken = s(86_400);
    assert!(!liveness.poll(woken, woken, woken).contains(&Action::NodeDown));
    let (at, _) = run_until_down(&mut liveness, |_| (woken, woken));
    assert_eq!(at, woken + s(60));
}

#[test]
fn an_observer_that_was_stopped_does_not_blame_the_peer() {
    for silent_before in [0, 14, 50, 59] {
        let mut liveness = Liveness::new(Config::default(), s(1000));
        let last = s(1000);
        let mut now = s(1000);
        while now < s(1000 + silent_before) {
            now = liveness.next_deadline().min(s(1000 + silent_before));
            assert!(!liveness.poll(now, last, last).contains(&Action::NodeDown));
        }
        // SIGSTOP for 100 s; what the peer sent meanwhile has not been read yet.
        let woken = now + s(100);
        let actions = liveness.poll(woken, last, last);
        assert!(!actions.contains(&Action::NodeDown), "silent for {silent_before} s before");
        assert!(actions.iter().any(|action| matches!(action, Action::SendTick { .. })), "{actions:?}");
        // It has a tick interval for what is unread.
        let chance = woken + s(15) - Duration::from_millis(1);
        assert!(!liveness.poll(chance, last, last).contains(&Action::NodeDown));
        // A byte of it, and all is as before.
        let heard = chance;
        assert!(liveness.poll(heard, heard, heard).is_empty());
        let (at, _) = run_until_down(&mut liveness, |_| (heard, heard));
        assert_eq!(at, heard + s(60), "its own absence is excused once");
    }
}

#[test]
fn a_peer_that_is_dead_when_the_observer_wakes_is_found_out_after_its_chance() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    assert!(liveness.poll(s(100), s(0), s(0)).iter().all(|action| matches!(action, Action::SendTick { .. })));
    let (at, _) = run_until_down(&mut liveness, |_| (s(0), s(0)));
    // 100 s of which 85 were our absence: 45 of 60 are left.
    assert_eq!(at, s(145));
    assert_eq!(liveness.counts().latest, s(85));
}

#[test]
fn after_a_long_absence_only_the_newest_ticks_are_sent() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    let actions = liveness.poll(s(3600), s(3600), s(3600));
    let expected: Vec<Action> = (0..8).map(|n| tick(n + 1, 3600 - 15 * (7 - n))).collect();
    assert_eq!(actions, expected);
    assert_eq!(liveness.counts().skipped, 240 - 8);
}

#[test]
fn control_that_is_silent_is_opened_anew_once() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    let (mut now, mut asked) = (s(0), Vec::new());
    while now < s(300) {
        now = liveness.next_deadline();
        for action in liveness.poll(now, now, s(4)) {
            match action {
                Action::ReconnectControl => asked.push(now),
                Action::NodeDown => panic!("the pool is heard"),
                _ => {}
            }
        }
    }
    assert_eq!(asked, [s(34)]);

    // A byte on control ends the outage; the next one is another.
    liveness.poll(s(300), s(300), s(300));
    while asked.len() < 2 {
        now = liveness.next_deadline();
        if liveness.poll(now, now, s(300)).contains(&Action::ReconnectControl) {
            asked.push(now);
        }
    }
    assert_eq!(asked, [s(34), s(330)]);
}

#[test]
fn an_absence_is_not_silence_of_control_either() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    let woken = s(100);
    // The pool's reader was quicker than control's.
    assert!(!liveness.poll(woken, woken, s(0)).contains(&Action::ReconnectControl));
    assert!(!liveness.poll(s(105), s(105), s(0)).contains(&Action::ReconnectControl));
    assert!(!liveness.poll(s(114), s(114), s(0)).contains(&Action::ReconnectControl));
    assert!(liveness.poll(s(115), s(115), s(0)).contains(&Action::ReconnectControl));
}

#[test]
fn without_control_the_session_has_the_deadline_even_if_the_pool_is_heard() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    liveness.poll(s(15), s(15), s(15));
    liveness.control_down(s(20));
    liveness.control_down(s(25)); // no matter how often it is said
    let (at, actions) = run_until_down(&mut liveness, |now| (now, s(15)));
    assert_eq!(at, s(80));
    assert_eq!(actions, [Action::NodeDown], "no ticks without control");
    assert_eq!(liveness.counts().skipped, 4);
    assert_eq!(liveness.counts().missed, 1, "the answer went with the connection");
}

#[test]
fn without_control_a_silent_peer_is_down_when_it_would_have_been() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    liveness.control_down(s(20));
    let (at, _) = run_until_down(&mut liveness, |_| (s(3), s(3)));
    assert_eq!(at, s(63));
}

#[test]
fn control_that_comes_back_in_time_is_life() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    liveness.control_down(s(20));
    assert_eq!(liveness.poll(s(30), s(20), s(20)), []);
    assert_eq!(liveness.poll(s(45), s(20), s(20)), []);
    liveness.control_up(s(59));
    assert_eq!(liveness.poll(s(60), s(20), s(20)), [tick(1, 60)], "the cadence goes on");
    let (at, _) = run_until_down(&mut liveness, |_| (s(20), s(20)));
    assert_eq!(at, s(119));
}

#[test]
fn ticks_without_an_answer_are_counted_once_and_their_late_answers_still_tell() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    liveness.poll(s(15), s(15), s(15));
    liveness.poll(s(30), s(30), s(30));
    assert_eq!(liveness.counts().missed, 1);
    liveness.poll(s(31), s(31), s(31));
    assert_eq!(liveness.counts().missed, 1);
    assert_eq!(liveness.tick_answered(1, s(32)).unwrap().round_trip, s(17));
    assert_eq!(liveness.counts(), Counts { sent: 2, answered: 1, missed: 1, ..Counts::default() });
}

#[test]
fn ticks_that_are_never_answered_do_not_pile_up() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    for _ in 0..10_000 {
        let now = liveness.next_deadline();
        liveness.poll(now, now, now);
    }
    // Kept for the deadline, which is four of them, and the newest.
    let shown = format!("{liveness:?}");
    assert!(shown.matches("Tick {").count() <= 6, "{shown}");
}

#[test]
fn a_probe_is_answered_or_found_unanswered() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    assert_eq!(liveness.probe(s(1), s(2)), Some(tick(1, 1)));
    assert_eq!(liveness.probe(s(1), s(2)), None, "one at a time");
    assert!(liveness.tick_answered(1, s(2)).unwrap().probe);
    assert_eq!(liveness.poll(s(3), s(2), s(2)), []);

    assert_eq!(liveness.probe(s(4), s(2)), Some(tick(2, 4)));
    assert_eq!(liveness.next_deadline(), s(6));
    assert_eq!(liveness.poll(s(5), s(5), s(5)), [], "other bytes of the first half may be old ones");
    assert_eq!(liveness.poll(s(6), s(5), s(5)), [Action::ProbeUnanswered]);
    assert_eq!(liveness.poll(s(7), s(5), s(5)), [], "said once");
    assert!(!liveness.tick_answered(2, s(7)).unwrap().probe);
}

#[test]
fn a_peer_that_is_heard_but_does_not_answer_a_probe_gets_another_control_connection() {
    let second_half = s(2) + Duration::from_millis(1);
    // Over the pool, or over control itself.
    for control_heard in [s(0), second_half] {
        let mut liveness = Liveness::new(Config::default(), s(0));
        assert_eq!(liveness.probe(s(1), s(2)), Some(tick(1, 1)));
        assert_eq!(liveness.poll(s(3), second_half, control_heard), [Action::ReconnectControl]);
        assert_eq!(liveness.poll(s(4), second_half, control_heard), [], "said once");
        liveness.control_down(s(4));
        liveness.control_up(s(5));
        assert_eq!(liveness.probe(s(6), s(2)), Some(tick(2, 6)), "it can be asked again");
        assert!(liveness.tick_answered(2, s(7)).unwrap().probe);
        assert_eq!(liveness.poll(s(8), s(7), s(7)), []);
    }
}

#[test]
fn a_machine_that_came_back_is_found_out_in_time_whatever_was_in_buffers() {
    for read_until in [0, 500, 1_000] {
        let mut liveness = Liveness::new(Config::default(), s(0));
        liveness.probe(s(1), s(2));
        let heard = s(1) + Duration::from_millis(read_until);
        assert_eq!(liveness.poll(s(2), heard, s(1)), []);
        assert_eq!(liveness.next_deadline(), s(3));
        assert_eq!(liveness.poll(s(3), heard, s(1)), [Action::ProbeUnanswered]);
    }
}

#[test]
fn a_probe_goes_with_its_connection_also_when_that_is_replaced() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    assert_eq!(liveness.probe(s(1), s(2)), Some(tick(1, 1)));
    liveness.control_up(s(2));
    assert_eq!(liveness.poll(s(5), s(2), s(2)), [], "that it is back has answered");
    assert_eq!(liveness.tick_answered(1, s(6)), None);
    assert_eq!(liveness.probe(s(7), s(2)), Some(tick(2, 7)));
    assert_eq!(liveness.poll(s(9), s(2), s(2)), [Action::ProbeUnanswered]);
}

#[test]
fn a_probe_waits_for_an_observer_that_is_late() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    liveness.probe(s(1), s(2));
    assert_eq!(liveness.poll(s(10), s(1), s(1)), []);
    assert_eq!(liveness.poll(s(15), s(1), s(1)), [tick(2, 15)]);
    assert_eq!(liveness.next_deadline(), s(17), "as long as it was late");
    assert_eq!(liveness.poll(s(17), s(1), s(1)), [Action::ProbeUnanswered]);
}

#[test]
fn the_peer_is_asked_to_say_something_only_if_nothing_is_awaited_of_it() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    assert_eq!(liveness.ask(s(1)), Some(tick(1, 1)));
    assert_eq!(liveness.ask(s(2)), None);
    assert!(liveness.tick_answered(1, s(3)).is_some());
    assert_eq!(liveness.ask(s(4)), Some(tick(2, 4)));
    liveness.control_down(s(5));
    assert_eq!(liveness.ask(s(5)), None);
}

#[test]
fn a_probe_needs_control() {
    let mut liveness = Liveness::new(Config::default(), s(0));
    liveness.control_down(s(1));
    assert_eq!(liveness.probe(s(2), s(1)), None);
}

#[test]
fn absurd_configurations_do_not_panic() {
    for interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for deadline in [Duration::ZERO, Duration::MAX] {
            let config = Config { tick_interval: interval, deadline, reconnect_after: deadline };
            let mut liveness = Liveness::new(config, s(0));
            for now in [0, 1, 2, 1_000_000] {
                liveness.poll(s(now), s(0), s(0));
                liveness.control_down(s(now));
                liveness.control_up(s(now));
            }
        }
    }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tick(seq: u64, due: u64) -> Action {
    Action::SendTick { seq, due: s(due) }
}

/// Polls on time until the peer is down; says when, and all that was to be done.
fn run_until_down(liveness: &mut Liveness, heard: impl Fn(Time) -> (Time, Time)) -> (Time, Vec<Action>) {
    let mut all = Vec::new();
    for _ in 0..1000 {
        let now = liveness.next_deadline();
        let (any, control) = heard(now);
        all.extend(liveness.poll(now, any, control));
        if all.last() == Some(&Action::NodeDown) {
            return (now, all);
        }
    }
    panic!("never down: {all:?}");
}
