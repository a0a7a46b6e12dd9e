//! Tells a host what became of an acknowledged message.

use crate::{Acknowledgement, DeliveryError, EndReason, NodeName};

/// Tells once: what became of the message, or when it is dropped, since the node has stopped, that nothing is known.
pub(super) struct Told<F: FnOnce(Result<(), DeliveryError>)> {
    told: Option<F>,
    peer: NodeName,
}

impl<F: FnOnce(Result<(), DeliveryError>)> Told<F> {
    /// Of a message to that peer which was accepted.
    pub(super) fn new(told: F, peer: NodeName) -> Self {
        Self { told: Some(told), peer }
    }

    pub(super) async fn when_it_comes(mut self, answer: Acknowledgement) {
        let result = answer.await;
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), DeliveryError>) {
        if let Some(told) = self.told.take() {
            told(result);
        }
    }
}

impl<F: FnOnce(Result<(), DeliveryError>)> Drop for Told<F> {
    fn drop(&mut self) {
        let (peer, reason) = (self.peer.clone(), EndReason::Disconnected);
        self.tell(Err(DeliveryError::Unconfirmed { peer, reason }));
    }
}
