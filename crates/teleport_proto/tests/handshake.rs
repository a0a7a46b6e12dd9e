//! The handshake as two machines that exchange bytes, with and without somebody in between.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use teleport_proto::handshake::*;
use teleport_proto::{Incarnation, NodeName, SessionId};

#[test]
fn both_sides_agree_on_all_they_have_negotiated() {
    let (shop, bank) = (shop(), bank());
    let (at_shop, at_bank) = run(&shop, &bank, new_session(7), Secret::Cookie(cookie()), honest).unwrap();

    assert_eq!((at_shop.role, at_bank.role), (Role::Dialler, Role::Acceptor));
    assert_eq!((&at_shop.peer, at_shop.peer_incarnation), (&bank.name, bank.incarnation));
    assert_eq!((&at_bank.peer, at_bank.peer_incarnation), (&shop.name, shop.incarnation));
    assert_eq!(at_shop.session, at_bank.session);
    assert_eq!((at_shop.connection, at_bank.connection), (7, 7));
    assert_eq!((at_shop.kind, at_bank.kind), (ConnectionKind::NewSession, ConnectionKind::NewSession));
    assert_eq!((at_shop.version, at_bank.version), (VERSION, VERSION));
    assert_eq!((at_shop.features, at_bank.features), (0b0100, 0b0100));
    assert_eq!((at_shop.max_message.get(), at_bank.max_message.get()), (1000, 1000));
    assert_eq!((at_shop.send, at_shop.receive), (bank.limits, shop.limits));
    assert_eq!((at_bank.send, at_bank.receive), (shop.limits, bank.limits));
    assert_eq!((at_shop.peer_dial, at_bank.peer_dial), (LAST_DIAL, 7));
}

#[test]
fn every_kind_of_connection_joins_with_the_session_key() {
    let (at_shop, at_bank) = session();
    for (opening, kind) in joins(&at_shop) {
        let secret = Secret::Session(Some(at_bank.key.clone()));
        let (dialler, acceptor) = run(&shop(), &bank(), opening, secret, honest).unwrap();
        assert_eq!((dialler.kind, acceptor.kind), (kind, kind));
        assert_eq!((dialler.session, acceptor.session), (at_shop.session, at_shop.session));
        assert_eq!((dialler.connection, acceptor.connection), (3, 3));
    }
}

#[test]
fn any_bit_flipped_in_any_frame_of_a_new_session_is_a_refusal_on_both_sides() {
    flip_every_bit(&new_session(7), &Secret::Cookie(cookie()));
}

#[test]
fn any_bit_flipped_in_any_frame_of_a_join_is_a_refusal_on_both_sides() {
    let (at_shop, at_bank) = session();
    let opening = Opening::Bulk { session: at_shop.session, key: at_shop.key, connection: 3 };
    flip_every_bit(&opening, &Secret::Session(Some(at_bank.key)));
}

