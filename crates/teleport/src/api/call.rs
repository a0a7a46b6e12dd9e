//! Calls: requests that are answered, in the shapes of OTP's `gen_server`.

use crate::api::mailbox::Message;
use crate::api::node::Node;
use crate::api::process::{Process, Route};
use crate::api::send_options::SendOptions;
use crate::base::address::{Address, Recipient};
use crate::base::encoding::encode;
use crate::base::error::{CallError, ReplyError, SendError};
use crate::local::watch::{End, HERE, Path, Purpose, Subject, Via, Waiter};
use crate::local::{Peer, Unsent};
use crate::session::{Offered, Patience, Session};
use futures_util::future::{FutureExt, join_all};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use teleport_etf::{Atom, Pid, RawTerm, Reference, Segments, Term};
use teleport_proto::NodeName;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;

pub(crate) const CALL: Atom = Atom::from_static("$gen_call");
pub(crate) const CAST: Atom = Atom::from_static("$gen_cast");
const ALIAS: &str = "alias";

/// Who waits for an answer, and under which tag: the `From` of OTP's `{'$gen_call', From, Request}`.
///
/// A value like any other: it can be kept, cloned, compared, and sent to another process, also on another node, which then
/// answers in its place with [`Process::reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Caller(Pid, Term);

impl Caller {
    fn new(pid: Pid, reference: Reference) -> Self {
        Self(pid, Term::improper_list([Term::atom(ALIAS)], reference.into()))
    }

    /// The process that called.
    pub fn pid(&self) -> &Pid {
        &self.0
    }

    /// What the answer goes to, for the tags `[alias|Ref]` and `[[alias|Ref]|_]`; `gen:reply/2` decides so too. Nodes in Erlang put a
    /// secret behind their references: `[[alias|Ref], Secret|_]`.
    fn alias(&self) -> Option<RefId> {
        let alias = |elements: &[Term], tail: &Term| match elements {
            [Term::Atom(atom)] if atom.as_str() == ALIAS => RefId::new(tail.as_reference()?.words()),
            _ => None,
        };
        let elements = match &self.1 {
            Term::ImproperList(tag) => match alias(tag.elements(), tag.tail()) {
                None => tag.elements(),
                found => return found,
            },
            tag => tag.as_list()?,
        };
        let (Term::ImproperList(first), rest) = elements.split_first()? else { return None };
        let reference = alias(first.elements(), first.tail())?;
        let secret = rest.first().and_then(Term::as_i64).and_then(|secret| u64::try_from(secret).ok());
        secret.map_or(Some(reference), |secret| reference.sealed(secret))
    }
}

/// A request that has been sent: a future of its answer. Dropping it gives the answer up: one that still comes is dropped
/// and counted.
///
/// The answer need not be awaited at once, and [`tokio::time::timeout`] on `&mut response` waits for a while without giving
/// it up, like `gen_server:wait_response/2`.
#[must_use = "the answer is given up when this is dropped"]
pub struct Response<R> {
    waiting: PendingCall,
    reply: PhantomData<fn() -> R>,
}

/// A call in the node's table; dropping it takes the call back.
struct PendingCall {
    node: Node,
    reference: RefId,
    answer: oneshot::Receiver<End>,
    /// For the error.
    peer: NodeName,
    /// The other side knows of it.
    asked: bool,
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        let watching = &self.node.engine().core.watches.watching;
        self.answer.close();
        if let Ok(End::Reply(_)) = self.answer.try_recv() {
            watching.count_late();
        }
        if self.asked {
            watching.cancel(self.reference);
        } else {
            watching.withdraw(self.reference);
        }
    }
}

impl<R: DeserializeOwned> Future for Response<R> {
    type Output = Result<R, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let end = ready!(Pin::new(&mut self.waiting.answer).poll(context));
        Poll::Ready(match end {
            Ok(End::Reply(reply)) => teleport_etf::from_bytes(&reply).map_err(CallError::Reply),
            Ok(End::Down(reason)) => Err(CallError::from_reason(&reason)),
            Ok(End::Rejected(why)) => Err(CallError::from_rejection(&why)),
            Ok(End::NodeDown(reason)) => Err(CallError::NodeDown { peer: self.waiting.peer.clone(), reason }),
            // The table is gone with the node.
            Err(_) => Err(SendError::NotRunning.into()),
        })
    }
}

