//! Membership: its rules one by one, and all of them against a network that loses and delays.

#![allow(clippy::unwrap_used)]

mod impostor;
mod model;
mod rules;

use std::num::NonZeroU64;
use std::time::Duration;

use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, Claim, Cookie, Dialler, Established, Limits, LocalNode, NONCE_LEN,
    Opening, Request,
};
use teleport_proto::{Incarnation, NodeName};

/// The dialler's end of a handshake between the two, which has its numbers from the real frames.
pub(crate) fn established(
    request: &Request,
    acceptor: &NodeName,
    life: Incarnation,
    last_dial: u64,
) -> Established {
    let limits = Limits { max_message: NonZeroU64::MIN, peer_window: NonZeroU64::MIN, mailbox_window: None };
    let node =
        |name: &NodeName, incarnation| LocalNode { name: name.clone(), incarnation, features: 0, limits };
    let cookie = Cookie::new(b"the same on both").unwrap();
    let opening = Opening::NewSession { cookie: cookie.clone(), dial: request.connection };
    let dialler = node(&request.peer, request.peer_incarnation);
    let (dialler, hello) = Dialler::new(&dialler, acceptor, opening, &[], [0; NONCE_LEN]).unwrap();
    let mut random = [0; ACCEPTOR_RANDOM_LEN];
    random[32..48].copy_from_slice(request.session.as_bytes());
    let Claim::New(claim) = Acceptor::new(&node(acceptor, life), &[], random).hello(&hello).unwrap() else {
        panic!("not a new session")
    };
    let (acceptor, challenge) = claim.challenge(Some(&cookie));
    let (dialler, proof) = dialler.challenge(&challenge).unwrap();
    let authenticated = acceptor.proof(&proof).unwrap();
    assert_eq!(authenticated.request(), request);
    dialler.verdict(&authenticated.accept(last_dial).0).unwrap()
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.next() as usize % length
    }
}
