//! What is on its way between the nodes: proofs, verdicts, news of lost connections and answers to probes.

use teleport_proto::handshake::{ConnectionKind, Refusal, Request};
use teleport_proto::membership::{Begun, Circumstances, Decision, EndReason, Failure};
use teleport_proto::{Incarnation, NodeName, SessionId, Time};

use super::{ATTEMPT, Wire, World};
use crate::{established, secs};

#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    dialler: Begun,
    acceptor: Begun,
    at: Time,
}

/// Something on its way.
#[derive(Debug, Clone)]
pub(super) enum Flight {
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

impl World {
    pub(super) fn dial(
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

    pub(super) fn deliver(&mut self, node: usize, life: Incarnation, flight: Flight) {
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
                let actions = self.nodes[node].membership.control_lost(wire.0, wire.1, self.now);
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
    pub(super) fn is_linked(&self, session: SessionId) -> bool {
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
