//! The way of what has come to its process: a term is read or built, and sent.

use crate::arriving::builders::{self, Attempts, Built, Work};
use crate::arriving::ending::{self, Unwatched};
use crate::arriving::relays;
use crate::arriving::told;
use crate::arriving::watches::{Begun, Parked, WATCHES};
use crate::atoms;
use crate::carrier::CHANNELS;
use crate::node::running::Running;
use crate::terms::in_place::NeedsScheduler;
use crate::terms::{Atoms, SWELLS, naming};
use crate::work::lines::{Key, whose};
use crate::work::turns::Whose;
use bytes::Bytes;
use rustler::env::SavedTerm;
use rustler::types::tuple::get_tuple;
use rustler::{Encoder, Env, OwnedEnv, Term};
use std::cell::RefCell;
use std::sync::Arc;
use teleport::embed::{End, Inbound, Origin, ProcessId, Receipt, RefId, Watch};

/// A term on its way to a process.
struct Parcel {
    body: Bytes,
    to: Addressee,
    origin: Origin,
    receipt: Receipt,
    /// The line that it is the first of.
    line: Option<Key>,
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

thread_local! {
    /// Where terms are built before they are sent.
    static BUILDING: RefCell<OwnedEnv> = RefCell::default();
}

/// The most messages of a line that are delivered at a time: other lines have their turn.
const DELIVERED_AT_ONCE: usize = 16;

/// What a caller is told whose request cannot be read.
const UNREADABLE: &str = "the request cannot be read: it is no term, has more new atoms than its node takes \
                          (max_new_atoms), or takes more memory than one message may there (max_term)";

/// Whether something has been delivered, or a process has to do something first, and it is gone on with then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    Yes,
    Later,
}

/// Delivers what is in a line, as far as it can be; some of it, if there is much.
pub(super) fn advance(running: &Arc<Running>, line: Key) {
    for _ in 0..DELIVERED_AT_ONCE {
        let Some(inbound) = running.lines.next(line) else { return };
        if deliver(running, inbound, Some(line)) == Delivered::Later {
            return;
        }
    }
    running.workers.short(line.whose, move |running| advance(running, line));
}

/// Goes on with a request that waited for its relay.
fn go_on(running: &Arc<Running>, parcel: Box<Parcel>) {
    if parcel.receipt.is_large() {
        let (whose, bytes) = (whose(&parcel.origin), parcel.body.len());
        return running.workers.large(whose, bytes.saturating_mul(SWELLS), |running| {
            read(running, parcel);
        });
    }
    let line = parcel.line;
    if read(running, parcel) == Delivered::Yes
        && let Some(line) = line
    {
        advance(running, line);
    }
}

/// Has a builder build the term.
fn build(running: &Arc<Running>, parcel: Box<Parcel>, attempts: Attempts) {
    let (whose, document) = (whose(&parcel.origin), parcel.body.clone());
    let then = move |running: &Arc<Running>, attempts, term| built(running, parcel, attempts, term);
    builders::submit(Work::new(running, whose, document, attempts, then));
}

/// Goes on with a term that a builder has built, or has not.
fn built(running: &Arc<Running>, parcel: Box<Parcel>, attempts: Attempts, built: Option<Built>) {
    let line = parcel.line;
    match built {
        Some((mut env, term)) => complete(running, &mut env, *parcel, Some(term)),
        None => {
            if matches!(attempts.atoms, Atoms::Known) && makes_atoms(running, &parcel) {
                return build(running, parcel, Attempts { atoms: Atoms::Counted, ..attempts });
            }
            running.terms.note_unreadable(&parcel.body, &parcel.origin);
            with_env(|env| complete(running, env, *parcel, None));
        }
    }
    if let Some(line) = line {
        advance(running, line);
    }
}

/// Delivers what has come, or parks it until a relay or builder is done. Runs off the schedulers, like all of this module.
pub(super) fn deliver(running: &Arc<Running>, inbound: Inbound, line: Option<Key>) -> Delivered {
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
                    // Of a process that has ended the next relay tells, as of any other.
                    if is_alive(running, to) {
                        drop(WATCHES.take(number)); // the caller is told that nobody answers
                    }
                    Delivered::Yes
                }
                Some(_) => {
                    let whose = whose(&parcel.origin);
                    WATCHES.park(to, Parked::new(running, whose, |running| go_on(running, parcel)));
                    Delivered::Later
                }
            }
        }
        Inbound::Monitor { watch, receipt } => {
            let process = watch.watched();
            match (begin_watch(running, watch), line) {
                (Some(Begun::First | Begun::Asked), Some(line)) => {
                    let move_on = move |running: &Arc<Running>| {
                        drop(receipt);
                        advance(running, line);
                    };
                    WATCHES.park(process, Parked::new(running, line.whose, move_on));
                    Delivered::Later
                }
                _ => Delivered::Yes,
            }
        }
        Inbound::Carried { origin, messages } => {
            CHANNELS.take(&origin, messages);
            Delivered::Yes
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
                    with_env(|env| told::no_connection(running, env, reference));
                    Delivered::Yes
                }
            }
        }
    }
}

