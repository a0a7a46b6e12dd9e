//! Which sessions a node has: at most one per peer, however the two sides dial, lose connections and restart.
//!
//! Every node numbers its dials. A dial's number travels in its handshake, and an acceptor's last number comes
//! back in the verdict; so each side of a session knows which of the peer's dials are older than the session.
//! A late one of those is recognised, whereas a newer one says that the peer does not have the session any more. Any
//! holder of the cookie can say so: a session of which a connection lives is asked first.
//!
//! Lives of one name have no numbers and no clock in common, and what a life has sent may arrive after it is gone. Their order
//! follows from what answers what. A peer that has answered something that this node sent after it had a session has lived since
//! then, and is of the same life or a later one. A peer that has answered what is older than the session may be of an earlier one.
//! That stays so when the session has ended, for as long as a handshake from before it may still be under way.

mod backoff;
mod end_reason;
mod limit;
mod past;
mod peer;

use std::collections::BTreeMap;
use std::time::Duration;

pub use backoff::Backoff;
pub use end_reason::EndReason;
pub use limit::SessionLimit;
use past::Past;
use peer::{Living, Peer, Resume, State};
use rustc_hash::FxHashMap;

use crate::handshake::{ConnectionKind, Established, Refusal, Request};
use crate::{Incarnation, NodeName, SessionId, Time};

/// What [`Membership`] wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a control connection for a new session, and report
    /// [`dial_succeeded`](Membership::dial_succeeded) or [`dial_failed`](Membership::dial_failed), exactly one
    /// and even if a session came about meanwhile.
    Dial {
        /// Whom to.
        peer: NodeName,
        /// The dial's number, for the handshake.
        number: u64,
    },
    /// Open a new control connection for a living session, and report
    /// [`resume_succeeded`](Membership::resume_succeeded) or [`resume_failed`](Membership::resume_failed).
    Resume {
        /// Whom to.
        peer: NodeName,
        /// The session.
        session: SessionId,
        /// The connection's generation, for the handshake.
        generation: u64,
    },
    /// A session has begun.
    Up {
        /// With whom.
        peer: NodeName,
        /// The session.
        session: SessionId,
    },
    /// A session has ended: close what belongs to it, report what is unconfirmed.
    Ended {
        /// With whom.
        peer: NodeName,
        /// The session.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Find out whether the session lives: have [`Liveness::probe`](crate::liveness::Liveness::probe) send a
    /// tick. Report [`probe_answered`](Membership::probe_answered), or [`control_lost`](Membership::control_lost) if control is to
    /// be opened anew for it, or [`end`](Membership::end) it with [`EndReason::ProbeUnanswered`].
    Probe {
        /// With whom.
        peer: NodeName,
        /// The session.
        session: SessionId,
    },
}

/// How many sessions a node has begun by some moment: the order of what it has sent and of its sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Begun(u64);

/// What [`Membership`] cannot know itself of a connection that has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// When the connection comes.
    pub now: Time,
    /// [`Membership::begun`] from before what the peer has answered was sent: the challenge, or as the dialler the proof.
    pub asked: Begun,
    /// A pool connection of the session with that peer lives.
    pub linked: bool,
    /// There is room for one more of the sessions that others open.
    pub room: bool,
}

/// What [`Membership::inbound`] has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the dialler waits for the verdict"]
pub struct Decision {
    /// Whether to accept, with what [`Authenticated::accept`](crate::handshake::Authenticated::accept) has to be
    /// told (the last dial number given out), or why not.
    pub verdict: Result<u64, Refusal>,
    /// What is to be done besides.
    pub actions: Vec<Action>,
}

/// What [`Membership::dial_succeeded`] and [`Membership::resume_succeeded`] make of a new control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a connection that is not kept has to be closed"]
pub struct Outcome {
    /// Whether the connection is of use; close it if not.
    pub keep: bool,
    /// What is to be done besides.
    pub actions: Vec<Action>,
}

/// Why a dial or a resume failed, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The peer has refused the connection.
    Refused(Refusal),
    /// Who was reached says that the peer does not have the session, without a proof.
    Unproved,
    /// Anything else.
    Other,
}

