//! The control connections.

use super::Broken;
use super::event::Event;
use super::session::Who;
use super::world::{BACKOFF, World, trace};
use bytes::{Bytes, BytesMut};
use teleport_proto::wire::control::{ControlFrame, TransferFrame};

impl World {
    /// Writes what a side has to say.
    pub(super) fn flush(&mut self, who: Who, at: u64) -> Result<(), Broken> {
        let Some(side) = self.side(who).filter(|side| side.flush_at == Some(at)) else { return Ok(()) };
        side.flush_at = None;
        let (Some(_), Some(transfer)) = (side.link, &mut side.transfer) else { return Ok(()) };
        let mut out = BytesMut::new();
        transfer.take_control(&mut out);
        if !out.is_empty() {
            self.say(who, out.freeze(), false);
        }
        self.settle(who)
    }

    /// Writes to the control connection, if there is one. `idle`: nobody waits for it.
    pub(super) fn say(&mut self, who: Who, mut rest: Bytes, idle: bool) {
        let Some(side) = self.side(who) else { return };
        let Some(generation) = side.link else { return };
        let Some(control) = self.sessions[who.session].controls.get(&generation) else { return };
        if control.dead {
            let silent = control.silent;
            if let Some(side) = self.side(who) {
                side.lost |= !idle;
            }
            if !silent {
                self.tell_control_gone(who, generation);
            }
            return;
        }
        // In two pieces, so that a cut may leave half a frame behind.
        let first = rest.split_to(self.rng.below(rest.len() as u64 + 1) as usize);
        let to = who.other();
        for piece in [first, rest] {
            if piece.is_empty() {
                continue;
            }
            let delay = self.rng.below(self.climate.latency + 1);
            let Some(control) = self.sessions[who.session].controls.get_mut(&generation) else { return };
            let stream = &mut control.streams[to.side];
            let at = stream.back().map_or(0, |&(last, _)| last).max(self.now + delay);
            stream.push_back((at, piece));
            match idle {
                true => self.agenda.plan_idle(at, Event::Control(to, generation)),
                false => self.agenda.plan(at, Event::Control(to, generation)),
            }
        }
    }

    /// Takes what has arrived on a control connection.
    pub(super) fn control_arrives(&mut self, who: Who, generation: u64) -> Result<(), Broken> {
        let now = self.now;
        if let Some(until) = self.dark(self.node_of(who.other()), self.node_of(who)) {
            self.agenda.plan(until, Event::Control(who, generation));
            return Ok(());
        }
        let session = &mut self.sessions[who.session];
        if session.sides[who.side].link != Some(generation) {
            return Ok(()); // given up, or not up yet on this side
        }
        let Some(control) = session.controls.get_mut(&generation) else { return Ok(()) };
        let (stream, mut received) =
            (&mut control.streams[who.side], std::mem::take(&mut control.received[who.side]));
        let before = received.len();
        while stream.front().is_some_and(|&(at, _)| at <= now) {
            if let Some((_, piece)) = stream.pop_front() {
                received.extend_from_slice(&piece);
            }
        }
        if received.len() > before {
            self.heard(who, true);
        }
        while let Some(frame) = ControlFrame::decode(&mut received).map_err(|e| Broken::by("control", e))? {
            let ControlFrame::Transfer(frame) = frame else {
                self.ticked(who, &frame)?;
                continue;
            };
            trace!(self, "{who:?} hears {frame:?}");
            match &frame {
                TransferFrame::RetireUnknown { .. } => self.coverage.retire_unknown += 1,
                TransferFrame::Needed { express, bulk, .. } => {
                    self.coverage.grants_needed += u64::from(express.wanted + bulk.wanted > 0);
                    self.coverage.waived += u64::from(express.waived + bulk.waived > 0);
                }
                TransferFrame::Delivered { above, .. } if above.len() > 1 => {
                    self.coverage.several_ranges += 1;
                }
                _ => {}
            }
            let Some(side) = self.side(who) else { return Ok(()) };
            side.control_frames += 1;
            let Some(transfer) = &mut side.transfer else { return Ok(()) };
            let before = transfer.stats().frames_resent;
            transfer.control(frame).map_err(|violation| Broken::by("violation", violation))?;
            let resent = transfer.stats().frames_resent - before;
            self.coverage.frames_resent += resent;
            self.settle(who)?;
        }
        if let Some(control) = self.sessions[who.session].controls.get_mut(&generation) {
            control.received[who.side] = received;
        }
        Ok(())
    }

