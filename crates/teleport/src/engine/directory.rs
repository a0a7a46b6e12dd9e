//! Which sessions there are: asks [`Membership`], and does what it decides. What of that others have to be told is left to
//! [`lifecycle`](super::lifecycle).

use super::control;
use super::dial::{self, DialFor, Failed, Opened, Reached};
use super::peers::Waiting;
use super::{ADVICE, Engine};
use crate::base::seldom::{NotSaid, warn_seldom};
use crate::io::source::Source;
use crate::local::Peer;
use crate::session::{Command, Session, SessionEvent};
use crate::{Config, ConnectError};
use rustc_hash::FxHashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::absence::Absence;
use teleport_proto::handshake::{Established, HandshakeError, Opening, Refusal, Request};
use teleport_proto::membership::{
    Action, Begun, Circumstances, Decision, EndReason, Failure, Membership, SessionLimit,
};
use teleport_proto::{NodeName, SessionId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) struct Directory {
    pub(super) membership: Membership,
    sessions: FxHashMap<SessionId, Entry>,
    /// Those of them that others have opened.
    pub(super) limit: SessionLimit<Source>,
}

struct Entry {
    session: Arc<Session>,
    /// What attempts to connect have said about the peer.
    absence: Absence,
    /// [`watch_for_absence`] is at it.
    watched: bool,
}

impl Directory {
    pub(super) fn new(own: NodeName, config: &Config) -> Self {
        let mut membership = Membership::new(own, config.backoff, config.setup_timeout);
        membership.handshakes_take(config.handshake_timeout);
        Self { membership, sessions: FxHashMap::default(), limit: SessionLimit::new(config.max_sessions) }
    }

    pub(super) fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.get(&id).map(|entry| entry.session.clone())
    }

    /// All sessions.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    /// Does what membership wants done. `established` goes with a session that begins, and where its peer is.
    pub(super) fn apply(
        &mut self,
        engine: &Arc<Engine>,
        actions: Vec<Action>,
        established: Option<(&Established, Source)>,
    ) {
        for action in actions {
            match action {
                Action::Dial { peer, number } => {
                    engine.core.handle.spawn(dial_peer(engine.clone(), peer, number));
                }
                Action::Resume { peer, session, generation } => {
                    engine.core.handle.spawn(resume(engine.clone(), peer, session, generation));
                }
                Action::Up { .. } => {
                    if let Some((established, source)) = established {
                        self.begin(engine, established, source);
                    }
                }
                Action::Ended { session, reason, .. } => self.end(engine, session, reason),
                Action::Probe { session, .. } => {
                    if let Some(session) = self.session(session) {
                        session.command(Command::Probe);
                    }
                }
            }
        }
    }

    /// Decides on an inbound connection that has proved itself.
    pub(super) fn inbound(
        &mut self,
        engine: &Engine,
        request: &Request,
        source: Source,
        asked: Begun,
    ) -> Decision {
        let circumstances = self.circumstances(engine, &request.peer, source, asked);
        self.membership.inbound(request, circumstances)
    }

    fn circumstances(&self, engine: &Engine, peer: &NodeName, source: Source, asked: Begun) -> Circumstances {
        let (now, patience) = (engine.core.clock.now(), engine.liveness().reconnect_after);
        let session = self.membership.session(peer).and_then(|session| self.session(session.id));
        // Those of a machine that has crashed are there, too, and silent. By then its control connection has been given up.
        let is_heard = |session: &Arc<Session>| now.saturating_sub(session.last_heard()) < patience;
        let linked = session.is_some_and(|session| session.has_links() && is_heard(&session));
        Circumstances { now, asked, linked, room: self.limit.has_room(source) }
    }

    /// Notes an attempt to connect to the peer of a session. `true` if that shows that it is gone.
    fn attempted(&mut self, engine: &Engine, id: SessionId, refused: bool) -> bool {
        let Some(entry) = self.sessions.get_mut(&id) else { return false };
        if !refused {
            entry.absence.alive();
            return false;
        }
        let session = &entry.session;
        let control = self.membership.session(&session.peer).is_some_and(|s| s.control_connected);
        let connected = control || session.has_links();
        let patience = engine.liveness().tick_interval;
        entry.absence.refused(engine.core.clock.now(), session.last_heard(), connected, patience)
    }

    /// The peer of a session has connected, or has not refused to be.
    pub(super) fn is_there(&mut self, id: SessionId) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.absence.alive();
        }
    }

    fn begin(&mut self, engine: &Arc<Engine>, established: &Established, source: Source) {
        let (session, commands) = Session::new(&engine.core, established, source);
        control::look_after(&engine.control, &session, engine.liveness(), engine.observer.clone(), commands);
        let entry = Entry { session: session.clone(), absence: Absence::default(), watched: false };
        self.sessions.insert(session.id, entry);
        engine.lifecycle.up(engine, &session);
        let waiting = engine.peers.up(&session);
        if !waiting.is_empty() {
            engine.core.handle.spawn(async move { waiting.tell(&Ok(session)) }); // not under the directory's lock
        }
    }

    fn end(&mut self, engine: &Arc<Engine>, id: SessionId, reason: EndReason) {
        let Some(Entry { session, .. }) = self.sessions.remove(&id) else { return };
        self.limit.ended(id);
        engine.peers.down(&session);
        engine.reached.forget(&session.peer);
        if let Some(ended) = session.end(reason) {
            engine.lifecycle.down(engine, ended);
        }
    }
}

