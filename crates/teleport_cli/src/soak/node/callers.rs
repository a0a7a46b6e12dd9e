//! Callers: one call after the other, to servers everywhere. Half of them have no timeout: the product has to end them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use teleport::{Address, CallError, Mailbox, SendError};

use super::book::{Author, Book};
use super::servers::{Reply, Request, Wish, Work, asked, name, replied};
use super::{SERVERS, node_name};
use crate::args::Plant;
use crate::bench::child::NodeError;

/// After a call that did not get there.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// Before its how manieth call the first caller of a node plays a fault.
const PLANTED_AT: u64 = 5;

/// Timeouts that calls are made with.
const TIMEOUTS: [u64; 4] = [1, 20, 300, 10_000];

struct Caller {
    book: Arc<Book>,
    name: Author,
    mailbox: Mailbox,
    random: SmallRng,
    /// The last number, by node and server.
    numbers: HashMap<(u16, u16), u64>,
    made: u64,
}

/// A caller that begins when this is polled, and ends with the call that it is at when it is calm.
pub(super) fn open(book: &Arc<Book>, worker: u16) -> Result<impl Future<Output = ()> + use<>, NodeError> {
    let mailbox = book.node.mailbox().map_err(NodeError::teleport("cannot start a caller"))?;
    let (name, random) = (book.author(worker), book.random("caller", worker));
    let caller = Caller { book: Arc::clone(book), name, mailbox, random, numbers: HashMap::new(), made: 0 };
    Ok(caller.run())
}

impl Caller {
    async fn run(mut self) {
        while !self.book.is_calm() || (self.is_player() && self.made < PLANTED_AT) {
            self.made += 1;
            if self.is_player() && self.made == PLANTED_AT {
                self.hang().await;
            }
            let outcome = self.call_one().await;
            match outcome {
                Err(CallError::Send(SendError::NotRunning)) => return,
                Err(CallError::Send(_) | CallError::NodeDown { .. } | CallError::NoProcess) => {
                    self.book.pause(AFTER_REFUSAL).await;
                }
                _ => {}
            }
        }
    }

    /// A cast, or a call and its end.
    async fn call_one(&mut self) -> Result<(), CallError> {
        // Its own node is called as well.
        let (node, server) =
            (self.random.random_range(0..self.book.nodes), self.random.random_range(0..SERVERS));
        let (number, to) = self.next(node, server)?;
        let timeout = Duration::from_millis(TIMEOUTS[self.random.random_range(0..TIMEOUTS.len())]);
        let is_endless = self.random.random_bool(0.5);
        let wish = match self.random.random_range(0..100) {
            0..70 => Wish::Answer,
            70..90 => Wish::Later(self.random.random_range(0..30)),
            90..94 => Wish::Reject,
            94..97 => Wish::Exit,
            _ if is_endless || timeout > Duration::from_secs(1) => Wish::Answer,
            _ => Wish::Ignore,
        };
        let payload = asked(&self.book, self.name, server, number);
        let work = Work { from: self.name, number, wish, payload };
        let process = self.mailbox.process();
        if self.random.random_ratio(1, 5) {
            return Ok(process.cast(to, &work).await?);
        }
        self.book.count(|counts| counts.calls += 1);
        let request = Request::Work(work);
        let end = if is_endless {
            match process.send_request(to, &request).await {
                Ok(response) => response.await,
                Err(error) => Err(error),
            }
        } else {
            process.call(to, &request, timeout).await
        };
        self.book.count(|counts| counts.calls_ended += 1);
        let reply: Reply = end?;
        if reply != (number, replied(&self.book, self.name, server, number)) {
            self.book.count(|counts| counts.lost += 1);
            self.book.damaged(&format!("the reply to request {number} of {:?}", self.name));
        }
        Ok(())
    }

    fn next(&mut self, node: u16, server: u16) -> Result<(u64, Address), CallError> {
        let number = self.numbers.entry((node, server)).or_default();
        *number += 1;
        let peer = node_name(node).map_err(|_| CallError::NoProcess)?;
        Ok((*number, (&*name(server), peer).into()))
    }

    /// A fault that was planted is played, however slow all goes.
    fn is_player(&self) -> bool {
        self.name == (0, 0, 0) && self.book.plant == Some(Plant::Hang)
    }

    /// A call that nobody answers, as if its end had been lost.
    async fn hang(&mut self) {
        let Ok((number, to)) = self.next(1, 0) else { return };
        let payload = asked(&self.book, self.name, 0, number);
        let work = Request::Work(Work { from: self.name, number, wish: Wish::Ignore, payload });
        self.book.count(|counts| counts.calls += 1);
        let Ok(response) = self.mailbox.process().send_request::<_, Reply>(to, &work).await else { return };
        tokio::spawn(response);
    }
}