impl From<&crate::handshake::HandshakeError> for Failure {
    fn from(error: &crate::handshake::HandshakeError) -> Self {
        use crate::handshake::HandshakeError::*;
        match error {
            Refused { refusal, .. } => Failure::Refused(*refusal),
            UnknownSession { .. } => Failure::Unproved,
            _ => Failure::Other,
        }
    }
}

/// A living session, as [`Membership::session`] shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The peer's incarnation.
    pub incarnation: Incarnation,
    /// Whether this node dialled: the dialler opens all further connections.
    pub we_dialled: bool,
    /// Whether there is a control connection.
    pub control_connected: bool,
    /// Which control connection of the session that is, or was.
    pub generation: u64,
}

/// The sessions of one node, and the attempts at some.
///
/// All methods are to be called in the order of the events they report: from one task, or under one lock.
#[derive(Debug)]
pub struct Membership {
    own: NodeName,
    backoff: Backoff,
    attempt: Duration,
    last_dial: u64,
    begun: Begun,
    peers: BTreeMap<NodeName, Peer>,
    sessions: FxHashMap<SessionId, NodeName>,
    /// Of sessions that have ended.
    past: Past,
    shutting_down: bool,
    #[cfg(feature = "planted-faults")]
    faults: crate::Faults,
}

impl Membership {
    /// Of a node that has just started. An attempt to connect takes up to `attempt`, and so does the handshake of a connection that comes;
    /// see [`handshakes_take`](Self::handshakes_take).
    pub fn new(own: NodeName, backoff: Backoff, attempt: Duration) -> Self {
        Membership {
            own,
            backoff,
            attempt,
            last_dial: 0,
            begun: Begun::default(),
            peers: BTreeMap::new(),
            sessions: FxHashMap::default(),
            past: Past::new(attempt),
            shutting_down: false,
            #[cfg(feature = "planted-faults")]
            faults: crate::Faults::default(),
        }
    }

