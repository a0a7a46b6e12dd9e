//! `teleport`: the product, used as an application would: mailboxes, names, `send`, `call` and `reply`.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use teleport::{Address, Binary, Config, Mailbox, Node, NodeName, StaticPeers};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc as signals;

use crate::args::{Mode, RateNodeOptions, Threads};
use crate::bench::COOKIE;
use crate::bench::child::{NodeError, give_up};
use crate::rate::meter::Meters;
use crate::rate::node::RateNode;
use crate::rate::payload;

/// What encoding adds to a binary: the version, a tag and the length.
const OVERHEAD: usize = 6;

/// More than the coordinator's patience: a call ends because it is answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(3600);

/// A node of the product.
pub(crate) struct TeleportNode {
    options: RateNodeOptions,
    application: Application,
    node: Node,
    peers: StaticPeers,
    meters: Arc<Meters>,
    /// Of the first node, by pair: begin.
    senders: Vec<signals::UnboundedSender<()>>,
    /// That a sender has ended.
    done: (mpsc::Sender<()>, mpsc::Receiver<()>),
    under_way: usize,
}

/// The runtime of senders and receivers.
struct Application {
    handle: Handle,
    /// Ends with this, unless a thread of its own drives it.
    _threads: Option<Runtime>,
}

impl Application {
    fn start(threads: Threads, workers: usize) -> Result<Self, NodeError> {
        let failed = || NodeError::io("cannot start the threads of senders and receivers");
        if threads != Threads::Single {
            let runtime =
                Builder::new_multi_thread().worker_threads(workers).enable_all().build().map_err(failed())?;
            return Ok(Self { handle: runtime.handle().clone(), _threads: Some(runtime) });
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed())?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("single".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(failed())?;
        Ok(Self { handle, _threads: None })
    }
}

impl TeleportNode {
    /// A node that listens, and knows no peers yet.
    pub(crate) fn start(options: &RateNodeOptions) -> Result<Self, NodeError> {
        let mut config = Config::default();
        config.congestion = options.congestion.clone();
        let application = Application::start(options.threads, config.worker_threads)?;
        let peers = StaticPeers::new();
        let mut builder =
            Node::builder(&name(options.index)).cookie(COOKIE).resolver(peers.clone()).config(config);
        if options.threads != Threads::Own {
            builder = builder.runtime(application.handle.clone());
        }
        if let Some(tls) = options.tls.config() {
            builder = builder.tls(tls);
        }
        let node = application
            .handle
            .block_on(builder.start())
            .map_err(NodeError::teleport("cannot start the node"))?;
        let meters = Arc::new(Meters::new(options.pairs));
        let (options, senders, done) = (options.clone(), Vec::new(), mpsc::channel());
        Ok(Self { options, application, node, peers, meters, senders, done, under_way: 0 })
    }

    /// Those who wait for the signal to send.
    fn start_senders(&mut self) -> Result<(), NodeError> {
        let peer = node_name(1)?;
        for pair in 0..self.options.pairs {
            let mailbox = self.node.mailbox().map_err(NodeError::teleport("cannot start a sender"))?;
            let to = Address::from((&*mailbox_name(pair), &peer));
            let sender = Sender { pair, mailbox, to, payload: self.options.size.bytes() - OVERHEAD };
            let (begin, signals) = signals::unbounded_channel();
            let (meters, done, mode) = (Arc::clone(&self.meters), self.done.0.clone(), self.options.mode);
            self.spawn(sender.run(meters, mode, signals, done));
            self.senders.push(begin);
        }
        Ok(())
    }

    fn start_receivers(&self) -> Result<(), NodeError> {
        for pair in 0..self.options.pairs {
            let mailbox = self
                .node
                .register(&mailbox_name(pair))
                .map_err(NodeError::teleport("cannot register a receiver"))?;
            let receiver = Receiver { pair, mailbox, payload: self.options.size.bytes() - OVERHEAD };
            let meters = Arc::clone(&self.meters);
            match self.options.mode {
                Mode::Send => self.spawn(receiver.receive(meters)),
                Mode::Call => self.spawn(receiver.answer(meters)),
            }
        }
        Ok(())
    }

