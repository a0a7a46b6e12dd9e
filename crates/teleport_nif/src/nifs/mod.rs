//! The functions of the Erlang module `teleport_nif`, which says what they are for.

mod check;
use crate::arriving::builders::{self, Job};
use crate::arriving::calls::{CALLS, Mark};
use crate::arriving::host::{Machine, go_on};
use crate::arriving::relays::Alias;
use crate::arriving::watches::WATCHES;
use crate::arriving::{host, relays};
use crate::ids::{self, Identity};
use crate::leaving::iovec::Gathered;
use crate::leaving::{iovec, small};
use crate::node::config::{self, Settings};
use crate::node::errors::{send_error, start_error};
use crate::node::logs;
use crate::node::notice::{Notice, acknowledge, later, runtime};
use crate::node::questions::{Ask, Questions};
use crate::node::running::{self, Running};
use crate::terms::budget::{Budget, Used};
use crate::terms::held;
use crate::terms::{Atoms, Terms};
use crate::work::workers;
use crate::work::workers::{Short, Unwatched, Workers};
use crate::{atoms, entry};
use bytes::Bytes;
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, Error, LocalPid, NifResult, OwnedBinary, OwnedEnv, ResourceArc, Term};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use teleport::embed::{Embedded, ProcessId, Recipient, RefId, Sent};
use teleport::{Incarnation, Node, NodeName, PeerInfo, SendError, SendOptions, StartError, etf};

#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(env: Env<'a>, map: Term<'a>) -> NifResult<Term<'a>> {
    let settings = match Settings::decode(map) {
        Err(Error::Term(reason)) => return Ok((atoms::error(), reason.encode(env)).encode(env)),
        settings => settings?,
    };
    let budget = Budget::new(settings.max_new_atoms_per_peer, settings.max_new_atoms);
    let Settings { node, creation, cookie, listen, ports, answers, config, .. } = settings;
    let atom = etf::Atom::new(&node).map_err(|_| Error::BadArg)?;
    let identity = Identity { node: atom, creation, any: env.pid() };
    let questions = Questions::default();
    let terms = Terms::new(budget, settings.max_term);
    if !logs::are_logged() || !relays::are_there() || !builders::are_there() {
        return Ok(loaded_anew(env));
    }
    let (workers, jobs) = Workers::new(settings.max_term);
    let running = Arc::new(Running::new(env.pid(), identity, terms, questions.clone(), workers));
    if !running::set(&running) {
        return Ok((atoms::error(), atoms::already_started()).encode(env));
    }
    let ask = Ask { answers: answers.unwrap_or(env.pid()), questions };
    let mut builder = Node::builder(&node)
        .cookie(cookie)
        .cookies(ask.clone())
        .incarnation(creation)
        .listen(listen)
        .config(config)
        .resolver(ask);
    if let Some(ports) = ports {
        builder = builder.ports(ports);
    }
    let started = jobs
        .start(&running)
        .and_then(|()| runtime())
        .map_err(|cause| StartError::System { what: "threads", cause })
        .and_then(|runtime| runtime.block_on(builder.embed(Arc::new(Machine::new(&running)))));
    match started {
        Ok(node) => {
            let address = config::encode_address(env, node.address());
            running.started(node);
            if entry::is_abandoned() || !running::is_current(&running) {
                // What should have ended it may have come before it was there.
                running::forget(&running);
                end(&running, Duration::ZERO);
                return Ok(loaded_anew(env));
            }
            Ok((atoms::ok(), address).encode(env))
        }
        Err(error) => {
            running::forget(&running);
            Ok((atoms::error(), start_error(env, &error)).encode(env))
        }
    }
}

#[rustler::nif]
fn stop(env: Env<'_>, deadline: u64) -> Atom {
    let caller = env.pid();
    shut_down(Duration::from_millis(deadline), move |_, unconfirmed| {
        let unconfirmed: Vec<_> = unconfirmed.iter().map(|(peer, count)| (peer.as_str(), *count)).collect();
        // The caller may not wait.
        let _ = OwnedEnv::new().send_and_clear(&caller, |_| (atoms::teleport_stopped(), unconfirmed));
    })
}

