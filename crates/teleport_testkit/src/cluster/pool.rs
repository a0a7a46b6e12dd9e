//! The pool connections: opening, writing, reading, dying.

use super::event::Event;
use super::link::Pipe;
use super::session::{Connection, Life, Reader, Who};
use super::world::{BACKOFF, World};
use super::{Broken, Micros};
use bytes::Bytes;
use std::time::Duration;
use teleport_proto::ConnectionId;
use teleport_proto::handshake::ConnectionKind;
use teleport_proto::transfer::ReceiveError;
use teleport_proto::wire::batch::{Front, split_batch};
use teleport_proto::wire::pool::{Class, FRAGMENT_HEADER_LEN, FragmentHeader};

impl World {
    pub(super) fn connection(&mut self, who: Who, id: ConnectionId) -> Option<&mut Connection> {
        self.sessions.get_mut(who.session)?.connections.get_mut(&id)
    }

    pub(super) fn life(&mut self, who: Who, id: ConnectionId) -> Life {
        self.connection(who, id).map_or(Life::Gone, |connection| connection.ends[who.side].life)
    }

    /// Whether faults have stopped.
    pub(super) fn calm(&self) -> bool {
        self.now >= self.climate.faults_until
    }

    /// Begins to open what the dialler misses; after failures not at once.
    pub(super) fn open_connections(&mut self, who: Who) {
        while let Some((id, class)) = self.transfer(who).and_then(|transfer| transfer.next_join()) {
            let failures = self.side(who).map_or(0, |side| side.join_failures);
            match failures.checked_sub(1) {
                None => self.plan(0, Event::Join(who, id, class)),
                Some(failures) => {
                    let pause = (BACKOFF.first * 2u32.pow(failures.min(6))).min(BACKOFF.most);
                    let at = self.now + pause.as_micros() as Micros;
                    self.agenda.plan_idle(at, Event::Join(who, id, class));
                }
            }
        }
    }

    pub(super) fn join(&mut self, who: Who, id: ConnectionId, class: Class) -> Result<(), Broken> {
        if self.transfer(who).is_none() {
            return Ok(());
        }
        let kind = match class {
            Class::Express => ConnectionKind::Express,
            Class::Bulk => ConnectionKind::Bulk,
        };
        let (node, peer) = (self.node_of(who), self.node_of(who.other()));
        self.dial(node, peer, kind, Some(who.session), id)
    }

    /// What a new connection has towards a side.
    pub(super) fn new_pipe(&mut self, who: Who) -> Pipe {
        let capacity = self.climate.pipe_capacity as usize;
        let mut pipe = Pipe::new(capacity, self.rng.below(self.climate.latency + 1));
        pipe.stalled_until = self.dark_until[self.node_of(who.other())][self.node_of(who)];
        pipe
    }

    pub(super) fn join_failed(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        let Some(transfer) = self.transfer(who) else { return Ok(()) };
        transfer.join_failed(id);
        self.coverage.joins_failed += 1;
        self.gone(who, id);
        if self.life(who.other(), id) == Life::Up {
            self.plan_within(5_000, Event::Notice(who.other(), id));
        }
        self.settle(who)
    }

    pub(super) fn connection_up(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        let Some(connection) = self.connection(who, id) else { return Ok(()) };
        let (class, dead) = (connection.class, connection.dead);
        let Some(transfer) = self.transfer(who) else { return Ok(()) };
        if !transfer.connection_up(id, class) {
            self.coverage.joins_unwelcome += 1;
            self.cut(who, id, [true, true]);
            self.gone(who, id);
            return self.settle(who);
        }
        let Some(connection) = self.connection(who, id) else { return Ok(()) };
        let end = &mut connection.ends[who.side];
        (end.life, end.awake, end.write_due) = (Life::Up, true, true);
        let both = connection.ends.iter().all(|end| end.life == Life::Up);
        self.coverage.connections += u64::from(both);
        self.plan_within(50, Event::Write(who, id));
        self.plan_read(who, id);
        if dead {
            self.plan_within(5_000, Event::Notice(who, id));
        }
        self.settle(who)
    }

    pub(super) fn wake(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        let Some(connection) = self.connection(who, id) else {
            return Err(Broken::new(format!("connection {id} was woken, and does not exist")));
        };
        connection.ends[who.side].awake = true;
        self.plan_write(who, id);
        Ok(())
    }

    fn plan_write(&mut self, who: Who, id: ConnectionId) {
        let Some(connection) = self.connection(who, id) else { return };
        let room = connection.pipes[1 - who.side].has_room();
        let end = &mut connection.ends[who.side];
        let idle = !end.awake && end.writing.is_empty();
        if end.write_due || idle || !room || end.life != Life::Up {
            return;
        }
        end.write_due = true;
        self.plan_within(100, Event::Write(who, id));
    }

