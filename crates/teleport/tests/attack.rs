//! A peer that knows the cookie and means harm, against a real node: it may lose its own session, and nobody else
//! anything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use bytes::{BufMut, BytesMut};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};
use teleport::{
    Address, Caller, Config, Node, NodeEvent, Pid, Reference, SendError, SendOptions, StaticPeers, Term,
};
use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, CHALLENGE_LEN, Claim, Cookie, Dialler, Established, HELLO_LEN,
    HandshakeError, Limits, LocalNode, NONCE_LEN, Opening, PROOF_LEN, Refusal, VERDICT_LEN,
};
use teleport_proto::wire::control::{ControlFrame, Need, TransferFrame};
use teleport_proto::wire::envelope::{Destination, Envelope, Kind, Lane, ProcessId};
use teleport_proto::{Incarnation, NodeName};
use teleport_testkit::wait::{PATIENCE, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const COOKIE: &str = "XVTqZ3vF0cYbN7sLk2Rw";
const SECOND: Duration = Duration::from_secs(1);

async fn start(name: &str, peers: &StaticPeers, config: Config) -> Node {
    let builder = Node::builder(name).cookie(COOKIE).resolver(peers.clone()).config(config);
    let node = builder.start().await.unwrap();
    peers.insert(node.name().clone(), node.address());
    node
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

fn local(name: &str) -> LocalNode {
    let roomy = NonZeroU64::new(1 << 30).unwrap();
    let limits = Limits { max_message: roomy, peer_window: roomy, mailbox_window: None };
    LocalNode { name: name.parse().unwrap(), incarnation: Incarnation::new(77).unwrap(), features: 0, limits }
}

async fn exactly<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// A dialler that follows the protocol until it has proved itself.
struct Dialled {
    local: LocalNode,
    node: NodeName,
    address: SocketAddr,
    control: TcpStream,
    session: Established,
}

impl Dialled {
    async fn new(name: &str, node: &Node) -> Self {
        let (local, address) = (local(name), node.address());
        let opening = Opening::NewSession { cookie: Cookie::new(COOKIE.as_bytes()).unwrap(), dial: 1 };
        let (control, session) = open(&local, node.name(), address, opening).await.unwrap();
        Self { local, node: node.name().clone(), address, control, session }
    }

    async fn express(&self, connection: u64) -> Result<TcpStream, teleport_proto::handshake::HandshakeError> {
        let (session, key) = (self.session.session, self.session.key.clone());
        let opening = Opening::Express { session, key, connection };
        Ok(open(&self.local, &self.node, self.address, opening).await?.0)
    }

    async fn resume(&mut self, generation: u64) {
        let (session, key) = (self.session.session, self.session.key.clone());
        let opening = Opening::Resume { session, key, generation };
        self.control = open(&self.local, &self.node, self.address, opening).await.unwrap().0;
    }

    /// Asks for room for this many bytes of small messages, and waits until there is.
    async fn need(&mut self, bytes: u64) {
        let (express, bulk) = (Need { needed: bytes, wanted: bytes, waived: 0 }, Need::default());
        let mut out = BytesMut::new();
        let needed = TransferFrame::Needed { lane: Lane::Ordinary, express, bulk };
        ControlFrame::Transfer(needed).encode(&mut out);
        self.control.write_all(&out).await.unwrap();
        let mut received = BytesMut::new();
        loop {
            while let Some(frame) = ControlFrame::decode(&mut received).unwrap() {
                if let ControlFrame::Transfer(TransferFrame::Granted {
                    lane: Lane::Ordinary, express, ..
                }) = frame
                    && express >= bytes
                {
                    return;
                }
            }
            assert_ne!(self.control.read_buf(&mut received).await.unwrap(), 0, "control was closed");
        }
    }

    /// Sends a tick, and waits for its answer.
    async fn tick(&mut self, number: u64) -> Duration {
        let begun = Instant::now();
        let mut out = BytesMut::new();
        ControlFrame::Tick(number).encode(&mut out);
        self.control.write_all(&out).await.unwrap();
        let mut received = BytesMut::new();
        loop {
            while let Some(frame) = ControlFrame::decode(&mut received).unwrap() {
                if frame == ControlFrame::TickAnswer(number) {
                    return begun.elapsed();
                }
            }
            assert_ne!(self.control.read_buf(&mut received).await.unwrap(), 0, "control was closed");
        }
    }
}

async fn open(
    local: &LocalNode,
    node: &NodeName,
    address: SocketAddr,
    opening: Opening,
) -> Result<(TcpStream, Established), teleport_proto::handshake::HandshakeError> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let nonce = std::array::from_fn::<u8, NONCE_LEN, _>(|i| i as u8);
    let (dialler, hello) = Dialler::new(local, node, opening, &[], nonce).unwrap();
    stream.write_all(&hello).await.unwrap();
    let (dialler, proof) = dialler.challenge(&exactly::<CHALLENGE_LEN>(&mut stream).await)?;
    stream.write_all(&proof).await.unwrap();
    let established = dialler.verdict(&exactly::<VERDICT_LEN>(&mut stream).await)?;
    Ok((stream, established))
}

/// Takes one connection as an acceptor does. `refuse` refuses it after its proof.
async fn accept(
    local: &LocalNode,
    stream: &mut TcpStream,
    key: &mut Option<Established>,
    refuse: Option<Refusal>,
) {
    let random = std::array::from_fn::<u8, ACCEPTOR_RANDOM_LEN, _>(|i| i as u8 + 1);
    let hello = exactly::<HELLO_LEN>(stream).await;
    let (acceptor, challenge) = match Acceptor::new(local, &[], random).hello(&hello).unwrap() {
        Claim::New(claim) => claim.challenge(Some(&Cookie::new(COOKIE.as_bytes()).unwrap())),
        Claim::Join(claim) => claim.challenge(key.as_ref().map(|session| &session.key)),
    };
    stream.write_all(&challenge).await.unwrap();
    let authenticated = acceptor.proof(&exactly::<PROOF_LEN>(stream).await).unwrap();
    if let Some(refusal) = refuse {
        return stream.write_all(&authenticated.refuse(refusal)).await.unwrap();
    }
    let (verdict, established) = authenticated.accept(0);
    key.get_or_insert(established);
    stream.write_all(&verdict).await.unwrap();
}

fn frames(frame: ControlFrame, bytes: usize) -> BytesMut {
    let mut out = BytesMut::new();
    while out.len() < bytes {
        frame.encode(&mut out);
    }
    out
}

/// Writes until the other side takes no more for half a second, or has taken `most`, or has closed. How much it took.
async fn pour(stream: &mut TcpStream, bytes: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match timeout(SECOND / 2, stream.write(&bytes[taken % bytes.len()..])).await {
            Ok(Ok(n)) => taken += n,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

/// A batch of one message, behind others that are small, too.
fn message(seq: u64, to: &str, account: u64, len: usize) -> BytesMut {
    let mut inner = BytesMut::new();
    let from = ProcessId { id: 1, serial: 0 };
    let to = Destination::Name(to.into());
    let (kind, acknowledge) = (Kind::Data, false);
    Envelope { seq, predecessor: None, behind_all: false, account, kind, acknowledge, from, to }
        .encode(&mut inner);
    let mut rest = len;
    while rest >= 0x80 {
        inner.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    inner.put_u8(rest as u8);
    inner.put_bytes(7, len);
    let mut frame = BytesMut::new();
    frame.put_u32(12 + inner.len() as u32);
    frame.put_slice(&[1, 0, 0, 1]);
    frame.put_u64(seq - 1);
    frame.put_slice(&inner);
    frame
}

async fn closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    let end = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_whose_answers_nobody_reads_are_not_taken_for_ever() {
    let node = start("a@127.0.0.1", &StaticPeers::new(), Config::default()).await;
    let mut attacker = Dialled::new("x@127.0.0.1", &node).await;
    let flood = frames(ControlFrame::Tick(u64::MAX), 64 * 1024);
    let taken = pour(&mut attacker.control, &flood, 100 << 20).await;
    assert!(taken < 100 << 20, "the node keeps the answers to {taken} bytes of ticks");
    // And it can still be got rid of.
    assert!(node.disconnect(&"x@127.0.0.1".parse().unwrap()));
    assert!(closed(&mut attacker.control).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_ticks_holds_up_nobody_elses() {
    let node = start("a@127.0.0.1", &StaticPeers::new(), Config::default()).await;
    let mut bystander = Dialled::new("y@127.0.0.1", &node).await;
    let attacker = Dialled::new("x@127.0.0.1", &node).await;
    let (mut reader, mut writer) = attacker.control.into_split();
    let drain = tokio::spawn(async move {
        let mut buffer = vec![0; 256 * 1024];
        while reader.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let flood = frames(ControlFrame::Tick(1), 256 * 1024);
    let flooding = tokio::spawn(async move { while writer.write_all(&flood).await.is_ok() {} });
    let mut took = Vec::new();
    for number in 0..20 {
        took.push(timeout(PATIENCE, bystander.tick(number)).await.expect("an answer"));
    }
    // A machine that stands still holds up one or the other, a flood that comes first nearly all.
    took.sort_unstable();
    assert!(took[took.len() / 2] < SECOND, "{took:?}");
    assert!(node.disconnect(&"x@127.0.0.1".parse().unwrap()));
    timeout(PATIENCE, flooding).await.expect("the session ends in the middle of its flood").unwrap();
    drain.abort();
}

#[test]
fn acknowledgements_are_not_taken_faster_than_they_are_handled() {
    // The node's runtime has one thread, and that is held up.
    let busy = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    own.block_on(async {
        let builder = Node::builder("a@127.0.0.1").cookie(COOKIE).runtime(busy.handle().clone());
        let node = builder.start().await.unwrap();
        let mut attacker = Dialled::new("x@127.0.0.1", &node).await;
        attacker.tick(1).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        busy.spawn(async move { held.recv() });
        let nothing = TransferFrame::Received { connection: 99, frames: 0 };
        let flood = frames(ControlFrame::Transfer(nothing), 64 * 1024);
        let taken = pour(&mut attacker.control, &flood, 100 << 20).await;
        drop(release);
        assert!(taken < 100 << 20, "the node keeps what is in {taken} bytes of acknowledgements");
        // Later, all goes on where it stood.
        let rest = flood.len() - taken % flood.len();
        attacker.control.write_all(&flood[flood.len() - rest..]).await.unwrap();
        assert!(timeout(PATIENCE, attacker.tick(2)).await.is_ok());
    });
}

#[tokio::test]
async fn a_session_has_so_many_connections_and_no_more() {
    let node = start("a@127.0.0.1", &StaticPeers::new(), Config::default()).await;
    let attacker = Dialled::new("x@127.0.0.1", &node).await;
    let mut connections = Vec::new();
    for id in 1..=300 {
        connections.push(attacker.express(id).await);
    }
    // Those that are one too many are closed a moment later.
    let mut open: Vec<_> = connections.into_iter().flatten().collect();
    eventually("no more than so many are open", || {
        open.retain(|connection| {
            connection.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        open.len() <= 256
    })
    .await;
    assert!(node.info().peers[0].transfer.express_connections <= 256);
}

#[tokio::test]
async fn the_sessions_of_one_address_have_so_many_connections_and_no_more() {
    let node = start("a@127.0.0.1", &StaticPeers::new(), Config::default()).await;
    let (mut attackers, mut open) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let attacker = Dialled::new(&format!("x{number}@127.0.0.1"), &node).await;
        for id in 1..=200 {
            match attacker.express(id).await {
                Ok(connection) => open.push(connection),
                Err(HandshakeError::Refused { refusal: Refusal::TooManyConnections, .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        attackers.push(attacker);
    }
    assert!(open.len() <= 1024 + 6 * 2, "{}", open.len());
    // A session more has what it cannot do without; when others go it has more.
    let attacker = Dialled::new("y@127.0.0.1", &node).await;
    open.push(attacker.express(1).await.unwrap());
    open.push(attacker.express(2).await.unwrap());
    assert!(attacker.express(3).await.is_err());
    open.clear();
    eventually("there is room again", || {
        node.info().peers.iter().all(|peer| peer.transfer.express_connections == 0)
    })
    .await;
    attacker.express(4).await.unwrap();
}

#[tokio::test]
async fn connections_that_die_at_once_are_not_opened_without_end() {
    let peers = StaticPeers::new();
    let node = start("a@127.0.0.1", &peers, Config::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    peers.insert("x@127.0.0.1".parse().unwrap(), listener.local_addr().unwrap());
    let attacker = async {
        let (local, mut session) = (local("x@127.0.0.1"), None);
        let (mut control, _) = listener.accept().await.unwrap();
        accept(&local, &mut control, &mut session, None).await;
        let (mut joins, begun) = (0, Instant::now());
        loop {
            // It tries again, however slow it is.
            let rest = (2 * SECOND).saturating_sub(begun.elapsed());
            let limit = if joins < 2 { PATIENCE } else { rest };
            let Ok(connection) = timeout(limit, listener.accept()).await else { break };
            accept(&local, &mut connection.unwrap().0, &mut session, None).await;
            joins += 1;
        }
        drop(control);
        joins
    };
    let sender = node.process();
    let send = sender.send(("inbox", "x@127.0.0.1".parse::<NodeName>().unwrap()), &"hello");
    let (sent, joins) = tokio::join!(send, attacker);
    sent.unwrap();
    assert!((2..30).contains(&joins), "{joins} connections in two seconds");
}

#[tokio::test]
async fn a_name_that_is_taken_for_good_fails_the_send() {
    let peers = StaticPeers::new();
    let target = start("b@127.0.0.1", &peers, Config::default()).await;
    let first = start("a@127.0.0.1", &peers, Config::default()).await;
    first.send(("inbox", target.name()), &1).await.unwrap();
    let second = start("a@127.0.0.1", &peers, config(|config| config.setup_timeout = SECOND)).await;
    let sent = timeout(PATIENCE, second.send(("inbox", target.name()), &2)).await.expect("an end");
    assert!(matches!(sent, Err(SendError::NoConnection(_))), "{sent:?}");
    first.send(("inbox", target.name()), &3).await.unwrap();
}

#[tokio::test]
async fn an_acceptor_that_always_says_wait_fails_the_send() {
    let peers = StaticPeers::new();
    let node = start("a@127.0.0.1", &peers, config(|config| config.setup_timeout = SECOND)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    peers.insert("x@127.0.0.1".parse().unwrap(), listener.local_addr().unwrap());
    let attacker = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            accept(&local("x@127.0.0.1"), &mut stream, &mut None, Some(Refusal::Simultaneous)).await;
        }
    };
    let name: NodeName = "x@127.0.0.1".parse().unwrap();
    tokio::select! {
        sent = timeout(PATIENCE, node.send(("inbox", name), &1)) => {
            let sent = sent.expect("an end");
            assert!(matches!(sent, Err(SendError::NoConnection(_))), "{sent:?}");
        }
        () = attacker => {}
    }
}

#[tokio::test]
async fn a_peer_that_ignores_a_mailboxs_window_loses_its_session() {
    let window = NonZeroU64::new(1 << 20).unwrap();
    let node =
        start("a@127.0.0.1", &StaticPeers::new(), config(|config| config.mailbox_window = window)).await;
    let mut events = node.monitor_nodes();
    let inbox = node.register("inbox").unwrap();
    let attacker = Dialled::new("x@127.0.0.1", &node).await;
    assert!(matches!(events.recv().await, Some(NodeEvent::Up { .. })));
    let mut express = attacker.express(1).await.unwrap();
    for seq in 1..=500 {
        // Each on an account of its own, or on none.
        let account = if seq % 2 == 0 { seq } else { 0 };
        if express.write_all(&message(seq, "inbox", account, 32 * 1024)).await.is_err() {
            break;
        }
    }
    let event = timeout(PATIENCE, events.recv()).await.expect("the session ends");
    assert!(matches!(event, Some(NodeEvent::Down { .. })), "{event:?}");
    assert!(inbox.len() <= 16, "{} messages of 32 KiB in a mailbox of 1 MiB", inbox.len());
}

#[tokio::test]
async fn a_hundred_names_fill_no_more_than_a_mailboxs_total() {
    let window = 1 << 20;
    let own = |config: &mut Config| {
        config.mailbox_window = NonZeroU64::new(window).unwrap();
        config.receive_window = NonZeroU64::new(1 << 30).unwrap(); // all get what they ask for
    };
    let node = start("a@127.0.0.1", &StaticPeers::new(), config(own)).await;
    let mut inbox = node.register("inbox").unwrap();
    let mut attackers = Vec::new();
    for i in 0..100 {
        let mut attacker = Dialled::new(&format!("x{i}@127.0.0.1"), &node).await;
        let mut express = attacker.express(1).await.unwrap();
        // As much as an honest peer has credit for, once it has asked.
        attacker.need(7 * (32 * 1024 + 128)).await;
        for seq in 1..=7 {
            express.write_all(&message(seq, "inbox", 1, 32 * 1024)).await.unwrap();
        }
        attackers.push((attacker, express));
    }
    let sum = |node: &Node| {
        let peers = node.info().peers;
        let received: u64 = peers.iter().map(|peer| peer.transfer.messages_received).sum();
        (received, peers.iter().map(|peer| peer.transfer.undelivered_bytes).sum::<u64>())
    };
    eventually("all is received", || sum(&node).0 >= 700).await;
    let delivered = 700 * (32 * 1024 + 128) - sum(&node).1;
    assert!(delivered <= window, "{delivered} bytes delivered into a mailbox that takes {window} small ones");
    for _ in 0..350 {
        inbox.try_recv().unwrap();
    }
    drop(attackers);
    for i in 0..100 {
        node.disconnect(&format!("x{i}@127.0.0.1").parse().unwrap());
    }
    eventually("messages of sessions that are gone are dropped", || inbox.len() as u64 * 32 * 1024 <= window)
        .await;
}

#[tokio::test]
async fn a_peer_that_announces_an_endless_window_gets_no_more_than_this_node_would_take() {
    let window = 4 << 20;
    let own = |config: &mut Config| config.peer_window = NonZeroU64::new(window).unwrap();
    let node = start("a@127.0.0.1", &StaticPeers::new(), config(own)).await;
    let mut events = node.monitor_nodes();
    // It announces 1 GiB, reads, and acknowledges nothing.
    let attacker = Dialled::new("x@127.0.0.1", &node).await;
    assert!(matches!(events.recv().await, Some(NodeEvent::Up { .. })));
    let mut express = attacker.express(1).await.unwrap();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut express, &mut tokio::io::sink()).await });
    let options = SendOptions::default().nosuspend();
    let (mut accepted, to) = (0, Address::try_from(("sink", "x@127.0.0.1")).unwrap());
    while node.process().send_with(&to, &0, options).await.is_ok() {
        accepted += 1;
        assert!(accepted <= window / 4 / 128, "more is kept for a peer than its window");
    }
    let info = node.info();
    assert!(info.bytes_in_flight <= window / 4, "{info:?}");
    assert_eq!(info.peers[0].transfer.unconfirmed, accepted);
    drop(attacker);
    reading.abort();
}

#[tokio::test]
async fn a_control_connection_that_flaps_is_looked_for_once() {
    let peers = StaticPeers::new();
    let node = start("a@127.0.0.1", &peers, Config::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    peers.insert("x@127.0.0.1".parse().unwrap(), listener.local_addr().unwrap());
    let mut attacker = Dialled::new("x@127.0.0.1", &node).await;
    for generation in 1..=40 {
        attacker.resume(generation).await;
    }
    let Dialled { control, .. } = attacker;
    drop(control);
    drop(timeout(PATIENCE, listener.accept()).await.expect("it is looked for"));
    let (mut looks, begun) = (1, Instant::now());
    while let Ok(connection) = timeout(SECOND.saturating_sub(begun.elapsed()), listener.accept()).await {
        drop(connection);
        looks += 1;
    }
    assert!(looks < 10, "{looks} looks in a second");
}

/// Not a test of its own: the node with few descriptors, in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn child_with_few_descriptors() {
    if std::env::var_os("TELEPORT_FEW_DESCRIPTORS").is_none() {
        return;
    }
    let few = rustix::process::Rlimit { current: Some(100), maximum: Some(100) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
    let patient = config(|config| {
        config.handshake_timeout = 60 * SECOND;
        config.worker_threads = 1;
    });
    let node = start("a@127.0.0.1", &StaticPeers::new(), patient).await;
    eprintln!("address {}", node.address());
    // Ends with its parent.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}

#[tokio::test]
async fn descriptors_held_without_a_proof_come_back() {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_with_few_descriptors", "--nocapture"])
        .env("TELEPORT_FEW_DESCRIPTORS", "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let address: SocketAddr = loop {
        let mut line = String::new();
        assert_ne!(said.read_line(&mut line).await.unwrap(), 0);
        if let Some(address) = line.trim().strip_prefix("address ") {
            break address.parse().unwrap();
        }
    };
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let opening = Opening::NewSession { cookie: Cookie::new(COOKIE.as_bytes()).unwrap(), dial: 1 };
    let (local, node) = (local("x@127.0.0.1"), "a@127.0.0.1".parse().unwrap());
    let session = timeout(PATIENCE, open(&local, &node, address, opening)).await.expect("an answer");
    session.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_sessions_ask_for_all_there_is_their_windows_stay_within_the_cap() {
    const CAP: u64 = 4 << 20;
    let own = |config: &mut Config| config.receive_window = NonZeroU64::new(CAP).unwrap();
    let peers = StaticPeers::new();
    let node = start("a@127.0.0.1", &peers, config(own)).await;
    let mut events = node.monitor_nodes();
    let mut attackers = Vec::new();
    for i in 0..100 {
        let mut attacker = Dialled::new(&format!("x{i}@127.0.0.1"), &node).await;
        let mut out = BytesMut::new();
        for lane in [Lane::Ordinary, Lane::Exempt] {
            let need = Need { needed: 8 << 20, wanted: 8 << 20, waived: 0 };
            ControlFrame::Transfer(TransferFrame::Needed { lane, express: need, bulk: need })
                .encode(&mut out);
        }
        attacker.control.write_all(&out).await.unwrap();
        attacker.tick(1).await; // behind it
        attackers.push(attacker);
    }
    for _ in 0..100 {
        assert!(matches!(events.recv().await, Some(NodeEvent::Up { .. })));
    }
    // What each has in any case, one large message of each kind, and one for whom the cap was empty.
    let most = CAP + 100 * 2 * (64 * 1024 + 128) + (4 + 2) * (8 << 20);
    let granted = |node: &Node| node.info().peers.iter().map(|peer| peer.transfer.granted_bytes).sum::<u64>();
    eventually("something is granted", || granted(&node) >= 8 << 20).await;
    assert!(granted(&node) <= most, "{} bytes are granted, {most} are allowed", granted(&node));
    // An honest peer still gets small messages through, and their answers.
    let honest = start("h@127.0.0.1", &peers, Config::default()).await;
    let mut inbox = node.register("inbox").unwrap();
    for number in 0..2000u32 {
        honest.send(("inbox", node.name()), &(number, teleport::Binary::from(vec![7; 1000]))).await.unwrap();
        let received = timeout(PATIENCE, inbox.recv()).await.expect("it arrives").unwrap();
        assert_eq!(received.decode::<(u32, teleport::Binary)>().unwrap().0, number);
    }
    assert!(granted(&node) <= most + 2 * (64 * 1024 + 128));
}

#[tokio::test]
async fn a_batch_that_no_credit_explains_ends_the_session() {
    let node = start("a@127.0.0.1", &StaticPeers::new(), Config::default()).await;
    let mut events = node.monitor_nodes();
    let attacker = Dialled::new("x@127.0.0.1", &node).await;
    assert!(matches!(events.recv().await, Some(NodeEvent::Up { .. })));
    let mut connections = Vec::new();
    for id in 1..=8 {
        let Ok(mut express) = attacker.express(id).await else { break }; // it has ended already
        // The beginning of a megabyte.
        let _ = express.write_all(&[0, 15, 255, 252, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        connections.push(express);
    }
    let event = timeout(PATIENCE, events.recv()).await.expect("the session ends");
    assert!(matches!(event, Some(NodeEvent::Down { .. })), "{event:?}");
}

/// What a caller would be whose reference has these words.
fn caller_with(node: &Node, words: [u32; 3]) -> Caller {
    let own = node.process().pid();
    let reference = Reference::new(own.node.clone(), own.creation, &words).unwrap();
    let tag = Term::improper_list([Term::atom("alias")], reference.into());
    teleport::etf::from_bytes(&teleport::etf::to_segments(&(own, tag)).unwrap().into_contiguous()).unwrap()
}

/// The words of the reference that a caller is answered by.
fn words_of(caller: &Caller) -> [u32; 3] {
    let encoded = teleport::etf::to_segments(caller).unwrap().into_contiguous();
    let (_, tag): (Pid, Term) = teleport::etf::from_bytes(&encoded).unwrap();
    let Term::ImproperList(tag) = &tag else { panic!("{tag:?}") };
    tag.tail().as_reference().unwrap().words().try_into().unwrap()
}

#[tokio::test]
async fn who_was_called_before_cannot_answer_a_call_that_was_made_to_another() {
    let peers = StaticPeers::new();
    let [asker, asked, hostile] =
        ["a@127.0.0.1", "b@127.0.0.1", "x@127.0.0.1"].map(|name| start(name, &peers, Config::default()));
    let (asker, asked, hostile) = tokio::join!(asker, asked, hostile);
    let (mut server, mut spy) = (asked.register("server").unwrap(), hostile.register("server").unwrap());
    let caller = asker.process();
    let known = caller.send_request::<_, String>(("server", hostile.name()), "hello").await.unwrap();
    let (spied, _) = spy.recv().await.unwrap().call().unwrap();
    let call = caller.send_request::<_, String>(("server", asked.name()), "question").await.unwrap();
    let mut watcher = asker.mailbox().unwrap();
    let monitor = watcher.monitor(("server", asked.name())).await.unwrap();
    let (honest, _) = server.recv().await.unwrap().call().unwrap();
    // It tries all that come after what it was asked itself, and the first ones of any node.
    let [first, second, third] = words_of(&spied);
    let after = (1..=100).map(|more| [first + more, second, third]);
    let forged: Vec<_> = after.chain((1..=100).map(|number| [number, 0, 0])).collect();
    for words in &forged {
        let forged = caller_with(&asker, *words);
        hostile.process().reply(&forged, &"forged").unwrap();
        hostile.process().reject(&forged, "forged");
    }
    hostile.process().reply(&spied, &"fine").unwrap();
    assert_eq!(timeout(PATIENCE, known).await.unwrap().unwrap(), "fine", "the only one of its own");
    while asker.info().late_replies < forged.len() as u64 {
        tokio::task::yield_now().await;
    }
    server.process().reply(&honest, &"honest").unwrap();
    assert_eq!(timeout(PATIENCE, call).await.unwrap().unwrap(), "honest");
    server.exit(Term::atom("tired"));
    let down = watcher.recv().await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (monitor, Term::atom("tired")));
}
