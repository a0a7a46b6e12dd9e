//! Connections from nodes that do not carry: they go to the process that accepts, as descriptors.

use super::table::acceptor;
use crate::atoms;
use crate::lock::Lock;
use rustler::{Encoder, OwnedEnv, Resource, ResourceArc};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::MutexGuard;

/// A connection. It is closed when that is asked for, or no process holds it any more: a port that is opened with a descriptor does
/// not close it.
pub(crate) struct Plain(Lock<Option<OwnedFd>>);

#[rustler::resource_impl(register = false)]
impl Resource for Plain {}

impl Plain {
    /// Of no connection.
    pub(crate) fn nothing() -> Self {
        Self(Lock::new(None))
    }

    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(Lock::new(Some(descriptor)))
    }

    /// The descriptor, as long as it is open.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.open().as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Closes it.
    pub(crate) fn close(&self) {
        let open = self.open().take();
        drop(open);
    }

    fn open(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock()
    }
}

/// Hands a connection on. It is closed if nobody accepts.
pub(crate) fn hand_on(connection: TcpStream) {
    let Some(acceptor) = acceptor() else { return };
    let plain = ResourceArc::new(Plain::new(connection.into()));
    // It may have ended.
    let _ = OwnedEnv::new()
        .send_and_clear(&acceptor, |env| (atoms::teleport_carrier(), atoms::plain(), plain).encode(env));
}
