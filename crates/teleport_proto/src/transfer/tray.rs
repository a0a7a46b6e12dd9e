//! Trays: small messages of one pair that are accepted without the session, in room that was taken before.
//!
//! In a flood all senders of a node would meet at the session, once for each message. While its express connections are busy,
//! each of them comes back for more anyway, and a message that is put where the connection looks is as good as sent. So a pair
//! that has messages under way gets a tray, with some room in the mailbox's window, the peer's and the node's budget.
//! A message that fits into what is left of that is accepted. A tray has no lock; its owner gives it one.
//!
//! What lies in a tray gets its numbers when it is [fetched](Transfer::fetch). It comes before all that its pair sends later:
//! its owner [puts the tray away](Transfer::put_away) before it offers anything else of the pair, and all of them before what goes
//! behind all.

use super::batches::COPY_LIMIT;
use super::credit::{Measure, Offer};
use super::message::{Outgoing, Pair};
use super::window::{MESSAGE_COST, cost, part_of};
use super::{Transfer, TransferConfig, Wish};
use crate::wire::batch::{bodies, put_body_of_run};
use crate::wire::envelope::{AccountId, Destination, ProcessId};
use crate::wire::pool::{Class, EXPRESS_LIMIT};
use bytes::{Bytes, BytesMut};
use std::mem;
use teleport_etf::Segments;

/// The most room that a tray takes, in bytes: for some 340 messages of 64 bytes, as many as come while a connection is written
/// once.
const MOST_ROOM: u64 = EXPRESS_LIMIT as u64;

/// A tray takes no more than this part of what small messages may fill of a window: others want room, too.
const PART_OF_WINDOW: u64 = 8;

/// With less room than this a tray is of no use.
const LEAST_ROOM: u64 = 4 * MESSAGE_COST;

/// Room for small messages of one pair, and those that have been laid into it.
#[derive(Debug)]
pub struct Tray {
    pair: Pair,
    account: AccountId,
    /// In bytes.
    room: u64,
    laid: Laid,
}

/// Messages of a tray, as they stand in a batch behind the first one's envelope.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    pub(crate) block: BytesMut,
    pub(crate) messages: u64,
    /// Of the bodies.
    bytes: u64,
}

/// What has been fetched from a tray.
pub(crate) struct Fetched {
    pub(crate) pair: Pair,
    pub(crate) account: AccountId,
    pub(crate) laid: Laid,
}

/// What a session knows of its trays.
pub(super) struct Trays {
    /// Room that a tray takes, in bytes; 0 if there is not enough for any.
    room: u64,
    open: usize,
    fetched: Vec<Fetched>,
    /// Memory for what is laid next.
    spare: Vec<BytesMut>,
}

impl Trays {
    pub(super) fn new(config: &TransferConfig) -> Self {
        let window = config.send_window.min(config.mailbox_window.unwrap_or(u64::MAX));
        let room = (part_of(window, Class::Express) / PART_OF_WINDOW).min(MOST_ROOM);
        // A tray does not ask for the largest message.
        let is_of_use = room >= LEAST_ROOM && config.max_message >= COPY_LIMIT as u64;
        let (open, fetched, spare) = Default::default();
        Self { room: if is_of_use { room } else { 0 }, open, fetched, spare }
    }
}

impl Laid {
    /// What they take, in bytes.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes + self.messages * MESSAGE_COST
    }
}

impl Fetched {
    /// Each message by itself.
    fn each(&self) -> impl Iterator<Item = Outgoing> + '_ {
        let block = &self.laid.block;
        bodies(block, 0..block.len()).map(|body| {
            let body = Segments::from(Bytes::copy_from_slice(&block[body]));
            Outgoing::new(self.pair.from, self.pair.to.clone(), body)
        })
    }
}

impl Tray {
    /// Whether it is that pair's.
    pub fn is_of(&self, from: ProcessId, to: &Destination) -> bool {
        self.pair.from == from && self.pair.to == *to
    }

    /// Whether nothing has been laid into it since it was last fetched.
    pub fn is_empty(&self) -> bool {
        self.laid.messages == 0
    }

    /// Accepts a message with that body, if there is room for it.
    pub fn lay(&mut self, body: &[u8]) -> bool {
        let len = body.len() as u64;
        if cost(len) > self.room || body.len() > COPY_LIMIT {
            return false;
        }
        self.room -= cost(len);
        let Laid { block, messages, bytes } = &mut self.laid;
        put_body_of_run(block, *messages == 0, body);
        (*messages, *bytes) = (*messages + 1, *bytes + len);
        true
    }
}

