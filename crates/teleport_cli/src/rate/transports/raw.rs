//! `raw`: blocking sockets, one connection and one thread at either side per pair.
//!
//! The ceiling for one-way messages: each has its length in front and is copied into a block; the block is written
//! when it is full. The receiver reads what there is, and makes an owned copy of each message, as whoever keeps
//! messages apart from the read buffer has to.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use crate::args::{Mode, RateNodeOptions};
use crate::bench::child::{NodeError, give_up};
use crate::bench::socket::{self, HELLO_DEADLINE};
use crate::rate::meter::{Meters, PairMeter};
use crate::rate::node::RateNode;
use crate::rate::payload;

/// Bytes written at once.
const WRITE_BLOCK: usize = 64 * 1024;

/// Bytes read at once, if there are as many.
const READ_BLOCK: usize = 256 * 1024;

/// In front of every one-way message.
const LENGTH: usize = 4;

/// A node of plain sockets.
pub(crate) struct RawNode {
    options: RateNodeOptions,
    listener: TcpListener,
    address: SocketAddr,
    meters: Arc<Meters>,
    /// Of the first node, by pair: begin.
    senders: Vec<mpsc::Sender<()>>,
    /// That a sender has ended.
    done: (mpsc::Sender<()>, mpsc::Receiver<()>),
    under_way: usize,
}

impl RawNode {
    /// A node that listens, but has no connections yet.
    pub(crate) fn new(options: &RateNodeOptions) -> Result<Self, NodeError> {
        let listener = socket::listen(Ipv4Addr::LOCALHOST, options.congestion.as_deref())?;
        let address = listener.local_addr().map_err(NodeError::io("cannot tell the listener's address"))?;
        let meters = Arc::new(Meters::new(options.pairs));
        let (senders, done) = (Vec::new(), mpsc::channel());
        Ok(Self { options: options.clone(), listener, address, meters, senders, done, under_way: 0 })
    }

    /// Opens all pairs' connections, and starts those who wait for the signal to send.
    fn start_senders(&mut self, address: SocketAddr) -> Result<(), NodeError> {
        for pair in 0..self.options.pairs {
            let mut stream = socket::dial(address, self.options.congestion.as_deref())?;
            stream
                .write_all(&pair.to_le_bytes())
                .map_err(NodeError::io("cannot tell what a connection is for"))?;
            let (begin, signals) = mpsc::channel();
            let (done, size, mode) = (self.done.0.clone(), self.options.size.bytes(), self.options.mode);
            self.spawn(format!("send-{pair}"), pair, move |meter| {
                let mut sender = Sender { stream, size };
                for () in signals {
                    match mode {
                        Mode::Send => sender.send(meter)?,
                        Mode::Call => sender.call(meter)?,
                    }
                    // Who waits for it is gone only if the node is ending.
                    let _ = done.send(());
                }
                Ok(())
            })?;
            self.senders.push(begin);
        }
        Ok(())
    }

    /// Takes all pairs' connections, and reads from them from now on.
    fn start_receivers(&self) -> Result<(), NodeError> {
        for _ in 0..self.options.pairs {
            let (stream, pair) = accept(&self.listener, self.options.pairs)?;
            let (size, mode) = (self.options.size.bytes(), self.options.mode);
            self.spawn(format!("receive-{pair}"), pair, move |meter| {
                let receiver = Receiver { stream, size };
                match mode {
                    Mode::Send => receiver.receive(meter),
                    Mode::Call => receiver.answer(meter),
                }
            })?;
        }
        Ok(())
    }

    /// A thread whose failure is the node's.
    fn spawn<F>(&self, name: String, pair: u16, run: F) -> Result<(), NodeError>
    where
        F: FnOnce(&PairMeter<'_>) -> Result<(), NodeError> + Send + 'static,
    {
        let meters = Arc::clone(&self.meters);
        let body = move || {
            if let Err(error) = run(&meters.pair(pair)) {
                give_up(&error);
            }
        };
        thread::Builder::new().name(name).spawn(body).map_err(NodeError::io("cannot start a thread"))?;
        Ok(())
    }
}

impl RateNode for RawNode {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError> {
        if self.options.index == 1 {
            return self.start_receivers();
        }
        let text = addresses.get(1).map_or("", String::as_str);
        let address = text.parse().map_err(|_| NodeError::Address { node: 1, address: text.to_owned() })?;
        self.start_senders(address)
    }

    fn go(&mut self) -> Result<(), NodeError> {
        for sender in &self.senders {
            sender.send(()).map_err(|_| NodeError::ThreadGone("sender"))?;
            self.under_way += 1;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), NodeError> {
        while self.under_way > 0 {
            self.done.1.recv().map_err(|_| NodeError::ThreadGone("sender"))?;
            self.under_way -= 1;
        }
        Ok(())
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }
}

/// Waits for a connection, and for the pair that it is for.
fn accept(listener: &TcpListener, pairs: u16) -> Result<(TcpStream, u16), NodeError> {
    let (mut stream, peer) = listener.accept().map_err(NodeError::io("cannot accept a connection"))?;
    let mut pair = [0; 2];
    let mut greet = || {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HELLO_DEADLINE))?;
        stream.read_exact(&mut pair)?;
        stream.set_read_timeout(None)
    };
    greet().map_err(NodeError::io(format!("cannot read what the connection of {peer} is for")))?;
    match u16::from_le_bytes(pair) {
        pair if pair < pairs => Ok((stream, pair)),
        pair => {
            Err(NodeError::Protocol { from: peer.to_string(), what: format!("the number of pair {pair}") })
        }
    }
}

