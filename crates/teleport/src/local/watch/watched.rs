//! The watched side: who has to be told when a process here ends.

use super::{Purpose, Via, reason};
use crate::base::encoding::encode;
use crate::base::lock::{Lock, Rank};
use crate::io::source::Source;
use crate::local::Monitored;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use teleport_etf::{Atom, Segments};
use teleport_proto::wire::envelope::{Kind, ProcessId, RefId};

/// How many watches peers hold on the processes of this node, all together.
///
/// A session may begin another one if it then holds no more than what is left free: so one that is alone gets half. All sessions
/// of one source may hold three times what they leave free, so they leave a quarter to others. Sessions that never give back
/// halve the rest again and again: against those, each has a share whatever the others hold, beyond the total if need be.
#[derive(Debug)]
pub(crate) struct WatchLimit {
    most: usize,
    share: usize,
    taken: Lock<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: FxHashMap<Source, usize>,
}

/// Each session has one of this many watches as its share: 256 of the default's 262,144.
const SHARES: usize = 1024;

/// All sessions of one source may have this many times what they leave free.
const SOURCE_TO_FREE: usize = 3;

impl WatchLimit {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, share: (most / SHARES).max(1), taken: Lock::leaf(Taken::default()) })
    }

    /// What a session with a peer at `source` takes its watches from.
    pub(crate) fn for_source(self: &Arc<Self>, source: Source) -> SourceLimit {
        SourceLimit { limit: self.clone(), source }
    }
}

/// The limit, for sessions of one source.
#[derive(Debug)]
pub(crate) struct SourceLimit {
    limit: Arc<WatchLimit>,
    source: Source,
}

impl SourceLimit {
    /// One more, for a session that holds `own`.
    fn try_take(&self, own: usize) -> bool {
        let WatchLimit { most, share, taken } = &*self.limit;
        let Taken { all, by_source } = &mut *taken.lock();
        let free = most.saturating_sub(*all);
        let of_source = by_source.get(&self.source).copied().unwrap_or(0);
        // What the session holds counts twice: so those of one source leave each other something, too.
        let source_has_room = of_source + own < free.saturating_mul(SOURCE_TO_FREE);
        let fits = own < *share || (own < free && source_has_room);
        if fits {
            *all += 1;
            by_source.insert(self.source, of_source + 1);
        }
        fits
    }

    fn give_back(&self, count: usize) {
        let Taken { all, by_source } = &mut *self.limit.taken.lock();
        *all = all.saturating_sub(count);
        if let Entry::Occupied(mut of_source) = by_source.entry(self.source) {
            *of_source.get_mut() = of_source.get().saturating_sub(count);
            if *of_source.get() == 0 {
                of_source.remove();
            }
        }
    }
}

/// Why a watch was not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchRefused {
    /// The process has ended.
    NoProcess,
    /// There are too many, or there is one of that reference.
    Limit,
    /// The request is compressed: no mailbox of Rust's can tell who asks, and so nobody would answer.
    Compressed,
    /// The peer may not have that, for what is said there.
    NotAllowed(Purpose, String),
}

impl WatchRefused {
    /// What the watcher is told.
    pub(crate) fn kind(&self, reference: RefId) -> Kind {
        match self {
            Self::NoProcess | Self::Limit | Self::NotAllowed(Purpose::Monitor, _) => Kind::Down(reference),
            Self::Compressed | Self::NotAllowed(Purpose::Call, _) => Kind::Reject(reference),
        }
    }

    /// The reason that the watcher is given; of a rejection, the text.
    pub(crate) fn reason(self) -> Segments {
        match self {
            Self::NoProcess => reason::noproc(),
            Self::Limit => reason::system_limit(),
            Self::Compressed => {
                encode("the request is compressed, which this node does not take").unwrap_or_default()
            }
            Self::NotAllowed(Purpose::Call, why) => encode(&why).unwrap_or_default(),
            Self::NotAllowed(Purpose::Monitor, why) => {
                encode(&(Atom::from_static("rejected"), why)).unwrap_or_default()
            }
        }
    }
}

