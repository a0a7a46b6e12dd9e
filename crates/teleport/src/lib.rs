//! Messages of any size between the nodes of an Erlang-style cluster, over pools of TCP connections.
//!
//! Distributed Erlang's semantics without its one connection per pair of nodes: a session has a control connection for
//! ticks and acknowledgements, express connections for small messages and bulk connections for large ones. Inside a
//! session nothing is lost, doubled or put out of order, whatever happens to single connections.
//!
//! How Rust types map to Erlang terms is in [`etf`]; use [`Binary`] for bytes. Logs go through `tracing`: install a
//! subscriber to see them.
//!
//! Begin with [`Node`]. `ARCHITECTURE.md` shows how the house is built.

mod address;
mod builder;
mod call;
mod check;
mod config;
mod cookies;
mod down;
pub mod embed;
mod engine;
mod error;
mod gen_server;
mod info;
mod lock;
mod mailbox;
pub mod metrics;
mod monitor;
mod node;
mod process;
mod registry;
mod resolver;
mod seldom;
mod session;
mod watch;

pub use address::Address;
pub use builder::Builder;
pub use call::{Caller, MultiCall, Response};
pub use check::{AddressCheck, ConnectionCheck, ConnectionKind, PeerCheck};
pub use config::Config;
pub use cookies::{Asking, Cookies};
pub use down::Down;
pub use error::{CallError, ConnectError, RegisterError, SendError, StartError};
pub use gen_server::{Answer, Context, GenServer, ServerAddress, ServerRef};
pub use info::{NodeInfo, PeerInfo, Tick};
pub use mailbox::{Mailbox, Message};
pub use monitor::{NodeEvent, NodeMonitor};
pub use node::{Node, Sever, ShutdownReport};
pub use process::{Acknowledgement, Process, SendOptions};
pub use resolver::{Resolver, Resolving, StaticPeers};

pub use teleport_etf as etf;
pub use teleport_etf::{Atom, Binary, DecodeError, EncodeError, Pid, RawTerm, Reference, Segments, Term};
pub use teleport_proto::handshake::{HandshakeError, UnusableCookie};
pub use teleport_proto::membership::{Backoff, EndReason};
pub use teleport_proto::transfer::{MESSAGE_COST, TransferStats};
pub use teleport_proto::{Incarnation, InvalidNodeName, NodeName};

/// Keeps the example in the README true.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