/// A changed frame must never leave both sides established, nor the side that got it.
fn flip_every_bit(opening: &Opening, secret: &Secret) {
    for (frame, length) in [HELLO_LEN, CHALLENGE_LEN, PROOF_LEN, VERDICT_LEN].into_iter().enumerate() {
        for bit in 0..length * 8 {
            let ends = run_ends(&shop(), &bank(), opening.clone(), secret.clone(), &[], &[], |at, bytes| {
                if at == frame {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            });
            assert!(ends.dialler.is_err(), "the dialler accepted frame {frame} with bit {bit} flipped");
            // The acceptor has said yes before its verdict is changed on the way.
            assert!(frame == 3 || ends.acceptor.is_err(), "frame {frame}, bit {bit}: {:?}", ends.acceptor);
        }
    }
}

#[test]
fn a_frame_cut_short_anywhere_is_an_error_that_names_it() {
    for (frame, (length, name)) in
        [(HELLO_LEN, "hello"), (CHALLENGE_LEN, "challenge"), (PROOF_LEN, "proof"), (VERDICT_LEN, "verdict")]
            .into_iter()
            .enumerate()
    {
        for cut in 0..length {
            let ends = run_ends(
                &shop(),
                &bank(),
                new_session(1),
                Secret::Cookie(cookie()),
                &[],
                &[],
                |at, bytes| {
                    if at == frame {
                        bytes.truncate(cut);
                    }
                },
            );
            let error = if frame % 2 == 0 { ends.acceptor.unwrap_err() } else { ends.dialler.unwrap_err() };
            assert_eq!(error, HandshakeError::Truncated { frame: name, expected: length, got: cut });
        }
    }
}

#[test]
fn another_cookie_is_named_as_such_and_nothing_is_proved_to_its_owner() {
    let other = Cookie::new(b"quite another cookie").unwrap();
    let mut verdict = Vec::new();
    let ends =
        run_ends(&shop(), &bank(), new_session(1), Secret::Cookie(Some(other)), &[], &[], |at, bytes| {
            if at == 3 {
                verdict = bytes.clone();
            }
        });
    assert_eq!(ends.dialler.unwrap_err(), HandshakeError::Cookie { peer: bank().name });
    assert_eq!(ends.acceptor.unwrap_err(), HandshakeError::Cookie { peer: shop().name });
    assert_eq!(verdict[VERDICT_LEN - 32..], [0; 32]);
}

#[test]
fn an_acceptor_without_a_cookie_for_the_peer_refuses_it() {
    let error = run(&shop(), &bank(), new_session(1), Secret::Cookie(None), honest).unwrap_err();
    assert_eq!(error, HandshakeError::Cookie { peer: bank().name });
}

#[test]
fn an_acceptor_that_does_not_know_the_cookie_cannot_accept() {
    for forged in [[0; 32], [0xff; 32]] {
        let other = Cookie::new(b"quite another cookie").unwrap();
        let ends =
            run_ends(&shop(), &bank(), new_session(1), Secret::Cookie(Some(other)), &[], &[], |at, bytes| {
                if at == 3 {
                    bytes[9] = 0;
                    bytes[VERDICT_LEN - 32..].copy_from_slice(&forged);
                }
            });
        assert_eq!(ends.dialler.unwrap_err(), HandshakeError::Unproven { peer: bank().name });
    }
}

#[test]
fn a_join_with_another_key_and_a_join_of_no_session_look_the_same() {
    let (at_shop, _) = session();
    let (_, another) = run(&shop(), &bank(), new_session(9), Secret::Cookie(cookie()), honest).unwrap();
    // Two handshakes of the same parties with the same nonces but another dial number: another key.
    let opening = Opening::Express { session: at_shop.session, key: at_shop.key, connection: 1 };
    let mut seen = Vec::new();
    for key in [Some(another.key), None] {
        let mut frames = Vec::new();
        let ends = run_ends(&shop(), &bank(), opening.clone(), Secret::Session(key), &[], &[], |_, bytes| {
            frames.push(bytes.clone());
        });
        let expected = HandshakeError::UnknownSession { peer: bank().name, session: at_shop.session };
        assert_eq!(ends.dialler.unwrap_err(), expected);
        let expected = HandshakeError::UnknownSession { peer: shop().name, session: at_shop.session };
        assert_eq!(ends.acceptor.unwrap_err(), expected);
        seen.push(frames);
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_recorded_handshake_or_join_does_not_replay() {
    let (at_shop, at_bank) = session();
    let mut openings = vec![(new_session(7), Secret::Cookie(cookie()))];
    openings.extend(joins(&at_shop).map(|(join, _)| (join, Secret::Session(Some(at_bank.key.clone())))));
    for (opening, secret) in openings {
        let mut recorded = Vec::new();
        run(&shop(), &bank(), opening.clone(), secret.clone(), |_, bytes| recorded.push(bytes.clone()))
            .unwrap();

        // To an acceptor: its nonce is another one by now.
        let claim = Acceptor::new(&bank(), &[], [77; ACCEPTOR_RANDOM_LEN]).hello(&recorded[0]).unwrap();
        let (acceptor, _) = secret.challenge(claim);
        let rejection = acceptor.proof(&recorded[2]).unwrap_err();
        assert!(
            matches!(rejection.error, HandshakeError::Cookie { .. } | HandshakeError::UnknownSession { .. }),
            "{rejection:?}"
        );

        // To a dialler, likewise.
        let (dialler, _) = Dialler::new(&shop(), &bank().name, opening, &[], [78; NONCE_LEN]).unwrap();
        let (dialler, _) = dialler.challenge(&recorded[1]).unwrap();
        let error = dialler.verdict(&recorded[3]).unwrap_err();
        assert_eq!(error, HandshakeError::Unproven { peer: bank().name });
    }
}

#[test]
fn what_a_node_proves_cannot_be_turned_back_at_it() {
    // Shop dials Mallory, who poses as bank, and who connects back to shop as bank at the same time.
    let (dialler, hello) = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();

    // Sent back as it is, it is a hello for somebody else.
    let acceptor = || Acceptor::new(&shop(), &[], [2; ACCEPTOR_RANDOM_LEN]);
    let expected = HandshakeError::WrongNode { wanted: bank().name, reached: shop().name };
    assert_eq!(acceptor().hello(&hello).unwrap_err().error, expected);
    // As an answer it is no challenge.
    let error = dialler.challenge(&hello[..CHALLENGE_LEN]).unwrap_err();
    assert_eq!(error, HandshakeError::Malformed { frame: "challenge", field: "frame type" });

    // With the names exchanged, shop is made to prove something, but not what it wants to see proved.
    let (dialler, hello) = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();
    let mut mirrored = hello;
    mirrored[104..360].copy_from_slice(&hello[360..616]);
    mirrored[360..616].copy_from_slice(&hello[104..360]);
    let (waiting, challenge) = Secret::Cookie(cookie()).challenge(acceptor().hello(&mirrored).unwrap());
    let mut for_shop = challenge;
    for_shop[104..360].copy_from_slice(&hello[360..616]);
    let (_, proof) = dialler.challenge(&for_shop).unwrap();
    let error = waiting.proof(&proof).unwrap_err().error;
    assert_eq!(error, HandshakeError::Cookie { peer: bank().name });
}

#[test]
fn the_proofs_of_the_two_roles_are_not_interchangeable() {
    let ends = run_ends(&shop(), &bank(), new_session(1), Secret::Cookie(cookie()), &[], &[], {
        let mut proof = Vec::new();
        move |at, bytes| match at {
            2 => proof = bytes[PROOF_LEN - 32..].to_vec(),
            3 => bytes[VERDICT_LEN - 32..].copy_from_slice(&proof),
            _ => {}
        }
    });
    assert_eq!(ends.dialler.unwrap_err(), HandshakeError::Unproven { peer: bank().name });
}

#[test]
fn a_node_does_not_connect_to_itself() {
    let error = Dialler::new(&shop(), &shop().name, new_session(1), &[], [1; NONCE_LEN]).unwrap_err();
    assert_eq!(error, HandshakeError::OwnName { name: shop().name });

    // Nor to somebody who uses its name.
    let ends = run_ends(&shop(), &bank(), new_session(1), Secret::Cookie(cookie()), &[], &[], |at, bytes| {
        if at == 0 {
            let wanted = bytes[360..616].to_vec();
            bytes[104..360].copy_from_slice(&wanted);
        }
    });
    assert_eq!(ends.acceptor.unwrap_err(), HandshakeError::OwnName { name: bank().name });
    assert_eq!(ends.dialler.unwrap_err(), HandshakeError::OwnName { name: shop().name });
}

#[test]
fn a_wrong_address_is_noticed_by_both() {
    let elsewhere: NodeName = "mint@10.0.0.9".parse().unwrap();
    let (dialler, hello) = Dialler::new(&shop(), &elsewhere, new_session(1), &[], [1; NONCE_LEN]).unwrap();
    let rejection = Acceptor::new(&bank(), &[], [2; ACCEPTOR_RANDOM_LEN]).hello(&hello).unwrap_err();
    let expected = HandshakeError::WrongNode { wanted: elsewhere, reached: bank().name };
    assert_eq!(rejection.error, expected);
    assert_eq!(dialler.challenge(&rejection.reply.unwrap()).unwrap_err(), expected);
    assert!(expected.to_string().contains("mint@10.0.0.9 was wanted, but bank@10.0.0.8 was reached"));
}

#[test]
fn an_acceptor_under_another_name_is_not_challenged_further() {
    let ends = run_ends(&shop(), &bank(), new_session(1), Secret::Cookie(cookie()), &[], &[], |at, bytes| {
        if at == 1 {
            bytes[105] = b'B';
        }
    });
    let reached: NodeName = "Bank@10.0.0.8".parse().unwrap();
    assert_eq!(ends.dialler.unwrap_err(), HandshakeError::WrongNode { wanted: bank().name, reached });
}

#[test]
fn versions_without_a_common_one_are_named() {
    // A dialler of an older release, unknown layout and all.
    let mut hello = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap().1;
    hello[10..12].copy_from_slice(&0u16.to_be_bytes());
    hello[12..].fill(0xee);
    let rejection = Acceptor::new(&bank(), &[], [2; ACCEPTOR_RANDOM_LEN]).hello(&hello).unwrap_err();
    assert_eq!(rejection.error, HandshakeError::Version { ours: VERSION, theirs: 0 });
    let (dialler, _) = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();
    let error = dialler.challenge(&rejection.reply.unwrap()).unwrap_err();
    assert!(matches!(error, HandshakeError::Version { .. }), "{error}");

    // An acceptor of a newer one, which does not speak ours any more.
    for theirs in [0, VERSION + 1, u16::MAX] {
        let ends =
            run_ends(&shop(), &bank(), new_session(1), Secret::Cookie(cookie()), &[], &[], |at, bytes| {
                if at == 1 {
                    bytes[10..12].copy_from_slice(&theirs.to_be_bytes());
                    bytes[12..].fill(0xee);
                }
            });
        assert_eq!(ends.dialler.unwrap_err(), HandshakeError::Version { ours: VERSION, theirs });
    }
}

#[test]
fn a_dialler_of_a_newer_release_is_answered_in_our_version() {
    let mut hello = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap().1;
    hello[10..12].copy_from_slice(&9u16.to_be_bytes());
    hello[HELLO_LEN - 1] = 1; // something that we do not know yet
    let claim = Acceptor::new(&bank(), &[], [2; ACCEPTOR_RANDOM_LEN]).hello(&hello).unwrap();
    let (_, challenge) = Secret::Cookie(cookie()).challenge(claim);
    assert_eq!(challenge[9..12], [0, 0, VERSION as u8]);
}

#[test]
fn something_else_on_the_port_is_told_by_what_it_said() {
    for (said, shown) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP/1.1 400 Bad"),
        (b"SSH-2.0-OpenSSH_9.6p1\r\n", "SSH-2.0-OpenSSH_"),
        (b"\x00\x00\x00\x00", "\\x00\\x00\\x00\\x00"),
        (b"\x16\x03\x01", "\\x16\\x03\\x01"),
    ] {
        let expected = HandshakeError::NotTeleport { first_bytes: shown.to_owned() };
        let (dialler, _) = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();
        assert_eq!(dialler.challenge(said).unwrap_err(), expected);
        assert_eq!(check_first_bytes(said).unwrap_err(), expected);
        let rejection = Acceptor::new(&bank(), &[], [2; ACCEPTOR_RANDOM_LEN]).hello(said).unwrap_err();
        assert_eq!(rejection, Rejection { reply: None, error: expected });
    }
}

#[test]
fn every_refusal_arrives_proved() {
    for refusal in [
        Refusal::Simultaneous,
        Refusal::NameInUse,
        Refusal::UnknownSession,
        Refusal::StaleResume,
        Refusal::ConnectionIdUsed,
        Refusal::ShuttingDown,
        Refusal::TooManyConnections,
        Refusal::NotAllowed,
        Refusal::TooManySessions,
    ] {
        let (dialler, hello) =
            Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();
        let claim = Acceptor::new(&bank(), &[], [2; ACCEPTOR_RANDOM_LEN]).hello(&hello).unwrap();
        let (acceptor, challenge) = Secret::Cookie(cookie()).challenge(claim);
        let (dialler, proof) = dialler.challenge(&challenge).unwrap();
        let verdict = acceptor.proof(&proof).unwrap().refuse(refusal);
        let error = dialler.verdict(&verdict).unwrap_err();
        assert_eq!(error, HandshakeError::Refused { peer: bank().name, refusal });
    }
}

#[test]
fn a_refusal_with_a_code_of_the_future_is_shown_if_it_is_proved() {
    for proved in [true, false] {
        let (dialler, hello) =
            Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();
        let claim = Acceptor::new(&bank(), &[], [2; ACCEPTOR_RANDOM_LEN]).hello(&hello).unwrap();
        let (_, challenge) = Secret::Cookie(cookie()).challenge(claim);
        let (dialler, proof) = dialler.challenge(&challenge).unwrap();
        let mut verdict = b"\0\x06telept\x04\xc8\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        let key = hmac(COOKIE, &[b"teleport/1 cookie key\0\0\0"]);
        let mac =
            hmac(&key, &[b"teleport/1 verdict\0\0\0\0\0\0", &hello, &challenge, &[0; 8], &proof, &verdict]);
        verdict.extend(if proved { mac } else { [9; 32] });
        let expected = if proved {
            HandshakeError::RefusedUnknown { peer: bank().name, code: 200 }
        } else {
            HandshakeError::Unproven { peer: bank().name }
        };
        assert_eq!(dialler.verdict(&verdict).unwrap_err(), expected);
    }
}

#[test]
fn the_channel_below_is_bound_in() {
    let open = || (new_session(1), Secret::Cookie(cookie()));
    let bound = |ours: &[u8], theirs: &[u8]| {
        let (opening, secret) = open();
        run_ends(&shop(), &bank(), opening, secret, ours, theirs, honest)
    };
    assert!(bound(b"exporter", b"exporter").dialler.is_ok());
    for (ours, theirs) in [(&b"exporter"[..], &b"exporteR"[..]), (b"exporter", b""), (b"", b"\0")] {
        let ends = bound(ours, theirs);
        assert_eq!(ends.dialler.unwrap_err(), HandshakeError::Cookie { peer: bank().name });
        assert_eq!(ends.acceptor.unwrap_err(), HandshakeError::Cookie { peer: shop().name });
    }
}

#[test]
fn weak_cookies_are_known_as_such() {
    let weak = |cookie: &str| Cookie::new(cookie.as_bytes()).unwrap().is_weak();
    for cookie in
        ["a", "monster", "nocookie", "shortish-cookie", "aaaaaaaaaaaaaaaaaaaaaaaa", "MyMonsterCookie2024!"]
    {
        assert!(weak(cookie), "{cookie}");
    }
    // That its length alone does not help is said, and not which word is in it.
    let why = Cookie::new(b"MyMonsterCookie2024!").unwrap().weakness().unwrap();
    assert!(why.contains("beside a word") && !why.contains("monster"), "{why}");
    // The second is what Erlang writes into ~/.erlang.cookie.
    for cookie in ["kDz7kS6gh2PqvV1u", "QZPLRNAWWDVOSCWHCQTB", "cookie-3fd4a1c07b6e4c0d9a"] {
        assert!(!weak(cookie), "{cookie}");
    }
    assert_eq!(Cookie::new(b"").unwrap_err(), UnusableCookie);
}

#[test]
fn no_secret_is_ever_shown() {
    let (dialler, _) = Dialler::new(&shop(), &bank().name, new_session(1), &[], [1; NONCE_LEN]).unwrap();
    let shown = format!("{dialler:?} {:?} {:?}", cookie().unwrap(), session().0);
    let secrets = [COOKIE.to_vec(), hmac(COOKIE, &[b"teleport/1 cookie key\0\0\0"]).to_vec()];
    for secret in secrets {
        let listed = format!("{secret:?}");
        assert!(!shown.contains(listed.trim_matches(['[', ']'])), "{shown}");
    }
    assert!(shown.contains("Key(..)") && shown.contains("Cookie(..)") && shown.contains("SessionKey(..)"));
}

/// The numbers of docs/protocol.md, computed there with another implementation.
#[test]
fn the_frames_are_those_of_the_protocol_description() {
    let mut frames = Vec::new();
    let (dialler, _) = run(&shop(), &bank(), new_session(7), Secret::Cookie(cookie()), |_, bytes| {
        frames.push(bytes.clone());
    })
    .unwrap();
    assert_eq!(dialler.session, SessionId::new([2; 16]).unwrap());

    // The fields, at their offsets.
    let hello = &frames[0];
    assert_eq!(hello[..10], *b"\0\x06telept\x01\x01");
    assert_eq!(hello[10..16], [0, 3, 0, 0, 0, 5]);
    assert_eq!(hello[16..24], 0b1100u64.to_be_bytes());
    assert_eq!(hello[24..32], 1000u64.to_be_bytes());
    assert_eq!(hello[32..40], 5000u64.to_be_bytes());
    assert_eq!(hello[40..48], 0u64.to_be_bytes());
    assert_eq!(hello[48..56], 7u64.to_be_bytes());
    assert_eq!(hello[56..72], [0; 16]);
    assert_eq!(hello[72..104], [1; 32]);
    assert_eq!(hello[104..118], *b"\x0dshop@10.0.0.7");
    assert_eq!(hello[360..374], *b"\x0dbank@10.0.0.8");
    let challenge = &frames[1];
    assert_eq!(challenge[..10], *b"\0\x06telept\x02\x00");
    assert_eq!(challenge[40..48], 300u64.to_be_bytes());
    assert_eq!(challenge[48..56], 7u64.to_be_bytes());
    assert_eq!(challenge[56..72], [2; 16]);
    assert_eq!(challenge[72..104], [2; 32]);
    assert_eq!(challenge[104..118], *b"\x0dbank@10.0.0.8");

    // The proofs, from their definition.
    let key = hmac(COOKIE, &[b"teleport/1 cookie key\0\0\0"]);
    let transcript = [&hello[..], challenge, &[0; 8]].concat();
    let proof = hmac(&key, &[b"teleport/1 dialler proof", &transcript]);
    assert_eq!(frames[2], [&b"\0\x06telept\x03\0\0\0\0\0\0\0"[..], &proof].concat());
    let head = b"\0\x06telept\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x2a";
    let verdict = hmac(&key, &[b"teleport/1 verdict\0\0\0\0\0\0", &transcript, &frames[2], head]);
    assert_eq!(frames[3], [&head[..], &verdict].concat());

    // And a join with the session's key.
    let session_key = hmac(&key, &[b"teleport/1 session key\0\0", &transcript]);
    let join_key = hmac(&session_key, &[b"teleport/1 join key\0\0\0\0\0"]);
    let opening = Opening::Bulk { session: dialler.session, key: dialler.key, connection: 3 };
    let (joiner, hello) = Dialler::new(&shop(), &bank().name, opening, &[], [1; NONCE_LEN]).unwrap();
    let claim = Acceptor::new(&bank(), &[], acceptor_random()).hello(&hello).unwrap();
    let (_, challenge) = Secret::Session(None).challenge(claim);
    let (_, join_proof) = joiner.challenge(&challenge).unwrap();
    let expected = hmac(&join_key, &[b"teleport/1 dialler proof", &hello, &challenge, &[0; 8]]);
    assert_eq!(join_proof[16..], expected);

    assert_eq!(
        [hex(&proof), hex(&verdict), hex(&session_key), hex(&join_proof[16..])],
        VECTORS,
        "proof, verdict, session key, proof of a join"
    );
}

const VECTORS: [&str; 4] = [
    "737bfd7adbd2b1cfafaf3c0dbef9dee7c6789acf0567c634ff082a872bec5447",
    "844be1a159e2630cc874c012c00e7e579ebb6c2f54e8a300eb686eed15992549",
    "543eb66c232b6b31bad03493761dda9ab00a5e020627619bd3105b79a856b960",
    "4bf3ed13e6bf7854c46d4f89d9cbb0ca026cf037487489d56ea23607354d9f11",
];

#[test]
fn arbitrary_bytes_never_panic_and_never_pass() {
    let mut random = SplitMix(20_240_611);
    let mut frames = Vec::new();
    run(&shop(), &bank(), new_session(7), Secret::Cookie(cookie()), |_, bytes| frames.push(bytes.clone()))
        .unwrap();
    for _ in 0..20_000 {
        let at = (random.next() % 4) as usize;
        let mut bytes = frames[at].clone();
        match random.next() % 3 {
            0 => bytes = (0..random.next() % 700).map(|_| random.next() as u8).collect(),
            1 => bytes[9..].iter_mut().for_each(|byte| *byte = random.next() as u8),
            _ => {
                for _ in 0..=random.next() % 8 {
                    let index = random.next() as usize % bytes.len();
                    bytes[index] ^= 1 + (random.next() % 255) as u8;
                }
            }
        }
        if bytes == frames[at] {
            continue;
        }
        let ends =
            run_ends(&shop(), &bank(), new_session(7), Secret::Cookie(cookie()), &[], &[], |frame, sent| {
                if frame == at {
                    sent.clone_from(&bytes);
                }
            });
        assert!(ends.dialler.is_err());
        assert!(at == 3 || ends.acceptor.is_err());
    }
}

const COOKIE: &[u8] = b"kDz7kS6gh2PqvV1u";
const LAST_DIAL: u64 = 42;

fn cookie() -> Option<Cookie> {
    Some(Cookie::new(COOKIE).unwrap())
}

fn node(name: &str, incarnation: u32, features: u64, limits: [u64; 3]) -> LocalNode {
    LocalNode {
        name: name.parse().unwrap(),
        incarnation: Incarnation::new(incarnation).unwrap(),
        features,
        limits: Limits {
            max_message: NonZeroU64::new(limits[0]).unwrap(),
            peer_window: NonZeroU64::new(limits[1]).unwrap(),
            mailbox_window: NonZeroU64::new(limits[2]),
        },
    }
}

fn shop() -> LocalNode {
    node("shop@10.0.0.7", 5, 0b1100, [1000, 5000, 0])
}

fn bank() -> LocalNode {
    node("bank@10.0.0.8", 6, 0b0110, [2000, 7000, 300])
}

fn new_session(dial: u64) -> Opening {
    Opening::NewSession { cookie: cookie().unwrap(), dial }
}

fn joins(at_shop: &Established) -> impl Iterator<Item = (Opening, ConnectionKind)> + use<> {
    let (session, key) = (at_shop.session, at_shop.key.clone());
    [
        (Opening::Resume { session, key: key.clone(), generation: 3 }, ConnectionKind::Resume),
        (Opening::Express { session, key: key.clone(), connection: 3 }, ConnectionKind::Express),
        (Opening::Bulk { session, key, connection: 3 }, ConnectionKind::Bulk),
    ]
    .into_iter()
}

/// What the acceptor has for the claim.
#[derive(Clone)]
enum Secret {
    Cookie(Option<Cookie>),
    Session(Option<SessionKey>),
}

impl Secret {
    fn challenge(&self, claim: Claim) -> (AwaitingProof, [u8; CHALLENGE_LEN]) {
        match (self, claim) {
            (Secret::Cookie(cookie), Claim::New(claim)) => claim.challenge(cookie.as_ref()),
            (Secret::Session(key), Claim::Join(claim)) => claim.challenge(key.as_ref()),
            // A changed kind: the acceptor looks elsewhere and finds nothing.
            (_, Claim::New(claim)) => claim.challenge(None),
            (_, Claim::Join(claim)) => claim.challenge(None),
        }
    }
}

fn honest(_: usize, _: &mut Vec<u8>) {}

fn session() -> (Established, Established) {
    run(&shop(), &bank(), new_session(7), Secret::Cookie(cookie()), honest).unwrap()
}

fn run(
    dialler: &LocalNode,
    acceptor: &LocalNode,
    opening: Opening,
    secret: Secret,
    between: impl FnMut(usize, &mut Vec<u8>),
) -> Result<(Established, Established), HandshakeError> {
    let ends = run_ends(dialler, acceptor, opening, secret, &[], &[], between);
    Ok((ends.dialler?, ends.acceptor?))
}

/// What became of both sides.
struct Ends {
    dialler: Result<Established, HandshakeError>,
    acceptor: Result<Established, HandshakeError>,
}

impl Ends {
    /// The acceptor has stopped; its last frame still reaches the dialler.
    fn rejected(rejection: Rejection, dialler: HandshakeError) -> Self {
        Ends { dialler: Err(dialler), acceptor: Err(rejection.error) }
    }
}

/// Runs a handshake, every frame of it by way of somebody `between`.
fn run_ends(
    dialler: &LocalNode,
    acceptor: &LocalNode,
    opening: Opening,
    secret: Secret,
    dialler_binding: &[u8],
    acceptor_binding: &[u8],
    mut between: impl FnMut(usize, &mut Vec<u8>),
) -> Ends {
    let mut pass = |at: usize, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        between(at, &mut bytes);
        bytes
    };
    let unreachable = HandshakeError::Truncated { frame: "challenge", expected: 0, got: 0 };

    let (dialler, hello) =
        Dialler::new(dialler, &acceptor.name, opening, dialler_binding, [1; NONCE_LEN]).unwrap();
    let claim = match Acceptor::new(acceptor, acceptor_binding, acceptor_random()).hello(&pass(0, &hello)) {
        Ok(claim) => claim,
        Err(rejection) => {
            let told = rejection.reply.as_ref().map(|reply| dialler.challenge(reply).unwrap_err());
            return Ends::rejected(rejection, told.unwrap_or(unreachable));
        }
    };
    let (acceptor, challenge) = secret.challenge(claim);
    let (dialler, proof) = match dialler.challenge(&pass(1, &challenge)) {
        Ok(next) => next,
        Err(error) => return Ends { dialler: Err(error), acceptor: Err(unreachable) },
    };
    match acceptor.proof(&pass(2, &proof)) {
        Ok(authenticated) => {
            let (verdict, established) = authenticated.accept(LAST_DIAL);
            Ends { dialler: dialler.verdict(&pass(3, &verdict)), acceptor: Ok(established) }
        }
        Err(rejection) => {
            let told = rejection.reply.as_ref().map(|reply| dialler.verdict(&pass(3, reply)).unwrap_err());
            Ends::rejected(rejection, told.unwrap_or(unreachable))
        }
    }
}

fn acceptor_random() -> [u8; ACCEPTOR_RANDOM_LEN] {
    [2; ACCEPTOR_RANDOM_LEN]
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
