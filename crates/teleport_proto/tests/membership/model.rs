//! Nodes that dial, lose, resume and restart, over a network that delays and loses whatever the seed says.
//!
//! The nodes run the real [`Membership`]; a handshake is its proof and its verdict, a connection is two ends and the
//! news of its loss, and liveness is a minute. Every event is delivered in an order that the seed picks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use teleport_proto::handshake::{ConnectionKind, Refusal, Request};
use teleport_proto::membership::{
    Action, Backoff, Begun, Circumstances, Decision, EndReason, Failure, Membership,
};
use teleport_proto::{Incarnation, NodeName, SessionId, Time};

use crate::{SplitMix, established, secs};

const SEEDS: u64 = 3_000;

#[test]
fn dials_that_cross_give_one_session_and_end_none() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 2, Losses::NONE);
        world.everybody_wants();
        world.run(|_| {});
        world.assert_settled();
        assert_eq!(world.ended, 0, "seed {seed}: a session ended though nothing failed");
        assert_eq!(world.began, 2, "seed {seed}: once on each side");
        assert!(world.now < secs(2), "seed {seed}: took {:?}", world.now);
    }
}

#[test]
fn a_mesh_that_dials_all_at_once_settles() {
    for seed in 0..SEEDS / 10 {
        let mut world = World::new(seed, 5, Losses::NONE);
        world.everybody_wants();
        world.run(|_| {});
        world.assert_settled();
        assert_eq!((world.began, world.ended), (20, 0), "seed {seed}");
    }
}

#[test]
fn whatever_was_lost_in_the_end_both_have_the_same_session() {
    let mut sessions = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 2, Losses { loss: true, restarts: false });
        for _ in 0..world.random.below(200) {
            world.disturb();
            world.step();
        }
        world.settle();
        world.assert_settled();
        sessions += world.began;
    }
    assert!(sessions > 4 * SEEDS, "the faults did not bite: {sessions}");
}

#[test]
fn after_restarts_both_have_the_same_session_in_the_end() {
    let mut restarts = 0;
    for seed in 0..SEEDS {
        let nodes = 2 + usize::try_from(seed % 2).unwrap();
        let mut world = World::new(seed, nodes, Losses { loss: true, restarts: true });
        for _ in 0..world.random.below(300) {
            world.disturb();
            world.step();
        }
        world.settle();
        world.assert_settled();
        restarts += world.restarts;
    }
    assert!(restarts > SEEDS, "the faults did not bite: {restarts}");
}

/// Proofs of earlier lives arrive while sessions come and go: at the wrong moment, none begins by them.
#[test]
fn no_session_begins_with_an_earlier_life_than_the_last_one() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 2, Losses { loss: true, restarts: true });
        for _ in 0..world.random.below(200) {
            let node = world.random.index(2);
            match world.random.below(12) {
                0..2 => world.want(node, 1 - node),
                2 => world.restart(node),
                3 => world.hang_up(node),
                _ => drop(world.step()),
            }
        }
        world.settle();
        world.assert_settled();
    }
}

#[test]
fn a_lost_control_connection_alone_ends_no_session() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 2, Losses::NONE);
        world.everybody_wants();
        world.run(|_| {});
        for _ in 0..3 {
            let open: Vec<Wire> = world.wires.keys().copied().collect();
            for wire in open {
                world.cut(wire);
            }
            world.run(|_| {});
            world.assert_settled();
        }
        assert_eq!(world.ended, 0, "seed {seed}");
    }
}

#[test]
fn a_restarted_node_gets_in_without_waiting_for_the_deadline() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 2, Losses::NONE);
        world.everybody_wants();
        world.run(|_| {});
        let before = world.now;
        world.restart(usize::try_from(seed % 2).unwrap());
        world.everybody_wants();
        world.run(World::everybody_wants);
        world.assert_settled();
        assert!(world.now - before < secs(10), "seed {seed}: took {:?}", world.now - before);
    }
}

