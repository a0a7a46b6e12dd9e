//! Watchers: they monitor a process, have it end, and see that its end is told once and behind all that it sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use teleport::{CallError, Mailbox, Message, Pid, SendError, Term};

use super::book::Book;
use super::servers::{Request, name};
use super::targets::{Die, Note, reason};
use super::{SERVERS, node_name};
use crate::bench::child::NodeError;

/// After a process that could not be had.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// How long a server may take to start a process.
const PATIENCE: Duration = Duration::from_secs(5);

struct Watcher {
    book: Arc<Book>,
    mailbox: Mailbox,
    random: SmallRng,
}

/// A watcher that begins when this is polled, and ends with the monitor that it waits for when it is calm.
pub(super) fn open(book: &Arc<Book>, worker: u16) -> Result<impl Future<Output = ()> + use<>, NodeError> {
    let mailbox = book.node.mailbox().map_err(NodeError::teleport("cannot start a watcher"))?;
    let random = book.random("watcher", worker);
    Ok(Watcher { book: Arc::clone(book), mailbox, random }.run())
}

impl Watcher {
    async fn run(mut self) {
        while !self.book.is_calm() {
            match self.target().await {
                Ok(target) => {
                    if !self.watch(target).await {
                        return;
                    }
                }
                Err(CallError::Send(SendError::NotRunning)) => return,
                Err(_) => self.book.pause(AFTER_REFUSAL).await,
            }
        }
        while let Some(message) = self.mailbox.try_recv() {
            self.late(&message);
        }
    }

    async fn target(&mut self) -> Result<Pid, CallError> {
        let (node, server) =
            (self.random.random_range(0..self.book.nodes), self.random.random_range(0..SERVERS));
        let peer = node_name(node).map_err(|_| CallError::NoProcess)?;
        let request = Request::Target(self.mailbox.pid());
        self.mailbox.process().call((&*name(server), peer), &request, PATIENCE).await
    }

    /// `false` once the node has been shut down.
    async fn watch(&mut self, target: Pid) -> bool {
        let Ok(monitor) = self.mailbox.monitor(&target).await else { return false };
        self.book.count(|counts| counts.watches += 1);
        let notes = self.random.random_range(0..6);
        if self.random.random_ratio(1, 5) {
            self.mailbox.demonitor(&monitor);
            // One that is not told ends with the session.
            let _ = self.mailbox.send(&target, &Die { notes: 0 }).await;
            return true;
        }
        self.book.open_watches.fetch_add(1, Ordering::Relaxed);
        // If it is not told the session has ended, and DOWN says so.
        let _ = self.mailbox.send(&target, &Die { notes }).await;
        let mut came = 0;
        let is_running = loop {
            let Some(message) = self.mailbox.recv().await else { break false };
            if let Some(down) = message.down() {
                if down.reference == monitor {
                    self.check_end(&down.reason, came);
                    break true;
                }
                self.late(&message);
            } else if let Ok((from, number)) = message.decode::<Note>()
                && from == target
            {
                if number != came + 1 {
                    self.book.count(|counts| counts.reordered += 1);
                    self.book.complain(format!("note {number} came after {came}"));
                }
                came = came.max(number);
            }
        };
        self.book.open_watches.fetch_sub(1, Ordering::Relaxed);
        is_running
    }

    /// With another reason its session has ended, or the process before the monitor was there.
    fn check_end(&self, end: &Term, came: u64) {
        let told = (0..6).find(|notes| reason(*notes) == *end);
        if let Some(told) = told.filter(|told| *told != came) {
            self.book.count(|counts| counts.lost += told.abs_diff(came));
            self.book.complain(format!("{came} of {told} notes came before their process's end"));
        }
    }

    /// A note of an earlier process may come late, since its session has ended. But all monitors before are over.
    fn late(&self, message: &Message) {
        if message.down().is_some() {
            self.book.count(|counts| counts.doubled += 1);
            self.book.complain("the end of a process was told again, or after demonitor".to_owned());
        }
    }
}
