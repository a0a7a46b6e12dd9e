//! No copy of large binaries in user space, shown by where they lie.

use crate::common::{MIB, pair, payload, receive, start, within};
use bytes::Bytes;
use teleport::etf::to_segments;
use teleport::{Binary, Segments, SendOptions, StaticPeers};

#[tokio::test]
async fn a_relayed_binary_stays_where_it_was_received() {
    let peers = StaticPeers::new();
    let (a, b) = (start("a@127.0.0.1", &peers).await, start("b@127.0.0.1", &peers).await);
    let c = start("c@127.0.0.1", &peers).await;
    let (mut at_b, mut at_c) = (b.register("inbox").unwrap(), c.register("inbox").unwrap());
    let original = payload(10 * MIB, 1);
    within(a.send(("inbox", b.name()), &("relay this", original.clone()))).await.unwrap();

    let message = within(at_b.recv()).await.unwrap();
    let (_, received): (String, Binary) = message.decode().unwrap();
    assert!(message.body().as_ptr_range().contains(&received.as_ptr()), "a slice of the message");
    let relayed = ("relayed", received.clone());
    let encoded = to_segments(&relayed).unwrap();
    assert!(encoded.iter().any(|segment| segment.as_ptr() == received.as_ptr() && segment.len() == 10 * MIB));
    within(b.send(("inbox", c.name()), &relayed)).await.unwrap();
    let (word, at_last): (String, Binary) = receive(&mut at_c).await;
    assert_eq!((&*word, &at_last), ("relayed", &original));

    // Or the whole message as it came.
    let body = Segments::from(message.body().clone());
    assert_eq!(body.iter().next().unwrap().as_ptr(), message.body().as_ptr());
    within(b.process().send_encoded(("inbox", c.name()), body, SendOptions::default())).await.unwrap();
    let (word, at_last): (String, Binary) = receive(&mut at_c).await;
    assert_eq!((&*word, &at_last), ("relay this", &original));
}

#[tokio::test]
async fn the_memory_of_a_dropped_message_receives_the_next_and_that_of_a_held_one_does_not() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    let mut next = async |seed| {
        within(a.send(("inbox", b.name()), &payload(10 * MIB, seed))).await.unwrap();
        within(inbox.recv()).await.unwrap()
    };
    let first = next(1).await;
    let place = first.body().as_ptr();
    drop(first);
    let _plug = vec![1u8; 10 * MIB + 1000]; // would be put there if that memory had gone back to the allocator
    let second = next(2).await;
    assert_eq!(second.body().as_ptr(), place, "the same buffer");
    let held: Binary = second.decode().unwrap();
    drop(second);
    let third = next(3).await;
    assert_ne!(third.body().as_ptr(), place, "a part of the second is still in use");
    assert_eq!((held, third.decode::<Binary>().unwrap()), (payload(10 * MIB, 2), payload(10 * MIB, 3)));
}

#[tokio::test]
async fn a_message_within_a_node_is_the_senders_memory() {
    let (a, _) = pair().await;
    let mut inbox = a.register("inbox").unwrap();
    let body = to_segments(&payload(MIB, 1)).unwrap().into_contiguous();
    let place = body.as_ptr();
    a.process().send_encoded("inbox", Segments::from(body), SendOptions::default()).await.unwrap();
    assert_eq!(within(inbox.recv()).await.unwrap().body().as_ptr(), place);
}

#[tokio::test]
async fn a_message_of_more_pieces_than_one_write_takes_arrives() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    for (count, len) in [(3000, 1000), (1025, 40), (5, 300_000)] {
        let pieces: Vec<_> = (0..count).map(|i| payload(len, i)).collect();
        let split = |segment: &Bytes| {
            let cuts =
                (0..segment.len()).step_by(len / 3 + 1).map(|at| (at, segment.len().min(at + len / 3 + 1)));
            cuts.map(|(from, to)| segment.slice(from..to)).collect::<Vec<_>>()
        };
        let encoded: Segments = to_segments(&pieces).unwrap().iter().flat_map(split).collect();
        assert!(encoded.count() > 2 * count as usize);
        within(a.process().send_encoded(("inbox", b.name()), encoded, SendOptions::default())).await.unwrap();
        assert!(receive::<Vec<Binary>>(&mut inbox).await == pieces);
    }
}
