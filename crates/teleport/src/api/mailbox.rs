//! Mailboxes: where messages wait for their process.

use crate::api::node::Node;
use crate::api::process::Process;
use crate::base::address::Address;
use crate::base::down::Down;
use crate::local::Monitored;
use crate::local::inbox::{Inbox, RunOrigin, Taken};
use crate::local::watch::reason;
use crate::{MonitorError, RegisterError, SendError};
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use teleport_etf::{DecodeError, Pid, Reference, Term};
use tokio::task::coop;

/// A process: a pid, perhaps a name, an inbox, and the sender of its own messages. Messages are taken out by
/// [`recv`](Self::recv), or from the stream that this is.
///
/// Bounded in bytes: each peer, and all local senders together, may have
/// [`mailbox_window`](crate::Config::mailbox_window) bytes waiting in it, and all peers together
/// [`mailbox_total`](field@crate::Config::mailbox_total); over that their sends wait. Dropping it ends
/// the process with the reason `normal`: its name is free, and what was waiting is gone, as in Erlang. A process that monitors
/// it gets DOWN, and calls that it has not answered fail.
#[must_use = "the process ends when its mailbox is dropped"]
pub struct Mailbox {
    process: Process,
    inbox: Arc<Inbox>,
    exit_reason: Term,
    /// Messages taken out of the inbox together, one lock for all, that the application has not got yet.
    run: Option<Taken>,
}

/// A message as it came: who sent it, and an encoded term.
#[derive(Clone)]
pub struct Message {
    from: Pid,
    body: Bytes,
}

impl Node {
    /// A new process under a name.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] and [`RegisterError::Length`] for the name, and [`RegisterError::NotRunning`].
    pub fn register(&self, name: &str) -> Result<Mailbox, RegisterError> {
        self.add(Some(name))
    }

    /// A new process without a name.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotRunning`] once the node has been shut down.
    pub fn mailbox(&self) -> Result<Mailbox, RegisterError> {
        self.add(None)
    }

    fn add(&self, name: Option<&str>) -> Result<Mailbox, RegisterError> {
        let config = &self.engine().core.config;
        let (window, total) = (config.mailbox_window.get(), config.mailbox_total());
        let make = |process, name| Inbox::new(process, name, window, total);
        let inbox = self.engine().core.registry.add(name, make)?;
        let process = Process::new(self.clone(), inbox.process);
        Ok(Mailbox { process, inbox, exit_reason: reason::normal(), run: None })
    }
}

impl Mailbox {
    /// The name it was registered under, if any.
    pub fn name(&self) -> Option<&str> {
        self.inbox.name.as_deref()
    }

    /// The process, which sends, calls and casts, also from other tasks. It is not kept alive by that.
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// The process's pid.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The node it runs on.
    pub fn node(&self) -> &Node {
        self.process.node()
    }

    /// Sends a message as this process; see [`Process::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Process::send`].
    pub async fn send<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<(), SendError> {
        self.process.send(to, message).await
    }

    /// Takes the next message out; waits for one. `None` once the node has been shut down and nothing is left.
    ///
    /// A dropped future has taken nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        // A mailbox that is never empty must not keep the thread from other tasks.
        let turn = ready!(coop::poll_proceed(context));
        let mut message = self.try_recv();
        if message.is_none() {
            self.inbox.wake_on_arrival(context.waker());
            let finished = self.inbox.is_finished();
            message = self.try_recv(); // it may have come just before
            if message.is_none() && !finished {
                return Poll::Pending;
            }
        }
        turn.made_progress();
        Poll::Ready(message)
    }

    /// Takes the next message out, if there is one.
    pub fn try_recv(&mut self) -> Option<Message> {
        if self.run.is_none() {
            self.run = self.inbox.next_run(None);
        }
        let run = self.run.as_mut()?;
        let (from, body) = run.next()?; // a run goes with its last message
        let from = match &run.origin {
            RunOrigin::Local { from, .. } => from.clone(),
            RunOrigin::Down(_) => self.process.pid(),
            RunOrigin::Remote { session, .. } => session.pid_of(from),
        };
        if run.len() == 0
            && let Some(Taken { origin, .. }) = self.run.take()
        {
            self.run = self.inbox.next_run(Some(&origin));
            origin.consumed();
        }
        Some(Message { from, body })
    }

    /// Watches another process: when it ends, a [`Down`] is received here, behind everything that it sent to this
    /// process's pid before.
    ///
    /// As in Erlang there is no error for a process that does not exist or cannot be reached: DOWN says `noproc` or
    /// `noconnection` then.
    ///
    /// # Errors
    ///
    /// [`MonitorError`] if no process can have that address, or the node has been shut down.
    pub async fn monitor(&self, to: impl Into<Address>) -> Result<Reference, MonitorError> {
        self.process.watch(to.into(), &self.inbox).await
    }

    /// Ends a monitor: no [`Down`] of it is received any more. One that is waiting is taken out of the mailbox.
    pub fn demonitor(&mut self, monitor: &Reference) {
        let node = self.process.node();
        let Some(id) = node.own_reference(monitor) else { return };
        if !node.engine().core.watches.watching.cancel_monitor(id, self.inbox.process) {
            self.inbox.remove_down(id);
            if self.run.as_ref().is_some_and(|run| run.origin.is_down(id)) {
                self.run = self.inbox.next_run(None);
            }
        }
    }

    /// Ends the process with a reason, for those who monitor it and for callers who wait for an answer. In place of one
    /// that is larger than a message may be, other nodes are told `too_large`.
    pub fn exit(mut self, reason: impl Into<Term>) {
        self.exit_reason = reason.into();
    }

    /// Gives the mailbox no bounds, as mailboxes in Erlang have none: nobody who sends to it waits for it to be read.
    ///
    /// For processes that must not be waited for, such as two that send to each other whatever the other does: with
    /// bounds, each may end up waiting for room at the other, for ever. Their memory is then up to you.
    pub fn unbounded(self) -> Self {
        self.inbox.lift_bounds();
        self
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.inbox.waiting() + self.run.as_ref().map_or(0, Taken::len)
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Stream for Mailbox {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_recv(context)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let registry = &self.process.node().engine().core.registry;
        registry.remove(self.inbox.process, self.inbox.name.as_deref());
        let (left, monitors) = self.inbox.close();
        for monitor in monitors {
            self.process.node().engine().core.watches.watching.cancel(monitor);
        }
        self.inbox.watchers().tell(self.inbox.process, &reason::encode(&self.exit_reason));
        if let Some(run) = self.run.take() {
            run.origin.consumed();
        }
        left.into_iter().for_each(RunOrigin::consumed);
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("pid", &self.pid()).field("name", &self.inbox.name).finish()
    }
}

impl Message {
    /// The process that sent it.
    pub fn from(&self) -> &Pid {
        &self.from
    }

    /// The message as a value of a type of your own.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the message is of another type, or over the limits of decoding.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        teleport_etf::from_bytes(&self.body)
    }

    /// What it says if it is the DOWN of a monitor.
    pub fn down(&self) -> Option<Down> {
        Down::decode(&self.body)
    }

    /// The encoded term.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the payload: it may be large, or secret.
        f.debug_struct("Message").field("from", &self.from).field("bytes", &self.body.len()).finish()
    }
}
