//! Socket options: what each connection is for decides how the kernel treats it.

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
    SockRef::from(&TcpSocket::new_v4()?).set_tcp_congestion(name.as_bytes())
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
        SockRef::from(&socket).set_tcp_congestion(congestion.as_bytes())?;
    }
    Ok(socket)
}

/// A control connection: first in line, and unacknowledged bytes end it when the peer would be declared down anyway.
pub(crate) fn prepare_control(stream: &TcpStream, net_ticktime: Duration) -> io::Result<()> {
    give_up_after(stream, net_ticktime)?;
    set_priority(&SockRef::from(stream), CONTROL_PRIORITY)
}

/// The connection ends when bytes are unacknowledged for this long.
pub(crate) fn give_up_after(stream: &TcpStream, time: Duration) -> io::Result<()> {
    const MOST: Duration = Duration::from_millis(i32::MAX as u64); // the kernel takes an int
    SockRef::from(stream).set_tcp_user_timeout(Some(time.clamp(Duration::from_secs(1), MOST)))
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
    config.max_pacing_rate.map_or(Ok(()), |rate| set_max_pacing_rate(stream, rate.get()))
}

fn set_priority(socket: &SockRef<'_>, priority: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_priority(priority)?;
    Ok(())
}

fn set_max_pacing_rate(stream: &TcpStream, rate: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::socket::setsockopt(stream, options::MaxPacingRate, &rate)?;
    Ok(())
}

/// Lets a reader sleep until this many bytes are there (`SO_RCVLOWAT`).
pub(crate) fn wake_at(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    nix::sys::socket::setsockopt(stream, options::ReceiveLowWater, &bytes).map_err(Into::into)
}

/// Bytes written that the peer's TCP has not acknowledged, unsent ones included (`SIOCOUTQ`).
pub(crate) fn unacknowledged(stream: &TcpStream) -> io::Result<u64> {
    let bytes = out_queue::bytes(stream)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[allow(unsafe_code, reason = "the system call fills in an int, which nobody has wrapped for sockets")]
mod out_queue {
    use nix::libc;
    use std::os::fd::{AsFd, AsRawFd};

    nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, libc::c_int);

    pub(super) fn bytes(socket: &impl AsFd) -> nix::Result<libc::c_int> {
        let mut bytes = 0;
        // SAFETY: the descriptor is borrowed and so is open; SIOCOUTQ, the same number as TIOCOUTQ, writes one int, and
        // `bytes` is one.
        unsafe { siocoutq(socket.as_fd().as_raw_fd(), &mut bytes) }?;
        Ok(bytes)
    }
}

#[allow(
    unsafe_code,
    reason = "the macro declares socket options: SO_RCVLOWAT is an int, SO_MAX_PACING_RATE a u64 (Linux 5.0)"
)]
mod options {
    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(ReceiveLowWater, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32);
    #[cfg(target_os = "linux")]
    sockopt_impl!(MaxPacingRate, SetOnly, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, u64);
}
