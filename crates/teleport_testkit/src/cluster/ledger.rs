//! What one side of a session has sent, and what has become of it: the memory of the checks.

use super::Broken;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::OnceLock;
use teleport_etf::Segments;
use teleport_proto::transfer::{Ending, Outcome, Ticket};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};

/// Bytes that say which message a body belongs to. Shorter bodies are known by their place in their pair's order.
const HEADER: usize = 24;

/// Where every body is cut from.
const NOISE: usize = 2 * 1024 * 1024;

/// Names a message within a run.
pub(super) type Id = u64;

/// The bytes that message `id` of the ledger `tag` consists of.
pub(super) fn body(tag: u64, id: Id, len: usize, pieces: usize) -> Segments {
    let mut segments = Segments::new();
    let header = header(tag, id, len);
    segments.push(Bytes::copy_from_slice(&header[..len.min(HEADER)]));
    let mut rest = pattern(id, len);
    while !rest.is_empty() {
        let step = rest.len().div_ceil(pieces.max(1)).max(1);
        segments.push(rest.split_to(step.min(rest.len())));
    }
    segments
}

fn header(tag: u64, id: Id, len: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&tag.to_be_bytes());
    header[8..16].copy_from_slice(&id.to_be_bytes());
    header[16..].copy_from_slice(&(len as u64).to_be_bytes());
    header
}

fn pattern(id: Id, len: usize) -> Bytes {
    static POOL: OnceLock<Bytes> = OnceLock::new();
    let noise = POOL.get_or_init(|| {
        let mut rng = super::Rng::new(0);
        (0..NOISE / 8).flat_map(|_| rng.bits().to_be_bytes()).collect::<Vec<u8>>().into()
    });
    let len = len.saturating_sub(HEADER);
    let start = (id as usize).wrapping_mul(4099) % (NOISE - len);
    noise.slice(start..start + len)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered,
    Waiting,
    Accepted,
    /// In the receiver's hands, delivery deferred.
    HandedOver,
    /// A request that was not handed over when its turn came: it has to be rejected.
    PassedOver,
}

#[derive(Debug)]
struct Sent {
    from: ProcessId,
    to: Destination,
    len: usize,
    kind: Kind,
    unordered: bool,
    behind_all: bool,
    acknowledge: bool,
    /// In the order in which all were accepted.
    place: u64,
    state: State,
}

impl Sent {
    /// Whether it counts as unconfirmed for sure: what nodes say by themselves does not, and a request may have been rejected.
    fn is_unconfirmed(&self) -> bool {
        match self.state {
            State::Accepted => self.kind.is_message() && !matches!(self.kind, Kind::Request(_)),
            State::HandedOver => self.kind.is_message(),
            State::Offered | State::Waiting | State::PassedOver => false,
        }
    }
}

/// What one side of a session has sent.
#[derive(Debug)]
pub(super) struct Ledger {
    tag: u64,
    sent: HashMap<Id, Sent>,
    /// Accepted and not handed over, of each pair.
    order: HashMap<(ProcessId, Destination), VecDeque<Id>>,
    /// The places of all that were accepted and not handed over, and of those that go behind all.
    places: BTreeSet<u64>,
    barriers: BTreeSet<u64>,
    /// Carried and in order, offered and not handed over: all, and those that go behind all. They are numbered as they are offered.
    carried: BTreeSet<Id>,
    carried_barriers: BTreeSet<Id>,
    waiting: BTreeMap<Ticket, Id>,
    /// Acknowledged sends that were accepted: what the right answer is, once it is known.
    unanswered: BTreeMap<Id, Option<Outcome>>,
    accepted: u64,
}

impl Ledger {
    pub(super) fn new(tag: u64) -> Self {
        Self {
            tag,
            sent: HashMap::new(),
            order: HashMap::new(),
            places: BTreeSet::new(),
            barriers: BTreeSet::new(),
            carried: BTreeSet::new(),
            carried_barriers: BTreeSet::new(),
            waiting: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            accepted: 0,
        }
    }

    pub(super) fn tag(&self) -> u64 {
        self.tag
    }

    /// A message is about to be offered.
    pub(super) fn offer(&mut self, id: Id, message: &teleport_proto::transfer::Outgoing) {
        let (from, to, len) = (message.from, message.to.clone(), message.body.len());
        let (unordered, acknowledge) = (message.unordered, message.acknowledge.is_some());
        let (kind, behind_all) = (message.kind, message.behind_all);
        let (place, state) = (0, State::Offered);
        let sent = Sent { from, to, len, kind, unordered, behind_all, acknowledge, place, state };
        self.sent.insert(id, sent);
        if kind == Kind::Carried && !unordered {
            self.carried.insert(id);
            if behind_all {
                self.carried_barriers.insert(id);
            }
        }
    }

    pub(super) fn refused(&mut self, id: Id) {
        self.forget(id);
    }

