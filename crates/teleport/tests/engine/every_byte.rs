//! Connections that are cut at every byte of a small exchange, in both directions, and large ones around every fragment.

use crate::common::faulty::{Kind, through_proxy};
use crate::common::{assert_none_ended, eventually, payload, peer_of, receive, within};
use std::time::Duration;
use teleport::{Backoff, Binary, Config, Mailbox, Node, NodeMonitor, SendOptions, StaticPeers};
use teleport_testkit::proxy::{Fault, Faults, Proxy};
use tokio::task::JoinSet;

/// Bytes of the handshake in the dialler's direction (hello, proof) and in the acceptor's (challenge, verdict).
const TO_SERVER: u64 = 640 + 48;
const TO_CLIENT: u64 = 384 + 56;

/// Pairs of nodes among which the bytes are divided.
const LABS: u64 = 6;

const FRAGMENT: u64 = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Two nodes, a proxy between them, and what they have to say.
struct Lab {
    a: Node,
    b: Node,
    proxy: Proxy,
    _peers: StaticPeers,
    at_a: Mailbox,
    at_b: Mailbox,
    events: [NodeMonitor; 2],
    said: u64,
}

impl Lab {
    async fn open() -> Self {
        let hasty = |config: &mut Config| {
            config.backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(10) };
            config.flush_delay = Duration::from_millis(1);
            config.bulk_connections = 1;
            config.most_bulk_connections = 1;
            config.fragment_size = FRAGMENT as u32;
            config.worker_threads = 1; // there are many of them
        };
        let (a, b, proxy, peers) = through_proxy(hasty).await;
        let (at_a, at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
        within(a.prime(b.name())).await.unwrap();
        let events = [a.monitor_nodes(), b.monitor_nodes()];
        Self { a, b, proxy, _peers: peers, at_a, at_b, events, said: 0 }
    }

    /// The next connection of that kind is cut after so many bytes of one direction, instead of the one there is.
    fn cut(&self, kind: Kind, way: Way, at: u64) {
        let mut pending = Some(Fault::Cut { at });
        self.proxy.plan(move |opening| {
            let fault = if Kind::by(opening.first) == kind { pending.take() } else { None };
            let fault = fault.unwrap_or_default();
            match way {
                Way::ToServer => Faults { to_server: fault, ..Faults::default() },
                Way::ToClient => Faults { to_client: fault, ..Faults::default() },
            }
        });
        kind.of(&self.proxy).iter().for_each(|connection| connection.cut());
    }

    /// A message there and one back, both acknowledged: each comes once, as it was sent.
    async fn exchange(&mut self, len: usize) {
        self.said += 1;
        let body = (self.said, payload(len, self.said));
        let (a, b) = (self.a.process(), self.b.process());
        let options = SendOptions::default();
        let there = a.send_acknowledged(("inbox", self.b.name()), &body, options);
        let there = within(there).await.unwrap();
        assert!(receive::<(u64, Binary)>(&mut self.at_b).await == body);
        let back = b.send_acknowledged(("inbox", self.a.name()), &body, options);
        let back = within(back).await.unwrap();
        assert!(receive::<(u64, Binary)>(&mut self.at_a).await == body);
        within(there).await.unwrap();
        within(back).await.unwrap();
    }

    /// Nothing came twice, nothing is left, and no session has ended.
    async fn close(mut self) {
        self.proxy.plan_none();
        self.exchange(10).await;
        for node in [&self.a, &self.b] {
            eventually("nothing is left", || node.info().peers[0].transfer.entries == 0).await;
        }
        assert!(self.at_a.is_empty() && self.at_b.is_empty(), "a message came twice");
        for events in &mut self.events {
            assert_none_ended(events).await;
        }
    }
}

