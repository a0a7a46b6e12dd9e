//! The pool: connections wanted, opened, written to and retired.

use super::assembly::Region;
use super::connection::Connection;
use super::frame::Frame;
use super::outgoing::Record;
use super::{Action, Transfer};
use crate::wire::pool::Class;
use crate::{ConnectionId, Time};

/// A size for each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PoolSize {
    pub(super) express: u32,
    pub(super) bulk: u32,
}

impl PoolSize {
    pub(super) fn of(&mut self, class: Class) -> &mut u32 {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }
}

/// The most connections of a session, those included that are being retired.
pub(super) const MOST_CONNECTIONS: usize = 256;

impl Transfer {
    /// Asks for the whole pool ahead of use.
    pub fn prime(&mut self) {
        let (express, bulk) = (self.config.express_connections, self.config.bulk_connections);
        self.raise_target(Class::Express, express);
        self.raise_target(Class::Bulk, bulk);
    }

    /// Whether the pool is as large as this side may expect: the dialler opens what either side asked for, up to its own
    /// limits, which the other side does not know; there one connection of each class asked for will do.
    pub fn is_primed(&self) -> bool {
        let enough = |class, own: u32, peer: u32| {
            let expected = if self.config.dialler { own.max(peer) } else { own.min(1) };
            self.live(class) >= expected as usize
        };
        enough(Class::Express, self.target.express, self.peer_target.express)
            && enough(Class::Bulk, self.target.bulk, self.peer_target.bulk)
    }

    /// The next connection that this side should open, if it is the dialler and one is missing.
    ///
    /// The caller answers with [`Transfer::connection_up`] or [`Transfer::join_failed`].
    pub fn next_join(&mut self) -> Option<(ConnectionId, Class)> {
        if !self.config.dialler || self.connections.len() >= MOST_CONNECTIONS {
            return None;
        }
        let class = [Class::Express, Class::Bulk].into_iter().find(|&class| {
            let joining = self.joining.values().filter(|&&c| c == class).count();
            let wanted = (*self.target.of(class)).max(*self.peer_target.of(class));
            self.live(class) + joining < wanted as usize
        })?;
        self.last_connection += 1;
        self.joining.insert(self.last_connection, class);
        Some((self.last_connection, class))
    }

    /// A connection could not be opened.
    pub fn join_failed(&mut self, id: ConnectionId) {
        self.joining.remove(&id);
    }

    /// A connection has proved itself, on this side. `false` if it must not be used: the peer has given it up already,
    /// its id has been used, or there are too many.
    pub fn connection_up(&mut self, id: ConnectionId, class: Class) -> bool {
        let welcome = if self.config.dialler {
            self.joining.remove(&id) == Some(class)
        } else {
            let new = self.known_connections.insert(id);
            self.known_connections.close_gaps(MOST_CONNECTIONS);
            #[cfg(feature = "planted-faults")]
            let new = new || (self.faults.readmit_connections && self.connection(id).is_none());
            new && self.connections.len() < MOST_CONNECTIONS
        };
        if welcome {
            self.connections.push(Connection::new(id, class));
        }
        welcome
    }

