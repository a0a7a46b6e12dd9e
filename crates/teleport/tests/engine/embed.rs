//! A node in a host that has processes of its own: here one that only notes what comes.

use crate::common::{
    COOKIE, MIB, config, eventually, name, next_end, nobodys_address, peer_of, receive, start, within,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use teleport::embed::{
    Arriving, Destination, Embedded, End, Host, Inbound, Origin, ProcessId, Recipient, RefId, Sent, Watch,
};
use teleport::etf::to_segments;
use teleport::{
    Atom, Backoff, Binary, CallError, Caller, DeliveryError, Node, NodeEvent, NodeName, Pid, Reference,
    Resolver, Resolving, Segments, SendError, SendOptions, StaticPeers, Term,
};
use tokio::sync::{Semaphore, mpsc};

/// The only process.
pub(crate) const SERVER: ProcessId = ProcessId { id: 77, serial: 3 };
const CREATION: u32 = 1234;

/// A host with one process, which is registered as `server`. Everything that comes goes into a channel.
struct Notes {
    inbound: mpsc::UnboundedSender<Inbound>,
    /// It refuses to be found then.
    gone: Mutex<bool>,
    /// It looks at the node, whatever comes.
    asks: Mutex<Option<Embedded>>,
    /// It is told that a call has ended with its session, and takes its time until there is a permit.
    dawdles: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    /// Small messages of this many bytes it does not deliver at once.
    defers: Mutex<Option<usize>>,
    /// Those whose senders are told, it does not deliver at once.
    defers_acknowledged: Mutex<bool>,
}

impl Host for Notes {
    fn find(&self, to: &Destination) -> Option<ProcessId> {
        let found = match to {
            Destination::Name(name) => &**name == "server",
            Destination::Process(process) => *process == SERVER,
        };
        (found && !*self.gone.lock().unwrap()).then_some(SERVER)
    }

    fn defers(&self, _: &Origin, arriving: &Arriving<'_>) -> bool {
        let body = match arriving {
            Arriving::Acknowledged(..) if *self.defers_acknowledged.lock().unwrap() => return true,
            Arriving::Message(_, body) | Arriving::Acknowledged(_, body) => body,
            _ => return false,
        };
        self.defers.lock().unwrap().is_some_and(|len| body.len() == len)
    }

    fn take(&self, inbound: Inbound) {
        if let Some(node) = &*self.asks.lock().unwrap() {
            let _ = (node.info(), node.disconnect(&"nobody@127.0.0.1".parse().unwrap()));
        }
        let dawdles = matches!(inbound, Inbound::Ended { end: End::NodeDown(_), .. });
        let _ = self.inbound.send(inbound);
        if dawdles && let Some(until) = self.dawdles.lock().unwrap().take() {
            let _ = until.recv_timeout(Duration::from_secs(60));
        }
    }
}

pub(crate) struct Hosted {
    pub(crate) node: Embedded,
    host: Arc<Notes>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
}

impl Hosted {
    async fn next(&mut self) -> Inbound {
        within(self.inbound.recv()).await.unwrap()
    }

    async fn next_watch(&mut self) -> Watch {
        match self.next().await {
            Inbound::Request { to: SERVER, watch, .. } | Inbound::Monitor { watch, .. } => watch,
            other => panic!("no watch: {other:?}"),
        }
    }

    async fn next_end(&mut self) -> (RefId, End) {
        match self.next().await {
            Inbound::Ended { reference, end, .. } => (reference, end),
            other => panic!("no end: {other:?}"),
        }
    }

    fn pid(&self) -> Pid {
        let node = Atom::new(self.node.name().as_str()).unwrap();
        Pid { node, id: SERVER.id, serial: SERVER.serial, creation: CREATION }
    }

    /// Calls the server of a peer; returns what the end will be told under.
    fn request(&self, peer: &Node, request: &str, words: u32) -> (RefId, Sent) {
        let reference = RefId::new(&[words]).unwrap();
        let named = Reference::new(self.pid().node, CREATION, reference.words()).unwrap();
        let tag = Term::improper_list([Term::atom("alias")], named.into());
        let body = to_segments(&(Atom::from_static("$gen_call"), (self.pid(), tag), request)).unwrap();
        let to = recipient(peer, "server");
        let sent = self.node.request(SERVER, to, reference, body, SendOptions::default(), |_| {});
        (reference, sent.unwrap())
    }
}

pub(crate) fn recipient(peer: &Node, name: &str) -> Recipient {
    Recipient { peer: peer.name().clone(), incarnation: None, to: Destination::Name(name.into()) }
}

/// An embedded node, and one of Rust.
pub(crate) async fn pair() -> (Hosted, Node) {
    pair_behind(Arc::new(Semaphore::new(1))).await
}

/// Says where nodes are while it has a permit.
struct Gate(StaticPeers, Arc<Semaphore>);

impl Resolver for Gate {
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a> {
        Box::pin(async {
            let _open = self.1.acquire().await;
            self.0.resolve(node).await
        })
    }
}

/// Two nodes, of which the embedded one finds the other when the gate is open.
async fn pair_behind(gate: Arc<Semaphore>) -> (Hosted, Node) {
    let peers = StaticPeers::new();
    let (sender, inbound) = mpsc::unbounded_channel();
    let (gone, asks, dawdles, defers, defers_acknowledged) = Default::default();
    let host = Arc::new(Notes { inbound: sender, gone, asks, dawdles, defers, defers_acknowledged });
    let builder = Node::builder("hosted@127.0.0.1").cookie(COOKIE).resolver(Gate(peers.clone(), gate));
    let node = builder.incarnation(CREATION).embed(host.clone()).await.unwrap();
    peers.insert(node.name().clone(), node.address());
    (Hosted { node, host, inbound }, start("rust@127.0.0.1", &peers).await)
}

fn text(body: &bytes::Bytes) -> String {
    teleport::etf::from_bytes(body).unwrap()
}

/// Its host has a pace of its own.
#[tokio::test]
async fn connecting_waits_for_no_back_off() {
    let (peers, (_socket, refuses)) = (StaticPeers::new(), nobodys_address());
    let hour = Duration::from_secs(3600);
    let patient = config(|config| config.backoff = Backoff { first: hour, most: hour });
    let builder = Node::builder("hosted@127.0.0.1").cookie(COOKIE).resolver(peers.clone()).config(patient);
    let (inbound, _) = mpsc::unbounded_channel();
    let (gone, asks, dawdles, defers, defers_acknowledged) = Default::default();
    let notes = Notes { inbound, gone, asks, dawdles, defers, defers_acknowledged };
    let node = builder.embed(Arc::new(notes)).await.unwrap();
    let connect = async || {
        let (told, result) = tokio::sync::oneshot::channel();
        let peer = name("rust@127.0.0.1");
        node.connect(peer, |result| drop(told.send(result.map(|origin| origin.peer().clone())))).unwrap();
        within(result).await.unwrap()
    };
    peers.insert(name("rust@127.0.0.1"), refuses);
    for _ in 0..3 {
        assert!(matches!(connect().await, Err(SendError::NoConnection(_))));
    }
    let rust = start("rust@127.0.0.1", &peers).await;
    assert_eq!(connect().await.unwrap(), *rust.name());
}

#[tokio::test]
async fn messages_come_in_order_and_a_large_one_is_waited_for() {
    let (mut hosted, node) = pair().await;
    let process = node.process();
    let large = Binary::from(vec![7; 3 * MIB]);
    process.send(hosted.pid(), "first").await.unwrap();
    process.send(hosted.pid(), &large).await.unwrap();
    process.send(hosted.pid(), "last").await.unwrap();
    let Inbound::Message { to: SERVER, body, origin, receipt } = hosted.next().await else { panic!() };
    assert_eq!(origin.peer(), node.name());
    assert_eq!((text(&body).as_str(), receipt.is_large(), receipt.is_deferred()), ("first", false, false));
    let Inbound::Message { body, receipt, .. } = hosted.next().await else { panic!() };
    assert!(receipt.is_large() && body.len() > 3 * MIB);
    // What is behind it does not come before it is done, though something to the name, another destination, does.
    process.send(("server", hosted.node.name()), "by name").await.unwrap();
    let Inbound::Message { body, .. } = hosted.next().await else { panic!() };
    assert_eq!(text(&body), "by name");
    drop(receipt);
    let Inbound::Message { body, .. } = hosted.next().await else { panic!() };
    assert_eq!(text(&body), "last");
    let nobody = process.send_acknowledged(("nobody", hosted.node.name()), "?", SendOptions::default());
    assert!(matches!(within(nobody.await.unwrap()).await, Err(DeliveryError::NoProcess)));
}

#[tokio::test]
async fn a_host_that_is_about_to_end_takes_nothing_in_and_what_it_has_sent_arrives() {
    let (mut hosted, node) = pair().await;
    let (process, mut mailbox) = (node.process(), node.register("server").unwrap());
    process.send(hosted.pid(), "before").await.unwrap();
    process.send(hosted.pid(), &Binary::from(vec![7; 3 * MIB])).await.unwrap();
    let Inbound::Message { .. } = hosted.next().await else { panic!() };
    let Inbound::Message { .. } = hosted.next().await else { panic!() };
    hosted.node.take_nothing_in();
    let options = SendOptions::default;
    let small = process.send_acknowledged(hosted.pid(), "after", options()).await.unwrap();
    let large = Binary::from(vec![7; 3 * MIB]);
    let large = node.process().send_acknowledged(hosted.pid(), &large, options()).await.unwrap();
    let last = to_segments("last").unwrap();
    hosted.node.send(SERVER, recipient(&node, "server"), last, options(), |_| {}).unwrap();
    assert_eq!(receive::<String>(&mut mailbox).await, "last");
    assert!(within(hosted.node.shutdown(Duration::from_secs(60))).await.unconfirmed.is_empty());
    for sent in [small, large] {
        assert!(matches!(within(sent).await, Err(DeliveryError::Unconfirmed { .. })));
    }
    assert!(hosted.inbound.try_recv().is_err());
}

#[tokio::test]
async fn its_processes_are_called_and_monitored() {
    let (mut hosted, node) = pair().await;
    let (to, process) = (("server", hosted.node.name().clone()), node.process());
    let call = |timeout| {
        let (process, to) = (process.clone(), to.clone());
        tokio::spawn(async move { process.call::<_, String>((to.0, to.1), "request", timeout).await })
    };
    let forever = Duration::from_secs(60);
    let answered = call(forever);
    hosted.next_watch().await.reply(to_segments("answer").unwrap()).unwrap();
    assert_eq!(within(answered).await.unwrap().unwrap(), "answer");

    let ended = call(forever);
    hosted.next_watch().await.down(to_segments(&Atom::from_static("tired")).unwrap());
    assert!(
        matches!(within(ended).await.unwrap(), Err(CallError::Exit(reason)) if reason == Term::atom("tired"))
    );

    let rejected = call(forever);
    hosted.next_watch().await.reject("no sense");
    assert!(matches!(within(rejected).await.unwrap(), Err(CallError::Rejected(why)) if why == "no sense"));

    let dropped = call(forever);
    drop(hosted.next_watch().await);
    assert!(matches!(within(dropped).await.unwrap(), Err(CallError::Rejected(_))));

    let given_up = call(Duration::from_millis(20));
    let watch = hosted.next_watch().await;
    assert!(matches!(within(given_up).await.unwrap(), Err(CallError::Timeout(_))));
    let Inbound::Unwatched { process: SERVER, watch: id } = hosted.next().await else { panic!() };
    assert_eq!(id, watch.id());
    watch.reply(to_segments("too late").unwrap()).unwrap();

    let mut watcher = node.mailbox().unwrap();
    let monitor = watcher.monitor(hosted.pid()).await.unwrap();
    let watch = hosted.next_watch().await;
    assert_eq!(watch.watcher(), watcher.pid());
    watch.down(to_segments(&Atom::from_static("done")).unwrap());
    let down = within(watcher.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (monitor, Term::atom("done")));

    *hosted.host.gone.lock().unwrap() = true;
    assert!(matches!(within(call(forever)).await.unwrap(), Err(CallError::NoProcess)));
    assert_eq!(node.info().late_replies, 0, "nothing was sent to who had given up");
}

#[tokio::test]
async fn its_processes_send_call_and_monitor() {
    let (mut hosted, node) = pair().await;
    let mut server = node.register("server").unwrap();
    let (accepted, mut told) = mpsc::unbounded_channel();
    let body = to_segments("hello").unwrap();
    let sent = hosted.node.send(SERVER, recipient(&node, "server"), body.clone(), SendOptions::default(), {
        let accepted = accepted.clone();
        move |result| drop(accepted.send(result))
    });
    assert!(matches!(sent, Ok(Sent::Waiting(_))), "there is no session yet");
    within(told.recv()).await.unwrap().unwrap();
    assert_eq!(receive::<String>(&mut server).await, "hello");
    let sent = hosted.node.send(
        SERVER,
        recipient(&node, "server"),
        body,
        SendOptions::default(),
        |_| unreachable!(),
    );
    assert!(matches!(sent, Ok(Sent::Accepted)));
    assert_eq!(within(server.recv()).await.unwrap().from(), &hosted.pid());

    let (reference, _) = hosted.request(&node, "request", 1);
    let (caller, _request) = within(server.recv()).await.unwrap().call().unwrap();
    assert_eq!(caller.pid(), &hosted.pid());
    server.process().reply(&caller, "answer").unwrap();
    let (ended, End::Reply(reply)) = hosted.next_end().await else { panic!() };
    assert_eq!((ended, text(&reply).as_str()), (reference, "answer"));

    // One that is cancelled is over at both nodes.
    let (reference, _) = hosted.request(&node, "request", 2);
    let (caller, _request) = within(server.recv()).await.unwrap().call().unwrap();
    assert!(hosted.node.cancel(reference));
    assert!(!hosted.node.cancel(reference));
    eventually("the watch ends", || peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.watched == 0))
        .await;
    server.process().reply(&caller, "too late").unwrap();
    eventually("it is counted", || hosted.node.info().late_replies == 1).await;

    let (call, _) = hosted.request(&node, "request", 3);
    let monitor = RefId::new(&[4]).unwrap();
    let options = SendOptions::default();
    let sent = hosted.node.monitor(SERVER, recipient(&node, "server"), monitor, options, |_| {}).unwrap();
    assert!(matches!(sent, Sent::Accepted));
    eventually("both are there", || peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.watched == 2))
        .await;
    server.exit(Term::atom("tired"));
    let mut ended = Vec::new();
    for _ in 0..2 {
        let (reference, End::Down(reason)) = hosted.next_end().await else { panic!() };
        assert_eq!(Term::decode(&reason).unwrap(), Term::atom("tired"));
        ended.push(reference);
    }
    ended.sort();
    assert_eq!(ended, [call, monitor]);
}

