//! Admission: which message is accepted when.
//!
//! A message passes the window of its destination mailbox, then the peer's window and the node's budget, and is
//! accepted; or it waits in a line for one of them. Credit is taken for whole messages, first come first served per
//! class, so that a small message never waits behind a large one, unless that is of its own pair.

use super::barrier::Barriers;
use super::line::{For, Line, QUEUES, Waiter};
use super::window::{Budget, Totals, Unlimited, Window, class_of, cost};
use super::{Outgoing, Ticket, Wish};
use crate::wire::envelope::{AccountId, Destination};
use crate::wire::pool::Class;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A message that may go now.
pub(crate) struct Admitted {
    pub(crate) message: Outgoing,
    pub(crate) account: AccountId,
    /// Set if its sender has been waiting.
    pub(crate) ticket: Option<Ticket>,
}

/// What becomes of an offered message.
pub(crate) enum Offer {
    /// It is admitted, and belongs to that account.
    Admitted(AccountId),
    /// It has to [wait](Admission::wait).
    Wait(Place),
    /// It would have had to wait, and must not.
    Busy,
}

/// Where a message has to wait.
pub(crate) struct Place {
    account: AccountId,
    waits_for: For,
}

pub(crate) struct Admission {
    peer: Window,
    budget: Arc<dyn Budget>,
    /// Size of each destination's window; `None` if the peer's mailboxes are unbounded.
    mailbox_window: Option<u64>,
    ids: FxHashMap<Destination, AccountId>,
    accounts: FxHashMap<AccountId, Account>,
    last_account: AccountId,
    /// The account of the message before: the next one often goes the same way.
    recent: AccountId,
    waiting: FxHashMap<Ticket, Waiter>,
    /// What waited when the session was sealed: nothing but memory any more.
    given_up: FxHashMap<Ticket, Waiter>,
    last_ticket: Ticket,
    barriers: Barriers,
    /// Those that wait for the peer's window or the node's budget.
    line: Line,
    /// Mailboxes with a line because they hold much of the peer's window.
    crowded: BTreeSet<AccountId>,
    /// Bytes of small messages that may be under way, as far as the peer has granted that.
    reach: u64,
    /// What that would have to be for one of the crowded ones.
    wanted: u64,
    closed: FxHashSet<AccountId>,
}

/// The credit of one destination mailbox.
struct Account {
    to: Destination,
    window: Window,
    /// Bytes that hold room here and have not been delivered.
    under_way: Totals,
    /// The peer has seen it, or will.
    opened: bool,
    /// Bytes admitted since it was opened.
    admitted: Totals,
    /// Those of them that the peer has reported as consumed.
    consumed: Totals,
    /// Those that wait for this mailbox.
    line: Line,
}

/// Whether a mailbox may have another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    /// Its window is full.
    Full,
    /// It would hold so much of the peer's window that too little is left for others.
    Crowded,
}

/// What a mailbox's part of the peer's window is measured by, for small messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// What the peer lets be under way at present. There is more as soon as it hears that it is wanted.
    Granted,
    /// The window: for what is not to wait until then.
    Window,
}

/// What is left of the peer's window for a class, in bytes.
#[derive(Debug, Clone, Copy)]
struct Left {
    free: u64,
    used: u64,
    /// As far as the peer has granted it.
    granted: u64,
}

/// Of the peer's window a mailbox leaves as much free as it holds, for small messages, and for large ones an eighth of that:
/// ones of a third of a window have to be able to follow one another closely.
const LARGE_TO_FREE: u64 = 8;

impl Account {
    /// A peer may be slow to deliver what is for one mailbox, since that is full of what others have sent to it. The rest of
    /// the peer's window is for the others. If only a grant is missing, `wanted` becomes what would be of use.
    fn room(&self, left: Left, class: Class, bytes: u64, wanted: &mut u64) -> Room {
        let held = self.under_way.of(class);
        let free = left.free.min(left.granted).saturating_sub(bytes);
        let most = match class {
            Class::Express => free,
            Class::Bulk => free.saturating_mul(LARGE_TO_FREE),
        };
        if !self.window.fits(class, bytes) {
            return Room::Full;
        }
        if held == 0 || held.saturating_add(bytes) <= most {
            return Room::Free;
        }
        if left.granted < left.free {
            *wanted = (*wanted).max((left.used + held + 2 * bytes).min(left.used + left.free));
        }
        Room::Crowded
    }

