//! The control connections.

use super::Broken;
use super::event::Event;
use super::session::Who;
use super::world::{World, trace};
use bytes::BytesMut;
use teleport_proto::wire::control::{ControlFrame, TransferFrame};

impl World {
    /// Writes what a side has to say.
    pub(super) fn flush(&mut self, who: Who, at: u64) -> Result<(), Broken> {
        let Some(side) = self.side(who).filter(|side| side.flush_at == Some(at)) else { return Ok(()) };
        side.flush_at = None;
        let (Some(link), Some(transfer)) = (side.link, &mut side.transfer) else { return Ok(()) };
        let mut out = BytesMut::new();
        transfer.take_control(&mut out);
        if out.is_empty() {
            return Ok(());
        }
        let works = self.sessions[who.session].control.link == link && !self.sessions[who.session].ending;
        if !works {
            if let Some(side) = self.side(who) {
                side.lost = true;
            }
            return self.settle(who);
        }
        // In two pieces, so that a cut may leave half a frame behind.
        let mut rest = out.freeze();
        let first = rest.split_to(self.rng.below(rest.len() as u64 + 1) as usize);
        let to = who.other();
        for piece in [first, rest] {
            if piece.is_empty() {
                continue;
            }
            let delay = self.rng.below(self.climate.latency + 1);
            let stream = &mut self.sessions[who.session].control.streams[to.side];
            let at = stream.back().map_or(0, |&(last, _)| last).max(self.now + delay);
            stream.push_back((at, piece));
            self.agenda.plan(at, Event::Control(to, link));
        }
        self.settle(who)
    }

    /// Takes what has arrived on a control connection.
    pub(super) fn control_arrives(&mut self, who: Who, link: u32) -> Result<(), Broken> {
        let now = self.now;
        let Some(session) = self.session(who) else { return Ok(()) };
        if session.control.link != link || session.sides[who.side].link != Some(link) {
            return Ok(()); // lost with the connection, or not up yet on this side
        }
        let stream = &mut session.control.streams[who.side];
        while stream.front().is_some_and(|&(at, _)| at <= now) {
            if let Some((_, piece)) = stream.pop_front() {
                session.control.received[who.side].extend_from_slice(&piece);
            }
        }
        let mut received = std::mem::take(&mut session.control.received[who.side]);
        while let Some(frame) = ControlFrame::decode(&mut received).map_err(|e| Broken::by("control", e))? {
            let ControlFrame::Transfer(frame) = frame else { continue };
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
        if let Some(session) = self.session(who) {
            session.control.received[who.side] = received;
        }
        Ok(())
    }

    /// The control connection breaks; after a while there is a new one.
    pub(super) fn cut_control(&mut self, session: usize) {
        let it = &mut self.sessions[session];
        if it.ending || it.sides.iter().any(|side| side.transfer.is_none()) {
            return;
        }
        it.control.link += 1;
        let link = it.control.link;
        for side in [0, 1] {
            let mut lost = !it.control.streams[side].is_empty();
            it.control.streams[side].clear();
            lost |= !it.control.received[side].is_empty();
            it.control.received[side].clear();
            it.sides[1 - side].lost |= lost;
        }
        self.coverage.control_cuts += 1;
        let gone = self.rng.below(10_000);
        for who in self.both(session) {
            // One side may notice at once, or only when it is connected anew.
            if self.rng.chance(500)
                && let Some(side) = self.side(who)
            {
                (side.link, side.flush_at) = (None, None);
            }
            let delay = gone + self.rng.below(1_000);
            self.plan(delay, Event::ControlUp(who, link));
        }
    }

    pub(super) fn control_up(&mut self, who: Who, link: u32) -> Result<(), Broken> {
        let Some(session) = self.session(who) else { return Ok(()) };
        if session.control.link != link || session.ending {
            return Ok(());
        }
        let side = &mut session.sides[who.side];
        let Some(transfer) = &mut side.transfer else { return Ok(()) };
        let unsaid = std::mem::take(&mut side.lost) || transfer.control_due().is_some();
        (side.link, side.flush_at) = (Some(link), None);
        transfer.control_up();
        self.coverage.resumed_with_unsaid += u64::from(unsaid && link > 0);
        self.settle(who)?;
        // What came before this side was ready.
        self.plan(0, Event::Control(who, link));
        Ok(())
    }
}
