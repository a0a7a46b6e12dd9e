//! The last part of a session whose node shuts down: what it has accepted is seen through, and nothing more is accepted.

use super::Session;
use super::state::Grant;
use crate::base::error::SendError;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Transfer;

/// Returns when everything that these sessions have accepted is delivered, or they have ended. They accept nothing more
/// then.
///
/// While one of them is waited for, a send that waits on another may get room. So they are sealed only when none of
/// them has anything under way; and one that got something at that very moment is waited for like before.
pub(crate) async fn drain(sessions: &[Arc<Session>]) {
    let is_through = |transfer: &Transfer| transfer.in_window() == 0;
    loop {
        while let Some(session) = sessions.iter().find(|session| !session.is(is_through)) {
            session.until(is_through).await;
        }
        if sessions.iter().all(|session| session.seal()) {
            break;
        }
    }
    for session in sessions {
        session.until(|transfer| transfer.stats().unconfirmed == 0).await;
    }
}

impl Session {
    /// Accepts nothing from now on, unless something is under way; sends that wait fail then. `false` if something is.
    fn seal(&self) -> bool {
        let failed: Option<Vec<_>> = self.with(|state, after| match state.change(after, Transfer::seal) {
            None => Some(Vec::new()), // it has ended
            Some(sealed) => {
                let failed: Vec<_> =
                    sealed?.iter().filter_map(|ticket| state.grants.remove(ticket)).collect();
                state.given_up += Grant::untold(failed.iter());
                Some(failed)
            }
        });
        let Some(failed) = failed else { return false };
        Grant::tell_all(failed, self, || {
            Err(SendError::NodeDown { peer: self.peer.clone(), reason: EndReason::Disconnected })
        });
        true
    }

    /// Returns when that holds, or the session has ended.
    async fn until(&self, holds: impl Fn(&Transfer) -> bool) {
        loop {
            let changed = self.drained.notified();
            if self.is(&holds) {
                return;
            }
            changed.await;
        }
    }

    /// Whether that holds, or the session has ended.
    fn is(&self, holds: impl Fn(&Transfer) -> bool) -> bool {
        self.lock().transfer.as_ref().is_none_or(holds)
    }
}
