//! Nodes that dial, lose, resume and restart, over a network that delays and loses whatever the seed says.
//!
//! The nodes run the real [`Membership`]; a handshake is its proof and its verdict, a connection is two ends and the
//! news of its loss, and liveness is a minute. Every event is delivered in an order that the seed picks. What is on its way, and
//! what comes of it, is in [`flights`].

mod flights;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use teleport_proto::handshake::ConnectionKind;
use teleport_proto::membership::{Action, Backoff, EndReason, Membership};
use teleport_proto::{Incarnation, NodeName, SessionId, Time};

use crate::{SplitMix, secs};
use flights::Flight;

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

/// No handshake takes longer.
const ATTEMPT: Duration = Duration::from_secs(7);

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
