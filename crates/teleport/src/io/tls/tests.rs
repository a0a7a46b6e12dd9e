//! With a clock of their own, since certificates last for seconds at least.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use super::setup::Material;
use super::{Tls, names};
use crate::{Names, TlsConfig, TlsError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use teleport_proto::NodeName;
use tokio::net::{TcpListener, TcpStream};

/// The beginning of 2060, in seconds.
const END: u64 = 2_840_140_800;

#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl Clock {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn certificate(&self, name: &str, ends: i32, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(ends, 1, 1);
        params.subject_alt_names = vec![SanType::URI(format!("teleport://{name}").try_into().unwrap())];
        params.signed_by(key, &self.issuer).unwrap().pem().into_bytes()
    }

    fn tls(&self, name: &str, ends: i32, clock: &Arc<Clock>) -> Tls {
        let key = KeyPair::generate().unwrap();
        let certificate = self.certificate(name, ends, &key);
        let config = TlsConfig::new(certificate, key.serialize_pem().into_bytes(), self.pem.clone());
        Tls::at(config, clock.clone()).unwrap()
    }
}

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// What becomes of a connection from `a` to `b`, at both ends: whether it was resumed.
async fn connect(a: &Tls, b: &Tls) -> (Result<bool, TlsError>, Result<bool, TlsError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let dialling = async {
        let (tcp, session) = a.dial(tcp, &name("b@localhost")).await?;
        // The tickets come with what is read first.
        loop {
            tcp.readable().await.unwrap();
            match session.read(&tcp, &mut Vec::with_capacity(1)) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(TlsError::Failed(error.to_string())),
                Ok(_) => return Ok(session.is_resumed()),
            }
        }
    };
    let accepting = async {
        let (tcp, session) = b.accept(listener.accept().await.unwrap().0).await?;
        let _ = session.write(&tcp, &[std::io::IoSlice::new(b"x")]); // it may have gone
        session.check_peer(&name("a@localhost")).map(|()| session.is_resumed())
    };
    tokio::join!(dialling, accepting)
}

#[tokio::test]
async fn what_is_resumed_ends_with_the_certificates() {
    let (authority, clock) = (Authority::new(), Arc::new(Clock::default()));
    for (ends_of_a, ends_of_b) in [(2060, 4000), (4000, 2060)] {
        clock.set(END - 600);
        let (a, b) = (
            authority.tls("a@localhost", ends_of_a, &clock),
            authority.tls("b@localhost", ends_of_b, &clock),
        );
        assert_eq!(connect(&a, &b).await, (Ok(false), Ok(false)));
        assert_eq!(connect(&a, &b).await, (Ok(true), Ok(true)));
        clock.set(END + 600);
        let (dialled, accepted) = connect(&a, &b).await;
        let refused = if ends_of_a < ends_of_b { accepted } else { dialled };
        assert!(matches!(&refused, Err(TlsError::Failed(why)) if why.contains("expired")), "{refused:?}");
    }
}

#[test]
fn who_has_read_the_files_before_does_not_bring_back_what_was_in_them() {
    let (authority, key) = (Authority::new(), KeyPair::generate().unwrap());
    let [first, earlier, later] =
        [3000, 3001, 3002].map(|ends| authority.certificate("a@localhost", ends, &key));
    let folder = tempfile::tempdir().unwrap();
    let (path, fifo) = (folder.path().join("certificate"), folder.path().join("fifo"));
    std::fs::write(&path, &first).unwrap();
    let key = key.serialize_pem().into_bytes();
    let mut config = TlsConfig::new(path.clone(), key.clone(), authority.pem.clone());
    config.dialling.identity = Some((first.into(), key.into()));
    let tls = Tls::new(config).unwrap();

    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    std::fs::rename(&fifo, &path).unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| tls.reload());
        let mut slow = std::fs::File::options().write(true).open(&path).unwrap(); // it reads
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &later).unwrap();
        tls.reload().unwrap();
        std::io::Write::write_all(&mut slow, &earlier).unwrap();
        drop(slow);
        reading.join().unwrap().unwrap();
    });
    assert!(tls.loaded.lock().material == Material::read(&tls.config).unwrap(), "the earlier ones are back");
}

#[test]
fn a_name_for_many_hosts_counts_but_where_distributed_erlang_is_followed() {
    let (authority, key) = (Authority::new(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        ["*.example.com", "A.example.org"].map(|dns| SanType::DnsName(dns.try_into().unwrap())).to_vec();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let is_for = |node, names| names::check(certificate.der(), &name(node), names).is_ok();
    for (node, names, expected) in [
        ("x@b.example.com", Names::Host, true),
        ("x@b.example.com", Names::HostOrCommonName, false),
        ("x@a.example.org", Names::HostOrCommonName, true),
        ("x@b.example.org", Names::Host, false),
    ] {
        assert_eq!(is_for(node, names), expected, "{node} {names:?}");
    }
}
