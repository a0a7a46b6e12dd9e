//! One session with a peer: the transfer machine, and what drives it.
//!
//! Senders, the readers and writers of pool connections and the session's own task all work on one
//! [`Transfer`] under one lock, which is held for the time of a state change and never while a socket is read or written.

mod bulk;
mod carried;
mod command;
mod connection;
mod core;
mod deliver;
mod drain;
mod end;
mod express;
mod linger;
mod permitted;
mod pool;
mod probe;
mod send;
mod shelves;
mod state;
mod task;
mod writer;

pub(crate) use self::core::{Core, SessionEvent};
use crate::SendError;
use crate::base::encoding::atom_of;
use crate::base::info::NotAllowed;
use crate::base::lock::{Held, Lock, Rank};
use crate::base::meter::SessionMeter;
use crate::base::seldom::{NotSaid, OfPeer, warn_seldom};
use crate::host::{Arrivals, Carry};
use crate::io::clock::Moment;
use crate::io::readers::{Reader, Turn};
use crate::io::source::Source;
use crate::local::watch::Watched;
use crate::local::{Accepted, Backlog, Peer, Unsent};
use bytes::BytesMut;
use carried::CarriedCounts;
pub(crate) use command::Command;
use deliver::Deliver;
pub(crate) use drain::drain;
pub(crate) use end::Ended;
use permitted::Permitted;
use send::Denied;
pub(crate) use send::{Confirmation, Offered, Patience};
use shelves::Shelves;
use state::State;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use teleport_etf::{Atom, Pid};
use teleport_proto::handshake::{Established, FEATURE_CARRIES, Role, SessionKey};
use teleport_proto::liveness::Counts;
use teleport_proto::transfer::{Credit, Disposition, Outgoing, Transfer, TransferConfig, TransferStats};
use teleport_proto::wire::envelope::{ProcessId, Seq};
use teleport_proto::{Incarnation, NodeName, SessionId};
use tokio::sync::{Notify, mpsc};

/// The last number that was given to a session.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// The session's task may have control frames of this many bytes before it: as much as an honest peer says in many seconds.
const MOST_UNHANDLED: usize = 128 * 1024;

/// What an [`Event`] takes besides.
const EVENT: usize = 128;

/// What the session's task is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// The control connection is up (again).
    ControlUp,
    /// It is gone.
    ControlDown,
    /// What [`Command::Write`] asked for has been written.
    ControlWritten,
    /// Frames from the peer that concern messages and the pool.
    Control(BytesMut),
    /// The peer goes; behind everything that it had to say.
    Goodbye,
    /// The session is over.
    End,
}

/// A session. Lives as long as anybody holds on to it; of use until it has ended.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    number: u64,
    pub(crate) peer: NodeName,
    peer_atom: Atom,
    pub(crate) peer_incarnation: Incarnation,
    pub(crate) key: SessionKey,
    pub(crate) dialled: bool,
    source: Source,
    /// The largest message that it takes, in bytes.
    pub(crate) max_message: u64,
    /// Both ends carry connections of distributed Erlang.
    carries: bool,
    pub(crate) core: Arc<Core>,
    state: Lock<State>,
    shelves: Arc<Shelves>,
    /// The control connection has something to say, soon or now.
    soon: Notify,
    now: Notify,
    /// It runs soon anyway, to show what has changed.
    show_planned: AtomicBool,
    /// Something is under way: connections have to be looked after, and are.
    in_use: Notify,
    looked_after: AtomicBool,
    /// Mailboxes may have messages of the session for which they have no room.
    placed: AtomicBool,
    /// The node's budget has room again.
    budget_freed: Arc<Notify>,
    /// There is more to be granted to the peer.
    grants_freed: Arc<Notify>,
    /// The pool has changed.
    pool_changed: Notify,
    /// Something has been delivered, maybe everything.
    drained: Notify,
    /// What the peer may reach.
    permitted: Permitted,
    /// Processes of this node that the peer's processes watch.
    watched: Watched,
    /// What is on its way to the host, if there is one.
    pub(crate) arrivals: Arrivals,
    /// Whether the host may still be handed what has come over it.
    up: Lock<bool>,
    /// Its beginning has been told: what comes may be delivered.
    begun: AtomicBool,
    begins: Notify,
    /// There is a control connection.
    control_connected: AtomicBool,
    /// The last one was encrypted, as all others are then.
    encrypted: AtomicBool,
    /// Where the peer's end of the last one was.
    address: Lock<Option<SocketAddr>>,
    /// What was carried for the host.
    pub(crate) carried: CarriedCounts,
    last_heard: Moment,
    control_heard: Moment,
    join_failures: AtomicU32,
    useless_controls: AtomicU32,
    /// Pool connections that the peer has opened.
    pub(crate) joined_by_peer: Arc<AtomicUsize>,
    /// Bytes of control frames that the session's task has not got to yet.
    unhandled: AtomicUsize,
    /// Ticks, and the round trip of the last that was answered.
    pub(crate) ticks: Lock<(Counts, Option<Duration>)>,
    events: mpsc::UnboundedSender<Event>,
    control: mpsc::UnboundedSender<Command>,
    /// What is said about the session is said within it.
    pub(crate) span: tracing::Span,
    pub(crate) meter: SessionMeter,
}

