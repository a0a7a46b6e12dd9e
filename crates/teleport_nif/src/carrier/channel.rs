//! One connection of distributed Erlang, over a session: two queues, and which processes wait for them.

use super::pulled::{NOBODY, Pulled};
use crate::atoms;
use crate::lock::Lock;
use bytes::Bytes;
use rustler::{Encoder, Env, LocalPid, NifResult, OwnedEnv, Term};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use teleport::embed::{
    Accepted, Backlog, Bodies, CarriedMessages, Carry, CarryBody, Origin, ProcessId, Receipt,
};
use teleport::{Segments, SendError};

/// The most bytes that wait for room in the peer's window. Beyond it nothing more is pulled from the virtual machine, which then
/// suspends senders.
const MOST_WAITING: isize = 128 * 1024 * 1024;

/// When so much less waits more is pulled: what is in the virtual machine's queue meanwhile waits for it, small or large.
const ROOM: isize = 1024 * 1024;

/// The most small messages that wait among small ones. No other small message would go past them, and each that waits costs more than
/// one that does not; the virtual machine's queue keeps them for less. When there are half as many more is pulled.
const MOST_SMALL: isize = 64;

/// The most bytes of all channels that wait. One channel may have as much as is left free, and one pull at a time in any
/// case.
const MOST_AHEAD: isize = 4 * MOST_WAITING;

/// Bytes of all channels that wait for room.
static AHEAD: AtomicIsize = AtomicIsize::new(0);

/// What may wait of one channel at present.
fn most_waiting() -> isize {
    (MOST_AHEAD - AHEAD.load(Ordering::Relaxed)).clamp(0, MOST_WAITING)
}

/// So many messages, or bytes of messages, are taken at once, and what has come together with the last of them.
const TAKEN_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 * 1024;

/// The longest packet of distributed Erlang's handshake, which has a length of 16 bits over TCP, and the most of them that a peer
/// sends: it needs four.
const LONGEST_PACKET: usize = 65_535;
const MOST_PACKETS: usize = 16;

/// Names a channel within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) number: u32,
    pub(super) opened_here: bool,
}

/// What something that is carried is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A message of the virtual machine's.
    Data,
    /// A packet of the handshake.
    Packet,
    /// The connection is given up.
    Close,
}

/// Set where the channel was opened by who sends.
const OPENED_BY_SENDER: u32 = 4;

impl Name {
    /// As the peer is told.
    fn to_wire(self, part: Part) -> ProcessId {
        let part = match part {
            Part::Data => 0,
            Part::Packet => 1,
            Part::Close => 2,
        };
        ProcessId { id: self.number, serial: part | if self.opened_here { OPENED_BY_SENDER } else { 0 } }
    }

    /// As the peer says it. `None` if it means nothing.
    pub(super) fn from_wire(to: ProcessId) -> Option<(Self, Part)> {
        let part = match to.serial & !OPENED_BY_SENDER {
            0 => Part::Data,
            1 => Part::Packet,
            2 => Part::Close,
            _ => return None,
        };
        Some((Self { number: to.id, opened_here: to.serial & OPENED_BY_SENDER == 0 }, part))
    }
}

impl Drop for Coming {
    /// With less effort than one by one; it may be a scheduler that does it.
    fn drop(&mut self) {
        let data = self.data.drain(..).map(|messages| messages.receipt);
        Receipt::finish_all(self.taken.drain(..).chain(data));
    }
}

/// One connection.
pub(crate) struct Channel {
    origin: Origin,
    name: Name,
    /// What one process pulls out of the virtual machine.
    pulled: Lock<Pulled>,
    leaving: Lock<Leaving>,
    coming: Lock<Coming>,
    sent: AtomicU64,
    /// Called for what waited for room.
    has_room: Accepted,
}

/// What is on its way out.
#[derive(Default)]
struct Leaving {
    /// Bytes that wait for room. What has got some may be taken off before it is added.
    waiting: isize,
    /// Small messages that do, among small ones.
    small: isize,
    /// The process that pulls, while it waits for that to become less.
    puller: Option<LocalPid>,
    closed: bool,
}

