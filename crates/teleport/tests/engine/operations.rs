//! What those who run a node see of it: logs and metrics.

use crate::common::faulty::Kind;
use crate::common::log::Log;
use crate::common::{
    MIB, eventually, eventually_async, name, nobodys_address, payload, peer_of, receive, start_apart,
    start_with, within,
};
use ::metrics::{Key, KeyName, Label, Metadata, SharedString, Unit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use teleport::metrics::{self, METRICS};
use teleport::{
    AllowList, ConnectError, DeliveryError, EndReason, Node, NodeName, Permits, SendError, SendOptions,
    Sever, StaticPeers,
};
use teleport_testkit::proxy::{Fault, Faults, Proxy};

/// Two nodes with names of their own, and the proxy through which the first opens their connections.
async fn through_proxy(topic: &str, change: impl Fn(&mut teleport::Config)) -> (Node, Node, Proxy) {
    let peers = StaticPeers::new();
    let a = start_with(&format!("{topic}-a@127.0.0.1"), &peers, &change).await;
    let b = start_apart(&format!("{topic}-b@127.0.0.1"), &StaticPeers::new(), &change).await;
    let proxy = Proxy::start(b.address()).await.unwrap();
    peers.insert(b.name().clone(), proxy.address());
    (a, b, proxy)
}

/// Nothing gets through any more, over new connections neither.
fn silence(proxy: &Proxy) {
    proxy.plan(|_| Faults { to_server: Fault::Stall { at: 0 }, ..Faults::default() });
    proxy.connections().iter().for_each(|connection| connection.stall());
}

/// One of them is a warning, the others are not. Several may be told of at the same time, in any order.
fn is_one_warning(levels: &[tracing::Level]) -> bool {
    let count = |wanted: tracing::Level| levels.iter().filter(|level| **level == wanted).count();
    count(tracing::Level::WARN) == 1 && count(tracing::Level::DEBUG) == levels.len() - 1
}

#[tokio::test]
async fn a_missed_tick_is_a_warning_and_nodedown_is_told() {
    let log = Log::collect();
    let (a, b, proxy) =
        through_proxy("tick", |config| config.tick_interval = Some(Duration::from_millis(100))).await;
    within(a.prime(b.name())).await.unwrap();
    let id = |text: &str| text.split(' ').find(|word| word.starts_with("id=")).map(str::to_owned);
    let session = ["session: node=tick-a@127.0.0.1 peer=tick-b@127.0.0.1"];
    eventually("it is logged", || !log.with(&[session[0], "session up"]).is_empty()).await;
    let up = log.with(&[session[0], "session up"]);
    assert_eq!(up.iter().map(|record| record.level).collect::<Vec<_>>(), [tracing::Level::INFO]);
    silence(&proxy);
    let inbox = ("inbox", b.name());
    within(a.send(inbox, &"lost")).await.unwrap();
    a.set_net_ticktime(Duration::from_secs(2)); // not before: a machine may stand still for so long
    eventually("a missed tick", || !log.with(&[session[0], "tick missed", "silent_for="]).is_empty()).await;
    eventually("nodedown", || !log.with(&[session[0], "session down"]).is_empty()).await;
    let missed = log.with(&[session[0], "tick missed"]);
    let [warning, again] = [tracing::Level::WARN, tracing::Level::DEBUG];
    let levels: Vec<_> = missed.iter().map(|record| record.level).collect();
    assert!(levels[0] == warning && levels[1..].iter().all(|level| *level == again), "{levels:?}");
    let text = &missed.last().unwrap().text;
    let in_all: Option<usize> = text.split(' ').find_map(|word| word.strip_prefix("in_all=")?.parse().ok());
    assert!(missed.len() <= in_all.unwrap(), "once per tick: {} times, {text}", missed.len());
    let down = log.with(&[session[0], "session down", "reason=nothing was heard from it", "unconfirmed=1"]);
    assert_eq!(down.iter().map(|record| record.level).collect::<Vec<_>>(), [warning]);
    assert!(up[0].text.contains("incarnation=") && id(&up[0].text).is_some());
    assert_eq!(id(&up[0].text), id(&down[0].text));
}

#[tokio::test]
async fn another_cookie_is_warned_of_once_however_often_it_is_tried() {
    let log = Log::collect();
    let peers = StaticPeers::new();
    let a = start_with("cookie-a@127.0.0.1", &peers, |_| {}).await;
    let other = Node::builder("cookie-b@127.0.0.1").cookie("qLw8RzTnV5bYc2XkJm4s").resolver(peers.clone());
    let b = other.start().await.unwrap();
    peers.insert(b.name().clone(), b.address());
    for _ in 0..3 {
        let error = within(a.send(("inbox", b.name()), &1)).await.unwrap_err();
        assert!(matches!(error, SendError::NoConnection(ConnectError::Handshake { .. })), "{error:?}");
    }
    let inbound = ["node=cookie-b@127.0.0.1", "inbound connection refused", "cookies"];
    let dialled = ["node=cookie-a@127.0.0.1", "peer=cookie-b@127.0.0.1", "cookies"];
    for told in [inbound, dialled] {
        // The node may have tried once more before it gave up.
        eventually("all are told of", || log.with(&told).len() >= 3).await;
        let levels = log.levels(&told);
        assert!(is_one_warning(&levels), "{levels:?}");
    }
}

/// A cast or an exit of Erlang's has no cause, so the log has to have it.
#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_warned_of_once_with_the_cause() {
    let log = Log::collect();
    let peers = StaticPeers::new();
    let a = start_with("seeks-a@127.0.0.1", &peers, |_| {}).await;
    let (_socket, nobody) = nobodys_address();
    peers.insert("shut-b@127.0.0.1".parse().unwrap(), nobody);
    for (peer, cause) in [("shut-b@127.0.0.1", "refused"), ("unknown-c@127.0.0.1", "nobody knows where")] {
        for _ in 0..3 {
            let error = within(a.send(("inbox", name(peer)), &1)).await.unwrap_err();
            assert!(matches!(error, SendError::NoConnection(_)), "{error:?}");
        }
        let said =
            ["node=seeks-a@127.0.0.1", &format!("peer={peer}"), "cannot connect", cause, "Node::check"];
        // The node may have tried once more before it gave up.
        eventually("all are told of", || log.with(&said).len() >= 3).await;
        let levels = log.levels(&said);
        assert!(is_one_warning(&levels), "{levels:?}");
        assert!(
            log.with(&said).iter().all(|record| !record.text.contains("not_said")),
            "nothing was left out"
        );
    }
}

