//! The end of a session, in two steps: it ends at once, and is told later.

use super::connection::PoolConnection;
use super::state::{Fate, Grant, Grants};
use super::{Command, Event, Session};
use crate::base::error::{DeliveryError, SendError};
use crate::host::{Inbound, Origin};
use crate::io::runtime::free;
use crate::local::watch::{Subject, Via};
use bytes::BytesMut;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{AckToken, Transfer, TransferStats};

/// A session that has ended, and what of it has not been told yet.
pub(crate) struct Ended {
    pub(crate) session: Arc<Session>,
    pub(crate) reason: EndReason,
    /// Messages that were accepted, or said to be sent, and are not known to be delivered.
    pub(crate) unconfirmed: u64,
    /// Those of them that are carried: their host knows what becomes of them.
    pub(crate) unconfirmed_carried: u64,
    transfer: Transfer,
    last: TransferStats,
    grants: Grants,
    outcomes: FxHashMap<AckToken, Fate>,
}

impl Session {
    /// Why it has ended, if it has.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.lock().ended
    }

    /// Ends the session: nothing is accepted, and nothing comes, from now on. `None` if it has ended before.
    ///
    /// With a goodbye the peer is told. The rest is for [`Ended::tell`].
    pub(crate) fn end(self: &Arc<Self>, reason: EndReason) -> Option<Ended> {
        let mut state = self.lock();
        let mut transfer = state.transfer.take()?;
        state.shelves.put_all_away(&mut transfer); // what lies in them was accepted
        state.ended = Some(reason);
        let last = transfer.stats();
        let unconfirmed = last.unconfirmed + state.grants.untold();
        state.unconfirmed = unconfirmed;
        let connections = std::mem::take(&mut state.connections);
        let (grants, outcomes) = (std::mem::take(&mut state.grants), std::mem::take(&mut state.outcomes));
        drop(state);
        connections.into_values().for_each(|connection: Arc<PoolConnection>| connection.close());
        let goodbye = matches!(reason, EndReason::Disconnected | EndReason::ProtocolError);
        if goodbye {
            let mut last_words = BytesMut::new();
            transfer.take_control(&mut last_words); // what has arrived is confirmed, or the peer takes it for lost
            self.command(Command::Write(last_words));
        }
        self.command(Command::End { goodbye });
        self.tell(Event::End);
        self.pool_changed.notify_waiters();
        self.drained.notify_waiters();
        transfer.end();
        Some(Ended {
            session: self.clone(),
            reason,
            unconfirmed,
            unconfirmed_carried: last.unconfirmed_carried,
            transfer,
            last,
            grants,
            outcomes,
        })
    }
}

impl Ended {
    /// Tells all who wait for something of the session: senders, callers, those who monitor, and the host. What was delivered
    /// comes before; what is still to be delivered does not come any more.
    pub(crate) fn tell(self) {
        let Self { session, reason, unconfirmed, transfer, last, grants, outcomes, .. } = self;
        let core = &session.core;
        if let Some(hosting) = &core.hosting {
            session.arrivals.hand_over_all(hosting);
            *session.up.lock() = false;
            hosting.host.session_ended(&Origin(session.clone()));
        }
        session.meter.publish_carried(&session.carried.so_far());
        session.meter.publish_not_allowed(&session.not_allowed());
        session.meter.end(&core.meter, &last, reason, unconfirmed);
        let peer = &session.peer;
        Grant::tell_all(grants.into_all(), &session, || {
            Err(SendError::NodeDown { peer: peer.clone(), reason })
        });
        for waiting in outcomes.into_values() {
            let _ = waiting.send(Err(DeliveryError::Unconfirmed { peer: peer.clone(), reason }));
        }
        session.drop_placed();
        core.watches.watching.session_down(&*session, reason);
        for subject in Via::There(session.clone()).end_all() {
            if let (Subject::Hosted(process, watch), Some(hosting)) = (subject, &core.hosting) {
                hosting.take(Inbound::Unwatched { process, watch });
            }
        }
        free(transfer.held_bytes(), transfer);
    }
}
