//! The session's own task: acknowledgements out and in, and what has to be looked at from time to time.

use super::{Event, Session};
use crate::engine::control::Command;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use teleport_proto::ConnectionId;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Urgency;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a connection's progress is measured by: bytes the kernel took, and frames the peer confirmed.
type Progress = (u64, u64);

struct Task {
    session: Arc<Session>,
    flush_delay: Duration,
    stall_timeout: Duration,
    bulk_idle: Duration,
    /// There is a control connection, and it has written what it was given.
    writable: bool,
    connected: bool,
    flush_at: Option<Instant>,
    /// While anything is under way or there are bulk connections: when to look after them.
    look_at: Option<Instant>,
    /// What each connection with frames under way had achieved at the last look.
    progress: FxHashMap<ConnectionId, Progress>,
    last_sweep: Instant,
}

pub(super) async fn run(session: Arc<Session>, mut events: mpsc::UnboundedReceiver<Event>) {
    let Some(engine) = session.engine.upgrade() else { return };
    let mut task = Task {
        flush_delay: engine.config.flush_delay,
        stall_timeout: engine.config.stall_timeout,
        bulk_idle: engine.config.bulk_idle,
        session: session.clone(),
        writable: false,
        connected: false,
        flush_at: None,
        look_at: None,
        progress: FxHashMap::default(),
        last_sweep: Instant::now(),
    };
    drop(engine);
    loop {
        let timer = [task.flush_at, task.look_at].into_iter().flatten().min();
        tokio::select! {
            event = events.recv() => match event {
                None | Some(Event::End) => return,
                Some(event) => task.on_event(event),
            },
            () = session.now.notified() => task.flush(),
            () = session.soon.notified() => task.flush_soon(),
            () = session.in_use.notified() => task.begin_to_look(),
            () = session.budget_freed.notified() => {
                session.run(&mut session.lock(), |transfer| transfer.budget_freed());
            }
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => task.on_timer(),
        }
    }
}

impl Task {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::ControlUp => {
                (self.connected, self.writable) = (true, true);
                self.session.run(&mut self.session.lock(), |transfer| transfer.control_up());
                self.flush();
            }
            Event::ControlDown => self.connected = false,
            Event::ControlWritten => {
                self.writable = true;
                let due = self.session.lock().transfer.as_ref().and_then(|transfer| transfer.control_due());
                match due {
                    Some(Urgency::Now) => self.flush(),
                    Some(Urgency::Soon) => self.flush_soon(),
                    None => {}
                }
            }
            Event::Control { frames, bytes } => {
                let mut spent = Vec::new();
                let result = self.session.run(&mut self.session.lock(), |transfer| {
                    frames.into_iter().try_for_each(|frame| {
                        let taken = transfer.control(frame);
                        spent.append(&mut transfer.take_spent());
                        taken
                    })
                });
                drop(spent); // with the lock released
                if let Some(Err(violation)) = result {
                    self.session.receive_failed(violation.into());
                }
                self.session.drained.notify_waiters();
                self.session.handled(bytes);
                self.publish();
            }
            Event::Goodbye => {
                if let Some(engine) = self.session.engine.upgrade() {
                    engine.events.end(self.session.id, EndReason::PeerShutDown);
                }
            }
            Event::End => {}
        }
    }

    fn flush_soon(&mut self) {
        if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + self.flush_delay);
        }
    }

    /// Hands the control connection what there is to say, unless it is still busy with the last.
    fn flush(&mut self) {
        self.flush_at = None;
        self.publish();
        if !self.connected || !self.writable {
            return; // the control connection's next event brings us back
        }
        if let Some(frames) = self.session.take_control() {
            self.writable = false;
            self.session.command(Command::Write(frames));
        }
    }

    /// Brings the metrics up to date; called when the task is awake anyway.
    fn publish(&self) {
        self.session.show_planned.store(false, Ordering::Release);
        let Some(stats) = self.session.lock().transfer.as_ref().map(|transfer| transfer.stats()) else {
            return;
        };
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
    }

    /// Begins to look after connections: only those of a session in use need it.
    fn begin_to_look(&mut self) {
        self.last_sweep = Instant::now();
        self.look_at = Some(self.last_sweep + self.stall_timeout.min(self.bulk_idle));
    }

    fn look_after_connections(&mut self, now: Instant) {
        self.retire_stalled();
        self.publish();
        if now - self.last_sweep >= self.bulk_idle {
            self.last_sweep = now;
            self.session.run(&mut self.session.lock(), |transfer| transfer.sweep_idle());
        }
        if self.session.is_in_use() {
            self.look_at = Some(now + self.stall_timeout.min(self.bulk_idle));
            return;
        }
        self.session.looked_after.store(false, Ordering::Relaxed);
        // What began in between did not see the flag down.
        if self.session.is_in_use() {
            self.session.looked_after.store(true, Ordering::Relaxed);
            self.begin_to_look();
        }
    }

    /// Retires connections that have bytes under way and made no progress since the last look.
    fn retire_stalled(&mut self) {
        let mut inner = self.session.lock();
        let links: Vec<_> = inner.links.values().cloned().collect();
        let before = std::mem::take(&mut self.progress);
        for link in links {
            let in_flight = inner.transfer.as_ref().and_then(|transfer| transfer.frames_in_flight(link.id));
            let Some((acknowledged, 1..)) = in_flight else { continue };
            let progress = (link.written(), acknowledged);
            // Without control nothing is acknowledged: that is no fault of the connection.
            if self.connected && before.get(&link.id) == Some(&progress) {
                tracing::warn!(parent: &self.session.span, connection = link.id, "pool connection stands still; replacing it");
                self.session.run(&mut inner, |transfer| transfer.retire(link.id));
            } else {
                self.progress.insert(link.id, progress);
            }
        }
    }
}