/// A pair's side that begins.
struct Sender {
    stream: TcpStream,
    size: usize,
}

impl Sender {
    /// Sends until it is told to end.
    fn send(&mut self, meter: &PairMeter<'_>) -> Result<(), NodeError> {
        let failed = || NodeError::io("cannot send");
        let length = u32::try_from(self.size).unwrap_or(u32::MAX).to_le_bytes();
        let verify = meter.verifies();
        let (mut message, mut number) = (vec![0; self.size], 0);
        payload::fill(number, &mut message);
        let per_block = (WRITE_BLOCK / (LENGTH + self.size)).max(1);
        let mut block = Vec::with_capacity(per_block * (LENGTH + self.size));
        while !meter.is_halted() {
            for _ in 0..per_block {
                if verify {
                    payload::fill(number, &mut message);
                    number += 1;
                }
                block.extend_from_slice(&length);
                block.extend_from_slice(&message);
            }
            self.stream.write_all(&block).map_err(failed())?;
            meter.add(per_block as u64);
            block.clear();
        }
        Ok(())
    }

    /// Calls until it is told to end.
    fn call(&mut self, meter: &PairMeter<'_>) -> Result<(), NodeError> {
        let failed = || NodeError::io("cannot call");
        let verify = meter.verifies();
        let (mut request, mut reply) = (vec![0; self.size], vec![0; self.size]);
        payload::fill(0, &mut request);
        let mut turn = 0;
        while !meter.is_halted() {
            if verify {
                payload::fill(turn, &mut request);
            }
            let begun = Instant::now();
            self.stream.write_all(&request).map_err(failed())?;
            self.stream.read_exact(&mut reply).map_err(failed())?;
            meter.answered(begun);
            if verify {
                meter.verify(&mut turn, &reply, self.size)?;
            }
        }
        Ok(())
    }
}

/// A pair's side that waits.
struct Receiver {
    stream: TcpStream,
    size: usize,
}

impl Receiver {
    /// Until the sender closes the connection.
    fn receive(mut self, meter: &PairMeter<'_>) -> Result<(), NodeError> {
        let mut buffer = vec![0; READ_BLOCK.max(2 * (LENGTH + self.size))];
        let (mut filled, mut turn) = (0, 0);
        loop {
            let read = match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(NodeError::io("cannot receive")(error)),
            };
            filled += read;
            let (mut at, mut messages, verify) = (0, 0, meter.verifies());
            while let Some((message, rest)) = split(&buffer[at..filled]) {
                let message: Box<[u8]> = message.into();
                at = filled - rest;
                messages += 1;
                if verify {
                    meter.verify(&mut turn, &message, self.size)?;
                }
                black_box(message);
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
            if filled == buffer.len() {
                let what = format!("a message larger than {filled} bytes");
                return Err(NodeError::Protocol { from: "the sender".to_owned(), what });
            }
            meter.add(messages);
        }
    }

    /// Until the caller closes the connection.
    fn answer(mut self, meter: &PairMeter<'_>) -> Result<(), NodeError> {
        let mut request = vec![0; self.size];
        loop {
            match self.stream.read_exact(&mut request) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(NodeError::io("cannot read a request")(error)),
            }
            self.stream.write_all(&request).map_err(NodeError::io("cannot answer"))?;
            meter.add(1);
        }
    }
}

/// The first message, and how many bytes follow it; none if it is not complete.
fn split(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (message, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((message, rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_only_when_complete() {
        let bytes = [3, 0, 0, 0, 7, 8, 9, 2, 0, 0, 0, 1];
        assert_eq!(split(&bytes), Some((&[7, 8, 9][..], 5)));
        assert_eq!(split(&bytes[7..]), None);
        assert_eq!(split(&bytes[..3]), None);
        assert_eq!(split(&[0, 0, 0, 0]), Some((&[][..], 0)));
    }

    /// A connection over which a sender sends until it is halted.
    fn exchange(size: usize) -> (u64, u64) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let receiver = Receiver { stream: listener.accept().unwrap().0, size };
        let (here, there) = (Meters::new(1), Meters::new(1));
        here.prepare(true);
        there.prepare(true);
        thread::scope(|scope| {
            scope.spawn(|| Sender { stream, size }.send(&here.pair(0)).unwrap());
            scope.spawn(|| receiver.receive(&there.pair(0)).unwrap());
            while there.count() < 1000 {
                thread::yield_now();
            }
            here.halt();
        });
        (here.count(), there.count())
    }

    #[test]
    fn all_that_is_sent_arrives_in_order() {
        for size in [16, 1000, 100_000] {
            let (sent, received) = exchange(size);
            assert_eq!(sent, received);
        }
    }
}
