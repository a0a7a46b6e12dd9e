//! The last part of a session whose node shuts down: what it has accepted is seen through, and nothing more is accepted.

use super::Session;
use super::state::{Grant, State};
use crate::base::error::SendError;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Transfer;

/// Returns when everything that these sessions have accepted, or said to be sent, is delivered, or they have ended. They
/// accept nothing more then.
///
/// While one of them is waited for, a send that waits on another may get room. So they are sealed only when none of
/// them has anything under way; and one that got something at that very moment is waited for like before.
pub(crate) async fn drain(sessions: &[Arc<Session>]) {
    loop {
        while let Some(session) = sessions.iter().find(|session| !session.is(is_through)) {
            session.until(is_through).await;
        }
        if sessions.iter().all(|session| session.seal()) {
            break;
        }
    }
    for session in sessions {
        session.until(is_confirmed).await;
    }
}

/// Whether nothing with credit is under way, and nothing waits for it whose sender knows it to be sent.
fn is_through(state: &State) -> bool {
    state.grants.untold() == 0 && state.transfer.as_ref().is_none_or(|transfer| transfer.in_window() == 0)
}

fn is_confirmed(state: &State) -> bool {
    state.transfer.as_ref().is_none_or(|transfer| transfer.stats().unconfirmed == 0)
}

impl Session {
    /// Accepts nothing from now on, unless something is under way; sends that wait fail then. `false` if something is.
    fn seal(&self) -> bool {
        let failed = self.with(|state, after| {
            let sealed = is_through(state) && state.change(after, Transfer::seal) != Some(false);
            sealed.then(|| std::mem::take(&mut state.grants))
        });
        let Some(failed) = failed else { return false };
        Grant::tell_all(failed.into_all(), self, || {
            Err(SendError::NodeDown { peer: self.peer.clone(), reason: EndReason::Disconnected })
        });
        true
    }

    /// Returns when that holds; of a session that has ended it does.
    async fn until(&self, holds: fn(&State) -> bool) {
        loop {
            let changed = self.drained.notified();
            if self.is(holds) {
                return;
            }
            changed.await;
        }
    }

    fn is(&self, holds: fn(&State) -> bool) -> bool {
        holds(&self.lock())
    }
}
