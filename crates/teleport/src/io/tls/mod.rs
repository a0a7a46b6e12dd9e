//! TLS 1.3 by rustls: connections of a node are set up here, on the threads that run handshakes.

mod names;
mod session;
mod setup;
#[cfg(test)]
mod tests;
mod times;

use crate::base::lock::Lock;
use crate::{TlsConfig, TlsError};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
pub(crate) use session::{MOST_HELD, Session};
use setup::Material;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use teleport_proto::NodeName;
use tokio::net::TcpStream;

/// What a node sets up connections with.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    time: Arc<dyn TimeProvider>,
    loaded: Lock<Loaded>,
    full: AtomicU64,
    resumed: AtomicU64,
}

#[derive(Debug)]
struct Loaded {
    material: Material,
    configs: Configs,
    looked: Instant,
    /// How often they have changed.
    changes: u64,
}

#[derive(Debug, Clone)]
struct Configs {
    accepting: Arc<ServerConfig>,
    diallers: Option<Arc<dyn ClientCertVerifier>>,
    dialling: Arc<ClientConfig>,
    acceptors: Arc<dyn ServerCertVerifier>,
}

impl Configs {
    fn new(config: &TlsConfig, material: &Material, time: &Arc<dyn TimeProvider>) -> Result<Self, TlsError> {
        let (mut accepting, diallers) = setup::accepting(&config.accepting, &material.accepting)?;
        let (mut dialling, acceptors) = setup::dialling(&config.dialling, &material.dialling)?;
        (accepting.time_provider, dialling.time_provider) = (time.clone(), time.clone());
        Ok(Self { accepting: Arc::new(accepting), diallers, dialling: Arc::new(dialling), acceptors })
    }
}

impl Tls {
    pub(crate) fn new(config: TlsConfig) -> Result<Self, TlsError> {
        Self::at(config, Arc::new(DefaultTimeProvider))
    }

    fn at(config: TlsConfig, time: Arc<dyn TimeProvider>) -> Result<Self, TlsError> {
        let material = Material::read(&config)?;
        let configs = Configs::new(&config, &material, &time)?;
        let loaded = Lock::leaf(Loaded { material, configs, looked: Instant::now(), changes: 0 });
        Ok(Self { config, time, loaded, full: AtomicU64::new(0), resumed: AtomicU64::new(0) })
    }

    /// Whether peers without TLS are let in.
    pub(crate) fn upgrades(&self) -> bool {
        self.config.upgrade
    }

    /// Handshakes so far: full and resumed ones.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        (self.full.load(Ordering::Relaxed), self.resumed.load(Ordering::Relaxed))
    }

    fn count(&self, session: &Session) {
        if session.is_resumed() { &self.resumed } else { &self.full }.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the files again. What they have now is for new connections, and nothing of earlier ones is resumed. With an error all
    /// stays as it was.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        loop {
            let changes = self.loaded.lock().changes;
            let material = Material::read(&self.config)?;
            if self.loaded.lock().material == material {
                return Ok(());
            }
            let configs = Configs::new(&self.config, &material, &self.time)?;
            let mut loaded = self.loaded.lock();
            // If they have been read by others meanwhile, these may be the older ones.
            if loaded.changes == changes {
                *loaded = Loaded { material, configs, looked: Instant::now(), changes: changes + 1 };
                return Ok(());
            }
        }
    }

    fn configs(&self) -> Configs {
        let configs = {
            let mut loaded = self.loaded.lock();
            let due = loaded.looked.elapsed() >= self.config.reload_every;
            if !due {
                return loaded.configs.clone();
            }
            loaded.looked = Instant::now();
            loaded.configs.clone()
        };
        match self.reload() {
            Ok(()) => self.loaded.lock().configs.clone(),
            Err(error) => {
                tracing::warn!(%error, "TLS certificates cannot be loaded again; the earlier ones hold");
                configs
            }
        }
    }

    /// Sets TLS up on a connection that this node has opened to a peer, and checks who is there.
    pub(crate) async fn dial(
        &self,
        tcp: TcpStream,
        peer: &NodeName,
    ) -> Result<(TcpStream, Session), TlsError> {
        let Configs { dialling, acceptors, .. } = self.configs();
        let connection = ClientConnection::new(dialling, label(peer)).map_err(failed)?;
        let mut session = Session::set_up(connection.into(), &tcp, &self.config.dialling).await?;
        self.count(&session);
        session.check_times(self.now()?, |certificate, others, now| {
            acceptors.verify_server_cert(certificate, others, &label(peer), &[], now).map(drop)
        });
        session.check_peer(peer)?;
        Ok((tcp, session))
    }

    /// Sets TLS up on a connection that somebody has opened.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> Result<(TcpStream, Session), TlsError> {
        let Configs { accepting, diallers, .. } = self.configs();
        let connection = ServerConnection::new(accepting).map_err(failed)?;
        let mut session = Session::set_up(connection.into(), &tcp, &self.config.accepting).await?;
        self.count(&session);
        session.check_times(self.now()?, |certificate, others, now| match &diallers {
            Some(verifier) => verifier.verify_client_cert(certificate, others, now).map(drop),
            None => Ok(()),
        });
        Ok((tcp, session))
    }

    fn now(&self) -> Result<UnixTime, TlsError> {
        self.time.current_time().ok_or_else(|| failed(rustls::Error::FailedToGetCurrentTime))
    }
}

/// What a peer's tickets are kept under. It is not sent; names are checked when the connection is set up.
fn label(peer: &NodeName) -> ServerName<'static> {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(peer);
    // Letters and digits are a DNS name.
    ServerName::try_from(format!("n{hash:016x}"))
        .unwrap_or(ServerName::from(std::net::IpAddr::from([127, 0, 0, 1])))
}

fn failed(error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::AlertReceived(alert) => TlsError::Refused(format!("{alert:?}")),
        error => TlsError::Failed(error.to_string()),
    }
}
