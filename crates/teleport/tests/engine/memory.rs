//! How much memory a large message takes where it is sent.

use crate::common::child::{self, Child, status};
use crate::common::{MIB, name, payload, start, within};
use teleport::{Binary, SendOptions, StaticPeers};
use tokio::task::JoinSet;

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
