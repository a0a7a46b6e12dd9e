//! What bad input gets: a typed error that names the thing and the way out. No hang, no panic, nobody else disturbed.

use crate::common::child::{self, Child};
use crate::common::log::Log;
use crate::common::script::{Script, closed_by_peer, read};
use crate::common::{
    COOKIE, MIB, assert_says, config, events_so_far, eventually, name, nobodys_address, pair, payload,
    peer_of, receive, start, start_apart, start_with, within,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;
use teleport::{
    Address, ConnectError, Node, RegisterError, SendError, SendOptions, StartError, StaticPeers,
    etf::Segments,
};
use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, CHALLENGE_LEN, Claim, Cookie, HELLO_LEN, HandshakeError, Opening, VERSION,
};
use teleport_testkit::cluster::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a node gets that sends to `b@127.0.0.1` at that address.
async fn sending_to(address: SocketAddr) -> ConnectError {
    sending_within(Duration::from_secs(30), address).await
}

/// The same, where setting up a connection may take so long.
async fn sending_within(limit: Duration, address: SocketAddr) -> ConnectError {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, |config| config.setup_timeout = limit).await;
    peers.insert("b@127.0.0.1".parse().unwrap(), address);
    match within(a.send(("inbox", name("b@127.0.0.1")), &1)).await {
        Err(SendError::NoConnection(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A server that treats every client so.
async fn serving<F: Future<Output = ()> + Send>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

#[tokio::test]
async fn another_cookie_is_refused_and_disturbs_nobody() {
    let peers = StaticPeers::new();
    let (a, b) = (start("a@127.0.0.1", &peers).await, start("b@127.0.0.1", &peers).await);
    let mut inbox = b.register("inbox").unwrap();
    let builder = Node::builder("stranger@127.0.0.1").cookie("another secret altogether");
    let stranger = builder.resolver(peers.clone()).start().await.unwrap();
    for _ in 0..2 {
        let error = within(stranger.send(("inbox", b.name()), &0)).await.unwrap_err();
        let SendError::NoConnection(ConnectError::Handshake { cause: HandshakeError::Cookie { .. }, .. }) =
            error
        else {
            panic!("{error}")
        };
        assert_says(&error, &["b@127.0.0.1", "set the same cookie on both"]);
    }
    within(a.send(("inbox", b.name()), &1)).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 1);
    assert!(peer_of(&b, stranger.name()).is_none());
}

#[tokio::test]
async fn a_cookie_of_one_peer_only_is_used_for_that_peer() {
    let peers = StaticPeers::new();
    let b = Node::builder("b@127.0.0.1")
        .cookie(COOKIE)
        .peer_cookie("a@127.0.0.1".parse().unwrap(), "only for the two of us");
    let b = b.resolver(peers.clone()).start().await.unwrap();
    peers.insert(b.name().clone(), b.address());
    let mut inbox = b.register("inbox").unwrap();
    let a = start("a@127.0.0.1", &peers).await;
    assert!(within(a.send(("inbox", b.name()), &0)).await.is_err());
    let c = start("c@127.0.0.1", &peers).await;
    within(c.send(("inbox", b.name()), &1)).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 1);
    drop(a);
    let a =
        Node::builder("a@127.0.0.1").cookie(COOKIE).peer_cookie(b.name().clone(), "only for the two of us");
    let a = a.resolver(peers.clone()).start().await.unwrap();
    within(a.send(("inbox", b.name()), &2)).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 2);
}

#[tokio::test]
async fn a_node_without_an_address_is_named() {
    let a = start("a@127.0.0.1", &StaticPeers::new()).await;
    let error = within(a.send(("inbox", name("unknown@127.0.0.1")), &1)).await.unwrap_err();
    assert!(matches!(&error, SendError::NoConnection(ConnectError::UnknownNode(_))), "{error:?}");
    assert_says(&error, &["unknown@127.0.0.1", "nobody knows where", "where peers are configured"]);
    let error = within(a.prime(&"unknown@127.0.0.1".parse().unwrap())).await.unwrap_err();
    assert_says(&error, &["unknown@127.0.0.1"]);
}

