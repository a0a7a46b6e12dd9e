//! Tasks that never have to wait: others on their thread get their turns, and nothing is accepted on the way to one.

use crate::common::{config, pair, receive, within};
use futures_util::StreamExt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use teleport::{Node, Process, SendError};

/// More than a task does in one go, by far.
const MANY: u64 = 10_000;

/// What another task of this thread does when it gets its turn.
fn another_task() -> Arc<AtomicBool> {
    let ran = Arc::new(AtomicBool::new(false));
    let other = ran.clone();
    tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
    ran
}

async fn alone() -> Node {
    let builder = Node::builder("a@127.0.0.1").cookie(crate::common::COOKIE).config(config(|_| {}));
    builder.start().await.unwrap()
}

/// Begins sends without a pause, and gives up each that has to wait. Returns what was accepted.
async fn send_in_one_go(process: &Process, to: impl Fn() -> teleport::Address) -> Vec<u64> {
    let accepted = poll_fn(|context| {
        let mut accepted = Vec::new();
        for i in 0..MANY {
            match pin!(process.send(to(), &i)).poll(context) {
                Poll::Ready(sent) => {
                    sent.unwrap();
                    accepted.push(i);
                }
                Poll::Pending => {}
            }
        }
        Poll::Ready(accepted)
    })
    .await;
    assert!(accepted.len() < MANY as usize, "the task has had its turn before");
    accepted
}

#[tokio::test]
async fn a_send_that_waits_for_its_turn_and_is_given_up_is_not_accepted() {
    let (a, b) = pair().await;
    within(a.prime(b.name())).await.unwrap();
    for node in [&b, &a] {
        let mut mailbox = node.mailbox().unwrap();
        // The first one opens the way.
        within(a.send(mailbox.pid(), &MANY)).await.unwrap();
        assert_eq!(receive::<u64>(&mut mailbox).await, MANY);
        let accepted = send_in_one_go(&a.process(), || mailbox.pid().into()).await;
        within(a.send(mailbox.pid(), &MANY)).await.unwrap();
        let mut arrived = Vec::new();
        loop {
            match receive::<u64>(&mut mailbox).await {
                MANY => break,
                i => arrived.push(i),
            }
        }
        assert_eq!(arrived, accepted);
    }
}

#[tokio::test]
async fn sends_within_a_node_leave_others_their_turns() {
    let a = alone().await;
    let (mailbox, process) = (a.mailbox().unwrap().unbounded(), a.process());
    let ran = another_task();
    for _ in 0..MANY {
        process.send(mailbox.pid(), &1).await.unwrap();
    }
    assert!(ran.load(Ordering::Relaxed));
    let ran = another_task();
    for _ in 0..MANY {
        let sent = process.send_acknowledged(mailbox.pid(), &1, teleport::SendOptions::default()).await;
        sent.unwrap().await.unwrap();
    }
    assert!(ran.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_mailbox_that_is_never_empty_leaves_others_their_turns() {
    let a = alone().await;
    let mut mailbox = a.mailbox().unwrap().unbounded();
    for _ in 0..2 * MANY {
        let sent: Result<(), SendError> = a.send(mailbox.pid(), &1).await;
        sent.unwrap();
    }
    let ran = another_task();
    for _ in 0..MANY {
        assert!(mailbox.recv().await.is_some());
    }
    assert!(ran.load(Ordering::Relaxed));
    let ran = another_task();
    for _ in 0..MANY {
        assert!(mailbox.next().await.is_some());
    }
    assert!(ran.load(Ordering::Relaxed));
}