impl Session {
    pub(crate) fn new(
        core: &Arc<Core>,
        established: &Established,
        source: Source,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (events, inbox) = mpsc::unbounded_channel();
        let (control, commands) = mpsc::unbounded_channel();
        let (budget_freed, grants_freed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let config = TransferConfig {
            dialler: established.role == Role::Dialler,
            max_message: established.max_message.get(),
            // What the peer would take may be more than this node wants to keep for it.
            send_window: established.send.peer_window.min(established.receive.peer_window).get(),
            receive_window: established.receive.peer_window.get(),
            mailbox_window: established.send.mailbox_window.map(Into::into),
            own_mailbox_window: established.receive.mailbox_window.map(Into::into),
            fragment_size: core.config.fragment_size,
            express_connections: core.config.express_connections,
            bulk_connections: core.config.bulk_connections,
            most_bulk_connections: core.config.most_bulk_connections,
        };
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        let [budget, answers] = core.session_budgets(number, source, &budget_freed);
        let grants = core.session_grants(number, source, &grants_freed);
        let transfer = Transfer::new(config, budget, answers, grants, core.buffers.clone());
        let shelves = Arc::<Shelves>::default();
        let session = Arc::new(Self {
            id: established.session,
            number,
            peer: established.peer.clone(),
            peer_atom: atom_of(&established.peer),
            peer_incarnation: established.peer_incarnation,
            key: established.key.clone(),
            dialled: established.role == Role::Dialler,
            source,
            max_message: established.max_message.get(),
            carries: established.features & FEATURE_CARRIES != 0,
            core: core.clone(),
            state: Lock::new(Rank::Session, State::new(transfer, shelves.clone())),
            shelves,
            soon: Notify::new(),
            now: Notify::new(),
            show_planned: AtomicBool::new(false),
            in_use: Notify::new(),
            looked_after: AtomicBool::new(false),
            placed: AtomicBool::new(false),
            budget_freed,
            grants_freed,
            pool_changed: Notify::new(),
            drained: Notify::new(),
            permitted: Permitted::default(),
            watched: Watched::new(Some(core.watch_limit.for_source(source))),
            arrivals: Arrivals::default(),
            up: Lock::new(Rank::Leaf, true),
            begun: AtomicBool::new(false),
            begins: Notify::new(),
            control_connected: AtomicBool::new(false),
            encrypted: AtomicBool::new(false),
            address: Lock::default(),
            carried: CarriedCounts::default(),
            last_heard: Moment::default(),
            control_heard: Moment::default(),
            join_failures: AtomicU32::new(0),
            useless_controls: AtomicU32::new(0),
            joined_by_peer: Arc::default(),
            unhandled: AtomicUsize::new(0),
            ticks: Lock::default(),
            events,
            control,
            span: span(core, established),
            meter: core.meter.session(&core.local.name, &established.peer),
        });
        core.handle.spawn(task::run(session.clone(), inbox));
        (session, commands)
    }

    /// Whether a pid is of an earlier life of the peer: its process is gone.
    pub(crate) fn is_stale(&self, incarnation: Option<u32>) -> bool {
        incarnation.is_some_and(|creation| creation != self.peer_incarnation.as_u32())
    }

    /// Whether that is to be said of the peer, and what was not.
    pub(crate) fn note(&self, what: OfPeer) -> Option<NotSaid> {
        self.core.warnings.of_peer(&self.peer, what)
    }

    /// What of the peer's was refused by the allow-list.
    pub(crate) fn not_allowed(&self) -> NotAllowed {
        self.permitted.not_allowed()
    }

    /// Something came from the peer.
    pub(crate) fn heard(&self, now: teleport_proto::Time) {
        self.last_heard.note(now);
    }

    /// Something came from the peer by the control connection.
    pub(crate) fn control_heard(&self, now: teleport_proto::Time) {
        self.control_heard.note(now);
        self.heard(now);
    }

    /// Tells the session's task.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event); // it ends with the session
    }