    /// A connection has died, stalled or is to be closed.
    pub fn retire(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && c.live) else { return };
        connection.live = false;
        let class = connection.class;
        #[cfg(feature = "planted-faults")]
        if self.faults.count_before_stopped {
            (connection.say_retired, self.urgent) = (true, true);
        }
        self.connections_retired += 1;
        self.actions.push_back(Action::Close(id));
        let shrink = class == Class::Bulk && !self.outbox.has_work(class);
        #[cfg(feature = "planted-faults")]
        let shrink = shrink && !self.faults.reopen_idle;
        if shrink {
            // It comes back on use; otherwise what one side closes as idle the other would open again.
            self.target.bulk = self.target.bulk.min(self.live(class) as u32);
        }
        #[cfg(feature = "planted-faults")]
        if self.faults.requeue_early {
            self.requeue(id);
        }
        // It may have been woken for something.
        self.serve(class);
        // A side that cannot open a connection repeats what it needs.
        self.say_wanted |= !self.config.dialler;
    }

    /// The reader of a retired connection has stopped for good; it gives back the region it was filling.
    pub fn reader_stopped(&mut self, id: ConnectionId, region: Option<Region>) {
        self.retire(id);
        if let Some(region) = region {
            self.incoming.give_back(region);
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.reader_stopped = true;
            connection.say_retired = true;
            self.urgent = true;
        }
        self.forget_done();
    }

    /// Closes bulk connections over which nothing has gone since the last sweep. Returns whether there are any left
    /// to sweep. One with a fragment on its way is not idle, however long that takes: it would begin anew on the next one.
    pub fn sweep_idle(&mut self) -> bool {
        let mut idle = Vec::new();
        for connection in self.connections.iter_mut().filter(|c| c.live && c.class == Class::Bulk) {
            let frames = connection.sent + connection.received;
            let under_way = connection.begun_fragment || !connection.log.is_empty();
            if frames == connection.frames_at_sweep && !under_way {
                idle.push(connection.id);
            }
            connection.frames_at_sweep = frames;
        }
        if !idle.is_empty() {
            (self.target.bulk, self.peer_target.bulk) = (0, 0);
        }
        idle.into_iter().for_each(|id| self.retire(id));
        let left = self.live(Class::Bulk) > 0;
        if !left {
            self.growth.rest();
        }
        left
    }

    /// The next frame to write on a connection; `None` puts its writer to sleep until [`Action::Wake`].
    pub fn next_frame(&mut self, id: ConnectionId) -> Option<Frame> {
        let in_use = self.is_in_use(id);
        let connection = self.connections.iter_mut().find(|c| c.id == id && c.live)?;
        if std::mem::take(&mut connection.probe) {
            (connection.idle, connection.sent) = (false, connection.sent + 1);
            connection.probed = connection.sent;
            connection.log.push_back(Record::Probe);
            return Some(Frame::probe(connection.class));
        }
        let next = if in_use { self.outbox.next_frame(connection.class) } else { None };
        let Some((frame, record)) = next else {
            connection.idle = true;
            match connection.class {
                Class::Express => {}
                Class::Bulk if in_use => self.growth.idle(),
                Class::Bulk => self.serve(Class::Bulk), // it was woken when it still was in use
            }
            return None;
        };
        connection.idle = false;
        connection.sent += 1;
        connection.log.push_back(record);
        if connection.class == Class::Bulk {
            self.serve(Class::Bulk);
        }
        Some(frame)
    }

    /// A frame of that length is being written on a bulk connection: time to see whether another number of them would do better.
    pub fn weigh(&mut self, bytes: usize, now: Time) {
        let (wanted, live) = (self.growth.width(), self.live(Class::Bulk) as u32);
        let other = match live < wanted {
            true => self.growth.lacks_some(now),
            false => self.growth.wrote(bytes as u64, live.min(self.usable_bulk()), now),
        };
        if other {
            // What is not in use is not to be opened again when it has been closed.
            let usable = self.usable_bulk();
            self.say_wanted |= !self.config.dialler && usable < self.target.bulk;
            self.target.bulk = self.target.bulk.min(usable);
            self.serve(Class::Bulk);
        }
    }

    /// How many of the live bulk connections, the oldest first, are written to.
    fn usable_bulk(&self) -> u32 {
        self.growth.width().max(self.config.bulk_connections)
    }

    /// Whether messages go over a connection; a bulk one that has been given up is left to be closed as idle.
    fn is_in_use(&self, id: ConnectionId) -> bool {
        let mut bulk = self.connections.iter().filter(|c| c.live && c.class == Class::Bulk);
        bulk.position(|c| c.id == id).is_none_or(|place| place < self.usable_bulk() as usize)
    }

    /// Asks on every connection whether it passes anything on: sends a frame with nothing in it, before all that is queued. Returns
    /// the connections; [`answered`](Self::answered) says what came of it.
    pub fn probe(&mut self) -> Vec<(ConnectionId, Class)> {
        let mut probed = Vec::new();
        for connection in self.connections.iter_mut().filter(|c| c.live) {
            probed.push((connection.id, connection.class));
            // One that waits for an answer will do for all who ask.
            connection.probe |= connection.probed <= connection.acknowledged;
            if connection.probe && std::mem::take(&mut connection.idle) {
                self.actions.push_back(Action::Wake(connection.id));
            }
        }
        probed
    }

    /// Whether the peer has counted the frame of the last probe; `None` if the connection is not live any more.
    pub fn answered(&self, id: ConnectionId) -> Option<bool> {
        self.connection(id).filter(|c| c.live).map(|c| !c.probe && c.probed > 0 && c.acknowledged >= c.probed)
    }

    /// Whether a frame is known to have gone over a connection, in either direction.
    pub fn has_carried(&self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|c| c.received > 0 || c.acknowledged > 0)
    }

    /// Frames written on a connection that the peer has not confirmed, or `None` if it is not live.
    pub fn frames_in_flight(&self, id: ConnectionId) -> Option<(u64, usize)> {
        self.connection(id).filter(|c| c.live).map(|c| (c.acknowledged, c.log.len()))
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|c| c.id == id)
    }

    pub(super) fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.id == id)
    }

    pub(super) fn is_live(&self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|c| c.live)
    }

    pub(super) fn live(&self, class: Class) -> usize {
        self.connections.iter().filter(|c| c.live && c.class == class).count()
    }

    /// Sees to it that what is queued in a class finds a connection.
    pub(super) fn serve(&mut self, class: Class) {
        if !self.outbox.has_work(class) {
            return;
        }
        let usable = match class {
            Class::Express => usize::MAX,
            Class::Bulk => self.usable_bulk() as usize,
        };
        let mut live = self.connections.iter_mut().filter(|c| c.live && c.class == class).take(usable);
        if let Some(connection) = live.find(|c| c.idle) {
            connection.idle = false;
            self.actions.push_back(Action::Wake(connection.id));
            return;
        }
        let wanted = match class {
            Class::Express => 1,
            Class::Bulk => {
                let at_once = self.outbox.queued_bulk().min(self.config.bulk_connections as usize) as u32;
                at_once.max(self.growth.width())
            }
        };
        self.raise_target(class, wanted.max(1));
    }

    pub(super) fn raise_target(&mut self, class: Class, wanted: u32) {
        let live = self.live(class) as u32;
        let target = self.target.of(class);
        let raised = *target < wanted;
        *target = wanted.max(*target);
        self.say_wanted |= !self.config.dialler && (raised || live == 0);
    }

    pub(super) fn requeue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        let records = std::mem::take(&mut connection.log);
        self.frames_resent += records.iter().filter(|record| !matches!(record, Record::Probe)).count() as u64;
        #[cfg(feature = "planted-faults")]
        if self.faults.lose_credit && !records.is_empty() {
            self.admission.lose(records.len() as u64);
        }
        self.outbox.requeue(records.into_iter());
        self.serve(Class::Express);
        self.serve(Class::Bulk);
    }

    pub(super) fn forget_done(&mut self) {
        self.connections.retain(|c| !c.is_done());
    }
}
