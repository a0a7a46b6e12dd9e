//! The memory of large messages where they are sent: how much it is, and where it is freed.

use crate::common::child::{self, Child, status};
use crate::common::{MIB, eventually, name, pair_with, payload, peer_of, start, within};
use bytes::Bytes;
use std::num::NonZeroU64;
use std::panic::catch_unwind;
use std::time::Duration;
use teleport::etf::to_segments;
use teleport::{
    Binary, Mailbox, Node, Segments, SendError, SendOptions, StaticPeers, assert_no_lock_is_held,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};

const PAYLOAD: usize = 100 * MIB;
const PEERS: usize = 5;

fn receiver(i: usize) -> String {
    format!("receiver{i}@127.0.0.1")
}

/// A child's part: sends one large binary to all the peers that it is told, and tells how much its memory grew at most.
pub(crate) fn sender_process() {
    child::run(async {
        let peers = StaticPeers::new();
        let node = start("sender@127.0.0.1", &peers).await;
        for (i, address) in child::hear().unwrap().split(' ').enumerate() {
            peers.insert(name(&receiver(i)), address.parse().unwrap());
            within(node.prime(&name(&receiver(i)))).await.unwrap();
        }
        let before = status("VmRSS");
        let body = payload(PAYLOAD, 1);
        let mut sends = JoinSet::new();
        for i in 0..PEERS {
            let (from, body) = (node.process(), body.clone());
            sends.spawn(async move {
                let to = receiver(i);
                let ack = from.send_acknowledged(("inbox", name(&to)), &body, SendOptions::default()).await;
                within(ack.unwrap()).await.unwrap();
            });
        }
        within(sends.join_all()).await;
        child::tell(status("VmHWM") - before);
        let _parent_is_done = child::hear();
    });
}

#[tokio::test]
async fn one_binary_to_five_peers_is_in_the_senders_memory_once() {
    let peers = StaticPeers::new();
    let (mut nodes, mut inboxes, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..PEERS {
        let node = start(&receiver(i), &peers).await;
        inboxes.push(node.register("inbox").unwrap());
        addresses.push(node.address().to_string());
        nodes.push(node);
    }
    let mut child = Child::start("sender");
    child.say(&addresses.join(" ")).await;
    let growth: u64 = child.hear().await.parse().unwrap();
    let limit = PAYLOAD as u64 / 1024 * 12 / 10;
    assert!(growth <= limit, "{growth} KiB, {limit} allowed");
    for inbox in &mut inboxes {
        let message = within(inbox.recv()).await.unwrap();
        assert!(message.decode::<Binary>().unwrap() == payload(PAYLOAD, 1));
    }
}

/// Memory of a message, which says whether it is freed under no lock. Only debug builds know of locks.
struct Told {
    bytes: Vec<u8>,
    freed: UnboundedSender<bool>,
}

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.freed.send(catch_unwind(assert_no_lock_is_held).is_ok());
    }
}

/// A large message, whose memory nobody else holds, and what is told of that.
fn told() -> (Segments, UnboundedReceiver<bool>) {
    let (sender, freed) = unbounded_channel();
    let memory = Bytes::from_owner(Told { bytes: vec![7; 2 * MIB], freed: sender });
    (to_segments(&Binary::from(memory)).unwrap(), freed)
}

/// A send of such a message that waits for room in a mailbox.
struct Waits {
    a: Node,
    b: Node,
    _full: Mailbox,
    send: JoinHandle<Result<(), SendError>>,
    freed: UnboundedReceiver<bool>,
}

async fn waits() -> Waits {
    let (a, b) = pair_with(|config| config.mailbox_window = NonZeroU64::new(4 * MIB as u64).unwrap()).await;
    let full = b.register("full").unwrap();
    within(a.send(("full", b.name()), &payload(2 * MIB, 1))).await.unwrap();
    let (body, freed) = told();
    let (process, peer) = (a.process(), b.name().clone());
    let send =
        tokio::spawn(async move { process.send_encoded(("full", peer), body, SendOptions::default()).await });
    let waiting = || {
        peer_of(&a, b.name()).is_some_and(|peer| peer.transfer.waiting == 1 && peer.transfer.unconfirmed == 0)
    };
    eventually("it waits, and nothing is under way", waiting).await;
    Waits { a, b, _full: full, send, freed }
}

#[tokio::test]
async fn a_message_that_is_taken_back_is_freed_under_no_lock() {
    let mut waits = waits().await;
    waits.send.abort();
    assert_eq!(within(waits.freed.recv()).await, Some(true));
}

#[tokio::test]
async fn a_message_that_waits_when_its_session_ends_is_freed_under_no_lock() {
    let mut waits = waits().await;
    assert!(waits.a.disconnect(waits.b.name()));
    assert_eq!(within(waits.freed.recv()).await, Some(true));
    assert!(matches!(within(waits.send).await.unwrap(), Err(SendError::NodeDown { .. })));
}

#[tokio::test]
async fn a_message_that_waits_when_its_node_shuts_down_is_freed_under_no_lock() {
    let mut waits = waits().await;
    let _report = within(waits.a.shutdown(Duration::from_secs(30))).await;
    assert_eq!(within(waits.freed.recv()).await, Some(true));
    assert!(matches!(within(waits.send).await.unwrap(), Err(SendError::NodeDown { .. })));
}

#[tokio::test]
async fn a_message_that_is_refused_is_freed_under_no_lock() {
    let waits = waits().await;
    let (body, mut freed) = told();
    let options = SendOptions::default().nosuspend();
    let sent = within(waits.a.process().send_encoded(("full", waits.b.name()), body, options)).await;
    assert!(matches!(sent, Err(SendError::Busy)));
    assert_eq!(within(freed.recv()).await, Some(true));
}
