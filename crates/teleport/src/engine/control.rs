//! Control connections of all sessions, on one OS thread that does nothing else.
//!
//! Ticks are sent, answered and judged here. The thread shares no lock with the data path: what concerns messages
//! comes and goes through queues.

use crate::base::info::Tick;
use crate::base::seldom::{OfNode, OfPeer, if_any, warn_seldom};
use crate::io::runtime::Thread;
use crate::io::socket;
use crate::io::stream::Stream;
use crate::local::Peer;
use crate::session::{self, Command, Session, SessionEvent};
use bytes::BytesMut;
use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::Time;
use teleport_proto::liveness::{Action, Config as LivenessConfig, Liveness};
use teleport_proto::membership::EndReason;
use teleport_proto::wire::control::{ControlFrame, MAX_CONTROL_LEN};
use tokio::sync::mpsc;

/// How long a living session has to answer a probe when another node claims its peer's name.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes read from a control connection at once.
const READ_SIZE: usize = 4 * MAX_CONTROL_LEN;

/// Bytes of answers that a peer may leave unread before its ticks are left unread too.
const MOST_ANSWERS: usize = 64 * 1024;

/// Told of every tick that came back, on the control thread: must not block.
pub(crate) type TickObserver = Arc<dyn Fn(&Tick) + Send + Sync>;

/// Looks after a session's control connections, on the thread for them, until the session ends.
pub(crate) fn look_after(
    thread: &Thread,
    session: &Arc<Session>,
    intervals: LivenessConfig,
    observer: Option<TickObserver>,
    commands: mpsc::UnboundedReceiver<Command>,
) {
    let task = Control {
        liveness: Liveness::new(intervals, session.core.clock.now()),
        session: session.clone(),
        observer,
        heard: Time::ZERO,
        connection: None,
        out: BytesMut::new(),
        answers: 0,
        write_asked: false,
        goodbye: false,
    };
    thread.spawn(task.run(commands));
}

struct Control {
    observer: Option<TickObserver>,
    session: Arc<Session>,
    liveness: Liveness,
    /// When control was last heard.
    heard: Time,
    connection: Option<Connection>,
    /// Bytes still to be written.
    out: BytesMut,
    /// Answers to ticks among them, at most.
    answers: usize,
    /// The session waits to be told that its frames are written.
    write_asked: bool,
    /// The peer has said goodbye: what follows is the end, not a loss to be made good.
    goodbye: bool,
}

struct Connection {
    stream: Stream,
    generation: u64,
    received: BytesMut,
    /// The peer has said something over it.
    of_use: bool,
}

/// What woke the task.
enum Woken {
    Command(Option<Command>),
    Readable,
    Writable,
    Timer,
}

