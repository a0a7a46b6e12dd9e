//! The rules, one test each. We are `m@host`; `a@host` is a lesser and `z@host` a greater name.

use std::time::Duration;

use teleport_proto::handshake::{ConnectionKind, HandshakeError, Refusal, Request};
use teleport_proto::membership::{
    Action, Backoff, Circumstances, Decision, EndReason, Failure, Membership, Session,
};
use teleport_proto::{Incarnation, NodeName, SessionId, Time};

use crate::{SplitMix, established, secs};

#[test]
fn a_wish_dials_once_and_ends_with_the_session() {
    let mut m = membership();
    assert_eq!(m.want(&name("z")), [dial("z", 1)]);
    assert_eq!(m.want(&name("z")), [], "under way");
    assert_eq!(succeed(&mut m, "z", 1, 1, 0), (true, vec![up("z", 1)]));
    assert_eq!(m.want(&name("z")), [], "there");
    assert_eq!(m.session(&name("z")).map(|session| (session.id, session.we_dialled)), Some((id(1), true)));
    assert_eq!(m.end(id(1), EndReason::Silent), [ended("z", 1, EndReason::Silent)]);
    assert_eq!(m.end(id(1), EndReason::Silent), [], "once");
    assert_eq!((m.session(&name("z")), m.next_deadline()), (None, None));
    assert_eq!(m.want(&name("z")), [dial("z", 2)]);
}

#[test]
fn our_own_name_is_neither_dialled_nor_let_in() {
    let mut m = membership();
    assert_eq!(m.want(&name("m")), []);
    assert_eq!(inbound(&mut m, &new("m", 9, 1, 1)).verdict, Err(Refusal::NameInUse));
}

#[test]
fn failed_dials_are_repeated_after_a_growing_back_off() {
    let mut m = membership();
    let (mut now, mut waits) = (secs(0), Vec::new());
    let mut actions = m.want(&name("z"));
    for number in 1..=10 {
        assert_eq!(actions, [dial("z", number)]);
        m.dial_failed(&name("z"), number, Failure::Other, now, u64::MAX);
        let next = m.next_deadline().unwrap();
        waits.push((next - now).as_millis());
        assert_eq!(m.poll(next - Duration::from_nanos(1), silent), []);
        now = next;
        actions = m.poll(now, silent);
    }
    assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);

    // Back to the start with a session.
    assert_eq!(succeed(&mut m, "z", 11, 1, 0).1, [up("z", 1)]);
    m.end(id(1), EndReason::Disconnected);
    m.want(&name("z"));
    m.dial_failed(&name("z"), 12, Failure::Other, now, u64::MAX);
    assert_eq!(m.next_deadline(), Some(now + Duration::from_millis(50)));
}

#[test]
fn half_of_a_back_off_is_chance() {
    let mut random = SplitMix(1);
    let (mut least, mut most) = (Duration::MAX, Duration::ZERO);
    for _ in 0..1000 {
        let mut m = membership();
        m.want(&name("z"));
        m.dial_failed(&name("z"), 1, Failure::Other, secs(0), random.next());
        let wait = m.next_deadline().unwrap();
        (least, most) = (least.min(wait), most.max(wait));
    }
    assert!(least >= Duration::from_millis(25) && least < Duration::from_millis(26), "{least:?}");
    assert!(most <= Duration::from_millis(50) && most > Duration::from_millis(49), "{most:?}");
}

#[test]
fn a_wish_taken_back_ends_the_dialling() {
    let mut m = membership();
    m.want(&name("z"));
    m.unwant(&name("z"));
    m.dial_failed(&name("z"), 1, Failure::Other, secs(0), 0);
    assert_eq!(m.next_deadline(), None);

    m.want(&name("z"));
    m.dial_failed(&name("z"), 2, Failure::Other, secs(0), 0);
    assert!(m.next_deadline().is_some());
    m.unwant(&name("z"));
    assert_eq!((m.next_deadline(), m.poll(secs(99), silent)), (None, vec![]));
}