    /// A writer writes until its frame is done or the pipe is full.
    pub(super) fn write(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        let (now, haste) = (self.now, self.climate.haste);
        let Some(session) = self.sessions.get_mut(who.session) else { return Ok(()) };
        let Some(connection) = session.connections.get_mut(&id) else { return Ok(()) };
        let end = &mut connection.ends[who.side];
        end.write_due = false;
        if end.life != Life::Up {
            return Ok(());
        }
        if connection.class == Class::Express && end.writing.is_empty() {
            session.sides[who.side].fetch_trays();
        }
        let Some(transfer) = &mut session.sides[who.side].transfer else { return Ok(()) };
        if end.writing.is_empty() {
            match transfer.next_frame(id) {
                Some(frame) => {
                    if connection.class == Class::Bulk {
                        transfer.weigh(frame.len() * haste as usize, Duration::from_micros(now) * haste);
                    }
                    end.writing.extend(frame.into_chunks());
                }
                None => end.awake = false,
            }
        }
        let pipe = &mut connection.pipes[1 - who.side];
        while let Some(chunk) = end.writing.front_mut() {
            pipe.write(now, chunk);
            if !chunk.is_empty() {
                break;
            }
            end.writing.pop_front();
        }
        self.plan_read(who.other(), id);
        self.plan_write(who, id);
        self.settle(who)
    }

    fn plan_read(&mut self, who: Who, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connection(who, id) else { return };
        let reads = matches!(connection.ends[who.side].life, Life::Up | Life::Closing { lingers: true });
        let pipe = &mut connection.pipes[who.side];
        let Some(at) = pipe.readable_at().filter(|_| reads && !pipe.read_due) else { return };
        pipe.read_due = true;
        self.plan(at.saturating_sub(now), Event::Read(who, id));
    }

    /// A reader reads some bytes.
    pub(super) fn read(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        let (now, max) = (self.now, self.rng.between(1, self.climate.read_size) as usize);
        let Some(connection) = self.connection(who, id) else { return Ok(()) };
        connection.pipes[who.side].read_due = false;
        let life = connection.ends[who.side].life;
        if !matches!(life, Life::Up | Life::Closing { lingers: true }) {
            return Ok(());
        }
        if let Some(bytes) = connection.pipes[who.side].read(now, max) {
            self.coverage.read_after_retirement += u64::from(life != Life::Up);
            self.heard(who, false);
            self.take_in(who, id, bytes)?;
        }
        self.plan_read(who, id);
        self.plan_write(who.other(), id);
        self.settle(who)
    }

    fn take_in(&mut self, who: Who, id: ConnectionId, bytes: Bytes) -> Result<(), Broken> {
        let Some(connection) = self.connection(who, id) else { return Ok(()) };
        let class = connection.class;
        // Put back below: nobody looks at it meanwhile.
        let mut reader =
            std::mem::replace(&mut connection.ends[who.side].reader, Reader::Express(Default::default()));
        let result = match &mut reader {
            Reader::Express(received) => {
                received.extend_from_slice(&bytes);
                self.take_batches(who, id, received)
            }
            Reader::Bulk { .. } => self.take_fragments(who, id, &mut reader, bytes),
        };
        debug_assert!(class == Class::Bulk || matches!(reader, Reader::Express(_)));
        if let Some(connection) = self.connection(who, id) {
            connection.ends[who.side].reader = reader;
        }
        result
    }

    fn take_batches(
        &mut self,
        who: Who,
        id: ConnectionId,
        received: &mut bytes::BytesMut,
    ) -> Result<(), Broken> {
        while let Front::Whole(frame) = split_batch(received).map_err(|error| Broken::by("batch", error))? {
            let result = self.deliver(who, Some(Class::Express), |transfer, sink| {
                transfer.receive_batch(id, frame, sink)
            })?;
            received_well(result)?;
            self.settle(who)?;
        }
        Ok(())
    }

