//! Servers in the manner of OTP's `gen_server`: a state, and callbacks for what comes to its process.

mod context;
mod envelope;
mod handle;
mod run;

pub use context::Context;
pub use handle::{ServerAddress, ServerRef};

use crate::api::call::Caller;
use crate::api::mailbox::{Mailbox, Message};
use crate::api::node::Node;
use crate::base::error::RegisterError;
use run::Life;
use serde::Serialize;
use serde::de::DeserializeOwned;
use teleport_etf::Term;
use tokio::runtime::Handle;

/// A server: a state that answers calls and takes casts, one after the other, as a process of its own.
///
/// Messages have the shapes of OTP's `gen_server`, so callers and servers may be written in Rust, Erlang or Elixir, and
/// need not know what the other is. [`Node::register_server`] and [`Node::spawn_server`] start one.
///
/// ```
/// use std::collections::HashMap;
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use teleport::{Atom, Binary, Caller, Node};
/// use teleport::gen_server::{Answer, Context, GenServer};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "snake_case")]
/// enum Request {
///     Get(String),         // {get, Key}
///     Put(String, Binary), // {put, Key, Value}
/// }
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "snake_case")]
/// enum Change {
///     Delete(String),
///     Clear,
/// }
///
/// #[derive(Default)]
/// struct Store(HashMap<String, Binary>);
///
/// impl GenServer for Store {
///     type Call = Request;
///     type Reply = Option<Binary>; // what there was before, or `undefined`
///     type Cast = Change;
///
///     async fn handle_call(&mut self, request: Request, _: &Caller, _: &mut Context) -> Answer<Option<Binary>> {
///         match request {
///             Request::Get(key) => self.0.get(&key).cloned().into(),
///             Request::Put(key, value) => self.0.insert(key, value).into(),
///         }
///     }
///
///     async fn handle_cast(&mut self, change: Change, _: &mut Context) {
///         match change {
///             Change::Delete(key) => drop(self.0.remove(&key)),
///             Change::Clear => self.0.clear(),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("shop@127.0.0.1").cookie("cEbLxqUGdSvV2N9x").start().await?;
/// let store = node.register_server("store", Store::default())?;
///
/// let (client, timeout) = (node.process(), Duration::from_secs(5));
/// store.call(&client, &Request::Put("apples".into(), Binary::from(b"red".to_vec())), timeout).await?;
/// let colour = store.call(&client, &Request::Get("apples".into()), timeout).await?;
/// assert_eq!(colour.as_deref(), Some(&b"red"[..]));
///
/// // From anywhere in the cluster, and without the server's types; in Erlang
/// // gen_server:call({store, 'shop@127.0.0.1'}, {get, <<"apples">>}).
/// let request = (Atom::from_static("get"), "apples");
/// let colour: Option<Binary> = client.call(("store", node.name()), &request, timeout).await?;
/// assert_eq!(colour.as_deref(), Some(&b"red"[..]));
/// assert_eq!(store.stop(Atom::from_static("normal")).await?.as_atom().unwrap(), "normal");
/// # Ok(()) }
/// ```
///
/// # What ends a server
///
/// | what | exit reason | [`terminate`](Self::terminate) |
/// |---|---|---|
/// | [`Context::stop`] in a callback | as given | called |
/// | [`Context::stop`] in [`init`](Self::init) | as given | not called |
/// | [`ServerRef::stop`], and OTP's `gen_server:stop` | as given | called |
/// | the node's [`shutdown`](Node::shutdown), after all that was in the mailbox | `shutdown` | called |
/// | a panic in a callback, in a type's own `Serialize` or `Deserialize`, or in the state's `Drop` | `{panic, Text}`, with the first 4 KiB of what it says as a binary | not called |
/// | a panic in `terminate` | the same | called |
/// | [`ServerRef::kill`], and the end of the runtime that it runs on | `killed` | not called |
///
/// Then its name is free, calls that it has not answered end with [`CallError::Exit`](crate::CallError::Exit) and the
/// reason, those who monitor it get it with DOWN, and [`ServerRef::wait`] returns it. The state has been dropped by then.
/// Nothing else is harmed by a panic. Other than in OTP, `terminate` is not called after one: the callback may have left
/// the state half changed, and there is no copy of the one before.
///
/// # What does not
///
/// A call that does not decode as [`Call`](Self::Call) is rejected: it ends with
/// [`CallError::Rejected`](crate::CallError::Rejected) and what is wrong with it. So is one whose reply is too large or has
/// no form in Erlang's terms. A cast that does not decode is dropped, with a warning (once a minute, with how many were
/// not told). A caller who has given up is nothing to the server; its reply is dropped.
pub trait GenServer: Send + Sized + 'static {
    /// What is asked.
    type Call: DeserializeOwned + Send;
    /// What is answered; one type for all requests, an enum or a [`Term`] if they differ.
    type Reply: Serialize + Send;
    /// What is told without an answer; `()` if there is nothing.
    type Cast: DeserializeOwned + Send;

    /// The first that the server does: in its own process, before any message. Does nothing by default.
    ///
    /// The caller that starts the server does not wait for it; calls made meanwhile do.
    fn init(&mut self, context: &mut Context) -> impl Future<Output = ()> + Send {
        let _ = context;
        async {}
    }

    /// Answers a call, at once or later: then a clone of the caller is kept, and answered with
    /// [`Process::reply`](crate::Process::reply) by the owner of the caller.
    fn handle_call(
        &mut self,
        request: Self::Call,
        caller: &Caller,
        context: &mut Context,
    ) -> impl Future<Output = Answer<Self::Reply>> + Send;

    /// Takes a cast. By default it is dropped, which is logged at debug level.
    fn handle_cast(&mut self, message: Self::Cast, context: &mut Context) -> impl Future<Output = ()> + Send {
        drop(message);
        tracing::debug!(node = %context.node().name(), server = %context.pid(), "a cast is not handled");
        async {}
    }

    /// Takes any other message: DOWN of the server's monitors, and what was sent to it plainly. By default it is dropped,
    /// which is logged at debug level.
    fn handle_info(&mut self, message: Message, context: &mut Context) -> impl Future<Output = ()> + Send {
        tracing::debug!(node = %context.node().name(), server = %context.pid(), ?message, "a message is not handled");
        async {}
    }

    /// Cleans up: the last that the server does, if it ends in order. Does nothing by default.
    ///
    /// An answer that was given together with [`Context::stop`] is sent after this.
    fn terminate(&mut self, reason: &Term, context: &mut Context) -> impl Future<Output = ()> + Send {
        let _ = (reason, context);
        async {}
    }
}

