//! How long a session with a pool of eight connections takes to open, plain and with TLS: `taskset -c 0 cargo run --release
//! --example tls_pool`. Both nodes are in this process.

#![allow(clippy::print_stdout, reason = "an example prints what it has found")]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::error::Error;
use std::time::{Duration, Instant};
use teleport::{Config, Node, StaticPeers, TlsConfig};

const ROUNDS: usize = 51;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for (name, tls) in [("plain", None), ("TLS", Some(certificates()?))] {
        let peers = StaticPeers::new();
        let b = start("b@127.0.0.1", &peers, tls.clone()).await?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            // A new node each time: it has nothing that it could resume.
            let a = start("a@127.0.0.1", &peers, tls.clone()).await?;
            let begin = Instant::now();
            a.prime(b.name()).await?;
            times.push(begin.elapsed());
            let _ = a.shutdown(Duration::from_secs(1)).await;
            while !b.info().peers.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let (first, (least, median, most)) = (times[0], spread(&mut times[1..]));
        println!(
            "{name}: {median:?} ({least:?} - {most:?}), the first {first:?}; handshakes {:?}",
            b.info().tls_handshakes
        );
    }
    Ok(())
}

fn spread(times: &mut [Duration]) -> (Duration, Duration, Duration) {
    times.sort();
    (times[0], times[times.len() / 2], times[times.len() - 1])
}

async fn start(name: &str, peers: &StaticPeers, tls: Option<TlsConfig>) -> Result<Node, Box<dyn Error>> {
    let mut config = Config::default();
    (config.express_connections, config.bulk_connections) = (4, 4);
    let mut builder =
        Node::builder(name).cookie("a cookie for one measurement").resolver(peers.clone()).config(config);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let node = builder.start().await?;
    peers.insert(node.name().clone(), node.address());
    Ok(node)
}

fn certificates() -> Result<TlsConfig, Box<dyn Error>> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key)?.pem().into_bytes();
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(TlsConfig::new(certificate.pem().into_bytes(), key.serialize_pem().into_bytes(), pem))
}