/// What is on its way when the module is loaded from another file has so long to arrive. Meanwhile no node runs.
const ABANDONED: Duration = Duration::from_secs(1);

/// Ends what runs, and tells its manager then.
pub(crate) fn abandon() {
    // Who logs asks another library now.
    logs::stop();
    shut_down(ABANDONED, |running, _| {
        let _ = OwnedEnv::new().send_and_clear(&running.manager, |_| atoms::teleport_lost());
    });
}

/// The node that runs drains until the deadline. Then it is over, and so is all that waits on it; `tell` is told what was not
/// confirmed.
fn shut_down(deadline: Duration, tell: impl FnOnce(&Running, Vec<(NodeName, u64)>) + Send + 'static) -> Atom {
    let Some(running) = running::stop() else { return atoms::not_running() };
    let draining = running.clone();
    // Not on a scheduler: the end of sessions is told to processes.
    let started = std::thread::Builder::new().name("teleport stop".to_owned()).spawn(move || {
        let unconfirmed = end(&draining, deadline);
        running::forget(&draining);
        tell(&draining, unconfirmed);
    });
    if started.is_err() {
        // It ends with its last user.
        running::forget(&running);
        return atoms::system();
    }
    atoms::ok()
}

/// The node is over by the deadline or soon after it. Returns what was not confirmed.
fn end(running: &Arc<Running>, deadline: Duration) -> Vec<(NodeName, u64)> {
    let unconfirmed = match (running.node(), runtime()) {
        (Some(node), Ok(runtime)) => runtime.block_on(node.shutdown(deadline)).unconfirmed,
        _ => Vec::new(),
    };
    host::over(running);
    unconfirmed
}