    /// One side uses a new control connection from now on.
    pub(super) fn attach(&mut self, who: Who, generation: u64) -> Result<(), Broken> {
        let node = self.node_of(who);
        let (now, id) = (self.nodes[node].clock.moment(self.now), self.sessions[who.session].id);
        let Some(side) = self.side(who) else { return Ok(()) };
        if side.link.is_some_and(|newer| newer > generation) || side.transfer.is_none() {
            self.break_control(who.session, generation, false);
            self.tell_control_gone(who.other(), generation);
            return Ok(());
        }
        if let Some(old) = side.link.replace(generation) {
            self.close_control(who, old);
        }
        let Some(side) = self.side(who) else { return Ok(()) };
        side.flush_at = None;
        let Some(transfer) = &mut side.transfer else { return Ok(()) };
        let unsaid = std::mem::take(&mut side.lost) || transfer.control_due().is_some();
        transfer.control_up();
        if let Some(watch) = &mut side.watch {
            (watch.heard, watch.control_heard, watch.alone) = (now, now, None);
            watch.liveness.control_up(now.shown);
        }
        self.nodes[node].membership.probe_answered(id);
        self.coverage.resumed_with_unsaid += u64::from(unsaid && generation > 0);
        self.plan_live(who);
        self.settle(who)?;
        // What came before this side was ready.
        self.plan(0, Event::Control(who, generation));
        let control = self.sessions[who.session].controls.get(&generation);
        if control.is_none_or(|control| control.dead && !control.silent) {
            self.tell_control_gone(who, generation);
        }
        Ok(())
    }

    /// One side learns that a control connection is gone.
    pub(super) fn control_gone(&mut self, who: Who, generation: u64) -> Result<(), Broken> {
        let (from, to) = (self.node_of(who.other()), self.node_of(who));
        if let Some(until) = self.dark(from, to) {
            self.agenda.plan(until, Event::ControlGone(who, generation));
            return Ok(());
        }
        if self.sessions[who.session].sides[who.side].link != Some(generation) {
            return Ok(());
        }
        // What came before its end is taken first.
        self.control_arrives(who, generation)?;
        if self.sessions[who.session].sides[who.side].link == Some(generation) {
            self.lose_control(who)?;
        }
        Ok(())
    }

    /// One side gives its control connection up.
    pub(super) fn lose_control(&mut self, who: Who) -> Result<(), Broken> {
        let node = self.node_of(who);
        let now = self.nodes[node].clock.moment(self.now);
        let Some(side) = self.side(who) else { return Ok(()) };
        let Some(generation) = side.link.take() else { return Ok(()) };
        side.flush_at = None;
        let Some(watch) = &mut side.watch else { return Ok(()) };
        watch.liveness.control_down(now.shown);
        watch.alone = Some(now);
        let looked_for = watch.looked_for;
        self.close_control(who, generation);
        self.plan_live(who);
        self.release(self.node_of(who.other()), node);
        let id = self.sessions[who.session].id;
        let actions = self.nodes[node].membership.control_lost(id, generation, now.shown);
        self.act(node, actions, None)?;
        if who.side == 1 && !looked_for {
            self.plan_look(who, BACKOFF.first.as_micros() as u64);
        }
        Ok(())
    }

    /// One side closes its end: what it has written may still arrive.
    pub(super) fn close_control(&mut self, who: Who, generation: u64) {
        let Some(control) = self.sessions[who.session].controls.get_mut(&generation) else { return };
        control.dead = true;
        control.streams[who.side].clear();
        control.received[who.side].clear();
        let last = control.streams[1 - who.side].back().map_or(0, |&(at, _)| at);
        if !control.silent {
            let at = last.max(self.now + self.rng.below(self.climate.latency + 1));
            self.agenda.plan(at, Event::ControlGone(who.other(), generation));
        }
    }

    /// Everything that is under way on a control connection is lost, and what is written from now on.
    pub(super) fn break_control(&mut self, session: usize, generation: u64, silent: bool) {
        let it = &mut self.sessions[session];
        let Some(control) = it.controls.get_mut(&generation) else { return };
        for side in [0, 1] {
            it.sides[1 - side].lost |=
                !control.streams[side].is_empty() || !control.received[side].is_empty();
            control.streams[side].clear();
            control.received[side].clear();
        }
        (control.dead, control.silent) = (true, silent);
    }

    pub(super) fn tell_control_gone(&mut self, who: Who, generation: u64) {
        self.plan_within(self.climate.latency, Event::ControlGone(who, generation));
    }

    /// The control connection breaks. `silent`: neither side is told.
    pub(super) fn cut_control(&mut self, session: usize, silent: bool) {
        let links = [0, 1].map(|side| self.sessions[session].sides[side].link);
        for generation in links.into_iter().flatten() {
            if self.sessions[session].controls.get(&generation).is_none_or(|control| control.dead) {
                continue;
            }
            self.coverage.control_cuts += 1;
            self.break_control(session, generation, silent);
            if !silent {
                for who in self.both(session) {
                    self.plan_within(10_000, Event::ControlGone(who, generation));
                }
            }
        }
    }
}
