//! What may change while a node runs is looked up when it is needed: where a peer is, its cookie, the ticktime.

use crate::common::child::Child;
use crate::common::log::Log;
use crate::common::{
    COOKIE, assert_says, event, eventually, name, next_end, nobodys_address, pair, peer_of, start,
    start_apart, start_with, within,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use teleport::{
    Asking, CallingBack, ConnectError, Cookies, EndReason, HandshakeError, Node, NodeEvent, NodeName,
    Resolver, Resolving, SendError, StaticPeers,
};
use teleport_testkit::proxy::{Fault, Faults, Proxy};
use tokio::net::TcpListener;

/// Any node may be at any of these, in this order.
struct Candidates(Vec<SocketAddr>);

impl Resolver for Candidates {
    fn resolve<'a>(&'a self, _: &'a NodeName) -> Resolving<'a> {
        Box::pin(std::future::ready(self.0.clone()))
    }
}

async fn dialler(candidates: &[SocketAddr], setup_timeout: Duration) -> Node {
    let mut config = teleport::Config::default();
    config.setup_timeout = setup_timeout;
    let builder = Node::builder("a@127.0.0.1").cookie(COOKIE).config(config);
    builder.resolver(Candidates(candidates.to_vec())).start().await.unwrap()
}

const LONG: Duration = Duration::from_secs(30);

/// An address that has not answered by then has the next one tried beside it.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Knows a node until it is told to, and then never answers again.
struct Silenced(SocketAddr, Arc<AtomicBool>);

impl Resolver for Silenced {
    fn resolve<'a>(&'a self, _: &'a NodeName) -> Resolving<'a> {
        match self.1.load(Ordering::Relaxed) {
            true => Box::pin(std::future::pending()),
            false => Box::pin(std::future::ready(vec![self.0])),
        }
    }
}

#[tokio::test]
async fn further_connections_of_a_session_do_not_wait_for_the_resolver() {
    let (b, silent) = (start("b@127.0.0.1", &StaticPeers::new()).await, Arc::new(AtomicBool::new(false)));
    let mut mailbox = b.mailbox().unwrap();
    let resolver = Silenced(b.address(), silent.clone());
    let a = Node::builder("a@127.0.0.1").cookie(COOKIE).resolver(resolver).start().await.unwrap();
    let process = a.process();
    within(process.send(mailbox.pid(), "small")).await.unwrap();
    assert_eq!(within(mailbox.recv()).await.unwrap().decode::<String>().unwrap(), "small");
    silent.store(true, Ordering::Relaxed);
    let large = "large".repeat(1 << 18);
    within(process.send(mailbox.pid(), large.as_str())).await.unwrap();
    assert_eq!(within(mailbox.recv()).await.unwrap().decode::<String>().unwrap(), large);
}

/// Knows a node at one address, which may change, and counts how often it is asked.
struct Counting(Mutex<SocketAddr>, AtomicUsize);

impl Resolver for &'static Counting {
    fn resolve<'a>(&'a self, _: &'a NodeName) -> Resolving<'a> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(vec![*self.0.lock().unwrap()]))
    }
}

/// How often a resolver is asked for a session and its connections, if the address that is known answers the last of them,
/// refuses it, or says nothing to it. And whether one may have taken so long that another was looked for, as it should be.
async fn asked(refuses: Option<bool>) -> (usize, bool) {
    let b = start("b@127.0.0.1", &StaticPeers::new()).await;
    let mut mailbox = b.mailbox().unwrap();
    let proxy = Proxy::start(b.address()).await.unwrap();
    let resolver: &Counting = Box::leak(Box::new(Counting(Mutex::new(proxy.address()), AtomicUsize::new(0))));
    let mut config = teleport::Config::default();
    config.express_connections = 1;
    (config.bulk_connections, config.most_bulk_connections) = (1, 1);
    let builder = Node::builder("a@127.0.0.1").cookie(COOKIE).config(config);
    let a = builder.resolver(resolver).start().await.unwrap();
    let (process, large) = (a.process(), "large".repeat(1 << 15));
    let begun = Instant::now();
    within(process.send(mailbox.pid(), "small")).await.unwrap();
    within(mailbox.recv()).await.unwrap();
    let mut is_slow = begun.elapsed() >= NEXT_AFTER;
    *resolver.0.lock().unwrap() = b.address();
    match refuses {
        None => {}
        Some(true) => proxy.shut().await,
        Some(false) => proxy.plan(|_| Faults { to_server: Fault::Stall { at: 0 }, ..Faults::default() }),
    }
    let begun = Instant::now();
    within(process.send(mailbox.pid(), large.as_str())).await.unwrap();
    within(mailbox.recv()).await.unwrap();
    is_slow |= refuses.is_none() && begun.elapsed() >= NEXT_AFTER;
    (resolver.1.load(Ordering::Relaxed), is_slow)
}

