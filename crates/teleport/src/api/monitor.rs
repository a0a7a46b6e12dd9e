//! Monitoring, as a process.

use crate::api::process::{NOBODY, Process, Route};
use crate::api::send_options::SendOptions;
use crate::base::address::{Address, Recipient, Target};
use crate::base::down;
use crate::base::encoding::atom_of;
use crate::base::error::MonitorError;
use crate::local::Monitored;
use crate::local::inbox::Inbox;
use crate::local::watch::{HERE, Path, Purpose, Subject, Via, Waiter, WatchRefused, reason};
use std::sync::Arc;
use teleport_etf::{Atom, Reference, Segments, Term};
use teleport_proto::NodeName;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::Kind;

impl Process {
    /// Watches a process on behalf of the one that the inbox is of. There is always an answer, in the inbox.
    pub(crate) async fn watch(&self, to: Address, inbox: &Arc<Inbox>) -> Result<Reference, MonitorError> {
        let engine = self.node().engine();
        if engine.is_stopped() {
            return Err(MonitorError::NotRunning);
        }
        let id = engine.core.watches.watching.make_reference();
        let reference = self.node().reference_of(id);
        let object = self.object(&to)?;
        let here = Via::Here(engine.core.watches.clone());
        let (via, to) = match self.turn().await.route(to)? {
            Route::Here(to) => (here, to),
            Route::There(Recipient { peer, incarnation, to }) => {
                match self.session(&peer, SendOptions::default()).await {
                    Ok(session) if session.is_stale(incarnation) => (here, NOBODY),
                    Ok(session) => (Via::There(session), to),
                    Err(_) => {
                        inbox.put_down(
                            id,
                            down::message(&reference, &object, reason::no_connection().into_contiguous()),
                        );
                        return Ok(reference);
                    }
                }
            }
        };
        let waiter = Waiter::Monitor { process: inbox.clone(), reference: reference.clone(), object };
        let path = Path { via: via.clone(), from: inbox.process, to: to.clone() };
        engine.core.watches.watching.begin(id, path, waiter);
        match &via {
            Via::Here(_) => {
                let found = engine.core.registry.find(&to).ok_or(WatchRefused::NoProcess);
                if let Err(refused) = found
                    .and_then(|watched| via.begin(Purpose::Monitor, id, self.id(), Subject::Inbox(watched)))
                {
                    engine.core.watches.watching.down(id, refused.reason().into_contiguous(), HERE);
                }
            }
            Via::There(session) => {
                if session
                    .send_exempt(Outgoing::of_kind(Kind::Monitor(id), self.id(), to, Segments::default()))
                    .is_err()
                {
                    let reason = reason::no_connection().into_contiguous();
                    engine.core.watches.watching.down(id, reason, session.number());
                }
            }
        }
        Ok(reference)
    }

    /// What DOWN calls the process: the pid, or the name with its node.
    fn object(&self, to: &Address) -> Result<Term, MonitorError> {
        let named = |name: &str, node: &NodeName| {
            let name = Atom::new(name).map_err(|_| MonitorError::NameTooLong(name.len()))?;
            Ok(Term::tuple([name.into(), atom_of(node).into()]))
        };
        match &to.0 {
            Target::Local(name) => named(name, self.node().name()),
            Target::Remote(name, node) => named(name, node),
            Target::Pid(pid) => Ok(pid.clone().into()),
        }
    }
}