#[test]
fn a_failure_that_was_told_is_followed_by_no_dial_and_the_back_off_holds_all_the_same() {
    let mut m = membership();
    m.want(&name("z"));
    m.dial_failed(&name("z"), 1, Failure::Other, secs(0), u64::MAX);
    m.let_rest(&name("z"));
    assert_eq!((m.poll(secs(1), silent), m.next_deadline()), (vec![], None), "nobody wants it");

    m.want(&name("z"));
    m.dial_failed(&name("z"), 2, Failure::Other, secs(1), u64::MAX);
    m.let_rest(&name("z"));
    assert_eq!(m.want(&name("z")), [], "not before its time");
    let next = secs(1) + Duration::from_millis(50);
    assert_eq!(m.next_deadline(), Some(next));
    assert_eq!(m.poll(next, silent), [dial("z", 3)]);
    m.dial_failed(&name("z"), 3, Failure::Other, next, u64::MAX);
    assert_eq!(m.next_deadline(), Some(next + Duration::from_millis(100)), "the second in a row");
}

#[test]
fn who_has_a_pace_of_its_own_waits_for_no_back_off_but_for_a_dial_of_the_peers() {
    let mut m = membership();
    assert_eq!(m.want_at_once(&name("z")), [dial("z", 1)]);
    assert_eq!(m.want_at_once(&name("z")), [], "under way");
    m.dial_failed(&name("z"), 1, Failure::Other, secs(0), 0);
    assert_eq!(m.want_at_once(&name("z")), [dial("z", 2)]);
    m.dial_failed(&name("z"), 2, Failure::Refused(Refusal::Simultaneous), secs(0), 0);
    assert_eq!(m.want_at_once(&name("z")), []);
    assert_eq!(m.poll(Duration::from_millis(500), silent), [dial("z", 3)]);

    let mut m = membership();
    m.want(&name("a"));
    assert_eq!(inbound(&mut m, &new("a", 1, 1, 1)), refused(Refusal::Simultaneous));
    m.dial_failed(&name("a"), 1, Failure::Other, secs(10), 0);
    assert_eq!(m.want_at_once(&name("a")), [], "it is to come");
    m.shut_down();
    assert_eq!((m.want_at_once(&name("z")), m.want_at_once(&name("m"))), (vec![], vec![]));
}

#[test]
fn of_two_crossing_dials_that_of_the_greater_name_counts() {
    // We are the greater one: the lesser waits for us.
    let mut m = membership();
    m.want(&name("a"));
    assert_eq!(inbound(&mut m, &new("a", 1, 1, 1)), refused(Refusal::Simultaneous));
    assert_eq!(succeed(&mut m, "a", 1, 2, 1), (true, vec![up("a", 2)]));

    // We are the lesser one: ours is moot.
    let mut m = membership();
    m.want(&name("z"));
    assert_eq!(inbound(&mut m, &new("z", 1, 1, 1)), accepted(1, vec![up("z", 1)]));
    m.dial_failed(&name("z"), 1, Failure::Refused(Refusal::Simultaneous), secs(0), 0);
    assert_eq!(m.session(&name("z")).map(|session| (session.id, session.we_dialled)), Some((id(1), false)));
    assert_eq!(m.next_deadline(), None);
}

#[test]
fn a_dialler_that_was_refused_for_crossing_dials_again_if_nobody_comes() {
    let mut m = membership();
    m.want(&name("z"));
    m.dial_failed(&name("z"), 1, Failure::Refused(Refusal::Simultaneous), secs(0), 0);
    assert_eq!(m.next_deadline(), Some(Duration::from_millis(500)));
    assert_eq!(m.poll(Duration::from_millis(500), silent), [dial("z", 2)]);
}

#[test]
fn a_crossing_dial_that_fails_leaves_room_for_the_one_it_beat() {
    let mut m = membership();
    m.want(&name("a"));
    assert_eq!(inbound(&mut m, &new("a", 1, 1, 1)), refused(Refusal::Simultaneous));
    m.dial_failed(&name("a"), 1, Failure::Other, secs(10), 0);
    assert_eq!(m.next_deadline(), Some(secs(15)));
    assert_eq!(inbound(&mut m, &new("a", 1, 2, 2)), accepted(1, vec![up("a", 2)]));
}

#[test]
fn a_peer_that_dials_anew_has_given_its_session_up() {
    let mut m = membership();
    assert_eq!(inbound(&mut m, &new("a", 1, 1, 4)), accepted(0, vec![up("a", 1)]));
    m.control_lost(id(1), 0, secs(0));
    let actions = vec![ended("a", 1, EndReason::PeerGaveUp), up("a", 2)];
    assert_eq!(inbound(&mut m, &new("a", 1, 2, 5)), accepted(0, actions));
}

