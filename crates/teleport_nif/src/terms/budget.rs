//! How many atoms peers may add to the table of atoms, which never shrinks: a limit for each, one for all at an address, and one for all
//! together.

use crate::lock::Lock;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use teleport::NodeName;

/// The most peers, and the most addresses, with an account of their own. It is kept for the node's life: a peer that comes again finds
/// it as it was. Those without one share one that only what all have limits: where nodes get new names all the time, they are soon the
/// most.
const MOST_ACCOUNTS: usize = 1024;

/// All at one address leave this part of what all together may add to others: peers choose their names.
const LEFT_TO_OTHERS: u64 = 4;

/// Goes with what is said of them.
const ADVICE: &str = "see max_new_atoms, max_new_atoms_per_peer and teleport:info/0";

/// The accounts of all peers.
#[derive(Debug)]
pub(crate) struct Budget {
    /// For each peer.
    limit: u64,
    limit_together: u64,
    together: Account,
    /// It has been said that half is used.
    warned: AtomicBool,
    peers: Accounts<NodeName>,
    places: Accounts<IpAddr>,
}

/// An account for each.
#[derive(Debug)]
struct Accounts<K> {
    each: Lock<HashMap<K, Arc<Account>>>,
    /// Of those without one of their own.
    shared: Arc<Account>,
}

/// What a peer has used.
#[derive(Debug, Default)]
struct Account {
    atoms: AtomicU64,
    refused: AtomicU64,
    /// It has been said that something was refused.
    warned: AtomicBool,
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
    name: &'b NodeName,
    peer: Arc<Account>,
    limit_of_peer: u64,
    place: Arc<Account>,
    atoms: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64, limit_together: u64) -> Self {
        let (together, warned, peers, places) = Default::default();
        Self { limit, limit_together, together, warned, peers, places }
    }

    /// By all peers.
    pub(crate) fn used(&self) -> Used {
        self.together.used()
    }

    /// By one peer, or by all that share an account with it.
    pub(crate) fn used_by(&self, peer: &NodeName) -> Used {
        self.peers.used_by(peer)
    }

    /// A message of that peer, at that address, has new atoms.
    pub(crate) fn spending<'b>(&'b self, name: &'b NodeName, place: IpAddr) -> Spending<'b> {
        let (peer, place) = (self.peers.of(name), self.places.of(&place));
        let is_shared = Arc::ptr_eq(&peer, &self.peers.shared);
        let limit_of_peer = if is_shared { self.limit_together } else { self.limit };
        Spending { budget: self, name, peer, limit_of_peer, place, atoms: 0 }
    }

    /// Says once that half is used: it does not get better by itself.
    fn warn(&self) {
        let (used, most) = (self.used().atoms, self.limit_together);
        if used >= most / 2 && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                used,
                most,
                "peers have added half of the atoms that they may, which stay; {ADVICE}"
            );
        }
    }

    fn limit_of_place(&self) -> u64 {
        self.limit_together - self.limit_together / LEFT_TO_OTHERS
    }
}

impl<K> Default for Accounts<K> {
    fn default() -> Self {
        let (each, shared) = Default::default();
        Self { each, shared }
    }
}

impl<K: Eq + Hash + Clone> Accounts<K> {
    fn of(&self, key: &K) -> Arc<Account> {
        let mut each = self.each.lock();
        if each.len() >= MOST_ACCOUNTS {
            return each.get(key).unwrap_or(&self.shared).clone();
        }
        each.entry(key.clone()).or_default().clone()
    }

    fn used_by(&self, key: &K) -> Used {
        let each = self.each.lock();
        match each.get(key) {
            Some(account) => account.used(),
            None if each.len() < MOST_ACCOUNTS => Used::default(),
            None => self.shared.used(),
        }
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
    /// The accounts that it takes from, whose they are, and what they may have.
    fn limits(&self) -> [(&'static str, &Account, u64); 3] {
        [
            ("this peer", &self.peer, self.limit_of_peer),
            ("all peers at its address", &self.place, self.budget.limit_of_place()),
            ("all peers", &self.budget.together, self.budget.limit_together),
        ]
    }

    /// How many more there may be.
    pub(crate) fn left(&self) -> u64 {
        let left = self.limits().map(|(_, account, most)| most.saturating_sub(account.used().atoms));
        left.into_iter().min().unwrap_or(0)
    }

    /// As many atoms; `false` if they are not left, and then the message is refused.
    pub(crate) fn take(&mut self, atoms: u64) -> bool {
        let before = self.atoms;
        let are_left = (0..atoms).all(|_| self.take_one());
        if !are_left {
            self.give_back(self.atoms - before);
            self.refuse(atoms);
        }
        are_left
    }

    /// One, where no message is refused if none is left.
    pub(crate) fn take_one(&mut self) -> bool {
        let limits = self.limits();
        for (taken, (_, account, limit)) in limits.into_iter().enumerate() {
            if !account.take(limit) {
                limits[..taken].iter().for_each(|(_, account, _)| account.give_back(1));
                return false;
            }
        }
        self.atoms += 1;
        true
    }

    /// The atoms are made.
    pub(crate) fn keep(mut self) {
        self.atoms = 0;
        self.budget.warn();
    }

    /// A message with this many new atoms has more than are left. That is said once of each peer.
    pub(crate) fn refuse(&self, new: u64) {
        for account in [&self.budget.together, &*self.peer] {
            account.refused.fetch_add(1, Ordering::Relaxed);
        }
        if !self.peer.warned.swap(true, Ordering::Relaxed) {
            let left = |(_, account, most): &(_, &Account, u64)| most.saturating_sub(account.used().atoms);
            if let Some((whose, account, most)) = self.limits().into_iter().min_by_key(left) {
                let (peer, used) = (self.name, account.used().atoms);
                tracing::warn!(%peer, new, used, most, "a message has more new atoms than are left of those of {whose}; {ADVICE}");
            }
        }
    }

    fn give_back(&mut self, atoms: u64) {
        self.limits().iter().for_each(|(_, account, _)| account.give_back(atoms));
        self.atoms -= atoms;
    }
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        self.give_back(self.atoms);
    }
}