#[test]
fn nodes_behind_a_wall_get_in_though_the_greater_cannot_reach_them() {
    for seed in 0..SEEDS / 10 {
        let mut world = World::new(seed, 2, Losses::NONE);
        // The greater name dials in vain, each time for as long as a connect takes to time out.
        world.unreachable.insert(0);
        world.run(|world| {
            if world.now < secs(120) {
                world.everybody_wants();
            }
        });
        world.assert_settled();
        assert_eq!(world.ended, 0, "seed {seed}");
        assert!(world.now < secs(60), "seed {seed}: took {:?}", world.now);
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Losses {
    loss: bool,
    restarts: bool,
}

impl Losses {
    pub(crate) const NONE: Losses = Losses { loss: false, restarts: false };
}

/// A control connection.
pub(crate) type Wire = (SessionId, u64);

pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) incarnation: Incarnation,
    pub(crate) membership: Membership,
    /// The session that it has been told of, by the peer.
    up: BTreeMap<NodeName, SessionId>,
    /// The lives of the peers that it has, or had, sessions with.
    lives: BTreeMap<SessionId, Incarnation>,
    /// The last life of each of them: lives are numbered one after the other.
    last_lives: BTreeMap<NodeName, Incarnation>,
    /// Since when a session is without control.
    alone: BTreeMap<SessionId, Time>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    dialler: Begun,
    acceptor: Begun,
    at: Time,
}

/// No handshake takes longer.
const ATTEMPT: Duration = Duration::from_secs(7);

/// Something on its way.
#[derive(Debug, Clone)]
enum Flight {
    /// The dialler's proof, to the acceptor. `asked`: what either had begun when it was given.
    Proof { from: (usize, Incarnation), request: Request, asked: Asked },
    /// The verdict, back.
    Verdict { request: Request, asked: Asked, verdict: Result<u64, Refusal>, acceptor: (usize, Incarnation) },
    /// The dialler's connect or handshake has failed.
    Failed { request: Request },
    /// A connection is gone, as seen by one of its ends.
    Gone { wire: Wire },
    /// The answer to a probe over this control connection, if it lives.
    Answer { wire: Wire },
    /// The time for that is up.
    Unanswered { wire: Wire, by: Time },
}