#[tokio::test]
async fn a_compressed_request_is_rejected_at_once() {
    let (mut hosted, node) = pair().await;
    let mut server = node.register("server").unwrap();
    // Of two bytes, which are all that is looked at.
    let body = Segments::from(Bytes::from_static(&[131, 80, 0, 0, 0, 3, 120, 156]));
    let reference = RefId::new(&[1]).unwrap();
    let to = recipient(&node, "server");
    hosted.node.request(SERVER, to, reference, body, SendOptions::default(), |_| {}).unwrap();
    let (ended, End::Rejected(why)) = hosted.next_end().await else { panic!() };
    assert_eq!(ended, reference);
    assert!(text(&why).contains("compressed"), "{}", text(&why));
    eventually("nothing is left", || {
        peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.watched == 0)
    })
    .await;
    // What comes behind it comes.
    let (next, _) = hosted.request(&node, "request", 2);
    let (caller, _request) = within(server.recv()).await.unwrap().call().unwrap();
    server.process().reply(&caller, "answer").unwrap();
    let (ended, End::Reply(_)) = hosted.next_end().await else { panic!() };
    assert_eq!(ended, next);
}

#[tokio::test]
async fn a_host_may_call_the_node_whatever_it_takes() {
    let (mut hosted, node) = pair().await;
    let _server = node.register("server").unwrap();
    *hosted.host.asks.lock().unwrap() = Some(hosted.node.clone());
    node.process().send(hosted.pid(), "hello").await.unwrap();
    let Inbound::Message { .. } = hosted.next().await else { panic!() };
    let (reference, _) = hosted.request(&node, "request", 1);
    eventually("it is asked", || peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.watched == 1))
        .await;
    assert!(hosted.node.disconnect(node.name()));
    let (ended, End::NodeDown(_)) = hosted.next_end().await else { panic!() };
    assert_eq!(ended, reference);
    // Which would keep itself alive.
    *hosted.host.asks.lock().unwrap() = None;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_takes_its_time_with_an_end_holds_nobody_up_and_nothing_of_the_next_session_comes_before()
{
    let (mut hosted, node) = pair().await;
    let mut server = node.register("server").unwrap();
    let (go_on, dawdles) = std::sync::mpsc::channel();
    *hosted.host.dawdles.lock().unwrap() = Some(dawdles);
    let (first, second) = (hosted.request(&node, "request", 1).0, hosted.request(&node, "request", 2).0);
    for _ in 0..2 {
        within(server.recv()).await.unwrap();
    }
    assert!(hosted.node.disconnect(node.name()));
    let (ended, End::NodeDown(_)) = hosted.next_end().await else { panic!() };
    // The host has not yet come back from that. Both nodes go on: there is a new session, and it is sent over.
    let (peer, up) = (recipient(&node, "server"), Arc::new(Semaphore::new(0)));
    let told = up.clone();
    let sent =
        hosted.node.send(SERVER, peer, to_segments("again").unwrap(), SendOptions::default(), move |sent| {
            sent.unwrap();
            told.add_permits(1);
        });
    if matches!(sent.unwrap(), Sent::Waiting(_)) {
        within(up.acquire()).await.unwrap().forget();
    }
    let again: String = within(server.recv()).await.unwrap().decode().unwrap();
    assert_eq!((again.as_str(), hosted.node.info().peers.len()), ("again", 1));
    within(node.process().send(hosted.pid(), "of the next session")).await.unwrap();
    eventually("it waits", || {
        peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.transfer.unconfirmed == 1)
    })
    .await;
    go_on.send(()).unwrap();
    let (other, End::NodeDown(_)) = hosted.next_end().await else { panic!() };
    assert_eq!([ended, other].map(|end| end == first || end == second), [true, true]);
    let Inbound::Message { body, .. } = hosted.next().await else { panic!() };
    assert_eq!(text(&body), "of the next session");
}

