//! Handles of servers: calls and casts by type.

use super::GenServer;
use crate::api::call::Response;
use crate::api::process::Process;
use crate::base::address::Address;
use crate::base::error::{CallError, SendError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use teleport_etf::{Atom, EncodeError, Pid, RawTerm, Term, from_bytes, to_segments};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The address of a server, on whichever node, with the types that it understands.
///
/// ```no_run
/// # use std::time::Duration;
/// # use teleport::{Caller, NodeName, Process};
/// # use teleport::gen_server::{Answer, Context, GenServer, ServerAddress};
/// # struct Counter;
/// # impl GenServer for Counter {
/// #     type Call = u64; type Reply = u64; type Cast = ();
/// #     async fn handle_call(&mut self, by: u64, _: &Caller, _: &mut Context) -> Answer<u64> { by.into() }
/// # }
/// # async fn example(client: Process) -> Result<(), Box<dyn std::error::Error>> {
/// let counter = ServerAddress::<Counter>::new(("counter", "shop@10.0.0.7".parse::<NodeName>()?));
/// let count: u64 = counter.call(&client, &1, Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
pub struct ServerAddress<S> {
    address: Address,
    server: PhantomData<fn() -> S>,
}

impl<S: GenServer> ServerAddress<S> {
    /// The server at that address. That it is one of this type nobody checks: if it is not, calls are rejected, or have
    /// replies that do not decode.
    pub fn new(address: impl Into<Address>) -> Self {
        Self { address: address.into(), server: PhantomData }
    }

    /// The address, for what knows no types.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Calls the server and waits for its answer; see [`Process::call`].
    ///
    /// # Errors
    ///
    /// [`CallError`] as [`Process::call`].
    pub async fn call(
        &self,
        from: &Process,
        request: &S::Call,
        timeout: Duration,
    ) -> Result<S::Reply, CallError>
    where
        S::Call: Serialize,
        S::Reply: DeserializeOwned,
    {
        from.call(&self.address, request, timeout).await
    }

    /// Calls the server, and waits for its answer later; see [`Process::send_request`].
    ///
    /// # Errors
    ///
    /// [`CallError`] as [`Process::send_request`].
    pub async fn send_request(
        &self,
        from: &Process,
        request: &S::Call,
    ) -> Result<Response<S::Reply>, CallError>
    where
        S::Call: Serialize,
    {
        from.send_request(&self.address, request).await
    }

    /// Sends the server a cast; see [`Process::cast`].
    ///
    /// # Errors
    ///
    /// [`SendError`] as [`Process::cast`].
    pub async fn cast(&self, from: &Process, message: &S::Cast) -> Result<(), SendError>
    where
        S::Cast: Serialize,
    {
        from.cast(&self.address, message).await
    }
}

/// A server on this node, from outside. Cheap to clone. The server goes on without it; like a [`Process`] it is a handle that
/// keeps the node running.
pub struct ServerRef<S> {
    address: ServerAddress<S>,
    /// Of the node itself.
    process: Process,
    pid: Pid,
    name: Option<Arc<str>>,
    task: AbortHandle,
    ended: watch::Receiver<Option<Term>>,
}

impl<S: GenServer> ServerRef<S> {
    pub(super) fn new(
        process: Process,
        pid: Pid,
        name: Option<Arc<str>>,
        task: AbortHandle,
        ended: watch::Receiver<Option<Term>>,
    ) -> Self {
        Self { address: ServerAddress::new(&pid), process, pid, name, task, ended }
    }

    /// The server's pid.
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// The name it was registered under, if any.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its address, by pid.
    pub fn address(&self) -> &ServerAddress<S> {
        &self.address
    }

    /// Calls the server and waits for its answer; see [`Process::call`].
    ///
    /// # Errors
    ///
    /// [`CallError`] as [`Process::call`].
    pub async fn call(
        &self,
        from: &Process,
        request: &S::Call,
        timeout: Duration,
    ) -> Result<S::Reply, CallError>
    where
        S::Call: Serialize,
        S::Reply: DeserializeOwned,
    {
        self.address.call(from, request, timeout).await
    }

    /// Calls the server, and waits for its answer later; see [`Process::send_request`].
    ///
    /// # Errors
    ///
    /// [`CallError`] as [`Process::send_request`].
    pub async fn send_request(
        &self,
        from: &Process,
        request: &S::Call,
    ) -> Result<Response<S::Reply>, CallError>
    where
        S::Call: Serialize,
    {
        self.address.send_request(from, request).await
    }

    /// Sends the server a cast; see [`Process::cast`].
    ///
    /// # Errors
    ///
    /// [`SendError`] as [`Process::cast`].
    pub async fn cast(&self, from: &Process, message: &S::Cast) -> Result<(), SendError>
    where
        S::Cast: Serialize,
    {
        self.address.cast(from, message).await
    }

    /// Ends the server, after what is in its mailbox by now, and waits for the end; like `gen_server:stop/3`.
    ///
    /// Returns the exit reason, which is another one if the server ended otherwise meanwhile. An error says that the
    /// reason cannot be sent, or that the server could not decode it, and that the server goes on.
    ///
    /// A server that did this to itself would wait for ever: use [`Context::stop`](super::Context::stop) there.
    ///
    /// # Errors
    ///
    /// [`SendError`] if the reason cannot be sent; the server goes on.
    pub async fn stop(&self, reason: impl Into<Term>) -> Result<Term, SendError> {
        // The answer is not waited for: the exit reason says more.
        let from = (self.process.pid(), Atom::from_static("stop"));
        let terminate =
            RawTerm::new(&(Atom::from_static("terminate"), reason.into())).map_err(SendError::Encode)?;
        let message = (Atom::from_static("system"), from, &terminate);
        // The server would go on without a word.
        let encoded = to_segments(&message).map_err(SendError::Encode)?.into_contiguous();
        let decoded = from_bytes::<(Atom, (Pid, Atom), RawTerm)>(&encoded)
            .and_then(|(_, _, terminate)| terminate.decode::<(Atom, Term)>());
        if let Err(error) = decoded {
            let why = format!("the server cannot decode the reason: {error}");
            return Err(SendError::Encode(EncodeError::Custom(why)));
        }
        match self.process.send(&self.pid, &message).await {
            // It ends with the node.
            Ok(()) | Err(SendError::NotRunning) => Ok(self.wait().await),
            Err(error) => Err(error),
        }
    }

    /// Ends the server, without [`terminate`](GenServer::terminate), as soon as its present callback waits for something;
    /// like `exit(Pid, kill)`.
    pub fn kill(&self) {
        self.task.abort();
    }

    /// Waits for the server's end, and returns its exit reason.
    pub async fn wait(&self) -> Term {
        let mut ended = self.ended.clone();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        // Its process never ends without a reason.
        reason.unwrap_or_else(|| Term::atom("killed"))
    }
}

impl<S> From<&ServerAddress<S>> for Address {
    fn from(server: &ServerAddress<S>) -> Self {
        server.address.clone()
    }
}

impl<S> From<&ServerRef<S>> for Address {
    fn from(server: &ServerRef<S>) -> Self {
        server.address.address.clone()
    }
}

impl<S> Clone for ServerAddress<S> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), server: PhantomData }
    }
}

impl<S> Clone for ServerRef<S> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            process: self.process.clone(),
            pid: self.pid.clone(),
            name: self.name.clone(),
            task: self.task.clone(),
            ended: self.ended.clone(),
        }
    }
}

impl<S> fmt::Debug for ServerAddress<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerAddress").field(&format_args!("{}", self.address)).finish()
    }
}

impl<S> fmt::Debug for ServerRef<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRef").field("pid", &self.pid).field("name", &self.name).finish()
    }
}
