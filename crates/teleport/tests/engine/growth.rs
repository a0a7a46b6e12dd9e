//! How many bulk connections a session opens.

use crate::common::{eventually, pair_with, payload, peer_of, receive, within};
use std::num::NonZeroU64;
use teleport::Binary;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn one_message_goes_over_several_connections_where_each_is_limited() {
    let (a, b) = pair_with(|config| {
        (config.bulk_connections, config.most_bulk_connections) = (1, 2);
        config.fragment_size = 64 * 1024;
        config.max_pacing_rate = NonZeroU64::new(20 << 20);
    })
    .await;
    let mut inbox = b.register("inbox").unwrap();
    let (from, to, body) = (a.process(), b.name().clone(), payload(24 * MIB, 1));
    let sent = tokio::spawn({
        let body = body.clone();
        async move { from.send(("inbox", &to), &body).await }
    });
    assert_eq!(receive::<Binary>(&mut inbox).await, body);
    within(sent).await.unwrap().unwrap();
    // It was asked for half-way, and may come behind the message.
    let opened = || peer_of(&a, b.name()).unwrap().transfer.bulk_connections;
    eventually("a second connection, of a message of a second", || opened() == 2).await;
}