#[tokio::test]
async fn what_a_host_delivers_late_is_not_delivered_behind_the_end_of_its_session() {
    let (mut hosted, node) = pair().await;
    let _server = node.register("server").unwrap();
    node.process().send(hosted.pid(), &Binary::from(vec![7; MIB])).await.unwrap();
    let Inbound::Message { origin, receipt, .. } = hosted.next().await else { panic!() };
    assert_eq!(origin.while_up(|| 1), Some(1));
    let mut events = node.monitor_nodes();
    let (reference, _) = hosted.request(&node, "request", 1);
    eventually("it is asked", || peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.watched == 1))
        .await;
    assert!(hosted.node.disconnect(node.name()));
    let (ended, End::NodeDown(_)) = hosted.next_end().await else { panic!() };
    assert_eq!((ended, origin.while_up(|| panic!("it has ended"))), (reference, None::<()>));
    drop(receipt); // which says nothing any more
    let NodeEvent::Down { unconfirmed, .. } = next_end(&mut events).await else { panic!() };
    assert_eq!(unconfirmed, 1);
}

#[tokio::test]
async fn a_small_message_that_is_deferred_is_delivered_when_its_receipt_is_dropped() {
    let (mut hosted, node) = pair().await;
    let process = node.process();
    let body = to_segments("deferred").unwrap();
    *hosted.host.defers.lock().unwrap() = Some(body.len());
    let options = SendOptions::default();
    let deferred = process.send_acknowledged(hosted.pid(), "deferred", options).await.unwrap();
    let at_once = process.send_acknowledged(hosted.pid(), "at once", options).await.unwrap();
    let Inbound::Message { body, receipt, .. } = hosted.next().await else { panic!() };
    assert_eq!((text(&body).as_str(), receipt.is_large(), receipt.is_deferred()), ("deferred", false, true));
    // The host keeps the order of small messages itself. What it does not defer is confirmed behind what it does, so that no large
    // message of the pair passes both.
    let Inbound::Message { body, .. } = hosted.next().await else { panic!() };
    assert_eq!(text(&body), "at once");
    let another = node.mailbox().unwrap();
    let sent = another.process().send_acknowledged(hosted.pid(), "another pair's", options).await.unwrap();
    let Inbound::Message { body, .. } = hosted.next().await else { panic!() };
    assert_eq!(text(&body), "another pair's");
    within(sent).await.unwrap();
    let mut at_once = std::pin::pin!(at_once);
    let confirmed = tokio::time::timeout(Duration::ZERO, &mut at_once).await;
    assert!(confirmed.is_err(), "it is confirmed, and a large message would pass the deferred one");
    drop(receipt);
    within(deferred).await.unwrap();
    within(at_once).await.unwrap();
}

