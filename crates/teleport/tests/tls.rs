//! TLS between nodes, with certificates made here: who gets in, who does not, and what is said then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use std::fmt::Display;
use std::time::Duration;
use teleport::{
    Binary, Config, ConnectError, Names, Node, Pem, StartError, StaticPeers, TlsConfig, TlsError, Verify,
};
use teleport_testkit::proxy::{Fault, Faults, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const COOKIE: &str = "XVTqZ3vF0cYbN7sLk2Rw";
const PATIENCE: Duration = Duration::from_secs(40);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: Vec<u8>,
}

/// What a certificate says.
struct Named {
    uri: Option<&'static str>,
    dns: Option<&'static str>,
    common: Option<&'static str>,
    ends: i32,
}

impl Default for Named {
    fn default() -> Self {
        Self { uri: None, dns: None, common: None, ends: 4000 }
    }
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, named: Named) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(named.ends, 1, 1);
        if let Some(common) = named.common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let uri = named.uri.map(|uri| SanType::URI(uri.try_into().unwrap()));
        let dns = named.dns.map(|dns| SanType::DnsName(dns.try_into().unwrap()));
        params.subject_alt_names = uri.into_iter().chain(dns).collect();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    /// For one node.
    fn config_of(&self, uri: &'static str) -> TlsConfig {
        let (certificate, key) = self.issue(Named { uri: Some(uri), ..Named::default() });
        TlsConfig::new(certificate, key, self.pem.clone())
    }
}

async fn start(name: &str, peers: &StaticPeers, tls: Option<TlsConfig>) -> Node {
    start_with(name, peers, tls, Config::default()).await
}

async fn start_with(name: &str, peers: &StaticPeers, tls: Option<TlsConfig>, config: Config) -> Node {
    let mut builder = Node::builder(name).cookie(COOKIE).resolver(peers.clone()).config(config);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let node = builder.start().await.unwrap();
    peers.insert(node.name().clone(), node.address());
    node
}

const A: &str = "teleport://a@localhost";
const B: &str = "teleport://b@localhost";

/// Two nodes with these, and what comes of a connection from the first to the second.
async fn connect(a: Option<TlsConfig>, b: Option<TlsConfig>) -> (Node, Node, Result<(), ConnectError>) {
    let peers = StaticPeers::new();
    let (a, b) = (start("a@localhost", &peers, a).await, start("b@localhost", &peers, b).await);
    let connected = within(a.prime(b.name())).await;
    (a, b, connected)
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came in time")
}

#[track_caller]
fn assert_says(error: &impl Display, part: &str) {
    assert!(error.to_string().contains(part), "{error} does not say {part:?}");
}