    fn take_fragments(
        &mut self,
        who: Who,
        id: ConnectionId,
        reader: &mut Reader,
        mut bytes: Bytes,
    ) -> Result<(), Broken> {
        let Reader::Bulk { head, header, region } = reader else { return Ok(()) };
        loop {
            if let Some(filling) = region {
                let step = filling.missing().min(bytes.len());
                filling.buffer().put_slice(&bytes.split_to(step));
                if filling.missing() > 0 {
                    return Ok(());
                }
                *header = None;
                if let Some(region) = region.take() {
                    let result = self.deliver(who, Some(Class::Bulk), |transfer, sink| {
                        transfer.end_fragment(id, region, sink)
                    })?;
                    received_well(result)?;
                    self.settle(who)?;
                }
            }
            let wanted = header.map_or(FRAGMENT_HEADER_LEN, |header| header.envelope_len.into());
            let step = (wanted - head.len()).min(bytes.len());
            head.extend_from_slice(&bytes.split_to(step));
            if head.len() < wanted {
                return Ok(());
            }
            let Some(known) = *header else {
                let fixed = head.first_chunk().ok_or_else(|| Broken::new("a header has its length"))?;
                let decoded = FragmentHeader::decode(fixed).map_err(|e| Broken::by("fragment", e))?;
                *header = Some(decoded);
                head.clear();
                continue;
            };
            let Some(transfer) = self.transfer(who) else { return Ok(()) };
            let lent = transfer.begin_fragment(id, &known, head);
            head.clear();
            *region = lent.map_err(|error| Broken::by("begin_fragment", error))?;
            if region.is_none() {
                // Retired: this reader has to stop.
                if let Some(connection) = self.connection(who, id)
                    && connection.ends[who.side].life == (Life::Closing { lingers: true })
                {
                    connection.ends[who.side].life = Life::Closing { lingers: false };
                }
                return Ok(());
            }
        }
    }

    /// The session wants a connection closed.
    pub(super) fn close(&mut self, who: Who, id: ConnectionId) {
        let lingers = self.rng.chance(300);
        let keep = self.rng.chance(500);
        let patience = self.rng.pick(&[50, 2_000, 15_000]);
        let Some(connection) = self.connection(who, id) else { return };
        connection.dead = true;
        let end = &mut connection.ends[who.side];
        let stops = end.life == Life::Up;
        if stops {
            end.life = Life::Closing { lingers };
        }
        (end.awake, end.write_due) = (false, false);
        end.writing.clear();
        if !keep {
            connection.pipes[1 - who.side].cut(0);
        }
        if stops {
            self.plan_within(patience, Event::ReaderStop(who, id));
        }
        if self.rng.chance(500) {
            self.plan_within(5_000, Event::Notice(who.other(), id));
        }
    }

    pub(super) fn reader_stop(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        if !matches!(self.life(who, id), Life::Closing { .. }) {
            return Ok(());
        }
        self.stop_reader(who, id)
    }

    /// A side finds out by itself that a connection is dead, or believes so.
    pub(super) fn notice(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        if self.life(who, id) != Life::Up {
            return Ok(());
        }
        match who.side {
            0 => self.coverage.retired_by_dialler += 1,
            _ => self.coverage.retired_by_acceptor += 1,
        }
        if self.rng.chance(500) {
            return self.stop_reader(who, id);
        }
        let Some(transfer) = self.transfer(who) else { return Ok(()) };
        transfer.retire(id);
        self.settle(who)
    }

    fn stop_reader(&mut self, who: Who, id: ConnectionId) -> Result<(), Broken> {
        let Some(connection) = self.connection(who, id) else { return Ok(()) };
        let mut region = connection.ends[who.side].reader.take_region();
        self.gone(who, id);
        if let Some(region) = &mut region {
            let partial = region.missing() > 0 && !region.is_empty();
            self.coverage.partial_fragments_dropped += u64::from(partial);
        }
        let Some(transfer) = self.transfer(who) else { return Ok(()) };
        transfer.reader_stopped(id, region);
        self.settle(who)
    }

    /// That end of the connection exists no longer.
    fn gone(&mut self, who: Who, id: ConnectionId) {
        let Some(connection) = self.connection(who, id) else { return };
        connection.dead = true;
        connection.ends[who.side].life = Life::Gone;
    }

    /// Cuts a connection in the given directions.
    pub(super) fn cut(&mut self, who: Who, id: ConnectionId, directions: [bool; 2]) {
        let kept = [self.rng.chance(500), self.rng.chance(500)];
        let parts = [self.rng.below(1001), self.rng.below(1001)];
        let Some(connection) = self.connection(who, id) else { return };
        connection.dead = true;
        for (i, pipe) in connection.pipes.iter_mut().enumerate().filter(|(i, _)| directions[*i]) {
            let keep = if kept[i] { pipe.in_flight() * parts[i] as usize / 1000 } else { 0 };
            pipe.cut(keep);
        }
    }
}

fn received_well(result: Option<Result<(), ReceiveError>>) -> Result<(), Broken> {
    match result {
        Some(Err(error)) => Err(Broken::by("receiving", error)),
        _ => Ok(()),
    }
}