#[test]
fn a_late_dial_from_before_the_session_does_not_replace_it() {
    // The peer dialled us: its earlier dials.
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    assert_eq!(inbound(&mut m, &new("a", 1, 2, 3)), refused(Refusal::Simultaneous));

    // We dialled: those that it had begun by its verdict.
    let mut m = membership();
    m.want(&name("a"));
    assert!(succeed(&mut m, "a", 1, 1, 7).0);
    assert_eq!(inbound(&mut m, &new("a", 1, 2, 7)), refused(Refusal::Simultaneous));
    m.control_lost(id(1), 0, secs(0));
    let actions = vec![ended("a", 1, EndReason::PeerGaveUp), up("a", 2)];
    assert_eq!(inbound(&mut m, &new("a", 1, 2, 8)), accepted(1, actions));
}

#[test]
fn a_late_verdict_counts_if_the_peers_own_dial_was_older() {
    // The peer accepted our dial after it had given up its own, which we had accepted.
    let mut m = membership();
    m.want(&name("z"));
    let _ = inbound(&mut m, &new("z", 1, 1, 4));
    let actions = vec![ended("z", 1, EndReason::PeerGaveUp), up("z", 2)];
    assert_eq!(succeed(&mut m, "z", 1, 2, 4), (true, actions));

    // It accepted ours first, gave that session up, and then dialled.
    let mut m = membership();
    m.want(&name("z"));
    let _ = inbound(&mut m, &new("z", 1, 1, 5));
    assert_eq!(succeed(&mut m, "z", 1, 2, 4), (false, vec![]));
    assert_eq!(m.session(&name("z")).unwrap().id, id(1));
}

#[test]
fn of_our_own_dials_the_newest_counts() {
    let mut m = membership();
    m.want(&name("z"));
    let _ = inbound(&mut m, &new("z", 1, 1, 1));
    m.end(id(1), EndReason::Disconnected);
    m.want(&name("z"));
    assert_eq!(succeed(&mut m, "z", 1, 2, 1), (false, vec![]), "the first, while the second is under way");
    assert_eq!(succeed(&mut m, "z", 2, 3, 1), (true, vec![up("z", 3)]));
    assert_eq!(succeed(&mut m, "z", 1, 2, 1), (false, vec![]), "the first, after the second");
}

#[test]
fn a_proof_from_before_the_session_is_of_no_later_life() {
    for dialled in [false, true] {
        let mut m = membership();
        let asked = m.begun();
        if dialled {
            m.want(&name("a"));
            assert!(succeed(&mut m, "a", 1, 1, 0).0);
        } else {
            let _ = inbound(&mut m, &new("a", 1, 1, 4));
        }
        // Whether or not the session has a connection: somebody who was challenged before it may have been gone by then.
        let late = new("a", 2, 2, 1);
        for linked in [true, false] {
            let circumstances = Circumstances { now: secs(9), asked, linked, room: true };
            assert_eq!(m.inbound(&late, circumstances), refused(Refusal::NameInUse), "not asked");
            m.control_lost(id(1), 0, secs(0));
        }
        assert_eq!((m.next_deadline(), m.session(&name("a")).map(|session| session.id)), (None, Some(id(1))));
        // Challenged anew, it is a later one.
        let (last_dial, actions) = (m.last_dial(), vec![ended("a", 1, EndReason::Restarted), up("a", 3)]);
        assert_eq!(inbound(&mut m, &new("a", 2, 3, 2)), accepted(last_dial, actions));
    }
}

#[test]
fn a_verdict_of_another_life_counts_if_the_session_was_there_before_the_proof() {
    let verdict = |m: &mut Membership, session, asked, linked| {
        let established = established(&new("m", 77, session, 1), &name("z"), life(1), 9);
        let circumstances = Circumstances { now: secs(9), asked, linked, room: true };
        let outcome = m.dial_succeeded(&established, circumstances);
        (outcome.keep, outcome.actions)
    };
    let mut m = membership();
    m.want(&name("z"));
    let before = m.begun();
    let _ = inbound(&mut m, &new("z", 2, 1, 1));
    // What was given the proof before may be an earlier life.
    assert_eq!(verdict(&mut m, 2, before, false), (false, vec![]));
    // What was given it since is a later one, or says so: the session is asked.
    let since = m.begun();
    assert_eq!(verdict(&mut m, 3, since, false), (false, doubted("z", 1).actions));
    m.control_lost(id(1), 0, secs(9));
    assert_eq!(verdict(&mut m, 4, before, false), (false, vec![]));
    assert_eq!((verdict(&mut m, 5, since, true), m.next_deadline()), ((false, vec![]), Some(secs(21))));
    let actions = vec![ended("z", 1, EndReason::Restarted), up("z", 6)];
    assert_eq!(verdict(&mut m, 6, since, false), (true, actions));
}