impl Control {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let due = self.session.core.clock.instant(self.liveness.next_deadline()).into();
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            let woken = {
                let stream = self.connection.as_ref().map(|connection| &connection.stream);
                let readable = stream.filter(|_| !self.is_behind());
                let writable = stream.filter(|stream| !self.out.is_empty() || stream.is_behind());
                tokio::select! {
                    biased; // whatever the peer floods us with comes last
                    command = commands.recv() => Woken::Command(command),
                    _ = &mut timer => Woken::Timer,
                    _ = ready(writable, true) => Woken::Writable,
                    _ = ready(readable, false) => Woken::Readable,
                }
            };
            let now = self.session.core.clock.now();
            match woken {
                Woken::Readable => {
                    self.read(now);
                    tokio::task::yield_now().await; // the other sessions' turn
                }
                Woken::Writable => self.write(now),
                Woken::Timer => self.poll(now),
                Woken::Command(None) => return,
                Woken::Command(Some(Command::End { goodbye })) => {
                    self.end(goodbye).await;
                    return;
                }
                Woken::Command(Some(command)) => self.command(command, now),
            }
        }
    }

    fn command(&mut self, command: Command, now: Time) {
        match command {
            Command::Attach { stream, generation } => match stream.attach() {
                Ok(stream) => self.attach(stream, generation, now),
                Err(error) => {
                    let noted = self.session.note(OfPeer::Unusable);
                    warn_seldom!(noted, parent: &self.session.span, %error, "control connection unusable");
                    self.session.note_control_use(false);
                    self.session
                        .core
                        .events
                        .send(SessionEvent::ControlLost { session: self.session.id, generation });
                }
            },
            Command::Write(frames) => {
                self.write_asked = true;
                if self.connection.is_some() {
                    self.out.unsplit(frames);
                    self.write(now);
                } else {
                    self.written(); // it will all be said again
                }
            }
            Command::Probe => {
                if let Some(action) = self.liveness.probe(now, PROBE_PATIENCE) {
                    self.act(action, now);
                }
            }
            Command::Ask => {
                if let Some(action) = self.liveness.ask(now) {
                    self.act(action, now);
                }
            }
            Command::TickInterval(interval) => self.liveness.set_tick_interval(interval, now),
            Command::Intervals(intervals) => {
                self.liveness.set_intervals(intervals, now);
                if let Some(connection) = &self.connection
                    && let Err(error) = socket::give_up_after(connection.stream.tcp(), intervals.deadline)
                {
                    tracing::debug!(parent: &self.session.span, %error, "a socket option was refused");
                }
            }
            Command::Proceed => {}
            Command::Sever => self.lose(now, "severed"),
            Command::End { .. } => {}
        }
    }

    fn attach(&mut self, stream: Stream, generation: u64, now: Time) {
        // Two that were accepted one after the other may get here the other way around.
        if self.connection.as_ref().is_some_and(|newer| newer.generation > generation) {
            return;
        }
        self.out.clear();
        self.answers = 0;
        if let Ok(address) = stream.peer_addr() {
            self.session.note_address(address);
        }
        self.connection = Some(Connection { stream, generation, received: BytesMut::new(), of_use: false });
        self.heard = now;
        self.session.heard(now);
        self.liveness.control_up(now);
        // A probe goes with the connection before this one, and by this one the peer has proved that it lives.
        self.session.core.events.send(SessionEvent::ProbeAnswered { session: self.session.id });
        self.written();
        self.session.note_control(true);
        self.session.tell(session::Event::ControlUp);
    }

    /// The peer does not read what it asked for, or says more than the session can take in. Then it is not listened to.
    fn is_behind(&self) -> bool {
        self.answers > MOST_ANSWERS || self.session.is_behind()
    }

    fn poll(&mut self, now: Time) {
        for action in self.liveness.poll(now, self.session.last_heard(), self.heard) {
            self.act(action, now);
        }
        let (counts, (before, _)) = (self.liveness.counts(), *self.session.ticks.lock());
        if counts.missed > before.missed {
            let missed = counts.missed - before.missed;
            let silent_for = now.saturating_sub(self.session.last_heard());
            let noted = self.session.note(OfPeer::TickMissed);
            warn_seldom!(noted, parent: &self.session.span, missed, in_all = counts.missed, ?silent_for, "tick missed");
            self.session.meter.ticks_missed(missed);
        }
        self.session.ticks.lock().0 = counts;
    }

    fn act(&mut self, action: Action, now: Time) {
        match action {
            Action::SendTick { seq, .. } => {
                ControlFrame::Tick(seq).encode(&mut self.out);
                self.write(now);
            }
            Action::ReconnectControl => {
                let noted = self.session.note(OfPeer::ControlSilent);
                warn_seldom!(noted, parent: &self.session.span, "control connection does not answer; it is to be opened anew");
                self.lose(now, "silent");
            }
            Action::ProbeUnanswered => {
                self.session.core.events.end(self.session.id, EndReason::ProbeUnanswered)
            }
            Action::NodeDown => self.session.core.events.end(self.session.id, EndReason::Silent),
        }
    }

    fn read(&mut self, now: Time) {
        let Some(connection) = &mut self.connection else { return };
        connection.received.reserve(READ_SIZE);
        match connection.stream.try_read_buf(&mut connection.received) {
            Ok(0) => return self.lose(now, "closed by the peer"),
            Ok(_) => {
                self.heard = now;
                self.session.control_heard(now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::debug!(parent: &self.session.span, %error, "control connection failed");
                return self.lose(now, "failed");
            }
        }
        let mut transfer = BytesMut::new();
        while let Some(connection) = &mut self.connection {
            let decoded = ControlFrame::decode(&mut connection.received);
            if matches!(decoded, Ok(Some(_))) && !std::mem::replace(&mut connection.of_use, true) {
                self.session.note_control_use(true);
            }
            match decoded {
                Ok(None) => break,
                Ok(Some(ControlFrame::Tick(seq))) => {
                    let before = self.out.len();
                    ControlFrame::TickAnswer(seq).encode(&mut self.out);
                    self.answers += self.out.len() - before;
                }
                Ok(Some(ControlFrame::TickAnswer(seq))) => self.answered(seq, now),
                Ok(Some(ControlFrame::Goodbye)) => self.goodbye = true,
                // As bytes: what waits for the session's task takes no more than the peer has sent.
                Ok(Some(frame @ ControlFrame::Transfer(_))) => frame.encode(&mut transfer),
                Err(error) => {
                    let noted = self.session.note(OfPeer::OutOfStep);
                    warn_seldom!(noted, parent: &self.session.span, %error, "control connection is out of step");
                    self.lose(now, "out of step");
                    break;
                }
            }
        }
        if !transfer.is_empty() {
            self.session.tell_frames(transfer);
        }
        if self.goodbye {
            self.session.tell(session::Event::Goodbye);
        }
        if !self.out.is_empty() {
            self.write(now);
        }
    }

    fn answered(&mut self, seq: u64, now: Time) {
        let Some(answer) = self.liveness.tick_answered(seq, now) else { return };
        if answer.probe {
            self.session.core.events.send(SessionEvent::ProbeAnswered { session: self.session.id });
        }
        self.session.ticks.lock().1 = Some(answer.round_trip);
        self.session.ticks.lock().0 = self.liveness.counts();
        self.session.meter.tick_answered(answer.round_trip);
        if let Some(observer) = &self.observer {
            let tick = Tick { peer: self.session.peer.clone(), round_trip: answer.round_trip };
            if catch_unwind(AssertUnwindSafe(|| observer(&tick))).is_err() {
                // It may panic at every tick.
                if let Some(not_said) = self.session.core.warnings.of_node(OfNode::ObserverPanicked) {
                    tracing::error!(not_said = if_any(not_said.same), "the tick observer panicked");
                }
            }
        }
    }

    fn write(&mut self, now: Time) {
        let Some(connection) = &self.connection else { return };
        while !self.out.is_empty() || connection.stream.is_behind() {
            match connection.stream.try_write(&self.out) {
                Ok(taken) => bytes::Buf::advance(&mut self.out, taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(parent: &self.session.span, %error, "control connection failed");
                    return self.lose(now, "failed");
                }
            }
        }
        self.answers = 0;
        self.written();
    }

    fn written(&mut self) {
        if std::mem::take(&mut self.write_asked) {
            self.session.tell(session::Event::ControlWritten);
        }
    }

    fn lose(&mut self, now: Time, why: &str) {
        let Some(connection) = self.connection.take() else { return };
        if !connection.of_use {
            self.session.note_control_use(false);
        }
        self.out.clear();
        self.answers = 0;
        self.liveness.control_down(now);
        self.session.note_control(false);
        self.session.tell(session::Event::ControlDown);
        self.written();
        if self.goodbye {
            return; // to resume would only be refused, and might be before the session has come to the goodbye
        }
        tracing::info!(parent: &self.session.span, why, "control connection lost");
        self.session.meter.control_lost.count();
        let (session, generation) = (self.session.id, connection.generation);
        self.session.core.events.send(SessionEvent::ControlLost { session, generation });
    }

    async fn end(&mut self, goodbye: bool) {
        let Some(connection) = &self.connection else { return };
        if goodbye {
            ControlFrame::Goodbye.encode(&mut self.out);
            let farewell = async {
                if connection.stream.write_all(&self.out).await.is_err() {
                    return;
                }
                // Closed with something unread, it would be reset, and the goodbye might be lost.
                let tcp = connection.stream.tcp();
                let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
                let mut unread = [0; 256];
                while tcp.readable().await.is_ok() {
                    match tcp.try_read(&mut unread) {
                        // A flood must not keep the thread, nor the time limit from being noticed.
                        Ok(1..) => tokio::task::yield_now().await,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Ok(0) | Err(_) => return,
                    }
                }
            };
            // A peer that does not read learns of it from the closed connection.
            let _ = tokio::time::timeout(Duration::from_millis(500), farewell).await;
        }
    }
}

/// Ready to be read from or written to; never, without a stream.
async fn ready(stream: Option<&Stream>, to_write: bool) {
    match stream {
        // An error shows in the call that follows.
        Some(stream) if to_write => drop(stream.writable().await),
        Some(stream) => drop(stream.readable().await),
        None => std::future::pending().await,
    }
}