#[tokio::test]
async fn a_host_is_asked_before_a_sender_is_told_of_its_message() {
    let (mut hosted, node) = pair().await;
    *hosted.host.defers_acknowledged.lock().unwrap() = true;
    let mailbox = node.mailbox().unwrap();
    let process = mailbox.process();
    process.send(hosted.pid(), "plain").await.unwrap();
    let Inbound::Message { receipt, .. } = hosted.next().await else { panic!() };
    assert!(!receipt.is_deferred());
    let options = SendOptions::default();
    let told = process.send_acknowledged(hosted.pid(), "acknowledged", options).await.unwrap();
    let Inbound::Message { body, receipt, .. } = hosted.next().await else { panic!() };
    assert_eq!((text(&body).as_str(), receipt.is_deferred()), ("acknowledged", true));
    drop(receipt);
    within(told).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_session_ends_what_went_over_it() {
    let (mut hosted, node) = pair().await;
    let _server = node.register("server").unwrap();
    let (reference, _) = hosted.request(&node, "request", 1);
    let mut watcher = node.mailbox().unwrap();
    watcher.monitor(hosted.pid()).await.unwrap();
    let watch = hosted.next_watch().await;
    eventually("it is asked", || peer_of(&node, hosted.node.name()).is_some_and(|peer| peer.watched == 1))
        .await;
    assert!(hosted.node.disconnect(node.name()));
    let (ended, End::NodeDown(_)) = hosted.next_end().await else { panic!() };
    assert_eq!(ended, reference);
    let Inbound::Unwatched { watch: id, .. } = hosted.next().await else { panic!() };
    assert_eq!(id, watch.id());
    let down = within(watcher.recv()).await.unwrap().down().unwrap();
    assert_eq!(down.reason, Term::atom("noconnection"));
}

#[tokio::test]
async fn what_waits_can_be_taken_back() {
    let gate = Arc::new(Semaphore::new(0));
    let (mut hosted, node) = pair_behind(gate.clone()).await;
    let mut server = node.register("server").unwrap();
    // There is no session yet, so it waits, and is taken back before there is one.
    let (reference, sent) = hosted.request(&node, "never", 1);
    let Sent::Waiting(waiting) = sent else { panic!() };
    assert!(waiting.cancel());
    gate.add_permits(1);
    let (second, _) = hosted.request(&node, "request", 2);
    let (caller, request) = within(server.recv()).await.unwrap().call().unwrap();
    assert_eq!(request.decode::<String>().unwrap(), "request");
    server.process().reply(&caller, "answer").unwrap();
    assert_eq!(hosted.next_end().await.0, second);
    assert!(!hosted.node.cancel(reference));
    assert_eq!(hosted.node.info().watching, 0);

    let nowhere = Recipient { peer: "no@where".parse().unwrap(), ..recipient(&node, "server") };
    let (accepted, mut told) = mpsc::unbounded_channel();
    let body = to_segments("?").unwrap();
    let sent = hosted.node.send(SERVER, nowhere, body, SendOptions::default(), move |result| {
        drop(accepted.send(result));
    });
    assert!(matches!(sent, Ok(Sent::Waiting(_))));
    assert!(matches!(within(told.recv()).await.unwrap(), Err(SendError::NoConnection(_))));
    let _ = within(hosted.node.shutdown(Duration::from_secs(5))).await;
    let body = to_segments("?").unwrap();
    let sent = hosted.node.send(SERVER, recipient(&node, "server"), body, SendOptions::default(), |_| {});
    assert!(matches!(sent, Err(SendError::NotRunning)));
}

#[tokio::test]
async fn what_is_sent_behind_begins_no_session_unless_it_may() {
    let (hosted, node) = pair().await;
    let mut server = node.register("server").unwrap();
    let send = |options| {
        let body = to_segments("behind").unwrap();
        hosted.node.send_behind(SERVER, recipient(&node, "server"), body, options)
    };
    let plain = SendOptions::default();
    assert!(matches!(send(plain.noconnect()), Err(SendError::NotConnected { .. })));
    assert!(matches!(send(plain), Err(SendError::Busy)));
    eventually("the session is up", || send(plain.noconnect()).is_ok()).await;
    assert_eq!(receive::<String>(&mut server).await, "behind");
}

#[tokio::test]
async fn what_is_sent_behind_and_never_comes_is_counted() {
    const COUNT: usize = 300;
    for shuts_down in [false, true] {
        let (hosted, node) = pair().await;
        let server = node.register("server").unwrap();
        let send = || {
            let body = to_segments(&Binary::from(vec![7; MIB])).unwrap();
            hosted.node.send_behind(SERVER, recipient(&node, "server"), body, SendOptions::default())
        };
        eventually("the session is up", || send().is_ok()).await;
        for _ in 1..COUNT {
            send().unwrap();
        }
        // Its mailbox takes no more than a part of them.
        eventually("something has come", || !server.is_empty()).await;
        match shuts_down {
            false => assert!(hosted.node.disconnect(node.name())),
            true => drop(within(hosted.node.shutdown(Duration::from_secs(1))).await),
        }
        eventually("it is counted", || hosted.node.info().unconfirmed + server.len() as u64 >= COUNT as u64)
            .await;
    }
}

/// What the host is told of a message.
#[derive(Debug)]
enum Told {
    Accepted(Result<(), SendError>),
    Fate(Result<(), DeliveryError>),
}

#[tokio::test]
async fn acknowledged_messages_are_told_of_once() {
    let gate = Arc::new(Semaphore::new(0));
    let (hosted, node) = pair_behind(gate.clone()).await;
    let mut server = node.register("server").unwrap();
    let (told, mut outcomes) = mpsc::unbounded_channel();
    let send = |number: u32, to, options| {
        let (accepted, told) = (told.clone(), told.clone());
        let body = to_segments(&number).unwrap();
        let accepted = move |result| drop(accepted.send((number, Told::Accepted(result))));
        let told = move |result| drop(told.send((number, Told::Fate(result))));
        hosted.node.send_acknowledged(SERVER, to, body, options, accepted, told)
    };
    let plain = SendOptions::default();
    // There is no session yet: it waits, is accepted, and then delivered.
    assert!(matches!(send(1, recipient(&node, "server"), plain.nosuspend()), Err(SendError::Busy)));
    assert!(matches!(send(2, recipient(&node, "server"), plain), Ok(Sent::Waiting(_))));
    let Ok(Sent::Waiting(waiting)) = send(3, recipient(&node, "server"), plain) else { panic!() };
    assert!(waiting.cancel());
    gate.add_permits(1);
    assert!(matches!(within(outcomes.recv()).await, Some((2, Told::Accepted(Ok(()))))));
    assert!(matches!(within(outcomes.recv()).await, Some((2, Told::Fate(Ok(()))))));
    assert_eq!(receive::<u32>(&mut server).await, 2);

    assert!(matches!(send(4, recipient(&node, "server"), plain.unordered()), Ok(Sent::Accepted)));
    assert!(matches!(within(outcomes.recv()).await, Some((4, Told::Fate(Ok(()))))));
    assert!(matches!(send(5, recipient(&node, "nobody"), plain.nosuspend()), Ok(Sent::Accepted)));
    assert!(matches!(within(outcomes.recv()).await, Some((5, Told::Fate(Err(DeliveryError::NoProcess))))));
    // A pid of an earlier life.
    let stale = Recipient { incarnation: Some(1), ..recipient(&node, "server") };
    assert!(matches!(send(6, stale, plain), Ok(Sent::Accepted)));
    assert!(matches!(within(outcomes.recv()).await, Some((6, Told::Fate(Err(DeliveryError::NoProcess))))));

    // The server takes nothing: what there is no room for waits until the session ends, and was not accepted then.
    let large = |number, to| {
        let (accepted, told) = (told.clone(), told.clone());
        let body = to_segments(&Binary::from(vec![0; 40 * MIB])).unwrap();
        let accepted = move |result| drop(accepted.send((number, Told::Accepted(result))));
        let told = move |result| drop(told.send((number, Told::Fate(result))));
        hosted.node.send_acknowledged(SERVER, to, body, plain, accepted, told).unwrap()
    };
    let sent: Vec<_> = (10..20).map(|number| large(number, recipient(&node, "server"))).collect();
    let waiting = sent.iter().filter(|sent| matches!(sent, Sent::Waiting(_))).count();
    assert!(waiting > 0, "so much has no room");
    assert!(hosted.node.disconnect(node.name()));
    let mut ends = std::collections::BTreeMap::<u32, Vec<_>>::new();
    while ends.len() < 10 || ends.values().any(|told| matches!(told[..], [("accepted", true)])) {
        let (number, told) = within(outcomes.recv()).await.unwrap();
        let told = match told {
            Told::Accepted(Err(SendError::Busy)) | Told::Fate(Err(DeliveryError::NoProcess)) => {
                panic!("{number} {told:?}")
            }
            Told::Accepted(result) => ("accepted", result.is_ok()),
            Told::Fate(result) => ("told", result.is_ok()),
        };
        ends.entry(number).or_default().push(told);
    }
    for (number, told) in &ends {
        let once =
            matches!(told[..], [("told", _)] | [("accepted", true), ("told", _)] | [("accepted", false)]);
        assert!(once, "{number}: {told:?}");
    }
    assert_eq!(ends.len(), 10);
    let _ = within(hosted.node.shutdown(Duration::from_secs(5))).await;
    assert!(outcomes.try_recv().is_err(), "nobody is told twice");
}

/// Who a caller would be with that reference, and that secret behind it.
fn caller(hosted: &Hosted, words: &[u32], secret: Option<u64>) -> Caller {
    let named = Reference::new(hosted.pid().node, CREATION, words).unwrap();
    let alias = Term::improper_list([Term::atom("alias")], named.into());
    let tag = secret.map_or(alias.clone(), |secret| Term::from(vec![alias, Term::from(secret)]));
    let encoded = to_segments(&(hosted.pid(), tag)).unwrap().into_contiguous();
    teleport::etf::from_bytes(&encoded).unwrap()
}

#[tokio::test]
async fn a_call_of_a_host_s_is_answered_by_those_who_know_its_secret() {
    let (mut hosted, node) = pair().await;
    let peers = StaticPeers::new();
    peers.insert(hosted.node.name().clone(), hosted.node.address());
    let hostile = start("x@127.0.0.1", &peers).await;
    peers.insert(node.name().clone(), node.address());
    let mut server = node.register("server").unwrap();
    within(hostile.prime(hosted.node.name())).await.unwrap();
    // Erlang's references are easily guessed.
    let words = [1, 2, 3];
    for (number, secret) in [(1, 77), (2, u64::MAX >> 5)] {
        let sealed = RefId::new(&words).unwrap().sealed(secret).unwrap();
        let body = to_segments(&(Atom::from_static("$gen_call"), caller(&hosted, &words, Some(secret)), "?"));
        let to = recipient(&node, "server");
        let options = SendOptions::default();
        hosted.node.request(SERVER, to, sealed, body.unwrap(), options, |_| {}).unwrap();
        let (asked, _) = within(server.recv()).await.unwrap().call().unwrap();
        for guess in [None, Some(0), Some(secret - 1), Some(secret + 1)] {
            hostile.process().reply(&caller(&hosted, &words, guess), &"forged").unwrap();
            hostile.process().reject(&caller(&hosted, &words, guess), "forged");
        }
        eventually("all have come", || hosted.node.info().late_replies == 4 * number).await;
        // Who was called answers, or who has the call from it.
        let answering = if number == 1 { &node } else { &hostile };
        answering.process().reply(&asked, &"honest").unwrap();
        let (reference, end) = hosted.next_end().await;
        assert_eq!((reference, reference.unsealed().words()), (sealed, &words[..]));
        assert!(matches!(end, End::Reply(body) if body == to_segments("honest").unwrap().into_contiguous()));
    }
}
