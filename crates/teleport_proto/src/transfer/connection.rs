//! One pool connection as both of its ends count it, and its retirement.

use super::outgoing::Record;
use crate::ConnectionId;
use crate::wire::pool::Class;
use std::collections::VecDeque;

/// A pool connection of the session.
///
/// It is live until it dies, stalls or is closed. Then it is retired: its reader stops for good, its final count goes
/// to the peer, and once the peer's final count is here, the frames above that are queued again. It is forgotten when
/// both sides have both counts.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) class: Class,
    pub(crate) live: bool,
    /// Nothing is being written: the next wake-up's taker has the connection to itself. At first that is the
    /// connection's own writer.
    pub(crate) idle: bool,
    /// Frames received, whole.
    pub(crate) received: u64,
    /// Bytes of the batch that has begun to come.
    pub(crate) begun_batch: u64,
    /// A fragment has begun to come.
    pub(crate) begun_fragment: bool,
    /// `received` has grown since the peer was told.
    pub(crate) say_received: bool,
    /// Frames handed to the writer, and how many of them the peer has.
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    /// The frames above `acknowledged`.
    pub(crate) log: VecDeque<Record>,
    pub(crate) reader_stopped: bool,
    /// Our final count has to be said (again).
    pub(crate) say_retired: bool,
    /// The peer has noted our final count.
    pub(crate) noted: bool,
    /// The peer's final count.
    pub(crate) peer_final: Option<u64>,
    /// A probe is to go out before anything else.
    pub(crate) probe: bool,
    /// The number of the last probe's frame; 0 if there was none.
    pub(crate) probed: u64,
    /// Frames in either direction when the pool was last swept for idle connections.
    pub(crate) frames_at_sweep: u64,
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, class: Class) -> Self {
        Self {
            id,
            class,
            live: true,
            idle: false,
            received: 0,
            begun_batch: 0,
            begun_fragment: false,
            say_received: false,
            sent: 0,
            acknowledged: 0,
            log: VecDeque::new(),
            reader_stopped: false,
            say_retired: false,
            noted: false,
            peer_final: None,
            probe: false,
            probed: 0,
            frames_at_sweep: u64::MAX,
        }
    }

    /// The records of the frames that the peer has now got, given its absolute count; `None` if that is impossible.
    pub(crate) fn acknowledge(&mut self, frames: u64) -> Option<impl Iterator<Item = Record>> {
        let new = frames.saturating_sub(self.acknowledged);
        // Less is in the log than was sent once a final count has come: a later count must not pass that one.
        if frames > self.sent || new > self.log.len() as u64 {
            return None;
        }
        self.acknowledged += new;
        Some(self.log.drain(..new as usize))
    }

    /// Both sides know both counts.
    pub(crate) fn is_done(&self) -> bool {
        self.reader_stopped && self.noted && self.peer_final.is_some()
    }
}
