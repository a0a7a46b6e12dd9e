//! What membership decides, done: sessions begin and end, and none ends without a reason.

use super::Broken;
use super::event::Event;
use super::ledger::Ledger;
use super::session::{Life, Side, Watch, Who};
use super::world::{PROBE_PATIENCE, World, trace};
use bytes::BytesMut;
use std::time::Duration;
use teleport_proto::absence::Absence;
use teleport_proto::handshake::{ConnectionKind, SessionKey};
use teleport_proto::liveness::Liveness;
use teleport_proto::membership::{Action, EndReason};
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::{NodeName, SessionId};

/// What rounding and the step from one event to the next may take off a deadline.
const SLACK: Duration = Duration::from_millis(1);

/// How long a session whose peer is in another life may be asked whether it lives, or have to resume.
const CLAIM_PATIENCE: Duration = Duration::from_secs(16);

impl World {
    /// A node's side of a session that it has, or had.
    pub(super) fn who(&self, node: usize, id: SessionId) -> Option<Who> {
        let session = *self.ids.get(&id)?;
        Some(Who { session, side: self.side_of(session, node) })
    }

    pub(super) fn side_of(&self, session: usize, node: usize) -> usize {
        usize::from(self.sessions[session].nodes[1] == node)
    }

    pub(super) fn node_of(&self, who: Who) -> usize {
        self.sessions[who.session].nodes[who.side]
    }

    fn index(&self, name: &NodeName) -> Result<usize, Broken> {
        let index = self.nodes.iter().position(|node| node.name == *name);
        index.ok_or_else(|| Broken::new("acts on a node that does not exist"))
    }

    pub(super) fn want(&mut self, node: usize, peer: usize) -> Result<(), Broken> {
        let name = self.nodes[peer].name.clone();
        let membership = &mut self.nodes[node].membership;
        let actions = match self.now.is_multiple_of(4) {
            true => membership.want_at_once(&name),
            false => membership.want(&name),
        };
        self.act(node, actions, None)
    }

    pub(super) fn due(&mut self, node: usize, at: u64) -> Result<(), Broken> {
        if self.nodes[node].due != Some(at) {
            return Ok(());
        }
        self.nodes[node].due = None;
        let now = self.nodes[node].clock.shows(self.now);
        let heard = |id: SessionId| {
            let who = self.who(node, id).filter(|who| self.is_linked(*who))?;
            Some(self.sessions[who.session].sides[who.side].watch.as_ref()?.heard.shown)
        };
        let heard: Vec<_> =
            self.live.iter().map(|&s| self.sessions[s].id).map(|id| (id, heard(id))).collect();
        let heard =
            |id: SessionId| heard.iter().find(|(other, _)| *other == id).and_then(|(_, heard)| *heard);
        let actions = self.nodes[node].membership.poll(now, heard);
        self.act(node, actions, None)
    }

    /// Sees to it that membership is asked when it wants to be.
    pub(super) fn plan_due(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let Some(deadline) = it.membership.next_deadline() else { return };
        let Some(at) = it.clock.when(deadline, self.now) else { return };
        if it.down.is_none() && it.due.is_none_or(|planned| at < planned) {
            it.due = Some(at);
            self.agenda.plan(at, Event::Due(node, at));
        }
    }

    /// Does what membership wants done. `begins` is the session that begins by it, with its key.
    pub(super) fn act(
        &mut self,
        node: usize,
        actions: Vec<Action>,
        begins: Option<(Who, SessionKey)>,
    ) -> Result<(), Broken> {
        for action in actions {
            trace!(self, "node {node}: {action:?}");
            match action {
                Action::Dial { peer, number } => {
                    self.dial(node, self.index(&peer)?, ConnectionKind::NewSession, None, number)?;
                }
                Action::Resume { peer, session, generation } => {
                    let session = self.ids.get(&session).copied();
                    self.dial(node, self.index(&peer)?, ConnectionKind::Resume, session, generation)?;
                }
                Action::Up { .. } => {
                    let (who, key) =
                        begins.clone().ok_or_else(|| Broken::new("a session began by itself"))?;
                    self.begin(who, key)?;
                }
                Action::Ended { session, reason, .. } => {
                    let who = self.who(node, session).ok_or_else(|| Broken::new("ended what never was"))?;
                    self.end(who, reason)?;
                }
                Action::Probe { session, .. } => {
                    if let Some(who) = self.who(node, session) {
                        self.coverage.probes += 1;
                        self.probe(who);
                    }
                }
            }
        }
        self.plan_due(node);
        Ok(())
    }

