//! What comes from peers, to processes.

use crate::errors::send_error;
use crate::ids;
use crate::large::Large;
use crate::relays::{Relay, WatchHandle};
use crate::running::Running;
use crate::{atoms, terms};
use rustler::types::tuple::get_tuple;
use rustler::{Encoder, Env, OwnedEnv, Term};
use std::cell::RefCell;
use std::sync::Arc;
use teleport::SendError;
use teleport::embed::{Destination, End, Host, Inbound, ProcessId, Receipt, Recipient, RefId, Watch};

/// The virtual machine as a host.
pub(crate) struct Machine {
    running: Arc<Running>,
    large: Large,
}

thread_local! {
    /// Where terms are built before they are sent.
    static BUILDING: RefCell<OwnedEnv> = RefCell::default();
}

impl Machine {
    pub(crate) fn new(running: Arc<Running>) -> std::io::Result<Self> {
        Ok(Self { large: Large::start(running.clone())?, running })
    }
}

impl Host for Machine {
    fn find(&self, to: &Destination) -> Option<ProcessId> {
        with_env(|owned| {
            let found = owned.run(|env| match to {
                Destination::Name(name) => {
                    let process = env.whereis_pid(terms::existing_atom(env, name)?)?;
                    ids::process_of(env, process).ok()
                }
                Destination::Process(process) => {
                    let pid = self.running.identity.pid(env, *process)?;
                    pid.is_alive(env).then_some(*process)
                }
            });
            owned.clear();
            found
        })
    }

    fn take(&self, inbound: Inbound) {
        if is_large(&inbound) {
            self.large.take(inbound);
        } else {
            deliver(&self.running, inbound);
        }
    }
}

/// Whether it may take long to build.
fn is_large(inbound: &Inbound) -> bool {
    match inbound {
        Inbound::Message { receipt, .. }
        | Inbound::Request { receipt, .. }
        | Inbound::Ended { receipt, .. } => receipt.is_awaited(),
        Inbound::Monitor(_) | Inbound::Unwatched { .. } => false,
    }
}

/// Delivers it. Not on a scheduler.
pub(crate) fn deliver(running: &Running, inbound: Inbound) {
    with_env(|env| match inbound {
        Inbound::Message { to, body, receipt } => {
            env.run(|env| {
                let Some(to) = running.identity.pid(env, to) else { return };
                if let Some(message) = running.atoms.decode(env, &body) {
                    let _ = env.send(&to, message); // it may have ended
                }
            });
            env.clear();
            drop(receipt);
        }
        Inbound::Request { to, body, watch, receipt } => {
            request(running, env, (to, &body), watch);
            drop(receipt);
        }
        Inbound::Monitor(watch) => {
            if let Some(relay) = running.relays.of(watch.watched()) {
                begin_watch(running, env, &relay, watch);
            }
        }
        Inbound::Unwatched { process, watch } => {
            if let Some(relay) = running.relays.of(process) {
                relay.tell(env, (atoms::unwatch(), watch));
            }
        }
        Inbound::Ended { reference, end, receipt } => ended(running, env, reference, end, receipt),
    });
}

/// The environment of this thread, or a fresh one within its use.
fn with_env<R>(use_it: impl FnOnce(&mut OwnedEnv) -> R) -> R {
    BUILDING.with(|building| match building.try_borrow_mut() {
        Ok(mut env) => use_it(&mut env),
        Err(_) => use_it(&mut OwnedEnv::new()),
    })
}

/// The relay watches the process and gets its reply; the process gets the request, from its caller.
fn request(running: &Running, env: &mut OwnedEnv, (to, body): (ProcessId, &[u8]), watch: Watch) {
    let Some(relay) = running.relays.of(to) else { return }; // dropping the watch says that nobody answers
    // In an environment of its own, as telling the relay clears the other.
    let building = OwnedEnv::new();
    building.run(|within| {
        let decoded = running.atoms.decode(within, body);
        let request = decoded.and_then(|request| readdress(within, request, &relay, watch.id()));
        let (Some(request), Some(to)) = (request, running.identity.pid(within, to)) else { return };
        // The relay is told first: then it knows the watch before there can be a reply.
        begin_watch(running, env, &relay, watch);
        let _ = within.send(&to, request); // if it has ended, the relay notices
    });
}

/// `{'$gen_call', {Pid, [alias|Ref]}, Request}` as `{'$gen_call', {Pid, [[alias|RelayAlias]|Number]}, Request}`: the reply then
/// goes to the relay.
fn readdress<'a>(env: Env<'a>, request: Term<'a>, relay: &Relay, number: u64) -> Option<Term<'a>> {
    let Ok([kind, from, request]) = <[Term<'a>; 3]>::try_from(get_tuple(request).ok()?) else { return None };
    let Ok([caller, _tag]) = <[Term<'a>; 2]>::try_from(get_tuple(from).ok()?) else { return None };
    let alias = relay.alias(env)?.list_prepend(atoms::alias());
    let tag = number.encode(env).list_prepend(alias);
    Some((kind, (caller, tag), request).encode(env))
}

/// Hands a watch to a relay.
fn begin_watch(running: &Running, env: &mut OwnedEnv, relay: &Relay, watch: Watch) {
    let number = watch.id();
    let Some(process) = env.run(|env| running.identity.pid(env, watch.watched())) else { return };
    // If the relay has ended, the handle is dropped, and the watcher told.
    relay.tell(env, (atoms::watch(), number, WatchHandle::new(watch), process));
}

/// A call or a monitor of a process of this node has ended.
fn ended(running: &Running, env: &mut OwnedEnv, reference: RefId, end: End, receipt: Receipt) {
    let told = running.calls.tell(env, reference, |env, recipient| {
        let reason = match &end {
            End::Reply(reply) => match running.atoms.decode(env, reply) {
                Some(reply) => {
                    let reference = running.identity.reference(env, reference)?;
                    return Some((reference.list_prepend(atoms::alias()), reply).encode(env));
                }
                // There is an answer, though not one that can be read.
                None => atoms::unreadable_reply().encode(env),
            },
            End::Down(reason) => match running.atoms.decode(env, reason) {
                Some(reason) => reason,
                None => atoms::undefined().encode(env),
            },
            End::NodeDown(_) => atoms::noconnection().encode(env),
        };
        down(running, env, reference, recipient, reason)
    });
    env.clear();
    if !told
        && matches!(end, End::Reply(_))
        && let Some(node) = running.node()
    {
        node.count_late();
    }
    drop(receipt);
}

/// A call or a monitor that had to wait: if nothing came of it, that is its end. Not on a scheduler.
pub(crate) fn not_begun(running: &Running, reference: RefId, result: &Result<(), SendError>) {
    let Err(error) = result else { return };
    running.calls.tell(&OwnedEnv::new(), reference, |env, recipient| {
        let reason = match error {
            SendError::NoConnection(_) | SendError::NodeDown { .. } => atoms::noconnection().encode(env),
            error => send_error(env, error),
        };
        down(running, env, reference, recipient, reason)
    });
}

/// `{'DOWN', Ref, process, Object, Reason}`.
fn down<'a>(
    running: &Running,
    env: Env<'a>,
    reference: RefId,
    recipient: &Recipient,
    reason: Term<'a>,
) -> Option<Term<'a>> {
    let reference = running.identity.reference(env, reference)?;
    let object = running.identity.object(env, recipient)?;
    Some((atoms::down(), reference, atoms::process(), object, reason).encode(env))
}
