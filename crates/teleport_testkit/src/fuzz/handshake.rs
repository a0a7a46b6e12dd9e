//! One frame of a handshake replaced by any bytes.

use std::num::NonZeroU64;

use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, CHALLENGE_LEN, Claim, Cookie, Dialler, Established, Limits, LocalNode,
    NONCE_LEN, Opening, PROOF_LEN, VERDICT_LEN, check_first_bytes,
};
use teleport_proto::{Incarnation, NodeName};

/// The first byte chooses the frame and what is dialled for; the others are the frame. Only the frame that would have been there
/// passes.
pub fn handshake(bytes: &[u8]) -> bool {
    let Some((&choice, frame)) = bytes.split_first() else { return false };
    let (at, opening) = (usize::from(choice % 4), openings().swap_remove(usize::from(choice / 4 % 4)));
    let honest = run(&opening, |_, _| {}).frames.swap_remove(at);
    let changed = run(&opening, |frame_at, bytes| {
        if frame_at == at {
            bytes.clear();
            bytes.extend_from_slice(frame);
        }
    });
    let same = honest == frame;
    assert_eq!(changed.dialler.is_some(), same, "the dialler, of frame {at}");
    // The acceptor has said yes before its verdict is changed on the way.
    assert_eq!(changed.acceptor.is_some(), same || at == 3, "the acceptor, of frame {at}");
    let prefixes = (0..frame.len().min(16)).map(|end| check_first_bytes(&frame[..end]));
    assert!(!same || prefixes.into_iter().all(|checked| checked.is_ok()));
    same
}

/// Every frame of every kind of connection, each behind the byte that chooses it.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (kind, opening) in openings().iter().enumerate() {
        for (at, frame) in run(opening, |_, _| {}).frames.into_iter().enumerate() {
            all.push([&[(4 * kind + at) as u8], &frame[..]].concat());
        }
    }
    all
}

/// A new session, and what joins it.
fn openings() -> Vec<Opening> {
    let new = Opening::NewSession { cookie: cookie(), dial: 7 };
    let Some(Established { session, key, .. }) = run(&new, |_, _| {}).dialler else { return vec![new; 4] };
    let resume = Opening::Resume { session, key: key.clone(), generation: 3 };
    let express = Opening::Express { session, key: key.clone(), connection: 3 };
    vec![new, resume, express, Opening::Bulk { session, key, connection: 4 }]
}

/// What became of both sides, and every frame before it was changed.
#[derive(Default)]
struct Ends {
    dialler: Option<Established>,
    acceptor: Option<Established>,
    frames: Vec<Vec<u8>>,
}

/// Runs a handshake, every frame of it by way of somebody `between`.
fn run(opening: &Opening, mut between: impl FnMut(usize, &mut Vec<u8>)) -> Ends {
    let mut ends = Ends::default();
    let (shop, bank) = (node("shop@10.0.0.7", 5, 0b1100), node("bank@10.0.0.8", 6, 0b0110));
    let mut pass = |frames: &mut Vec<Vec<u8>>, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        frames.push(bytes.clone());
        between(frames.len() - 1, &mut bytes);
        bytes
    };
    let (dialler, hello) =
        Dialler::new(&shop, &bank.name, opening.clone(), &[], [1; NONCE_LEN]).expect("another node's name");
    let acceptor = Acceptor::new(&bank, &[], [2; ACCEPTOR_RANDOM_LEN]);
    let claim = match acceptor.hello(&pass(&mut ends.frames, &hello)) {
        Ok(claim) => claim,
        Err(rejection) => {
            let told = rejection.reply.map(|reply| dialler.challenge(&reply));
            assert!(!matches!(told, Some(Ok(_))), "a rejected hello was answered by a challenge");
            return ends;
        }
    };
    let (acceptor, challenge): (_, [u8; CHALLENGE_LEN]) = match (claim, opening) {
        (Claim::New(claim), Opening::NewSession { cookie, .. }) => claim.challenge(Some(cookie)),
        (
            Claim::Join(claim),
            Opening::Resume { session, key, .. }
            | Opening::Express { session, key, .. }
            | Opening::Bulk { session, key, .. },
        ) => {
            let known = claim.session() == *session;
            claim.challenge(known.then_some(key))
        }
        (Claim::New(claim), _) => claim.challenge(Some(&cookie())),
        (Claim::Join(claim), _) => claim.challenge(None),
    };
    let challenged = dialler.challenge(&pass(&mut ends.frames, &challenge));
    let Ok((dialler, proof)): Result<(_, [u8; PROOF_LEN]), _> = challenged else { return ends };
    match acceptor.proof(&pass(&mut ends.frames, &proof)) {
        Ok(authenticated) => {
            let (verdict, established): ([u8; VERDICT_LEN], _) = authenticated.accept(42);
            ends.acceptor = Some(established);
            ends.dialler = dialler.verdict(&pass(&mut ends.frames, &verdict)).ok();
        }
        Err(rejection) => {
            let told = rejection.reply.map(|reply| dialler.verdict(&reply));
            assert!(!matches!(told, Some(Ok(_))), "a rejected proof was accepted");
        }
    }
    ends
}

fn cookie() -> Cookie {
    Cookie::new(b"kDz7kS6gh2PqvV1u").expect("a good cookie")
}

fn node(name: &str, incarnation: u32, features: u64) -> LocalNode {
    let number = |value| NonZeroU64::new(value).expect("not 0");
    LocalNode {
        name: name.parse::<NodeName>().expect("a good name"),
        incarnation: Incarnation::new(incarnation).expect("not 0"),
        features,
        limits: Limits {
            max_message: number(1000),
            peer_window: number(5000),
            mailbox_window: NonZeroU64::new(u64::from(incarnation % 2) * 300),
        },
    }
}
