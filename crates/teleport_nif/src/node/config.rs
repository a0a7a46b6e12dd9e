//! The configuration, from a map.
//!
//! The Erlang module `teleport_config` checks what users set, and docs/erlang.md explains it. Here nothing is taken for another
//! value than it is.

use crate::node::address::{self, number};
use crate::node::errors::bad_value;
use crate::node::{allow, tls};
use rustler::{Binary, Encoder, Env, Error, LocalPid, MapIterator, NifResult, Term};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::time::Duration;
use teleport::{AllowList, Config, TlsConfig};

/// Atoms that peers may add to the table together, unless it is said otherwise: a sixteenth of what it holds.
const MAX_NEW_ATOMS: u64 = 65_536;

/// Atoms that each peer may add: twice as many as there are in a virtual machine that has just started, since the peer may run other
/// applications; and four peers can run wild until the others are refused too.
const MAX_NEW_ATOMS_PER_PEER: u64 = 16_384;

/// Bytes of heap that one message may take in a process, large binaries not counted, unless it is said otherwise: more than any
/// message that is meant, and little enough to be built by some threads at once.
const MAX_TERM: usize = 256 << 20;

/// The least: what messages of 64 KiB and less can take, which are not all counted.
const LEAST_MAX_TERM: usize = 2 << 20;

/// Calls and monitors that peers may have open together, unless it is said otherwise: each process that is watched has a relay,
/// of some 3 KiB.
const MAX_WATCHES: usize = 1 << 16;

pub(crate) struct Settings {
    pub(crate) node: String,
    pub(crate) creation: u32,
    pub(crate) cookie: Vec<u8>,
    pub(crate) listen: SocketAddr,
    pub(crate) ports: Option<RangeInclusive<u16>>,
    /// Whether any other port will do if none of those is free.
    pub(crate) any_port: bool,
    /// Connections of distributed Erlang are taken over sessions.
    pub(crate) carries: bool,
    /// The process that answers the engine's questions; by default the manager.
    pub(crate) answers: Option<LocalPid>,
    pub(crate) max_new_atoms: u64,
    pub(crate) max_new_atoms_per_peer: u64,
    pub(crate) max_term: usize,
    pub(crate) config: Config,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) allow: Option<AllowList>,
}

/// The key whose value cannot be read.
struct BadValue(String);

impl Encoder for BadValue {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        bad_value(env, &self.0, format!("the engine cannot read what {} is set to", self.0))
    }
}

impl Settings {
    /// Reads the map. An error names the key.
    pub(crate) fn decode(map: Term<'_>) -> NifResult<Self> {
        let mut config = Config::default();
        config.max_watches = MAX_WATCHES;
        let mut settings = Self {
            node: String::new(),
            creation: 0,
            cookie: Vec::new(),
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            ports: None,
            any_port: true,
            carries: false,
            answers: None,
            max_new_atoms: MAX_NEW_ATOMS,
            max_new_atoms_per_peer: MAX_NEW_ATOMS_PER_PEER,
            max_term: MAX_TERM,
            config,
            tls: None,
            allow: None,
        };
        for (key, value) in MapIterator::new(map).ok_or(Error::BadArg)? {
            let key = key.atom_to_string()?;
            settings.set(&key, value).map_err(|_| Error::Term(Box::new(BadValue(key))))?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: Term<'_>) -> NifResult<()> {
        let config = &mut self.config;
        match key {
            "node" => self.node = value.decode::<String>()?,
            "creation" => self.creation = number(value)?,
            "cookie" => self.cookie = value.decode::<Binary<'_>>()?.to_vec(),
            "listen" => self.listen = address::decode(value)?,
            "answers" => self.answers = Some(value.decode()?),
            "tls" => self.tls = Some(tls::decode(value)?),
            "allow" => self.allow = Some(allow::decode(value)?),
            "ports" => {
                let (first, last): (Term<'_>, Term<'_>) = value.decode()?;
                self.ports = Some(number(first)?..=number(last)?);
            }
            "any_port" => self.any_port = value.decode()?,
            "carries" => self.carries = value.decode()?,
            "max_new_atoms" => self.max_new_atoms = number(value)?,
            "max_new_atoms_per_peer" => self.max_new_atoms_per_peer = number(value)?,
            "max_term" => {
                self.max_term = number(value)?;
                if self.max_term < LEAST_MAX_TERM {
                    return Err(Error::BadArg);
                }
            }
            "max_message" => config.max_message = bytes(value)?,
            "peer_window" => config.peer_window = bytes(value)?,
            "max_watches" => config.max_watches = number(value)?,
            "receive_window" => config.receive_window = bytes(value)?,
            "node_window" => config.node_window = bytes(value)?,
            "answers_window" => config.answers_window = bytes(value)?,
            "fragment_size" => config.fragment_size = number(value)?,
            "express_connections" => config.express_connections = number(value)?,
            "bulk_connections" => config.bulk_connections = number(value)?,
            "most_bulk_connections" => config.most_bulk_connections = number(value)?,
            "max_pacing_rate" => config.max_pacing_rate = Some(bytes(value)?),
            "net_ticktime" => config.net_ticktime = Duration::from_secs(number(value)?),
            "setup_timeout" => config.setup_timeout = Duration::from_millis(number(value)?),
            "handshake_timeout" => config.handshake_timeout = Duration::from_millis(number(value)?),
            "bulk_idle" => config.bulk_idle = Duration::from_millis(number(value)?),
            "stall_timeout" => config.stall_timeout = Duration::from_millis(number(value)?),
            "max_handshakes" => config.max_handshakes = number(value)?,
            "max_sessions" => config.max_sessions = number(value)?,
            "buffer_pool" => config.buffer_pool = number(value)?,
            "worker_threads" => config.worker_threads = number(value)?,
            "congestion" => config.congestion = Some(value.decode()?),
            _ => return Err(Error::BadArg),
        }
        Ok(())
    }
}

fn bytes(term: Term<'_>) -> NifResult<NonZeroU64> {
    NonZeroU64::new(number(term)?).ok_or(Error::BadArg)
}
