//! Connections until they have proved themselves: real frames, which are delayed, lost, changed, repeated and replayed.

use super::Broken;
use super::event::Event;
use super::session::{Connection, Control, Life, Session, Side, Who};
use super::shake::{Dialling, Recording, Shake};
use super::world::{ATTEMPT, World, trace};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use teleport_proto::SessionId;
use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, Authenticated, AwaitingProof, CHALLENGE_LEN, Claim, ConnectionKind,
    Cookie, Dialler, Established, Limits, LocalNode, NONCE_LEN, Opening, Refusal, Rejection, SessionKey,
};
use teleport_proto::membership::{Begun, Circumstances, EndReason, Failure};
use teleport_proto::wire::pool::Class;

impl World {
    fn cookie() -> Result<Cookie, Broken> {
        Cookie::new(b"kDz7kS6gh2PqvV1u").map_err(|error| Broken::by("cookie", error))
    }

    fn local(&self, node: usize) -> LocalNode {
        let limits =
            Limits { max_message: NonZeroU64::MIN, peer_window: NonZeroU64::MIN, mailbox_window: None };
        let it = &self.nodes[node];
        LocalNode { name: it.name.clone(), incarnation: it.incarnation, features: 0, limits }
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.rng.bits() as u8)
    }

    fn acceptor_random(&mut self) -> [u8; ACCEPTOR_RANDOM_LEN] {
        #[allow(unused_mut)]
        let mut random = self.random();
        #[cfg(feature = "planted-faults")]
        if self.scenario.planted.same_nonce {
            random[..NONCE_LEN].fill(1);
        }
        random
    }

    /// Begins to open a connection. How it ends is told to membership, or to the session.
    pub(super) fn dial(
        &mut self,
        node: usize,
        peer: usize,
        kind: ConnectionKind,
        session: Option<usize>,
        number: u64,
    ) -> Result<(), Broken> {
        self.begin_shake(node, peer, kind, session, number, false)?;
        let pool = matches!(kind, ConnectionKind::Express | ConnectionKind::Bulk);
        if pool && self.trouble() {
            self.begin_shake(node, peer, kind, session, number, true)?;
        }
        Ok(())
    }

    /// Whether something goes wrong with a connection that is opened.
    fn trouble(&mut self) -> bool {
        !self.calm() && self.rng.chance(self.climate.join_trouble_permille / 4)
    }

    fn begin_shake(
        &mut self,
        node: usize,
        peer: usize,
        kind: ConnectionKind,
        session: Option<usize>,
        number: u64,
        twin: bool,
    ) -> Result<(), Broken> {
        let of_session =
            session.and_then(|it| Some((self.sessions[it].id, self.sessions[it].sides[0].key.clone()?)));
        let opening = match (kind, of_session) {
            (ConnectionKind::NewSession, _) => Opening::NewSession { cookie: Self::cookie()?, dial: number },
            (ConnectionKind::Resume, Some((session, key))) => {
                Opening::Resume { session, key, generation: number }
            }
            (ConnectionKind::Express, Some((session, key))) => {
                Opening::Express { session, key, connection: number }
            }
            (ConnectionKind::Bulk, Some((session, key))) => {
                Opening::Bulk { session, key, connection: number }
            }
            (_, None) => return Err(Broken::new("joins a session that it has not begun")),
        };
        let nonce: [u8; NONCE_LEN] = self.random();
        let wanted = self.nodes[peer].name.clone();
        let (dialler, hello) = Dialler::new(&self.local(node), &wanted, opening, &[], nonce)
            .map_err(|error| Broken::by("dialling", error))?;
        self.last_shake += 1;
        let shake = self.last_shake;
        self.shakes.insert(
            shake,
            Shake {
                dialler: node,
                dialler_life: self.nodes[node].incarnation,
                acceptor: peer,
                acceptor_life: self.nodes[peer].incarnation,
                kind,
                session,
                number,
                dialling: Some(Dialling::Hello(Box::new(dialler))),
                asked: Default::default(),
                accepting: None,
                known: false,
                accepted: false,
                changed: false,
                held_up: false,
                twin,
                frames: Default::default(),
            },
        );
        self.coverage.dials += 1;
        if self.nodes[peer].refuses(self.now) {
            self.plan_within(self.climate.latency, Event::ShakeFailed(shake, true));
            return Ok(());
        }
        let clock = &self.nodes[node].clock;
        let late = clock.when(clock.shows(self.now) + ATTEMPT, self.now).unwrap_or(self.now);
        self.agenda.plan(late, Event::ShakeLate(shake));
        if self.nodes[peer].down.is_none() {
            self.send_frame(shake, 0, Bytes::copy_from_slice(&hello));
        }
        Ok(())
    }

    /// Sends one of the four frames, which may meet with an accident.
    fn send_frame(&mut self, shake: u64, step: usize, bytes: Bytes) {
        let kinds = if self.climate.restarts { 4 } else { 3 };
        let mut accident = if self.trouble() { 1 + self.rng.below(kinds) } else { 0 };
        let bit = self.rng.below(bytes.len() as u64 * 8) as usize;
        let mut delay = 1 + self.rng.below(self.climate.latency + 1);
        let Some(it) = self.shakes.get_mut(&shake) else { return };
        it.frames[step] = bytes.clone();
        // Said twice in a row that the session is not known, a dialler has to believe it.
        if accident == 2
            && it.kind == ConnectionKind::Resume
            && let Some(session) = it.session
            && !self.changed.insert(session)
        {
            accident = 0;
        }
        let mut bytes = bytes;
        match accident {
            1 => {
                // The connection breaks; the dialler may have to find out by itself.
                let accepted = it.accepted;
                if accepted {
                    self.acceptor_loses(shake);
                }
                if self.rng.chance(500) {
                    self.plan_within(5_000, Event::ShakeFailed(shake, false));
                }
                return;
            }
            2 => {
                let mut changed = bytes.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                (bytes, it.changed) = (changed.into(), true);
                self.coverage.frames_changed += 1;
            }
            3 => delay += self.rng.below(self.climate.longest_delay),
            // Who has said that ends.
            4 if it.kind == ConnectionKind::NewSession => {
                let to_acceptor = step.is_multiple_of(2);
                let node = if to_acceptor { it.dialler } else { it.acceptor };
                self.plan_within(delay, Event::Crash(node));
            }
            _ => {}
        }
        self.plan(delay, Event::Shake { shake, step, bytes });
    }

    /// Where an event of a handshake happens.
    pub(super) fn shake_node(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Shake { shake, step, .. } => {
                self.shakes.get(shake).map(|it| if step % 2 == 0 { it.acceptor } else { it.dialler })
            }
            Event::ShakeFailed(shake, _) | Event::ShakeLate(shake) => {
                self.shakes.get(shake).map(|it| it.dialler)
            }
            _ => None,
        }
    }

    /// A frame arrives.
    pub(super) fn shake(&mut self, shake: u64, step: usize, bytes: Bytes) -> Result<(), Broken> {
        let Some(it) = self.shakes.get_mut(&shake) else { return Ok(()) };
        let to_acceptor = step.is_multiple_of(2);
        let (from, to) = if to_acceptor { (it.dialler, it.acceptor) } else { (it.acceptor, it.dialler) };
        let lives = [it.dialler_life, it.acceptor_life];
        let [sender, life] = if to_acceptor { lives } else { [lives[1], lives[0]] };
        if self.nodes[from].incarnation != sender && !std::mem::replace(&mut it.held_up, true) {
            // What a process has sent before its end may come long after it, or never.
            self.held_up.push((from, to, Event::Shake { shake, step, bytes }));
            return Ok(());
        }
        if let Some(until) = self.dark(from, to) {
            self.agenda.plan(until, Event::Shake { shake, step, bytes });
            return Ok(());
        }
        if self.nodes[to].incarnation != life {
            // Nobody is there any more to whom the connection belonged.
            match to_acceptor {
                true => self.plan_within(self.climate.latency, Event::ShakeFailed(shake, false)),
                false => self.acceptor_loses(shake),
            }
            return Ok(());
        }
        match step {
            0 => self.hello(shake, &bytes),
            1 => self.challenge(shake, &bytes),
            2 => self.proof(shake, &bytes),
            _ => self.verdict(shake, &bytes),
        }
    }

    /// A node loses its connection to another: it is now that what was held up comes.
    pub(super) fn release(&mut self, from: usize, to: usize) {
        if self.rng.chance(500) {
            let comes = |held: &mut (usize, usize, Event)| (held.0, held.1) == (from, to);
            let released: Vec<_> = self.held_up.extract_if(.., comes).collect();
            released.into_iter().for_each(|(.., event)| self.plan_within(self.climate.latency, event));
        }
    }

    fn hello(&mut self, shake: u64, bytes: &[u8]) -> Result<(), Broken> {
        let Some(acceptor) = self.shakes.get(&shake).map(|it| it.acceptor) else { return Ok(()) };
        let random = self.acceptor_random();
        let claim = match Acceptor::new(&self.local(acceptor), &[], random).hello(bytes) {
            Ok(claim) => claim,
            Err(rejection) => return self.rejected(shake, 1, rejection),
        };
        let ((accepting, challenge), known) = self.challenged(acceptor, claim)?;
        let begun = self.nodes[acceptor].membership.begun();
        if let Some(it) = self.shakes.get_mut(&shake) {
            (it.accepting, it.known, it.asked[0]) = (Some(accepting), known, begun);
        }
        self.send_frame(shake, 1, Bytes::copy_from_slice(&challenge));
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn challenged(
        &self,
        acceptor: usize,
        claim: Claim,
    ) -> Result<((AwaitingProof, [u8; CHALLENGE_LEN]), bool), Broken> {
        Ok(match claim {
            Claim::New(claim) => (claim.challenge(Some(&Self::cookie()?)), true),
            Claim::Join(claim) => {
                let key = self.key_of(acceptor, claim.session());
                (claim.challenge(key.as_ref()), key.is_some())
            }
        })
    }

    /// The key of a session that a node has.
    fn key_of(&self, node: usize, id: SessionId) -> Option<SessionKey> {
        let who = self.who(node, id)?;
        let side = &self.sessions[who.session].sides[who.side];
        side.transfer.as_ref().and(side.key.clone())
    }

    fn rejected(&mut self, shake: u64, step: usize, rejection: Rejection) -> Result<(), Broken> {
        let Some(it) = self.shakes.get(&shake) else { return Ok(()) };
        if !it.changed && (step == 1 || it.known) {
            return Err(Broken::by("an honest dialler was rejected", rejection.error));
        }
        self.coverage.handshakes_rejected += 1;
        match rejection.reply {
            Some(reply) => self.send_frame(shake, step, reply.into()),
            None => self.plan_within(self.climate.latency, Event::ShakeFailed(shake, false)),
        }
        Ok(())
    }

    fn challenge(&mut self, shake: u64, bytes: &[u8]) -> Result<(), Broken> {
        let Some(it) = self.shakes.get_mut(&shake) else { return Ok(()) };
        let Some(Dialling::Hello(dialler)) = it.dialling.take() else { return Ok(()) };
        match dialler.challenge(bytes) {
            Ok((awaiting, proof)) => {
                it.dialling = Some(Dialling::Proof(Box::new(awaiting)));
                it.asked[1] = self.nodes[it.dialler].membership.begun();
                self.send_frame(shake, 2, Bytes::copy_from_slice(&proof));
                Ok(())
            }
            Err(error) => self.dial_failed(shake, Failure::from(&error), false),
        }
    }

    fn proof(&mut self, shake: u64, bytes: &[u8]) -> Result<(), Broken> {
        let Some(it) = self.shakes.get_mut(&shake) else { return Ok(()) };
        let Some(accepting) = it.accepting.take() else { return Ok(()) };
        match accepting.proof(bytes) {
            Err(rejection) => self.rejected(shake, 3, rejection),
            Ok(_) if it.changed => Err(Broken::new("a handshake was accepted that was changed on the way")),
            Ok(authenticated) => self.decide(shake, authenticated),
        }
    }

    fn decide(&mut self, shake: u64, authenticated: Authenticated) -> Result<(), Broken> {
        let Some(it) = self.shakes.get(&shake) else { return Ok(()) };
        let (from, to, lives) = (it.dialler, it.acceptor, [it.dialler_life, it.acceptor_life]);
        let request = authenticated.request().clone();
        let asked = it.asked[0];
        if request.kind == ConnectionKind::NewSession
            && self.nodes[from].incarnation == request.peer_incarnation
            && let Some(&session) = self.nodes[to].up.get(&from)
        {
            let moment = self.nodes[to].clock.moment(self.now);
            let side = self.side_of(session, to);
            let it = &mut self.sessions[session];
            let other_life = it.lives[1 - side] != request.peer_incarnation;
            if let Some(watch) = it.sides[side].watch.as_mut().filter(|_| other_life) {
                watch.claimed.get_or_insert(moment);
            }
        }
        let circumstances = self.circumstances(to, from, asked);
        let decision = self.nodes[to].membership.inbound(&request, circumstances);
        trace!(self, "node {to} decides on {request:?}: {decision:?}");
        let last_dial = match decision.verdict {
            Ok(last_dial) => last_dial,
            Err(refusal) => {
                match refusal {
                    Refusal::Simultaneous => self.coverage.refused_simultaneous += 1,
                    Refusal::NameInUse => self.coverage.refused_name_in_use += 1,
                    Refusal::StaleResume => self.coverage.refused_stale += 1,
                    Refusal::ConnectionIdUsed => self.coverage.refused_twice += 1,
                    Refusal::UnknownSession => self.coverage.refused_unknown += 1,
                    _ => {}
                }
                self.act(to, decision.actions, None)?;
                self.send_frame(shake, 3, Bytes::copy_from_slice(&authenticated.refuse(refusal)));
                return Ok(());
            }
        };
        let (verdict, established) = authenticated.accept(last_dial);
        let session = match request.kind {
            ConnectionKind::NewSession => {
                let session = self.sessions.len();
                self.sessions.push(Session {
                    id: established.session,
                    nodes: [from, to],
                    lives,
                    sides: [Side::default(), Side::default()],
                    connections: BTreeMap::new(),
                    controls: BTreeMap::new(),
                });
                self.ids.insert(established.session, session);
                session
            }
            _ => {
                self.ids.get(&established.session).copied().ok_or_else(|| Broken::new("joins no session"))?
            }
        };
        let who = Who { session, side: 1 };
        if let Some(it) = self.shakes.get_mut(&shake) {
            (it.session, it.accepted) = (Some(session), true);
        }
        self.act(to, decision.actions, Some((who, established.key)))?;
        self.is_there(who);
        let class = match request.kind {
            ConnectionKind::NewSession | ConnectionKind::Resume => {
                let generation = if request.kind == ConnectionKind::Resume { request.connection } else { 0 };
                self.sessions[session].controls.insert(generation, Control::default());
                self.plan_within(self.climate.latency, Event::Attach(who, generation));
                None
            }
            ConnectionKind::Express => Some(Class::Express),
            ConnectionKind::Bulk => Some(Class::Bulk),
        };
        if let Some(class) = class {
            let id = request.connection;
            let pipes = [0, 1].map(|side| self.new_pipe(Who { session, side }));
            if self.sessions[session].connections.insert(id, Connection::new(class, pipes)).is_some() {
                return Err(Broken::new(format!("connection {id} of {who:?} was accepted twice")));
            }
            let late = if self.trouble() { self.rng.below(5_000) } else { self.rng.below(50) };
            self.coverage.joins_acceptor_late += u64::from(late > self.climate.latency);
            self.plan(late, Event::Up(who, id));
            if late > self.climate.latency && self.rng.chance(500) {
                // The dialler gives it up before it is up here.
                self.plan_within(late, Event::Notice(who.other(), id));
            }
            if self.trouble() {
                // It dies before the dialler knows that it is up.
                self.plan(late + 1, Event::Notice(who, id));
            }
        }
        self.send_frame(shake, 3, Bytes::copy_from_slice(&verdict));
        Ok(())
    }

    pub(super) fn circumstances(&self, node: usize, peer: usize, asked: Begun) -> Circumstances {
        let session = self.nodes[node].up.get(&peer).copied();
        let linked = session.is_some_and(|session| {
            let side = self.side_of(session, node);
            self.is_linked(Who { session, side })
        });
        Circumstances { now: self.nodes[node].clock.shows(self.now), asked, linked, room: true }
    }

    fn verdict(&mut self, shake: u64, bytes: &[u8]) -> Result<(), Broken> {
        let Some(it) = self.shakes.get_mut(&shake) else { return Ok(()) };
        let Some(Dialling::Proof(awaiting)) = it.dialling.take() else {
            self.acceptor_loses(shake); // it was closed meanwhile
            return Ok(());
        };
        match awaiting.verdict(bytes) {
            Ok(_) if it.changed => Err(Broken::new("a verdict was believed that was changed on the way")),
            Ok(established) => self.dial_succeeded(shake, &established),
            Err(error) => {
                if it.accepted && !it.changed {
                    return Err(Broken::by("an acceptance was not understood", error));
                }
                self.acceptor_loses(shake);
                self.dial_failed(shake, Failure::from(&error), false)
            }
        }
    }

    fn dial_succeeded(&mut self, shake: u64, established: &Established) -> Result<(), Broken> {
        let Some(it) = self.shakes.get(&shake) else { return Ok(()) };
        let (node, number, kind, twin) = (it.dialler, it.number, it.kind, it.twin);
        let Some(session) = it.session else { return Err(Broken::new("accepted into no session")) };
        let who = Who { session, side: 0 };
        self.recordings.push(Recording {
            dialler: node,
            acceptor: it.acceptor,
            number,
            kind,
            frames: it.frames.clone(),
        });
        if twin {
            self.coverage.twins_accepted += 1;
            self.acceptor_loses(shake);
            return Ok(());
        }
        let circumstances = self.circumstances(node, it.acceptor, it.asked[1]);
        let outcome = match kind {
            ConnectionKind::NewSession => {
                self.nodes[node].membership.dial_succeeded(established, circumstances)
            }
            ConnectionKind::Resume => {
                self.nodes[node].membership.resume_succeeded(established.session, number)
            }
            ConnectionKind::Express | ConnectionKind::Bulk => {
                self.is_there(who);
                if let Some(side) = self.side(who) {
                    side.join_failures = side.join_failures.min(1);
                }
                self.shakes.remove(&shake);
                return self.connection_up(who, number);
            }
        };
        self.act(node, outcome.actions, Some((who, established.key.clone())))?;
        if outcome.keep {
            let generation = if kind == ConnectionKind::Resume { number } else { 0 };
            self.is_there(who);
            self.plan_within(self.climate.latency, Event::Attach(who, generation));
        } else {
            self.coverage.late_verdicts += 1;
            self.acceptor_loses(shake);
        }
        self.plan_due(node);
        self.shakes.remove(&shake);
        Ok(())
    }

    /// The dialler does not wait any longer. What it has sent is on its way all the same.
    pub(super) fn shake_late(&mut self, shake: u64) -> Result<(), Broken> {
        let Some(it) = self.shakes.get_mut(&shake) else { return Ok(()) };
        if it.dialling.take().is_none() {
            return Ok(());
        }
        self.coverage.dials_late += 1;
        self.dial_failed(shake, Failure::Other, false)
    }

    pub(super) fn shake_failed(&mut self, shake: u64, refused: bool) -> Result<(), Broken> {
        let Some(it) = self.shakes.get_mut(&shake) else { return Ok(()) };
        if it.dialling.take().is_none() {
            return Ok(());
        }
        self.coverage.dials_refused += u64::from(refused);
        self.dial_failed(shake, Failure::Other, refused)
    }

    fn dial_failed(&mut self, shake: u64, failure: Failure, refused: bool) -> Result<(), Broken> {
        let Some(it) = self.shakes.get(&shake) else { return Ok(()) };
        let (node, peer, kind, number) = (it.dialler, it.acceptor, it.kind, it.number);
        if it.twin || self.nodes[node].incarnation != it.dialler_life {
            return Ok(());
        }
        let (now, random) = (self.nodes[node].clock.shows(self.now), self.rng.bits());
        match (kind, it.session.map(|session| Who { session, side: 0 })) {
            (ConnectionKind::NewSession, _) => {
                let peer = self.nodes[peer].name.clone();
                self.nodes[node].membership.dial_failed(&peer, number, failure, now, random);
                if !self.calm() && self.rng.chance(300) {
                    let membership = &mut self.nodes[node].membership;
                    if number.is_multiple_of(2) {
                        membership.let_rest(&peer);
                    } else {
                        membership.unwant(&peer);
                    }
                }
                self.plan_due(node);
                Ok(())
            }
            (ConnectionKind::Resume, Some(who)) => {
                let id = self.sessions[who.session].id;
                let membership = &mut self.nodes[node].membership;
                let mut actions = membership.resume_failed(id, number, failure, now, random);
                if self.attempted(who, refused) {
                    actions.extend(self.nodes[node].membership.end(id, EndReason::Gone));
                }
                self.act(node, actions, None)
            }
            (ConnectionKind::Express | ConnectionKind::Bulk, Some(who)) => {
                if !refused {
                    self.is_there(who);
                }
                if let Some(side) = self.side(who) {
                    side.join_failures += 1;
                }
                self.join_failed(who, number)
            }
            (_, None) => Err(Broken::new("a join that failed has no session")),
        }
    }

    /// What the acceptor has accepted is not there any more.
    fn acceptor_loses(&mut self, shake: u64) {
        let Some(it) = self.shakes.get(&shake).filter(|it| it.accepted) else { return };
        let (kind, number) = (it.kind, it.number);
        let Some(session) = it.session else { return };
        let who = Who { session, side: 1 };
        self.coverage.joins_half += 1;
        match kind {
            ConnectionKind::NewSession | ConnectionKind::Resume => {
                let generation = if kind == ConnectionKind::Resume { number } else { 0 };
                self.break_control(who.session, generation, false);
                self.tell_control_gone(who, generation);
            }
            ConnectionKind::Express | ConnectionKind::Bulk => {
                self.cut(who, number, [true, true]);
                if self.life(who, number) == Life::Up {
                    self.plan_within(5_000, Event::Notice(who, number));
                }
            }
        }
    }

    /// Somebody plays a recorded handshake to the node that it was with, and to the one that began it.
    pub(super) fn replay(&mut self) -> Result<(), Broken> {
        if self.recordings.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.recordings.len() as u64) as usize;
        let (acceptor_random, nonce) = (self.acceptor_random(), self.random::<NONCE_LEN>());
        let it = &self.recordings[at];
        self.coverage.replays += 1;
        if let Ok(claim) = Acceptor::new(&self.local(it.acceptor), &[], acceptor_random).hello(&it.frames[0])
        {
            let ((accepting, _), _) = self.challenged(it.acceptor, claim)?;
            if accepting.proof(&it.frames[2]).is_ok() {
                return Err(Broken::new(format!("a recorded {:?} was accepted again", it.kind)));
            }
        }
        if it.kind == ConnectionKind::NewSession {
            let opening = Opening::NewSession { cookie: Self::cookie()?, dial: it.number };
            let wanted = self.nodes[it.acceptor].name.clone();
            let (dialler, _) = Dialler::new(&self.local(it.dialler), &wanted, opening, &[], nonce)
                .map_err(|error| Broken::by("dialling", error))?;
            if let Ok((awaiting, _)) = dialler.challenge(&it.frames[1])
                && awaiting.verdict(&it.frames[3]).is_ok()
            {
                return Err(Broken::new("a recorded acceptance was believed"));
            }
        }
        Ok(())
    }
}