/// A process here that is watched.
#[derive(Clone)]
pub(crate) enum Subject {
    /// One of the node's own: its inbox has a list of who watches.
    Inbox(Arc<dyn Monitored>),
    /// One of the host's, and the number of the watch: the host tells when it ends.
    Hosted(ProcessId, u64),
}

/// The processes here that one peer, or this node itself, watches; `None` once nobody is left to be told.
///
/// The watcher's node chooses the references, so they are not hashed.
#[derive(Debug)]
pub(crate) struct Watched {
    table: Lock<Option<Table>>,
    /// `None` for this node's own.
    limit: Option<SourceLimit>,
}

type Table = BTreeMap<RefId, (Purpose, Subject)>;

impl Watched {
    /// Those of a peer, or without a limit of this node itself.
    pub(crate) fn new(limit: Option<SourceLimit>) -> Self {
        Self { table: Lock::new(Rank::Watched, Some(BTreeMap::new())), limit }
    }

    /// How many watches there are.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().as_ref().map_or(0, BTreeMap::len)
    }

    fn insert(&self, reference: RefId, purpose: Purpose, subject: Subject) -> Result<(), WatchRefused> {
        let mut table = self.table.lock();
        let table = table.as_mut().ok_or(WatchRefused::Limit)?;
        if table.contains_key(&reference)
            || self.limit.as_ref().is_some_and(|limit| !limit.try_take(table.len()))
        {
            return Err(WatchRefused::Limit);
        }
        table.insert(reference, (purpose, subject));
        Ok(())
    }

    fn has_hosted(&self, reference: RefId, number: u64) -> bool {
        self.table.lock().as_ref().is_some_and(|table| is_hosted(table, reference, number))
    }

    fn remove_hosted(&self, reference: RefId, number: u64) -> bool {
        let mut table = self.table.lock();
        let Some(table) = table.as_mut().filter(|table| is_hosted(table, reference, number)) else {
            return false;
        };
        table.remove(&reference).map(|(_, subject)| self.given_back(subject)).is_some()
    }

    fn remove(&self, reference: RefId) -> Option<Subject> {
        let removed = self.table.lock().as_mut()?.remove(&reference);
        removed.map(|(_, subject)| self.given_back(subject))
    }

    fn given_back(&self, subject: Subject) -> Subject {
        if let Some(limit) = &self.limit {
            limit.give_back(1);
        }
        subject
    }

    /// Takes out what an answer ends: a call, if it is of this table at all. An error if it is a monitor.
    fn remove_call(&self, reference: RefId) -> Result<Option<Subject>, IsMonitor> {
        let mut table = self.table.lock();
        let Some(table) = table.as_mut() else { return Ok(None) };
        match table.get(&reference) {
            Some((Purpose::Monitor, _)) => Err(IsMonitor),
            _ => Ok(table.remove(&reference).map(|(_, subject)| self.given_back(subject))),
        }
    }

    fn close(&self) -> Table {
        let table = self.table.lock().take().unwrap_or_default();
        if let Some(limit) = &self.limit {
            limit.give_back(table.len());
        }
        table
    }
}

fn is_hosted(table: &Table, reference: RefId, number: u64) -> bool {
    matches!(table.get(&reference), Some((_, Subject::Hosted(_, other))) if *other == number)
}

/// No answer ends it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IsMonitor;

/// Who watches one process; `None` once it has ended.
#[derive(Debug)]
pub(crate) struct Watchers(Lock<Option<BTreeMap<(u64, RefId), Watcher>>>);

struct Watcher {
    via: Via,
    process: ProcessId,
}

impl Default for Watchers {
    fn default() -> Self {
        Self(Lock::new(Rank::Watched, Some(BTreeMap::new())))
    }
}

