//! Ledgers with faults in them: each has to show, and what a session's end explains must not.

use super::super::ledger::{Down, Taken};
use super::*;

const OF_SENDER: u32 = 100;
const OF_RECEIVER: u32 = 200;

/// Node 0, whose sender 0 has had that many accepted by inbox 0 of node 1.
fn sender(accepted: u64, marks: &[(u64, u64)], unconfirmed: &[u64]) -> Life {
    let mark = |&(low, high)| Mark { incarnation: Some(OF_RECEIVER), low, high };
    let sent = Sent {
        node: 1,
        accepted,
        settled: accepted,
        marks: marks.iter().map(mark).collect(),
        ..Sent::default()
    };
    let down = |&unconfirmed| Down { node: 1, incarnation: OF_RECEIVER, unconfirmed };
    let downs = unconfirmed.iter().map(down).collect();
    let account = Account { incarnation: OF_SENDER, sent: vec![sent], downs, ..Account::default() };
    Life { node: 0, life: 0, end: End::Runs, account: Some(account) }
}

/// A life of node 1 whose inbox 0 has taken these.
fn receiver(life: u32, numbers: impl IntoIterator<Item = u64>) -> Life {
    let mut seen = Seen::default();
    numbers.into_iter().for_each(|number| seen.record(number));
    let taken = vec![Taken { seen, ..Taken::default() }];
    let account = Account { incarnation: OF_RECEIVER + life, taken, ..Account::default() };
    Life { node: 1, life, end: End::Runs, account: Some(account) }
}

fn killed(life: Life) -> Life {
    Life { end: End::Killed, ..life }
}

fn totals(lives: &[Life]) -> Totals {
    Reckoning::of(lives).totals
}

#[test]
fn all_that_was_accepted_has_come() {
    let reckoning = Reckoning::of(&[sender(9, &[], &[]), receiver(0, 1..=9)]);
    assert_eq!(reckoning.totals, Totals { messages: 9, delivered: 9, ..Totals::default() });
    assert!(reckoning.complaints.is_empty() && reckoning.excused.is_empty());
}

#[test]
fn what_is_missing_while_the_session_stands_is_lost() {
    for (numbers, lost) in [(vec![1, 2, 4, 5], 1), (vec![3, 4, 5], 2), (vec![1, 2, 3], 2), (vec![], 5)] {
        let reckoning = Reckoning::of(&[sender(5, &[], &[]), receiver(0, numbers)]);
        assert_eq!((reckoning.totals.lost, reckoning.totals.unconfirmed), (lost, 0));
        assert_eq!(reckoning.totals.delivered, 5 - lost);
        assert!(reckoning.complaints[0].contains("lost"), "{:?}", reckoning.complaints);
    }
}

#[test]
fn what_is_missing_where_a_session_ended_is_unconfirmed() {
    let reckoning = Reckoning::of(&[sender(9, &[(3, 6)], &[2]), receiver(0, [1, 2, 3, 6, 7, 8, 9])]);
    assert_eq!(reckoning.totals, Totals { messages: 9, delivered: 7, unconfirmed: 2, ..Totals::default() });
    assert_eq!(reckoning.excused, [Excused::new((0, 0, 0, 1, 0), (4, 5))]);
}

#[test]
fn an_end_excuses_one_gap_and_only_where_it_was() {
    let of =
        |marks: &[(u64, u64)]| totals(&[sender(9, marks, &[9]), receiver(0, [1, 2, 4, 6, 7, 8, 9])]).lost;
    assert_eq!(of(&[(3, 5)]), 1, "one of two");
    assert_eq!(of(&[(3, 5), (3, 3)]), 0, "one each, whichever is taken first");
    assert_eq!(of(&[(6, 9), (1, 2)]), 2, "neither is where they are");
    let mut other = sender(9, &[(3, 5), (3, 5)], &[9]);
    other.account.as_mut().unwrap().sent[0].marks[0].incarnation = Some(7);
    assert_eq!(totals(&[other, receiver(0, [1, 2, 4, 6, 7, 8, 9])]).lost, 1, "another life's session");
}

#[test]
fn what_was_not_reported_is_lost_though_a_session_ended() {
    let of = |unconfirmed: &[u64]| {
        let reckoning =
            Reckoning::of(&[sender(9, &[(3, 6)], unconfirmed), receiver(0, [1, 2, 3, 6, 7, 8, 9])]);
        (reckoning.totals.lost, reckoning.totals.unconfirmed)
    };
    assert_eq!(of(&[2]), (0, 2));
    assert_eq!(of(&[1]), (1, 1));
    assert_eq!(of(&[1, 1]), (0, 2));
}

