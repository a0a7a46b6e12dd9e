//! Answers to a peer that does not take them: bounded, and no concern of others.

use crate::common::faulty::{Kind, through_proxy};
use crate::common::{MIB, eventually, name, payload, peer_of, start_apart, within};
use std::num::NonZeroU64;
use std::time::Duration;
use teleport::{Binary, CallError, Caller, Config, Mailbox, Node, ReplyError, StaticPeers};
use tokio::task::JoinSet;

const CALLS: usize = 60;
const LONG: Duration = Duration::from_secs(600);

/// Four messages of a mebibyte at a time to a peer, and six more that wait, at the most.
fn narrow(config: &mut Config) {
    config.peer_window = NonZeroU64::new(4 * MIB as u64).unwrap();
    config.answers_window = NonZeroU64::new(16 * MIB as u64).unwrap();
}

/// Asks so often, and returns when the server has all of it.
async fn ask(client: &Node, server: &mut Mailbox) -> (JoinSet<Result<Binary, CallError>>, Vec<Caller>) {
    let (mut calls, mut callers) = (JoinSet::new(), Vec::new());
    for _ in 0..CALLS {
        let (process, to) = (client.process(), server.process().pid());
        calls.spawn(async move { process.call(&to, "a mebibyte", LONG).await });
    }
    while callers.len() < CALLS {
        callers.push(within(server.recv()).await.unwrap().call().unwrap().0);
    }
    (calls, callers)
}

/// Answers all; returns how many answers were not kept.
fn answer(server: &Mailbox, callers: &[Caller]) -> usize {
    let (body, mut refused) = (payload(MIB, 1), 0);
    for caller in callers {
        match server.process().reply(caller, &body) {
            Ok(()) => {}
            Err(ReplyError::NotTaken { waiting }) => {
                assert!(waiting >= MIB as u64, "{waiting}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    refused
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded_and_others_get_theirs() {
    let (a, b, proxy, _peers) = through_proxy(narrow).await;
    within(a.prime(b.name())).await.unwrap();
    let mut server = b.register("server").unwrap();
    let (mut calls, callers) = ask(&a, &mut server).await;
    [Kind::Express, Kind::Bulk].into_iter().flat_map(|kind| kind.of(&proxy)).for_each(|it| it.stall());
    let refused = answer(&server, &callers);
    assert!(refused > CALLS / 2, "{refused}");
    let (kept, peer) = (b.info().bytes_in_flight, peer_of(&b, a.name()).unwrap().transfer);
    assert!(kept >= (CALLS - refused) as u64 * MIB as u64 && kept <= 16 * MIB as u64, "{kept}");
    assert_eq!((peer.answers_refused, peer.answer_bytes), (refused as u64, kept));

    // Another peer is answered, more often than the whole window allows at once.
    let peers = StaticPeers::new();
    let c = start_apart("c@127.0.0.1", &peers, narrow).await;
    peers.insert(name("b@127.0.0.1"), b.address());
    let process = c.process();
    for _ in 0..30 {
        let call = process.call::<_, Binary>(("server", b.name()), "me too", LONG);
        let serve = async {
            let (caller, _) = within(server.recv()).await.unwrap().call().unwrap();
            server.process().reply(&caller, &payload(MIB, 2)).unwrap();
        };
        let (reply, ()) = tokio::join!(within(call), serve);
        assert_eq!(reply.unwrap().len(), MIB);
        // The caller has it before the server is told so.
        let kept = || peer_of(&b, c.name()).unwrap().transfer.answer_bytes;
        eventually("it is confirmed", || kept() == 0).await;
    }
    assert_eq!(peer_of(&b, c.name()).unwrap().transfer.answers_refused, 0);

    // When it goes on, each of its calls ends, and nothing is left.
    [Kind::Express, Kind::Bulk].into_iter().flat_map(|kind| kind.of(&proxy)).for_each(|it| it.release());
    let (mut answered, mut rejected) = (0, 0);
    while let Some(result) = within(calls.join_next()).await {
        match result.unwrap() {
            Ok(body) => {
                assert_eq!(body.len(), MIB);
                answered += 1;
            }
            Err(CallError::Rejected(why)) => {
                assert!(why.contains("are not being taken") && why.contains("bytes wait"), "{why}");
                rejected += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((answered, rejected), (CALLS - refused, refused));
    eventually("nothing is left", || b.info().bytes_in_flight == 0).await;
    assert_eq!(peer_of(&b, a.name()).unwrap().watched, 0);
}

#[tokio::test]
async fn the_end_of_a_session_gives_back_what_it_kept_of_answers() {
    let (a, b, proxy, _peers) = through_proxy(narrow).await;
    within(a.prime(b.name())).await.unwrap();
    let mut server = b.register("server").unwrap();
    let (mut calls, callers) = ask(&a, &mut server).await;
    proxy.connections().iter().for_each(|connection| connection.stall());
    assert!(answer(&server, &callers) > 0 && b.info().bytes_in_flight > 0);
    assert!(b.disconnect(a.name()) && a.disconnect(b.name()));
    while let Some(result) = within(calls.join_next()).await {
        let result = result.unwrap();
        assert!(matches!(result, Err(CallError::NodeDown { .. })), "{result:?}");
    }
    eventually("nothing is left", || b.info().bytes_in_flight == 0).await;
}
