//! Socket options: what each connection is for decides how the kernel treats it.

use super::options;
use crate::Config;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use teleport_proto::wire::pool::Class;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Packets of control connections go first, bulk last; up to 6 needs no privilege (`SO_PRIORITY`).
const CONTROL_PRIORITY: u32 = 6;
const EXPRESS_PRIORITY: u32 = 4;
const BULK_PRIORITY: u32 = 2;

/// Connections that may wait for the accept loop: a fifth of a second of a flood of 20,000 a second. Linux' own limit.
const BACKLOG: u32 = 4096;

/// Whether the kernel has a congestion control of that name.
pub(crate) fn knows_congestion(name: &str) -> io::Result<()> {
    options::set_congestion(&SockRef::from(&TcpSocket::new_v4()?), name)
}

/// Listens. Accepted connections inherit the congestion control.
pub(crate) fn listen(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = socket(address, config)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connects.
pub(crate) async fn connect(address: SocketAddr, config: &Config) -> io::Result<TcpStream> {
    let stream = socket(address, config)?.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The congestion control is set before a connection begins: what another one has set up by then (timers for pacing)
/// would stay.
fn socket(address: SocketAddr, config: &Config) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(congestion) = &config.congestion {
        options::set_congestion(&SockRef::from(&socket), congestion)?;
    }
    Ok(socket)
}

/// A control connection: first in line, and unacknowledged bytes end it when the peer would be declared down anyway.
pub(crate) fn prepare_control(stream: &TcpStream, net_ticktime: Duration) -> io::Result<()> {
    give_up_after(stream, net_ticktime)?;
    options::set_priority(&SockRef::from(stream), CONTROL_PRIORITY)
}

/// The connection ends when bytes are unacknowledged for this long; on Linux. Elsewhere ticks end it.
pub(crate) fn give_up_after(stream: &TcpStream, time: Duration) -> io::Result<()> {
    const MOST: Duration = Duration::from_millis(i32::MAX as u64); // the kernel takes an int
    options::set_user_timeout(&SockRef::from(stream), time.clamp(Duration::from_secs(1), MOST))
}

/// A pool connection: what is not sent yet stays in our queue, where priorities exist. Buffer sizes are left alone:
/// setting them would end the kernel's tuning.
pub(crate) fn prepare_pool(stream: &TcpStream, class: Class, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    match class {
        Class::Express => options::set_priority(&socket, EXPRESS_PRIORITY)?,
        Class::Bulk => {
            options::set_priority(&socket, BULK_PRIORITY)?;
            options::set_notsent_lowat(&socket, config.notsent_lowat)?;
        }
    }
    config.max_pacing_rate.map_or(Ok(()), |rate| options::set_max_pacing_rate(stream, rate.get()))
}
