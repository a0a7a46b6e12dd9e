//! The server as its callbacks see it.

use crate::api::mailbox::Mailbox;
use crate::api::node::Node;
use crate::api::process::Process;
use crate::base::address::Address;
use crate::base::error::MonitorError;
use crate::base::seldom::Seldom;
use teleport_etf::{Pid, Reference, Term};

/// The process that a [`GenServer`](crate::gen_server::GenServer) runs as, lent to its callbacks.
#[derive(Debug)]
pub struct Context {
    pub(super) mailbox: Mailbox,
    process: Process,
    pub(super) stopping: Option<Term>,
    /// What the server could not do, by kind. Senders decide how often that happens, so it is logged seldom.
    pub(super) complaints: Seldom<Complaint>,
}

impl Context {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        let process = mailbox.process();
        Self { mailbox, process, stopping: None, complaints: Seldom::default() }
    }

    /// The server's pid.
    pub fn pid(&self) -> Pid {
        self.mailbox.pid()
    }

    /// The name it was registered under, if any.
    pub fn name(&self) -> Option<&str> {
        self.mailbox.name()
    }

    /// The node it runs on.
    pub fn node(&self) -> &Node {
        self.process.node()
    }

    /// A handle that sends, calls, casts and replies as the server; other tasks may use it, too, to answer a call later.
    ///
    /// While a callback waits, the server does nothing else. Above all it does not take messages out of its mailbox: a
    /// server that sends to itself, or to one that just then sends to it, waits for ever if that mailbox is full. Send
    /// from a task of its own, or with [`nosuspend`](crate::SendOptions::nosuspend).
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Watches another process: when it ends, [`handle_info`](crate::gen_server::GenServer::handle_info) gets a message that is
    /// [`down`](crate::Message::down); see [`Mailbox::monitor`].
    ///
    /// # Errors
    ///
    /// [`MonitorError`] as [`Mailbox::monitor`].
    pub async fn monitor(&self, to: impl Into<Address>) -> Result<Reference, MonitorError> {
        self.mailbox.monitor(to).await
    }

    /// Ends a monitor; no DOWN of it comes after this.
    pub fn demonitor(&mut self, monitor: &Reference) {
        self.mailbox.demonitor(monitor);
    }

    /// Ends the server once the present callback has returned, which may still answer. The last reason given counts.
    ///
    /// As in OTP `normal`, `shutdown` and `{shutdown, Term}` are the reasons of an end that is meant.
    pub fn stop(&mut self, reason: impl Into<Term>) {
        self.stopping = Some(reason.into());
    }
}

/// What a server could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Complaint {
    Reply,
    Cast,
}