    /// A message that is not on its way any more.
    fn forget(&mut self, id: Id) -> Option<Sent> {
        self.carried.remove(&id);
        self.carried_barriers.remove(&id);
        self.sent.remove(&id)
    }

    pub(super) fn wait(&mut self, id: Id, ticket: Ticket) -> Result<(), Broken> {
        if let Some(sent) = self.sent.get_mut(&id) {
            sent.state = State::Waiting;
        }
        match self.waiting.insert(ticket, id) {
            None => Ok(()),
            Some(_) => Err(Broken::new(format!("ticket {ticket} was given twice"))),
        }
    }

    pub(super) fn granted(&mut self, ticket: Ticket) -> Result<Id, Broken> {
        let Some(id) = self.waiting.remove(&ticket) else {
            return Err(Broken::new(format!("ticket {ticket} was granted, but nobody waits with it")));
        };
        self.accept(id);
        Ok(id)
    }

    /// Says which call has been given up by that, if it was one.
    pub(super) fn cancelled(&mut self, ticket: Ticket) -> Result<Option<RefId>, Broken> {
        match self.waiting.remove(&ticket) {
            Some(id) => Ok(self.forget(id).and_then(|sent| sent.kind.reference())),
            None => Err(Broken::new(format!("ticket {ticket} was cancelled, but nobody waits with it"))),
        }
    }

    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    pub(super) fn accept(&mut self, id: Id) {
        let Some(sent) = self.sent.get_mut(&id) else { return };
        sent.state = State::Accepted;
        self.accepted += 1;
        sent.place = self.accepted;
        self.places.insert(sent.place);
        if sent.behind_all {
            self.barriers.insert(sent.place);
        }
        if !sent.unordered {
            self.order.entry((sent.from, sent.to.clone())).or_default().push_back(id);
        }
        if sent.acknowledge {
            self.unanswered.insert(id, None);
        }
    }

    /// The receiver was handed a message: is it one that it should get now?
    pub(super) fn handed_over(
        &mut self,
        from: ProcessId,
        to: &Destination,
        kind: Kind,
        body: &Bytes,
    ) -> Result<Id, Broken> {
        let pair = (from, to.clone());
        let wrong = |what: String| Err(Broken::new(format!("{what} (pair {from:?} -> {to:?})")));
        let named = match body.first_chunk::<HEADER>() {
            None => None,
            Some(header) => {
                let number = |at: usize| header[at..at + 8].iter().fold(0, |n, &b| n << 8 | u64::from(b));
                if number(0) != self.tag {
                    return wrong(format!("delivered a message of another session, {:x}", number(0)));
                }
                Some(number(8))
            }
        };
        if named.is_none_or(|id| self.is_ordered(id)) {
            self.pass_over_requests(&pair, kind);
        }
        let next = self.order.get(&pair).and_then(|order| order.front().copied());
        let barrier = named.or(next).and_then(|id| self.sent.get(&id)).filter(|sent| sent.behind_all);
        if let Some(place) = barrier.map(|sent| sent.place) {
            self.pass_over_requests_before(place);
        }
        let Some(id) = named.or(next) else {
            return wrong("delivered a short message that was never sent".into());
        };
        let Some(sent) = self.sent.get_mut(&id) else {
            return wrong(format!("delivered message {id} twice, or it was never accepted"));
        };
        if sent.state != State::Accepted {
            return wrong(format!("delivered message {id}, which is {:?}", sent.state));
        }
        if (sent.from, &sent.to, sent.kind) != (from, to, kind) {
            return wrong(format!("message {id} went to the wrong process, or as {kind:?}"));
        }
        if !sent.unordered && next != Some(id) {
            return wrong(format!("delivered message {id} out of order, {next:?} was due"));
        }
        let place = sent.place;
        if sent.behind_all && self.places.first() != Some(&place) {
            return wrong(format!("delivered message {id} before all that it was to go behind"));
        }
        let bound = kind == Kind::Carried && !sent.unordered;
        if bound && self.barriers.first().is_some_and(|&barrier| barrier < place) {
            return wrong(format!("delivered message {id} before one that goes behind all"));
        }
        if bound {
            let before = if sent.behind_all { &self.carried } else { &self.carried_barriers };
            if let Some(before) = before.first().filter(|&&before| before < id) {
                return wrong(format!("delivered message {id} before {before}, which was offered earlier"));
            }
            self.carried.remove(&id);
            self.carried_barriers.remove(&id);
        }
        self.places.remove(&place);
        self.barriers.remove(&place);
        let head = header(self.tag, id, sent.len);
        let right = sent.len == body.len()
            && body[..sent.len.min(HEADER)] == head[..sent.len.min(HEADER)]
            && (sent.len <= HEADER || body[HEADER..] == pattern(id, sent.len)[..]);
        if !right {
            return wrong(format!("message {id} of {} bytes arrived with other content", sent.len));
        }
        sent.state = State::HandedOver;
        if !sent.unordered {
            self.forget_first(&pair);
        }
        Ok(id)
    }