impl Transfer {
    /// Whether all express connections are busy and nobody waits for credit. Each connection then asks for the
    /// [next frame](Self::next_frame) before it rests, and what lies in trays goes out without anybody being woken. As soon as it
    /// is `false` all trays have to be put away.
    pub fn serves_trays(&self) -> bool {
        let mut express = self.connections.iter().filter(|c| c.live && c.class == Class::Express).peekable();
        express.peek().is_some() && express.all(|c| !c.idle) && self.admission.waiting() == 0
    }

    /// A tray for a pair that has just [posted](Self::post) a message, if there is use for one, and room.
    pub fn open_tray(&mut self, from: ProcessId, to: &Destination) -> Option<Tray> {
        let room = self.trays.room;
        if self.sealed || room == 0 || !self.serves_trays() || !self.outbox.flows(from, to) {
            return None;
        }
        let account = self.take_room(from, to, room)?;
        self.trays.open += 1;
        let laid = self.nothing_laid();
        Some(Tray { pair: Pair { from, to: to.clone() }, account, room, laid })
    }

    /// Takes out what lies in a tray, and renews its room. [`accept_fetched`](Self::accept_fetched) has to follow, for which the
    /// tray's lock need not be held. `false`: nothing lay in it, or there is too little room, and it is to be
    /// [put away](Self::put_away).
    #[must_use = "a tray that was not used, or has too little room, is to be put away"]
    pub fn fetch(&mut self, tray: &mut Tray) -> bool {
        if tray.is_empty() {
            return false;
        }
        let laid = mem::replace(&mut tray.laid, self.nothing_laid());
        let spent = laid.cost();
        if self.take_room(tray.pair.from, &tray.pair.to, spent).is_some() {
            tray.room += spent;
        }
        self.trays.fetched.push(Fetched { pair: tray.pair.clone(), account: tray.account, laid });
        tray.room > self.trays.room / 2
    }

    /// Numbers and queues what has been fetched.
    pub fn accept_fetched(&mut self) {
        let mut all = mem::take(&mut self.trays.fetched);
        for mut fetched in all.drain(..) {
            let Laid { messages, bytes, .. } = fetched.laid;
            self.admission.admitted(fetched.account, Class::Express, fetched.laid.cost());
            self.messages_sent += messages;
            self.bytes_sent += bytes;
            if !self.outbox.post_laid(&fetched) {
                for message in fetched.each() {
                    let len = message.body_len();
                    self.outbox.accept(message, len, fetched.account);
                }
            }
            fetched.laid.block.clear();
            self.trays.spare.push(fetched.laid.block);
        }
        self.trays.fetched = all;
        self.serve(Class::Express);
    }

    /// Accepts what lies in a tray, and gives back the room that is left in it.
    pub fn put_away(&mut self, tray: Tray) {
        let Tray { pair, account, room, laid } = tray;
        if laid.messages > 0 {
            self.trays.fetched.push(Fetched { pair, account, laid });
            #[cfg(feature = "planted-faults")]
            let late = self.faults.late_trays;
            #[cfg(not(feature = "planted-faults"))]
            let late = false;
            if !late {
                self.accept_fetched();
            }
        }
        #[cfg(feature = "planted-faults")]
        if self.faults.keep_room {
            return;
        }
        self.trays.open -= 1;
        if self.trays.open == 0 {
            self.trays.spare = Vec::new();
        }
        self.admission.withdraw(account, room, &mut self.admitted);
        self.accept_admitted();
    }

    /// Takes room for small messages of the pair. What the peer has granted need not be enough for all of them: the others wait for
    /// more when they have been fetched.
    fn take_room(&mut self, from: ProcessId, to: &Destination, bytes: u64) -> Option<AccountId> {
        let len = bytes - MESSAGE_COST;
        if self.admission.waiting() > 0 || !self.outbox.passes(0) {
            return None;
        }
        let (unordered, nosuspend, carried, behind_all) = (false, true, false, false);
        let wish = Wish { from, to, len, unordered, nosuspend, carried, behind_all };
        match self.admission.offer(wish, Measure::Granted) {
            Offer::Admitted(account) => {
                self.admission.set_aside(account, bytes);
                Some(account)
            }
            Offer::Wait(_) | Offer::Busy => {
                self.admission.take_wanted(); // nobody waits for it
                None
            }
        }
    }

    fn nothing_laid(&mut self) -> Laid {
        Laid { block: self.trays.spare.pop().unwrap_or_default(), ..Laid::default() }
    }
}