/// Whether or not this node wants one, and dials for it.
#[test]
fn a_proof_from_before_a_session_that_has_ended_begins_none() {
    for wanted in [false, true] {
        let mut m = membership();
        let before = m.begun();
        let _ = inbound(&mut m, &new("z", 2, 1, 4));
        m.end(id(1), EndReason::PeerShutDown);
        if wanted {
            m.want(&name("z"));
        }
        let at = |asked, second| Circumstances { now: secs(second), asked, linked: false, room: true };
        let late = new("z", 1, 2, 1);
        assert_eq!(
            m.inbound(&late, at(before, 9)),
            refused(Refusal::NameInUse),
            "of an earlier life, perhaps"
        );
        assert_eq!(m.session(&name("z")), None);
        // The same life had the session, and a later one is challenged anew.
        let last_dial = m.last_dial();
        for (request, anew) in [(new("z", 2, 3, 5), false), (new("z", 3, 4, 1), true)] {
            let (session, asked) = (request.session, if anew { m.begun() } else { before });
            let begins = vec![Action::Up { peer: name("z"), session }];
            assert_eq!(m.inbound(&request, at(asked, 9)), accepted(last_dial, begins));
            m.end(session, EndReason::PeerShutDown);
        }
    }
    // No handshake takes that long.
    let mut m = membership();
    let before = m.begun();
    let _ = inbound(&mut m, &new("z", 2, 1, 4));
    m.end(id(1), EndReason::PeerShutDown);
    let after = Circumstances { now: secs(14), asked: before, linked: false, room: true };
    assert_eq!(m.inbound(&new("z", 3, 2, 1), after), accepted(0, vec![up("z", 2)]));
}

#[test]
fn a_verdict_on_a_proof_from_before_a_session_that_has_ended_begins_none() {
    let mut m = membership();
    m.want(&name("z"));
    let before = m.begun();
    let _ = inbound(&mut m, &new("z", 2, 1, 1));
    m.end(id(1), EndReason::PeerShutDown);
    let verdict = |m: &mut Membership, incarnation| {
        let established = established(&new("m", 77, 2, 1), &name("z"), life(incarnation), 9);
        let circumstances = Circumstances { now: secs(9), asked: before, linked: false, room: true };
        let outcome = m.dial_succeeded(&established, circumstances);
        (outcome.keep, outcome.actions)
    };
    assert_eq!(verdict(&mut m, 1), (false, vec![]));
    assert_eq!(verdict(&mut m, 2), (true, vec![up("z", 2)]), "the same life");
}

#[test]
fn another_incarnation_waits_until_the_session_has_been_probed() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    let doubt = doubted("a", 1);
    assert_eq!(inbound(&mut m, &new("a", 2, 2, 1)), doubt);
    assert_eq!(inbound(&mut m, &new("a", 2, 3, 2)), refused(Refusal::NameInUse), "the probe is under way");

    // It lives: the next claimant has it probed again.
    m.probe_answered(id(1));
    assert_eq!(inbound(&mut m, &new("a", 2, 4, 3)), doubt);

    // It does not: the retry gets in.
    assert_eq!(m.end(id(1), EndReason::ProbeUnanswered), [ended("a", 1, EndReason::ProbeUnanswered)]);
    assert_eq!(inbound(&mut m, &new("a", 2, 5, 4)), accepted(0, vec![up("a", 5)]));
}