/// The processes that the node needs belong to a library that was loaded before: all of them have to begin anew.
fn loaded_anew(env: Env<'_>) -> Term<'_> {
    (atoms::error(), atoms::library_was_loaded_anew()).encode(env)
}

/// Names this library to the next one that the module is loaded from.
#[rustler::nif]
fn library() -> usize {
    entry::number()
}

#[rustler::nif]
fn resolved(node: &str, addresses: Term<'_>) -> NifResult<Atom> {
    addresses.list_length()?; // of an improper one there is none
    let addresses = addresses.into_list_iterator()?.map(config::address).collect::<NifResult<Vec<_>>>()?;
    let node = node.parse().map_err(|_| Error::BadArg)?;
    Ok(with_all(|running| running.questions.located(&node, &addresses)))
}

#[rustler::nif]
fn cookie_is(node: &str, cookie: Binary<'_>) -> NifResult<Atom> {
    let node = node.parse().map_err(|_| Error::BadArg)?;
    let cookie = cookie.to_vec();
    Ok(with_all(|running| running.questions.cookie_is(&node, &cookie)))
}

#[rustler::nif]
fn questions(env: Env<'_>) -> Term<'_> {
    let (mut questions, mut more) = (Vec::new(), false);
    for running in running::all() {
        let (some, are_more) = running.questions.fetch();
        questions.extend(some);
        more |= are_more;
    }
    let questions: Vec<_> = questions.iter().map(|(what, peer)| (*what, peer.as_str())).collect();
    (questions, more).encode(env)
}

#[rustler::nif]
fn net_ticktime(env: Env<'_>, seconds: u64) -> NifResult<Term<'_>> {
    with_node(env, |_, node| {
        let node = node.clone();
        let thread = std::thread::Builder::new().name("teleport ticktime".to_owned());
        // Not on a scheduler: it takes the lock of the node's sessions.
        let started = thread.spawn(move || node.set_net_ticktime(Duration::from_secs(seconds)));
        Ok(if started.is_ok() { atoms::ok() } else { atoms::system() }.encode(env))
    })
}

#[rustler::nif]
fn relays(env: Env<'_>, place: usize, count: usize) -> NifResult<Atom> {
    if place >= count || count > MOST_PLACES {
        return Err(Error::BadArg);
    }
    let number = relays::add(place, count, env.pid());
    // The relays of one that was there before have ended with it.
    workers::unwatched(Unwatched::At(place, number));
    Ok(atoms::ok())
}

/// Of those that start relays, and as many of builders; `teleport_config` knows it too.
const MOST_PLACES: usize = 1024;

#[rustler::nif]
fn builder(env: Env<'_>, place: usize, count: usize) -> NifResult<Atom> {
    if place >= count || count > MOST_PLACES {
        return Err(Error::BadArg);
    }
    builders::add(place, count, env.pid());
    Ok(atoms::ok())
}

/// The job, unless it is one of a library that was loaded before.
fn job(job: Term<'_>) -> NifResult<Option<ResourceArc<Job>>> {
    if job.is_ref() { Ok(job.decode().ok()) } else { Err(Error::BadArg) }
}

#[rustler::nif(schedule = "DirtyCpu", name = "build")]
fn build_job(term: Term<'_>) -> NifResult<Atom> {
    if let Some(job) = job(term)? {
        job.run();
    }
    Ok(atoms::ok())
}

#[rustler::nif]
fn document<'a>(env: Env<'a>, term: Term<'a>) -> NifResult<Term<'a>> {
    let Some((document, atoms)) = job(term)?.and_then(|job| job.document()) else {
        return Ok(atoms::none().encode(env));
    };
    let binary = OwnedBinary::from_slice(&document);
    let which = if matches!(atoms, Atoms::Known) { atoms::known() } else { atoms::counted() };
    Ok((which, binary.release(env)).encode(env))
}

#[rustler::nif]
fn built(of: Term<'_>, term: Term<'_>) -> NifResult<Atom> {
    if let Some(job) = job(of)? {
        // `none', or `{ok, Term}'.
        job.built(term.decode::<(Atom, Term<'_>)>().ok().map(|(_ok, term)| term));
    }
    Ok(atoms::ok())
}

#[rustler::nif]
fn watching(env: Env<'_>, process: LocalPid, alias: Term<'_>) -> NifResult<bool> {
    let parked = WATCHES.monitored(ids::process_of(env, process)?, Alias::new(alias)?);
    let is_asked_for = parked.is_some();
    parked.into_iter().for_each(go_on);
    Ok(is_asked_for)
}

#[rustler::nif]
fn unwatched(env: Env<'_>, process: LocalPid) -> NifResult<Atom> {
    let process = ids::process_of(env, process)?;
    workers::unwatched(Unwatched::Process(process));
    Ok(atoms::ok())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn sweep(env: Env<'_>, place: usize) -> Vec<LocalPid> {
    let all = running::all();
    let Some(running) = all.first() else { return Vec::new() };
    let idle = WATCHES.sweep(|process| relays::is_at(place, process));
    idle.into_iter().filter_map(|process| running.identity.pid(env, process)).collect()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn gather(list: Term<'_>) -> NifResult<ResourceArc<Gathered>> {
    Gathered::new(list).map(ResourceArc::new)
}

/// What [`sample`] has, in bytes.
const SAMPLE: usize = 64 * 1024;

#[rustler::nif]
fn sample(env: Env<'_>) -> Term<'_> {
    held::binary(env, &Bytes::from(vec![0; SAMPLE]), 0..SAMPLE, 0)
}

#[rustler::nif]
fn pad(is_wanted: bool) -> Atom {
    held::pad(is_wanted);
    atoms::ok()
}

const UNORDERED: u32 = 1;
const NOSUSPEND: u32 = 2;
const ASYNC: u32 = 4;
const NOCONNECT: u32 = 8;

#[rustler::nif]
fn send<'a>(env: Env<'a>, to: Term<'a>, body: Term<'a>, how: Term<'a>, tag: Term<'a>) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let Some(body) = small::body(Some(&running.identity), body)? else {
            return Ok(atoms::not_small().encode(env));
        };
        let to = ids::recipient(to)?;
        let from = ids::process_of(env, env.pid())?;
        let options = options(how)?;
        if how.decode::<u32>().is_ok_and(|flags| flags & ASYNC != 0) {
            let result = node.send_behind(from, to, body, options).map(|()| Sent::Accepted);
            return Ok(sent(env, result));
        }
        let notice = Notice::new(env, tag);
        Ok(sent(env, node.send(from, to, body, options, move |result| notice.give(result))))
    })
}

/// What has become of it so far, for the caller.
fn sent(env: Env<'_>, result: Result<Sent, SendError>) -> Term<'_> {
    match result {
        Ok(Sent::Accepted) => atoms::ok().encode(env),
        Ok(Sent::Waiting(_)) => atoms::waiting().encode(env),
        Err(error) => (atoms::error(), send_error(env, &error)).encode(env),
    }
}

/// Of flags, or flags and a time in milliseconds.
fn options(how: Term<'_>) -> NifResult<SendOptions> {
    let mut options = SendOptions::default();
    let flags = match how.decode::<(u32, u64)>() {
        Ok((flags, timeout)) => {
            options = options.timeout(Duration::from_millis(timeout));
            flags
        }
        Err(_) => how.decode::<u32>()?,
    };
    if flags & UNORDERED != 0 {
        options = options.unordered();
    }
    if flags & NOSUSPEND != 0 {
        options = options.nosuspend();
    }
    if flags & NOCONNECT != 0 {
        options = options.noconnect();
    }
    Ok(options)
}

#[rustler::nif]
fn send_acknowledged<'a>(
    env: Env<'a>,
    to: Term<'a>,
    body: Term<'a>,
    how: Term<'a>,
    tag: Term<'a>,
    acknowledgement: Term<'a>,
) -> NifResult<Term<'a>> {
    with_node(env, |_, node| {
        let (to, body) = (ids::recipient(to)?, iovec::segments(body)?);
        let from = ids::process_of(env, env.pid())?;
        let notice = Notice::new(env, tag);
        let (accepted, told) = (move |result| notice.give(result), acknowledge(env, acknowledgement));
        Ok(sent(env, node.send_acknowledged(from, to, body, options(how)?, accepted, told)))
    })
}

#[rustler::nif]
fn request<'a>(
    env: Env<'a>,
    to: Term<'a>,
    reference: Term<'a>,
    mark: Term<'a>,
    body: Term<'a>,
    tag: Term<'a>,
) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let Some(body) = small::body(Some(&running.identity), body)? else {
            return Ok(atoms::not_small().encode(env));
        };
        let options = SendOptions::default();
        let options = if atoms::nosuspend() == tag { options.nosuspend() } else { options };
        let notice = Notice::new(env, tag);
        begin(env, running, to, (reference, mark), |running, from, to, reference| {
            node.request(from, to, reference, body, options, move |result| {
                host::not_begun(&running, reference, &result);
                notice.give(Ok(())); // how it ended is told as for any other
            })
        })
    })
}

