//! The virtual machine as host: finds the addressee of what comes from peers, and delivers it or lines it up.
//!
//! What can be delivered at once is, on the thread that it has come by: what is small, or has little in it but large binaries, which
//! stay where they are. What is large takes long, and goes to threads for that. What needs a process first, a builder or a relay,
//! is left to it, goes on when that has done its part, and nobody waits meanwhile: see [`lines`](crate::work::lines) for what has
//! to come behind.

use crate::arriving::calls::CALLS;
use crate::arriving::deliver::{advance, deliver, with_env};
use crate::arriving::watches::WATCHES;
use crate::carrier::{self, CHANNELS, memory};
use crate::ids::{self, NoPid};
use crate::node::running::Running;
use crate::terms::{self, SWELLS, maps};
use crate::work::lines::{Key, whose};
use crate::work::turns::Whose;
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use teleport::embed::{
    Arriving, Close, Destination, End, Foreign, Host, Inbound, Newcomer, Origin, ProcessId, Receipt,
};

/// The virtual machine as a host.
pub(crate) struct Machine {
    /// Which has the node, and so this.
    running: Weak<Running>,
    carries: bool,
}

impl Machine {
    pub(crate) fn new(running: &Arc<Running>, carries: bool) -> Self {
        Self { running: Arc::downgrade(running), carries }
    }
}

impl Host for Machine {
    /// Called with the session locked, which schedulers want, too: so it does not wait while the virtual machine's name changes. Who
    /// has a name itself, and was not met before, is not found then.
    fn find(&self, to: &Destination) -> Option<ProcessId> {
        let running = self.running.upgrade()?;
        with_env(|owned| {
            let found = owned.run(|env| match to {
                Destination::Name(name) => {
                    let process = env.whereis_pid(terms::existing_atom(env, name)?)?;
                    ids::try_process_of(env, process)
                }
                Destination::Process(process) => match running.identity.try_pid(env, *process) {
                    Ok(pid) => pid.is_alive(env).then_some(*process),
                    Err(NoPid::Invalid) => None,
                    // Where it is delivered there is time to wait, and to see whether it lives.
                    Err(NoPid::NameChanges) => Some(*process),
                },
            });
            owned.clear();
            found
        })
    }

    fn defers(&self, origin: &Origin, arriving: &Arriving<'_>) -> bool {
        let Some(running) = self.running.upgrade() else { return false };
        let needs_builder = maps::may_need_scheduler;
        match *arriving {
            Arriving::Message(to, body) => {
                running.lines.announce(|| Key::new(origin, to), needs_builder(body))
            }
            // A signal that another process sends when it has heard of that must not come before it.
            Arriving::Acknowledged(to, _) => running.lines.announce(|| Key::new(origin, to), true),
            // A process may end at what it is sent next, and then its reason is known only to who monitors it by then.
            Arriving::Request(to, body) => {
                let opens = !WATCHES.is_monitored(to) || needs_builder(body);
                running.lines.announce(|| Key::new(origin, to), opens)
            }
            Arriving::Monitor(to) => {
                running.lines.announce(|| Key::new(origin, to), !WATCHES.is_monitored(to))
            }
            Arriving::Ended(reference, body) => {
                let reference = reference.unsealed();
                let caller = || Some(Key::new(origin, CALLS.process(reference)?));
                running.lines.announce_end(reference, caller, needs_builder(body))
            }
        }
    }

    fn memory(&self, len: usize) -> Option<Box<dyn Foreign>> {
        if carrier::accepts() { memory::allocate(len) } else { None }
    }

    fn carries(&self) -> bool {
        self.carries
    }

    fn takes_distribution(&self) -> bool {
        carrier::accepts()
    }

    fn distribution(&self, connection: TcpStream, newcomer: Newcomer) -> Option<Close> {
        carrier::hand_on(connection, newcomer)
    }

    fn session_ended(&self, origin: &Origin) {
        CHANNELS.session_ended(origin.id());
    }

    fn take(&self, mut inbound: Inbound) {
        let Some(running) = self.running.upgrade() else { return };
        if let Inbound::Ended { reference, .. } = &mut inbound {
            *reference = reference.unsealed();
        }
        let receipt = inbound.receipt();
        if receipt.is_some_and(Receipt::is_large)
            && let Some((whose, body)) = measure(&inbound)
            && !running.terms.is_soon_built(body)
        {
            let bytes = body.len().saturating_mul(SWELLS);
            return running.workers.large(whose, bytes, |running| {
                deliver(running, inbound, None);
            });
        }
        let line = match &inbound {
            _ if !receipt.is_some_and(Receipt::is_deferred) => None,
            Inbound::Message { to, origin, .. } | Inbound::Request { to, origin, .. } => {
                Some(Key::new(origin, *to))
            }
            Inbound::Monitor { watch, .. } => Some(Key::new(&watch.origin(), watch.watched())),
            Inbound::Ended { reference, .. } => running.lines.announced_end(*reference),
            Inbound::Unwatched { .. } | Inbound::Carried { .. } => None,
        };
        match line {
            None => {
                deliver(&running, inbound, None);
            }
            Some(line) => {
                if running.lines.enter(line, inbound) {
                    advance(&running, line);
                }
            }
        }
    }
}

/// Whose it is, and its body; `None` for what has no body of a peer's.
fn measure(inbound: &Inbound) -> Option<(Whose, &[u8])> {
    let (origin, body) = match inbound {
        Inbound::Message { origin, body, .. } | Inbound::Request { origin, body, .. } => (origin, body),
        Inbound::Ended {
            origin: Some(origin),
            end: End::Reply(body) | End::Down(body) | End::Rejected(body),
            ..
        } => (origin, body),
        Inbound::Ended { .. }
        | Inbound::Monitor { .. }
        | Inbound::Unwatched { .. }
        | Inbound::Carried { .. } => return None,
    };
    Some((whose(origin), body))
}