#[tokio::test]
async fn connections_that_are_lost_or_stand_still_are_told_of_and_payloads_are_not() {
    let log = Log::collect();
    const MARK: &str = "Payload-mark-that-nobody-may-log";
    let (a, b, proxy) = through_proxy("quiet", |config| {
        config.stall_timeout = Duration::from_millis(200);
    })
    .await;
    let mut inbox = b.register("inbox").unwrap();
    within(a.prime(b.name())).await.unwrap();
    let mut severed = 0;
    for round in 0..20 {
        let body = (MARK, payload([10, MIB][round % 2], 1));
        within(a.send(("inbox", b.name()), &body)).await.unwrap();
        let _nobody = a.send(("nobody", b.name()), &body).await;
        severed += usize::from(a.sever(b.name(), Sever::Pool(round)));
        receive::<(String, teleport::Binary)>(&mut inbox).await;
    }
    assert!(severed > 0);
    // Until the last one is missed the pool seems whole, and what takes its place would not be stalled.
    eventually("all are missed", || log.with(&["peer=quiet-b", "pool connection retired"]).len() >= severed)
        .await;
    within(a.prime(b.name())).await.unwrap();
    Kind::Express.of(&proxy).iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", b.name()), &MARK)).await.unwrap();
    assert_eq!(receive::<String>(&mut inbox).await, MARK);
    let stands = log.levels(&["peer=quiet-b", "stands still"]);
    assert_eq!(stands.first(), Some(&tracing::Level::WARN));
    assert!(stands[1..].iter().all(|level| *level == tracing::Level::DEBUG), "{stands:?}");
    let again = ["peer=quiet-b", "go out again", "frames="];
    eventually("frames go out again", || !log.with(&again).is_empty()).await;
    assert!(log.levels(&again).iter().all(|level| *level == tracing::Level::DEBUG));
    let _report = within(a.shutdown(Duration::from_secs(5))).await;
    let bytes = MARK.bytes().take(8).map(|byte| byte.to_string()).collect::<Vec<_>>();
    for secret in [MARK, crate::common::COOKIE, &bytes.join(", "), &bytes.join(",")] {
        assert_eq!(log.with(&[secret]).len(), 0, "{secret} was logged");
    }
}