impl<R> fmt::Debug for Response<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Response").field(&self.waiting.reference).finish()
    }
}

/// What came of a [`multi_call`](Process::multi_call).
#[derive(Debug)]
#[non_exhaustive]
pub struct MultiCall<R> {
    /// Who answered, and what.
    pub replies: Vec<(NodeName, R)>,
    /// Who did not, and why: OTP's bad nodes.
    pub failures: Vec<(NodeName, CallError)>,
}

impl Process {
    /// Calls a server and waits for its answer, like `gen_server:call/3`.
    ///
    /// The server gets `{'$gen_call', From, Request}`, whatever it is written in. The call ends exactly once: with the
    /// reply, or with an error that says why there is none. After a timeout a reply may still come; it is dropped, and
    /// never gets into a mailbox.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use teleport::{CallError, Node};
    /// # let node = Node::builder("shop@127.0.0.1").cookie("cEbLxqUGdSvV2N9x").start().await?;
    /// let price: Result<u64, CallError> = node.process().call("prices", &"apples", Duration::from_secs(5)).await;
    /// assert!(matches!(price, Err(CallError::NoProcess)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError`]: why there is no reply.
    pub async fn call<Q: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        to: impl Into<Address>,
        request: &Q,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let call = async { self.send_request(to, request).await?.await };
        let timers = &self.node().engine().core.timers;
        timers.timeout(timeout, call).await.unwrap_or(Err(CallError::Timeout(timeout)))
    }

    /// Sends a request, and leaves it to the caller when to wait for the answer; like `gen_server:send_request/2`.
    ///
    /// Returns when the request is accepted, as [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// [`CallError`]: the request was not sent, and there is no [`Response`].
    pub async fn send_request<Q: Serialize + ?Sized, R>(
        &self,
        to: impl Into<Address>,
        request: &Q,
    ) -> Result<Response<R>, CallError> {
        let route = self.turn().await.route(to.into()).map_err(SendError::from)?;
        let (engine, node) = (self.node().engine(), self.node());
        let (session, to, peer) = match route {
            Route::Here(to) => (None, to, node.name().clone()),
            Route::There(Recipient { peer, incarnation, to }) => {
                let session = self.session(&peer, SendOptions::default()).await?;
                if session.is_stale(incarnation) {
                    return Err(CallError::NoProcess);
                }
                (Some(session), to, peer)
            }
        };
        let via = match &session {
            None => Via::Here(engine.core.watches.clone()),
            Some(session) => Via::There(session.clone()),
        };
        let reference = engine.core.watches.watching.make_reference();
        let caller = Caller::new(self.pid(), node.reference_of(reference));
        let body = encode(&(CALL, caller, request)).map_err(SendError::from)?;
        let (caller, answer) = oneshot::channel();
        let path = Path { via: via.clone(), from: self.id(), to: to.clone() };
        engine.core.watches.watching.begin(reference, path, Waiter::Call(caller));
        let mut waiting = PendingCall { node: node.clone(), reference, answer, peer, asked: false };
        match session {
            None => self.ask_here(&via, &mut waiting, to, body).await?,
            Some(session) => self.ask_there(&session, &mut waiting, to, body).await?,
        }
        Ok(Response { waiting, reply: PhantomData })
    }

    /// Sends a cast: a request without an answer, like `gen_server:cast/2`.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub async fn cast<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<(), SendError> {
        self.send(to, &(CAST, message)).await
    }

    /// Sends a cast to the servers of one name on several nodes, like `gen_server:abcast/3`. Returns when each of them is
    /// accepted or known not to be; the errors say which.
    ///
    /// # Errors
    ///
    /// [`EncodeError`](teleport_etf::EncodeError) if the message has no form in the external term format: nothing was sent.
    pub async fn abcast<M: Serialize + ?Sized>(
        &self,
        nodes: impl IntoIterator<Item = NodeName>,
        name: &str,
        message: &M,
    ) -> Result<Vec<(NodeName, SendError)>, teleport_etf::EncodeError> {
        let body = encode(&(CAST, message))?;
        let casts = nodes.into_iter().map(|node| {
            let body = body.clone();
            async {
                let sent = self.send_encoded((name, &node), body, SendOptions::default()).await;
                sent.err().map(|error| (node, error))
            }
        });
        Ok(join_all(casts).await.into_iter().flatten().collect())
    }

    /// Calls the servers of one name on several nodes at the same time, like `gen_server:multi_call/4`.
    pub async fn multi_call<Q: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        nodes: impl IntoIterator<Item = NodeName>,
        name: &str,
        request: &Q,
        timeout: Duration,
    ) -> MultiCall<R> {
        let calls = nodes.into_iter().map(|node| async {
            let result = self.call((name, &node), request, timeout).await;
            (node, result)
        });
        let mut all = MultiCall { replies: Vec::new(), failures: Vec::new() };
        for (node, result) in join_all(calls).await {
            match result {
                Ok(reply) => all.replies.push((node, reply)),
                Err(error) => all.failures.push((node, error)),
            }
        }
        all
    }

    /// Answers a call, like `gen_server:reply/2`. Any process may, once; later answers are dropped.
    ///
    /// Never waits: an answer needs no credit. If it cannot be sent because it is too large or has no form, the caller is
    /// told so, and the answering side has an error. A caller that is gone is no error.
    ///
    /// # Errors
    ///
    /// [`ReplyError`]: the answer was not sent.
    pub fn reply<R: Serialize + ?Sized>(&self, to: &Caller, reply: &R) -> Result<(), ReplyError> {
        let Some(alias) = to.alias() else { return self.reply_plainly(to, reply) };
        let body = encode(reply).map_err(ReplyError::from);
        let sent = body.and_then(|body| self.answer(to.pid(), alias, Kind::Reply, body));
        sent.inspect_err(|error| self.reject(to, &error.to_string()))
    }

    /// Tells a caller that its request is not going to be answered: the call ends with [`CallError::Rejected`].
    pub fn reject(&self, to: &Caller, why: &str) {
        if let Some(alias) = to.alias() {
            let body = encode(why).map_err(ReplyError::from);
            let told = body.and_then(|body| self.answer(to.pid(), alias, Kind::Reject, body));
            told.unwrap_or_else(|error| tracing::debug!(%error, "a rejection was not sent"));
        }
    }

    /// To a tag of another kind the answer is a message like any other.
    fn reply_plainly<R: Serialize + ?Sized>(&self, to: &Caller, reply: &R) -> Result<(), ReplyError> {
        let message = encode(&(&to.1, reply))?;
        let (process, pid, len) = (self.clone(), to.pid().clone(), message.len() as u64);
        let mut sending = Box::pin(unconstrained(async move {
            let sent = process.send_encoded(pid, message, SendOptions::default()).await;
            sent.inspect_err(|error| tracing::debug!(%error, "an answer was not sent"))
        }));
        // It takes its place before what the process sends next, even if it has to wait there for room. Only for that, so
        // not for its turn on the thread.
        if (&mut sending).now_or_never().is_none() {
            let room = self.node().engine().strays.hold(&NodeName::new(to.pid().node.as_str())?, len)?;
            self.node().engine().core.handle.spawn(async move {
                let _sent = sending.await;
                drop(room);
            });
        }
        Ok(())
    }

    async fn ask_here(
        &self,
        via: &Via,
        waiting: &mut PendingCall,
        to: Destination,
        body: Segments,
    ) -> Result<(), CallError> {
        let inbox = self.inbox_for(&to, &body)?;
        if inbox.process == self.id() {
            return Err(CallError::CallingSelf);
        }
        via.begin(Purpose::Call, waiting.reference, self.id(), Subject::Inbox(inbox.clone()))
            .map_err(|_| CallError::NoProcess)?;
        waiting.asked = true; // from now on there is something to take back
        Ok(inbox.put_local(self.pid(), body.into_contiguous(), true).await?)
    }

    async fn ask_there(
        &self,
        session: &Arc<Session>,
        waiting: &mut PendingCall,
        to: Destination,
        body: Segments,
    ) -> Result<(), CallError> {
        let offered =
            session.send(Outgoing::of_kind(Kind::Request(waiting.reference), self.id(), to, body))?;
        // If it waits and is taken back, so that nobody was asked, taking the watch back is harmless.
        waiting.asked = true;
        match offered {
            Offered::Accepted => Ok(()),
            Offered::Waiting(pending) => Ok(pending.accepted(&Patience::ENDLESS).await?),
        }
    }

    /// Sends what ends a call to where the call came from.
    fn answer(
        &self,
        caller: &Pid,
        reference: RefId,
        kind: fn(RefId) -> Kind,
        body: Segments,
    ) -> Result<(), ReplyError> {
        let engine = self.node().engine();
        if self.node().is_own(caller) {
            let (size, limit) = (body.len() as u64, engine.core.config.max_message.get());
            if size > limit {
                return Err(ReplyError::TooLarge { size, limit });
            }
            if Via::Here(engine.core.watches.clone()).end_call(reference).is_err() {
                return Ok(());
            }
            let body = body.into_contiguous();
            let end = match kind(reference) {
                Kind::Reply(_) => End::Reply(body),
                _ => End::Rejected(body),
            };
            let answer = engine.core.watches.watching.end(reference, end, HERE);
            if let Some(answer) = answer {
                answer.give(&engine.core.watches.watching);
            }
            return Ok(());
        }
        let peer = NodeName::new(caller.node.as_str())?;
        let to = ProcessId { id: caller.id, serial: caller.serial };
        if let Some(session) = engine.peers.session(&peer) {
            return answer_over(&session, self.id(), caller, to, kind(reference), body);
        }
        // It was handed on by a node of which this one is not a peer yet, or nobody waits any more.
        let room = engine.strays.hold(&peer, body.len() as u64)?;
        let (engine, from, caller) = (engine.clone(), self.id(), caller.clone());
        engine.clone().core.handle.spawn(async move {
            let not_sent = |error: &dyn fmt::Display| tracing::debug!(%error, "an answer was not sent");
            match engine.session(&peer).await {
                Ok(session) => {
                    let answer = |kind, body| answer_over(&session, from, &caller, to, kind, body);
                    if let Err(error) = answer(kind(reference), body) {
                        let _ = encode(&error.to_string()).map(|why| answer(Kind::Reject(reference), why));
                        not_sent(&error);
                    }
                }
                Err(error) => not_sent(&error),
            }
            drop(room);
        });
        Ok(())
    }
}

