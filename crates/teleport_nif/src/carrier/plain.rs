//! Connections from nodes that do not carry: they go to the process that accepts, as descriptors.

use super::table::acceptor;
use crate::atoms;
use crate::lock::Lock;
use rustler::{Encoder, OwnedEnv, Resource, ResourceArc};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use teleport::embed::{Close, Newcomer};

/// A connection. It is closed when that is asked for, or no process holds it any more: a port that is opened with a descriptor does
/// not close it.
pub(crate) struct Plain(Arc<Lock<Connection>>);

#[derive(Default)]
struct Connection {
    open: Option<OwnedFd>,
    /// Of one that has not proved itself.
    newcomer: Option<Newcomer>,
}

#[rustler::resource_impl(register = false)]
impl Resource for Plain {}

impl Plain {
    /// Of no connection.
    pub(crate) fn nothing() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(Arc::new(Lock::new(Connection { open: Some(descriptor), newcomer: None })))
    }

    /// The descriptor, as long as it is open.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.0.lock().open.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Closes it.
    pub(crate) fn close(&self) {
        let connection = std::mem::take(&mut *self.0.lock());
        drop(connection);
    }

    /// Distributed Erlang has accepted it.
    pub(crate) fn proved(&self) {
        let newcomer = self.0.lock().newcomer.take();
        if let Some(newcomer) = newcomer {
            newcomer.proved();
        }
    }
}

impl Connection {
    /// The port of one that has not proved itself sees that the other side has closed it, and ends.
    fn make_room(&mut self) {
        if self.newcomer.take().is_some()
            && let Some(descriptor) = self.open.take()
        {
            let connection = TcpStream::from(descriptor);
            let _ = connection.shutdown(Shutdown::Both); // the other side may have
            self.open = Some(connection.into());
        }
    }
}

/// Hands a connection on. It is closed if nobody accepts.
pub(crate) fn hand_on(connection: TcpStream, newcomer: Newcomer) -> Option<Close> {
    let acceptor = acceptor()?;
    let connection = Connection { open: Some(connection.into()), newcomer: Some(newcomer) };
    let plain = ResourceArc::new(Plain(Arc::new(Lock::new(connection))));
    // Only processes keep it.
    let connection = Arc::downgrade(&plain.0);
    // It may have ended.
    let _ = OwnedEnv::new()
        .send_and_clear(&acceptor, |env| (atoms::teleport_carrier(), atoms::plain(), plain).encode(env));
    Some(Box::new(move || {
        if let Some(connection) = connection.upgrade() {
            connection.lock().make_room();
        }
    }))
}