#[rustler::nif]
fn monitor<'a>(
    env: Env<'a>,
    to: Term<'a>,
    reference: Term<'a>,
    mark: Term<'a>,
    tag: Term<'a>,
) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let notice = Notice::new(env, tag);
        begin(env, running, to, (reference, mark), |running, from, to, reference| {
            node.monitor(from, to, reference, move |result| {
                host::not_begun(&running, reference, &result);
                notice.give(Ok(()));
            })
        })
    })
}

/// The calling process begins to wait for the end of a call or monitor.
fn begin<'a>(
    env: Env<'a>,
    running: &Arc<Running>,
    to: Term<'a>,
    (reference, mark): (Term<'a>, Term<'a>),
    ask: impl FnOnce(Arc<Running>, ProcessId, Recipient, RefId) -> Result<Sent, SendError>,
) -> NifResult<Term<'a>> {
    let (to, reference) = (ids::recipient(to)?, ids::ref_id(reference)?);
    let from = ids::process_of(env, env.pid())?;
    let mark = (atoms::down() != mark).then(|| Mark::new(mark));
    CALLS.begin(env, running, from, reference, to.clone(), mark);
    Ok(match ask(running.clone(), from, to, reference) {
        Ok(Sent::Accepted) => atoms::ok().encode(env),
        Ok(Sent::Waiting(waiting)) => match CALLS.note_waiting(running, reference, waiting) {
            true => atoms::waiting().encode(env),
            false => (atoms::error(), atoms::not_running()).encode(env),
        },
        Err(error) => match CALLS.withdraw(reference) {
            true => (atoms::error(), send_error(env, &error)).encode(env),
            // The session, or the node, has ended just now, and has told the process so.
            false => atoms::ok().encode(env),
        },
    })
}