fn pattern(len: usize, seed: u8) -> Binary {
    Binary::from((0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>())
}

/// Messages of every size, both ways at once.
async fn exchange(a: &Node, b: &Node) {
    let sizes = [0, 1, 1000, 16_384, 65_000, 65_537, 600_000, 10 << 20, 5, 3 << 20, 17];
    let one_way = async |from: &Node, to: &Node| {
        let mut inbox = to.register("inbox").unwrap();
        let (sender, name) = (from.process(), to.name().clone());
        let sending = async {
            for (i, len) in sizes.into_iter().enumerate() {
                sender.send(("inbox", &name), &(i as u64, pattern(len, i as u8))).await.unwrap();
            }
        };
        let receiving = async {
            for (i, len) in sizes.into_iter().enumerate() {
                let (number, body): (u64, Binary) = inbox.recv().await.unwrap().decode().unwrap();
                assert_eq!(number, i as u64);
                assert!(body == pattern(len, i as u8), "message {i} has been changed");
            }
        };
        tokio::join!(sending, receiving);
    };
    within(async { tokio::join!(one_way(a, b), one_way(b, a)) }).await;
}

#[tokio::test]
async fn messages_of_every_size_arrive_both_ways() {
    let authority = Authority::new();
    let (a, b, connected) = connect(Some(authority.config_of(A)), Some(authority.config_of(B))).await;
    connected.unwrap();
    exchange(&a, &b).await;
    assert!(a.info().tls_handshakes.0 > 0 && b.info().tls_handshakes.0 > 0);
    assert!(a.info().peers[0].encrypted && b.info().peers[0].encrypted);
}

#[tokio::test]
async fn nothing_of_a_message_is_on_the_network() {
    let authority = Authority::new();
    let peers = StaticPeers::new();
    let a = start("a@localhost", &peers, Some(authority.config_of(A))).await;
    let b = start("b@localhost", &peers, Some(authority.config_of(B))).await;
    let proxy = Proxy::start(b.address()).await.unwrap();
    peers.insert(b.name().clone(), proxy.address());
    within(a.prime(b.name())).await.unwrap();
    for connection in proxy.connections() {
        assert_eq!(connection.first()[..2], [22, 3], "a connection without TLS");
    }
    assert!(proxy.accepted() >= 3);
}

#[tokio::test]
async fn a_certificate_by_another_authority_is_refused_by_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (.., connected) = connect(Some(ours.config_of(A)), Some(theirs.config_of(B))).await;
    assert!(matches!(connected, Err(ConnectError::Tls { cause: TlsError::Failed(_), .. })), "{connected:?}");
    // This one believes everybody; the other one does not.
    let mut trusting = ours.config_of(A);
    trusting.dialling.verify = Verify::Nothing;
    let (.., connected) = connect(Some(trusting), Some(theirs.config_of(B))).await;
    assert!(matches!(connected, Err(ConnectError::Tls { cause: TlsError::Refused(_), .. })), "{connected:?}");
}

#[tokio::test]
async fn a_node_has_the_names_of_its_certificate_and_no_other() {
    let authority = Authority::new();
    let (.., connected) = connect(Some(authority.config_of(A)), Some(authority.config_of(A))).await;
    let error = connected.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { cause: TlsError::WrongName { .. }, .. }), "{error}");
    assert_says(&error, "not for b@localhost, but for a@localhost");
    let (.., connected) = connect(Some(authority.config_of(B)), Some(authority.config_of(B))).await;
    assert_says(&connected.unwrap_err(), "does not allow this node");
}

#[tokio::test]
async fn a_certificate_of_a_host_is_for_its_nodes() {
    let authority = Authority::new();
    let of_host = |dns| {
        let (certificate, key) = authority.issue(Named { dns: Some(dns), ..Named::default() });
        Some(TlsConfig::new(certificate, key, authority.pem.clone()))
    };
    connect(of_host("localhost"), of_host("localhost")).await.2.unwrap();
    let (.., connected) = connect(of_host("localhost"), of_host("elsewhere.example")).await;
    assert_says(&connected.unwrap_err(), "not for b@localhost, but for elsewhere.example");
}