/// Runs for the life of the node: handles events, and wakes membership when it is due.
pub(super) async fn run(engine: Arc<Engine>, mut events: mpsc::UnboundedReceiver<SessionEvent>) {
    loop {
        let deadline = engine.directory.lock().membership.next_deadline();
        let due = deadline.map(|time| Instant::from_std(engine.core.clock.instant(time)));
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => on_event(&engine, event),
                None => return,
            },
            () = engine.deadline_changed.notified() => {}
            () = engine.wanted.notified() => {
                let wanted = engine.peers.take_wanted();
                let mut directory = engine.directory.lock();
                for (peer, at_once) in wanted {
                    let membership = &mut directory.membership;
                    let actions =
                        if at_once { membership.want_at_once(&peer) } else { membership.want(&peer) };
                    directory.apply(&engine, actions, None);
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let mut directory = engine.directory.lock();
                let Directory { membership, sessions, .. } = &mut *directory;
                let linked = |id| sessions.get(&id).map(|e| &e.session).filter(|session| session.has_links());
                let heard = |id| linked(id).map(|session| session.last_heard());
                let actions = membership.poll(engine.core.clock.now(), heard);
                directory.apply(&engine, actions, None);
            }
        }
    }
}

fn on_event(engine: &Arc<Engine>, event: SessionEvent) {
    let mut directory = engine.directory.lock();
    let actions = match event {
        SessionEvent::ControlLost { session, generation } => {
            let actions = directory.membership.control_lost(session, generation, engine.core.clock.now());
            // However often it is lost, one looks after it.
            let unwatched = |entry: &&mut Entry| !entry.session.dialled && !entry.watched;
            if let Some(entry) = directory.sessions.get_mut(&session).filter(unwatched) {
                entry.watched = true;
                engine.core.handle.spawn(watch_for_absence(engine.clone(), entry.session.clone()));
            }
            actions
        }
        SessionEvent::ProbeAnswered { session } => {
            directory.membership.probe_answered(session);
            Vec::new()
        }
        SessionEvent::Join { session, connection, class } => {
            if let Some(session) = directory.session(session) {
                engine.core.handle.spawn(engine.clone().join(session, connection, class));
            }
            return;
        }
        SessionEvent::End { session, reason } => directory.membership.end(session, reason),
    };
    directory.apply(engine, actions, None);
}

async fn dial_peer(engine: Arc<Engine>, peer: NodeName, number: u64) {
    // At once: what the peer dials must not meet a dial of ours.
    let note_failure = |failure| {
        let (now, mut directory) = (engine.core.clock.now(), engine.directory.lock());
        directory.membership.dial_failed(&peer, number, failure, now, random());
        engine.deadline_changed.notify_one();
    };
    let lost = |error: &ConnectError| note_failure(dial::failure(error));
    let opened = dial::open_or_be_called(&engine, &peer, number, lost).await;
    let called = matches!(opened, Ok(Reached::Called(_)));
    if called {
        note_failure(Failure::Other); // if it still goes on
    }
    let mut directory = engine.directory.lock();
    match opened {
        Ok(Reached::By(Opened { stream, established, asked })) => {
            // Without an address it is gone already.
            let address = stream.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
            let source = Source::of(address);
            let circumstances = directory.circumstances(&engine, &peer, source, asked);
            let outcome = directory.membership.dial_succeeded(&established, circumstances);
            directory.apply(&engine, outcome.actions, Some((&established, source)));
            let session = directory.session(established.session).filter(|_| outcome.keep);
            if let Some(session) = session {
                engine.reached.note(&peer, &stream);
                engine.attach_control(&session, 0, Some(stream));
            }
        }
        Ok(Reached::Called(error)) | Err(Failed { error, .. }) => {
            let failure = dial::failure(&error);
            // The peer has connected to us itself, or does, or will take us once it has checked who has our name; or it never will,
            // if that is another node that lives, or what it has is no session here.
            let refused = [Refusal::Simultaneous, Refusal::NameInUse].map(Failure::Refused);
            let waited = engine.peers.waited(&peer);
            let in_time = waited.is_some_and(|waited| waited <= engine.core.config.setup_timeout);
            let wait = in_time && (called || refused.contains(&failure));
            let mut waiting = Waiting::default();
            if !wait {
                waiting = engine.peers.fail(&peer);
                // Where nothing was dialled there is nothing to spare: the next send asks the resolver again at once.
                match error {
                    ConnectError::UnknownNode(_) => directory.membership.unwant(&peer),
                    _ => directory.membership.let_rest(&peer),
                }
            }
            drop(directory);
            engine.deadline_changed.notify_one();
            if !called || (waited.is_some() && !wait) {
                let (node, noted) = (&engine.core.local.name, worth_a_warning(&engine, &peer, &error));
                warn_seldom!(noted, %node, %peer, %error, advice = ADVICE, "cannot connect");
            }
            return waiting.tell(&Err(error));
        }
    }
    drop(directory);
    engine.deadline_changed.notify_one();
}