/// What [`GenServer::handle_call`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<R> {
    /// The reply. `value.into()` makes it, too.
    Reply(R),
    /// It comes later, by [`Process::reply`](crate::Process::reply), if at all: OTP's `noreply`.
    Later,
}

impl<R> From<R> for Answer<R> {
    fn from(reply: R) -> Self {
        Self::Reply(reply)
    }
}

impl Node {
    /// Starts a server without a name; see [`Mailbox::serve`].
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotRunning`] if the node has been shut down.
    pub fn spawn_server<S: GenServer>(&self, server: S) -> Result<ServerRef<S>, RegisterError> {
        Ok(self.mailbox()?.serve(server))
    }

    /// Starts a server under a name; see [`Mailbox::serve`].
    ///
    /// # Errors
    ///
    /// [`RegisterError`] if the name is taken or no name, or the node has been shut down.
    pub fn register_server<S: GenServer>(
        &self,
        name: &str,
        server: S,
    ) -> Result<ServerRef<S>, RegisterError> {
        Ok(self.register(name)?.serve(server))
    }
}

impl Mailbox {
    /// Becomes a server, which begins with the messages that are waiting.
    ///
    /// It runs on the tokio runtime that this is called on; if there is none, on the node's. Like a mailbox it keeps its node
    /// alive.
    pub fn serve<S: GenServer>(self, server: S) -> ServerRef<S> {
        let node = self.process().node().clone();
        let (pid, name) = (self.pid(), self.name().map(Into::into));
        let runtime = Handle::try_current().unwrap_or_else(|_| node.engine().core.handle.clone());
        let (life, ended) = Life::new(self);
        let task = runtime.spawn(run::run(life, server)).abort_handle();
        ServerRef::new(node.process(), pid, name, task, ended)
    }
}