/// A common name counts where there are no alternative names, and where it is said so.
#[tokio::test]
async fn names_are_looked_for_as_it_is_configured() {
    let authority = Authority::new();
    let connected = async |names, named| {
        let (certificate, key) = authority.issue(named);
        let acceptor = TlsConfig::new(certificate, key, authority.pem.clone());
        let (mut dialler, mut acceptor) = (authority.config_of(A), acceptor);
        (dialler.dialling.names, acceptor.accepting.names) = (names, Names::Any);
        connect(Some(dialler), Some(acceptor)).await.2
    };
    let common = || Named { common: Some("LocalHost"), ..Named::default() };
    connected(Names::HostOrCommonName, common()).await.unwrap();
    assert_says(&connected(Names::Host, common()).await.unwrap_err(), "not for b@localhost");
    let elsewhere = || Named { dns: Some("elsewhere.example"), ..common() };
    assert_says(&connected(Names::HostOrCommonName, elsewhere()).await.unwrap_err(), "for elsewhere.example");
    let other = || Named { common: Some("elsewhere.example"), ..Named::default() };
    assert_says(&connected(Names::HostOrCommonName, other()).await.unwrap_err(), "for elsewhere.example");
    connected(Names::Any, elsewhere()).await.unwrap();
    // A certificate that names nodes is for no others.
    assert_says(
        &connected(Names::Any, Named { uri: Some(A), ..common() }).await.unwrap_err(),
        "for a@localhost",
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(Named { uri: Some(B), ends: 2001, ..Named::default() });
    let expired = TlsConfig::new(certificate, key, authority.pem.clone());
    let (.., connected) = connect(Some(authority.config_of(A)), Some(expired)).await;
    assert_says(&connected.unwrap_err(), "expired");
}

#[tokio::test]
async fn plain_connections_are_refused_and_both_sides_say_why() {
    let authority = Authority::new();
    let (.., connected) = connect(None, Some(authority.config_of(B))).await;
    assert_says(&connected.unwrap_err(), "wants TLS");
    let (.., connected) = connect(Some(authority.config_of(A)), None).await;
    assert_says(&connected.unwrap_err(), "it has no TLS");
}

#[tokio::test]
async fn a_cluster_goes_over_to_tls_node_by_node() {
    let authority = Authority::new();
    let upgrading = |uri| {
        let mut config = authority.config_of(uri);
        config.upgrade = true;
        Some(config)
    };
    for (a, b) in [(upgrading(A), None), (None, upgrading(B))] {
        let (a, b, connected) = connect(a, b).await;
        connected.unwrap();
        exchange(&a, &b).await;
        assert_eq!((a.info().tls_handshakes, b.info().tls_handshakes), ((0, 0), (0, 0)));
        assert!(!a.info().peers[0].encrypted && !b.info().peers[0].encrypted);
    }
    let (a, b, connected) = connect(upgrading(A), upgrading(B)).await;
    connected.unwrap();
    exchange(&a, &b).await;
    assert!(a.info().tls_handshakes.0 > 0, "both have TLS and do without");
}

/// An attacker who keeps TLS from getting through gets no plain connection in its place.
#[tokio::test]
async fn two_nodes_with_tls_are_not_talked_out_of_it() {
    let authority = Authority::new();
    let peers = StaticPeers::new();
    let [mut first, mut second] = [authority.config_of(A), authority.config_of(B)];
    (first.upgrade, second.upgrade) = (true, true);
    let a = start("a@localhost", &peers, Some(first)).await;
    let b = start("b@localhost", &peers, Some(second)).await;
    let proxy = Proxy::start(b.address()).await.unwrap();
    proxy.plan(|opening| match opening.first[0] {
        22 => Faults { to_client: Fault::Cut { at: 0 }, ..Faults::default() },
        _ => Faults::default(),
    });
    peers.insert(b.name().clone(), proxy.address());
    let error = within(a.prime(b.name())).await.unwrap_err();
    assert_says(&error, "does not allow this node");
}

#[tokio::test]
async fn a_connection_that_ends_in_its_first_bytes_is_closed_at_once() {
    let mut tls = Authority::new().config_of(A);
    tls.upgrade = true;
    let mut config = Config::default();
    config.handshake_timeout = 10 * PATIENCE;
    config.setup_timeout = 20 * PATIENCE;
    let node = start_with("a@localhost", &StaticPeers::new(), Some(tls), config).await;
    for first in [&[22][..], &[22, 3]] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset: both are an end.
        let _ = within(stream.read_to_end(&mut answer)).await;
    }
}

#[tokio::test]
async fn who_only_looks_whether_somebody_listens_is_no_refused_stranger() {
    let authority = Authority::new();
    let node =
        start("a@127.0.0.1", &StaticPeers::new(), Some(authority.config_of("teleport:a@127.0.0.1"))).await;
    // The node ends the connection when it has judged it.
    let mut looks = TcpStream::connect(node.address()).await.unwrap();
    looks.shutdown().await.unwrap();
    assert_eq!(within(looks.read(&mut [0; 1])).await.unwrap(), 0);
    assert_eq!(node.info().handshakes_refused, 0);
    let mut speaks = TcpStream::connect(node.address()).await.unwrap();
    speaks.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    speaks.shutdown().await.unwrap();
    within(speaks.read_to_end(&mut Vec::new())).await.unwrap();
    teleport_testkit::wait::eventually("it is refused", || node.info().handshakes_refused == 1).await;
}