#[test]
fn a_copied_incarnation_waits_until_the_session_has_been_probed() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    for dial in [5, 6, 1 << 19, u64::MAX] {
        assert_eq!(inbound(&mut m, &new("a", 1, 2, dial)), doubted("a", 1), "{dial}");
        assert_eq!(
            inbound(&mut m, &new("a", 1, 2, dial)),
            refused(Refusal::NameInUse),
            "the probe is under way"
        );
        m.probe_answered(id(1));
    }
    // It does not answer: the retry gets in, whatever its number.
    assert_eq!(inbound(&mut m, &new("a", 1, 2, u64::MAX)), doubted("a", 1));
    assert_eq!(m.end(id(1), EndReason::ProbeUnanswered), [ended("a", 1, EndReason::ProbeUnanswered)]);
    assert_eq!(inbound(&mut m, &new("a", 1, 2, u64::MAX)), accepted(0, vec![up("a", 2)]));
}

#[test]
fn a_session_whose_pool_lives_has_time_to_resume_before_it_is_replaced() {
    // The same life, and another one.
    for life in [1, 2] {
        let mut m = membership();
        let _ = inbound(&mut m, &new("a", 1, 1, 4));
        m.control_lost(id(1), 0, secs(0));
        let claim = new("a", life, 2, 5);
        assert_eq!(inbound_at(&mut m, &claim, 10, true), refused(Refusal::NameInUse));
        assert_eq!(m.next_deadline(), Some(secs(10 + 5 + 7)), "as long as a back-off and an attempt");
        assert_eq!(inbound_at(&mut m, &claim, 11, true), refused(Refusal::NameInUse), "no later than that");
        assert_eq!(m.poll(secs(11), silent), []);

        // It resumes: it is asked over its control connection, from now on.
        assert!(inbound(&mut m, &join(ConnectionKind::Resume, "a", 1, 1, 1)).verdict.is_ok());
        assert_eq!((m.next_deadline(), m.poll(secs(99), silent)), (None, vec![]));
        assert_eq!(inbound_at(&mut m, &claim, 20, true), doubted("a", 1));

        // It does not, and is lost with the probe: nobody has to claim it again.
        m.control_lost(id(1), 1, secs(30));
        assert_eq!(m.next_deadline(), Some(secs(42)));
        assert_eq!(inbound_at(&mut m, &claim, 31, true), refused(Refusal::NameInUse));
        assert_eq!(m.poll(secs(41), silent), []);
        assert_eq!(m.poll(secs(42), silent), [ended("a", 1, EndReason::ProbeUnanswered)]);
        assert_eq!(inbound_at(&mut m, &claim, 42, true), accepted(0, vec![up("a", 2)]));
    }
}

#[test]
fn a_session_that_we_dialled_is_resumed_or_ended_when_its_peer_is_claimed() {
    let mut m = dialled();
    assert_eq!(m.control_lost(id(1), 0, secs(0)), [resume("z", 1, 1)]);
    assert_eq!(inbound_at(&mut m, &new("z", 1, 2, 5), 1, true), refused(Refusal::NameInUse));
    assert!(m.resume_succeeded(id(1), 1).keep);
    assert_eq!(m.poll(secs(99), silent), []);
    m.control_lost(id(1), 1, secs(0));
    assert_eq!(inbound_at(&mut m, &new("z", 1, 2, 5), 100, true), refused(Refusal::NameInUse));
    m.resume_failed(id(1), 2, Failure::Other, secs(107), 0);
    assert_eq!(m.poll(secs(108), silent), [resume("z", 1, 3)]);
    assert_eq!(m.poll(secs(112), silent), [ended("z", 1, EndReason::ProbeUnanswered)]);
}

#[test]
fn a_doubt_brings_a_waiting_resume_forward_once() {
    let mut m = dialled();
    assert_eq!(m.control_lost(id(1), 0, secs(0)), [resume("z", 1, 1)]);
    for generation in 1..20 {
        m.resume_failed(id(1), generation, Failure::Other, secs(10), u64::MAX);
        assert_eq!(m.poll(secs(20), silent), [resume("z", 1, generation + 1)]);
    }
    m.resume_failed(id(1), 20, Failure::Other, secs(20), u64::MAX);
    assert_eq!(m.next_deadline(), Some(secs(25)));
    let claim = inbound_at(&mut m, &new("z", 1, 2, 5), 21, true);
    assert_eq!(claim, Decision { verdict: Err(Refusal::NameInUse), actions: vec![resume("z", 1, 21)] });
    // It fails at once: the back-off begins anew, and further claims do not hurry it.
    m.resume_failed(id(1), 21, Failure::Other, secs(21), u64::MAX);
    assert_eq!(inbound_at(&mut m, &new("z", 1, 3, 6), 21, true), refused(Refusal::NameInUse));
    assert_eq!(m.next_deadline(), Some(secs(21) + Backoff::default().first));
}