#[rustler::nif]
fn cancel(env: Env<'_>, reference: Term<'_>) -> NifResult<bool> {
    let (id, caller) = (ids::ref_id(reference)?, ids::process_of(env, env.pid())?);
    Ok(CALLS.cancel(id, caller) || entry::cancel_before(reference))
}

#[rustler::nif]
fn reply<'a>(env: Env<'a>, number: u64, body: Term<'a>) -> NifResult<Term<'a>> {
    // A node that is about to stop still takes answers.
    let running = running::current();
    let Some(body) = small::body(running.as_ref().map(|running| &running.identity), body)? else {
        return Ok(atoms::not_small().encode(env));
    };
    Ok(match WATCHES.take(number).map_or(Ok(()), |watch| watch.reply(body)) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => (atoms::error(), send_error(env, &error)).encode(env),
    })
}

#[rustler::nif]
fn reject(number: u64) -> Atom {
    if let Some(watch) = WATCHES.take(number) {
        watch.reject("the reply has no form that can be sent");
    }
    atoms::ok()
}

#[rustler::nif]
fn ended(env: Env<'_>, process: LocalPid) -> NifResult<Atom> {
    go_on(WATCHES.ended(ids::process_of(env, process)?));
    Ok(atoms::ok())
}

#[rustler::nif]
fn down<'a>(env: Env<'a>, process: LocalPid, reason: Term<'a>) -> NifResult<Atom> {
    // One that drains has to do with it as well.
    let all = running::all();
    let running = all.first();
    let Some(reason) = small::body(running.map(|running| &running.identity), reason)? else {
        return Ok(atoms::not_small());
    };
    // There may be very many who wait for it.
    if let Some(running) = running {
        running.workers.short(Short::Down(ids::process_of(env, process)?, reason));
    }
    Ok(atoms::ok())
}

#[rustler::nif]
fn prime<'a>(env: Env<'a>, peer: Atom, tag: Term<'a>) -> NifResult<Term<'a>> {
    let peer = ids::node_name(env, peer)?;
    with_node(env, |_, node| {
        let node = node.clone();
        Ok(later(env, tag, "teleport prime", move |notice, runtime| {
            notice.give(runtime.block_on(node.prime(&peer)));
        }))
    })
}

#[rustler::nif]
fn disconnect(env: Env<'_>, peer: Atom) -> NifResult<bool> {
    let peer = ids::node_name(env, peer)?;
    Ok(disconnect_all(|node| node.disconnect(&peer)))
}

#[rustler::nif(name = "disconnect")]
fn disconnect_life(env: Env<'_>, peer: Atom, (which, life): (Atom, u32)) -> NifResult<bool> {
    let peer = ids::node_name(env, peer)?;
    let others = which == atoms::other_than();
    if !others && which != atoms::life() {
        return Err(Error::BadArg);
    }
    let is_meant = |incarnation: Incarnation| (incarnation.as_u32() == life) != others;
    Ok(disconnect_all(|node| node.disconnect_if(&peer, is_meant)))
}

/// `true` if one of them has begun to end a session.
fn disconnect_all(disconnect: impl Fn(&Embedded) -> bool) -> bool {
    running::all().iter().filter_map(|running| running.node()).filter(|node| disconnect(node)).count() > 0
}