#[tokio::test]
async fn a_pool_costs_one_full_handshake() {
    let authority = Authority::new();
    let peers = StaticPeers::new();
    let mut config = Config::default();
    (config.express_connections, config.bulk_connections) = (4, 4);
    let a = start_with("a@localhost", &peers, Some(authority.config_of(A)), config.clone()).await;
    let b = start_with("b@localhost", &peers, Some(authority.config_of(B)), config).await;
    within(a.prime(b.name())).await.unwrap();
    assert_eq!((a.info().tls_handshakes, b.info().tls_handshakes), ((1, 8), (1, 8)));
}

#[tokio::test]
async fn certificates_are_loaded_again() {
    let (earlier, later) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let write = |authority: &Authority, uri| {
        let (certificate, key) = authority.issue(Named { uri: Some(uri), ..Named::default() });
        let texts = [("certificate", &certificate), ("key", &key), ("authority", &authority.pem)];
        texts.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Pem::from(path)
        })
    };
    let [certificate, key, authority] = write(&earlier, B);
    let peers = StaticPeers::new();
    let b = start("b@localhost", &peers, Some(TlsConfig::new(certificate, key, authority))).await;
    let a = start("a@localhost", &peers, Some(earlier.config_of(A))).await;
    within(a.prime(b.name())).await.unwrap();

    write(&later, B);
    b.reload_tls().unwrap();
    a.disconnect(b.name());
    let error = within(a.prime(b.name())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { cause: TlsError::Failed(_), .. }), "{error}");
    let c = start("c@localhost", &peers, Some(later.config_of("teleport://c@localhost"))).await;
    within(c.prime(b.name())).await.unwrap();

    std::fs::write(folder.path().join("key"), "no key").unwrap();
    assert_says(&b.reload_tls().unwrap_err(), "the key cannot be used");
    c.disconnect(b.name());
    within(c.prime(b.name())).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_is_said_when_the_node_starts() {
    let missing = std::path::Path::new("/nonexistent/certificate.pem");
    let config = TlsConfig::new(missing, missing, missing);
    let started = Node::builder("a@localhost").cookie(COOKIE).tls(config).start().await;
    let Err(StartError::Tls(error)) = started else { panic!("it has started") };
    assert_says(&error, "/nonexistent/certificate.pem");
}

/// Cut in the middle of a record or of TLS' handshake, again and again: nothing is lost, doubled or changed.
#[tokio::test]
async fn connections_cut_in_the_middle_of_records_lose_nothing() {
    let authority = Authority::new();
    let peers = StaticPeers::new();
    let a = start("a@localhost", &peers, Some(authority.config_of(A))).await;
    let b = start("b@localhost", &peers, Some(authority.config_of(B))).await;
    let proxy = Proxy::start(b.address()).await.unwrap();
    peers.insert(b.name().clone(), proxy.address());
    within(a.prime(b.name())).await.unwrap();
    let mut inbox = b.register("inbox").unwrap();
    let (sender, name) = (a.process(), b.name().clone());
    let sending = async {
        for i in 0..120u64 {
            let len = [10, 70_000, 2_000_000][i as usize % 3];
            sender.send(("inbox", &name), &(i, pattern(len, i as u8))).await.unwrap();
            if i % 10 == 5 {
                a.sever(b.name(), teleport::Sever::Pool(i as usize));
            }
        }
    };
    let receiving = async {
        for i in 0..120u64 {
            let (number, body): (u64, Binary) = inbox.recv().await.unwrap().decode().unwrap();
            assert_eq!(number, i);
            assert!(body == pattern([10, 70_000, 2_000_000][i as usize % 3], i as u8));
        }
    };
    proxy.plan_cuts(7, |_| 3_000_000);
    within(async { tokio::join!(sending, receiving) }).await;
    assert!(proxy.struck() > 0, "nothing was cut");
}