    /// Tells the session's task what the peer said.
    pub(crate) fn tell_frames(&self, frames: BytesMut) {
        self.unhandled.fetch_add(frames.capacity() + EVENT, Ordering::AcqRel);
        self.tell(Event::Control(frames));
    }

    /// Whether the session's task has more to do than should be added to.
    pub(crate) fn is_behind(&self) -> bool {
        self.unhandled.load(Ordering::Acquire) > MOST_UNHANDLED
    }

    /// Frames of that [capacity](BytesMut::capacity) are done with.
    fn handled(&self, capacity: usize) {
        let bytes = capacity + EVENT;
        let before = self.unhandled.fetch_sub(bytes, Ordering::AcqRel);
        if before > MOST_UNHANDLED && before - bytes <= MOST_UNHANDLED {
            self.command(Command::Proceed);
        }
    }

    /// Tells the control thread's task.
    pub(crate) fn command(&self, command: Command) {
        let _ = self.control.send(command);
    }

    /// Its beginning has been told.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.begins.notify_waiters();
    }

    /// Returns when its beginning has been told. Nothing is read from a connection before.
    async fn begun(&self) {
        loop {
            let begins = self.begins.notified();
            if self.begun.load(Ordering::Acquire) {
                return;
            }
            begins.await;
        }
    }

    /// Hands over to the host what has come: a reader must not bring more than is taken.
    async fn hand_over(&self, reader: Option<&Reader>, turn: Option<Turn>) -> Option<Turn> {
        match &self.core.hosting {
            Some(hosting) => self.arrivals.hand_over(hosting, reader, turn).await,
            None => turn,
        }
    }

    /// Notes where the peer's end of the control connection is.
    pub(crate) fn note_address(&self, address: SocketAddr) {
        *self.address.lock() = Some(address);
    }

    /// Notes whether there is a control connection.
    pub(crate) fn note_control(&self, connected: bool) {
        self.control_connected.store(connected, Ordering::Release);
    }

    pub(crate) fn set_encrypted(&self, encrypted: bool) {
        self.encrypted.store(encrypted, Ordering::Relaxed);
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted.load(Ordering::Relaxed)
    }

    pub(crate) fn is_control_connected(&self) -> bool {
        self.control_connected.load(Ordering::Acquire)
    }

    /// Has mailboxes drop what the session, which has ended, has placed in them.
    fn drop_placed(self: &Arc<Self>) {
        if self.placed.load(Ordering::Relaxed) {
            let peer: Arc<dyn Peer> = self.clone();
            self.core.registry.all().iter().for_each(|inbox| inbox.session_ended(&peer));
        }
    }

    /// Returns once an ended session has said goodbye: its control task has given up its end of the queue.
    pub(crate) async fn said_goodbye(&self) {
        self.control.closed().await;
    }

    /// Counters and gauges; after the end, only how many messages were unconfirmed.
    pub(crate) fn stats(&self) -> TransferStats {
        self.with(|state, after| match state.stats(after) {
            Some(stats) => stats,
            None => TransferStats { unconfirmed: state.unconfirmed, ..TransferStats::default() },
        })
    }

    /// Whether anything is under way, and whether there are connections that may become idle.
    fn is_in_use(&self) -> (bool, bool) {
        let state = self.lock();
        let in_use = |transfer: &Transfer| (transfer.is_under_way(), transfer.stats().bulk_connections > 0);
        state.transfer.as_ref().map_or((false, false), in_use)
    }

    /// Lets the task run soon, though there may be nothing to say to the peer: sends that wait are to be seen.
    fn show_soon(&self) {
        if !self.show_planned.swap(true, Ordering::AcqRel) {
            self.soon.notify_one();
        }
    }

    fn lock(&self) -> Held<'_, State> {
        self.state.lock()
    }
}

