//! Processes that are there to be monitored: they send some notes when they are told to, and end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use teleport::{Atom, Caller, Mailbox, Pid, Term};

use super::book::Book;

/// What a target is told: how many notes to send to its watcher, and to end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Die {
    pub(super) notes: u64,
}

/// What it sends: its pid, and a number from 1.
pub(super) type Note = (Pid, u64);

/// A process for that watcher; its pid is the reply.
pub(super) fn start(book: &Arc<Book>, caller: &Caller, watcher: Pid) {
    // The caller is told when the node ends.
    let Ok(mailbox) = book.node.mailbox() else { return };
    // If it cannot be sent nobody gets the pid, and the watcher's DOWN is still to come.
    drop(mailbox.process().reply(caller, &mailbox.pid()));
    tokio::spawn(live(mailbox, watcher));
}

/// The reason with which a process ends: it has how many of its notes were accepted.
pub(super) fn reason(notes: u64) -> Term {
    Term::tuple([Atom::from_static("soak").into(), notes.into()])
}

/// Until it is told to end, or its watcher is no more: it watches that in turn.
async fn live(mut mailbox: Mailbox, watcher: Pid) {
    if mailbox.monitor(&watcher).await.is_err() {
        return;
    }
    while let Some(message) = mailbox.recv().await {
        if message.down().is_some() {
            return;
        }
        let Ok(Die { notes }) = message.decode() else { continue };
        let mut accepted = 0;
        while accepted < notes && mailbox.send(&watcher, &(mailbox.pid(), accepted + 1)).await.is_ok() {
            accepted += 1;
        }
        mailbox.exit(reason(accepted));
        return;
    }
}
