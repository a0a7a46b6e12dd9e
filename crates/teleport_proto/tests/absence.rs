//! Absence in virtual time.

use std::time::Duration;

use teleport_proto::Time;
use teleport_proto::absence::Absence;

#[test]
fn a_peer_is_gone_after_a_whole_interval_of_refusals() {
    let mut absence = Absence::default();
    let attempts = [0, 50, 150, 350, 750, 1_550, 3_150, 6_350, 11_350].map(ms);
    for at in attempts {
        assert!(!absence.refused(s(100) + at, s(99), false, s(15)), "{at:?}");
    }
    assert!(!absence.refused(s(115) - ms(1), s(99), false, s(15)));
    assert!(absence.refused(s(115), s(99), false, s(15)));
}

#[test]
fn any_sign_of_life_begins_it_anew() {
    type Sign = fn(&mut Absence, Time) -> bool;
    let signs: [(&str, Sign); 3] = [
        ("a byte", |absence, now| absence.refused(now, now - ms(1), false, s(15))),
        ("a connection that lives", |absence, now| absence.refused(now, s(0), true, s(15))),
        ("a connection that came and went, or an attempt that was not refused", |absence, _| {
            absence.alive();
            false
        }),
    ];
    for (what, sign) in signs {
        let mut absence = Absence::default();
        for second in 100..115 {
            assert!(!absence.refused(s(second), s(0), false, s(15)));
        }
        assert!(!sign(&mut absence, s(115)), "{what}");
        let heard = s(115) - ms(1);
        for second in 116..130 {
            assert!(!absence.refused(s(second), heard, false, s(15)), "{what}, {second}");
        }
        assert!(absence.refused(s(131), heard, false, s(15)), "{what}");
    }
}

#[test]
fn an_observer_that_was_stopped_does_not_hold_it_against_the_peer() {
    let mut absence = Absence::default();
    assert!(!absence.refused(s(100), s(0), false, s(15)));
    assert!(!absence.refused(s(1_000), s(0), false, s(15)), "two attempts, whatever was between them");
    assert!(!absence.refused(s(1_005), s(0), false, s(15)));
    assert!(absence.refused(s(1_008), s(0), false, s(15)));
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