#[test]
fn a_session_is_not_ended_for_a_claim_while_its_pool_is_heard() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    m.control_lost(id(1), 0, secs(0));
    assert_eq!(inbound_at(&mut m, &new("a", 1, 2, 5), 10, true), refused(Refusal::NameInUse));
    for at in [22, 34, 46] {
        assert_eq!(m.poll(secs(at), |_| Some(secs(at - 1))), []);
        assert_eq!(m.next_deadline(), Some(secs(at + 12)));
    }
    // It has been silent since.
    assert_eq!(m.poll(secs(58), |_| Some(secs(46))), [ended("a", 1, EndReason::ProbeUnanswered)]);
}

#[test]
fn dial_numbers_that_jump_replace_nothing_at_once() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    m.control_lost(id(1), 0, secs(0));
    let jump = new("a", 1, 2, 4 + (1 << 20) + 1);
    assert_eq!(inbound(&mut m, &jump), refused(Refusal::NameInUse));
    // The peer itself gets in all the same.
    let actions = vec![ended("a", 1, EndReason::PeerGaveUp), up("a", 3)];
    assert_eq!(inbound(&mut m, &new("a", 1, 3, 4 + (1 << 20))), accepted(0, actions));
}

#[test]
fn another_incarnation_gets_in_at_once_if_control_is_down() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    assert_eq!(m.control_lost(id(1), 0, secs(0)), []);
    let actions = vec![ended("a", 1, EndReason::Restarted), up("a", 2)];
    assert_eq!(inbound(&mut m, &new("a", 2, 2, 1)), accepted(0, actions));
}

#[test]
fn the_dialler_resumes_with_ever_greater_generations() {
    let mut m = dialled();
    assert_eq!(m.control_lost(id(1), 0, secs(0)), [resume("z", 1, 1)]);
    assert_eq!(m.control_lost(id(1), 0, secs(0)), [], "once");
    assert_eq!(m.resume_failed(id(1), 1, Failure::Other, secs(0), u64::MAX), []);
    assert_eq!(m.next_deadline(), Some(Duration::from_millis(50)));
    assert_eq!(m.poll(Duration::from_millis(50), silent), [resume("z", 1, 2)]);
    assert!(!m.resume_succeeded(id(1), 1).keep, "it had failed");
    assert!(m.resume_succeeded(id(1), 2).keep);
    assert_eq!(m.session(&name("z")), Some(Session { generation: 2, ..session_dialled() }));

    // News of the connections before it changes nothing; its own loss does.
    assert_eq!(m.control_lost(id(1), 0, secs(0)), []);
    assert_eq!(m.control_lost(id(1), 2, secs(0)), [resume("z", 1, 3)]);
}

#[test]
fn a_peer_that_does_not_know_the_session_has_given_it_up() {
    let mut m = dialled();
    m.control_lost(id(1), 0, secs(0));
    let actions = m.resume_failed(id(1), 1, Failure::Refused(Refusal::UnknownSession), secs(0), 0);
    assert_eq!(actions, [ended("z", 1, EndReason::PeerGaveUp)]);
    assert_eq!(m.next_deadline(), None);
}

#[test]
fn what_is_said_without_a_proof_ends_a_session_when_it_is_said_again() {
    let unproved = Failure::from(&HandshakeError::UnknownSession { peer: name("z"), session: id(1) });
    let mut m = dialled();
    m.control_lost(id(1), 0, secs(0));
    let mut generation = 0;
    let mut fails = |failure| {
        generation += 1;
        let actions = m.resume_failed(id(1), generation, failure, secs(generation), 0);
        m.poll(secs(generation + 10), silent);
        actions
    };
    assert_eq!(fails(unproved), []);
    assert_eq!(fails(Failure::Other), [], "something else was said meanwhile");
    assert_eq!(fails(unproved), []);
    assert_eq!(fails(unproved), [ended("z", 1, EndReason::PeerGaveUp)]);
}

#[test]
fn a_resume_of_a_session_that_has_ended_meanwhile_is_not_kept() {
    let mut m = dialled();
    m.control_lost(id(1), 0, secs(0));
    m.end(id(1), EndReason::Silent);
    assert!(!m.resume_succeeded(id(1), 1).keep);
    assert_eq!(m.resume_failed(id(1), 1, Failure::Other, secs(0), 0), []);
}