    /// Plants faults.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: crate::Faults) {
        self.faults = faults;
    }

    /// The handshake of a connection that comes takes up to so long, which may be longer than an attempt.
    pub fn handshakes_take(&mut self, most: Duration) {
        self.past.reckon_with(most);
    }

    /// A session with `peer` is wanted. Dials, now or when the back-off allows, and again until there is one or
    /// [`unwant`](Membership::unwant) takes it back. The wish ends with its fulfilment: after a session's end, wish
    /// again. Nothing happens for our own name, or once shutting down.
    pub fn want(&mut self, peer: &NodeName) -> Vec<Action> {
        if *peer == self.own || self.shutting_down {
            return Vec::new();
        }
        if let Some(known) = self.peers.get_mut(peer) {
            known.wanted = true;
            return Vec::new();
        }
        self.dial(peer.clone(), 0)
    }

    /// As [`want`](Membership::want), of somebody who has a pace of their own: no back-off is waited for, unless the peer's own
    /// dial is to come meanwhile.
    pub fn want_at_once(&mut self, peer: &NodeName) -> Vec<Action> {
        match self.peers.get(peer) {
            Some(Peer { state: State::Waiting { yields: false, .. }, failures, .. }) => {
                self.dial(peer.clone(), *failures)
            }
            _ => self.want(peer),
        }
    }

    /// Who wanted a session with `peer` knows that a dial has failed: no other follows before one is wanted again, and then not
    /// before the back-off is over.
    pub fn let_rest(&mut self, peer: &NodeName) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.wanted = false;
        }
    }

    /// A session with `peer` is not wanted any more, and no failure was one. A dial under way may still succeed; no other follows.
    pub fn unwant(&mut self, peer: &NodeName) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        known.wanted = false;
        if matches!(known.state, State::Waiting { .. }) {
            self.peers.remove(peer);
        }
    }

    /// What is due by now: dials and resumes whose back-off is over, and the end of sessions that were doubted and did
    /// not resume. `heard` says when the peer of a session was last heard, if a pool connection of it lives.
    pub fn poll(&mut self, now: Time, heard: impl Fn(SessionId) -> Option<Time>) -> Vec<Action> {
        let patience = self.patience(true);
        let due = |peer: &&NodeName| self.peers.get(*peer).and_then(Peer::due).is_some_and(|due| due <= now);
        let due: Vec<NodeName> = self.peers.keys().filter(due).cloned().collect();
        let mut actions = Vec::new();
        for peer in due {
            match self.peers.get_mut(&peer) {
                Some(Peer { state: State::Up(living), .. }) if living.has_missed_its_chance(now) => {
                    let session = living.session.id;
                    let heard = heard(session);
                    #[cfg(feature = "planted-faults")]
                    let heard = heard.filter(|_| !self.faults.impatient);
                    if !living.put_off(heard, now, patience) {
                        actions.extend(self.end(session, EndReason::ProbeUnanswered));
                    }
                }
                Some(Peer { state: State::Up(living), .. }) => actions.push(living.resume(peer)),
                Some(Peer { wanted: true, failures, .. }) => {
                    let failures = *failures;
                    actions.extend(self.dial(peer, failures));
                }
                _ => drop(self.peers.remove(&peer)),
            }
        }
        actions
    }

    /// When [`poll`](Membership::poll) is due, if ever.
    pub fn next_deadline(&self) -> Option<Time> {
        self.peers.values().filter_map(Peer::due).min()
    }

    /// A dial has ended with an acceptance.
    pub fn dial_succeeded(&mut self, established: &Established, circumstances: Circumstances) -> Outcome {
        let Circumstances { now, asked, linked, .. } = circumstances;
        let (number, patience) = (established.connection, self.patience(linked));
        #[cfg(feature = "planted-faults")]
        let faults = self.faults;
        let discard = Outcome { keep: false, actions: Vec::new() };
        if self.shutting_down {
            return discard;
        }
        let may_be_earlier =
            self.past.may_be_before(&established.peer, established.peer_incarnation, asked, now);
        #[cfg(feature = "planted-faults")]
        let may_be_earlier = may_be_earlier && !faults.late_lives;
        let replaced = match self.peers.get_mut(&established.peer).map(|known| &mut known.state) {
            // A session that this dial knows nothing of has come and gone.
            None | Some(State::Waiting { .. }) if may_be_earlier => return discard,
            None | Some(State::Waiting { .. }) => None,
            Some(State::Dialling { number: current, .. }) if *current == number => None,
            // The peer replaces this session by the one of the newer dial.
            Some(State::Dialling { .. }) => return discard,
            Some(State::Up(living)) if living.session.incarnation != established.peer_incarnation => {
                let late = living.may_be_later_than(asked);
                #[cfg(feature = "planted-faults")]
                let late = late && !faults.late_lives;
                if late {
                    return discard;
                }
                if living.session.control_connected || linked {
                    let actions = living.doubt(established.peer.clone(), now, patience).actions;
                    return Outcome { actions, ..discard };
                }
                Some((living.session, established.peer_incarnation))
            }
            Some(State::Up(living)) if living.is_newer_than(established) => return discard,
            Some(State::Up(living)) => Some((living.session, established.peer_incarnation)),
        };
        let mut actions = Vec::new();
        if let Some((session, incarnation)) = replaced {
            actions = self.end(session.id, replacement_reason(&session, incarnation));
        }
        let session = Session {
            id: established.session,
            incarnation: established.peer_incarnation,
            we_dialled: true,
            control_connected: true,
            generation: 0,
        };
        actions.push(self.up(&established.peer, session, Some(number), established.peer_dial, now));
        Outcome { keep: true, actions }
    }

    /// A dial has failed. `random` spreads the next attempts of many nodes.
    pub fn dial_failed(&mut self, peer: &NodeName, number: u64, failure: Failure, now: Time, random: u64) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        let State::Dialling { number: current, refused_inbound } = known.state else {
            return;
        };
        if current != number {
            return;
        }
        if !known.wanted {
            self.peers.remove(peer);
            return;
        }
        known.failures = known.failures.saturating_add(1);
        let mut delay = self.backoff.delay(known.failures, random);
        let crossed = failure == Failure::Refused(Refusal::Simultaneous);
        if crossed {
            delay = delay.max(self.backoff.most.min(INBOUND_PATIENCE));
        }
        if refused_inbound {
            // The peer reaches us and we do not reach it: its next dial must not meet one of ours again.
            delay = self.backoff.most;
        }
        known.state = State::Waiting { until: now.saturating_add(delay), yields: crossed || refused_inbound };
    }

    /// Decides on an inbound connection that has proved itself, whatever its kind.
    pub fn inbound(&mut self, request: &Request, circumstances: Circumstances) -> Decision {
        // A living session may need connections to drain.
        if self.shutting_down && request.kind == ConnectionKind::NewSession {
            return Decision::refuse(Refusal::ShuttingDown);
        }
        if request.peer == self.own {
            return Decision::refuse(Refusal::NameInUse);
        }
        match request.kind {
            ConnectionKind::NewSession => self.inbound_session(request, circumstances),
            ConnectionKind::Resume => self.inbound_resume(request),
            ConnectionKind::Express | ConnectionKind::Bulk => self.inbound_join(request),
        }
    }

    /// The control connection of this generation is gone. Its dialler opens another one. If a probe went over it, a claimant still
    /// waits to see whether the session lives: that has so long to come back then.
    pub fn control_lost(&mut self, session: SessionId, generation: u64, now: Time) -> Vec<Action> {
        let patience = self.patience(true);
        let Some((peer, living)) = self.living(session) else {
            return Vec::new();
        };
        if living.session.generation != generation || !living.session.control_connected {
            return Vec::new();
        }
        living.disconnected(now, patience);
        if !living.session.we_dialled {
            return Vec::new();
        }
        vec![living.resume(peer)]
    }

    /// A resume has ended with an acceptance.
    pub fn resume_succeeded(&mut self, session: SessionId, generation: u64) -> Outcome {
        let mut outcome = Outcome { keep: false, actions: Vec::new() };
        let Some((_, living)) = self.living(session) else {
            return outcome;
        };
        if living.resume != Resume::UnderWay || living.last_generation != generation {
            return outcome;
        }
        living.resume = Resume::Idle;
        living.resume_failures = 0;
        living.disowned = false;
        living.session.generation = generation;
        living.connected();
        outcome.keep = true;
        outcome
    }

    /// A resume has failed. It is tried again until the session ends, unless the peer does not have the session: that is proved,
    /// or said twice in a row.
    pub fn resume_failed(
        &mut self,
        session: SessionId,
        generation: u64,
        failure: Failure,
        now: Time,
        random: u64,
    ) -> Vec<Action> {
        let backoff = self.backoff;
        #[cfg(feature = "planted-faults")]
        let faults = self.faults;
        let Some((_, living)) = self.living(session) else {
            return Vec::new();
        };
        if living.resume != Resume::UnderWay || living.last_generation != generation {
            return Vec::new();
        }
        // What nobody has proved may be another's word, or a frame that was changed on the way: it counts when it is said again.
        let unproved = failure == Failure::Unproved;
        let again = std::mem::replace(&mut living.disowned, unproved);
        #[cfg(feature = "planted-faults")]
        let again = again || faults.believe_unproved;
        if failure == Failure::Refused(Refusal::UnknownSession) || (unproved && again) {
            return self.end(session, EndReason::PeerGaveUp);
        }
        living.resume_failures = living.resume_failures.saturating_add(1);
        let delay = backoff.delay(living.resume_failures, random);
        living.resume = Resume::Waiting { until: now.saturating_add(delay) };
        Vec::new()
    }

    /// The session answered its probe, or another control connection has come into use for it, with which a probe goes that was
    /// sent over the one before. It keeps its name, and the next claim has it probed again.
    pub fn probe_answered(&mut self, session: SessionId) {
        if let Some((_, living)) = self.living(session) {
            living.probing = false;
        }
    }

    /// Ends a session. Without effect if it has ended before.
    pub fn end(&mut self, session: SessionId, reason: EndReason) -> Vec<Action> {
        let Some(peer) = self.sessions.remove(&session) else {
            return Vec::new();
        };
        self.peers.remove(&peer);
        vec![Action::Ended { peer, session, reason }]
    }

    /// From now on no session begins. Living ones go on, with new connections if need be, until they are
    /// [`end`](Membership::end)ed.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        self.peers.retain(|_, known| matches!(known.state, State::Up(_)));
    }

    /// The living session with a peer.
    pub fn session(&self, peer: &NodeName) -> Option<Session> {
        match &self.peers.get(peer)?.state {
            State::Up(living) => Some(living.session),
            State::Waiting { .. } | State::Dialling { .. } => None,
        }
    }

    /// All living sessions, by the peers' names.
    pub fn sessions(&self) -> impl Iterator<Item = (&NodeName, Session)> {
        self.peers.keys().filter_map(|peer| Some((peer, self.session(peer)?)))
    }

    /// The last dial number given out.
    pub fn last_dial(&self) -> u64 {
        self.last_dial
    }

    /// How many sessions have begun by now: to be asked before a challenge is sent, or a proof, and to be told with what comes of it.
    pub fn begun(&self) -> Begun {
        self.begun
    }

    fn inbound_session(&mut self, request: &Request, circumstances: Circumstances) -> Decision {
        let Circumstances { now, asked, linked, room } = circumstances;
        let patience = self.patience(linked);
        let mut actions = Vec::new();
        #[cfg(feature = "planted-faults")]
        let faults = self.faults;
        let may_be_earlier = self.past.may_be_before(&request.peer, request.peer_incarnation, asked, now);
        #[cfg(feature = "planted-faults")]
        let may_be_earlier = may_be_earlier && !faults.late_lives;
        match self.peers.get_mut(&request.peer).map(|known| &mut known.state) {
            // As below, of a session that has ended.
            None | Some(State::Waiting { .. } | State::Dialling { .. }) if may_be_earlier => {
                return Decision::refuse(Refusal::NameInUse);
            }
            None | Some(State::Waiting { .. }) => {}
            Some(State::Dialling { refused_inbound, .. }) => {
                // Of two dials that cross, that of the greater name counts; the other one is told so in turn.
                if self.own > request.peer {
                    *refused_inbound = true;
                    return Decision::refuse(Refusal::Simultaneous);
                }
            }
            Some(State::Up(living)) => {
                let session = living.session;
                let same = session.incarnation == request.peer_incarnation;
                if same && request.connection <= living.peer_dial {
                    // Dialled before the session began, and late.
                    return Decision::refuse(Refusal::Simultaneous);
                }
                let late = !same && living.may_be_later_than(asked);
                #[cfg(feature = "planted-faults")]
                let late = late && !faults.late_lives;
                if late {
                    // If it is not of an earlier life, it tries again, and is challenged anew.
                    return Decision::refuse(Refusal::NameInUse);
                }
                let jumps = same && request.connection - living.peer_dial > MOST_DIALS;
                let doubtful = session.control_connected || jumps || linked;
                #[cfg(feature = "planted-faults")]
                let doubtful = doubtful && !(faults.trust_claims && same);
                #[cfg(feature = "planted-faults")]
                if faults.keep_old_lives && !same {
                    return Decision::refuse(Refusal::NameInUse);
                }
                if doubtful {
                    return living.doubt(request.peer.clone(), now, patience);
                }
                actions = self.end(session.id, replacement_reason(&session, request.peer_incarnation));
            }
        }
        // One that replaces another takes its place.
        if actions.is_empty() && !room {
            return Decision::refuse(Refusal::TooManySessions);
        }
        let session = Session {
            id: request.session,
            incarnation: request.peer_incarnation,
            we_dialled: false,
            control_connected: true,
            generation: 0,
        };
        actions.push(self.up(&request.peer, session, None, request.connection, now));
        Decision { verdict: Ok(self.last_dial), actions }
    }

    fn inbound_resume(&mut self, request: &Request) -> Decision {
        let last_dial = self.last_dial;
        #[cfg(feature = "planted-faults")]
        let faults = self.faults;
        let Some(living) = self.joined(request) else {
            return Decision::refuse(Refusal::UnknownSession);
        };
        let stale = request.connection <= living.session.generation;
        #[cfg(feature = "planted-faults")]
        let stale = stale && !faults.stale_resumes;
        if stale {
            return Decision::refuse(Refusal::StaleResume);
        }
        living.session.generation = request.connection;
        living.connected();
        Decision { verdict: Ok(last_dial), actions: Vec::new() }
    }

    fn inbound_join(&mut self, request: &Request) -> Decision {
        let last_dial = self.last_dial;
        #[cfg(feature = "planted-faults")]
        let faults = self.faults;
        let Some(living) = self.joined(request) else {
            return Decision::refuse(Refusal::UnknownSession);
        };
        let fresh = living.pool_ids.take(request.connection);
        #[cfg(feature = "planted-faults")]
        let fresh = fresh || faults.ids_twice;
        if !fresh {
            return Decision::refuse(Refusal::ConnectionIdUsed);
        }
        Decision { verdict: Ok(last_dial), actions: Vec::new() }
    }

    /// How long a session that is doubted has to resume. While its pool lives it may be control alone that is in trouble: then
    /// long enough for one attempt by the side that dialled it, which may be the peer.
    fn patience(&self, linked: bool) -> Duration {
        #[cfg(feature = "planted-faults")]
        let linked = linked && !self.faults.impatient;
        if linked {
            RESUME_PATIENCE.max(self.backoff.most.saturating_add(self.attempt))
        } else {
            RESUME_PATIENCE
        }
    }

    /// The session that a connection wants to join, if it is the peer's and the peer's to extend.
    fn joined(&mut self, request: &Request) -> Option<&mut Living> {
        let (peer, living) = self.living(request.session)?;
        let session = &living.session;
        let fits =
            peer == request.peer && session.incarnation == request.peer_incarnation && !session.we_dialled;
        fits.then_some(living)
    }

    fn living(&mut self, session: SessionId) -> Option<(NodeName, &mut Living)> {
        let peer = self.sessions.get(&session)?.clone();
        match &mut self.peers.get_mut(&peer)?.state {
            State::Up(living) => Some((peer, living)),
            State::Waiting { .. } | State::Dialling { .. } => None,
        }
    }

    fn dial(&mut self, peer: NodeName, failures: u32) -> Vec<Action> {
        self.last_dial += 1;
        let number = self.last_dial;
        let state = State::Dialling { number, refused_inbound: false };
        self.peers.insert(peer.clone(), Peer { wanted: true, failures, state });
        vec![Action::Dial { peer, number }]
    }

    fn up(
        &mut self,
        peer: &NodeName,
        session: Session,
        dial: Option<u64>,
        peer_dial: u64,
        now: Time,
    ) -> Action {
        self.begun.0 += 1;
        self.past.note(peer, session.incarnation, self.begun, now);
        let state = State::Up(Living::new(session, self.begun, dial, peer_dial));
        self.sessions.insert(session.id, peer.clone());
        self.peers.insert(peer.clone(), Peer { wanted: false, failures: 0, state });
        Action::Up { peer: peer.clone(), session: session.id }
    }
}

impl Decision {
    fn refuse(refusal: Refusal) -> Self {
        Decision { verdict: Err(refusal), actions: Vec::new() }
    }
}

// More dials, to any peers, than a peer makes between two sessions with the same one in a row, except
// over days; then it has to wait for a moment.
const MOST_DIALS: u64 = 1 << 20;

// How long a session that is doubted has to resume, if nothing of it is known to live.
const RESUME_PATIENCE: Duration = Duration::from_secs(2);

// How long the one whose dial was refused waits for the other one's.
const INBOUND_PATIENCE: Duration = Duration::from_millis(500);

fn replacement_reason(old: &Session, incarnation: Incarnation) -> EndReason {
    if old.incarnation == incarnation { EndReason::PeerGaveUp } else { EndReason::Restarted }
}
