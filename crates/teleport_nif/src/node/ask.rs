//! The engine asks: for addresses and cookies, by messages to the process that answers.

use crate::atoms;
use crate::node::questions::{Asked, Open, Question, Questions};
use rustler::{LocalPid, OwnedEnv};
use teleport::{Asking, CallingBack, Cookies, NodeName, Resolver, Resolving};

/// Asks, anew each time: a peer that was restarted listens elsewhere, and a cookie may have been changed.
#[derive(Clone)]
pub(crate) struct Ask {
    /// The process that answers.
    pub(crate) answers: LocalPid,
    pub(crate) questions: Questions,
}

impl Ask {
    /// `None` if there is nobody to answer.
    async fn ask<T: Clone>(
        &self,
        what: Question,
        peer: &NodeName,
        open: impl FnOnce(&mut Asked) -> &mut Open<T>,
    ) -> Option<T> {
        let (answer, tell) = self.questions.ask(what, peer, open);
        if tell && OwnedEnv::new().send_and_clear(&self.answers, |_| atoms::teleport_questions()).is_err() {
            self.questions.not_told();
            return None;
        }
        answer.await.ok()
    }
}

impl Resolver for Ask {
    fn resolve<'a>(&'a self, peer: &'a NodeName) -> Resolving<'a> {
        Box::pin(async {
            let asked = self.ask(Question::Addresses, peer, |asked| &mut asked.addresses);
            asked.await.unwrap_or_default()
        })
    }

    fn call_back<'a>(&'a self, peer: &'a NodeName) -> CallingBack<'a> {
        Box::pin(async {
            self.ask(Question::CallBack, peer, |asked| &mut asked.calls).await.unwrap_or(false)
        })
    }
}

impl Cookies for Ask {
    fn cookie<'a>(&'a self, peer: &'a NodeName) -> Asking<'a> {
        Box::pin(self.ask(Question::Cookie, peer, |asked| &mut asked.cookies))
    }
}