pub(crate) struct World {
    seed: u64,
    pub(crate) random: SplitMix,
    faults: Losses,
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    /// With the node, in the life, that each is for.
    flights: Vec<(usize, Incarnation, Flight)>,
    /// Not before this time.
    timers: Vec<(Time, usize, Incarnation, Flight)>,
    /// The two ends of each open control connection.
    pub(crate) wires: BTreeMap<Wire, [(usize, Incarnation); 2]>,
    /// Who waits for the answer to a probe, and until when.
    probes: BTreeMap<(usize, Wire), Time>,
    /// Handshakes whose dialler has given up before it knew.
    given_up: BTreeSet<Wire>,
    unreachable: BTreeSet<usize>,
    /// Sessions have pool connections, which live as long as both ends do.
    pub(crate) pools: bool,
    /// How many of the next resumes fail, at once or after hanging in a connect.
    pub(crate) failing_resumes: u64,
    /// The end of a connection goes unnoticed.
    pub(crate) half_open: bool,
    /// Sessions that are not with a node of this world. Their ends answer probes.
    pub(crate) impostors: BTreeSet<SessionId>,
    next_session: u64,
    next_incarnation: u32,
    began: u64,
    pub(crate) ended: u64,
    restarts: u64,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, faults: Losses) -> Self {
        let mut world = World {
            seed,
            random: SplitMix(seed),
            faults,
            now: Time::ZERO,
            nodes: Vec::new(),
            flights: Vec::new(),
            timers: Vec::new(),
            wires: BTreeMap::new(),
            probes: BTreeMap::new(),
            given_up: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            pools: seed.is_multiple_of(2),
            failing_resumes: 0,
            half_open: false,
            impostors: BTreeSet::new(),
            next_session: 0,
            next_incarnation: 0,
            began: 0,
            ended: 0,
            restarts: 0,
        };
        for n in 0..nodes {
            let name: NodeName = format!("node{n}@host").parse().unwrap();
            let incarnation = world.incarnation();
            world.nodes.push(Node::new(name, incarnation));
        }
        world
    }

    fn incarnation(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        Incarnation::new(self.next_incarnation).unwrap()
    }

    pub(crate) fn everybody_wants(&mut self) {
        for node in 0..self.nodes.len() {
            for peer in 0..self.nodes.len() {
                self.want(node, peer);
            }
        }
    }

    fn want(&mut self, node: usize, peer: usize) {
        let peer = self.nodes[peer].name.clone();
        if node != self.index(&peer) {
            let actions = self.nodes[node].membership.want(&peer);
            self.act(node, actions);
        }
    }

    /// Lets things go wrong, or a wish arise.
    fn disturb(&mut self) {
        let (node, peer) = (self.random.index(self.nodes.len()), self.random.index(self.nodes.len()));
        match self.random.below(24) {
            0..4 => self.want(node, peer),
            4 => {
                let peer = self.nodes[peer].name.clone();
                self.nodes[node].membership.unwant(&peer);
            }
            5 => {
                let wires: Vec<Wire> = self.wires.keys().copied().collect();
                if !wires.is_empty() {
                    let cut = self.random.index(wires.len());
                    self.cut(wires[cut]);
                }
            }
            6 => self.hang_up(node),
            7 if self.faults.restarts => self.restart(node),
            _ => {}
        }
    }

    /// One side ends a session for a reason of its own.
    fn hang_up(&mut self, node: usize) {
        let sessions: Vec<SessionId> = self.nodes[node].up.values().copied().collect();
        if !sessions.is_empty() {
            let session = sessions[self.random.index(sessions.len())];
            let actions = self.nodes[node].membership.end(session, EndReason::Disconnected);
            self.act(node, actions);
        }
    }

    fn restart(&mut self, node: usize) {
        self.restarts += 1;
        let (name, incarnation) = (self.nodes[node].name.clone(), self.incarnation());
        self.ended += self.nodes[node].up.len() as u64;
        self.nodes[node] = Node::new(name, incarnation);
        let torn: Vec<Wire> = self
            .wires
            .iter()
            .filter(|(_, ends)| ends.iter().any(|end| end.0 == node))
            .map(|(wire, _)| *wire)
            .collect();
        torn.into_iter().for_each(|wire| self.cut(wire));
    }

    /// A connection breaks: both ends learn of it, sooner or later.
    pub(crate) fn cut(&mut self, wire: Wire) {
        for (node, life) in self.wires.remove(&wire).into_iter().flatten() {
            self.flights.push((node, life, Flight::Gone { wire }));
        }
    }

    /// From here on nothing fails, and somebody goes on wanting.
    fn settle(&mut self) {
        self.faults = Losses::NONE;
        let until = self.now + secs(600);
        let wanting = self.random.below(3);
        self.run(|world| {
            assert!(world.now < until, "seed {}: not settled after ten minutes", world.seed);
            for node in 0..world.nodes.len() {
                for peer in 0..world.nodes.len() {
                    if wanting == 2 || (wanting == 0) == (node < peer) {
                        world.want(node, peer);
                    }
                }
            }
        });
    }

    /// Runs until nothing is left to happen.
    pub(crate) fn run(&mut self, mut before_each: impl FnMut(&mut Self)) {
        for _ in 0..100_000 {
            before_each(self);
            if !self.step() {
                return;
            }
        }
        panic!("seed {}: never comes to rest", self.seed);
    }

    /// Delivers one thing, or lets time pass. False if there is nothing.
    pub(crate) fn step(&mut self) -> bool {
        if self.flights.is_empty() || self.random.below(16) == 0 {
            let advanced = self.advance();
            if self.flights.is_empty() {
                return advanced;
            }
        }
        let at = self.random.index(self.flights.len());
        let (node, life, flight) = self.flights.swap_remove(at);
        self.deliver(node, life, flight);
        true
    }

    fn advance(&mut self) -> bool {
        let liveness = self.nodes.iter().flat_map(|node| node.alone.values()).map(|since| *since + secs(60));
        let backoffs = self.nodes.iter().filter_map(|node| node.membership.next_deadline());
        let timers = self.timers.iter().map(|timer| timer.0);
        let Some(next) = liveness.chain(backoffs).chain(timers).min() else {
            return false;
        };
        // What is under way does not take for ever, unless things go wrong.
        let most = match (self.flights.is_empty(), self.faults.loss) {
            (true, _) => next,
            (false, true) => self.now + secs(self.random.below(70)),
            (false, false) => self.now + Duration::from_millis(100),
        };
        self.now = self.now.max(next.min(most));
        for node in 0..self.nodes.len() {
            // What lives is heard: of half-open connections nothing is.
            let living: BTreeSet<SessionId> = self.nodes[node].up.values().copied().collect();
            let living: BTreeSet<SessionId> =
                living.into_iter().filter(|id| !self.half_open && self.is_linked(*id)).collect();
            let now = self.now;
            let heard = |session: SessionId| living.contains(&session).then_some(now);
            let actions = self.nodes[node].membership.poll(now, heard);
            self.act(node, actions);
            let dead: Vec<SessionId> = self.nodes[node]
                .alone
                .iter()
                .filter(|(_, since)| **since + secs(60) <= self.now)
                .map(|(session, _)| *session)
                .collect();
            for session in dead {
                let actions = self.nodes[node].membership.end(session, EndReason::Silent);
                self.act(node, actions);
            }
        }
        let now = self.now;
        let due = self.timers.extract_if(.., |timer| timer.0 <= now);
        self.flights.extend(due.map(|(_, node, life, flight)| (node, life, flight)));
        true
    }

    pub(crate) fn act(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial { peer, number } => {
                    self.dial(node, &peer, ConnectionKind::NewSession, None, number)
                }
                Action::Resume { peer, session, generation } => {
                    self.dial(node, &peer, ConnectionKind::Resume, Some(session), generation);
                }
                Action::Up { peer, session } => {
                    self.began += 1;
                    let life = self.nodes[node].membership.session(&peer).unwrap().incarnation;
                    self.nodes[node].lives.insert(session, life);
                    let last = self.nodes[node].last_lives.insert(peer.clone(), life);
                    assert!(
                        last.is_none_or(|last| last.as_u32() <= life.as_u32()),
                        "seed {}: a session with an earlier life than the last one",
                        self.seed
                    );
                    let before = self.nodes[node].up.insert(peer, session);
                    assert_eq!(before, None, "seed {}: two sessions with one peer", self.seed);
                }
                Action::Ended { peer, session, reason } => {
                    self.ended += 1;
                    let (now, then) =
                        (self.nodes[self.index(&peer)].incarnation, self.nodes[node].lives[&session]);
                    let wrong = reason == EndReason::Restarted && now == then;
                    assert!(
                        !wrong,
                        "seed {}: an earlier life has taken the place of the present one",
                        self.seed
                    );
                    let before = self.nodes[node].up.remove(&peer);
                    assert_eq!(before, Some(session), "seed {}: ended what was not", self.seed);
                    self.nodes[node].alone.remove(&session);
                    self.close(node, |wire| wire.0 == session);
                }
                Action::Probe { peer, session } => {
                    let generation = self.nodes[node].membership.session(&peer).unwrap().generation;
                    let (life, wire) = (self.nodes[node].incarnation, (session, generation));
                    let by = self.now + secs(2);
                    self.probes.insert((node, wire), by);
                    self.flights.push((node, life, Flight::Answer { wire }));
                    self.timers.push((by, node, life, Flight::Unanswered { wire, by }));
                }
            }
        }
    }

    /// A node closes its ends of some connections.
    fn close(&mut self, node: usize, which: impl Fn(&Wire) -> bool) {
        let closed: Vec<Wire> = self
            .wires
            .iter()
            .filter(|(wire, ends)| which(wire) && ends.iter().any(|end| end.0 == node))
            .map(|(wire, _)| *wire)
            .collect();
        for wire in closed {
            if self.half_open {
                self.wires.remove(&wire);
            }
            for (end, life) in self.wires.remove(&wire).into_iter().flatten().filter(|end| end.0 != node) {
                self.flights.push((end, life, Flight::Gone { wire }));
            }
        }
    }

    pub(crate) fn new_session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId::new(u128::from(self.next_session).to_be_bytes()).unwrap()
    }

    fn dial(
        &mut self,
        node: usize,
        peer: &NodeName,
        kind: ConnectionKind,
        session: Option<SessionId>,
        connection: u64,
    ) {
        // In truth chosen by the acceptor.
        let session = session.unwrap_or_else(|| self.new_session());
        let life = self.nodes[node].incarnation;
        let request = Request {
            peer: self.nodes[node].name.clone(),
            peer_incarnation: life,
            kind,
            session,
            connection,
        };
        let acceptor = self.index(peer);
        if self.unreachable.contains(&acceptor) {
            self.timers.push((
                self.now + secs(7),
                node,
                life,
                Flight::Failed { request: dialled(&request, peer) },
            ));
            return;
        }
        if kind == ConnectionKind::Resume && self.failing_resumes > 0 {
            self.failing_resumes -= 1;
            let at = self.now + secs([0, 7][self.random.index(2)]);
            self.timers.push((at, node, life, Flight::Failed { request: dialled(&request, peer) }));
            return;
        }
        if self.faults.loss && self.random.below(4) == 0 {
            self.flights.push((node, life, Flight::Failed { request: dialled(&request, peer) }));
            // It gave up too early, perhaps: the proof is still on its way.
            if self.random.below(2) == 0 {
                return;
            }
            self.given_up.insert(wire(&request));
        }
        let acceptor_life = self.nodes[acceptor].incarnation;
        let [dialler, acceptor_begun] = [node, acceptor].map(|node| self.nodes[node].membership.begun());
        let asked = Asked { dialler, acceptor: acceptor_begun, at: self.now };
        self.flights.push((acceptor, acceptor_life, Flight::Proof { from: (node, life), request, asked }));
    }

    fn deliver(&mut self, node: usize, life: Incarnation, flight: Flight) {
        if self.nodes[node].incarnation != life {
            return self.stray(node, flight);
        }
        match flight {
            Flight::Proof { asked, .. } if self.now - asked.at > ATTEMPT => self.stray(node, flight),
            Flight::Verdict { ref request, asked, acceptor, .. } if self.now - asked.at > ATTEMPT => {
                let request = dialled(request, &self.nodes[acceptor.0].name);
                self.stray(node, flight);
                self.failed(node, &request, Failure::Other);
            }
            Flight::Proof { from, request, asked } => self.proof(node, from, request, asked),
            Flight::Verdict { request, asked, verdict, acceptor } => {
                self.verdict(node, request, asked, verdict, acceptor)
            }
            Flight::Failed { request } => self.failed(node, &request, Failure::Other),
            Flight::Gone { wire } => {
                let actions = self.nodes[node].membership.control_lost(wire.0, wire.1);
                self.note_control(node);
                self.act(node, actions);
            }
            Flight::Answer { wire } => self.answer(node, wire),
            Flight::Unanswered { wire, by } => self.unanswered(node, wire, by),
        }
    }

    fn answer(&mut self, node: usize, wire: Wire) {
        let lives = |(end, life): &(usize, Incarnation)| {
            let end = &self.nodes[*end];
            end.incarnation == *life && end.up.values().any(|up| *up == wire.0)
        };
        let answers = self.wires.get(&wire).is_some_and(|ends| ends.iter().all(lives));
        if (answers || self.impostors.contains(&wire.0)) && self.probes.remove(&(node, wire)).is_some() {
            self.nodes[node].membership.probe_answered(wire.0);
        }
    }

    fn unanswered(&mut self, node: usize, wire: Wire, by: Time) {
        let membership = &mut self.nodes[node].membership;
        // A probe ends with its control connection.
        let under_way = membership.sessions().any(|(_, session)| {
            (session.id, session.generation, session.control_connected) == (wire.0, wire.1, true)
        });
        if self.probes.get(&(node, wire)) == Some(&by) && under_way {
            self.probes.remove(&(node, wire));
            let actions = membership.end(wire.0, EndReason::ProbeUnanswered);
            self.act(node, actions);
        }
    }

    /// What was for an earlier life of a node meets nobody; who waits for an answer learns so.
    fn stray(&mut self, node: usize, flight: Flight) {
        match flight {
            Flight::Proof { from, request, .. } if !self.given_up.contains(&wire(&request)) => {
                let request = dialled(&request, &self.nodes[node].name);
                self.flights.push((from.0, from.1, Flight::Failed { request }));
            }
            Flight::Verdict { request, verdict: Ok(_), acceptor, .. } => {
                self.flights.push((acceptor.0, acceptor.1, Flight::Gone { wire: wire(&request) }));
            }
            _ => {}
        }
    }

    fn proof(&mut self, node: usize, from: (usize, Incarnation), request: Request, asked: Asked) {
        let decision = self.inbound(node, &request, asked.acceptor);
        self.act(node, decision.actions);
        let acceptor = (node, self.nodes[node].incarnation);
        if decision.verdict.is_ok() {
            // Of a resume, the earlier connection is closed.
            self.close(node, |wire| wire.0 == request.session);
        }
        self.note_control(node);
        let given_up = self.given_up.remove(&wire(&request));
        let lost = !given_up && self.faults.loss && self.random.below(4) == 0;
        if given_up || lost {
            if decision.verdict.is_ok() {
                self.flights.push((acceptor.0, acceptor.1, Flight::Gone { wire: wire(&request) }));
            }
            if lost {
                let peer = self.nodes[node].name.clone();
                self.flights.push((from.0, from.1, Flight::Failed { request: dialled(&request, &peer) }));
            }
            return;
        }
        let verdict = Flight::Verdict { request, asked, verdict: decision.verdict, acceptor };
        self.flights.push((from.0, from.1, verdict));
    }

    pub(crate) fn inbound(&mut self, node: usize, request: &Request, asked: Begun) -> Decision {
        let circumstances = self.circumstances(node, &request.peer, asked);
        self.nodes[node].membership.inbound(request, circumstances)
    }

    fn circumstances(&self, node: usize, peer: &NodeName, asked: Begun) -> Circumstances {
        let session = self.nodes[node].membership.session(peer);
        let linked = session.is_some_and(|session| self.is_linked(session.id));
        Circumstances { now: self.now, asked, linked, room: true }
    }

    /// Whether pool connections of a session live: while both of its ends do, whatever happens to control.
    fn is_linked(&self, session: SessionId) -> bool {
        let ends = self.nodes.iter().filter(|node| node.up.values().any(|up| *up == session)).count();
        self.impostors.contains(&session) || self.half_open || (self.pools && ends == 2)
    }

    fn verdict(
        &mut self,
        node: usize,
        request: Request,
        asked: Asked,
        verdict: Result<u64, Refusal>,
        acceptor: (usize, Incarnation),
    ) {
        let peer = self.nodes[acceptor.0].name.clone();
        let wire = wire(&request);
        let peer_dial = match verdict {
            Ok(last_dial) => last_dial,
            Err(refusal) => return self.failed(node, &dialled(&request, &peer), Failure::Refused(refusal)),
        };
        let outcome = match request.kind {
            ConnectionKind::NewSession => {
                let established = established(&request, &peer, acceptor.1, peer_dial);
                let circumstances = self.circumstances(node, &peer, asked.dialler);
                self.nodes[node].membership.dial_succeeded(&established, circumstances)
            }
            _ => self.nodes[node].membership.resume_succeeded(request.session, request.connection),
        };
        self.act(node, outcome.actions);
        self.note_control(node);
        // The acceptor may have closed its end meanwhile, by another session or by dying.
        let accepted = &self.nodes[acceptor.0];
        let there = accepted.incarnation == acceptor.1
            && accepted.membership.session(&request.peer).is_some_and(|session| {
                (session.id, session.generation, session.control_connected) == (wire.0, wire.1, true)
            });
        match (outcome.keep, there) {
            (true, true) => {
                let ends = [(node, self.nodes[node].incarnation), acceptor];
                self.wires.insert(wire, ends);
                // What was asked before it came up is answered now.
                self.flights.extend(ends.map(|(node, life)| (node, life, Flight::Answer { wire })));
            }
            (true, false) => {
                self.flights.push((node, self.nodes[node].incarnation, Flight::Gone { wire }));
            }
            (false, _) => self.flights.push((acceptor.0, acceptor.1, Flight::Gone { wire })),
        }
    }

    fn failed(&mut self, node: usize, request: &Request, failure: Failure) {
        let random = self.random.next();
        let now = self.now;
        let membership = &mut self.nodes[node].membership;
        let actions = match request.kind {
            ConnectionKind::NewSession => {
                membership.dial_failed(&request.peer, request.connection, failure, now, random);
                Vec::new()
            }
            _ => membership.resume_failed(request.session, request.connection, failure, now, random),
        };
        self.act(node, actions);
    }

    /// Starts and stops the clocks of sessions without control.
    fn note_control(&mut self, node: usize) {
        let now = self.now;
        let node = &mut self.nodes[node];
        for (_, session) in node.membership.sessions() {
            if session.control_connected {
                node.alone.remove(&session.id);
            } else {
                node.alone.entry(session.id).or_insert(now);
            }
        }
    }

    fn index(&self, name: &NodeName) -> usize {
        self.nodes.iter().position(|node| node.name == *name).unwrap()
    }

    /// Every pair has one session, the same on both sides, and control over the same connection.
    pub(crate) fn assert_settled(&self) {
        for (a, node) in self.nodes.iter().enumerate() {
            for (b, peer) in self.nodes.iter().enumerate().filter(|(b, _)| *b != a) {
                let seed = self.seed;
                let ours = node.membership.session(&peer.name).unwrap_or_else(|| {
                    panic!("seed {seed}: {} has no session with {}", node.name, peer.name)
                });
                let theirs = peer.membership.session(&node.name).unwrap();
                assert_eq!(ours.id, theirs.id, "seed {seed}");
                assert_eq!(ours.generation, theirs.generation, "seed {seed}");
                assert_ne!(ours.we_dialled, theirs.we_dialled, "seed {seed}");
                assert!(
                    ours.control_connected && theirs.control_connected,
                    "seed {seed}: {ours:?}, {theirs:?}"
                );
                assert_eq!(ours.incarnation, peer.incarnation, "seed {seed}");
                assert_eq!(node.up[&peer.name], ours.id, "seed {seed}");
                assert!(self.wires.contains_key(&(ours.id, ours.generation)), "seed {seed}: {a}, {b}");
            }
        }
    }
}

impl Node {
    fn new(name: NodeName, incarnation: Incarnation) -> Self {
        let membership = Membership::new(name.clone(), Backoff::default(), ATTEMPT);
        Node {
            name,
            incarnation,
            membership,
            up: BTreeMap::new(),
            lives: BTreeMap::new(),
            last_lives: BTreeMap::new(),
            alone: BTreeMap::new(),
        }
    }
}

/// A request as its dialler sees it: with the peer that it dialled.
fn dialled(request: &Request, peer: &NodeName) -> Request {
    Request { peer: peer.clone(), ..request.clone() }
}

fn wire(request: &Request) -> Wire {
    match request.kind {
        ConnectionKind::NewSession => (request.session, 0),
        _ => (request.session, request.connection),
    }
}