impl Leaving {
    /// So much more waits, or less.
    fn wait(&mut self, bytes: isize, small: isize) {
        self.waiting += bytes;
        self.small += small;
        AHEAD.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Leaving {
    /// Nobody says of what waits at the node's end that it does no longer.
    fn drop(&mut self) {
        AHEAD.fetch_sub(self.waiting, Ordering::Relaxed);
    }
}

/// What has come, and has not been taken.
#[derive(Default)]
struct Coming {
    packets: Vec<Bytes>,
    /// Packets that have come, with those that were handed on.
    packets_so_far: usize,
    /// The process that gets packets.
    owner: Option<LocalPid>,
    data: VecDeque<CarriedMessages>,
    /// What was taken last: it counts as taken when more is asked for.
    taken: Vec<Receipt>,
    /// The process that takes data, while it waits for some.
    taker: Option<LocalPid>,
    /// Data has been asked for: the handshake is done.
    is_up: bool,
    ended: bool,
}

/// What has become of messages that were put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// They are on their way, or wait for room.
    Ok,
    /// The session has ended.
    Ended,
}

/// Messages that are taken: a large one, or small ones.
pub(crate) enum Taking {
    Large(Bytes),
    Small(Bodies),
}

/// What there was to take.
pub(crate) enum Taken {
    Some(Vec<Taking>),
    /// Nothing. The caller is told when something comes.
    Nothing,
    /// Nothing, and nothing comes any more.
    Ended,
}

impl Channel {
    pub(super) fn new(origin: Origin, name: Name) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let (pulled, leaving, coming, sent, this) =
                (<_>::default(), <_>::default(), <_>::default(), <_>::default(), this.clone());
            let has_room = Arc::new(move |waited| {
                if let Some(channel) = this.upgrade() {
                    channel.has_room(waited);
                }
            });
            Self { origin, name, pulled, leaving, coming, sent, has_room }
        })
    }

    pub(super) fn name(&self) -> Name {
        self.name
    }

    pub(super) fn session(&self) -> u64 {
        self.origin.id()
    }

    /// The peer that it leads to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Bytes that were put.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Has the peer say something. It counts as something sent, by which `dist_util` sees that it has ticked.
    pub(crate) fn tick(&self) {
        self.origin.ask();
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a packet of the handshake.
    pub(crate) fn send_packet(&self, packet: Bytes) -> Result<(), SendError> {
        self.carry([self.message(Part::Packet, Segments::from(packet), false)])
    }

    /// Sends messages of the virtual machine's, as it hands them over.
    ///
    /// # Errors
    ///
    /// If one is none that a carrier can take.
    pub(crate) fn put<'a>(&self, messages: impl Iterator<Item = Term<'a>>) -> NifResult<Put> {
        let mut pulled = self.pulled.lock();
        pulled.clear();
        for message in messages {
            pulled.add(message)?;
        }
        self.sent.fetch_add(pulled.bytes() as u64, Ordering::Relaxed);
        let sent = self.carry(pulled.drain(self.name.to_wire(Part::Data)));
        Ok(if sent.is_ok() { Put::Ok } else { Put::Ended })
    }

    fn message(&self, part: Part, body: Segments, behind_all: bool) -> Carry<'static> {
        Carry { from: NOBODY, to: self.name.to_wire(part), body: CarryBody::Kept(body), behind_all }
    }

    fn carry<'a>(&self, messages: impl IntoIterator<Item = Carry<'a>>) -> Result<(), SendError> {
        let waiting = self.origin.carry(messages, &self.has_room)?;
        if waiting != Backlog::default() {
            self.leaving().wait(waiting.bytes as isize, waiting.small as isize);
        }
        Ok(())
    }

    /// Whether enough waits. Then the process is told when that has changed.
    pub(crate) fn is_full(&self, puller: LocalPid) -> bool {
        let mut leaving = self.leaving();
        let full = leaving.waiting > most_waiting() || leaving.small > MOST_SMALL;
        leaving.puller = full.then_some(puller);
        full
    }

    /// Something that waited does no longer.
    fn has_room(&self, Backlog { bytes, small }: Backlog) {
        let puller = {
            let mut leaving = self.leaving();
            leaving.wait(-(bytes as isize), -(small as isize));
            let most = most_waiting();
            let full = leaving.waiting > (most - ROOM).max(most / 2) || leaving.small > MOST_SMALL / 2;
            if full { None } else { leaving.puller.take() }
        };
        tell(puller, |env| (atoms::teleport_carrier(), atoms::room()).encode(env));
    }

    /// Messages have come for the virtual machine.
    pub(super) fn data_came(&self, messages: impl Iterator<Item = CarriedMessages>) {
        let taker = {
            let mut coming = self.coming();
            coming.data.extend(messages);
            coming.taker.take()
        };
        tell(taker, |env| (atoms::teleport_carrier(), atoms::data()).encode(env));
    }

    /// A packet of the handshake has come. A peer that sends more or longer ones than a handshake has loses the channel.
    pub(super) fn packet_came(&self, packet: Bytes) {
        let owner = {
            let mut coming = self.coming();
            if coming.ended {
                return;
            }
            coming.packets_so_far += 1;
            if packet.len() > LONGEST_PACKET || coming.packets_so_far > MOST_PACKETS {
                drop(coming);
                return self.refuse("it sent more in its handshake than one has");
            }
            match coming.owner {
                Some(owner) => owner,
                None => return coming.packets.push(packet),
            }
        };
        tell(Some(owner), |env| (atoms::teleport_carrier(), binary(env, &packet)).encode(env));
    }

    /// Gives the channel up for what the peer has done.
    pub(super) fn refuse(&self, why: &str) {
        self.close();
        self.end();
        self.origin.warn_of_carried(why);
    }

    /// Whether it waits for the rest of a handshake.
    pub(super) fn is_unfinished(&self) -> bool {
        let coming = self.coming();
        !coming.is_up && !coming.ended
    }

    /// The peer has given it up, or the session has ended: nothing comes any more.
    pub(super) fn end(&self) {
        let (owner, taker) = {
            let mut coming = self.coming();
            coming.ended = true;
            (coming.owner, coming.taker.take())
        };
        tell(taker, |env| (atoms::teleport_carrier(), atoms::data()).encode(env));
        tell(owner, |env| (atoms::teleport_carrier(), atoms::closed()).encode(env));
    }

    /// The process gets packets from now on; those that have come already are returned, and whether the channel has ended.
    pub(crate) fn own(&self, owner: LocalPid) -> (Vec<Bytes>, bool) {
        let mut coming = self.coming();
        coming.owner = Some(owner);
        (std::mem::take(&mut coming.packets), coming.ended)
    }

    /// Takes some of what has come. What was taken before counts as taken from now on.
    pub(crate) fn take(&self, taker: LocalPid) -> Taken {
        let mut done = Vec::new();
        let mut coming = self.coming();
        coming.is_up = true;
        std::mem::swap(&mut coming.taken, &mut done);
        let (mut takings, mut messages, mut bytes) = (Vec::new(), 0, 0);
        while messages < TAKEN_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some(CarriedMessages { mut bodies, receipt, .. }) = coming.data.pop_front() else { break };
            messages += bodies.len();
            bytes += bodies.bytes();
            match receipt.is_large() {
                true => takings.extend(bodies.next().map(Taking::Large)),
                false => takings.push(Taking::Small(bodies)),
            }
            coming.taken.push(receipt);
        }
        let taken = match (takings.is_empty(), coming.ended) {
            (false, _) => Taken::Some(takings),
            (true, true) => Taken::Ended,
            (true, false) => {
                coming.taker = Some(taker);
                Taken::Nothing
            }
        };
        drop(coming);
        Receipt::finish_all(done); // which calls the session, and so not under the lock
        taken
    }

    /// It is of no use here any more: the peer is told, unless it was that told.
    pub(super) fn close(&self) {
        let ended = std::mem::replace(&mut self.coming().ended, true);
        let closed = std::mem::replace(&mut self.leaving().closed, true);
        if !ended && !closed {
            // If the session has ended, the peer knows.
            let _ = self.carry([self.message(Part::Close, Segments::new(), true)]);
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Leaving> {
        self.leaving.lock()
    }

    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock()
    }
}

/// A copy of the bytes.
pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut binary = rustler::NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}

/// Not on a scheduler. What is told should be no lone atom: the virtual machine frees the message of one as soon as it is received, and
/// wakes its thread for that twice, while all others are freed together when the process collects its garbage.
fn tell(process: Option<LocalPid>, message: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
    if let Some(process) = process {
        // It may have ended.
        let _ = OwnedEnv::new().send_and_clear(&process, message);
    }
}