impl Peer for Session {
    fn name(&self) -> &NodeName {
        &self.peer
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn source(&self) -> Source {
        self.source
    }

    fn pid_of(&self, process: ProcessId) -> Pid {
        let ProcessId { id, serial } = process;
        Pid { node: self.peer_atom.clone(), id, serial, creation: self.peer_incarnation.as_u32() }
    }

    fn watched(&self) -> &Watched {
        &self.watched
    }

    fn send_exempt(&self, message: Outgoing) -> Result<(), Unsent> {
        debug_assert!(message.kind.is_exempt());
        self.offering(|state, after| self.offer(state, after, message).map(drop).map_err(Denied::of_exempt))
    }

    fn carry(
        self: Arc<Self>,
        messages: &mut dyn Iterator<Item = Carry<'_>>,
        accepted: &Accepted,
    ) -> Result<Backlog, SendError> {
        self.carry_all(messages, accepted)
    }

    fn warn_of_carried(&self, why: &str) {
        let noted = self.note(OfPeer::Carried);
        warn_seldom!(noted, parent: &self.span, why, "a connection of distributed Erlang with the peer was closed");
    }

    fn carries(&self) -> bool {
        self.carries
    }

    fn ask(&self) {
        self.command(Command::Ask);
    }

    fn last_heard(&self) -> teleport_proto::Time {
        self.last_heard.read()
    }

    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock()
    }

    fn incarnation(&self) -> Incarnation {
        self.peer_incarnation
    }

    fn consumed(&self, credit: Credit) {
        self.change(|transfer| transfer.consumed(credit));
    }

    fn taken(&self, bytes: u64) {
        self.change(|transfer| transfer.taken(bytes));
    }

    fn finish_deliveries(self: Arc<Self>, seqs: &[Seq], end: Disposition) {
        let finish = |transfer: &mut Transfer, sink: &mut Deliver<'_>| {
            seqs.iter().try_for_each(|&seq| transfer.finish_delivery(seq, end, sink))
        };
        self.receive(Deliver::new(&self), finish, |sink| {
            sink.finish();
            if self.core.hosting.is_some() && self.arrivals.are_left() {
                // Not here: this is a thread of the host's, which has other things to do than to deliver all that has come.
                let session = self.clone();
                self.core.handle.spawn(async move { drop(session.hand_over(None, None).await) });
            }
        });
    }

    fn up(&self) -> Held<'_, bool> {
        self.up.lock()
    }
}

/// An error's span, so that no level filters it away from below what is said.
fn span(core: &Core, established: &Established) -> tracing::Span {
    let (node, peer, incarnation) = (&core.local.name, &established.peer, established.peer_incarnation);
    tracing::error_span!(parent: None, "session", %node, %peer, %incarnation, id = %established.session)
}