#[test]
fn what_was_confirmed_is_lost_though_a_session_ended() {
    let mut reckoning = Reckoning::of(&[sender(9, &[(3, 6)], &[2]), receiver(0, [1, 2, 3, 6, 7, 8, 9])]);
    let excused = reckoning.excused[0];
    reckoning.confirmed(&excused, 0);
    assert_eq!(reckoning.totals.lost, 0);
    reckoning.confirmed(&excused, 1);
    assert_eq!((reckoning.totals.lost, reckoning.totals.unconfirmed), (1, 1));
}

#[test]
fn doubles_and_disorder_are_counted_also_across_lives() {
    let again = totals(&[sender(3, &[], &[]), receiver(0, [1, 2, 2, 3])]);
    assert_eq!((again.doubled, again.reordered, again.delivered), (1, 0, 3));
    let late = totals(&[sender(3, &[], &[]), receiver(0, [1, 3, 2])]);
    assert_eq!((late.doubled, late.reordered, late.lost), (0, 1, 0));
    let lives = [sender(5, &[(0, 9)], &[9]), killed(receiver(0, 1..=4)), receiver(1, 4..=5)];
    assert_eq!(totals(&lives).doubled, 1);
    assert_eq!(totals(&[sender(3, &[], &[]), receiver(0, 1..=4)]).doubled, 1, "nobody has sent the fourth");
}

#[test]
fn what_a_killed_life_took_at_last_is_unknown_and_what_it_told_before_is_not() {
    // It told that it had 1 to 4, and may have taken 5 and 6.
    let all_told = totals(&[sender(9, &[(4, 7)], &[3]), killed(receiver(0, 1..=4)), receiver(1, 7..=9)]);
    assert_eq!(all_told, Totals { messages: 9, delivered: 7, unconfirmed: 2, ..Totals::default() });
    let with_a_hole = [sender(9, &[(4, 7)], &[3]), killed(receiver(0, [1, 3, 4])), receiver(1, 7..=9)];
    assert_eq!(totals(&with_a_hole).lost, 1);
    let nobody_came_back = [sender(9, &[(4, 7)], &[3]), killed(receiver(0, 1..=4))];
    assert_eq!(totals(&nobody_came_back).unconfirmed, 5);
}

#[test]
fn what_went_to_a_killed_life_is_not_asked_of_the_next_one() {
    // The sender has seen the end of the first life at 6, and nothing of it has come to the second.
    let lives = |accepted| {
        let sender = Life { end: End::Left(vec![]), ..sender(accepted, &[(4, 6)], &[3]) };
        [sender, killed(receiver(0, 1..=4)), receiver(1, [])]
    };
    assert_eq!((totals(&lives(6)).unconfirmed, totals(&lives(6)).lost), (2, 0));
    assert_eq!((totals(&lives(9)).unconfirmed, totals(&lives(9)).lost), (2, 3));
}

#[test]
fn what_a_killed_life_sent_at_last_is_unknown_and_what_it_told_before_is_not() {
    let of = |numbers: &[u64]| totals(&[killed(sender(5, &[], &[])), receiver(0, numbers.iter().copied())]);
    assert_eq!(of(&[1, 2, 3, 4, 5, 6, 7]).messages, 7, "what has come was accepted");
    assert_eq!((of(&[1, 2, 3, 4, 5, 8]).lost, of(&[1, 2, 3, 4, 5, 8]).unconfirmed), (0, 2));
    assert_eq!((of(&[1, 2, 3]).lost, of(&[1, 2, 3]).unconfirmed), (0, 2));
    assert_eq!(of(&[1, 3, 4, 5, 6]).lost, 1, "long before");
    let never_told = Life { node: 0, life: 0, end: End::Killed, account: None };
    assert_eq!(totals(&[never_told, receiver(0, [2, 3])]).unconfirmed, 1);
}

#[test]
fn a_life_that_left_in_order_has_said_what_is_unconfirmed() {
    let left = |unconfirmed: Vec<(u16, u64)>| Life { end: End::Left(unconfirmed), ..sender(5, &[], &[]) };
    assert_eq!(totals(&[left(vec![]), receiver(0, 1..=3)]).lost, 2);
    assert_eq!(totals(&[left(vec![(2, 2)]), receiver(0, 1..=3)]).lost, 2, "of another node");
    assert_eq!(totals(&[left(vec![(1, 2)]), receiver(0, 1..=4)]).lost, 0);
    assert_eq!(totals(&[left(vec![(1, 1)]), receiver(0, 1..=3)]).lost, 1, "one was not reported");
}
