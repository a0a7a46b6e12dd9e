//! The baselines: blocking sockets, a connection per pair.
//!
//! `raw` ([`queued`]) hands messages from thread to thread at either side, `inline` ([`inline`]) does not. Calls are
//! one thing for both ([`ping_pong`]).

mod inline;
mod ping_pong;
mod queue;
mod queued;
mod wire;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::args::{Mode, RateNodeOptions, RateTransport};
use crate::bench::child::{NodeError, give_up};
use crate::bench::socket::{self, HELLO_DEADLINE};
use crate::rate::meter::{Meters, PairMeter};
use crate::rate::node::RateNode;
use queue::{Producer, queue};

/// What a pair does.
#[derive(Debug, Clone, Copy)]
enum Work {
    Queued,
    Inline,
    PingPong,
}

/// A pair's side that begins.
enum Sender {
    Queued(Producer),
    Inline(TcpStream),
    PingPong(TcpStream),
}

/// A node of plain sockets.
pub(crate) struct PlainNode {
    options: RateNodeOptions,
    listener: TcpListener,
    address: SocketAddr,
    meters: Arc<Meters>,
    work: Work,
    /// Of the first node, by pair: begin.
    senders: Vec<mpsc::Sender<()>>,
    /// That a sender has ended.
    done: (mpsc::Sender<()>, mpsc::Receiver<()>),
    under_way: usize,
}

impl PlainNode {
    /// A node that listens, but has no connections yet.
    pub(crate) fn new(options: &RateNodeOptions) -> Result<Self, NodeError> {
        let listener = socket::listen(Ipv4Addr::LOCALHOST, options.congestion.as_deref())?;
        let address = listener.local_addr().map_err(NodeError::io("cannot tell the listener's address"))?;
        let meters = Arc::new(Meters::new(options.pairs));
        let work = match (options.mode, options.transport) {
            (Mode::Call, _) => Work::PingPong,
            (Mode::Send, RateTransport::Inline) => Work::Inline,
            (Mode::Send, _) => Work::Queued,
        };
        let (options, senders, done) = (options.clone(), Vec::new(), mpsc::channel());
        Ok(Self { options, listener, address, meters, work, senders, done, under_way: 0 })
    }

    /// Opens all pairs' connections, and starts those who wait for the signal to send.
    fn start_senders(&mut self, address: SocketAddr) -> Result<(), NodeError> {
        for pair in 0..self.options.pairs {
            let mut stream = socket::dial(address, self.options.congestion.as_deref())?;
            stream
                .write_all(&pair.to_le_bytes())
                .map_err(NodeError::io("cannot tell what a connection is for"))?;
            let begin = self.start_sender(stream, pair)?;
            self.senders.push(begin);
        }
        Ok(())
    }

    /// A thread that sends or calls, from the signal on until the meters tell it to end.
    fn start_sender(&self, stream: TcpStream, pair: u16) -> Result<mpsc::Sender<()>, NodeError> {
        let mut sender = match self.work {
            Work::Queued => {
                let (producer, consumer) = queue();
                self.spawn(format!("write-{pair}"), pair, |_| queued::write(stream, consumer))?;
                Sender::Queued(producer)
            }
            Work::Inline => Sender::Inline(stream),
            Work::PingPong => Sender::PingPong(stream),
        };
        let (begin, signals) = mpsc::channel();
        let (done, size) = (self.done.0.clone(), self.options.size.bytes());
        self.spawn(format!("send-{pair}"), pair, move |meter| {
            for () in signals {
                match &mut sender {
                    Sender::Queued(queue) => queued::send(queue, size, meter)?,
                    Sender::Inline(stream) => inline::send(stream, size, meter)?,
                    Sender::PingPong(stream) => ping_pong::call(stream, size, meter)?,
                }
                // The receiver is gone only if the node is ending.
                let _ = done.send(());
            }
            Ok(())
        })?;
        Ok(begin)
    }

    /// Takes all pairs' connections, and reads from them from now on.
    fn start_receivers(&self) -> Result<(), NodeError> {
        for _ in 0..self.options.pairs {
            let (stream, pair) = accept(&self.listener, self.options.pairs)?;
            let size = self.options.size.bytes();
            let name = format!("receive-{pair}");
            match self.work {
                Work::Queued => {
                    let (producer, consumer) = queue();
                    self.spawn(format!("read-{pair}"), pair, move |_| queued::read(stream, size, producer))?;
                    self.spawn(name, pair, move |meter| queued::receive(consumer, size, meter))?;
                }
                Work::Inline => {
                    self.spawn(name, pair, move |meter| inline::receive(stream, size, meter))?;
                }
                Work::PingPong => {
                    self.spawn(name, pair, move |meter| ping_pong::answer(stream, size, meter))?;
                }
            }
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

impl RateNode for PlainNode {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Threads;

    /// Two nodes in this process: what the first has sent until it is halted is what the second receives.
    fn exchange(transport: RateTransport, mode: Mode, size: &str, messages: u64) {
        let node = |index| {
            let options = RateNodeOptions {
                transport,
                index,
                mode,
                size: size.parse().unwrap(),
                pairs: 2,
                threads: Threads::Own,
                congestion: None,
                tls: Default::default(),
            };
            let node = PlainNode::new(&options).unwrap();
            node.meters().prepare(true);
            node
        };
        let (mut here, mut there) = (node(0), node(1));
        let addresses = [here.address(), there.address()];
        here.connect(&addresses).unwrap();
        there.connect(&addresses).unwrap();
        here.go().unwrap();
        while there.meters().count() < messages {
            thread::yield_now();
        }
        here.meters().halt();
        here.wait().unwrap();
        while there.meters().count() < here.meters().count() {
            thread::yield_now();
        }
        assert_eq!(here.meters().count(), there.meters().count());
    }

    /// A receiver ends this process if a message is not the one whose turn it is.
    #[test]
    fn all_that_is_sent_arrives_in_order() {
        for (size, messages) in [("16B", 10_000), ("1000B", 1000), ("100000B", 30)] {
            exchange(RateTransport::Raw, Mode::Send, size, messages);
            exchange(RateTransport::Inline, Mode::Send, size, messages);
        }
        exchange(RateTransport::Raw, Mode::Call, "64B", 100);
    }
}