    fn begin(&mut self, who: Who, key: SessionKey) -> Result<(), Broken> {
        let (node, peer) = (self.node_of(who), self.node_of(who.other()));
        if let Some(other) = self.nodes[node].up.insert(peer, who.session) {
            return Err(Broken::new(format!(
                "node {node} has sessions {other} and {} with {peer}",
                who.session
            )));
        }
        self.live.insert(who.session);
        self.coverage.sessions_begun += 1;
        let config = self.liveness();
        let now = self.nodes[node].clock.moment(self.now);
        #[allow(unused_mut)]
        let (mut liveness, mut absence) = (Liveness::new(config, now.shown), Absence::default());
        #[cfg(feature = "planted-faults")]
        {
            liveness.plant(self.scenario.planted);
            absence.plant(self.scenario.planted);
        }
        let watch = Watch {
            liveness,
            absence,
            heard: now,
            control_heard: now,
            alone: None,
            claimed: None,
            planned: None,
            looked_for: false,
        };
        let transfer = Some(self.new_transfer(who));
        let ledger = Some(Ledger::new((who.session as u64) << 8 | who.side as u64));
        self.sessions[who.session].sides[who.side] =
            Side { transfer, ledger, key: Some(key), watch: Some(watch), ..Side::default() };
        self.plan_live(who);
        if self.rng.chance(100) {
            if let Some(transfer) = self.transfer(who) {
                transfer.prime();
            }
            self.settle(who)?;
        }
        Ok(())
    }

    /// One side ends a session of its own accord.
    pub(super) fn hang_up(&mut self, who: Who, goodbye: bool) -> Result<(), Broken> {
        let (node, id) = (self.node_of(who), self.sessions[who.session].id);
        let Some(side) = self.side(who).filter(|side| side.transfer.is_some()) else { return Ok(()) };
        side.hung_up = true;
        if goodbye {
            let mut out = BytesMut::new();
            ControlFrame::Goodbye.encode(&mut out);
            self.say(who, out.freeze(), false);
        }
        self.end_by(node, id, EndReason::Disconnected)
    }

    /// Tells membership that a session has ended.
    pub(super) fn end_by(&mut self, node: usize, id: SessionId, reason: EndReason) -> Result<(), Broken> {
        let actions = self.nodes[node].membership.end(id, reason);
        self.act(node, actions, None)
    }

    fn end(&mut self, who: Who, reason: EndReason) -> Result<(), Broken> {
        let (node, peer) = (self.node_of(who), self.node_of(who.other()));
        self.check_reason(who, reason)?;
        if self.nodes[node].up.remove(&peer) != Some(who.session) {
            return Err(Broken::new(format!(
                "{who:?} ended, which was not node {node}'s session with {peer}"
            )));
        }
        self.coverage.ended(reason);
        let side = &mut self.sessions[who.session].sides[who.side];
        side.put_trays_away();
        let Some(mut transfer) = side.transfer.take() else {
            return Err(Broken::new(format!("{who:?} ended twice")));
        };
        let ending = transfer.ending();
        transfer.end();
        if let Some(ledger) = &mut side.ledger {
            ledger.ended(&ending)?;
        }
        self.coverage.sessions_ended += 1;
        self.coverage.unconfirmed += ending.unconfirmed;
        drop(transfer);
        self.end_calls(who)?;
        self.leave(who, false);
        let used = self.nodes[node].budget.used();
        if self.nodes[node].up.is_empty() && used > 0 {
            return Err(Broken::new(format!("no session is left, but {used} bytes of the budget are taken")));
        }
        if self.calm() || self.rng.chance(500) {
            self.plan_within(1_000, Event::Want(node, peer));
        }
        Ok(())
    }