#[test]
fn the_acceptor_takes_resumes_of_greater_generations_only() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    // Control need not be known to be lost.
    assert_eq!(inbound(&mut m, &join(ConnectionKind::Resume, "a", 1, 1, 2)), accepted(0, vec![]));
    for stale in [0, 1, 2] {
        let late = join(ConnectionKind::Resume, "a", 1, 1, stale);
        assert_eq!(inbound(&mut m, &late), refused(Refusal::StaleResume), "{stale}");
    }
    assert_eq!(m.control_lost(id(1), 0, secs(0)), [], "the one that was replaced");
    assert!(m.session(&name("a")).unwrap().control_connected);
    assert_eq!(m.control_lost(id(1), 2, secs(0)), [], "the dialler comes back, we wait");
    assert!(!m.session(&name("a")).unwrap().control_connected);
    assert_eq!(inbound(&mut m, &join(ConnectionKind::Resume, "a", 1, 1, 3)), accepted(0, vec![]));
    assert!(m.session(&name("a")).unwrap().control_connected);
}

#[test]
fn only_the_sessions_dialler_joins_it_and_only_under_its_own_name() {
    for kind in [ConnectionKind::Resume, ConnectionKind::Express, ConnectionKind::Bulk] {
        let mut m = membership();
        let _ = inbound(&mut m, &new("a", 1, 1, 4));
        let unknown = refused(Refusal::UnknownSession);
        assert_eq!(inbound(&mut m, &join(kind, "b", 1, 1, 1)), unknown, "another node");
        assert_eq!(inbound(&mut m, &join(kind, "a", 2, 1, 1)), unknown, "another incarnation");
        assert_eq!(inbound(&mut m, &join(kind, "a", 1, 2, 1)), unknown, "another session");
        assert_eq!(inbound(&mut m, &join(kind, "a", 1, 1, 1)), accepted(0, vec![]));
        m.end(id(1), EndReason::Silent);
        assert_eq!(inbound(&mut m, &join(kind, "a", 1, 1, 2)), unknown, "an ended session");

        let mut m = dialled();
        assert_eq!(inbound(&mut m, &join(kind, "z", 1, 1, 1)), unknown, "the side that was dialled");
    }
}

#[test]
fn the_id_of_a_pool_connection_is_taken_once() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    let mut take = |connection| inbound(&mut m, &join(ConnectionKind::Bulk, "a", 1, 1, connection)).verdict;
    for connection in [5, 1, 3, 200, 100, 73, 10_000, u64::MAX] {
        assert_eq!(take(connection), Ok(0), "{connection}");
        assert_eq!(take(connection), Err(Refusal::ConnectionIdUsed), "{connection}");
    }
    for old in [0, 1, 2, 200, 9_999, u64::MAX - 128] {
        assert_eq!(take(old), Err(Refusal::ConnectionIdUsed), "{old}");
    }
    assert_eq!(take(u64::MAX - 127), Ok(0));
}

#[test]
fn without_room_others_begin_no_session_and_what_stands_stays() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    let asked = m.begun();
    let full = Circumstances { now: secs(0), asked, linked: false, room: false };
    assert_eq!(m.inbound(&new("b", 1, 2, 1), full), refused(Refusal::TooManySessions));
    for request in [join(ConnectionKind::Bulk, "a", 1, 1, 1), join(ConnectionKind::Resume, "a", 1, 1, 1)] {
        assert!(m.inbound(&request, full).verdict.is_ok(), "{request:?}");
    }
    // The next session of a peer takes the place of its last one.
    m.control_lost(id(1), 1, secs(0));
    let actions = vec![ended("a", 1, EndReason::PeerGaveUp), up("a", 3)];
    assert_eq!(m.inbound(&new("a", 1, 3, 5), full), accepted(0, actions));
    // We dial whom we want.
    assert_eq!(m.want(&name("z")), [dial("z", 1)]);
    assert_eq!(succeed(&mut m, "z", 1, 4, 0), (true, vec![up("z", 4)]));
}

