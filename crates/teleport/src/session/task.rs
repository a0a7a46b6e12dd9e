//! The session's own task: acknowledgements out and in, and what has to be looked at from time to time.

use super::{Command, Event, Session};
use crate::Config;
use crate::base::seldom::{OfPeer, warn_seldom};
use bytes::BytesMut;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use teleport_proto::ConnectionId;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{Progress, Transfer, Urgency, Violation};
use teleport_proto::wire::control::ControlFrame;
use teleport_proto::wire::pool::Class;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Bulk connections may stand still for this many times as long as express ones.
const BULK_STALL_FACTOR: u32 = 4;

/// Control frames that are taken in at one go: a fraction of a millisecond, of nearly all peers everything.
const MOST_AT_ONCE: usize = 256;

struct Task {
    session: Arc<Session>,
    /// There is a control connection, and it has written what it was given.
    writable: bool,
    connected: bool,
    flush_at: Option<Instant>,
    /// While anything is under way: when to look whether it gets anywhere.
    look_at: Option<Instant>,
    /// Connections with frames in flight.
    progress: FxHashMap<ConnectionId, Progress>,
    /// While there are connections that may become idle: when to close those that are.
    sweep_at: Option<Instant>,
    /// Control frames that have been taken in since others came first.
    handled: usize,
}

pub(super) async fn run(session: Arc<Session>, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut task = Task {
        session: session.clone(),
        writable: false,
        connected: false,
        flush_at: None,
        look_at: None,
        progress: FxHashMap::default(),
        sweep_at: None,
        handled: 0,
    };
    loop {
        let timer = [task.flush_at, task.look_at, task.sweep_at].into_iter().flatten().min();
        tokio::select! {
            event = events.recv() => match event {
                None | Some(Event::End) => return,
                Some(Event::Control(frames)) => task.take_in(frames).await,
                Some(event) => task.on_event(event),
            },
            () = session.now.notified() => task.flush(),
            () = session.soon.notified() => task.flush_soon(),
            () = session.in_use.notified() => task.begin_to_look(),
            () = session.budget_freed.notified() => {
                session.change(|transfer| transfer.budget_freed());
            }
            () = session.grants_freed.notified() => {
                session.change(|transfer| transfer.grants_freed());
            }
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => task.on_timer(),
        }
    }
}