    /// Closes what a side had of a session that it has no more. `silent`: the other side is not told.
    pub(super) fn leave(&mut self, who: Who, silent: bool) {
        let session = &mut self.sessions[who.session];
        let side = &mut session.sides[who.side];
        side.transfer = None;
        (side.watch, side.flush_at) = (None, None);
        side.deferred.clear();
        let ids: Vec<_> = session.connections.keys().copied().collect();
        let generations: Vec<_> = session.controls.keys().copied().collect();
        let attached = side.link.take();
        if session.sides.iter().all(|side| side.transfer.is_none()) {
            self.live.remove(&who.session);
        }
        for generation in generations {
            if silent {
                self.break_control(who.session, generation, true);
                continue;
            }
            if attached == Some(generation) {
                self.close_control(who, generation);
            } else {
                self.break_control(who.session, generation, false);
                self.tell_control_gone(who.other(), generation);
            }
        }
        for id in ids {
            self.cut(who, id, [true, true]);
            if !silent && self.life(who.other(), id) == Life::Up {
                self.plan_within(10_000, Event::Notice(who.other(), id));
            }
        }
    }

    /// No session ends while its peer has it, and has not been silent for as long as that takes.
    fn check_reason(&self, who: Who, reason: EndReason) -> Result<(), Broken> {
        let session = &self.sessions[who.session];
        let (node, peer) = (&self.nodes[session.nodes[who.side]], &self.nodes[session.nodes[1 - who.side]]);
        let lives = peer.incarnation == session.lives[1 - who.side];
        let has_it = lives && session.sides[1 - who.side].transfer.is_some();
        let Some(watch) = &session.sides[who.side].watch else {
            return Err(Broken::new(format!("{who:?} ended without having begun")));
        };
        let deadline = self.climate.ticktime;
        let tick = deadline / 4;
        let ok = match reason {
            EndReason::Silent => {
                self.check_silence(who, watch)?;
                let silence = node.clock.witnessed(watch.heard, self.now, tick);
                let alone = watch.alone.map(|since| node.clock.witnessed(since, self.now, tick));
                silence.max(alone.unwrap_or_default()) + SLACK >= deadline
            }
            EndReason::Gone => {
                let since = peer.deaf.0.max(watch.heard.at);
                // An attempt after an absence of its own speaks for half of that time.
                let away = node.clock.passed(since, self.now, tick - tick / 2);
                // A node that was stopped gets to know then what came meanwhile.
                let refused = node.clock.at_work(self.now) <= peer.deaf.1 + self.climate.latency;
                !has_it || (refused && away + SLACK >= tick)
            }
            EndReason::Restarted => !lives,
            EndReason::PeerGaveUp => !has_it,
            EndReason::ProbeUnanswered => !has_it || self.may_be_replaced(who, watch),
            EndReason::PeerShutDown => session.sides[1 - who.side].hung_up,
            EndReason::Disconnected => session.sides[who.side].hung_up,
            _ => false,
        };
        if ok {
            return Ok(());
        }
        Err(Broken::new(format!(
            "{who:?} ended although its peer has it ({has_it}, heard {:?}, without control since {:?}): {reason}",
            watch.heard, watch.alone
        )))
    }

    /// Whether somebody who claims to be the peer may end a session that the peer has: it was asked, and nothing came.
    fn may_be_replaced(&self, who: Who, watch: &Watch) -> bool {
        let silence = self.nodes[self.node_of(who)].clock.shows(self.now).saturating_sub(watch.heard.shown);
        let connected = self.sessions[who.session].sides[who.side].link.is_some() || self.is_linked(who);
        self.climate.claims && (!connected || silence + SLACK >= PROBE_PATIENCE / 2)
    }

    /// Whether what it waited in silence for could not have been noticed before.
    fn check_silence(&self, who: Who, watch: &Watch) -> Result<(), Broken> {
        let clock = &self.nodes[self.node_of(who)].clock;
        let absent_since =
            |at| clock.passed(at, self.now, Duration::MAX) > clock.passed(at, self.now, Duration::ZERO);
        if let Some(claimed) = watch.claimed
            && clock.witnessed(claimed, self.now, Duration::ZERO) > CLAIM_PATIENCE
            && !absent_since(claimed.at.saturating_sub(self.climate.ticktime.as_micros() as u64))
        {
            return Err(Broken::new(format!("{who:?} was kept although another life of its peer wanted in")));
        }
        let attached = self.sessions[who.session].sides[who.side].link.is_some();
        if attached && watch.heard.at > watch.control_heard.at && !absent_since(watch.control_heard.at) {
            return Err(Broken::new(format!("{who:?} was silent over control, and heard otherwise")));
        }
        Ok(())
    }
}
