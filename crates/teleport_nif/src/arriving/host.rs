//! What comes from peers, to processes.
//!
//! What can be delivered at once is, on the thread that it has come by. What needs a process first, a builder or a relay,
//! is left to it, goes on when that has done its part, and nobody waits meanwhile: see [`lines`](crate::work::lines) for what has to
//! come behind.

use crate::arriving::builders::{self, Built, Tried, Work};
use crate::arriving::calls::{Asked, CALLS};
use crate::arriving::relays;
use crate::arriving::watches::{Begun, WATCHES};
use crate::ids;
use crate::node::errors::send_error;
use crate::node::running::Running;
use crate::terms::Read;
use crate::work::lines::Key;
use crate::work::workers::{Large, Short, Unwatched};
use crate::{atoms, terms};
use bytes::Bytes;
use rustler::env::SavedTerm;
use rustler::types::tuple::get_tuple;
use rustler::{Encoder, Env, OwnedEnv, Term};
use std::cell::RefCell;
use std::sync::{Arc, Weak};
use teleport::SendError;
use teleport::embed::{Arriving, Destination, End, Host, Inbound, Origin, ProcessId, Receipt, RefId, Watch};

/// The virtual machine as a host.
pub(crate) struct Machine {
    /// Which has the node, and so this.
    running: Weak<Running>,
}

/// A term on its way to a process.
pub(crate) struct Parcel {
    pub(crate) body: Bytes,
    to: Addressee,
    origin: Origin,
    receipt: Receipt,
    /// The line that it is the first of.
    line: Option<Key>,
}

impl Parcel {
    /// The session that it came over.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// What a term is, and whose.
enum Addressee {
    Message(ProcessId),
    /// With the number of its watch.
    Request(ProcessId, u64),
    /// Of a call or a monitor of this node's.
    Reply(RefId),
    Down(RefId),
    Rejected(RefId),
}

/// What waits until a relay monitors a process; and the node that it has come to, which may drain by then.
pub(crate) enum Parked {
    /// A request.
    Parcel(Weak<Running>, Box<Parcel>),
    /// What is behind a monitor.
    Line(Weak<Running>, Key, Receipt),
}

thread_local! {
    /// Where terms are built before they are sent.
    static BUILDING: RefCell<OwnedEnv> = RefCell::default();
}

/// So much of a line is delivered at a time: others wait for their turn.
const DELIVERED_AT_ONCE: usize = 16;

/// What a caller is told whose request cannot be read.
const UNREADABLE: &str = "the request cannot be read: it is no term, has more new atoms than its node takes \
                          (max_new_atoms), or takes more memory than one message may there (max_term)";

/// What is wrong with a reply that is not told to its caller.
const UNREADABLE_REPLY: &str = "it is no term, has more new atoms than this node takes (max_new_atoms), or takes more memory \
                                than one message may (max_term)";

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

    fn defers(&self, origin: &Origin, arriving: &Arriving<'_>) -> bool {
        let Some(running) = self.running.upgrade() else { return false };
        let needs_builder = builders::may_need_scheduler;
        match *arriving {
            Arriving::Message(to, body) => running.lines.announce(Key::new(origin, to), needs_builder(body)),
            // A process may end at what it is sent next, and then its reason is known only to who monitors it by then.
            Arriving::Request(to, body) => {
                let opens = !WATCHES.is_monitored(to) || needs_builder(body);
                running.lines.announce(Key::new(origin, to), opens)
            }
            Arriving::Monitor(to) => running.lines.announce(Key::new(origin, to), !WATCHES.is_monitored(to)),
            Arriving::Ended(reference, body) => {
                let caller = || Some(Key::new(origin, CALLS.process(reference)?));
                running.lines.announce_end(reference, caller, needs_builder(body))
            }
        }
    }

    fn take(&self, inbound: Inbound) {
        let Some(running) = self.running.upgrade() else { return };
        let receipt = match &inbound {
            Inbound::Message { receipt, .. }
            | Inbound::Request { receipt, .. }
            | Inbound::Monitor { receipt, .. }
            | Inbound::Ended { receipt, .. } => Some(receipt),
            Inbound::Unwatched { .. } => None,
        };
        if receipt.is_some_and(Receipt::is_large) {
            return running.workers.deliver(Large::Inbound(inbound));
        }
        let line = match &inbound {
            _ if !receipt.is_some_and(Receipt::is_deferred) => None,
            Inbound::Message { to, origin, .. } | Inbound::Request { to, origin, .. } => {
                Some(Key::new(origin, *to))
            }
            Inbound::Monitor { watch, .. } => Some(Key::new(&watch.origin(), watch.watched())),
            Inbound::Ended { reference, .. } => running.lines.announced_end(*reference),
            Inbound::Unwatched { .. } => None,
        };
        match line {
            None => drop(deliver(&running, inbound, None)),
            Some(line) => {
                if running.lines.enter(line, inbound) {
                    advance(&running, line);
                }
            }
        }
    }
}

