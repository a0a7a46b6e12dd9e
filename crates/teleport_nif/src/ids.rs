//! Pids, names and references of Erlang, and what the protocol calls them.

use crate::terms::naming::{self, Inside};
use crate::{atoms, terms};
use rustc_hash::FxHashMap;
use rustler::sys::ErlNifTerm;
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, LocalPid, NifResult, Term};
use std::cell::RefCell;
use std::hash::Hash;
use std::sync::Arc;
use teleport::NodeName;
use teleport::embed::{Destination, ProcessId, Recipient, RefId};
use teleport::etf::{self, Pid, Reference, to_segments};

/// Entries of a cache before it is begun anew.
const MOST_CACHED: usize = 4096;

/// What a thread has looked up. Atoms and local pids are the same for as long as the virtual machine runs.
struct Cache<K, V>(RefCell<FxHashMap<K, V>>);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(RefCell::default())
    }

    fn find<E>(&self, key: K, look_up: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(found) = self.0.borrow().get(&key) {
            return Ok(found.clone());
        }
        let value = look_up()?;
        let mut cache = self.0.borrow_mut();
        if cache.len() >= MOST_CACHED {
            cache.clear();
        }
        cache.insert(key, value.clone());
        Ok(value)
    }
}

thread_local! {
    static PROCESSES: Cache<ErlNifTerm, ProcessId> = Cache::new();
    static PIDS: Cache<ProcessId, LocalPid> = Cache::new();
    static NAMES: Cache<ErlNifTerm, Arc<str>> = Cache::new();
    static NODES: Cache<ErlNifTerm, NodeName> = Cache::new();
}

/// The node that identifiers without a node's name belong to, as it was when the engine was started. Distributed Erlang can
/// give the virtual machine another name while that still runs.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) node: etf::Atom,
    pub(crate) creation: u32,
    /// Some process of the virtual machine, whether it lives or not.
    pub(crate) any: LocalPid,
}

/// Why there is no pid.
pub(crate) enum NoPid {
    /// No process of this virtual machine can be called that.
    Invalid,
    /// It cannot be made before the virtual machine's name has changed.
    NameChanges,
}

/// How often a pid or a reference is made anew since the virtual machine has been renamed meanwhile.
const MOST_NAMES: usize = 8;

impl Identity {
    /// The pid of a process of this virtual machine, whatever that is called by now, and whether it lives or not.
    pub(crate) fn pid(&self, env: Env<'_>, process: ProcessId) -> Option<LocalPid> {
        self.find_pid(env, process, || Some(naming::enter())).ok()
    }

    /// The same for who is under a lock of the engine's, and must not wait for the virtual machine's name.
    pub(crate) fn try_pid(&self, env: Env<'_>, process: ProcessId) -> Result<LocalPid, NoPid> {
        self.find_pid(env, process, naming::try_enter)
    }

    fn find_pid(
        &self,
        env: Env<'_>,
        process: ProcessId,
        enter: impl FnOnce() -> Option<Inside>,
    ) -> Result<LocalPid, NoPid> {
        let own = |pid: Pid| term_of(env, &pid)?.decode().ok();
        let make = || {
            let _inside = enter().ok_or(NoPid::NameChanges)?;
            let made = own(self.as_pid(process)).or_else(|| {
                self.present_names(env, |node, creation| {
                    own(Pid { node, id: process.id, serial: process.serial, creation })
                })
            });
            made.ok_or(NoPid::Invalid)
        };
        PIDS.with(|pids| pids.find(process, make))
    }

    /// A pid of this node, as a value.
    pub(crate) fn as_pid(&self, ProcessId { id, serial }: ProcessId) -> Pid {
        Pid { node: self.node.clone(), id, serial, creation: self.creation }
    }

    /// A reference that was made in this virtual machine, whatever that is called by now.
    pub(crate) fn reference<'a>(&self, env: Env<'a>, reference: RefId) -> Option<Term<'a>> {
        let _inside = naming::enter();
        if let Some(own) = own_reference(env, reference, &self.node, self.creation) {
            return Some(own);
        }
        self.present_names(env, |node, creation| own_reference(env, reference, &node, creation))
    }

    /// Makes something of the name and the creation that the virtual machine has now; again if they change meanwhile.
    fn present_names<R>(&self, env: Env<'_>, make: impl Fn(etf::Atom, u32) -> Option<R>) -> Option<R> {
        let (mut tried, mut tried_creation) = (self.node.clone(), self.creation);
        for _ in 0..MOST_NAMES {
            let Pid { node, creation, .. } = parse(self.any.encode(env)).ok()?;
            if (&node, creation) == (&tried, tried_creation) {
                return None;
            }
            if let Some(made) = make(node.clone(), creation) {
                return Some(made);
            }
            (tried, tried_creation) = (node, creation);
        }
        None
    }

    /// What a DOWN message calls a process.
    pub(crate) fn object<'a>(&self, env: Env<'a>, recipient: &Recipient) -> Option<Term<'a>> {
        let node = etf::Atom::new(recipient.peer.as_str()).ok()?;
        match &recipient.to {
            Destination::Name(name) => term_of(env, &(etf::Atom::new(name).ok()?, node)),
            Destination::Process(ProcessId { id, serial }) => {
                let creation = recipient.incarnation.unwrap_or_default();
                term_of(env, &Pid { node, id: *id, serial: *serial, creation })
            }
        }
    }
}

