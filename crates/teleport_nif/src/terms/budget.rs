//! How many atoms peers may add to the table of atoms, which never shrinks: a limit for each, and one for all together.

use crate::lock::Lock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport::NodeName;

/// The most peers with an account of their own. It is kept for the node's life: a peer that comes again finds it as it was.
const MOST_ACCOUNTS: usize = 1024;

/// The accounts of all peers.
#[derive(Debug)]
pub(crate) struct Budget {
    /// For each account.
    limit: u64,
    limit_together: u64,
    together: Account,
    peers: Lock<HashMap<NodeName, Arc<Account>>>,
    /// Of the peers without one of their own: peers choose their names.
    shared: Arc<Account>,
}

/// What a peer has used.
#[derive(Debug, Default)]
struct Account {
    atoms: AtomicU64,
    refused: AtomicU64,
}

/// What has been used, for all to see.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    /// Atoms that are new.
    pub(crate) atoms: u64,
    /// Messages that had more of them than were left.
    pub(crate) refused: u64,
}

/// What one message uses. Unless it is kept, that is given back.
pub(crate) struct Spending<'b> {
    budget: &'b Budget,
    account: Arc<Account>,
    atoms: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64, limit_together: u64) -> Self {
        let (together, peers, shared) = Default::default();
        Self { limit, limit_together, together, peers, shared }
    }

    /// By all peers.
    pub(crate) fn used(&self) -> Used {
        self.together.used()
    }

    /// By one peer, or by all that share an account with it.
    pub(crate) fn used_by(&self, peer: &NodeName) -> Used {
        let peers = self.peers.lock();
        match peers.get(peer) {
            Some(account) => account.used(),
            None if peers.len() < MOST_ACCOUNTS => Used::default(),
            None => self.shared.used(),
        }
    }

    /// A message of that peer has new atoms.
    pub(crate) fn spending(&self, peer: &NodeName) -> Spending<'_> {
        Spending { budget: self, account: self.account(peer), atoms: 0 }
    }

    fn account(&self, peer: &NodeName) -> Arc<Account> {
        let mut peers = self.peers.lock();
        if peers.len() >= MOST_ACCOUNTS {
            return peers.get(peer).unwrap_or(&self.shared).clone();
        }
        peers.entry(peer.clone()).or_default().clone()
    }
}

impl Account {
    fn used(&self) -> Used {
        Used { atoms: self.atoms.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }

    fn take(&self, limit: u64) -> bool {
        let more = |atoms| (atoms < limit).then_some(atoms + 1);
        self.atoms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// What was taken before.
    fn give_back(&self, atoms: u64) {
        self.atoms.fetch_sub(atoms, Ordering::Relaxed);
    }
}

impl Spending<'_> {
    /// One more atom; `false` if none is left, and then the message is refused.
    pub(crate) fn take(&mut self) -> bool {
        let Budget { limit, limit_together, together, .. } = self.budget;
        if !self.account.take(*limit) {
            return self.refuse();
        }
        if !together.take(*limit_together) {
            self.account.give_back(1);
            return self.refuse();
        }
        self.atoms += 1;
        true
    }

    /// The atoms are made.
    pub(crate) fn keep(mut self) {
        self.atoms = 0;
    }

    fn refuse(&self) -> bool {
        for account in [&self.budget.together, &*self.account] {
            account.refused.fetch_add(1, Ordering::Relaxed);
        }
        false
    }
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        for account in [&self.budget.together, &*self.account] {
            account.give_back(self.atoms);
        }
    }
}