#[tokio::test]
async fn a_resolver_is_asked_for_further_connections_only_if_the_known_address_leads_nowhere() {
    for (refuses, expected) in [(None, 1), (Some(true), 2), (Some(false), 2)] {
        let in_time = async {
            loop {
                let (count, is_slow) = asked(refuses).await;
                if count == expected || !is_slow {
                    break count;
                }
            }
        };
        assert_eq!(within(in_time).await, expected, "{refuses:?}");
    }
}

/// Accepts connections, and says nothing.
async fn mute() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_peer_is_looked_for_at_each_of_its_addresses() {
    let nobody = StaticPeers::new();
    let (b, other) = (start("b@127.0.0.1", &nobody).await, start("c@127.0.0.1", &nobody).await);
    let (_socket, refuses) = nobodys_address();
    let (closing, closes) = mute().await;
    tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let a = dialler(&[refuses, other.address(), closes, b.address()], LONG).await;
    within(a.prime(b.name())).await.unwrap();
    assert_eq!(peer_of(&a, b.name()).unwrap().incarnation, b.incarnation());
    // It itself is no way to anybody else either.
    let a = dialler(&[other.address()], LONG).await;
    let error = within(a.prime(b.name())).await.unwrap_err();
    let ConnectError::Handshake { cause: HandshakeError::WrongNode { .. }, .. } = error else {
        panic!("{error:?}")
    };
}

