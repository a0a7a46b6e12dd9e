//! One direction of a connection.

use super::Fault;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What a connection has been told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nothing in particular.
    Open,
    /// Let nothing pass.
    Held,
    /// Take everything, and pass nothing on.
    Swallowed,
    /// Let everything pass, again.
    Released,
    /// End.
    Cut,
    /// End by a reset.
    Reset,
}

/// From one socket to the other.
pub(super) struct Way<'a> {
    pub(super) from: &'a TcpStream,
    pub(super) to: &'a TcpStream,
    pub(super) fault: Fault,
    pub(super) flow: watch::Receiver<Flow>,
    pub(super) forwarded: &'a AtomicU64,
    pub(super) struck: &'a AtomicU64,
    /// What comes goes nowhere.
    pub(super) swallowing: bool,
}

/// Waits until the connection is told to end.
pub(super) async fn ordered(orders: &mut watch::Receiver<Flow>) -> Flow {
    let ended = orders.wait_for(|flow| matches!(flow, Flow::Cut | Flow::Reset)).await.map(|flow| *flow);
    match ended {
        Ok(flow) => flow,
        Err(_) => std::future::pending().await, // the connection holds the sender
    }
}

impl Way<'_> {
    /// Passes bytes on until they end, or the fault ends the connection: `Err` says how.
    pub(super) async fn run(mut self) -> Result<(), Flow> {
        let mut buffer = vec![0; 64 * 1024];
        let mut passed = 0;
        loop {
            self.while_held().await;
            if self.strikes_at(passed) {
                self.struck.fetch_add(1, Ordering::Relaxed);
                match self.fault {
                    Fault::Cut { .. } => return Err(Flow::Cut),
                    Fault::Reset { .. } => return Err(Flow::Reset),
                    Fault::HalfClose { .. } => return self.shut().await,
                    Fault::Stall { .. } => {
                        let released = self.flow.wait_for(|flow| *flow == Flow::Released).await.is_ok();
                        self.fault = Fault::Pass;
                        if !released {
                            return Ok(());
                        }
                    }
                    Fault::Swallow { .. } => {
                        self.swallowing = true;
                        self.fault = Fault::Pass;
                    }
                    Fault::Pass | Fault::Flip { .. } | Fault::Drip { .. } => {}
                }
            }
            let room = self.room(passed, buffer.len());
            let len = self.read(&mut buffer[..room]).await?;
            if len == 0 {
                return self.shut().await;
            }
            self.flip(passed, &mut buffer[..len]);
            self.while_held().await;
            if self.swallowing || *self.flow.borrow() == Flow::Swallowed {
                continue;
            }
            if let Fault::Drip { pause, .. } = self.fault {
                tokio::time::sleep(pause).await;
            }
            // Before: who has got it may look at this.
            self.forwarded.fetch_add(len as u64, Ordering::Relaxed);
            if self.write(&buffer[..len]).await.is_err() {
                return Ok(()); // the other direction sees the end too, after what came before it
            }
            passed += len as u64;
        }
    }

    fn strikes_at(&self, passed: u64) -> bool {
        match self.fault {
            Fault::Cut { at }
            | Fault::Reset { at }
            | Fault::HalfClose { at }
            | Fault::Stall { at }
            | Fault::Swallow { at } => passed >= at,
            Fault::Pass | Fault::Flip { .. } | Fault::Drip { .. } => false,
        }
    }

    /// How much to read at most, so that the fault strikes where it should.
    fn room(&self, passed: u64, most: usize) -> usize {
        let until = |at: u64| usize::try_from(at - passed).unwrap_or(most).min(most);
        match self.fault {
            Fault::Cut { at }
            | Fault::Reset { at }
            | Fault::HalfClose { at }
            | Fault::Stall { at }
            | Fault::Swallow { at } => until(at),
            Fault::Drip { piece, .. } => piece.clamp(1, most),
            Fault::Pass | Fault::Flip { .. } => most,
        }
    }

    fn flip(&self, passed: u64, bytes: &mut [u8]) {
        let Fault::Flip { at, bit } = self.fault else { return };
        let index = at.checked_sub(passed).and_then(|index| usize::try_from(index).ok());
        if let Some(byte) = index.and_then(|index| bytes.get_mut(index)) {
            *byte ^= 1 << (bit & 7);
            self.struck.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn while_held(&mut self) {
        // Nothing passes once it is told to end; who told it so ends it. An error means that the connection is gone, and so is
        // this soon.
        let _ = self.flow.wait_for(|flow| !matches!(flow, Flow::Held | Flow::Cut | Flow::Reset)).await;
    }

    async fn read(&self, buffer: &mut [u8]) -> Result<usize, Flow> {
        loop {
            match self.from.try_read(buffer) {
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.from.readable().await.map_err(|_| Flow::Cut)?;
                }
                Err(_) => return Err(Flow::Reset), // passed on as it came, after what came before
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.to.try_write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.to.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes the end on. The other direction goes on.
    async fn shut(&self) -> Result<(), Flow> {
        let to = socket2::SockRef::from(self.to);
        to.shutdown(std::net::Shutdown::Write).map_err(|_| Flow::Cut)
    }
}