/// Whether something has been delivered, or a process has to do something first, and it is gone on with then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    Yes,
    Later,
}

/// Delivers what is in a line, as far as it can be; some of it, if there is much.
pub(crate) fn advance(running: &Arc<Running>, line: Key) {
    for _ in 0..DELIVERED_AT_ONCE {
        let Some(inbound) = running.lines.next(line) else { return };
        if deliver(running, inbound, Some(line)) == Delivered::Later {
            return;
        }
    }
    running.workers.short(Short::Advance(line));
}

/// Delivers what is large.
pub(crate) fn deliver_large(running: &Arc<Running>, job: Large) {
    let _ = match job {
        Large::Inbound(inbound) => deliver(running, inbound, None),
        Large::Parcel(parcel) => read(running, parcel),
    };
}

/// What may go on does, each on the threads of its node. Nothing of one that is over.
pub(crate) fn go_on(parked: Vec<Parked>) {
    for parked in parked {
        let (Parked::Parcel(running, _) | Parked::Line(running, ..)) = &parked;
        if let Some(running) = running.upgrade() {
            running.workers.short(Short::Resume(parked));
        }
    }
}

/// Goes on with what was parked.
pub(crate) fn resume(running: &Arc<Running>, parked: Parked) {
    match parked {
        Parked::Parcel(_, parcel) if parcel.receipt.is_large() => {
            running.workers.deliver(Large::Parcel(parcel))
        }
        Parked::Parcel(_, parcel) => {
            let line = parcel.line;
            if read(running, parcel) == Delivered::Yes {
                line.into_iter().for_each(|line| advance(running, line));
            }
        }
        Parked::Line(_, line, receipt) => {
            drop(receipt);
            advance(running, line);
        }
    }
}

/// Goes on with a term that a builder has built, or has not.
pub(crate) fn built(running: &Arc<Running>, parcel: Box<Parcel>, tried: Tried, built: Option<Built>) {
    let line = parcel.line;
    match built {
        Some((mut env, term)) => complete(running, &mut env, *parcel, Some(term)),
        None => {
            let peer = parcel.origin.peer();
            let again = with_env(|env| {
                let read =
                    env.run(|inner| match running.terms.read_again(inner, &parcel.body, tried.atoms, peer) {
                        Read::Needs(atoms) => Some(atoms),
                        _ => None,
                    });
                env.clear();
                read
            });
            if let Some(atoms) = again {
                return builders::submit(running, Work::new(running, parcel, Tried { atoms, ..tried }));
            }
            with_env(|env| complete(running, env, *parcel, None));
        }
    }
    line.into_iter().for_each(|line| advance(running, line));
}

/// Not on a scheduler; so everything here.
fn deliver(running: &Arc<Running>, inbound: Inbound, line: Option<Key>) -> Delivered {
    let parcel = |body, to, origin, receipt| Box::new(Parcel { body, to, origin, receipt, line });
    match inbound {
        Inbound::Message { to, body, origin, receipt } => {
            read(running, parcel(body, Addressee::Message(to), origin, receipt))
        }
        Inbound::Request { to, body, watch, origin, receipt } => {
            let number = watch.id();
            let parcel = parcel(body, Addressee::Request(to, number), origin, receipt);
            match begin_watch(running, watch) {
                None => Delivered::Yes,
                Some(Begun::Monitored) => read(running, parcel),
                // Its relay has ended since it was asked whether this has to line up: what comes behind it would pass.
                Some(_) if line.is_none() && !parcel.receipt.is_large() => {
                    drop(WATCHES.take(number)); // the caller is told that nobody answers
                    Delivered::Yes
                }
                Some(_) => match WATCHES.park(to, Parked::Parcel(Arc::downgrade(running), parcel)) {
                    Err(Parked::Parcel(_, parcel)) => read(running, parcel),
                    _ => Delivered::Later,
                },
            }
        }
        Inbound::Monitor { watch, receipt } => {
            let process = watch.watched();
            match (begin_watch(running, watch), line) {
                (Some(Begun::First | Begun::Asked), Some(line)) => {
                    match WATCHES.park(process, Parked::Line(Arc::downgrade(running), line, receipt)) {
                        Ok(()) => Delivered::Later,
                        Err(_) => Delivered::Yes,
                    }
                }
                _ => Delivered::Yes,
            }
        }
        Inbound::Unwatched { watch, .. } => {
            drop(WATCHES.take(watch));
            Delivered::Yes
        }
        Inbound::Ended { reference, end, origin, receipt } => {
            let to = match &end {
                End::Reply(_) => Addressee::Reply(reference),
                End::Down(_) => Addressee::Down(reference),
                End::Rejected(_) | End::NodeDown(_) => Addressee::Rejected(reference),
            };
            match (end, origin) {
                (End::Reply(body) | End::Down(body) | End::Rejected(body), Some(origin)) => {
                    read(running, parcel(body, to, origin, receipt))
                }
                _ => {
                    with_env(|env| no_connection(running, env, reference));
                    Delivered::Yes
                }
            }
        }
    }
}

