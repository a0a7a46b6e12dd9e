//! Where peers are: asked of the manager, which asks them over distributed Erlang.

use crate::atoms;
use rustler::{LocalPid, OwnedEnv};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport::{NodeName, Resolver, Resolving};
use tokio::sync::oneshot;

/// Questions that the manager has not answered. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Questions {
    asked: Arc<Mutex<Asked>>,
}

type Asked = HashMap<NodeName, Vec<oneshot::Sender<Vec<SocketAddr>>>>;

impl Questions {
    /// The manager's answer: to all who have asked.
    pub(crate) fn answer(&self, node: &NodeName, addresses: &[SocketAddr]) {
        let asked = self.lock().remove(node).unwrap_or_default();
        for question in asked {
            let _ = question.send(addresses.to_vec()); // it may have taken too long
        }
    }

    /// `true` for the first who asks.
    fn ask(&self, node: &NodeName) -> (bool, oneshot::Receiver<Vec<SocketAddr>>) {
        let (sender, answer) = oneshot::channel();
        let mut asked = self.lock();
        let waiting = asked.entry(node.clone()).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(sender);
        (waiting.len() == 1, answer)
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the manager, anew for each attempt: a peer that was restarted listens elsewhere.
pub(crate) struct AskManager {
    pub(crate) manager: LocalPid,
    pub(crate) questions: Questions,
}

impl Resolver for AskManager {
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a> {
        Box::pin(async {
            let (first, answer) = self.questions.ask(node);
            if first {
                let question = (atoms::teleport_resolve(), node.as_str());
                if OwnedEnv::new().send_and_clear(&self.manager, |_| question).is_err() {
                    return Vec::new();
                }
            }
            answer.await.unwrap_or_default()
        })
    }
}
