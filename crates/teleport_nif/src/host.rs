//! What comes from peers, to processes.

use crate::errors::send_error;
use crate::holds::{Held, Request};
use crate::ids;
use crate::relays::{Relay, WatchHandle};
use crate::running::Running;
use crate::{atoms, terms};
use rustler::types::tuple::get_tuple;
use rustler::{Encoder, Env, OwnedEnv, Term};
use std::cell::RefCell;
use std::sync::{Arc, Weak};
use teleport::SendError;
use teleport::embed::{Destination, End, Host, Inbound, Origin, ProcessId, Receipt, Recipient, RefId, Watch};

/// The virtual machine as a host.
pub(crate) struct Machine {
    /// Which has the node, and so this.
    running: Weak<Running>,
}

thread_local! {
    /// Where terms are built before they are sent.
    static BUILDING: RefCell<OwnedEnv> = RefCell::default();
}

impl Machine {
    pub(crate) fn new(running: &Arc<Running>) -> Self {
        Self { running: Arc::downgrade(running) }
    }
}

impl Host for Machine {
    fn find(&self, to: &Destination) -> Option<ProcessId> {
        let running = self.running.upgrade()?;
        with_env(|owned| {
            let found = owned.run(|env| match to {
                Destination::Name(name) => {
                    let process = env.whereis_pid(terms::existing_atom(env, name)?)?;
                    ids::process_of(env, process).ok()
                }
                Destination::Process(process) => {
                    let pid = running.identity.pid(env, *process)?;
                    pid.is_alive(env).then_some(*process)
                }
            });
            owned.clear();
            found
        })
    }

    fn take(&self, inbound: Inbound) {
        let Some(running) = self.running.upgrade() else { return };
        if is_large(&inbound) {
            running.large.deliver(inbound);
        } else {
            deliver(&running, inbound);
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

/// Delivers it, unless it has to be held back. Not on a scheduler.
pub(crate) fn deliver(running: &Running, inbound: Inbound) {
    let (to, reference) = match &inbound {
        Inbound::Message { to, .. } | Inbound::Request { to, .. } => (Some(*to), None),
        Inbound::Monitor(watch) => (Some(watch.watched()), None),
        Inbound::Unwatched { process, .. } => (Some(*process), None),
        Inbound::Ended { reference, .. } => (None, Some(*reference)),
    };
    let process = || to.or_else(|| running.calls.process(reference?));
    if let Some(inbound) = running.holds.pass(process, inbound) {
        with_env(|env| deliver_now(running, env, inbound, false));
    }
}

/// Delivers what was held back for a process. Not on a scheduler.
pub(crate) fn release(running: &Running, process: ProcessId) {
    if !running.holds.release(process) {
        return;
    }
    with_env(|env| {
        while let Some(held) = running.holds.next(process) {
            match held {
                Held::Inbound(inbound) => deliver_now(running, env, inbound, true),
                Held::Request(request) => send_request(running, env, request),
            }
        }
    });
}

fn deliver_now(running: &Running, env: &mut OwnedEnv, inbound: Inbound, was_held: bool) {
    match inbound {
        Inbound::Message { to, body, origin, receipt } => {
            let message = env.run(|inner| {
                let to = running.identity.pid(inner, to)?;
                Some((to, env.save(running.decode(inner, &body, Some(origin))?)))
            });
            if let Some((to, message)) = message {
                let _ = env.send_and_clear(&to, |env| message.load(env)); // it may have ended
            } else {
                env.clear();
            }
            drop(receipt);
        }
        Inbound::Request { to, body, watch, origin, receipt } => {
            let number = watch.id();
            begin_watch(running, env, watch, Some(Request { to, body, origin, number, receipt }), was_held);
        }
        Inbound::Monitor(watch) => begin_watch(running, env, watch, None, was_held),
        Inbound::Unwatched { process, watch } => {
            if let Some(relay) = running.relays.of(process) {
                relay.tell(env, (atoms::unwatch(), watch));
            }
        }
        Inbound::Ended { reference, end, origin, receipt } => {
            ended(running, env, reference, end, origin, receipt);
        }
    }
}

/// The environment of this thread, or a fresh one within its use.
fn with_env<R>(use_it: impl FnOnce(&mut OwnedEnv) -> R) -> R {
    BUILDING.with(|building| match building.try_borrow_mut() {
        Ok(mut env) => use_it(&mut env),
        Err(_) => use_it(&mut OwnedEnv::new()),
    })
}

/// Hands a watch to its relay, and then the request to its process, when the relay monitors that.
fn begin_watch(
    running: &Running,
    env: &mut OwnedEnv,
    watch: Watch,
    request: Option<Request>,
    was_held: bool,
) {
    let (process, number) = (watch.watched(), watch.id());
    // Dropping the watch tells the watcher that nobody answers.
    let Some(relay) = running.relays.of(process) else { return };
    let Some(pid) = env.run(|env| running.identity.pid(env, process)) else { return };
    let (held, request) = match running.holds.begin(process, request, was_held) {
        Ok(()) => (true, None),
        Err(request) => (false, request),
    };
    let told = relay.tell(env, (atoms::watch(), number, WatchHandle::new(watch), pid, held));
    if !told && held {
        running.holds.end(process);
        running.large.release(process);
    }
    if let Some(request) = request.filter(|_| told) {
        send_request(running, env, request);
    }
}

/// The process gets the request, from its caller, and the relay will get its reply.
fn send_request(running: &Running, env: &mut OwnedEnv, request: Request) {
    let Request { to, body, origin, number, receipt } = request;
    let Some(relay) = running.relays.of(to) else { return };
    let sent = env.run(|env| {
        let request = readdress(env, running.decode(env, &body, Some(origin))?, &relay, number)?;
        // If the process has ended, the relay notices.
        Some(env.send(&running.identity.pid(env, to)?, request))
    });
    env.clear();
    if sent.is_none() {
        // It cannot be read, so it is not going to be answered.
        relay.tell(env, (atoms::reject(), number));
    }
    drop(receipt);
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

/// A call or a monitor of a process of this node has ended.
fn ended(
    running: &Running,
    env: &mut OwnedEnv,
    reference: RefId,
    end: End,
    origin: Option<Origin>,
    receipt: Receipt,
) {
    let told = running.calls.tell(env, reference, |env, recipient| {
        let reason = match &end {
            End::Reply(reply) => match running.decode(env, reply, origin) {
                Some(reply) => {
                    let reference = running.identity.reference(env, reference)?;
                    return Some((reference.list_prepend(atoms::alias()), reply).encode(env));
                }
                // There is an answer, though not one that can be read.
                None => atoms::unreadable_reply().encode(env),
            },
            End::Down(reason) => match running.decode(env, reason, origin) {
                Some(reason) => reason,
                None => atoms::undefined().encode(env),
            },
            End::Rejected(why) => match running.decode(env, why, origin) {
                Some(why) => (atoms::rejected(), why).encode(env),
                None => atoms::rejected().encode(env),
            },
            End::NodeDown(_) => atoms::noconnection().encode(env),
        };
        down(running, env, reference, &recipient()?, reason)
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
    running.calls.tell(&mut OwnedEnv::new(), reference, |env, recipient| {
        let reason = match error {
            SendError::NoConnection(_) | SendError::NodeDown { .. } => atoms::noconnection().encode(env),
            error => send_error(env, error),
        };
        down(running, env, reference, &recipient()?, reason)
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