/// A watch begins. `None` if there is no relay for it: then its watcher has been told that nobody answers.
fn begin_watch(running: &Running, watch: Watch) -> Option<Begun> {
    let (process, number, is_awaited) = (watch.watched(), watch.id(), watch.awaited());
    let begun = WATCHES.add(watch);
    if begun == Begun::First {
        let pid = with_env(|env| env.run(|env| running.identity.pid(env, process)));
        if !pid.is_some_and(|pid| relays::start(process, (atoms::watch(), pid))) {
            running.workers.short(Short::Unwatched(Unwatched::Process(process)));
            return None;
        }
    }
    if !is_awaited() {
        drop(WATCHES.take(number)); // it was taken back before it was here
    }
    Some(begun)
}

/// Makes the term, unless a builder has to.
fn read(running: &Arc<Running>, parcel: Box<Parcel>) -> Delivered {
    with_env(|env| {
        let read = env.run(|inner| match running.terms.read(inner, &parcel.body, parcel.origin.peer()) {
            Read::Term(term) => Ok(Some(env.save(term))),
            Read::Nothing => Ok(None),
            Read::Needs(atoms) => Err(atoms),
        });
        match read {
            Ok(term) => {
                complete(running, env, *parcel, term);
                Delivered::Yes
            }
            // What is small and may need a builder has lined up. This only looks as if it did: our reader cannot read it.
            Err(_) if parcel.line.is_none() && !parcel.receipt.is_large() => {
                running.terms.count_unreadable();
                complete(running, env, *parcel, None);
                Delivered::Yes
            }
            Err(atoms) => {
                env.clear();
                builders::submit(running, Work::new(running, parcel, Tried { atoms, tries: 0 }));
                Delivered::Later
            }
        }
    })
}

/// Delivers the term, or that there is none.
fn complete(running: &Running, env: &mut OwnedEnv, parcel: Parcel, term: Option<SavedTerm>) {
    let Parcel { to, origin, receipt, .. } = parcel;
    match to {
        Addressee::Message(process) => {
            let pid = env.run(|env| running.identity.pid(env, process));
            if let (Some(pid), Some(term)) = (pid, term) {
                // It may have ended.
                origin.while_up(|| env.send_and_clear(&pid, |env| term.load(env)).is_ok());
            }
        }
        Addressee::Request(process, number) => {
            let request = env.run(|inner| {
                let (pid, alias) = (running.identity.pid(inner, process)?, WATCHES.alias(process)?);
                Some((
                    pid,
                    env.save(readdress(
                        inner,
                        term?.load(inner),
                        alias.term(inner, &running.identity)?,
                        number,
                    )?),
                ))
            });
            match request {
                // If it has ended, its relay notices.
                Some((pid, request)) => {
                    origin.while_up(|| env.send_and_clear(&pid, |env| request.load(env)).is_ok());
                }
                // Or its process has ended, and its reason is about to be told.
                None => {
                    if WATCHES.alias(process).is_some()
                        && let Some(watch) = WATCHES.take(number)
                    {
                        watch.reject(UNREADABLE);
                    }
                }
            }
        }
        Addressee::Reply(reference) => {
            let tell = |env: &mut OwnedEnv| reply(running, env, reference, term);
            if let Some(told) = origin.while_up(|| tell(env)) {
                count_if_late(running, told);
            } else {
                no_connection(running, env, reference);
            }
        }
        Addressee::Down(reference) => {
            let told = origin.while_up(|| {
                end(running, env, reference, |env| {
                    term.map_or_else(|| atoms::undefined().encode(env), |term| term.load(env))
                })
            });
            told.unwrap_or_else(|| no_connection(running, env, reference));
        }
        Addressee::Rejected(reference) => {
            let told = origin.while_up(|| {
                end(running, env, reference, |env| match term {
                    Some(why) => (atoms::rejected(), why.load(env)).encode(env),
                    None => atoms::rejected().encode(env),
                })
            });
            told.unwrap_or_else(|| no_connection(running, env, reference));
        }
    }
    env.clear();
    drop(receipt);
}

