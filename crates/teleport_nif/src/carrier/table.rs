//! The channels of this virtual machine, by the session that carries them, and the process that is told of new ones.

use super::channel::{Channel, Name, Part};
use crate::atoms;
use crate::lock::Lock;
use rustc_hash::FxHashMap;
use rustler::{Encoder, LocalPid, OwnedEnv, Resource, ResourceArc};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use teleport::embed::{CarriedMessages, Origin};

/// The channels of this virtual machine.
pub(crate) static CHANNELS: Channels = Channels(Lock::new(BTreeMap::new()));

/// The process that accepts connections.
static ACCEPTOR: Lock<Option<LocalPid>> = Lock::new(None);

/// The last channel that was opened here.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The most channels of a peer that are in their handshakes: an honest one has one.
const MOST_UNFINISHED: usize = 4;

/// By the number of the session.
pub(crate) struct Channels(Lock<BTreeMap<u64, OfSession>>);

#[derive(Default)]
struct OfSession {
    open: FxHashMap<Name, Arc<Channel>>,
    /// The number of the last that the peer has opened: numbers ascend.
    last_of_peer: u32,
}

/// Tells that process of channels that peers open from now on.
pub(crate) fn set_acceptor(process: LocalPid) {
    *ACCEPTOR.lock() = Some(process);
}

/// Refuses channels from now on: no process accepts them.
pub(crate) fn set_no_acceptor() {
    *ACCEPTOR.lock() = None;
}

/// Whether a process accepts channels.
pub(crate) fn accepts() -> bool {
    acceptor().is_some()
}

/// The process that accepts channels.
pub(super) fn acceptor() -> Option<LocalPid> {
    *ACCEPTOR.lock()
}

/// Opens a channel to the peer. It learns of it with what it is sent first.
pub(crate) fn connect(origin: Origin) -> Arc<Channel> {
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let channel = Channel::new(origin, Name { number, opened_here: true });
    // Behind the end of its session nobody would take it out of the table again.
    if channel.origin().while_up(|| CHANNELS.add(&channel)).is_none() {
        channel.end();
    }
    channel
}

impl Channels {
    /// Messages have come over the session.
    pub(crate) fn take(&self, origin: &Origin, messages: Vec<CarriedMessages>) {
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let Some((name, part)) = Name::from_wire(message.to) else { continue };
            // What is for a channel that has been closed vanishes.
            let Some(channel) = self.find(origin.id(), name).or_else(|| self.accept(origin, name, part))
            else {
                continue;
            };
            match part {
                Part::Data => {
                    let to = message.to;
                    let others = std::iter::from_fn(|| messages.next_if(|next| next.to == to));
                    channel.data_came(std::iter::once(message).chain(others));
                }
                Part::Packet => message.bodies.for_each(|packet| channel.packet_came(packet)),
                Part::Close => channel.end(),
            }
        }
    }

    /// The session has ended, and with it all that it carries.
    pub(crate) fn session_ended(&self, session: u64) {
        let ended = self.0.lock().remove(&session);
        ended.iter().flat_map(|ended| ended.open.values()).for_each(|channel| channel.end());
    }

    /// A channel is of no use any more.
    fn forget(&self, session: u64, name: Name) {
        if let Some(of_session) = self.0.lock().get_mut(&session) {
            of_session.open.remove(&name);
        }
    }

    fn find(&self, session: u64, name: Name) -> Option<Arc<Channel>> {
        self.0.lock().get(&session)?.open.get(&name).cloned()
    }

    /// The end of its session takes it out, which must not have been told yet.
    fn add(&self, channel: &Arc<Channel>) {
        let mut channels = self.0.lock();
        channels.entry(channel.session()).or_default().open.insert(channel.name(), channel.clone());
    }

    /// The peer has opened a channel, if it has not done so before, and somebody accepts it.
    fn accept(&self, origin: &Origin, name: Name, part: Part) -> Option<Arc<Channel>> {
        if part != Part::Packet || name.opened_here {
            return None;
        }
        let acceptor = acceptor()?;
        let channel = Channel::new(origin.clone(), name);
        {
            let mut channels = self.0.lock();
            let of_session = channels.entry(origin.id()).or_default();
            if name.number <= of_session.last_of_peer {
                return None;
            }
            of_session.last_of_peer = name.number;
            let unfinished =
                |(name, channel): &(&Name, &Arc<Channel>)| !name.opened_here && channel.is_unfinished();
            if of_session.open.iter().filter(unfinished).count() < MOST_UNFINISHED {
                of_session.open.insert(name, channel.clone());
            } else {
                drop(channels);
                channel.refuse("it has begun others, and does not go on with them");
                return None;
            }
        }
        let handle = ResourceArc::new(Handle::new(channel.clone()));
        let told = OwnedEnv::new().send_and_clear(&acceptor, |env| {
            (atoms::teleport_carrier(), atoms::accept(), handle).encode(env)
        });
        // Without an acceptor its handle is gone, and it with that.
        told.is_ok().then_some(channel)
    }
}

/// What processes hold of a channel. It is closed when nobody holds it any more.
pub(crate) struct Handle(Option<Arc<Channel>>);

#[rustler::resource_impl(register = false)]
impl Resource for Handle {}

impl Handle {
    /// Of an open channel. There is one for each.
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self(Some(channel))
    }

    /// Of no channel.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// `None` only for the one of no channel, which no process has.
    pub(crate) fn channel(&self) -> Option<&Arc<Channel>> {
        self.0.as_ref()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(channel) = &self.0 {
            channel.close();
            CHANNELS.forget(channel.session(), channel.name());
        }
    }
}