type Description = (metrics::Kind, Option<Unit>, String);

/// Keeps everything in memory, like an exporter would.
#[derive(Default)]
struct Recorder {
    described: Mutex<BTreeMap<String, Description>>,
    values: Mutex<HashMap<Key, (metrics::Kind, Arc<AtomicU64>)>>,
}

/// Counts the records of a histogram.
struct Count(Arc<AtomicU64>);

impl ::metrics::HistogramFn for Count {
    fn record(&self, _value: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder {
    /// The recorder of this process.
    fn install() -> &'static Self {
        static RECORDER: OnceLock<&'static Recorder> = OnceLock::new();
        RECORDER.get_or_init(|| {
            let recorder: &'static Recorder = Box::leak(Box::default());
            ::metrics::set_global_recorder(recorder).unwrap();
            recorder
        })
    }

    fn describe(&self, kind: metrics::Kind, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        let entry = (kind, unit, meaning.into_owned());
        self.described.lock().unwrap().insert(key.as_str().to_owned(), entry);
    }

    fn register(&self, kind: metrics::Kind, key: &Key) -> Arc<AtomicU64> {
        let mut values = self.values.lock().unwrap();
        let (known, value) = values.entry(key.clone()).or_insert_with(|| (kind, Arc::default()));
        assert_eq!(*known, kind, "{key}");
        value.clone()
    }

    /// The sum over all labels of a node but these.
    fn sum(&self, name: &str, node: &NodeName, labels: &[(&'static str, &'static str)]) -> f64 {
        let wanted = |key: &Key| {
            let has = |label: Label| key.labels().any(|other| *other == label);
            key.name() == name
                && has(Label::new("node", node.to_string()))
                && labels.iter().all(|label| has(label.into()))
        };
        let values = self.values.lock().unwrap();
        let value = |(kind, value): &(metrics::Kind, Arc<AtomicU64>)| match kind {
            metrics::Kind::Gauge => f64::from_bits(value.load(Ordering::Relaxed)),
            _ => value.load(Ordering::Relaxed) as f64,
        };
        values.iter().filter(|(key, _)| wanted(key)).map(|(_, entry)| value(entry)).sum()
    }
}

impl ::metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(metrics::Kind::Counter, key, unit, meaning);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(metrics::Kind::Gauge, key, unit, meaning);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe(metrics::Kind::Histogram, key, unit, meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> ::metrics::Counter {
        ::metrics::Counter::from_arc(self.register(metrics::Kind::Counter, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> ::metrics::Gauge {
        ::metrics::Gauge::from_arc(self.register(metrics::Kind::Gauge, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> ::metrics::Histogram {
        ::metrics::Histogram::from_arc(Arc::new(Count(self.register(metrics::Kind::Histogram, key))))
    }
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let page = include_str!("../../../../docs/operations.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `teleport_")).collect();
    let row = |metric: &metrics::Metric| {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        format!("| `{}` | {kind} | {} | {labels} | {} |", metric.name, metric.unit.as_str(), metric.meaning)
    };
    let expected: Vec<_> = METRICS.iter().map(row).collect();
    assert!(rows == expected, "docs/operations.md should have this table:\n{}", expected.join("\n"));
}

#[tokio::test]
async fn limits_that_bite_are_counted() {
    let recorder = Recorder::install();
    let peers = StaticPeers::new();
    let b = start_with("limits-b@127.0.0.1", &peers, |config| {
        config.max_watches = 2;
        config.max_handshakes = 3;
        config.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let a = start_apart("limits-a@127.0.0.1", &peers, |_| {}).await;
    let _server = b.register("server").unwrap();
    // A connection of its own may be one that takes too long: all are there before what is dropped counts.
    eventually_async("the whole pool", async || within(a.prime(b.name())).await.is_ok()).await;
    let mut watcher = a.mailbox().unwrap();
    for _ in 0..3 {
        within(watcher.monitor(("server", b.name()))).await.unwrap();
    }
    for _ in 0..2 {
        let down = within(watcher.recv()).await.unwrap().down().unwrap();
        assert_eq!(down.reason, teleport::Term::atom("system_limit"));
    }
    assert_eq!(peer_of(&b, a.name()).unwrap().watches_refused, 2);
    assert_eq!(recorder.sum(metrics::WATCHES_REFUSED, b.name(), &[]), 2.0);
    let dropped = |reason| recorder.sum(metrics::NEWCOMERS_DROPPED, b.name(), &[("reason", reason)]);
    let before = ["full", "slow"].map(dropped);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(tokio::net::TcpStream::connect(b.address()).await.unwrap());
    }
    let since = || [dropped("full") - before[0], dropped("slow") - before[1]];
    eventually("all are given up", || since().iter().sum::<f64>() == 10.0).await;
    assert!(since().iter().all(|count| *count >= 1.0), "too many and too slow: {:?}", since());
    let (full, slow) = b.info().newcomers_dropped;
    assert_eq!((full as f64, slow as f64), (dropped("full"), dropped("slow")));
}

#[tokio::test]
async fn two_nodes_move_every_metric() {
    let recorder = Recorder::install();
    let (a, b, proxy) =
        through_proxy("meter", |config| config.tick_interval = Some(Duration::from_millis(50))).await;
    let sum = |name, node: &Node| recorder.sum(name, node.name(), &[]);
    let mut inbox = b.register("inbox").unwrap();
    for _ in 0..3 {
        for len in [100, MIB] {
            within(a.send(("inbox", b.name()), &payload(len, 1))).await.unwrap();
            receive::<teleport::Binary>(&mut inbox).await;
        }
    }
    let sender = a.process();
    let ack = sender.send_acknowledged(("nobody", b.name()), &1, SendOptions::default());
    assert!(matches!(within(within(ack).await.unwrap()).await, Err(DeliveryError::NoProcess)));
    eventually("all is published", || {
        sum(metrics::MESSAGES_RECEIVED, &b) == 7.0
            && sum(metrics::MESSAGES_SENT, &a) == 7.0
            && sum(metrics::NO_PROCESS, &b) == 1.0
            && sum(metrics::BYTES_SENT, &a) > 3.0 * (MIB + 100) as f64
            && sum(metrics::BYTES_RECEIVED, &b) == sum(metrics::BYTES_SENT, &a)
            && sum(metrics::BYTES_IN_FLIGHT, &a) == 0.0
    })
    .await;
    let bytes = sum(metrics::BYTES_SENT, &a);
    assert!(bytes < 3.0 * (MIB + 200) as f64, "{bytes}");
    assert_eq!((sum(metrics::SESSION_UP, &a), sum(metrics::SESSION_UP, &b)), (1.0, 1.0));
    for (class, most) in [("express", 1.0), ("bulk", 4.0)] {
        let connections = recorder.sum(metrics::CONNECTIONS, a.name(), &[("class", class)]);
        assert!((1.0..=most).contains(&connections), "{class}: {connections}");
    }
    eventually("a tick's round trip", || sum(metrics::TICK_ROUND_TRIP, &a) > 0.0).await;

    // Sends that wait are to be seen, though nothing goes over the wire for them.
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (from, to) = (a.clone(), b.name().clone());
        sends.spawn(async move { from.send(("inbox", &to), &payload(2 * MIB, 1)).await });
    }
    let waiting = || peer_of(&a, b.name()).map_or(0, |peer| peer.transfer.waiting);
    eventually("some wait", || {
        waiting() > 0 && peer_of(&a, b.name()).is_some_and(|peer| peer.transfer.unconfirmed == 0)
    })
    .await;
    eventually("they are published", || sum(metrics::WAITING_SENDS, &a) == waiting() as f64).await;
    sends.abort_all();
    while sends.join_next().await.is_some() {}
    eventually("nobody waits", || sum(metrics::WAITING_SENDS, &a) == 0.0).await;

    // What may not be reached.
    b.set_allow(AllowList::new());
    within(a.send(("inbox", b.name()), &"refused")).await.unwrap();
    let refused = || recorder.sum(metrics::NOT_ALLOWED, b.name(), &[("what", "message")]);
    eventually("a message was refused", || refused() == 1.0).await;
    b.set_allow(AllowList::new().peer("*", Permits::all()));

    // A broken pool, a broken control connection, a stranger, and the end.
    Kind::Express.of(&proxy).iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", b.name()), &"resent")).await.unwrap();
    assert!(a.sever(b.name(), Sever::Pool(0)) && a.sever(b.name(), Sever::Control));
    eventually("resent", || {
        sum(metrics::FRAMES_RESENT, &a) > 0.0 && sum(metrics::CONNECTIONS_RETIRED, &a) > 0.0
    })
    .await;
    eventually("control was lost", || sum(metrics::CONTROL_LOST, &a) > 0.0).await;
    let control_lost = peer_of(&a, b.name()).unwrap().control_lost;
    assert_eq!(control_lost as f64, sum(metrics::CONTROL_LOST, &a));
    let mut stranger = tokio::net::TcpStream::connect(b.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    eventually("a stranger was refused", || sum(metrics::HANDSHAKES_REFUSED, &b) == 1.0).await;
    assert_eq!((b.info().handshakes_refused, b.info().sessions_refused), (1, 0));
    assert!(a.info().sessions_ended.iter().all(|&(_, ended)| ended == 0));

    eventually("the control connection is back", || {
        peer_of(&a, b.name()).is_some_and(|peer| peer.control_connected && peer.transfer.unconfirmed == 0)
    })
    .await;
    within(a.prime(b.name())).await.unwrap();
    silence(&proxy);
    within(a.send(("inbox", b.name()), &"lost")).await.unwrap();
    a.set_net_ticktime(Duration::from_secs(2)); // not before: a machine may stand still for so long
    // The last that is counted of an end is what was not confirmed.
    eventually("nodedown", || {
        recorder.sum(metrics::NODEDOWNS, a.name(), &[("reason", "silent")]) == 1.0
            && sum(metrics::UNCONFIRMED, &a) == 1.0
    })
    .await;
    let ended: Vec<_> = a.info().sessions_ended.into_iter().filter(|&(_, ended)| ended > 0).collect();
    assert_eq!(ended, [(EndReason::Silent, 1)]);
    assert!(sum(metrics::TICKS_MISSED, &a) > 0.0);
    for gauge in [metrics::SESSION_UP, metrics::CONNECTIONS, metrics::BYTES_IN_FLIGHT, metrics::WAITING_SENDS]
    {
        assert_eq!(sum(gauge, &a), 0.0, "{gauge} after the end");
    }

    let described = recorder.described.lock().unwrap();
    let names = |metric: &metrics::Metric| metric.name.to_owned();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), METRICS.iter().map(names).collect());
    let values = recorder.values.lock().unwrap();
    for metric in METRICS {
        let (kind, unit, meaning) = &described[metric.name];
        let said = (*kind, unit.as_ref().map(Unit::as_str), meaning.as_str());
        assert_eq!(said, (metric.kind, Some(metric.unit.as_str()), metric.meaning), "{}", metric.name);
        let mut used = values.iter().filter(|(key, _)| key.name() == metric.name).peekable();
        assert!(used.peek().is_some(), "{} is never used", metric.name);
        for (key, (kind, _)) in used {
            let labels: Vec<_> = key.labels().map(Label::key).collect();
            assert_eq!((*kind, &labels[..]), (metric.kind, metric.labels), "{key}");
        }
    }
    let known = |key: &Key| METRICS.iter().any(|metric| metric.name == key.name());
    assert!(values.keys().all(known), "a metric that the table does not have");
}