/// Whether a failed attempt is to be warned of, and what was not before it. Who sends is told, but not why, if it is a cast,
/// or an exit of Erlang's.
fn worth_a_warning(engine: &Engine, peer: &NodeName, error: &ConnectError) -> Option<NotSaid> {
    let passes = [Refusal::Simultaneous, Refusal::ShuttingDown];
    match error {
        ConnectError::Handshake { cause: HandshakeError::Refused { refusal, .. }, .. }
            if passes.contains(refusal) =>
        {
            None
        }
        _ => engine.core.warnings.of_unreached(peer),
    }
}

/// From as many useless control connections on the pause is the same: sixteen times the first, 0.8 s.
const MOST_USELESS: u32 = 5;

async fn resume(engine: Arc<Engine>, peer: NodeName, id: SessionId, generation: u64) {
    let Some(session) = engine.directory.lock().session(id) else { return };
    // Not for longer than a session is given to come back when another claims its name.
    if !engine.paused(&session, session.useless_controls().min(MOST_USELESS)).await {
        return;
    }
    let opening = Opening::Resume { session: id, key: session.key.clone(), generation };
    let opened = dial::open(&engine, &peer, DialFor::Join(opening)).await;
    let mut directory = engine.directory.lock();
    match opened {
        Ok(Opened { stream, .. }) => {
            let outcome = directory.membership.resume_succeeded(id, generation);
            directory.apply(&engine, outcome.actions, None);
            if outcome.keep {
                directory.is_there(id);
                engine.reached.note(&peer, &stream);
                tracing::info!(parent: &session.span, generation, "control connection resumed");
                engine.attach_control(&session, generation, Some(stream));
            }
        }
        Err(Failed { error, refused }) => {
            let now = engine.core.clock.now();
            let mut actions =
                directory.membership.resume_failed(id, generation, dial::failure(&error), now, random());
            if directory.attempted(&engine, id, refused) {
                actions.extend(directory.membership.end(id, EndReason::Gone));
            }
            directory.apply(&engine, actions, None);
        }
    }
    drop(directory);
    engine.deadline_changed.notify_one();
}

/// The side that does not dial waits for the other to resume. Meanwhile it looks whether anything still listens there:
/// a process that was killed is noticed after a tick interval, not at the liveness deadline.
async fn watch_for_absence(engine: Arc<Engine>, session: Arc<Session>) {
    let backoff = engine.core.config.backoff;
    let mut pause = backoff.first.min(backoff.most);
    loop {
        sleep(pause).await;
        {
            let mut directory = engine.directory.lock();
            let connected = directory.membership.session(&session.peer);
            if !connected.is_some_and(|other| other.id == session.id && !other.control_connected) {
                directory.sessions.entry(session.id).and_modify(|entry| entry.watched = false);
                return;
            }
        }
        let refused = dial::is_refused(&engine, &session).await;
        if engine.directory.lock().attempted(&engine, session.id, refused) {
            return engine.core.events.end(session.id, EndReason::Gone);
        }
        pause = pause.saturating_mul(2).min(backoff.most).max(Duration::from_millis(1));
    }
}

/// For spreading attempts; a system without randomness spreads them less.
fn random() -> u64 {
    super::handshake::random::<8>().map_or(0, u64::from_ne_bytes)
}
