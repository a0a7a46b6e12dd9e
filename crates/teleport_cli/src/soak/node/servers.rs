//! Servers: they answer at once or later, end at times, and come back under their names.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use teleport::{Binary, Caller, Mailbox, Pid, RegisterError, Term};
use tokio::time::sleep;

use super::book::{Author, Book};
use super::targets;

/// What a server is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Request {
    /// To do something, and answer with a [`Reply`].
    Work(Work),
    /// To start a process that can be monitored; answered with its pid.
    Target(Pid),
}

/// Something to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) from: Author,
    /// Of the request among those of its caller to this server.
    pub(super) number: u64,
    pub(super) wish: Wish,
    pub(super) payload: Binary,
}

/// How a request is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wish {
    Answer,
    /// So many milliseconds later.
    Later(u64),
    Reject,
    /// By the server's end.
    Exit,
    /// Not at all.
    Ignore,
}

/// The number of the request, and a payload.
pub(super) type Reply = (u64, Binary);

/// The payload of a request.
pub(super) fn asked(book: &Book, from: Author, server: u16, number: u64) -> Binary {
    Binary::from(book.payloads.of(("asked", from, server, number)))
}

/// The payload of its reply.
pub(super) fn replied(book: &Book, from: Author, server: u16, number: u64) -> Binary {
    Binary::from(book.payloads.of(("replied", from, server, number)))
}

pub(super) fn name(server: u16) -> String {
    format!("server {server}")
}

/// A server that comes back whenever it has ended, until the node is shut down.
pub(super) async fn supervise(book: Arc<Book>, server: u16) {
    loop {
        match book.node.register(&name(server)) {
            Ok(mailbox) => {
                if !serve(&book, server, mailbox).await {
                    return;
                }
            }
            Err(RegisterError::NotRunning) => return,
            Err(error) => {
                book.complain(format!("server {server} has ended and its name is not free: {error}"));
                return;
            }
        }
    }
}

/// One life of a server. `false` if the node has been shut down.
async fn serve(book: &Arc<Book>, server: u16, mut mailbox: Mailbox) -> bool {
    let mut exits = book.exits();
    exits.mark_unchanged();
    loop {
        let message = tokio::select! {
            message = mailbox.recv() => message,
            _ = exits.changed() => {
                mailbox.exit(Term::atom("told_to"));
                return true;
            }
        };
        let Some(message) = message else { return false };
        if let Some((caller, request)) = message.call() {
            match request.decode() {
                Ok(Request::Work(work)) => {
                    if !answer(book, server, &mailbox, caller, work) {
                        mailbox.exit(Term::atom("asked_to"));
                        return true;
                    }
                }
                Ok(Request::Target(watcher)) => targets::start(book, &caller, watcher),
                Err(_) => book.damaged(&format!("a request to server {server}")),
            }
        } else if let Some(Ok(work)) = message.cast().map(|cast| cast.decode::<Work>()) {
            check(book, server, &work);
        } else {
            book.damaged(&format!("a message to server {server}"));
        }
    }
}

/// `false` if the server is to end.
fn answer(book: &Arc<Book>, server: u16, mailbox: &Mailbox, caller: Caller, work: Work) -> bool {
    check(book, server, &work);
    let process = mailbox.process();
    let reply: Reply = (work.number, replied(book, work.from, server, work.number));
    match work.wish {
        // An answer that cannot be sent is an error of the caller's as well.
        Wish::Answer => drop(process.reply(&caller, &reply)),
        Wish::Later(milliseconds) => drop(tokio::spawn(async move {
            sleep(Duration::from_millis(milliseconds)).await;
            process.reply(&caller, &reply)
        })),
        Wish::Reject => process.reject(&caller, "as asked"),
        Wish::Exit => return false,
        Wish::Ignore => {}
    }
    true
}

fn check(book: &Book, server: u16, work: &Work) {
    book.execute(work.from, server, work.number);
    if asked(book, work.from, server, work.number) != work.payload {
        book.damaged(&format!("request {} of {:?}", work.number, work.from));
    }
}