impl Via {
    /// A process there watches one here.
    pub(crate) fn begin(
        &self,
        purpose: Purpose,
        reference: RefId,
        process: ProcessId,
        subject: Subject,
    ) -> Result<(), WatchRefused> {
        self.watched().insert(reference, purpose, subject.clone())?;
        let Subject::Inbox(inbox) = subject else { return Ok(()) };
        let begun = inbox.watchers().0.lock().as_mut().map(|watchers| {
            watchers.insert((self.number(), reference), Watcher { via: self.clone(), process });
        });
        if begun.is_none() {
            self.watched().remove(reference);
            return Err(WatchRefused::NoProcess);
        }
        Ok(())
    }

    /// A process there watches no longer. Returns what it watched, if it did.
    pub(crate) fn end(&self, reference: RefId) -> Option<Subject> {
        let ended = self.watched().remove(reference);
        ended.inspect(|subject| self.forget(reference, subject))
    }

    /// Whether a process there waits for the watch of that number. Its reference may be that of another one by now.
    pub(crate) fn has_hosted(&self, reference: RefId, number: u64) -> bool {
        self.watched().has_hosted(reference, number)
    }

    /// Ends the watch of that number. `false` if it has ended before.
    pub(crate) fn end_hosted(&self, reference: RefId, number: u64) -> bool {
        self.watched().remove_hosted(reference, number)
    }

    /// A process there is answered. An error if that would not be an answer: the maker of a request can have written the
    /// reference of somebody's monitor into it, which must neither end nor be told anything for that.
    pub(crate) fn end_call(&self, reference: RefId) -> Result<(), IsMonitor> {
        let ended = self.watched().remove_call(reference)?;
        ended.inspect(|subject| self.forget(reference, subject));
        Ok(())
    }

    /// Removes the watches of a peer that cannot be told any more. Returns what was watched.
    pub(crate) fn end_all(&self) -> impl Iterator<Item = Subject> {
        let left = self.watched().close();
        left.iter().for_each(|(reference, (_, subject))| self.forget(*reference, subject));
        left.into_values().map(|(_, subject)| subject)
    }

    fn forget(&self, reference: RefId, subject: &Subject) {
        let Subject::Inbox(inbox) = subject else { return };
        let key = (self.number(), reference);
        let gone = inbox.watchers().0.lock().as_mut().and_then(|watchers| watchers.remove(&key));
        drop(gone); // after the lock: it may be the last of its session
    }
}

