//! A thread for messages that take long to build, so that the node's own threads do not wait for it.
//!
//! Order is kept by the receipts: what has to come behind a large message comes when its receipt is dropped.

use crate::host;
use crate::running::Running;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use teleport::embed::Inbound;

pub(crate) struct Large(Sender<Inbound>);

impl Large {
    /// The thread ends when this is dropped.
    pub(crate) fn start(running: Arc<Running>) -> std::io::Result<Self> {
        let (sender, inbox) = channel();
        let builder = std::thread::Builder::new().name(format!("terms {}", running.identity.node.as_str()));
        builder.spawn(move || inbox.into_iter().for_each(|inbound| host::deliver(&running, inbound)))?;
        Ok(Self(sender))
    }

    pub(crate) fn take(&self, inbound: Inbound) {
        let _ = self.0.send(inbound); // the thread lives as long as this
    }
}
