//! From PEM to what rustls sets connections up with.

use super::failed;
use crate::{Pem, TlsConfig, TlsError, TlsSide, Verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::Arc;

/// Tickets that an acceptor gives for each connection: each saves a dialler one full handshake.
const TICKETS: usize = 8;

/// Peers whose tickets are kept.
const PEERS_TO_RESUME: usize = 1024;

/// In PEM of every kind of key with a password.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// What the files have in them.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    pub(super) accepting: Texts,
    pub(super) dialling: Texts,
}

/// The texts of one side.
#[derive(PartialEq, Eq)]
pub(super) struct Texts {
    identity: Option<(Vec<u8>, Vec<u8>)>,
    authorities: Option<Vec<u8>>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material") // there are keys in it
    }
}

impl Material {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        Ok(Self { accepting: Texts::read(&config.accepting)?, dialling: Texts::read(&config.dialling)? })
    }
}

impl Texts {
    fn read(side: &TlsSide) -> Result<Self, TlsError> {
        let identity = match &side.identity {
            Some((certificate, key)) => Some((text(certificate)?, text(key)?)),
            None => None,
        };
        Ok(Self { identity, authorities: side.authorities.as_ref().map(text).transpose()? })
    }

    fn certified(&self) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        let Some((certificate, key)) = &self.identity else { return Ok(None) };
        let chain = certificates(certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| TlsError::Unusable { what: "key", why: unreadable_key(key, &error) })?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        certified
            .map(|key| Some(Arc::new(key)))
            .map_err(|error| TlsError::Unusable { what: "certificate with this key", why: error.to_string() })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let Some(authorities) = &self.authorities else {
            let why = "there are none, and the peer's certificate is to be verified".into();
            return Err(TlsError::Unusable { what: "authorities", why });
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities, "authorities")? {
            roots
                .add(authority)
                .map_err(|error| TlsError::Unusable { what: "authorities", why: error.to_string() })?;
        }
        Ok(Arc::new(roots))
    }
}

fn text(pem: &Pem) -> Result<Vec<u8>, TlsError> {
    match pem {
        Pem::Bytes(bytes) => Ok(bytes.clone()),
        Pem::File(path) => std::fs::read(path)
            .map_err(|error| TlsError::Unreadable { path: path.clone(), why: error.to_string() }),
    }
}

fn unreadable_key(pem: &[u8], error: &pem::Error) -> String {
    match pem.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
        true => "it is protected by a password; write it without one (openssl pkey)".into(),
        false => error.to_string(),
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::Unusable { what, why: "no certificate in it".into() }),
        Err(error) => Err(TlsError::Unusable { what, why: error.to_string() }),
    }
}

/// The shorter key first: it costs a quarter less, and breaks no sooner.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// With what diallers are verified by, if they are.
pub(super) fn accepting(
    side: &TlsSide,
    texts: &Texts,
) -> Result<(ServerConfig, Option<Arc<dyn ClientCertVerifier>>), TlsError> {
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(failed)?;
    let (builder, diallers) = match side.verify {
        Verify::Nothing => (builder.with_no_client_auth(), None),
        verify => {
            let verifier = WebPkiClientVerifier::builder_with_provider(texts.roots()?, provider);
            let verifier = match verify {
                Verify::IfGiven => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build().map_err(|error| TlsError::Failed(error.to_string()))?;
            (builder.with_client_cert_verifier(verifier.clone()), Some(verifier))
        }
    };
    let Some(key) = texts.certified()? else {
        let why = "a node that accepts connections has to have one".into();
        return Err(TlsError::Unusable { what: "certificate", why });
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    config.send_tls13_tickets = TICKETS;
    Ok((config, diallers))
}

/// With what acceptors are verified by.
pub(super) fn dialling(
    side: &TlsSide,
    texts: &Texts,
) -> Result<(ClientConfig, Arc<dyn ServerCertVerifier>), TlsError> {
    let provider = Arc::new(provider());
    let roots = match side.verify {
        Verify::Nothing => None,
        _ => Some(texts.roots()?),
    };
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Acceptors { provider: provider.clone(), roots });
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(failed)?.dangerous().with_custom_certificate_verifier(verifier.clone());
    let mut config = match texts.certified()? {
        Some(key) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = false;
    // It counts in tickets.
    config.resumption = Resumption::in_memory_sessions(PEERS_TO_RESUME * TICKETS);
    Ok((config, verifier))
}

/// Checks the certificates of acceptors, but for the name: that is the same for both sides, in `names`.
#[derive(Debug)]
struct Acceptors {
    provider: Arc<CryptoProvider>,
    /// `None`: any name.
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for Acceptors {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