#[rustler::nif]
fn info(env: Env<'_>) -> NifResult<Term<'_>> {
    with_node(env, |running, node| {
        let info = node.info();
        let budget = running.terms.budget();
        let peers = info.peers.iter().map(|peer| {
            let info = with_atoms(env, peer_info(env, peer), budget.used_by(&peer.name))?;
            Ok((peer.name.as_str(), info))
        });
        let peers = peers.collect::<NifResult<HashMap<_, _>>>()?;
        let address = config::encode_address(env, info.address);
        let pairs = [
            (atoms::name(), info.name.as_str().encode(env)),
            (atoms::creation(), info.incarnation.as_u32().encode(env)),
            (atoms::address(), address),
            (atoms::net_ticktime(), info.net_ticktime.as_secs().encode(env)),
            (atoms::bytes_in_flight(), info.bytes_in_flight.encode(env)),
            (atoms::waiting_for(), CALLS.len().encode(env)),
            (atoms::late_replies(), info.late_replies.encode(env)),
            (atoms::unreadable(), running.terms.unreadable().encode(env)),
            (atoms::peers(), peers.encode(env)),
        ];
        with_atoms(env, Term::map_from_pairs(env, &pairs)?, budget.used())
    })
}

/// The map, and what has been used of the budget for atoms.
fn with_atoms<'a>(env: Env<'a>, info: Term<'a>, used: Used) -> NifResult<Term<'a>> {
    info.map_put(atoms::new_atoms().encode(env), used.atoms.encode(env))?
        .map_put(atoms::atoms_refused().encode(env), used.refused.encode(env))
}

pub(crate) fn peer_info<'a>(env: Env<'a>, peer: &PeerInfo) -> Term<'a> {
    let transfer = &peer.transfer;
    let round_trip = peer.tick_round_trip.map(|time| time.as_micros() as u64);
    let pairs = [
        (atoms::creation(), peer.incarnation.as_u32().encode(env)),
        (atoms::dialled(), peer.dialled.encode(env)),
        (atoms::control_connected(), peer.control_connected.encode(env)),
        (atoms::last_heard_ms(), (peer.last_heard.as_millis() as u64).encode(env)),
        (atoms::tick_round_trip_us(), round_trip.map_or(atoms::undefined().encode(env), |us| us.encode(env))),
        (atoms::ticks_missed(), peer.ticks_missed.encode(env)),
        (atoms::watched(), peer.watched.encode(env)),
        (atoms::unconfirmed(), transfer.unconfirmed.encode(env)),
        (atoms::waiting(), transfer.waiting.encode(env)),
        (atoms::express_connections(), transfer.express_connections.encode(env)),
        (atoms::bulk_connections(), transfer.bulk_connections.encode(env)),
        (atoms::messages_sent(), transfer.messages_sent.encode(env)),
        (atoms::messages_received(), transfer.messages_received.encode(env)),
        (atoms::bytes_sent(), transfer.bytes_sent.encode(env)),
        (atoms::bytes_received(), transfer.bytes_received.encode(env)),
        (atoms::no_process(), transfer.no_process.encode(env)),
        (atoms::frames_resent(), transfer.frames_resent.encode(env)),
    ];
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| rustler::types::map::map_new(env))
}

/// For the one that runs and those that still drain. Returns whether there is any.
fn with_all(tell: impl Fn(&Running)) -> Atom {
    let all = running::all();
    all.iter().for_each(|running| tell(running));
    if all.is_empty() { atoms::not_running() } else { atoms::ok() }
}

pub(crate) fn with_node<'a>(
    env: Env<'a>,
    use_it: impl FnOnce(&Arc<Running>, &Embedded) -> NifResult<Term<'a>>,
) -> NifResult<Term<'a>> {
    let running = running::current();
    match running.as_ref().and_then(|running| running.node().map(|node| (running, node))) {
        Some((running, node)) => use_it(running, node),
        None => Ok((atoms::error(), atoms::not_running()).encode(env)),
    }
}
