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

    /// More than this many are within nobody's.
    pub(crate) fn most(&self) -> u64 {
        self.limit_together
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
    /// One more atom; `false` if none is left, and then the message is refused.
    pub(crate) fn take(&mut self) -> bool {
        let is_left = self.take_one();
        if !is_left {
            self.refuse();
        }
        is_left
    }

    /// As [`take`](Self::take), where no message is refused if none is left.
    pub(crate) fn take_one(&mut self) -> bool {
        let Self { budget, peer, place, .. } = &*self;
        let limits = [
            (&**peer, self.limit_of_peer),
            (&**place, budget.limit_of_place()),
            (&budget.together, budget.limit_together),
        ];
        for (taken, (account, limit)) in limits.into_iter().enumerate() {
            if !account.take(limit) {
                limits[..taken].iter().for_each(|(account, _)| account.give_back(1));
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

    /// It is said once of each account, and of whom.
    fn refuse(&self) {
        let Self { budget, name: peer, .. } = self;
        for account in [&budget.together, &*self.peer] {
            account.refused.fetch_add(1, Ordering::Relaxed);
        }
        if !self.peer.warned.swap(true, Ordering::Relaxed) {
            let limits = [
                ("this peer has", &*self.peer, self.limit_of_peer),
                ("all peers at its address have", &*self.place, budget.limit_of_place()),
                ("all peers have", &budget.together, budget.limit_together),
            ];
            for (who, account, most) in limits {
                let used = account.used().atoms;
                if used >= most {
                    tracing::warn!(%peer, used, most, "a message is refused: {who} added all atoms that may be added; {ADVICE}");
                }
            }
        }
    }
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        for account in [&self.budget.together, &*self.place, &*self.peer] {
            account.give_back(self.atoms);
        }
    }
}