    /// Whether a message that is not settled waits for earlier ones of its pair.
    pub(super) fn is_ordered(&self, id: Id) -> bool {
        self.sent.get(&id).is_some_and(|sent| !sent.unordered)
    }

    fn forget_first(&mut self, pair: &(ProcessId, Destination)) {
        let Some(order) = self.order.get_mut(pair) else { return };
        order.pop_front();
        if order.is_empty() {
            self.order.remove(pair);
        }
    }

    /// Requests are not handed over while the receiver has no room for answers: those of a pair that are in front of the next
    /// message of that kind.
    fn pass_over_requests(&mut self, pair: &(ProcessId, Destination), kind: Kind) {
        while let Some(id) = self.order.get(pair).and_then(|order| order.front().copied()) {
            let passed = |sent: &&mut Sent| matches!(sent.kind, Kind::Request(_)) && sent.kind != kind;
            let Some(sent) = self.sent.get_mut(&id).filter(passed) else { return };
            sent.state = State::PassedOver;
            self.places.remove(&sent.place);
            self.forget_first(pair);
        }
    }

    /// The same for all pairs, and all that was accepted before a message that goes behind all.
    fn pass_over_requests_before(&mut self, place: u64) {
        for sent in self.sent.values_mut().filter(|sent| sent.state == State::Accepted && sent.place < place)
        {
            if let Kind::Request(_) = sent.kind {
                self.places.remove(&sent.place);
            }
        }
    }

    /// The receiver's machine has rejected a request, which was not handed over.
    pub(super) fn rejected(&mut self, reference: RefId) -> Option<Id> {
        let passed = |(_, sent): &(&Id, &Sent)| {
            sent.kind == Kind::Request(reference) && matches!(sent.state, State::Accepted | State::PassedOver)
        };
        let id = self.sent.iter().find(passed).map(|(&id, _)| id)?;
        let sent = self.sent.remove(&id)?;
        self.places.remove(&sent.place);
        if let Some(order) = self.order.get_mut(&(sent.from, sent.to.clone())) {
            order.retain(|&other| other != id);
        }
        self.order.retain(|_, order| !order.is_empty());
        Some(id)
    }

    /// The receiver has settled it.
    pub(super) fn settled(&mut self, id: Id, outcome: Outcome) {
        self.sent.remove(&id);
        if let Some(answer) = self.unanswered.get_mut(&id) {
            *answer = Some(outcome);
        }
    }

    /// The sender was told what became of an acknowledged send.
    pub(super) fn answered(&mut self, id: Id, outcome: Outcome) -> Result<(), Broken> {
        match self.unanswered.remove(&id) {
            Some(Some(right)) if right == outcome => Ok(()),
            Some(right) => Err(Broken::new(format!("message {id} was answered {outcome:?}, not {right:?}"))),
            None => Err(Broken::new(format!("message {id} was answered twice, or without having asked"))),
        }
    }

    /// The sender's side has ended.
    pub(super) fn ended(&mut self, ending: &Ending) -> Result<(), Broken> {
        let waiting: BTreeSet<Ticket> = ending.waiting.iter().copied().collect();
        if waiting.len() != ending.waiting.len() || !waiting.iter().eq(self.waiting.keys()) {
            let (said, known) = (&ending.waiting, &self.waiting);
            return Err(Broken::new(format!("at the end {said:?} waited, not {known:?}")));
        }
        let unanswered: BTreeSet<Id> = ending.acknowledgements.iter().copied().collect();
        if unanswered.len() != ending.acknowledgements.len() || !unanswered.iter().eq(self.unanswered.keys())
        {
            let (said, known) = (&ending.acknowledgements, &self.unanswered);
            return Err(Broken::new(format!("at the end {said:?} had no outcome, not {known:?}")));
        }
        let unsettled = self.sent.values().filter(|sent| sent.is_unconfirmed()).count() as u64;
        if !(unsettled..=self.accepted).contains(&ending.unconfirmed) {
            let (said, known) = (ending.unconfirmed, unsettled);
            return Err(Broken::new(format!("at the end {said} were unconfirmed, {known} not delivered")));
        }
        self.waiting.clear();
        self.unanswered.clear();
        self.sent.retain(|_, sent| matches!(sent.state, State::Accepted | State::HandedOver));
        Ok(())
    }

    /// Everything has come to its end.
    pub(super) fn is_done(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty() && self.unanswered.is_empty() && self.order.is_empty()
    }

    /// What is still open, in words.
    pub(super) fn open(&self) -> String {
        let mut ids: Vec<_> = self.sent.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        format!(
            "{} messages not settled, the first {:?}; waiting {:?}; unanswered {:?}",
            ids.len(),
            ids.first(),
            self.waiting,
            self.unanswered
        )
    }
}
