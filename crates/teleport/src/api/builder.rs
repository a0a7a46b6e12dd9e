//! Setting a node up.

use crate::base::allow::AllowList;
use crate::base::cookies::{Cookies, KnownCookies};
use crate::base::resolver::{Careful, Resolver, StaticPeers};
use crate::engine::control::TickObserver;
use crate::engine::{Engine, Lifecycle, Parts};
use crate::host::Hosting;
use crate::io::runtime::{BulkThreads, Main, Thread};
use crate::io::socket;
use crate::io::tls::Tls;
use crate::{Config, Node, StartError};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use teleport_proto::handshake::{Cookie, FEATURE_CARRIES, FEATURE_TLS, Limits, LocalNode};
use teleport_proto::{Incarnation, InvalidNodeName, NodeName};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Begun by [`Node::builder`], ended by [`NodeBuilder::start`].
#[must_use = "a builder does nothing until it is started"]
pub struct NodeBuilder {
    name: Result<NodeName, InvalidNodeName>,
    cookie: Option<Vec<u8>>,
    peer_cookies: Vec<(NodeName, Vec<u8>)>,
    cookies: Option<Arc<dyn Cookies>>,
    listen: SocketAddr,
    ports: Option<RangeInclusive<u16>>,
    any_port: bool,
    resolver: Arc<dyn Resolver>,
    config: Config,
    runtime: Option<Handle>,
    pub(super) observer: Option<TickObserver>,
    incarnation: Option<u32>,
    hosting: Option<Arc<Hosting>>,
    allow: Option<AllowList>,
    #[cfg(feature = "tls")]
    tls: Option<crate::TlsConfig>,
}

impl Node {
    /// Sets up a node with that name, `name@host`.
    pub fn builder(name: &str) -> NodeBuilder {
        NodeBuilder {
            name: NodeName::new(name),
            cookie: None,
            peer_cookies: Vec::new(),
            cookies: None,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            ports: None,
            any_port: true,
            resolver: Arc::new(StaticPeers::new()),
            config: Config::default(),
            runtime: None,
            observer: None,
            incarnation: None,
            hosting: None,
            allow: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl NodeBuilder {
    /// The secret that all nodes of the cluster share. At least 16 random characters: a short one can be guessed.
    pub fn cookie(mut self, cookie: impl AsRef<[u8]>) -> Self {
        self.cookie = Some(cookie.as_ref().to_vec());
        self
    }

    /// A secret shared with one peer only, in place of the cluster's.
    pub fn peer_cookie(mut self, peer: NodeName, cookie: impl AsRef<[u8]>) -> Self {
        self.peer_cookies.push((peer, cookie.as_ref().to_vec()));
        self
    }

    /// Asked for the secret at each handshake, in place of the cluster's: for cookies that change while the node runs. Those of
    /// single peers go before. [`cookie`](Self::cookie) has to be set all the same, though it is not used then.
    pub fn cookies(mut self, cookies: impl Cookies + 'static) -> Self {
        self.cookies = Some(Arc::new(cookies));
        self
    }

    /// Where to listen. Default: any free port of the loopback interface.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Listens at the first of these ports that is free, or if none is, at that of [`listen`](Self::listen): for several nodes on
    /// a host behind a firewall that lets these through.
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        (self.ports, self.any_port) = (Some(ports), true);
        self
    }

    /// Listens at the first of these ports that is free, at the address of [`listen`](Self::listen). If none is free the node does not
    /// start ([`StartError::Listen`]): for peers that look for it at these ports alone.
    pub fn only_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        (self.ports, self.any_port) = (Some(ports), false);
        self
    }

    /// Where peers are. Default: an empty table.
    pub fn resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Arc::new(Careful::new(Arc::new(resolver)));
        self
    }

    /// Everything that has a default.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Runs pools, accepts and handshakes on a runtime of yours (with IO and time enabled) instead of threads of the
    /// node's own. Saves a change of threads per message where the application does little but pass messages on; an
    /// application that keeps its threads busy should not do this.
    ///
    /// The node ends with the runtime, as if it were dropped: what is sent or called after that fails with
    /// [`SendError::NotRunning`](crate::SendError::NotRunning).
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The node's life, for one that is identified by more than this crate: an Erlang node's creation. It must differ from
    /// that of every earlier life of the name, and not be 0. Default: random.
    pub fn incarnation(mut self, incarnation: u32) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// Encrypts all connections, with TLS 1.3. Peers without it are refused, unless [`TlsConfig::upgrade`](crate::TlsConfig::upgrade)
    /// says otherwise. Default: nothing is encrypted.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: crate::TlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// What each peer may reach at this node. Default: everything, for all of them. [`Node::set_allow`] changes it.
    pub fn allow(mut self, list: AllowList) -> Self {
        self.allow = Some(list);
        self
    }