fn is_alive(running: &Running, process: ProcessId) -> bool {
    with_env(|env| env.run(|env| running.identity.pid(env, process).is_some_and(|pid| pid.is_alive(env))))
}

/// A watch begins. `None` if there is no relay for it: then its watcher has been told that nobody answers.
fn begin_watch(running: &Running, watch: Watch) -> Option<Begun> {
    let (process, number, is_awaited) = (watch.watched(), watch.id(), watch.awaited());
    let begun = WATCHES.add(watch);
    if begun == Begun::First {
        let pid = with_env(|env| env.run(|env| running.identity.pid(env, process)));
        if !pid.is_some_and(|pid| relays::start(process, (atoms::watch(), pid))) {
            let end = move |running: &Arc<Running>| {
                ending::unwatched_by(running, Unwatched::Process(process));
            };
            running.workers.short(Whose::OWN, end);
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
        // Nearly always all atoms are known.
        let mut tried = Atoms::Known;
        let mut read = try_to_read(running, env, &parcel, tried);
        if let Ok(None) = read {
            env.clear(); // of what was built
            if makes_atoms(running, &parcel) {
                tried = Atoms::Counted;
                read = try_to_read(running, env, &parcel, tried);
            }
        }
        match read {
            // What is small and may need a builder has lined up. This only looks as if it did: our reader cannot read it.
            Err(NeedsScheduler) if parcel.line.is_some() || parcel.receipt.is_large() => {
                env.clear();
                build(running, parcel, Attempts { atoms: tried, tries: 0 });
                Delivered::Later
            }
            read => {
                let term = read.unwrap_or(None);
                if term.is_none() {
                    running.terms.note_unreadable(&parcel.body, &parcel.origin);
                }
                complete(running, env, *parcel, term);
                Delivered::Yes
            }
        }
    })
}

fn try_to_read(
    running: &Running,
    env: &OwnedEnv,
    parcel: &Parcel,
    atoms: Atoms,
) -> Result<Option<SavedTerm>, NeedsScheduler> {
    env.run(|inner| Ok(running.terms.build(inner, &parcel.body, atoms)?.map(|term| env.save(term))))
}

/// Whether the message is a term whose new atoms are within its peer's budget. They are there then.
fn makes_atoms(running: &Running, parcel: &Parcel) -> bool {
    OwnedEnv::new().run(|env| running.terms.makes_atoms(env, &parcel.body, &parcel.origin))
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
            let _inside = naming::enter(); // before the end of the session is held up
            let answer = |env: &mut OwnedEnv| told::reply(running, env, reference, term);
            if let Some(is_awaited) = origin.while_up(|| answer(env)) {
                told::count_if_late(running, is_awaited);
            } else {
                told::no_connection(running, env, reference);
            }
        }
        Addressee::Down(reference) => end_with(running, env, &origin, reference, |env| match term {
            Some(reason) => reason.load(env),
            None => (atoms::unreadable_reason(), told::UNREADABLE).encode(env),
        }),
        Addressee::Rejected(reference) => end_with(running, env, &origin, reference, |env| match term {
            Some(why) => (atoms::rejected(), why.load(env)).encode(env),
            None => atoms::rejected().encode(env),
        }),
    }
    env.clear();
    drop(receipt);
}

/// Tells who waits that a call or monitor has ended, and why; or that its session has, if that has been told.
fn end_with(
    running: &Running,
    env: &mut OwnedEnv,
    origin: &Origin,
    reference: RefId,
    reason: impl for<'a> FnOnce(Env<'a>) -> Term<'a>,
) {
    let _inside = naming::enter(); // as for a reply
    if origin.while_up(|| told::end(running, env, reference, reason)).is_none() {
        told::no_connection(running, env, reference);
    }
}

/// The environment of this thread, or a fresh one within its use.
pub(super) fn with_env<R>(use_it: impl FnOnce(&mut OwnedEnv) -> R) -> R {
    BUILDING.with(|building| match building.try_borrow_mut() {
        Ok(mut env) => use_it(&mut env),
        Err(_) => use_it(&mut OwnedEnv::new()),
    })
}

/// `{'$gen_call', {Pid, Tag}, Request}` as `{'$gen_call', {Pid, [[alias|RelayAlias], Number | Tag]}, Request}`: what `gen:reply/2`
/// answers goes to the relay, and a server that answers by hand, `Pid ! {ThatTag, Reply}`, sends the caller its own tag back.
fn readdress<'a>(env: Env<'a>, request: Term<'a>, alias: Term<'a>, number: u64) -> Option<Term<'a>> {
    let Ok([kind, from, request]) = <[Term<'a>; 3]>::try_from(get_tuple(request).ok()?) else { return None };
    let Ok([caller, tag]) = <[Term<'a>; 2]>::try_from(get_tuple(from).ok()?) else { return None };
    let tag = tag.list_prepend(number).list_prepend(alias.list_prepend(atoms::alias()));
    Some((kind, (caller, tag), request).encode(env))
}
