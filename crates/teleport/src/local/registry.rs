//! Which mailbox belongs to which name and process.

use crate::RegisterError;
use crate::base::lock::SharedLock;
use crate::local::inbox::Inbox;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use teleport_proto::wire::envelope::{Destination, MAX_NAME_LEN, ProcessId};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    tables: SharedLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    names: FxHashMap<Arc<str>, Arc<Inbox>>,
    processes: FxHashMap<ProcessId, Arc<Inbox>>,
    last: LastProcess,
    closed: bool,
}

/// The last process id given out. The first is 1: 0 is [`ProcessId::NOBODY`]'s.
#[derive(Debug, Default)]
struct LastProcess {
    id: u32,
    serial: u32,
}

/// Ids use 28 bits, as the oldest nodes that still speak the format expect.
const MAX_ID: u32 = (1 << 28) - 1;

impl Registry {
    /// A new process, with or without a name; `make` builds its inbox.
    pub(crate) fn add(
        &self,
        name: Option<&str>,
        make: impl FnOnce(ProcessId, Option<Arc<str>>) -> Arc<Inbox>,
    ) -> Result<Arc<Inbox>, RegisterError> {
        let mut tables = self.tables.write();
        if tables.closed {
            return Err(RegisterError::NotRunning);
        }
        if let Some(name) = name {
            if name.is_empty() || name.len() > MAX_NAME_LEN {
                return Err(RegisterError::Length(name.to_owned()));
            }
            if tables.names.contains_key(name) {
                return Err(RegisterError::Taken(name.to_owned()));
            }
        }
        let process = tables.last.next();
        let name: Option<Arc<str>> = name.map(Into::into);
        let inbox = make(process, name.clone());
        tables.processes.insert(process, inbox.clone());
        if let Some(name) = name {
            tables.names.insert(name, inbox.clone());
        }
        Ok(inbox)
    }

    pub(crate) fn remove(&self, process: ProcessId, name: Option<&str>) {
        let mut tables = self.tables.write();
        tables.processes.remove(&process);
        if let Some(name) = name {
            tables.names.remove(name);
        }
    }

    pub(crate) fn find(&self, to: &Destination) -> Option<Arc<Inbox>> {
        let tables = self.tables.read();
        match to {
            Destination::Name(name) => tables.names.get(name),
            Destination::Process(process) => tables.processes.get(process),
        }
        .cloned()
    }

    /// No more processes; those that are left see their mailboxes end.
    pub(crate) fn close(&self) {
        self.tables.write().closed = true;
        self.all().iter().for_each(|inbox| inbox.finish());
    }

    /// The mailboxes that there are.
    pub(crate) fn all(&self) -> Vec<Arc<Inbox>> {
        self.tables.read().processes.values().cloned().collect()
    }
}

impl LastProcess {
    fn next(&mut self) -> ProcessId {
        if self.id == MAX_ID {
            (self.id, self.serial) = (0, self.serial.wrapping_add(1));
        }
        self.id += 1;
        ProcessId { id: self.id, serial: self.serial }
    }
}
