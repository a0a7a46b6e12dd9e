//! A holder of the cookie that claims to be another node, with that node's incarnation, which is no secret.

use std::panic::catch_unwind;

use teleport_proto::Faults;
use teleport_proto::handshake::{ConnectionKind, Request};
use teleport_proto::membership::EndReason;

use crate::model::{Losses, Wire, World};
use crate::secs;

const SEEDS: u64 = 500;

/// Claims to a node that it is another one, by a dial of that number.
fn claim(world: &mut World, at: usize, whom: usize, number: u64) {
    let session = world.new_session();
    let request = Request {
        peer: world.nodes[whom].name.clone(),
        peer_incarnation: world.nodes[whom].incarnation,
        kind: ConnectionKind::NewSession,
        session,
        connection: number,
    };
    let asked = world.nodes[at].membership.begun();
    let decision = world.inbound(at, &request, asked);
    if decision.verdict.is_ok() {
        world.impostors.insert(session);
    }
    world.act(at, decision.actions);
}

/// Nodes whose control connections are cut now and then, and one that claims to be either of them all the while.
fn besieged(seed: u64, resumes_fail: bool, prepare: impl Fn(&mut World)) {
    let mut world = World::new(seed, 2, Losses::NONE);
    world.pools = true;
    prepare(&mut world);
    world.everybody_wants();
    world.run(|_| {});
    for _ in 0..300 {
        let at = world.random.index(2);
        let above = [1, 2, 1 << 19, 1 << 21, 1 << 40, u64::MAX / 2][world.random.index(6)];
        let number = world.nodes[1 - at].membership.last_dial() + above;
        claim(&mut world, at, 1 - at, number);
        if world.random.below(8) == 0 {
            let open: Vec<Wire> = world.wires.keys().copied().collect();
            if !open.is_empty() && resumes_fail {
                // Together they take less than the liveness deadline.
                world.failing_resumes = world.random.below(4);
            }
            open.into_iter().for_each(|wire| world.cut(wire));
        }
        for _ in 0..world.random.below(4) {
            world.step();
        }
    }
    world.run(|_| {});
    assert_eq!(world.ended, 0, "seed {seed}: a claim has ended the session of a peer that lives");
    world.assert_settled();
}

#[test]
fn an_impostor_ends_no_session_whose_peer_lives() {
    for seed in 0..SEEDS {
        besieged(seed, false, |_| {});
        besieged(seed, true, |_| {});
    }
}

#[test]
fn believing_a_larger_dial_number_is_caught() {
    let faults = Faults { trust_claims: true, ..Faults::default() };
    let trusting = |world: &mut World| world.nodes.iter_mut().for_each(|node| node.membership.plant(faults));
    let caught = (0..20).any(|seed| catch_unwind(|| besieged(seed, false, trusting)).is_err());
    assert!(caught, "the fault was not noticed");
}

#[test]
fn ending_a_doubted_session_whose_pool_lives_is_caught() {
    let faults = Faults { impatient: true, ..Faults::default() };
    let hurried = |world: &mut World| world.nodes.iter_mut().for_each(|node| node.membership.plant(faults));
    let caught = (0..20).any(|seed| catch_unwind(|| besieged(seed, true, hurried)).is_err());
    assert!(caught, "the fault was not noticed");
}

#[test]
fn a_peer_that_has_given_its_session_up_gets_in_within_seconds() {
    for seed in 0..SEEDS {
        for half_open in [false, true] {
            let mut world = World::new(seed, 2, Losses::NONE);
            world.everybody_wants();
            world.run(|_| {});
            // It ends the session, and the other side may never learn that its connections are gone.
            let gives_up = world.random.index(2);
            let peer = world.nodes[1 - gives_up].name.clone();
            let session = world.nodes[gives_up].membership.session(&peer).unwrap().id;
            world.half_open = half_open;
            let actions = world.nodes[gives_up].membership.end(session, EndReason::Silent);
            world.act(gives_up, actions);
            if world.random.below(2) == 0 {
                // It has dialled others since, for days.
                for _ in 0..3 {
                    let other = format!("other{}@host", world.random.next()).parse().unwrap();
                    let _unheard = world.nodes[gives_up].membership.want(&other);
                }
            }
            let begin = world.now;
            world.run(|world| {
                let actions = world.nodes[gives_up].membership.want(&peer);
                world.act(gives_up, actions);
            });
            world.half_open = false;
            world.assert_settled();
            assert!(world.now - begin < secs(8), "seed {seed}, {half_open}: {:?}", world.now - begin);
        }
    }
}