#[test]
fn nothing_begins_while_shutting_down() {
    let mut m = membership();
    m.want(&name("z"));
    m.want(&name("y"));
    m.dial_failed(&name("y"), 2, Failure::Other, secs(0), 0);
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    m.shut_down();
    assert_eq!(m.want(&name("b")), []);
    assert_eq!((m.next_deadline(), m.poll(secs(99), silent)), (None, vec![]));
    assert_eq!(succeed(&mut m, "z", 1, 2, 0), (false, vec![]));
    assert_eq!(inbound(&mut m, &new("c", 1, 3, 1)), refused(Refusal::ShuttingDown));
    assert_eq!(m.sessions().map(|(peer, _)| peer.clone()).collect::<Vec<_>>(), [name("a")]);
    assert_eq!(m.end(id(1), EndReason::Disconnected), [ended("a", 1, EndReason::Disconnected)]);
}

#[test]
fn a_living_session_gets_connections_while_shutting_down() {
    let mut m = membership();
    let _ = inbound(&mut m, &new("a", 1, 1, 4));
    m.shut_down();
    for request in [join(ConnectionKind::Bulk, "a", 1, 1, 1), join(ConnectionKind::Resume, "a", 1, 1, 1)] {
        assert!(inbound(&mut m, &request).verdict.is_ok(), "{request:?}");
    }
}

/// No pool connection of any session lives.
fn silent(_: SessionId) -> Option<Time> {
    None
}

fn membership() -> Membership {
    Membership::new(name("m"), Backoff::default(), secs(7))
}

/// With session 1, which we dialled to z.
fn dialled() -> Membership {
    let mut m = membership();
    m.want(&name("z"));
    assert!(succeed(&mut m, "z", 1, 1, 0).0);
    assert_eq!(m.session(&name("z")), Some(session_dialled()));
    m
}

fn session_dialled() -> Session {
    Session { id: id(1), incarnation: life(1), we_dialled: true, control_connected: true, generation: 0 }
}

/// The verdict on our dial, by incarnation 1 of the peer, for a proof that was given just now.
fn succeed(m: &mut Membership, peer: &str, number: u64, session: u8, last_dial: u64) -> (bool, Vec<Action>) {
    let request = new("m", 77, session, number);
    let circumstances = Circumstances { now: secs(0), asked: m.begun(), linked: false, room: true };
    let outcome = m.dial_succeeded(&established(&request, &name(peer), life(1), last_dial), circumstances);
    (outcome.keep, outcome.actions)
}

/// A connection comes at the start of time, challenged just now; no pool connection lives.
fn inbound(m: &mut Membership, request: &Request) -> Decision {
    inbound_at(m, request, 0, false)
}

fn inbound_at(m: &mut Membership, request: &Request, second: u64, linked: bool) -> Decision {
    let asked = m.begun();
    m.inbound(request, Circumstances { now: secs(second), asked, linked, room: true })
}

fn new(peer: &str, incarnation: u32, session: u8, dial: u64) -> Request {
    join(ConnectionKind::NewSession, peer, incarnation, session, dial)
}

fn join(kind: ConnectionKind, peer: &str, incarnation: u32, session: u8, connection: u64) -> Request {
    Request { peer: name(peer), peer_incarnation: life(incarnation), kind, session: id(session), connection }
}

fn accepted(last_dial: u64, actions: Vec<Action>) -> Decision {
    Decision { verdict: Ok(last_dial), actions }
}

/// A claim that has to wait until the session has been asked.
fn doubted(peer: &str, session: u8) -> Decision {
    let probe = Action::Probe { peer: name(peer), session: id(session) };
    Decision { verdict: Err(Refusal::NameInUse), actions: vec![probe] }
}

fn refused(refusal: Refusal) -> Decision {
    Decision { verdict: Err(refusal), actions: Vec::new() }
}

fn dial(peer: &str, number: u64) -> Action {
    Action::Dial { peer: name(peer), number }
}

fn resume(peer: &str, session: u8, generation: u64) -> Action {
    Action::Resume { peer: name(peer), session: id(session), generation }
}

fn up(peer: &str, session: u8) -> Action {
    Action::Up { peer: name(peer), session: id(session) }
}

fn ended(peer: &str, session: u8, reason: EndReason) -> Action {
    Action::Ended { peer: name(peer), session: id(session), reason }
}

fn name(name: &str) -> NodeName {
    format!("{name}@host").parse().unwrap()
}

fn life(number: u32) -> Incarnation {
    Incarnation::new(number).unwrap()
}

fn id(number: u8) -> SessionId {
    SessionId::new([number; 16]).unwrap()
}