/// A reference of the node, if the virtual machine is that node. It would be another one's otherwise, which nobody waits for.
fn own_reference<'a>(env: Env<'a>, reference: RefId, node: &etf::Atom, creation: u32) -> Option<Term<'a>> {
    // A name is not taken twice. So the reference, which is read first, is the virtual machine's own if the pid is.
    let pid = Pid { node: node.clone(), id: 0, serial: 0, creation };
    let reference = Reference::new(node.clone(), creation, reference.words())?;
    let (reference, pid) = term_of(env, &(reference, pid))?.decode::<(Term<'a>, Term<'a>)>().ok()?;
    pid.decode::<LocalPid>().is_ok().then_some(reference)
}

/// A term of which every atom exists.
fn term_of<'a>(env: Env<'a>, value: &impl serde::Serialize) -> Option<Term<'a>> {
    terms::existing(env, &to_segments(value).ok()?.into_contiguous())
}

/// What the protocol calls a process of this node.
pub(crate) fn process_of(env: Env<'_>, pid: LocalPid) -> NifResult<ProcessId> {
    find_process(env, pid, || Some(naming::enter()))
}

/// The same for who is under a lock of the engine's, as [`Identity::try_pid`].
pub(crate) fn try_process_of(env: Env<'_>, pid: LocalPid) -> Option<ProcessId> {
    find_process(env, pid, naming::try_enter).ok()
}

fn find_process(env: Env<'_>, pid: LocalPid, enter: impl FnOnce() -> Option<Inside>) -> NifResult<ProcessId> {
    let term = pid.encode(env);
    PROCESSES.with(|processes| {
        processes.find(term.as_c_arg(), || {
            let _inside = enter().ok_or(Error::BadArg)?;
            let Pid { id, serial, .. } = parse(term)?;
            Ok(ProcessId { id, serial })
        })
    })
}

/// A pid of another node, or `{Name, Node}`.
pub(crate) fn recipient(term: Term<'_>) -> NifResult<Recipient> {
    if let Ok((name, node)) = term.decode::<(Atom, Atom)>() {
        let name = atom_text(term.get_env(), name)?;
        let (peer, to) = (node_name(term.get_env(), node)?, Destination::Name(name));
        return Ok(Recipient { peer, incarnation: None, to });
    }
    if !term.is_pid() {
        return Err(Error::BadArg);
    }
    let Pid { node, id, serial, creation } = parse(term)?;
    let peer = NodeName::new(node.as_str()).map_err(|_| Error::BadArg)?;
    Ok(Recipient { peer, incarnation: Some(creation), to: Destination::Process(ProcessId { id, serial }) })
}

/// The name of a node. What can be none is a node that is not there, as it is for OTP.
pub(crate) fn node_name(env: Env<'_>, node: Atom) -> NifResult<NodeName> {
    NODES.with(|nodes| {
        nodes.find(node.as_c_arg(), || {
            let name = text(env, node)?;
            NodeName::new(&name).map_err(|_| Error::Term(Box::new((atoms::not_running(), name.to_string()))))
        })
    })
}

/// What the protocol calls a reference.
pub(crate) fn ref_id(term: Term<'_>) -> NifResult<RefId> {
    if !term.is_ref() {
        return Err(Error::BadArg);
    }
    let reference: Reference = parse(term)?;
    RefId::new(reference.words()).ok_or(Error::BadArg)
}

/// An atom's text.
pub(crate) fn atom_text(env: Env<'_>, atom: Atom) -> NifResult<Arc<str>> {
    NAMES.with(|names| names.find(atom.as_c_arg(), || text(env, atom).map(Into::into)))
}

/// An atom's text, asked of the virtual machine; also beyond Latin-1.
fn text(env: Env<'_>, atom: Atom) -> NifResult<String> {
    let atom: etf::Atom = parse(atom.to_term(env))?;
    Ok(atom.as_str().to_owned())
}

/// A small term by way of its encoding, which is the same in all releases; what terms look like inside is not.
fn parse<T: serde::de::DeserializeOwned>(term: Term<'_>) -> NifResult<T> {
    let encoded = bytes::Bytes::copy_from_slice(&term.to_binary());
    etf::from_bytes(&encoded).map_err(|_| Error::BadArg)
}