    /// Processes are the host's.
    pub(crate) fn hosting(mut self, hosting: Hosting) -> Self {
        self.hosting = Some(Arc::new(hosting));
        self
    }

    /// Starts the node: it listens when this returns.
    ///
    /// # Errors
    ///
    /// [`StartError`]: what is missing or cannot be had. Nothing is left of the node then.
    pub async fn start(self) -> Result<Node, StartError> {
        let name = self.name?;
        if let Some((field, allowed)) = self.config.flaw() {
            return Err(StartError::Config { field, allowed });
        }
        let default = Cookie::new(&self.cookie.ok_or_else(|| StartError::NoCookie(name.clone()))?)?;
        let peers = self
            .peer_cookies
            .into_iter()
            .map(|(peer, cookie)| Ok((peer, Cookie::new(&cookie)?)))
            .collect::<Result<HashMap<_, _>, StartError>>()?;
        let cookies = KnownCookies::new(name.clone(), default, peers, self.cookies);
        let limits = Limits {
            max_message: self.config.max_message,
            peer_window: self.config.peer_window,
            mailbox_window: self.hosting.is_none().then_some(self.config.mailbox_window),
        };
        let incarnation = match self.incarnation {
            Some(given) => Incarnation::new(given)
                .ok_or(StartError::Config { field: "incarnation", allowed: "any number but 0" })?,
            None => new_incarnation().map_err(|cause| StartError::System { what: "random bytes", cause })?,
        };
        #[cfg(feature = "tls")]
        let tls = self.tls.map(Tls::new).transpose()?.map(Arc::new);
        #[cfg(not(feature = "tls"))]
        let tls: Option<Arc<Tls>> = None;
        let carries = self.hosting.as_ref().is_some_and(|hosting| hosting.host.carries());
        let feature = |has: bool, feature| if has { feature } else { 0 };
        let features = feature(tls.is_some(), FEATURE_TLS) | feature(carries, FEATURE_CARRIES);
        let local = LocalNode { name: name.clone(), incarnation, features, limits };
        let threads = |cause| StartError::System { what: "threads", cause };
        let bulk = BulkThreads::start(&name, self.config.worker_threads).map_err(threads)?;
        let control = Thread::control(&name).map_err(threads)?;
        let lifecycle = Lifecycle::start(&name).map_err(threads)?;
        let (runtime, handle) = match self.runtime {
            Some(handle) => (None, handle),
            None => {
                let (main, handle) = Main::start(&name, self.config.worker_threads).map_err(threads)?;
                (Some(main), handle)
            }
        };
        let address = self.listen;
        let (listener, address) = {
            let _entered = handle.enter(); // the listener belongs to the runtime that accepts
            if let Some(name) = &self.config.congestion {
                let known = socket::knows_congestion(name);
                known.map_err(|cause| StartError::Congestion { name: name.clone(), cause })?;
            }
            let wanted = match &self.ports {
                Some(ports) if !self.any_port => SocketAddr::new(address.ip(), *ports.start()),
                _ => address,
            };
            let listener = match self.ports {
                None => socket::listen(address, &self.config),
                Some(ports) => listen_at_one_of(address, ports, self.any_port, &self.config),
            };
            let bound =
                listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
            bound.map_err(|cause| StartError::Listen { address: wanted, cause })?
        };
        let (resolver, observer, config, hosting) = (self.resolver, self.observer, self.config, self.hosting);
        let parts = Parts {
            local,
            config,
            handle,
            bulk,
            resolver,
            cookies,
            tls,
            observer,
            control,
            lifecycle,
            hosting,
        };
        let engine = Engine::start(parts, self.allow, listener, address);
        Node::start(engine, runtime)
            .map_err(|error| StartError::System { what: "a process", cause: std::io::Error::other(error) })
    }
}

/// At the first port that is free; if none of them is, at the address itself, if that will do.
fn listen_at_one_of(
    address: SocketAddr,
    ports: RangeInclusive<u16>,
    any_port: bool,
    config: &Config,
) -> std::io::Result<TcpListener> {
    let mut taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for port in ports {
        match socket::listen(SocketAddr::new(address.ip(), port), config) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => taken = error,
            listener => return listener,
        }
    }
    if any_port { socket::listen(address, config) } else { Err(taken) }
}

/// A random life: like Erlang's creations, which leave 1 to 3 to nodes of old.
fn new_incarnation() -> std::io::Result<Incarnation> {
    let random = u32::from_ne_bytes(crate::engine::random()?);
    Incarnation::new(random.max(4)).ok_or_else(|| std::io::Error::other("zero is no incarnation"))
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("name", &self.name)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
