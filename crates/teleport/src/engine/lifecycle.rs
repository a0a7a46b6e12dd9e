//! Telling that sessions have begun and ended: one after the other, on a thread of its own, when no lock is held.
//!
//! The directory decides under its lock, and leaves here what is to be told, in that order. So the host, callers and
//! monitors may take as long as they like, and hold up nobody who decides or sends. A session is not read from before its
//! beginning has been told, and that is told behind the end of the one before it: nothing of a session comes to a process
//! ahead of the end of an earlier session with the same peer.

use super::{ADVICE, Engine};
use crate::base::seldom::{OfNode, Warnings, if_any, say_seldom};
use crate::engine::monitors::NodeEvent;
use crate::session::{Ended, Session};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use teleport_proto::NodeName;
use teleport_proto::membership::EndReason;
use tokio::sync::oneshot;

/// What is to be told, with the engine that it is of.
enum News {
    Up(Arc<Engine>, Arc<Session>),
    Down(Arc<Engine>, Box<Ended>),
    /// The node has stopped: mailboxes and monitors end.
    Stopped(Arc<Engine>, oneshot::Sender<()>),
}

/// The way to the thread, which ends when this is dropped and everything has been told.
#[derive(Debug)]
pub(crate) struct Lifecycle(Sender<News>);

impl Lifecycle {
    pub(crate) fn start(node: &NodeName) -> io::Result<Self> {
        let (news, told) = channel();
        thread::Builder::new().name(format!("life {}", node.name())).spawn(move || tell_all(&told))?;
        Ok(Self(news))
    }

    /// A session has begun.
    pub(super) fn up(&self, engine: &Arc<Engine>, session: &Arc<Session>) {
        self.send(News::Up(engine.clone(), session.clone()));
    }

    /// A session has ended.
    pub(super) fn down(&self, engine: &Arc<Engine>, ended: Ended) {
        self.send(News::Down(engine.clone(), Box::new(ended)));
    }

    /// Everything has ended. The result says when all of it has been told.
    pub(super) fn stopped(&self, engine: &Arc<Engine>) -> oneshot::Receiver<()> {
        let (told, all_told) = oneshot::channel();
        self.send(News::Stopped(engine.clone(), told));
        all_told
    }

    fn send(&self, news: News) {
        let _ = self.0.send(news); // the thread lasts as long as this
    }
}

fn tell_all(told: &Receiver<News>) {
    let warnings = Warnings::default();
    for news in told {
        // A host that panics must not keep all later sessions from beginning.
        if catch_unwind(AssertUnwindSafe(|| tell(news))).is_err() {
            // It may panic each time.
            if let Some(not_said) = warnings.of_node(OfNode::HostPanicked) {
                tracing::error!(
                    not_said = if_any(not_said.same),
                    "the host, or a monitor of nodes, panicked when it was told of a session"
                );
            }
        }
    }
}

/// Whether a session has ended that neither side wanted to end.
fn is_a_loss(reason: EndReason) -> bool {
    use EndReason::{Disconnected, PeerShutDown, Restarted};
    !matches!(reason, Disconnected | PeerShutDown | Restarted)
}

fn tell(news: News) {
    match news {
        News::Up(engine, session) => {
            tracing::info!(parent: &session.span, dialled = session.dialled, "session up");
            let (peer, incarnation) = (session.peer.clone(), session.peer_incarnation);
            engine.monitors.tell(&NodeEvent::Up { peer, incarnation });
            session.begin();
        }
        News::Down(engine, ended) => {
            let (session, reason, unconfirmed) = (ended.session.clone(), ended.reason, ended.unconfirmed);
            let untold = unconfirmed - ended.unconfirmed_carried;
            ended.tell();
            let span = &session.span;
            // Of messages that may be lost nobody else says anything, unless they were to be acknowledged, or are distributed Erlang's.
            match is_a_loss(reason) || untold > 0 {
                true => {
                    let noted = engine.core.warnings.of_loss(&session.peer);
                    say_seldom!(warn or info, noted, parent: span, %reason, unconfirmed, advice = ADVICE, "session down");
                }
                false => tracing::info!(parent: span, %reason, unconfirmed, "session down"),
            }
            let (peer, incarnation) = (session.peer.clone(), session.peer_incarnation);
            engine.monitors.tell(&NodeEvent::Down { peer, incarnation, reason, unconfirmed });
        }
        News::Stopped(engine, told) => {
            engine.core.registry.close();
            engine.monitors.close();
            let _ = told.send(()); // nobody may wait for it
        }
    }
}