    /// A task whose failure is the node's.
    fn spawn(&self, task: impl Future<Output = Result<(), NodeError>> + Send + 'static) {
        self.application.handle.spawn(async move {
            if let Err(error) = task.await {
                give_up(&error);
            }
        });
    }
}

impl RateNode for TeleportNode {
    fn address(&self) -> String {
        self.node.address().to_string()
    }

    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError> {
        for (index, text) in (0..).zip(addresses) {
            let address =
                text.parse().map_err(|_| NodeError::Address { node: index, address: text.clone() })?;
            let address: std::net::SocketAddr = address;
            self.peers.insert(node_name(index)?, address);
        }
        if self.options.index == 1 {
            return self.start_receivers();
        }
        self.application
            .handle
            .block_on(self.node.prime(&node_name(1)?))
            .map_err(NodeError::teleport("cannot connect to the other node"))?;
        self.start_senders()
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

/// A pair's side that begins.
struct Sender {
    pair: u16,
    mailbox: Mailbox,
    to: Address,
    /// Bytes in a message's binary.
    payload: usize,
}

impl Sender {
    async fn run(
        self,
        meters: Arc<Meters>,
        mode: Mode,
        mut signals: signals::UnboundedReceiver<()>,
        done: mpsc::Sender<()>,
    ) -> Result<(), NodeError> {
        while signals.recv().await.is_some() {
            match mode {
                Mode::Send => self.send(&meters).await?,
                Mode::Call => self.call(&meters).await?,
            }
            // The receiver is gone only if the node is ending.
            let _ = done.send(());
        }
        Ok(())
    }

    /// Sends until it is told to end.
    async fn send(&self, meters: &Meters) -> Result<(), NodeError> {
        let failed = || NodeError::teleport("cannot send");
        let meter = meters.pair(self.pair);
        if meter.verifies() {
            let mut numbers = 0..;
            while !meter.is_halted() {
                let message = self.message(numbers.next().unwrap_or_default());
                self.mailbox.send(self.to.clone(), &message).await.map_err(failed())?;
                meter.add(1);
            }
            return Ok(());
        }
        let message = self.message(0);
        while !meter.is_halted() {
            self.mailbox.send(self.to.clone(), &message).await.map_err(failed())?;
            meter.add(1);
        }
        Ok(())
    }

    /// Calls until it is told to end.
    async fn call(&self, meters: &Meters) -> Result<(), NodeError> {
        let meter = meters.pair(self.pair);
        let verify = meter.verifies();
        let (process, mut request, mut turn) = (self.mailbox.process(), self.message(0), 0);
        while !meter.is_halted() {
            if verify {
                request = self.message(turn);
            }
            let begun = Instant::now();
            let reply: Binary = process
                .call(self.to.clone(), &request, CALL_TIMEOUT)
                .await
                .map_err(NodeError::teleport("a call failed"))?;
            meter.answered(begun);
            if verify {
                meter.verify(&mut turn, &reply, self.payload)?;
            }
        }
        Ok(())
    }

    fn message(&self, number: u64) -> Binary {
        let mut message = vec![0; self.payload];
        payload::fill(number, &mut message);
        message.into()
    }
}

/// A pair's side that waits.
struct Receiver {
    pair: u16,
    mailbox: Mailbox,
    /// Bytes in a message's binary.
    payload: usize,
}

impl Receiver {
    /// Until the node ends.
    async fn receive(mut self, meters: Arc<Meters>) -> Result<(), NodeError> {
        let meter = meters.pair(self.pair);
        let mut turn = 0;
        while let Some(message) = self.mailbox.recv().await {
            if meter.verifies() {
                let binary: Binary =
                    message.decode().map_err(NodeError::teleport("cannot read a message"))?;
                meter.verify(&mut turn, &binary, self.payload)?;
            }
            meter.add(1);
        }
        Ok(())
    }

    /// Sends every request back, until the node ends.
    async fn answer(mut self, meters: Arc<Meters>) -> Result<(), NodeError> {
        let (meter, process) = (meters.pair(self.pair), self.mailbox.process());
        while let Some(message) = self.mailbox.recv().await {
            let (caller, request) = message.call().ok_or_else(|| NodeError::Protocol {
                from: format!("the caller of pair {}", self.pair),
                what: "what is no call".to_owned(),
            })?;
            process.reply(&caller, &request).map_err(NodeError::teleport("cannot answer"))?;
            meter.add(1);
        }
        Ok(())
    }
}

fn name(index: u16) -> String {
    format!("rate{index}@127.0.0.1")
}

fn node_name(index: u16) -> Result<NodeName, NodeError> {
    name(index).parse().map_err(NodeError::teleport("cannot name a node"))
}

fn mailbox_name(pair: u16) -> String {
    format!("receiver {pair}")
}