fn answer_over(
    session: &Arc<Session>,
    from: ProcessId,
    caller: &Pid,
    to: ProcessId,
    kind: Kind,
    body: Segments,
) -> Result<(), ReplyError> {
    if session.is_stale(Some(caller.creation)) {
        return Ok(());
    }
    if body.len() as u64 > session.max_message {
        return Err(ReplyError::TooLarge { size: body.len() as u64, limit: session.max_message });
    }
    let ended = kind.reference().map(|reference| Via::There(session.clone()).end_call(reference));
    if matches!(ended, Some(Err(_))) {
        return Ok(());
    }
    let sent = session.send_exempt(Outgoing::of_kind(kind, from, Destination::Process(to), body));
    sent.or_else(Unsent::of_reply)
}

impl Message {
    /// Who calls and what is asked, if the message is a call: `{'$gen_call', From, Request}`.
    pub fn call(&self) -> Option<(Caller, RawTerm)> {
        let (kind, caller, request): (Atom, Caller, RawTerm) = self.decode().ok()?;
        (kind == CALL).then_some((caller, request))
    }

    /// What is said, if the message is a cast: `{'$gen_cast', Message}`.
    pub fn cast(&self) -> Option<RawTerm> {
        let (kind, message): (Atom, RawTerm) = self.decode().ok()?;
        (kind == CAST).then_some(message)
    }
}
