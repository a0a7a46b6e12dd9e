//! Connections that a host has been handed, and that have not proved themselves.

use tokio::sync::oneshot;

/// Counts a connection of distributed Erlang among the node's newcomers until it has [proved](Self::proved) itself, or this is
/// dropped. The node has room for so many newcomers, and drops those that are the likeliest not to belong to the cluster.
#[derive(Debug)]
pub struct Newcomer(oneshot::Sender<()>);

/// Tells of the proof.
pub(crate) type Proof = oneshot::Receiver<()>;

/// What closes a connection.
pub type Close = Box<dyn FnOnce() + Send>;

impl Newcomer {
    pub(crate) fn new() -> (Self, Proof) {
        let (sender, proof) = oneshot::channel();
        (Self(sender), proof)
    }

    /// The peer has proved that it belongs to the cluster.
    pub fn proved(self) {
        let _ = self.0.send(()); // the node may have ended
    }
}

/// Closes a connection when it is dropped, unless that is called off.
pub(crate) struct CloseOnDrop(Option<Close>);

impl CloseOnDrop {
    pub(crate) fn new(close: Option<Close>) -> Self {
        Self(close)
    }

    pub(crate) fn call_off(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(close) = self.0.take() {
            close();
        }
    }
}