/// The environment of this thread, or a fresh one within its use.
fn with_env<R>(use_it: impl FnOnce(&mut OwnedEnv) -> R) -> R {
    BUILDING.with(|building| match building.try_borrow_mut() {
        Ok(mut env) => use_it(&mut env),
        Err(_) => use_it(&mut OwnedEnv::new()),
    })
}

/// `{'$gen_call', {Pid, Tag}, Request}` as `{'$gen_call', {Pid, [[alias|RelayAlias], Number | Tag]}, Request}`: what `gen:reply/2`
/// answers goes to the relay, and whoever answers by hand, `Pid ! {ThatTag, Reply}`, sends the caller its own tag back.
fn readdress<'a>(env: Env<'a>, request: Term<'a>, alias: Term<'a>, number: u64) -> Option<Term<'a>> {
    let Ok([kind, from, request]) = <[Term<'a>; 3]>::try_from(get_tuple(request).ok()?) else { return None };
    let Ok([caller, tag]) = <[Term<'a>; 2]>::try_from(get_tuple(from).ok()?) else { return None };
    let tag = tag.list_prepend(number).list_prepend(alias.list_prepend(atoms::alias()));
    Some((kind, (caller, tag), request).encode(env))
}

/// A call of a process of this node has been answered. `false` if it does not wait any more.
fn reply(running: &Running, env: &mut OwnedEnv, reference: RefId, term: Option<SavedTerm>) -> bool {
    CALLS.tell(env, reference, |env, asked| {
        let Some(reply) = term else {
            // There is an answer, though not one that can be read.
            let reason = (atoms::unreadable_reply(), UNREADABLE_REPLY).encode(env);
            return down(running, env, reference, asked, reason);
        };
        let tag = running.identity.reference(env, reference)?.list_prepend(atoms::alias());
        let tag = asked.mark.as_ref().map_or(tag, |mark| mark.term(env).list_prepend(tag));
        Some((tag, reply.load(env)).encode(env))
    })
}

fn count_if_late(running: &Running, told: bool) {
    if !told && let Some(node) = running.node() {
        node.count_late();
    }
}

/// A call or a monitor of a process of this node has ended, for a reason.
fn end(
    running: &Running,
    env: &mut OwnedEnv,
    reference: RefId,
    reason: impl for<'a> FnOnce(Env<'a>) -> Term<'a>,
) {
    CALLS.tell(env, reference, |env, asked| down(running, env, reference, asked, reason(env)));
}

/// It has ended with its session.
fn no_connection(running: &Running, env: &mut OwnedEnv, reference: RefId) {
    end(running, env, reference, |env| atoms::noconnection().encode(env));
    env.clear();
}

/// A call or a monitor that had to wait: if nothing came of it, that is its end.
pub(crate) fn not_begun(running: &Running, reference: RefId, result: &Result<(), SendError>) {
    let Err(error) = result else { return };
    end(running, &mut OwnedEnv::new(), reference, |env| match error {
        SendError::NoConnection(_) | SendError::NodeDown { .. } => atoms::noconnection().encode(env),
        error => send_error(env, error),
    });
}

/// The node is over: what still waits on it has no connection. Not on a scheduler.
pub(crate) fn over(running: &Arc<Running>) {
    CALLS.end_all(running, |env, reference, asked| {
        down(running, env, reference, asked, atoms::noconnection().encode(env))
    });
}

/// `{'DOWN', Ref, process, Object, Reason}`, or with the mark in place of the atom.
fn down<'a>(
    running: &Running,
    env: Env<'a>,
    reference: RefId,
    asked: &Asked<'_>,
    reason: Term<'a>,
) -> Option<Term<'a>> {
    let reference = running.identity.reference(env, reference)?;
    let object = running.identity.object(env, &asked.recipient()?)?;
    let mark = asked.mark.as_ref().map_or_else(|| atoms::down().encode(env), |mark| mark.term(env));
    Some((mark, reference, atoms::process(), object, reason).encode(env))
}