/// Cuts at each of these, and exchanges something of that size each time. Returns how many cuts have struck besides those that made
/// room for the next connection.
async fn cut_at(kind: Kind, len: usize, cases: impl IntoIterator<Item = (Way, u64)>) -> u64 {
    let cases: Vec<_> = cases.into_iter().collect();
    let mut labs = JoinSet::new();
    for lab in 0..LABS {
        let cases: Vec<_> = cases.iter().copied().skip(lab as usize).step_by(LABS as usize).collect();
        labs.spawn(async move {
            let mut lab = Lab::open().await;
            lab.exchange(len).await;
            let mut made_room = 0;
            for (way, at) in cases {
                made_room += kind.of(&lab.proxy).len() as u64;
                lab.cut(kind, way, at);
                lab.exchange(len).await;
                if kind == Kind::Control {
                    let connected = |node: &Node, peer: &Node| {
                        peer_of(node, peer.name()).is_some_and(|peer| peer.control_connected)
                    };
                    eventually("control again", || connected(&lab.a, &lab.b) && connected(&lab.b, &lab.a))
                        .await;
                }
            }
            let struck = lab.proxy.struck() - made_room.min(lab.proxy.struck());
            lab.close().await;
            struck
        });
    }
    labs.join_all().await.into_iter().sum()
}

/// What goes in both directions over a connection of that kind in one exchange, its handshake included; at least.
async fn passed(kind: Kind, len: usize) -> u64 {
    let mut lab = Lab::open().await;
    lab.exchange(len).await;
    let passed = kind.of(&lab.proxy)[0].forwarded();
    lab.close().await;
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn express_connections_cut_at_every_byte_of_an_exchange_lose_and_double_nothing() {
    let frames = (passed(Kind::Express, 20).await - TO_SERVER - TO_CLIENT).div_ceil(2);
    assert!((30..150).contains(&frames), "{frames}");
    let there = (0..TO_SERVER + frames).map(|at| (Way::ToServer, at));
    let back = (0..TO_CLIENT + frames).map(|at| (Way::ToClient, at));
    let cases = (TO_SERVER + TO_CLIENT + 2 * frames) as f64;
    let struck = cut_at(Kind::Express, 20, there.chain(back)).await as f64;
    println!("{struck} of {cases} cuts");
    assert!(struck > cases * 0.95, "only {struck} of {cases} cuts have struck");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_connections_cut_around_every_fragment_in_both_directions_lose_and_double_nothing() {
    const LEN: usize = 70_000;
    let frames = (passed(Kind::Bulk, LEN).await - TO_SERVER - TO_CLIENT) / 2;
    let fragments = (LEN as u64).div_ceil(FRAGMENT);
    // The first has the envelope besides; the last is what is left.
    let first = frames - (fragments * 32 + LEN as u64);
    assert!((10..100).contains(&first), "{first}");
    let ends = (0..=fragments).map(|n| match n {
        0 => 0,
        n if n == fragments => frames,
        n => first + n * (32 + FRAGMENT),
    });
    let around: Vec<_> = ends.flat_map(|end| [end.saturating_sub(1), end, end + 1, end + 16]).collect();
    let there = around.iter().map(|at| (Way::ToServer, TO_SERVER + at));
    let back = around.iter().map(|at| (Way::ToClient, TO_CLIENT + at));
    let struck = cut_at(Kind::Bulk, LEN, there.chain(back)).await;
    println!("{struck} of {} cuts", 2 * around.len());
    // Behind the last fragment nothing comes that could be cut.
    assert!(struck >= 2 * around.len() as u64 - 8, "only {struck} of {} cuts have struck", 2 * around.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_connections_cut_at_every_byte_come_back_and_no_session_ends() {
    // What is said first over one that is back, and the acknowledgements of an exchange.
    let frames = 160;
    let there = (0..TO_SERVER + frames).map(|at| (Way::ToServer, at));
    let back = (0..TO_CLIENT + frames).map(|at| (Way::ToClient, at));
    let handshakes = TO_SERVER + TO_CLIENT;
    let struck = cut_at(Kind::Control, 20, there.chain(back)).await;
    println!("{struck} of {} cuts", handshakes + 2 * frames);
    assert!(struck > handshakes, "only {struck} cuts have struck, of {handshakes} in the handshake alone");
}