impl Watchers {
    /// The process has ended: tells everybody who watches it, behind what it has sent.
    pub(crate) fn tell(&self, ended: ProcessId, reason: &Segments) {
        let watchers = self.0.lock().take().unwrap_or_default();
        for ((_, reference), Watcher { via, process }) in watchers {
            // The thread that takes it out of the table is the one to answer.
            if via.watched().remove(reference).is_some() {
                via.down(ended, process, Kind::Down(reference), reason.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;
    use crate::local::inbox::Inbox;
    use std::net::{IpAddr, Ipv4Addr};
    use teleport_etf::Term;

    fn reference(number: u32) -> RefId {
        RefId::new(&[number]).unwrap()
    }

    fn inbox() -> Subject {
        Subject::Inbox(Inbox::new(ProcessId { id: 1, serial: 0 }, None, 1024, 4096))
    }

    /// Those of a session with a peer at that address.
    fn of(limit: &Arc<WatchLimit>, address: u8) -> Watched {
        let source = Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, address)));
        Watched::new(Some(limit.for_source(source)))
    }

    /// Begins watches until one is refused. Returns how many were begun.
    fn fill(watched: &Watched) -> usize {
        let inbox = inbox();
        let begin = |number| watched.insert(reference(number), Purpose::Monitor, inbox.clone());
        (1..).take_while(|&number| begin(number).is_ok()).count()
    }

    fn is_same(subject: Option<Subject>, other: &Subject) -> bool {
        matches!((subject, other), (Some(Subject::Inbox(a)), Subject::Inbox(b)) if Arc::ptr_eq(&a, b))
    }

    #[test]
    fn there_are_so_many_watches_and_no_more_and_one_peer_leaves_some_to_the_others() {
        let limit = WatchLimit::new(8);
        let (first, second) = (of(&limit, 1), of(&limit, 1));
        let inbox = inbox();
        let begin =
            |watched: &Watched, number| watched.insert(reference(number), Purpose::Monitor, inbox.clone());
        (1..=4).for_each(|number| begin(&first, number).unwrap());
        assert_eq!(begin(&first, 5), Err(WatchRefused::Limit));
        (1..=2).for_each(|number| begin(&second, number).unwrap());
        assert_eq!((begin(&second, 3), first.len(), second.len()), (Err(WatchRefused::Limit), 4, 2));
        // What ends makes room for its owner.
        assert!(first.remove(reference(2)).is_some());
        begin(&second, 3).unwrap();
        assert_eq!((first.close().len(), second.close().len()), (3, 3));
        let taken = limit.taken.lock();
        assert!(taken.all == 0 && taken.by_source.is_empty());
        assert_eq!(
            Term::decode(&WatchRefused::Limit.reason().into_contiguous()).unwrap(),
            Term::atom("system_limit")
        );
    }

    #[test]
    fn sessions_that_fill_up_leave_a_newcomer_its_share() {
        for addresses in [1, 40] {
            let limit = WatchLimit::new(SHARES * 10);
            let members: Vec<_> = (0..40).map(|member| of(&limit, member % addresses)).collect();
            let held: Vec<_> = members.iter().map(fill).collect();
            assert!(held.iter().all(|&held| held >= 10), "{held:?}");
            assert_eq!(fill(&of(&limit, 0)), 10);
            assert!(held.iter().sum::<usize>() <= SHARES * 10 + 40 * 10, "{held:?}");
            assert_eq!(members.iter().map(|member| member.close().len()).collect::<Vec<_>>(), held);
        }
    }

    #[test]
    fn however_many_sessions_one_address_has_it_leaves_a_quarter_of_the_watches_to_others() {
        let limit = WatchLimit::new(SHARES * 10);
        let hostile: Vec<_> = (0..40).map(|_| of(&limit, 1)).collect();
        let held: usize = hostile.iter().map(fill).sum();
        // Each has its share besides.
        assert!(held <= SHARES * 10 / 4 * 3 + 40 * 10, "{held}");
        let honest = of(&limit, 2);
        assert!(fill(&honest) >= SHARES * 10 / 10, "{} are left", honest.len());
    }

    #[test]
    fn a_reference_that_is_taken_is_refused_and_the_first_watch_stays() {
        let (watched, first, second) = (Watched::new(None), inbox(), inbox());
        watched.insert(reference(1), Purpose::Monitor, first.clone()).unwrap();
        assert_eq!(watched.insert(reference(1), Purpose::Monitor, second.clone()), Err(WatchRefused::Limit));
        assert!(is_same(watched.remove(reference(1)), &first));
        assert!(watched.remove(reference(1)).is_none(), "it can be taken out once");
    }

    #[test]
    fn a_watch_of_the_host_is_known_by_its_number_though_its_reference_is_used_again() {
        let watched = Watched::new(None);
        let begin = |number| {
            let subject = Subject::Hosted(ProcessId { id: 1, serial: 0 }, number);
            watched.insert(reference(1), Purpose::Monitor, subject).unwrap();
        };
        begin(1);
        assert!(watched.remove(reference(1)).is_some()); // taken back by the peer
        begin(2);
        assert_eq!([1, 2].map(|number| watched.has_hosted(reference(1), number)), [false, true]);
        assert!(!watched.remove_hosted(reference(1), 1), "it is not the first one's to end");
        assert!(watched.remove_hosted(reference(1), 2));
        assert_eq!(watched.len(), 0);
    }

    #[test]
    fn when_nobody_can_be_told_any_more_nothing_is_watched() {
        let (watched, inbox) = (Watched::new(None), inbox());
        watched.insert(reference(1), Purpose::Monitor, inbox.clone()).unwrap();
        assert_eq!(watched.close().len(), 1);
        assert_eq!(watched.insert(reference(2), Purpose::Monitor, inbox.clone()), Err(WatchRefused::Limit));
        assert_eq!((watched.len(), watched.close().len()), (0, 0));
    }
}
