//! What the processes of a node have called, and wait for.

use super::Broken;
use super::ledger::Id;
use std::collections::{BTreeMap, HashMap};
use teleport_proto::watches::{Purpose, Waiting};
use teleport_proto::wire::envelope::RefId;

/// What a node's processes have called and wait for.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u32,
    /// By the messages with which they began.
    pub(super) waiting: Waiting<Id>,
    /// What has begun and not ended, as far as anybody was told, and over which session.
    pub(super) open: BTreeMap<Id, usize>,
}

/// Which call an answer belongs to, for the answers that nodes have accepted.
pub(super) type Answers = HashMap<Id, Id>;

impl Calls {
    #[cfg(feature = "planted-faults")]
    pub(super) fn plant(&mut self, faults: teleport_proto::Faults) {
        self.waiting.plant(faults);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.open.is_empty()
    }

    /// Somebody waits for the answer to a request that is about to be offered. References begin anew with every life.
    pub(super) fn begin(&mut self, session: usize, request: Id) -> Option<RefId> {
        self.last += 1;
        let reference = RefId::new(&[self.last])?;
        self.waiting.insert(reference, number(session), Purpose::Call, request);
        self.open.insert(request, session);
        Some(reference)
    }

    /// Nobody waits for it any more. `false` if it had ended.
    pub(super) fn give_up(&mut self, reference: RefId) -> Result<bool, Broken> {
        let Some(request) = self.waiting.remove(reference) else { return Ok(false) };
        self.ended(request).map(|()| true)
    }

    pub(super) fn ended(&mut self, request: Id) -> Result<(), Broken> {
        let ended = self.open.remove(&request).map(drop);
        ended.ok_or_else(|| Broken::new(format!("call {request} has ended twice")))
    }
}

/// As which the table knows a session.
pub(super) fn number(session: usize) -> u64 {
    session as u64 + 1
}
