//! Plain sockets of the transports `raw`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::{io, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};

use super::child::NodeError;

/// Neighbours are on this machine, and say at once what a connection is for.
pub(crate) const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Room for a neighbour's connections until a node accepts them.
const BACKLOG: i32 = 1024;

/// A listening socket on a free port.
pub(crate) fn listen(host: Ipv4Addr, congestion: Option<&str>) -> Result<TcpListener, NodeError> {
    let bind = || {
        let socket = socket(congestion)?;
        socket.bind(&SocketAddr::from((host, 0)).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(NodeError::io(format!("cannot listen on {host}{}", asked(congestion))))
}

/// A connection that sends at once.
pub(crate) fn dial(address: SocketAddr, congestion: Option<&str>) -> Result<TcpStream, NodeError> {
    let connect = || {
        let socket = socket(congestion)?;
        socket.connect(&address.into())?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    };
    connect().map_err(NodeError::io(format!("cannot connect to {address}{}", asked(congestion))))
}

/// Buffer sizes are left alone: setting them would end the kernel's own tuning.
fn socket(congestion: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(name) = congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    Ok(socket)
}

fn asked(congestion: Option<&str>) -> String {
    congestion.map_or_else(String::new, |name| {
        format!(" with congestion control `{name}` (see net.ipv4.tcp_available_congestion_control)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_congestion_control_is_named() {
        let error = listen(Ipv4Addr::LOCALHOST, Some("no-such")).unwrap_err();
        assert!(error.to_string().contains("`no-such`"), "{error}");
    }
}
