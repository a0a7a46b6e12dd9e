//! Whether peers live: ticks, silence, and what listens at an address.

use super::Broken;
use super::event::Event;
use super::session::{Life, Who};
use super::world::{BACKOFF, PROBE_PATIENCE, World, trace};
use bytes::BytesMut;
use teleport_proto::liveness::{self, Action};
use teleport_proto::membership::EndReason;
use teleport_proto::wire::control::ControlFrame;

impl World {
    /// Whether a pool connection of a session lives, as far as one side knows.
    pub(super) fn is_linked(&self, who: Who) -> bool {
        let session = &self.sessions[who.session];
        session.connections.values().any(|connection| connection.ends[who.side].life == Life::Up)
    }

    /// Bytes have come from the peer.
    pub(super) fn heard(&mut self, who: Who, over_control: bool) {
        let now = self.nodes[self.node_of(who)].clock.moment(self.now);
        let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) else { return };
        watch.heard = now;
        if over_control {
            watch.control_heard = now;
        }
    }

    /// Sees to it that liveness is asked when it wants to be.
    pub(super) fn plan_live(&mut self, who: Who) {
        let clock = self.nodes[self.node_of(who)].clock.clone();
        let now = self.now;
        let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) else { return };
        let Some(at) = clock.when(watch.liveness.next_deadline(), now) else { return };
        if watch.planned.is_none_or(|planned| at < planned) {
            watch.planned = Some(at);
            self.agenda.plan(at, Event::Live(who, at));
        }
    }

    pub(super) fn live(&mut self, who: Who, at: u64) -> Result<(), Broken> {
        let node = self.node_of(who);
        let now = self.nodes[node].clock.shows(self.now);
        let id = self.sessions[who.session].id;
        let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) else { return Ok(()) };
        if watch.planned != Some(at) {
            return Ok(());
        }
        watch.planned = None;
        if now >= watch.liveness.next_deadline() {
            let (heard, control_heard) = (watch.heard.shown, watch.control_heard.shown);
            for action in watch.liveness.poll(now, heard, control_heard) {
                trace!(self, "{who:?}: {action:?}");
                match action {
                    Action::SendTick { seq, .. } => self.tick(who, ControlFrame::Tick(seq)),
                    Action::ReconnectControl => {
                        self.coverage.control_silent += 1;
                        self.lose_control(who)?;
                    }
                    Action::ProbeUnanswered => self.end_by(node, id, EndReason::ProbeUnanswered)?,
                    Action::NodeDown => self.end_by(node, id, EndReason::Silent)?,
                }
            }
        }
        self.plan_live(who);
        Ok(())
    }

    fn tick(&mut self, who: Who, frame: ControlFrame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.coverage.ticks += 1;
        self.say(who, out.freeze(), true);
    }

    pub(super) fn probe(&mut self, who: Who) {
        let now = self.nodes[self.node_of(who)].clock.shows(self.now);
        let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) else { return };
        if let Some(Action::SendTick { seq, .. }) = watch.liveness.probe(now, PROBE_PATIENCE) {
            self.tick(who, ControlFrame::Tick(seq));
            self.plan_live(who);
        }
    }

    /// A tick has come, or the answer to one.
    pub(super) fn ticked(&mut self, who: Who, frame: &ControlFrame) -> Result<(), Broken> {
        let node = self.node_of(who);
        let (now, id) = (self.nodes[node].clock.shows(self.now), self.sessions[who.session].id);
        match frame {
            ControlFrame::Tick(seq) => self.tick(who, ControlFrame::TickAnswer(*seq)),
            ControlFrame::TickAnswer(seq) => {
                let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) else { return Ok(()) };
                if watch.liveness.tick_answered(*seq, now).is_some_and(|round_trip| round_trip.probe) {
                    self.nodes[node].membership.probe_answered(id);
                }
            }
            ControlFrame::Goodbye => self.end_by(node, id, EndReason::PeerShutDown)?,
            ControlFrame::Transfer(_) => {}
        }
        Ok(())
    }

    /// The peer has connected, or has not refused to be.
    pub(super) fn is_there(&mut self, who: Who) {
        if let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) {
            watch.absence.alive();
        }
    }

    /// Notes an attempt to connect to the peer. `true` if that shows that it is gone.
    pub(super) fn attempted(&mut self, who: Who, refused: bool) -> bool {
        let now = self.nodes[self.node_of(who)].clock.shows(self.now);
        let (linked, patience) = (self.is_linked(who), self.liveness().tick_interval);
        let Some(side) = self.side(who) else { return false };
        let connected = linked || side.link.is_some();
        let Some(watch) = &mut side.watch else { return false };
        if !refused {
            watch.absence.alive();
            return false;
        }
        watch.absence.refused(now, watch.heard.shown, connected, patience)
    }

    /// The intervals of all sessions.
    pub(super) fn liveness(&self) -> liveness::Config {
        liveness::Config::with_ticktime(self.climate.ticktime)
    }

    /// The side that does not dial waits for its peer to resume, and looks meanwhile whether anything listens there.
    pub(super) fn plan_look(&mut self, who: Who, pause: u64) {
        let Some(watch) = self.side(who).and_then(|side| side.watch.as_mut()) else { return };
        watch.looked_for = true;
        self.plan(pause, Event::Look(who, pause));
    }

    pub(super) fn look(&mut self, who: Who, pause: u64) -> Result<(), Broken> {
        let (node, peer) = (self.node_of(who), self.node_of(who.other()));
        let id = self.sessions[who.session].id;
        let refused = self.nodes[peer].refuses(self.now);
        let Some(side) = self.side(who) else { return Ok(()) };
        let connected = side.link.is_some();
        let Some(watch) = &mut side.watch else { return Ok(()) };
        if connected {
            watch.looked_for = false;
            return Ok(());
        }
        if self.attempted(who, refused) {
            return self.end_by(node, id, EndReason::Gone);
        }
        self.plan_look(who, (pause * 2).min(BACKOFF.most.as_micros() as u64));
        Ok(())
    }
}
