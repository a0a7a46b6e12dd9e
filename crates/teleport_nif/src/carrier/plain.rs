//! Connections from nodes that do not carry: they go to the process that accepts, as descriptors.

use super::table::acceptor;
use crate::atoms;
use crate::lock::Lock;
use rustler::{Encoder, OwnedEnv, Resource, ResourceArc};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::MutexGuard;
use teleport::embed::{Close, Newcomer};

/// A connection. It is closed when that is asked for, or no process holds it any more: a port that is opened with a descriptor does
/// not close it.
pub(crate) struct Plain {
    open: Lock<Option<OwnedFd>>,
    /// Of one that has not proved itself.
    newcomer: Lock<Option<Newcomer>>,
}

#[rustler::resource_impl(register = false)]
impl Resource for Plain {}

impl Plain {
    /// Of no connection.
    pub(crate) fn nothing() -> Self {
        Self { open: Lock::new(None), newcomer: Lock::new(None) }
    }

    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { open: Lock::new(Some(descriptor)), ..Self::nothing() }
    }

    /// The descriptor, as long as it is open.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.open().as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Closes it.
    pub(crate) fn close(&self) {
        let (open, newcomer) = (self.open().take(), self.newcomer.lock().take());
        drop((open, newcomer));
    }

    /// Distributed Erlang has accepted it.
    pub(crate) fn proved(&self) {
        let newcomer = self.newcomer.lock().take();
        if let Some(newcomer) = newcomer {
            newcomer.proved();
        }
    }

    /// Its port sees that the other side has closed it, and ends.
    fn shut_down(&self) {
        let mut open = self.open();
        if let Some(descriptor) = open.take() {
            let connection = TcpStream::from(descriptor);
            let _ = connection.shutdown(Shutdown::Both); // the other side may have
            *open = Some(connection.into());
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.open.lock()
    }
}

/// Hands a connection on. It is closed if nobody accepts.
pub(crate) fn hand_on(connection: TcpStream, newcomer: Newcomer) -> Option<Close> {
    let acceptor = acceptor()?;
    let plain = Plain { newcomer: Lock::new(Some(newcomer)), ..Plain::new(connection.into()) };
    let plain = ResourceArc::new(plain);
    let close = plain.clone();
    // It may have ended.
    let _ = OwnedEnv::new()
        .send_and_clear(&acceptor, |env| (atoms::teleport_carrier(), atoms::plain(), plain).encode(env));
    Some(Box::new(move || close.shut_down()))
}
