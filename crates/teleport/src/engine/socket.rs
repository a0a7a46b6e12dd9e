//! Socket options: what each connection is for decides how the kernel treats it.

use crate::Config;
use socket2::SockRef;
use std::io;
use std::time::Duration;
use teleport_proto::wire::pool::Class;
use tokio::net::TcpStream;

/// Packets of control connections go first, bulk last; up to 6 needs no privilege (`SO_PRIORITY`).
const CONTROL_PRIORITY: u32 = 6;
const EXPRESS_PRIORITY: u32 = 4;
const BULK_PRIORITY: u32 = 2;

/// Before it is known what a connection is for.
pub(crate) fn prepare(stream: &TcpStream, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    if let Some(congestion) = &config.congestion {
        socket.set_tcp_congestion(congestion.as_bytes())?;
    }
    Ok(())
}

/// A control connection: first in line, and unacknowledged bytes end it when the peer would be declared down anyway.
pub(crate) fn prepare_control(stream: &TcpStream, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(config.net_ticktime.max(Duration::from_secs(1))))?;
    set_priority(&socket, CONTROL_PRIORITY)
}

/// A pool connection: what is not sent yet stays in our queue, where priorities exist. Buffer sizes are left alone:
/// setting them would end the kernel's tuning.
pub(crate) fn prepare_pool(stream: &TcpStream, class: Class, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    match class {
        Class::Express => set_priority(&socket, EXPRESS_PRIORITY)?,
        Class::Bulk => {
            set_priority(&socket, BULK_PRIORITY)?;
            socket.set_tcp_notsent_lowat(config.notsent_lowat)?;
        }
    }
    Ok(())
}

fn set_priority(socket: &SockRef<'_>, priority: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_priority(priority)?;
    Ok(())
}
