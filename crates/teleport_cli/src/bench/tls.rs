//! Certificates of nodes that encrypt: those that were given, or some that are thrown away with the run.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use teleport::{Names, TlsConfig};
use tempfile::TempDir;

use super::BenchError;

/// Files of certificates.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsFiles {
    /// Encrypt with the certificate in this PEM file, the same for all nodes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of that certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The authorities that nodes trust, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
}

/// Whether to measure with TLS.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsOptions {
    /// Measure teleport with TLS 1.3, too, beside what else is compared; with certificates that are thrown away if none are given.
    #[arg(long)]
    tls: bool,

    #[command(flatten)]
    files: TlsFiles,
}

impl TlsFiles {
    /// What a node encrypts with, if it does.
    pub(crate) fn config(&self) -> Option<TlsConfig> {
        let [certificate, key, authorities] =
            [&self.tls_cert, &self.tls_key, &self.tls_ca].map(|path| path.as_deref());
        let mut config = TlsConfig::new(certificate?, key?, authorities?);
        // Nodes have made-up names on loopback, and certificates that were given others.
        (config.accepting.names, config.dialling.names) = (Names::Any, Names::Any);
        Some(config)
    }
}

impl TlsOptions {
    /// Whether it was asked for.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.tls || self.files.tls_cert.is_some()
    }

    /// Those that were given, or new ones.
    pub(crate) fn certificates(&self) -> Result<Certificates, BenchError> {
        if self.files.tls_cert.is_some() {
            return Ok(Certificates { files: self.files.clone(), _folder: None });
        }
        let failed = |source| BenchError::Setup { what: "make certificates", source };
        let folder = TempDir::with_prefix("teleport-tls-").map_err(failed)?;
        let files = make(folder.path()).map_err(failed)?;
        Ok(Certificates { files, _folder: Some(folder) })
    }
}

/// Files that are there as long as this is.
pub(crate) struct Certificates {
    files: TlsFiles,
    _folder: Option<TempDir>,
}

impl Certificates {
    /// For a node.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = String> {
        let TlsFiles { tls_cert, tls_key, tls_ca } = &self.files;
        let named = [("--tls-cert", tls_cert), ("--tls-key", tls_key), ("--tls-ca", tls_ca)];
        named.into_iter().filter_map(|(name, path)| Some(format!("{name}={}", path.as_ref()?.display())))
    }
}

fn make(folder: &Path) -> io::Result<TlsFiles> {
    let authority_key = KeyPair::generate().map_err(io::Error::other)?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).map_err(io::Error::other)?.pem();
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = CertificateParams::new(["localhost".to_owned()]).map_err(io::Error::other)?;
    let certificate =
        params.signed_by(&key, &Issuer::new(authority, authority_key)).map_err(io::Error::other)?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| Some(path))
    };
    Ok(TlsFiles {
        tls_cert: write("cert.pem", certificate.pem())?,
        tls_key: write("key.pem", key.serialize_pem())?,
        tls_ca: write("ca.pem", authority_pem)?,
    })
}
