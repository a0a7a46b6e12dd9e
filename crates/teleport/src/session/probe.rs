//! Asks over every connection of a session, and waits for the answers: whether they pass anything on.

use super::{Command, Session};
use crate::base::info::{ConnectionCheck, ConnectionKind};
use std::time::{Duration, Instant};
use teleport_proto::wire::pool::Class;

/// How often to look for answers. The peer says within its `flush_delay` what it has received.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Session {
    /// Sends something over each connection, and waits for the answers, at most so long.
    pub(crate) async fn probe(&self, limit: Duration) -> Vec<ConnectionCheck> {
        let begin = Instant::now();
        let ticks_before = self.ticks.lock().0.answered;
        self.command(Command::Ask);
        let probed = self.change(|transfer| transfer.probe()).unwrap_or_default();
        let kind = |class| match class {
            Class::Express => ConnectionKind::Express,
            Class::Bulk => ConnectionKind::Bulk,
        };
        let mut control = ConnectionCheck { kind: ConnectionKind::Control, answered: None };
        let mut pool: Vec<_> = probed
            .into_iter()
            .map(|(id, class)| (Some(id), ConnectionCheck { kind: kind(class), answered: None }))
            .collect();
        loop {
            let elapsed = begin.elapsed();
            if control.answered.is_none() && self.ticks.lock().0.answered > ticks_before {
                control.answered = Some(elapsed);
            }
            {
                let state = self.lock();
                for (waiting, check) in &mut pool {
                    let Some(id) = *waiting else { continue };
                    match state.transfer.as_ref().and_then(|transfer| transfer.answered(id)) {
                        Some(false) => {}
                        Some(true) => (*waiting, check.answered) = (None, Some(elapsed)),
                        None => *waiting = None, // it has been given up
                    }
                }
            }
            let waits = control.answered.is_none() || pool.iter().any(|(waiting, _)| waiting.is_some());
            if !waits || elapsed >= limit || self.ended().is_some() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        std::iter::once(control).chain(pool.into_iter().map(|(_, check)| check)).collect()
    }
}
