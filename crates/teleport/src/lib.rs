//! Messages of any size between the nodes of an Erlang-style cluster, over pools of TCP connections.
//!
//! Distributed Erlang's semantics without its one connection per pair of nodes: a session has a control connection for
//! ticks and acknowledgements, express connections for small messages and bulk connections for large ones. Inside a
//! session nothing is lost, doubled or put out of order, whatever happens to single connections.
//!
//! ```
//! use std::time::Duration;
//! use teleport::{Binary, Node, StaticPeers};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (cookie, peers) = ("kDz7kS6gh2PqvV1u", StaticPeers::new());
//!     let shop = Node::builder("shop@127.0.0.1").cookie(cookie).resolver(peers.clone()).start().await?;
//!     let bank = Node::builder("bank@127.0.0.1").cookie(cookie).resolver(peers.clone()).start().await?;
//!     peers.insert(bank.name().clone(), bank.address());
//!
//!     // {vault, 'bank@127.0.0.1'} ! {<<"store">>, Scan}: a large message disturbs neither small ones nor ticks.
//!     let mut vault = bank.register("vault")?;
//!     let scan = Binary::from(vec![7; 10 << 20]);
//!     shop.send(("vault", bank.name()), &("store", scan)).await?;
//!
//!     let message = vault.recv().await.ok_or("the bank has been shut down")?;
//!     let (what, scan): (String, Binary) = message.decode()?;
//!     assert_eq!((what.as_str(), scan.len()), ("store", 10 << 20));
//!
//!     // Waits until everything accepted has been delivered, and reports what was not.
//!     assert!(shop.shutdown(Duration::from_secs(5)).await.unconfirmed.is_empty());
//!     Ok(())
//! }
//! ```
//!
//! How Rust types map to Erlang terms is in [`etf`]; use [`Binary`] for bytes. Logs go through `tracing`: install a
//! subscriber to see them.
//!
//! Cargo features: `metrics` (the default) hands figures to the recorder of the `metrics` facade, `embed` is for hosts with
//! processes of their own, `tls` encrypts (`NodeBuilder::tls`), `test-util` breaks connections and observes ticks in tests and
//! benchmarks.
//!
//! Begin with [`Node`]; calls, servers and monitors are in the guide, `docs/rust.md`. `ARCHITECTURE.md` shows how the house is built.

// Of what these features show, the layers below have the means in any case.
#![cfg_attr(not(all(feature = "embed", feature = "test-util")), allow(dead_code, unreachable_pub))]

mod api;
mod base;
mod engine;
mod host;
mod io;
mod local;
mod session;

pub use api::builder::NodeBuilder;
pub use api::call::{Caller, MultiCall, Response};
pub use api::check::{AddressCheck, PeerCheck};
#[cfg(feature = "embed")]
pub use api::embed;
pub use api::gen_server;
pub use api::mailbox::{Mailbox, Message};
pub use api::node::{Node, ShutdownReport};
pub use api::process::{Acknowledgement, Process};
pub use api::send_options::SendOptions;
#[cfg(feature = "test-util")]
pub use api::test_util::{Sever, assert_no_lock_is_held};
pub use base::address::Address;
pub use base::allow::{AllowList, Permits};
pub use base::config::Config;
pub use base::cookies::{Asking, Cookies};
pub use base::down::Down;
pub use base::error::{
    AddressError, CallError, ConnectError, DeliveryError, MonitorError, RegisterError, ReplyError, SendError,
    StartError, TlsError, Tried,
};
pub use base::info::{Carried, ConnectionCheck, ConnectionKind, NodeInfo, NotAllowed, PeerInfo, Tick};
#[cfg(feature = "metrics")]
pub use base::metrics;
pub use base::resolver::{CallingBack, Resolver, Resolving, StaticPeers};
#[cfg(feature = "tls")]
pub use base::tls::{Names, Pem, TlsConfig, TlsSide, Verify};
pub use engine::monitors::{NodeEvent, NodeMonitor};

pub use teleport_etf as etf;
pub use teleport_etf::{Atom, Binary, DecodeError, EncodeError, Pid, RawTerm, Reference, Segments, Term};
pub use teleport_proto::handshake::{HandshakeError, UnusableCookie};
pub use teleport_proto::membership::{Backoff, EndReason};
pub use teleport_proto::transfer::{MESSAGE_COST, TransferStats};
pub use teleport_proto::{Incarnation, InvalidNodeName, NodeName};

/// Keeps the examples in the guide true.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/rust.md")]
struct Guide;
