//! Socket options that not every system has, or that nobody has wrapped.
//!
//! Where there is no such option, what only makes things better is left out, and what somebody has asked for is an error.

use std::io;
pub(super) use system::*;
use tokio::net::TcpStream;

/// Lets a reader sleep until this many bytes are there (`SO_RCVLOWAT`).
pub(crate) fn wake_at(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    nix::sys::socket::setsockopt(stream, declared::ReceiveLowWater, &bytes).map_err(Into::into)
}

/// Bytes written that the peer's TCP has not acknowledged, unsent ones included (`SIOCOUTQ`, `FIONWRITE`, `SO_NWRITE`).
pub(crate) fn unacknowledged(stream: &TcpStream) -> io::Result<u64> {
    let bytes = out_queue::bytes(stream)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(target_os = "linux")]
mod system {
    use socket2::SockRef;
    use std::io;
    use std::time::Duration;
    use tokio::net::TcpStream;

    pub(crate) fn set_congestion(socket: &SockRef<'_>, name: &str) -> io::Result<()> {
        socket.set_tcp_congestion(name.as_bytes())
    }

    pub(crate) fn set_user_timeout(socket: &SockRef<'_>, time: Duration) -> io::Result<()> {
        socket.set_tcp_user_timeout(Some(time))
    }

    pub(crate) fn set_notsent_lowat(socket: &SockRef<'_>, bytes: u32) -> io::Result<()> {
        socket.set_tcp_notsent_lowat(bytes)
    }

    pub(crate) fn set_priority(socket: &SockRef<'_>, priority: u32) -> io::Result<()> {
        socket.set_priority(priority)
    }

    pub(crate) fn set_max_pacing_rate(stream: &TcpStream, rate: u64) -> io::Result<()> {
        nix::sys::socket::setsockopt(stream, super::declared::MaxPacingRate, &rate).map_err(Into::into)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use socket2::SockRef;
    use std::io;
    use std::time::Duration;
    use tokio::net::TcpStream;

    pub(crate) fn set_congestion(_socket: &SockRef<'_>, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Ticks and stalls end a connection in any case.
    pub(crate) fn set_user_timeout(_socket: &SockRef<'_>, _time: Duration) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_notsent_lowat(_socket: &SockRef<'_>, _bytes: u32) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_priority(_socket: &SockRef<'_>, _priority: u32) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_max_pacing_rate(_stream: &TcpStream, _rate: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[allow(unsafe_code, reason = "the system call fills in an int, which nobody has wrapped for sockets")]
#[cfg(not(target_vendor = "apple"))]
mod out_queue {
    use nix::libc::c_int;
    use std::os::fd::{AsFd, AsRawFd};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::ioctl_read_bad!(waiting, nix::libc::TIOCOUTQ, c_int);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    nix::ioctl_read!(waiting, b'f', 119, c_int);

    pub(super) fn bytes(socket: &impl AsFd) -> nix::Result<c_int> {
        let mut bytes = 0;
        // SAFETY: the descriptor is borrowed and so is open; SIOCOUTQ, the same number as TIOCOUTQ, and FIONWRITE write one int,
        // and `bytes` is one.
        unsafe { waiting(socket.as_fd().as_raw_fd(), &mut bytes) }?;
        Ok(bytes)
    }
}

#[cfg(target_vendor = "apple")]
mod out_queue {
    use nix::libc::c_int;
    use std::os::fd::AsFd;

    pub(super) fn bytes(socket: &impl AsFd) -> nix::Result<c_int> {
        nix::sys::socket::getsockopt(socket, super::declared::Waiting)
    }
}

#[allow(
    unsafe_code,
    reason = "the macro declares socket options: SO_RCVLOWAT and SO_NWRITE are an int, SO_MAX_PACING_RATE a u64 (Linux 5.0)"
)]
mod declared {
    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(ReceiveLowWater, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32);
    #[cfg(target_os = "linux")]
    sockopt_impl!(MaxPacingRate, SetOnly, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, u64);
    #[cfg(target_vendor = "apple")]
    use nix::getsockopt_impl;
    #[cfg(target_vendor = "apple")]
    sockopt_impl!(Waiting, GetOnly, libc::SOL_SOCKET, libc::SO_NWRITE, i32);
}