impl Task {
    fn config(&self) -> &Config {
        &self.session.core.config
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::ControlUp => {
                (self.connected, self.writable) = (true, true);
                self.session.change(|transfer| transfer.control_up());
                self.flush();
            }
            Event::ControlDown => self.connected = false,
            Event::ControlWritten => {
                self.writable = true;
                let due = self.session.lock().due_behind();
                match due {
                    Some(Urgency::Now) => self.flush(),
                    Some(Urgency::Soon) => self.flush_soon(),
                    None => {}
                }
            }
            Event::Goodbye => {
                self.session.core.events.end(self.session.id, EndReason::PeerShutDown);
            }
            Event::Control(_) | Event::End => {}
        }
    }

    /// What the peer says, however much that is: a few frames at a time, then others come first.
    async fn take_in(&mut self, mut frames: BytesMut) {
        let capacity = frames.capacity();
        while !frames.is_empty() {
            let (input, handled) = (&mut frames, &mut self.handled);
            let take = |transfer: &mut Transfer, _: &mut ()| {
                while *handled < MOST_AT_ONCE {
                    let Ok(Some(ControlFrame::Transfer(frame))) = ControlFrame::decode(input) else {
                        input.clear(); // nothing is left: all was read once before
                        break;
                    };
                    *handled += 1;
                    transfer.control(frame)?;
                }
                Ok::<_, Violation>(())
            };
            if self.session.receive((), take, drop).is_none() {
                break;
            }
            if self.handled == MOST_AT_ONCE {
                self.handled = 0;
                tokio::task::yield_now().await;
            }
        }
        self.session.drained.notify_waiters();
        self.session.pool_changed.notify_waiters(); // less may be wanted of it
        self.session.handled(capacity);
        self.publish();
    }

    fn flush_soon(&mut self) {
        if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + self.config().flush_delay);
        }
    }

    /// Hands the control connection what there is to say, unless it is still busy with the last.
    fn flush(&mut self) {
        self.flush_at = None;
        self.publish();
        if !self.connected || !self.writable {
            return; // the control connection's next event brings us back
        }
        if let Some(frames) = self.session.lock().take_control().filter(|frames| !frames.is_empty()) {
            self.writable = false;
            self.session.command(Command::Write(frames));
        }
    }

    /// Brings the metrics up to date; called when the task is awake anyway.
    fn publish(&self) {
        self.session.show_planned.store(false, Ordering::Release);
        let Some(stats) = self.session.with(|state, after| state.stats(after)) else { return };
        self.session.meter.publish_carried(&self.session.carried.so_far());
        self.session.meter.publish_not_allowed(&self.session.not_allowed());
        let frames = self.session.meter.publish(&stats);
        if frames > 0 {
            tracing::debug!(parent: &self.session.span, frames, "frames of lost connections go out again");
        }
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.look_after_connections(now);
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            self.sweep(now);
        }
    }

    /// Begins to look after connections: only those of a session in use need it.
    fn begin_to_look(&mut self) {
        let now = Instant::now();
        self.look_at.get_or_insert(now + Progress::interval(self.config().stall_timeout));
        self.sweep_at.get_or_insert(now + self.config().bulk_idle);
    }

    fn look_after_connections(&mut self, now: Instant) {
        self.retire_stalled();
        self.publish();
        let (under_way, idle) = self.session.is_in_use();
        if idle {
            self.sweep_at.get_or_insert(now + self.config().bulk_idle);
        }
        let more_to_give_up = self.session.change(|transfer| transfer.rest());
        if under_way || more_to_give_up == Some(true) {
            self.look_at = Some(now + Progress::interval(self.config().stall_timeout));
            return;
        }
        self.progress.clear();
        self.session.looked_after.store(false, Ordering::Relaxed);
        // What began in between did not see the flag down.
        let (under_way, idle) = self.session.is_in_use();
        if under_way {
            self.session.looked_after.store(true, Ordering::Relaxed);
            self.begin_to_look();
        } else if idle {
            self.sweep_at.get_or_insert(now + self.config().bulk_idle);
        }
    }

    /// Closes idle connections, and goes on as long as others may become so.
    fn sweep(&mut self, now: Instant) {
        let left = self.session.change(|transfer| transfer.sweep_idle());
        if left == Some(true) || self.look_at.is_some() {
            self.sweep_at = Some(now + self.config().bulk_idle);
        }
        self.publish();
    }

    /// Retires connections on which what was written gets nowhere.
    fn retire_stalled(&mut self) {
        let now = self.session.core.clock.now();
        let stall_timeout = self.config().stall_timeout;
        // A fragment counts only when all of it has been read.
        let patience = |class| match class {
            Class::Express => stall_timeout,
            Class::Bulk => stall_timeout.saturating_mul(BULK_STALL_FACTOR),
        };
        let control_heard = self.connected.then(|| self.session.control_heard.read());
        let (session, progress) = (&self.session, &mut self.progress);
        let mut before = std::mem::take(progress);
        session.with(|state, after| {
            for connection in state.connections.values().cloned().collect::<Vec<_>>() {
                let in_flight =
                    state.transfer.as_ref().and_then(|transfer| transfer.frames_in_flight(connection.id));
                let Some((counted, 1..)) = in_flight else { continue };
                let seen = connection.seen(counted);
                let Some(mut looked_at) = before.remove(&connection.id) else {
                    progress.insert(connection.id, Progress::new(patience(connection.class), now, seen));
                    continue;
                };
                if looked_at.look(now, seen, control_heard) {
                    let (id, class, waited) = (connection.id, connection.class, looked_at.waited());
                    let noted = session.note(OfPeer::PoolStalled);
                    warn_seldom!(
                        noted, parent: &session.span, connection = id, ?class, ?waited,
                        "pool connection stands still; replacing it"
                    );
                    session.meter.connections_stalled.count();
                    state.change(after, |transfer| transfer.retire(connection.id));
                } else {
                    progress.insert(connection.id, looked_at);
                }
            }
        });
        // If the peer is heard and yet counts nothing, it is for the connection's sake.
        if self.progress.values().any(Progress::stands_still) {
            self.session.command(Command::Ask);
        }
    }
}
