//! Whoever is to be told what became of an acknowledged message.

use crate::session::Confirmation;
use crate::{EndReason, NodeName, SendError};

/// What becomes of an acknowledged message.
pub(super) enum Answer {
    Now(Result<(), SendError>),
    Later(Confirmation),
}

/// Tells once: what became of the message, or when it is dropped, since the node has stopped, that nothing is known.
pub(super) struct Told<F: FnOnce(Result<(), SendError>)> {
    told: Option<F>,
    peer: NodeName,
}

impl<F: FnOnce(Result<(), SendError>)> Told<F> {
    /// Of a message to that peer which was accepted.
    pub(super) fn new(told: F, peer: NodeName) -> Self {
        Self { told: Some(told), peer }
    }

    pub(super) async fn when_it_comes(mut self, answer: Answer) {
        let result = match answer {
            Answer::Now(result) => Ok(result),
            Answer::Later(confirmation) => confirmation.await,
        };
        if let Ok(result) = result {
            self.tell(result);
        }
    }

    fn tell(&mut self, result: Result<(), SendError>) {
        if let Some(told) = self.told.take() {
            told(result);
        }
    }
}

impl<F: FnOnce(Result<(), SendError>)> Drop for Told<F> {
    fn drop(&mut self) {
        let (peer, reason) = (self.peer.clone(), EndReason::Disconnected);
        self.tell(Err(SendError::Unconfirmed { peer, reason }));
    }
}