    fn take(&mut self, class: Class, bytes: u64) {
        self.window.take(class, bytes);
        self.under_way.add(class, bytes);
    }

    fn no_longer_under_way(&mut self, class: Class, bytes: u64) {
        let under_way = self.under_way.of_mut(class);
        *under_way = under_way.saturating_sub(bytes);
    }
}

impl Admission {
    pub(crate) fn new(peer_window: u64, mailbox_window: Option<u64>, budget: Arc<dyn Budget>) -> Self {
        Self {
            peer: Window::new(peer_window),
            budget,
            mailbox_window,
            ids: FxHashMap::default(),
            accounts: FxHashMap::default(),
            last_account: 0,
            recent: 0,
            waiting: FxHashMap::default(),
            given_up: FxHashMap::default(),
            last_ticket: 0,
            barriers: Barriers::default(),
            line: Line::default(),
            crowded: BTreeSet::new(),
            reach: u64::MAX,
            wanted: 0,
            closed: FxHashSet::default(),
        }
    }

    /// The peer lets so many bytes of small messages be under way.
    pub(crate) fn set_reach(&mut self, reach: u64) {
        self.reach = reach;
    }

    /// What would be of use to mailboxes that are crowded though there is room in the window.
    pub(crate) fn take_wanted(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.wanted)).filter(|wanted| *wanted > self.reach)
    }

    /// Offers a message. A mailbox may hold as much of the window as is said at [`Account::room`], or of what is granted of it: `measure`.
    pub(crate) fn offer(&mut self, message: Wish<'_>, measure: Measure) -> Offer {
        if self.barriers.holds_back(message) {
            return match message.nosuspend {
                true => Offer::Busy,
                false => Offer::Wait(Place { account: 0, waits_for: For::Others }),
            };
        }
        let id = self.account_of(message.to);
        match self.try_admit(message, id, measure) {
            Ok(()) => Offer::Admitted(id),
            Err(waits_for) if !message.nosuspend => Offer::Wait(Place { account: id, waits_for }),
            Err(For::Peer(_)) => {
                self.release_account(id, class_of(message.len), cost(message.len));
                Offer::Busy
            }
            Err(_) => Offer::Busy,
        }
    }

    /// Admits a message of that account if there is room for it, and nobody waits whom it must not pass.
    fn try_admit(&mut self, message: Wish<'_>, id: AccountId, measure: Measure) -> Result<(), For> {
        let (class, bytes) = (class_of(message.len), cost(message.len));
        let left = Self::left_of(&self.peer, self.reach, class, measure);
        if let Some(account) = self.accounts.get_mut(&id) {
            let behind = account.line.ahead(message, class);
            let room = account.room(left, class, bytes, &mut self.wanted);
            if let Some(queue) = behind.or_else(|| (room != Room::Free).then_some(class)) {
                if room == Room::Crowded && !message.nosuspend {
                    self.crowded.insert(id);
                }
                return Err(For::Mailbox(queue));
            }
            account.take(class, bytes);
        }
        self.try_enter(message, class, bytes).map_err(For::Peer)?;
        self.admitted(id, class, bytes);
        Ok(())
    }

    /// What is left of the peer's window for a class, by that measure.
    fn left_of(peer: &Window, reach: u64, class: Class, measure: Measure) -> Left {
        let (free, used) = (peer.free(class), peer.used_by(class));
        let granted = match (class, measure) {
            (Class::Express, Measure::Granted) => reach.saturating_sub(used),
            _ => u64::MAX,
        };
        Left { free, used, granted }
    }

    /// Has an offered message wait. It keeps its place until [`Admission::cancel`].
    pub(crate) fn wait(&mut self, message: Outgoing, place: Place) -> Ticket {
        let Place { account, waits_for } = place;
        self.last_ticket += 1;
        self.line_up(self.last_ticket, Waiter { message, account, waits_for });
        self.last_ticket
    }

    fn line_up(&mut self, ticket: Ticket, waiter: Waiter) {
        match waiter.waits_for {
            For::Others => self.barriers.hold(ticket),
            For::Peer(queue) => self.line.enter(ticket, &waiter.message, queue),
            For::Mailbox(queue) => {
                if let Some(account) = self.accounts.get_mut(&waiter.account) {
                    account.line.enter(ticket, &waiter.message, queue);
                }
            }
        }
        if waiter.waits_for != For::Others {
            self.barriers.enter(waiter.message.wish());
        }
        self.waiting.insert(ticket, waiter);
    }

    /// Whether no small message goes past one that waits: it is small, and not there for a large one of its pair.
    pub(crate) fn waits_among_small(&self, ticket: Ticket) -> bool {
        self.waiting.get(&ticket).is_some_and(|waiter| match waiter.waits_for {
            For::Others => class_of(waiter.message.body_len()) == Class::Express,
            For::Mailbox(queue) | For::Peer(queue) => queue == Class::Express,
        })
    }

    /// Gives a waiting message back; `None` if it has been admitted already.
    pub(crate) fn cancel(&mut self, ticket: Ticket, admitted: &mut Vec<Admitted>) -> Option<Outgoing> {
        let waiter = self.waiting.remove(&ticket)?;
        match waiter.waits_for {
            For::Others => {}
            For::Peer(_) => {
                self.line.leave(&waiter.message);
                self.line.compact(&self.waiting);
                let body = waiter.message.body_len();
                self.release_account(waiter.account, class_of(body), cost(body));
            }
            For::Mailbox(_) => {
                if let Some(account) = self.accounts.get_mut(&waiter.account) {
                    account.line.leave(&waiter.message);
                    account.line.compact(&self.waiting);
                }
            }
        }
        if waiter.waits_for != For::Others {
            self.barriers.leave(waiter.message.wish());
        }
        self.pump_account(waiter.account, admitted);
        self.close_if_empty(waiter.account);
        self.pump(admitted);
        Some(waiter.message)
    }

    /// Room for small messages that was admitted before there were any. They count as [admitted](Self::admitted) when they are there,
    /// so that the peer cannot report what it has not got.
    pub(crate) fn set_aside(&mut self, id: AccountId, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.admitted.express -= bytes; // they have just been added
        }
    }

    /// Room for small messages that was [set aside](Self::set_aside) and is not used.
    pub(crate) fn withdraw(&mut self, id: AccountId, bytes: u64, admitted: &mut Vec<Admitted>) {
        let class = Class::Express;
        if let Some(account) = self.accounts.get_mut(&id) {
            account.window.give_back(class, bytes);
            account.no_longer_under_way(class, bytes);
        }
        self.peer.give_back(class, bytes);
        self.budget.give_back(class, bytes);
        self.pump_account(id, admitted);
        self.close_if_empty(id);
        self.pump(admitted);
    }

    /// Messages have been delivered: their room in the peer's window and the node's budget is free again.
    /// The budget, whose lock all sessions share, is given back once per class, whatever mailboxes they were for.
    pub(crate) fn delivered(&mut self, credit: impl IntoIterator<Item = (AccountId, Class, u64)>) {
        let mut returned = Totals::default();
        for (account, class, bytes) in credit {
            returned.add(class, bytes);
            if let Some(account) = self.accounts.get_mut(&account) {
                account.no_longer_under_way(class, bytes);
            }
        }
        for class in QUEUES.into_iter().filter(|class| returned.of(*class) > 0) {
            self.peer.give_back(class, returned.of(class));
            self.budget.give_back(class, returned.of(class));
        }
    }

    /// The peer's report on a mailbox; `false` if it has consumed more than it can have got. An unknown account is one
    /// that has been closed; say so again.
    pub(crate) fn consumed(
        &mut self,
        id: AccountId,
        express: u64,
        bulk: u64,
        admitted: &mut Vec<Admitted>,
    ) -> bool {
        let Some(account) = self.accounts.get_mut(&id) else {
            let known = id <= self.last_account;
            if known {
                self.closed.insert(id);
            }
            return known;
        };
        if express > account.admitted.express || bulk > account.admitted.bulk {
            return false;
        }
        let Totals { express: express_before, bulk: bulk_before } = account.consumed;
        account.window.give_back(Class::Express, express.saturating_sub(express_before));
        account.window.give_back(Class::Bulk, bulk.saturating_sub(bulk_before));
        account.consumed = Totals { express: express.max(express_before), bulk: bulk.max(bulk_before) };
        self.pump_account(id, admitted);
        self.close_if_empty(id);
        self.pump_held(admitted);
        true
    }

    /// Accounts closed since the last call, for the peer to forget.
    pub(crate) fn take_closed(&mut self) -> impl Iterator<Item = AccountId> {
        std::mem::take(&mut self.closed).into_iter()
    }

    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Admits those waiting in line for whom there is room now.
    pub(crate) fn pump(&mut self, admitted: &mut Vec<Admitted>) {
        self.line.starving = false;
        for queue in QUEUES {
            while let Some((ticket, waiter)) = self.line.front(queue, &self.waiting) {
                let body = waiter.message.body_len();
                if !self.take_room(class_of(body), cost(body)) {
                    self.line.blocked(queue, class_of(body));
                    break;
                }
                self.line.queue(queue).pop_front();
                if let Some(Waiter { message, account, .. }) = self.waiting.remove(&ticket) {
                    self.line.leave(&message);
                    self.barriers.leave(message.wish());
                    let next = self.admit(message, account, Some(ticket));
                    admitted.push(next);
                }
            }
        }
        for account in std::mem::take(&mut self.crowded) {
            self.pump_account(account, admitted);
        }
        self.pump_held(admitted);
    }

    /// What has waited for other carried messages is as if it were offered now.
    fn pump_held(&mut self, admitted: &mut Vec<Admitted>) {
        while let Some(ticket) =
            self.barriers.next(|ticket| self.waiting.get(&ticket).map(|waiter| waiter.message.wish()))
        {
            let Some(mut waiter) = self.waiting.remove(&ticket) else { continue };
            waiter.account = self.account_of(&waiter.message.to);
            match self.try_admit(waiter.message.wish(), waiter.account, Measure::Granted) {
                Ok(()) => {
                    let Waiter { message, account, .. } = waiter;
                    admitted.push(Admitted { message, account, ticket: Some(ticket) });
                }
                Err(waits_for) => self.line_up(ticket, Waiter { waits_for, ..waiter }),
            }
        }
    }

    /// Plants a fault: carried messages are accepted as there is room for them.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn ignore_barriers(&mut self, ignored: bool) {
        self.barriers.ignored = ignored;
    }

    /// Plants a fault: this many bytes never come back.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn lose(&mut self, bytes: u64) {
        self.peer.take(Class::Express, bytes);
    }

    /// The session is over: what it holds of the node's budget is free again.
    pub(crate) fn abandon(&mut self) {
        self.budget = Arc::new(Unlimited);
    }

    /// Nothing of what waits is admitted any more. It may be gigabytes, which are not freed here, where others wait: they go with
    /// the session.
    pub(crate) fn give_up(&mut self) {
        self.given_up = std::mem::take(&mut self.waiting);
    }

    /// All senders that still wait.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.keys().copied()
    }

    /// What waits and what was given up, in bytes, with what each message costs.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let bytes = |waiter: &Waiter| cost(waiter.message.body_len());
        self.waiting.values().chain(self.given_up.values()).map(bytes).sum()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Bytes in the peer's window: accepted and not yet delivered.
    pub(crate) fn in_window(&self) -> u64 {
        self.peer.used()
    }

    /// The destination's account, opened if need be; 0 if mailboxes are unbounded.
    fn account_of(&mut self, to: &Destination) -> AccountId {
        let Some(size) = self.mailbox_window else { return 0 };
        if self.accounts.get(&self.recent).is_some_and(|account| account.to == *to) {
            return self.recent;
        }
        if let Some(&id) = self.ids.get(to) {
            self.recent = id;
            return id;
        }
        self.last_account += 1;
        self.recent = self.last_account;
        self.ids.insert(to.clone(), self.last_account);
        let (window, line, totals) = (Window::new(size), Line::default(), Totals::default());
        let (to, under_way, admitted, consumed) = (to.clone(), totals, totals, totals);
        let account = Account { to, window, under_way, opened: false, admitted, consumed, line };
        self.accounts.insert(self.last_account, account);
        self.last_account
    }

    /// Takes room in the peer's window and the node's budget, or names the queue to wait in.
    fn try_enter(&mut self, message: Wish<'_>, class: Class, bytes: u64) -> Result<(), Class> {
        if let Some(queue) = self.line.ahead(message, class) {
            return Err(queue);
        }
        if self.take_room(class, bytes) { Ok(()) } else { Err(class) }
    }

    fn take_room(&mut self, class: Class, bytes: u64) -> bool {
        let fits = self.peer.fits(class, bytes) && self.budget.try_take(class, bytes);
        if fits {
            self.peer.take(class, bytes);
        }
        fits
    }

    /// Moves on those who have waited for the mailbox.
    fn pump_account(&mut self, id: AccountId, admitted: &mut Vec<Admitted>) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.line.starving = false;
        }
        for queue in QUEUES {
            loop {
                let Some(account) = self.accounts.get_mut(&id) else { return };
                let Some((ticket, waiter)) = account.line.front(queue, &self.waiting) else { break };
                let body = waiter.message.body_len();
                let left = Self::left_of(&self.peer, self.reach, class_of(body), Measure::Granted);
                let room = account.room(left, class_of(body), cost(body), &mut self.wanted);
                if room != Room::Free {
                    account.line.blocked(queue, class_of(body));
                    if room == Room::Crowded {
                        self.crowded.insert(id);
                    }
                    break;
                }
                account.take(class_of(body), cost(body));
                account.line.queue(queue).pop_front();
                let Some(mut waiter) = self.waiting.remove(&ticket) else { continue };
                account.line.leave(&waiter.message);
                match self.try_enter(waiter.message.wish(), class_of(body), cost(body)) {
                    Ok(()) => {
                        self.barriers.leave(waiter.message.wish());
                        let next = self.admit(waiter.message, waiter.account, Some(ticket));
                        admitted.push(next);
                    }
                    Err(queue) => {
                        self.line.enter(ticket, &waiter.message, queue);
                        waiter.waits_for = For::Peer(queue);
                        self.waiting.insert(ticket, waiter);
                    }
                }
            }
        }
    }

    fn release_account(&mut self, id: AccountId, class: Class, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.window.give_back(class, bytes);
            account.no_longer_under_way(class, bytes);
            self.close_if_empty(id);
        }
    }

    fn close_if_empty(&mut self, id: AccountId) {
        if self.accounts.get(&id).is_some_and(|account| account.window.used() == 0 && account.line.is_empty())
            && let Some(account) = self.accounts.remove(&id)
        {
            self.ids.remove(&account.to);
            if account.opened {
                self.closed.insert(id);
            }
        }
    }

    fn admit(&mut self, message: Outgoing, account: AccountId, ticket: Option<Ticket>) -> Admitted {
        let body = message.body_len();
        self.admitted(account, class_of(body), cost(body));
        Admitted { message, account, ticket }
    }

    /// What has room belongs to that account from now on, and the peer may report it as consumed.
    pub(crate) fn admitted(&mut self, account: AccountId, class: Class, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(&account) {
            account.opened = true;
            account.admitted.add(class, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::MOST_CANCELLED;
    use super::*;
    use crate::wire::envelope::ProcessId;
    use bytes::Bytes;
    use teleport_etf::Segments;

    #[test]
    fn cancelled_tickets_do_not_pile_up_behind_one_who_waits() {
        let process = ProcessId { id: 1, serial: 0 };
        let message = || Outgoing::new(process, Destination::Process(process), Segments::from(Bytes::new()));
        // Room for one message in the mailbox's window, or in the peer's.
        for (peer, mailbox) in [(u64::MAX, 1), (1, u64::MAX)] {
            let mut admission = Admission::new(peer, Some(mailbox), Arc::new(Unlimited));
            let wait = |admission: &mut Admission| match admission.offer(message().wish(), Measure::Granted) {
                Offer::Wait(place) => Some(admission.wait(message(), place)),
                Offer::Admitted(_) | Offer::Busy => None,
            };
            assert!(wait(&mut admission).is_none() && wait(&mut admission).is_some());
            let mut admitted = Vec::new();
            for _ in 0..10_000 {
                let ticket = wait(&mut admission).expect("there is no room");
                assert!(admission.cancel(ticket, &mut admitted).is_some());
            }
            let queued = |line: &Line| line.express.len() + line.bulk.len();
            let queued =
                queued(&admission.line) + admission.accounts.values().map(|a| queued(&a.line)).sum::<usize>();
            assert!(queued <= 2 + MOST_CANCELLED + 1, "{queued}");
            assert_eq!((admission.waiting(), admitted.len()), (1, 0));
        }
    }
}