#[tokio::test]
async fn a_port_without_a_listener_is_named() {
    let (_socket, address) = nobodys_address();
    let error = sending_to(address).await;
    assert!(matches!(error, ConnectError::Connect { .. }), "{error:?}");
    assert_says(&error, &["b@127.0.0.1", &address.to_string(), "is the node running"]);
}

#[tokio::test]
async fn a_server_of_another_protocol_is_shown_by_what_it_says() {
    let address = serving(|mut stream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.unwrap();
        std::mem::forget(stream); // it waits for the client
    })
    .await;
    let error = sending_to(address).await;
    let ConnectError::Handshake { cause: HandshakeError::NotTeleport { .. }, .. } = &error else {
        panic!("{error:?}")
    };
    assert_says(&error, &["b@127.0.0.1", "SSH-2.0", "something else uses that address"]);
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = sending_within(Duration::from_millis(300), listener.local_addr().unwrap()).await;
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    assert_says(&error, &["b@127.0.0.1", "300ms", "check the network"]);
}

#[tokio::test]
async fn a_server_that_closes_is_named() {
    let address = serving(|mut stream| async move {
        read::<HELLO_LEN>(&mut stream).await; // unread bytes would make it a reset
    })
    .await;
    let error = sending_to(address).await;
    assert!(matches!(error, ConnectError::Closed { .. }), "{error:?}");
    assert_says(&error, &["b@127.0.0.1", &address.to_string(), "is that a teleport node?"]);
    let error = sending_to(serving(|stream| async move { drop(stream) }).await).await;
    assert!(matches!(error, ConnectError::Closed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_of_another_name_at_the_address_is_named() {
    let c = start("c@127.0.0.1", &StaticPeers::new()).await;
    let error = sending_to(c.address()).await;
    let ConnectError::Handshake { cause: HandshakeError::WrongNode { .. }, .. } = &error else {
        panic!("{error:?}")
    };
    assert_says(&error, &["b@127.0.0.1 was wanted", "c@127.0.0.1 was reached", "correct the address"]);
}

#[tokio::test]
async fn a_node_does_not_connect_to_its_own_name() {
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    let error = within(a.prime(a.name())).await.unwrap_err();
    assert!(matches!(&error, ConnectError::OwnName(_)), "{error:?}");
    assert_says(&error, &["a@127.0.0.1", "send to its names and pids directly"]);
}

#[tokio::test]
async fn another_protocol_version_is_named_on_both_sides() {
    const VERSION_AT: usize = 10;
    // A node that answers with a newer version.
    let address = serving(|mut stream| async move {
        let hello = read::<HELLO_LEN>(&mut stream).await;
        let local =
            Script::new("b@127.0.0.1", &"a@127.0.0.1".parse().unwrap(), stream.local_addr().unwrap()).local;
        let Ok(Claim::New(claim)) = Acceptor::new(&local, &[], [7; ACCEPTOR_RANDOM_LEN]).hello(&hello) else {
            panic!("no hello for a new session")
        };
        let (_, mut challenge) = claim.challenge(None);
        challenge[VERSION_AT..VERSION_AT + 2].copy_from_slice(&9u16.to_be_bytes());
        stream.write_all(&challenge).await.unwrap();
        closed_by_peer(&mut stream).await;
    })
    .await;
    let error = sending_to(address).await;
    let ConnectError::Handshake { cause: HandshakeError::Version { ours: VERSION, theirs: 9 }, .. } = &error
    else {
        panic!("{error:?}")
    };
    assert_says(&error, &["b@127.0.0.1", "protocol 9", "we speak 3", "upgrade the older"]);

    // A dialler that speaks an older one is told so.
    let b = start("b@127.0.0.1", &StaticPeers::new()).await;
    let mut script = Script::new("old@127.0.0.1", b.name(), b.address());
    let cookie = Cookie::new(COOKIE.as_bytes()).unwrap();
    let (mut stream, dialler, mut hello) = script.begin(Opening::NewSession { cookie, dial: 1 }).await;
    hello[VERSION_AT..VERSION_AT + 2].copy_from_slice(&0u16.to_be_bytes());
    stream.write_all(&hello).await.unwrap();
    let error = dialler.challenge(&read::<CHALLENGE_LEN>(&mut stream).await).unwrap_err();
    assert_eq!(error, HandshakeError::Version { ours: VERSION, theirs: VERSION });
    closed_by_peer(&mut stream).await;
}

#[tokio::test]
async fn what_is_no_node_name_is_shown() {
    for bad in ["nohost", "@host", "name@", "a@b@c", "", "a b@host"] {
        let error = Node::builder(bad).cookie(COOKIE).start().await.unwrap_err();
        assert!(matches!(error, StartError::Name(_)), "{bad}: {error:?}");
        assert_says(&error, &[&format!("{bad:?}"), "a node name looks like"]);
    }
    let error = Address::try_from(("inbox", "nohost")).unwrap_err();
    assert_says(&error, &["nohost", "a node name looks like"]);
}

/// Whatever a field's type lets in.
#[tokio::test]
async fn with_any_value_a_node_works_or_does_not_start() {
    const LEAST: NonZeroU64 = NonZeroU64::MIN;
    const MOST: NonZeroU64 = NonZeroU64::MAX;
    type Change = fn(&mut teleport::Config);
    let changes: [(&str, Change); 26] = [
        ("max_message 1", |config| config.max_message = LEAST),
        ("max_message", |config| config.max_message = MOST),
        ("peer_window 1", |config| config.peer_window = LEAST),
        ("peer_window", |config| config.peer_window = MOST),
        ("receive_window 1", |config| config.receive_window = LEAST),
        ("receive_window", |config| config.receive_window = MOST),
        ("peer_window, receive_window", |config| {
            (config.peer_window, config.receive_window) = (MOST, MOST);
            (config.max_message, config.mailbox_window) = (MOST, MOST);
        }),
        ("mailbox_window 1", |config| config.mailbox_window = LEAST),
        ("mailbox_window", |config| config.mailbox_window = MOST),
        ("mailbox_total 1", |config| config.mailbox_total = Some(LEAST)),
        ("mailbox_total", |config| config.mailbox_total = Some(MOST)),
        ("node_window 1", |config| config.node_window = LEAST),
        ("node_window", |config| config.node_window = MOST),
        ("answers_window 1", |config| config.answers_window = LEAST),
        ("answers_window", |config| config.answers_window = MOST),
        ("max_watches", |config| config.max_watches = usize::MAX),
        ("max_pacing_rate", |config| config.max_pacing_rate = Some(MOST)),
        ("tick_interval 0", |config| config.tick_interval = Some(Duration::ZERO)),
        ("tick_interval 1", |config| config.tick_interval = Some(Duration::from_nanos(1))),
        ("max_handshakes", |config| config.max_handshakes = usize::MAX),
        ("max_sessions", |config| config.max_sessions = usize::MAX),
        ("backoff", |config| config.backoff.first = Duration::from_secs(86_400)),
        ("flush_delay 1", |config| config.flush_delay = Duration::from_nanos(1)),
        ("buffer_pool 0", |config| config.buffer_pool = 0),
        ("buffer_pool", |config| config.buffer_pool = usize::MAX),
        ("notsent_lowat 0", |config| config.notsent_lowat = 0),
    ];
    for (what, change) in changes {
        let peers = StaticPeers::new();
        let node = async |name: &str| {
            let builder = Node::builder(name).cookie(COOKIE).resolver(peers.clone()).config(config(change));
            let node = builder.start().await.ok()?;
            peers.insert(node.name().clone(), node.address());
            Some(node)
        };
        let (Some(a), Some(b)) = (node("a@127.0.0.1").await, node("b@127.0.0.1").await) else { continue };
        let mut inbox = b.register("inbox").unwrap();
        for len in [1, 100_000, 300_000] {
            let body = payload(len, 1);
            let sent = tokio::time::timeout(Duration::from_secs(20), a.send(("inbox", b.name()), &body));
            match sent.await.unwrap_or_else(|_| panic!("{what}: {len} bytes were not sent")) {
                Ok(()) => {
                    let received = tokio::time::timeout(Duration::from_secs(20), inbox.recv()).await;
                    let received = received.unwrap_or_else(|_| panic!("{what}: {len} bytes did not arrive"));
                    assert_eq!(received.unwrap().decode::<teleport::Binary>().unwrap().len(), len, "{what}");
                }
                Err(SendError::TooLarge { .. }) => {}
                Err(error) => panic!("{what}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_a_node_cannot_start_with_is_named() {
    let error = Node::builder("a@127.0.0.1").start().await.unwrap_err();
    assert!(matches!(error, StartError::NoCookie(_)), "{error:?}");
    assert_says(&error, &["a@127.0.0.1", "NodeBuilder::cookie"]);
    let error = Node::builder("a@127.0.0.1").cookie("").start().await.unwrap_err();
    assert!(matches!(error, StartError::Cookie(_)), "{error:?}");
    assert_says(&error, &["cookie is empty", "16 random characters"]);
    let a = start("a@127.0.0.1", &StaticPeers::new()).await;
    let error = Node::builder("b@127.0.0.1").cookie(COOKIE).listen(a.address()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    assert_says(&error, &[&a.address().to_string(), "choose another address"]);
    let flaws = [
        ("bulk_connections", "1 to 100", config(|config| config.bulk_connections = 0)),
        ("most_bulk_connections", "1 to 100", config(|config| config.most_bulk_connections = 0)),
        ("express_connections", "1 to 100", config(|config| config.express_connections = u32::MAX)),
        ("worker_threads", "1 to 1024", config(|config| config.worker_threads = 100_000)),
        ("net_ticktime", "30 days", config(|config| config.net_ticktime = Duration::MAX)),
        ("max_sessions", "at least 1", config(|config| config.max_sessions = 0)),
        ("max_handshakes", "at least 1", config(|config| config.max_handshakes = 0)),
        ("setup_timeout", "a day", config(|config| config.setup_timeout = Duration::MAX)),
    ];
    for (flawed, allowed, config) in flaws {
        let error = Node::builder("b@127.0.0.1").cookie(COOKIE).config(config).start().await.unwrap_err();
        assert!(matches!(error, StartError::Config { field, .. } if field == flawed), "{error:?}");
        assert_says(&error, &[flawed, allowed]);
    }
    let snail = config(|config| config.congestion = Some("snail".into()));
    let error = Node::builder("b@127.0.0.1").cookie(COOKIE).config(snail).start().await.unwrap_err();
    assert!(matches!(error, StartError::Congestion { .. }), "{error:?}");
    assert_says(&error, &["snail", "No such file", "tcp_available_congestion_control"]);
}

#[tokio::test]
async fn registered_names_are_checked_here_and_at_the_sender() {
    let (a, b) = pair().await;
    let inbox = b.register("inbox").unwrap();
    assert_eq!(b.register("inbox").unwrap_err(), RegisterError::Taken("inbox".to_owned()));
    drop(inbox);
    let _again = b.register("inbox").unwrap();
    for bad in ["".to_owned(), "x".repeat(256)] {
        let error = b.register(&bad).unwrap_err();
        assert_says(&error, &["1 to 255 bytes"]);
    }
    let error = within(a.send((&*"x".repeat(256), b.name()), &1)).await.unwrap_err();
    assert!(matches!(error, SendError::NameTooLong(256)), "{error:?}");
    assert_says(&error, &["256", "255"]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_a_byte_is_written() {
    let peers = StaticPeers::new();
    let a =
        start_with("a@127.0.0.1", &peers, |config| config.max_message = (2 * MIB as u64).try_into().unwrap())
            .await;
    let b = start_with("b@127.0.0.1", &peers, |config| config.max_message = (MIB as u64).try_into().unwrap())
        .await;
    let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
    let body = payload(MIB, 1);
    let size = teleport::etf::to_segments(&body).unwrap().len() as u64;
    // The peer's limit binds the one with the larger one, the own limit the other.
    for (node, other) in [(&a, &b), (&b, &a)] {
        let error = within(node.send(("inbox", other.name()), &body)).await.unwrap_err();
        assert!(matches!(error, SendError::TooLarge { limit: 0x10_0000, .. }), "{error:?}");
        assert_says(&error, &[&size.to_string(), "1048576", "raise max_message on both nodes"]);
        let transfer = peer_of(node, other.name()).unwrap().transfer;
        assert_eq!((transfer.messages_sent, transfer.unconfirmed_bytes), (0, 0));
        // The largest that is allowed goes through.
        let fits = payload(2 * MIB - size as usize, 2);
        within(node.send(("inbox", other.name()), &fits)).await.unwrap();
    }
    for inbox in [&mut at_a, &mut at_b] {
        let received = within(inbox.recv()).await.unwrap();
        assert_eq!(received.body().len(), MIB);
        assert!(inbox.try_recv().is_none());
    }
    // To one's own mailboxes the own limit counts.
    let error = a.send("inbox", &payload(2 * MIB, 3)).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { limit: 0x20_0000, .. }), "{error:?}");
}

#[tokio::test]
async fn what_does_not_decode_is_the_receivers_error_only() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    let garbage = Segments::from(vec![131, 104, 200, 1, 2, 3]);
    within(a.process().send_encoded(("inbox", b.name()), garbage, SendOptions::default())).await.unwrap();
    within(a.send(("inbox", b.name()), &"text")).await.unwrap();
    let message = within(inbox.recv()).await.unwrap();
    assert!(message.decode::<u8>().is_err());
    let message = within(inbox.recv()).await.unwrap();
    assert!(message.decode::<u8>().is_err());
    assert_eq!(message.decode::<String>().unwrap(), "text");
}

/// Clients that say nothing useful, in many ways, and go.
async fn molest(address: SocketAddr, peer: &Node, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut script = Script::new("fake@127.0.0.1", peer.name(), address);
    for round in 0..40 {
        let cookie = Cookie::new(b"a guessed cookie").unwrap();
        let (mut stream, _, hello) = script.begin(Opening::NewSession { cookie, dial: round }).await;
        let noise: Vec<u8> = (0..rng.between(1, 2000)).map(|_| rng.bits() as u8).collect();
        let sent = match round % 5 {
            0 => stream.write_all(&noise).await,
            1 => stream.write_all(&hello[..rng.below(HELLO_LEN as u64) as usize]).await,
            2 => {
                let mut hello = hello;
                hello[rng.below(HELLO_LEN as u64) as usize] ^= 1 << rng.below(8);
                stream.write_all(&[&hello[..], &noise].concat()).await
            }
            3 => stream.write_all(&[&hello[..], &noise].concat()).await,
            _ => stream.set_zero_linger(),
        };
        drop(sent); // it may have been closed by then
        if rng.chance(500) {
            // Whatever it hears is not a verdict.
            stream.shutdown().await.ok();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.ok();
            assert!(heard.len() <= CHALLENGE_LEN + 56, "{} bytes", heard.len());
        }
    }
}

#[tokio::test]
async fn clients_that_speak_garbage_disturb_nobody() {
    let (a, b) = pair().await;
    let (mut inbox, mut events) = (b.register("inbox").unwrap(), b.monitor_nodes());
    within(a.prime(b.name())).await.unwrap();
    let (sender, to) = (a.clone(), b.name().clone());
    let sending = tokio::spawn(async move {
        for i in 0..200u64 {
            let body = payload([10, 70_000][i as usize % 2], i);
            sender.send(("inbox", &to), &(i, body)).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    within(async {
        tokio::join!(molest(b.address(), &b, 1), molest(b.address(), &b, 2), molest(a.address(), &a, 3))
    })
    .await;
    for i in 0..200u64 {
        let (number, body): (u64, teleport::Binary) = receive(&mut inbox).await;
        assert_eq!((number, &body), (i, &payload(body.len(), i)));
    }
    sending.await.unwrap();
    assert_eq!(events_so_far(&mut events).await.len(), 1, "one session, from beginning to end");
    assert_eq!(peer_of(&a, b.name()).unwrap().transfer.connections_retired, 0);
    assert_eq!(b.info().peers.len(), 1);
}

#[tokio::test]
async fn half_open_handshakes_end_in_time_and_make_room_for_others() {
    let peers = StaticPeers::new();
    let b = start_with("b@127.0.0.1", &peers, |config| {
        config.handshake_timeout = Duration::from_secs(5); // which the newcomer's own has to end in, too
        config.max_handshakes = 3;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(b.address()).await.unwrap());
    }
    let mut inbox = b.register("inbox").unwrap();
    let a = start_apart("a@127.0.0.1", &peers, |_| {}).await;
    within(a.send(("inbox", b.name()), &1)).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 1);
    for mut stream in silent {
        closed_by_peer(&mut stream).await;
    }
}

#[tokio::test]
async fn a_pool_connection_that_gets_garbage_closes_alone() {
    let (_a, b) = pair().await;
    let mut events = b.monitor_nodes();
    let mut script = Script::new("script@127.0.0.1", b.name(), b.address());
    let (_control, session) = script.session().await;
    let opening = |connection, bulk| {
        let (session, key) = (session.session, session.key.clone());
        match bulk {
            true => Opening::Bulk { session, key, connection },
            false => Opening::Express { session, key, connection },
        }
    };
    for connection in 1..=6 {
        let (mut stream, _) = script.open(opening(connection, connection % 2 == 0)).await.unwrap();
        let garbage = if connection < 3 { [0xff; 100] } else { [b'x'; 100] };
        stream.write_all(&garbage).await.unwrap();
        closed_by_peer(&mut stream).await;
    }
    // An id that was used before opens nothing, nor does the wrong key.
    let error = script.open(opening(6, false)).await.unwrap_err();
    assert_says(&error, &["used before"]);
    // That control is connected is noted on the thread for it, which none of the others waits for.
    let lives = || peer_of(&b, &name("script@127.0.0.1")).is_some_and(|peer| peer.control_connected);
    eventually("the session lives", lives).await;
    assert_eq!(events_so_far(&mut events).await.len(), 1);
}

/// A child's part: a node that has hardly any file descriptors left, and tells how often it has warned of that, and what it
/// receives.
pub(crate) fn scarce_process() {
    child::run(async {
        let log = Log::collect();
        let b = start("b@127.0.0.1", &StaticPeers::new()).await;
        let mut inbox = b.register("inbox").unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let limit = Rlimit { current: Some(open + 12), maximum: Some(open + 12) };
        setrlimit(Resource::Nofile, limit).unwrap();
        child::tell(b.address());
        let failed = ["node=b@127.0.0.1", "cannot accept"];
        eventually("accepts fail", || log.with(&failed).len() >= 5).await;
        let warnings = log.levels(&failed).into_iter().filter(|level| *level == tracing::Level::WARN).count();
        child::tell(warnings);
        child::tell(receive::<String>(&mut inbox).await);
        let _parent_is_done = child::hear();
    });
}

#[tokio::test]
async fn a_node_without_descriptors_accepts_again_when_there_are_some() {
    let mut child = Child::start("scarce");
    let address: SocketAddr = child.hear().await.parse().unwrap();
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(child.hear().await, "1", "it is said once a minute");
    // They wait in the kernel's queue; so does this one, until the crowd has gone.
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    peers.insert("b@127.0.0.1".parse().unwrap(), address);
    let send = tokio::spawn(async move { (a.send(("inbox", name("b@127.0.0.1")), &"made it").await, a) });
    drop(crowd);
    let (sent, _a) = within(send).await.unwrap();
    sent.unwrap();
    assert_eq!(child.hear().await, "made it");
}
