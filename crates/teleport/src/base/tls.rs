//! How connections are encrypted: certificates, whom they are checked against, and what is done with peers without TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// PEM, which has certificates or a private key in it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pem {
    /// A file: read when the node starts, and again when it may have changed.
    File(PathBuf),
    /// The text itself.
    Bytes(Vec<u8>),
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Pem {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<Vec<u8>> for Pem {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(_) => f.write_str("(PEM)"), // it may be a key
        }
    }
}

/// What is asked of the peer's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Verify {
    /// The peer has a certificate, by an authority that is trusted, and for its node's name as [`Names`] says.
    #[default]
    Required,
    /// A dialler may have no certificate; one that it has is checked as by `Required`. An acceptor always has one.
    IfGiven,
    /// Nothing: connections are encrypted, and the cookie alone says who is there.
    Nothing,
}

/// The names that a peer's certificate needs. A certificate with URIs `teleport://name@host` is for those nodes alone, whatever is set
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Names {
    /// The node's host as DNS name or IP address.
    #[default]
    Host,
    /// Like `Host`; without alternative names the common name of the subject counts, as in OTP.
    HostOrCommonName,
    /// None: a certificate by an authority that is trusted is for all nodes. For authorities of one cluster alone.
    Any,
}

/// One of the two sides that a node can be on: it accepts connections, and opens them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TlsSide {
    /// The certificate with those of the authorities between it and the root, and its private key. A side that accepts has to have
    /// them.
    pub identity: Option<(Pem, Pem)>,
    /// Authorities that the peer's certificate may come from.
    pub authorities: Option<Pem>,
    /// What is asked of the peer's certificate.
    pub verify: Verify,
    /// The names that it needs.
    pub names: Names,
}

/// TLS 1.3 for all connections of a node: see [`NodeBuilder::tls`](crate::NodeBuilder::tls).
///
/// A certificate names nodes in its subject alternative names: a URI `teleport://name@host` is one node. A certificate without such
/// a URI is for all nodes whose host is one of its DNS names or IP addresses.
///
/// ```
/// use std::path::Path;
/// use teleport::TlsConfig;
///
/// let [certificate, key, authority] = ["node.pem", "node.key", "ca.pem"].map(Path::new);
/// let tls = TlsConfig::new(certificate, key, authority);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// For connections that peers open.
    pub accepting: TlsSide,
    /// For those that this node opens.
    pub dialling: TlsSide,
    /// Peers without TLS are let in, and are connected to. Of a peer that has TLS a plain connection is refused all the same.
    ///
    /// Default `false`. To be `true` only while a cluster goes over to TLS, node by node: it is what an attacker on the network would
    /// have to pose as.
    pub upgrade: bool,
    /// How long files hold before they are looked at again. New ones are for new connections.
    ///
    /// Default 10 s: sooner than anybody waits for a certificate, and nothing beside connecting.
    pub reload_every: Duration,
}

impl TlsConfig {
    /// One certificate, key and set of authorities for both sides, and peers without a certificate are refused.
    pub fn new(certificate: impl Into<Pem>, key: impl Into<Pem>, authorities: impl Into<Pem>) -> Self {
        let side = TlsSide {
            identity: Some((certificate.into(), key.into())),
            authorities: Some(authorities.into()),
            verify: Verify::Required,
            names: Names::Host,
        };
        Self::of_sides(side.clone(), side)
    }

    /// One of each for either side.
    pub fn of_sides(accepting: TlsSide, dialling: TlsSide) -> Self {
        Self { accepting, dialling, upgrade: false, reload_every: Duration::from_secs(10) }
    }
}