/// However long it may take: the others are not far behind.
#[tokio::test]
async fn who_takes_a_connection_and_says_nothing_holds_up_the_others_for_a_moment() {
    let b = start("b@127.0.0.1", &StaticPeers::new()).await;
    let mute = [mute().await, mute().await, mute().await];
    let [first, second, third] = mute.each_ref().map(|(_, address)| *address);
    let a = dialler(&[first, second, third, b.address()], LONG).await;
    let begin = Instant::now();
    within(a.prime(b.name())).await.unwrap();
    assert!(begin.elapsed() < LONG / 2, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn where_none_of_the_addresses_leads_each_is_named_with_what_became_of_it() {
    let c = start("c@127.0.0.1", &StaticPeers::new()).await;
    let (_socket, refuses) = nobodys_address();
    let a = dialler(&[refuses, c.address()], LONG).await;
    let error = within(a.prime(&name("b@127.0.0.1"))).await.unwrap_err();
    let ConnectError::Nowhere { tried, .. } = &error else { panic!("{error:?}") };
    assert_eq!(tried.iter().map(|tried| tried.address).collect::<Vec<_>>(), [refuses, c.address()]);
    let refused = format!("{refuses}: Connection refused");
    assert_says(&error, &["b@127.0.0.1", &refused, &format!("{}: ", c.address()), "c@127.0.0.1"]);
}

#[tokio::test]
async fn what_takes_too_long_is_named_by_address() {
    let ((_mute, mute), (_socket, refuses)) = (mute().await, nobodys_address());
    let a = dialler(&[refuses, mute], Duration::from_secs(2)).await;
    let error = within(a.prime(&name("b@127.0.0.1"))).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    let refused = format!("{refuses}: Connection refused");
    assert_says(&error, &["b@127.0.0.1", "2s", &format!("{mute}: it accepts"), &refused]);
}

/// A caller may not have the whole time.
#[tokio::test]
async fn what_takes_long_is_warned_of_while_it_is_still_tried() {
    let (log, (_mute, mute)) = (Log::collect(), mute().await);
    let a = dialler(&[mute], LONG).await;
    let (began, to) = (Instant::now(), name("slow-b@127.0.0.1"));
    let priming = a.prime(&to);
    let said = ["peer=slow-b@127.0.0.1", "cannot connect", &format!("{mute}: it accepts"), "Node::check"];
    tokio::select! {
        result = priming => panic!("{result:?}"),
        () = eventually("it is warned of", || !log.with(&said).is_empty()) => {}
    }
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!(log.levels(&said), [tracing::Level::WARN]);
}

#[tokio::test]
async fn what_the_peer_itself_says_is_final() {
    let b = start("b@127.0.0.1", &StaticPeers::new()).await;
    // The second one would never answer.
    let (_mute, says_nothing) = mute().await;
    let candidates = Candidates(vec![b.address(), says_nothing]);
    let a = Node::builder("a@127.0.0.1")
        .cookie("another-one-entirely")
        .resolver(candidates)
        .start()
        .await
        .unwrap();
    let error = within(a.prime(b.name())).await.unwrap_err();
    let ConnectError::Handshake { cause: HandshakeError::Cookie { .. }, .. } = error else {
        panic!("{error:?}")
    };
}

/// Any node is at that address, and there is another way to ask one to connect.
struct Asked {
    address: SocketAddr,
    node: Node,
}

impl Resolver for Asked {
    fn resolve<'a>(&'a self, _: &'a NodeName) -> Resolving<'a> {
        Box::pin(std::future::ready(vec![self.address]))
    }

    fn call_back<'a>(&'a self, _: &'a NodeName) -> CallingBack<'a> {
        Box::pin(async { self.node.prime(&name("m@127.0.0.1")).await.is_ok() })
    }
}

/// Whichever of the two dials would count if they met.
#[tokio::test]
async fn a_peer_that_is_not_reached_connects_if_it_can_be_asked() {
    for peer in ["b@127.0.0.1", "x@127.0.0.1"] {
        let ((_mute, mute), (_socket, refuses)) = (mute().await, nobodys_address());
        for address in [refuses, mute] {
            let peers = StaticPeers::new();
            let b = start(peer, &peers).await;
            let mut config = teleport::Config::default();
            config.setup_timeout = Duration::from_secs(4);
            let builder = Node::builder("m@127.0.0.1").cookie(COOKIE).config(config);
            let a = builder.resolver(Asked { address, node: b.clone() }).start().await.unwrap();
            peers.insert(a.name().clone(), a.address());
            within(a.prime(b.name())).await.unwrap();
            assert!(!peer_of(&a, b.name()).unwrap().dialled, "{peer} at {address}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_cannot_connect_either_is_no_peer() {
    let (_socket, refuses) = nobodys_address();
    let peers = StaticPeers::new();
    let b = start("b@127.0.0.1", &peers).await; // it does not know where the other one is
    let builder = Node::builder("m@127.0.0.1").cookie(COOKIE);
    let a = builder.resolver(Asked { address: refuses, node: b.clone() }).start().await.unwrap();
    let error = within(a.prime(b.name())).await.unwrap_err();
    assert_says(&error, &["b@127.0.0.1", &refuses.to_string(), "refused"]);
}

/// Says of any node that it has been asked to connect, and has.
struct Promising(SocketAddr);

impl Resolver for Promising {
    fn resolve<'a>(&'a self, _: &'a NodeName) -> Resolving<'a> {
        Box::pin(std::future::ready(vec![self.0]))
    }

    fn call_back<'a>(&'a self, _: &'a NodeName) -> CallingBack<'a> {
        Box::pin(std::future::ready(true))
    }
}

#[tokio::test]
async fn a_peer_that_is_said_to_have_connected_is_not_waited_for_without_end() {
    let (_socket, refuses) = nobodys_address();
    let mut config = teleport::Config::default();
    config.setup_timeout = Duration::from_millis(100);
    let builder = Node::builder("a@127.0.0.1").cookie(COOKIE).config(config);
    let a = builder.resolver(Promising(refuses)).start().await.unwrap();
    let error = within(a.send(("x", &name("b@127.0.0.1")), &1)).await.unwrap_err();
    assert!(matches!(error, SendError::NoConnection(ConnectError::Timeout { .. })), "{error:?}");
    assert_says(&error, &["b@127.0.0.1", "100ms", &refuses.to_string()]);
}

/// A cookie that changes.
#[derive(Clone, Default)]
struct Changing(Arc<Mutex<Option<&'static str>>>);

impl Changing {
    fn set(&self, cookie: Option<&'static str>) {
        *self.0.lock().unwrap() = cookie;
    }
}

impl Cookies for Changing {
    fn cookie<'a>(&'a self, _: &'a NodeName) -> Asking<'a> {
        let cookie = *self.0.lock().unwrap();
        Box::pin(std::future::ready(cookie.map(Into::into)))
    }
}

#[tokio::test]
async fn each_handshake_is_made_with_the_cookie_of_that_moment_on_both_sides() {
    const FIRST: &str = "first-of-two-cookies";
    const SECOND: &str = "and-here-is-the-other";
    let (peers, cookies) = (StaticPeers::new(), [Changing::default(), Changing::default()]);
    let node = async |name: &str, cookies: &Changing| {
        let builder = Node::builder(name).cookie(COOKIE).cookies(cookies.clone()).resolver(peers.clone());
        let node = builder.start().await.unwrap();
        peers.insert(node.name().clone(), node.address());
        node
    };
    let (a, b) = (node("a@127.0.0.1", &cookies[0]).await, node("b@127.0.0.1", &cookies[1]).await);
    let connect = async || {
        let result = within(a.prime(b.name())).await;
        a.disconnect(b.name());
        result
    };
    let error = connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::NoCookie(_)), "{error:?}");
    cookies[0].set(Some(FIRST));
    assert!(connect().await.is_err(), "the side that accepts has none");
    cookies[1].set(Some(FIRST));
    connect().await.unwrap();
    cookies[0].set(Some(SECOND));
    assert!(connect().await.is_err(), "the side that accepts has another one");
    cookies[1].set(Some(SECOND));
    connect().await.unwrap();
    // One for a single peer goes before.
    b.set_peer_cookie(a.name(), Some(FIRST.as_bytes())).unwrap();
    assert!(connect().await.is_err());
    b.set_peer_cookie(a.name(), None).unwrap();
    connect().await.unwrap();
}

#[tokio::test]
async fn nodes_of_a_host_take_one_port_after_the_other() {
    let free = nobodys_address().1.port();
    let ports = free..=free.saturating_add(40);
    let node = async |name: &str| {
        let builder = Node::builder(name).cookie(COOKIE).ports(ports.clone());
        builder.start().await.unwrap()
    };
    let mut before = free - 1;
    for name in ["a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1"] {
        // It is kept by the test: others may have some of them.
        let port = Box::leak(Box::new(node(name).await)).address().port();
        assert!(port > before && ports.contains(&port), "{port} of {ports:?}, behind {before}");
        before = port;
    }
    // If there is none left, any other.
    let (listener, taken) = mute().await;
    let only = taken.port()..=taken.port();
    let d = Node::builder("d@127.0.0.1").cookie(COOKIE).ports(only).start().await.unwrap();
    assert_ne!(d.address().port(), taken.port());
    drop(listener);
}

#[tokio::test]
async fn another_ticktime_holds_in_sessions_that_stand() {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, |config| config.net_ticktime = Duration::from_secs(600)).await;
    let mut child = Child::start("peer");
    let to = name("child@127.0.0.1");
    peers.insert(to.clone(), child.hear().await.parse().unwrap());
    within(a.prime(&to)).await.unwrap();
    let mut events = a.monitor_nodes();
    child.stop().await;
    a.set_net_ticktime(Duration::from_secs(4));
    assert_eq!(a.info().net_ticktime, Duration::from_secs(4));
    let down = next_end(&mut events).await;
    assert!(matches!(down, NodeEvent::Down { reason: EndReason::Silent, .. }), "{down:?}");
    child.signal(rustix::process::Signal::CONT);
    within(a.prime(&to)).await.unwrap();
    assert!(matches!(event(&mut events).await, NodeEvent::Up { .. }));
    // And in those that begin later.
    child.stop().await;
    let down = next_end(&mut events).await;
    assert!(matches!(down, NodeEvent::Down { reason: EndReason::Silent, .. }), "{down:?}");
    child.signal(rustix::process::Signal::CONT);
}

/// A peer that nothing listens for any more is gone after a quarter of it.
#[tokio::test]
async fn another_ticktime_holds_for_peers_that_are_gone() {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, |config| config.net_ticktime = Duration::from_secs(600)).await;
    let b = start_apart("b@127.0.0.1", &StaticPeers::new(), |_| {}).await;
    let door = Proxy::start(b.address()).await.unwrap();
    peers.insert(b.name().clone(), door.address());
    within(a.prime(b.name())).await.unwrap();
    let mut events = a.monitor_nodes();
    a.set_net_ticktime(Duration::from_secs(8));
    door.shut().await;
    door.connections().iter().for_each(|connection| connection.reset());
    let down = next_end(&mut events).await;
    assert!(matches!(down, NodeEvent::Down { reason: EndReason::Gone, .. }), "{down:?}");
}

#[tokio::test]
async fn a_ticktime_of_nothing_is_taken_as_the_least() {
    let (a, b) = pair().await;
    within(a.prime(b.name())).await.unwrap();
    a.set_net_ticktime(Duration::ZERO);
    assert_eq!(a.info().net_ticktime, Duration::from_millis(4));
}
