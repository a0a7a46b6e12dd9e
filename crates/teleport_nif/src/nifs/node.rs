//! The node is started and stopped, and sessions begin and end.

use crate::arriving::host::Machine;
use crate::arriving::{builders, relays, told};
use crate::carrier::Plain;
use crate::ids::{self, Identity};
use crate::nifs::with_node;
use crate::node::ask::Ask;
use crate::node::config::Settings;
use crate::node::errors::start_error;
use crate::node::notice::{later, runtime};
use crate::node::pulse::Gone;
use crate::node::questions::Questions;
use crate::node::running::{self, Running};
use crate::node::{address, allow, halting, logs, pulse};
use crate::terms::Terms;
use crate::terms::budget::Budget;
use crate::work::workers::Workers;
use crate::{atoms, library};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, NifResult, OwnedEnv, ResourceArc, Term};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;
use teleport::embed::Embedded;
use teleport::{Incarnation, Node, NodeName, SendError, StartError, etf};

#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(env: Env<'a>, map: Term<'a>) -> NifResult<Term<'a>> {
    let settings = match Settings::decode(map) {
        Err(Error::Term(reason)) => return Ok((atoms::error(), reason.encode(env)).encode(env)),
        settings => settings?,
    };
    let ticktime = settings.config.net_ticktime.as_secs();
    let budget = Budget::new(settings.max_new_atoms_per_peer, settings.max_new_atoms);
    let Settings {
        node,
        creation,
        cookie,
        listen,
        ports,
        any_port,
        carries,
        answers,
        config,
        tls,
        allow,
        ..
    } = settings;
    let atom = etf::Atom::new(&node).map_err(|_| Error::BadArg)?;
    let identity = Identity { node: atom, creation, any: env.pid() };
    let questions = Questions::default();
    let terms = Terms::new(budget, settings.max_term);
    if !logs::are_logged() || !relays::are_there() || !builders::are_there() {
        return Ok(loaded_anew(env));
    }
    let (workers, jobs) = Workers::new(settings.max_term);
    let running = Arc::new(Running::new(env.pid(), identity, terms, questions.clone(), workers));
    running.pulse.set_ticktime(ticktime);
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
        builder = if any_port { builder.ports(ports) } else { builder.only_ports(ports) };
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    if let Some(list) = allow {
        builder = builder.allow(list);
    }
    let started = jobs
        .start(&running, &node)
        .and_then(|()| runtime())
        .map_err(|cause| StartError::System { what: "threads", cause })
        .and_then(|runtime| runtime.block_on(builder.embed(Arc::new(Machine::new(&running, carries)))));
    match started {
        Ok(node) => {
            let address = address::encode(env, node.address());
            running.started(node);
            if library::is_abandoned() || !running::is_current(&running) {
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
    // The process that logs asks another library now.
    logs::stop();
    shut_down(ABANDONED, tell_lost);
}

fn tell_lost(running: &Running, _unconfirmed: Vec<(NodeName, u64)>) {
    // The manager may have ended.
    let _ = OwnedEnv::new().send_and_clear(&running.manager, |_| atoms::teleport_lost());
}

/// The virtual machine hangs, or is about to end, or the process is gone that could say that it does not. When it ends, what is on its way
/// is seen through, as it does with what its ports have to write. Of one that hangs peers are told at once.
fn lose(running: &Arc<Running>, how: Gone) {
    let was_current = running::stop_this(running);
    if let Some(node) = running.node() {
        node.take_nothing_in();
    }
    let deadline = match how {
        Gone::Closed => halting::DEADLINE,
        Gone::Silent => Duration::ZERO,
    };
    let unconfirmed = end(running, deadline);
    if was_current {
        running::forget(running);
        tell_lost(running, unconfirmed);
    }
}

/// One end of what tells whether the virtual machine lives.
#[rustler::nif]
fn pulse(env: Env<'_>) -> NifResult<Term<'_>> {
    with_node(env, |running, _| {
        let watched = running.clone();
        let begun = pulse::begin(&running.pulse, move |how| {
            if !watched.is_over() {
                lose(&watched, how);
            }
        });
        fence(Ordering::SeqCst); // see `set_over`
        if running.is_over() {
            running.pulse.end();
        }
        Ok(match begun {
            Ok(descriptor) => (atoms::ok(), ResourceArc::new(Plain::new(descriptor))).encode(env),
            Err(_) => (atoms::error(), atoms::system()).encode(env),
        })
    })
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
        // The thread that watches its pulse ends it; without one it ends with its last user.
        running::forget(&running);
        running.pulse.end();
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
    told::over(running);
    unconfirmed
}

/// The processes that the node needs belong to a library that was loaded before: all of them have to begin anew.
fn loaded_anew(env: Env<'_>) -> Term<'_> {
    (atoms::error(), atoms::library_was_loaded_anew()).encode(env)
}

#[rustler::nif]
fn net_ticktime(env: Env<'_>, seconds: u64) -> NifResult<Term<'_>> {
    with_node(env, |running, node| {
        running.pulse.set_ticktime(seconds);
        let node = node.clone();
        let thread = std::thread::Builder::new().name("teleport ticktime".to_owned());
        // Not on a scheduler: it takes the lock of the node's sessions.
        let started = thread.spawn(move || node.set_net_ticktime(Duration::from_secs(seconds)));
        Ok(if started.is_ok() { atoms::ok() } else { atoms::system() }.encode(env))
    })
}

#[rustler::nif(schedule = "DirtyCpu")]
fn allow<'a>(env: Env<'a>, list: Term<'a>) -> NifResult<Term<'a>> {
    let list = allow::decode(list)?;
    with_node(env, |_, node| {
        node.set_allow(list);
        Ok(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn prime<'a>(env: Env<'a>, peer: Atom, tag: Term<'a>) -> NifResult<Term<'a>> {
    let peer = ids::node_name(env, peer)?;
    with_node(env, |_, node| {
        Ok(later(env, tag, |notice| node.prime(peer, |primed| notice.give(primed.map_err(SendError::from)))))
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
