//! The run itself: events one after the other, and what every call into a session machine entails.

use super::budget::{NodeBudget, NodeGrants, SessionBudget, SessionGrants};
use super::callers::{Answers, Calls};
use super::climate::Climate;
use super::clock::Clock;
use super::event::{Agenda, Event};
use super::node::{Arrivals, MAILBOXES, Mailbox, Node, mailbox_of};
use super::session::{Deferred, Session, Side, Who};
use super::shake::{Recording, Shake};
use super::{Broken, Coverage, Micros, Rng, Scenario};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::membership::{Backoff, Membership};
use teleport_proto::transfer::{
    Action, Delivery, Disposition, FairWindow, Outcome, PlainBuffers, Transfer, TransferConfig, Urgency,
};
use teleport_proto::wire::envelope::{Kind, ProcessId};
use teleport_proto::wire::pool::{Class, EXPRESS_LIMIT};
use teleport_proto::{Incarnation, NodeName, SessionId};

/// More events than any run needs that makes progress.
const MOST_EVENTS: u64 = 400_000;

/// How long a dialler waits for a connection and its handshake.
pub(super) const ATTEMPT: Duration = Duration::from_secs(7);

/// How long a session has to answer when another life of its peer wants in.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(50), most: Duration::from_secs(5) };

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Micros,
    pub(super) agenda: Agenda,
    pub(super) climate: Climate,
    pub(super) nodes: Vec<Node>,
    /// All that there were, and those that one side at least has now.
    pub(super) sessions: Vec<Session>,
    pub(super) live: BTreeSet<usize>,
    pub(super) ids: HashMap<SessionId, usize>,
    pub(super) shakes: BTreeMap<u64, Shake>,
    pub(super) last_shake: u64,
    pub(super) recordings: Vec<Recording>,
    /// Frames of handshakes that are still on their way, from one node to another, though who has sent them is gone.
    pub(super) held_up: Vec<(usize, usize, Event)>,
    /// Sessions of which a resume was changed on its way.
    pub(super) changed: BTreeSet<usize>,
    /// Until when nothing gets from one node to another.
    pub(super) dark_until: Vec<Vec<Micros>>,
    last_life: u32,
    /// Until when something is out of order.
    pub(super) trouble_until: Micros,
    /// When faults have stopped and nothing is the matter any more, at the latest.
    pub(super) settled_by: Micros,
    pub(super) coverage: Coverage,
    pub(super) last_id: u64,
    pub(super) answers: Answers,
    /// How many of the last nodes stand still.
    pub(super) standing_still: usize,
    /// What would have happened at them.
    pub(super) put_off: Vec<Event>,
}

macro_rules! trace {
    ($world:expr, $($what:tt)*) => {
        if $world.scenario.trace {
            eprintln!("{:>9} {}", $world.now, format_args!($($what)*));
        }
    };
}
pub(super) use trace;

impl World {
    pub(super) fn new(seed: u64, scenario: &Scenario) -> Self {
        let mut rng = Rng::new(seed);
        let mut climate = Climate::draw(&mut rng, scenario.nodes);
        if scenario.standing_still > 0 {
            climate.stand_still();
        }
        // Not drawn: the other seeds' runs stay what they were.
        climate.floods = seed % 4 == 3;
        // Who stands still answers no probe.
        climate.claims = seed % 4 == 1 && scenario.standing_still == 0;
        let mut world = Self {
            scenario: scenario.clone(),
            seed,
            rng,
            now: 0,
            agenda: Agenda::default(),
            climate,
            nodes: Vec::new(),
            sessions: Vec::new(),
            live: BTreeSet::new(),
            ids: HashMap::new(),
            shakes: BTreeMap::new(),
            last_shake: 0,
            recordings: Vec::new(),
            held_up: Vec::new(),
            changed: BTreeSet::new(),
            dark_until: vec![vec![0; scenario.nodes]; scenario.nodes],
            last_life: 0,
            trouble_until: 0,
            settled_by: Micros::MAX,
            coverage: Coverage::default(),
            last_id: 0,
            answers: Answers::new(),
            standing_still: 0,
            put_off: Vec::new(),
        };
        for node in 0..scenario.nodes {
            let node = world.new_node(node);
            world.nodes.push(node);
        }
        world
    }

    fn new_node(&mut self, node: usize) -> Node {
        let (scenario, rng, climate) = (&self.scenario, &mut self.rng, &self.climate);
        let processes = rng.between(1, 3) as usize;
        let each = (rng.between(1, scenario.messages.max(1) as u64) as usize).div_ceil(processes);
        #[allow(unused_mut)]
        let mut budget = FairWindow::new(climate.budgets[node]);
        #[cfg(feature = "planted-faults")]
        budget.plant(scenario.planted);
        let clock = Clock::new(self.now, rng.below(1 << 40), climate.clock_rates[node]);
        let (budget, answers) =
            (NodeBudget::new(budget), NodeBudget::new(FairWindow::new(climate.answers[node])));
        let grants = NodeGrants::new(climate.grants[node]);
        // The host's name is there for all, so this is one.
        let name: NodeName = NodeName::new(&format!("node{node}@host")).expect("a node's name");
        let incarnation = self.new_life();
        Node {
            membership: self.new_membership(&name),
            name,
            incarnation,
            clock,
            up: BTreeMap::new(),
            due: None,
            down: None,
            stopped_until: 0,
            deaf: (0, 0),
            budget,
            answers,
            grants,
            calls: self.new_calls(),
            mailboxes: (0..MAILBOXES).map(|_| Mailbox::default()).collect(),
            to_send: vec![each; processes],
        }
    }

    pub(super) fn new_life(&mut self) -> Incarnation {
        self.last_life += 1;
        Incarnation::new(self.last_life).expect("lives are counted from one")
    }

    pub(super) fn new_membership(&self, name: &NodeName) -> Membership {
        #[allow(unused_mut)]
        let mut membership = Membership::new(name.clone(), BACKOFF, ATTEMPT);
        #[cfg(feature = "planted-faults")]
        membership.plant(self.scenario.planted);
        membership
    }

    pub(super) fn new_calls(&self) -> Calls {
        #[allow(unused_mut)]
        let mut calls = Calls::default();
        #[cfg(feature = "planted-faults")]
        calls.plant(self.scenario.planted);
        calls
    }

    pub(super) fn now(&self) -> Micros {
        self.now
    }

    pub(super) fn coverage(&self) -> Coverage {
        self.coverage
    }

    pub(super) fn run(&mut self) -> Result<(), Broken> {
        trace!(self, "seed {}: {:?}", self.seed, self.climate);
        for low in 0..self.nodes.len() {
            for high in low + 1..self.nodes.len() {
                let (node, peer) = if self.rng.chance(500) { (low, high) } else { (high, low) };
                self.plan_within(1_000, Event::Want(node, peer));
                if self.rng.chance(300) {
                    self.plan_within(1_000, Event::Want(peer, node));
                }
            }
        }
        if self.scenario.standing_still > 0 {
            // They are connected before they stand still.
            let length = std::mem::take(&mut self.climate.faults_until);
            self.run_until_sessions_stand()?;
            self.climate.faults_until = self.now + length;
            self.standing_still = self.scenario.standing_still;
        }
        for node in 0..self.nodes.len() {
            for process in 0..self.nodes[node].to_send.len() {
                self.plan_within(self.climate.pause, Event::Send { node, process });
            }
            for peer in (0..self.nodes.len()).filter(|&peer| peer > node) {
                self.agenda.plan(self.climate.faults_until, Event::Want(node, peer));
            }
        }
        self.plan_within(self.climate.fault_gap, Event::Fault);
        if self.climate.claims {
            self.plan_within(self.climate.fault_gap, Event::Claim);
        }
        self.run_until_quiet()?;
        self.rest()?;
        self.let_all_move()?;
        self.run_until_quiet()?;
        self.rest()?;
        self.check_quiet()
    }

    /// Time goes by, and every node that moves gives up grants for which it has no use.
    fn rest(&mut self) -> Result<(), Broken> {
        for _ in 0..3 {
            for session in self.live.clone() {
                self.both(session).into_iter().for_each(|who| self.plan(0, Event::Rest(who)));
            }
            self.run_until_quiet()?;
        }
        Ok(())
    }

    /// Handles events until all that is left is to wait, and nothing is the matter.
    pub(super) fn run_until_quiet(&mut self) -> Result<(), Broken> {
        // What was the matter when faults stopped may take some deadlines to be noticed, and some back-offs to be mended.
        let ticktime = self.climate.ticktime.min(Duration::from_secs(60)).as_micros() as Micros;
        self.settled_by = self.now.max(self.climate.faults_until) + 8 * ticktime + 120_000_000;
        self.run_until(|world| {
            world.calm() && world.now >= world.trouble_until && world.unsettled().is_none()
        })
    }

    fn run_until_sessions_stand(&mut self) -> Result<(), Broken> {
        self.settled_by = 600_000_000;
        self.run_until(|world| world.unconnected().is_none())
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        let mut rests = self.now;
        while self.agenda.has_work() || !done(self) {
            if !self.agenda.has_work() && self.now >= rests {
                // Engines say now and then that time has gone by.
                rests = self.now + 1_000_000;
                for session in self.live.clone() {
                    for who in self.both(session) {
                        self.plan_within(1_000_000, Event::Rest(who));
                    }
                }
            }
            self.step()?;
        }
        Ok(())
    }

    /// Time passes in which nothing has to happen.
    pub(super) fn wait(&mut self, time: Micros) -> Result<(), Broken> {
        let until = self.now + time;
        self.settled_by = Micros::MAX;
        while self.agenda.next_at().is_some_and(|at| at <= until) {
            self.step()?;
        }
        self.now = until;
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        let Some((at, event)) = self.agenda.next() else {
            return Err(Broken::new(format!("nothing is left to happen, but {:?}", self.unsettled())));
        };
        self.now = self.now.max(at);
        self.coverage.events += 1;
        if self.now > self.settled_by.saturating_add(self.trouble_until) {
            return Err(Broken::new(format!("long after the last fault: {:?}", self.unsettled())));
        }
        if self.coverage.events > MOST_EVENTS * (self.nodes.len() * self.nodes.len()) as u64 {
            return Err(Broken::new(format!("no end after {} events", self.coverage.events)));
        }
        if let Some(node) = self.node_of_event(&event) {
            if self.stands_still(&event, node) {
                self.put_off.push(event);
                return Ok(());
            }
            if self.nodes[node].stopped_until > self.now {
                self.agenda.plan(self.nodes[node].stopped_until, event);
                return Ok(());
            }
            if let Some((until, _)) = self.nodes[node].down
                && matches!(event, Event::Send { .. } | Event::Consume { .. } | Event::Want(..))
            {
                self.agenda.plan(until, event);
                return Ok(());
            }
        }
        trace!(self, "{event:?}");
        self.handle(event)?;
        self.tell_freed_budgets();
        Ok(())
    }

    fn node_of_event(&self, event: &Event) -> Option<usize> {
        event.node(|session| self.sessions[session].nodes).or_else(|| self.shake_node(event))
    }

    /// Until when nothing gets from one node to another, if so.
    pub(super) fn dark(&self, from: usize, to: usize) -> Option<Micros> {
        Some(self.dark_until[from][to]).filter(|&until| until > self.now)
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Send { node, process } => self.send_some(node, process),
            Event::Cancel(who, ticket) => self.cancel(who, ticket),
            Event::Consume { node, mailbox } => self.consume(node, mailbox),
            Event::BudgetFreed(who) => {
                let Some(transfer) = self.transfer(who) else { return Ok(()) };
                transfer.budget_freed();
                self.settle(who)
            }
            Event::GrantsFreed(who) => {
                let Some(transfer) = self.transfer(who) else { return Ok(()) };
                transfer.grants_freed();
                self.settle(who)
            }
            Event::Rest(who) => {
                let Some(transfer) = self.transfer(who) else { return Ok(()) };
                transfer.rest();
                self.settle(who)
            }
            Event::Answer { who, request, reference, server, caller } => {
                self.answer(who, request, reference, &server, caller)
            }
            Event::CallLate(node, life, reference) => self.call_late(node, life, reference),
            Event::Finish(who, seq, end) => self.finish(who, seq, end),
            Event::Take(who, bytes) => self.take(who, bytes),
            Event::Flush(who, at) => self.flush(who, at),
            Event::Control(who, generation) => self.control_arrives(who, generation),
            Event::Attach(who, generation) => self.attach(who, generation),
            Event::ControlGone(who, generation) => self.control_gone(who, generation),
            Event::Live(who, at) => self.live(who, at),
            Event::Look(who, pause) => self.look(who, pause),
            Event::Due(node, at) => self.due(node, at),
            Event::Want(node, peer) => self.want(node, peer),
            Event::Start(node) => {
                self.start(node);
                Ok(())
            }
            Event::Shake { shake, step, bytes } => self.shake(shake, step, bytes),
            Event::ShakeFailed(shake, refused) => self.shake_failed(shake, refused),
            Event::ShakeLate(shake) => self.shake_late(shake),
            Event::Join(who, id, class) => self.join(who, id, class),
            Event::Up(who, id) => self.connection_up(who, id),
            Event::Write(who, id) => self.write(who, id),
            Event::Read(who, id) => self.read(who, id),
            Event::Notice(who, id) => self.notice(who, id),
            Event::ReaderStop(who, id) => self.reader_stop(who, id),
            Event::Fault => self.fault(),
            Event::Claim => self.claim(),
            Event::Crash(node) if self.calm() || self.nodes[node].down.is_some() => Ok(()),
            Event::Crash(node) => self.restart(node),
            Event::Sweep(who) => self.sweep(who),
        }
    }

    pub(super) fn plan(&mut self, delay: Micros, event: Event) {
        self.agenda.plan(self.now + delay, event);
    }

    /// Plans an event for any time up to so much later.
    pub(super) fn plan_within(&mut self, most: Micros, event: Event) {
        let delay = self.rng.below(most + 1);
        self.plan(delay, event);
    }

    /// That side's machine, if it has the session.
    pub(super) fn transfer(&mut self, who: Who) -> Option<&mut Transfer> {
        self.side(who)?.transfer.as_mut()
    }

    pub(super) fn side(&mut self, who: Who) -> Option<&mut Side> {
        self.sessions.get_mut(who.session).map(|session| &mut session.sides[who.side])
    }

    pub(super) fn both(&self, session: usize) -> [Who; 2] {
        [0, 1].map(|side| Who { session, side })
    }

    pub(super) fn new_transfer(&self, who: Who) -> Transfer {
        let (here, there, session) = (self.node_of(who), self.node_of(who.other()), who.session);
        let config = TransferConfig {
            dialler: who.side == 0,
            max_message: self.climate.max_message,
            send_window: self.climate.receive_windows[there],
            receive_window: self.climate.receive_windows[here],
            mailbox_window: self.climate.mailbox_windows[there],
            own_mailbox_window: self.climate.mailbox_windows[here],
            fragment_size: self.climate.fragment_size,
            express_connections: self.climate.express_connections,
            bulk_connections: self.climate.bulk_connections,
            most_bulk_connections: self.climate.most_bulk_connections,
        };
        let node = &self.nodes[here];
        let budget = SessionBudget { node: node.budget.clone(), session };
        let answers = SessionBudget { node: node.answers.clone(), session };
        let source = if self.climate.one_source { 0 } else { there };
        let grants = SessionGrants { node: node.grants.clone(), session, source };
        let (budget, answers, grants) = (Arc::new(budget), Arc::new(answers), Arc::new(grants));
        #[allow(unused_mut)]
        let mut transfer = Transfer::new(config, budget, answers, grants, Arc::new(PlainBuffers));
        #[cfg(feature = "planted-faults")]
        transfer.plant(self.scenario.planted);
        transfer
    }

    fn tell_freed_budgets(&mut self) {
        for node in 0..self.nodes.len() {
            for session in self.nodes[node].budget.to_tell() {
                let who = Who { session, side: self.side_of(session, node) };
                self.plan_within(50, Event::BudgetFreed(who));
            }
            for session in self.nodes[node].grants.to_tell() {
                let who = Who { session, side: self.side_of(session, node) };
                self.coverage.grants_freed += 1;
                self.plan_within(50, Event::GrantsFreed(who));
            }
        }
    }

    /// Lets a session machine do something that may deliver messages, and sees to those. Messages of another class than
    /// the connection they came `by` must have been held before.
    pub(super) fn deliver<R>(
        &mut self,
        who: Who,
        by: Option<Class>,
        call: impl FnOnce(&mut Transfer, &mut Arrivals<'_>) -> R,
    ) -> Result<Option<R>, Broken> {
        let defer_permille = self.climate.defer_permille;
        let session = &mut self.sessions[who.session];
        let Some(transfer) = session.sides[who.side].transfer.as_mut() else { return Ok(None) };
        let deferred = session.sides[who.side].deferred.values().filter(|deferred| deferred.is_small());
        let deferring = deferred.map(|deferred| (deferred.from, deferred.to.clone())).collect();
        let mut arrivals =
            Arrivals { rng: &mut self.rng, defer_permille, deferring, handed: Vec::new(), together: 0 };
        let before = transfer.stats().messages_received;
        let result = call(transfer, &mut arrivals);
        self.coverage.together += arrivals.together;
        let handed = arrivals.handed;
        let received = transfer.stats().messages_received - before;
        let messages = handed.iter().filter(|(delivery, _)| delivery.kind.is_message()).count() as u64;
        // The rest are requests that the machine has rejected: the ledger will miss them if they are not.
        self.coverage.requests_rejected += received.saturating_sub(messages);
        if received < messages {
            return Err(Broken::new("messages_received does not count the messages delivered"));
        }
        for (delivery, disposition) in handed {
            self.coverage.held += u64::from(by != Some(class_of(delivery.body.len())));
            self.arrived(who, delivery, disposition)?;
        }
        Ok(Some(result))
    }

    fn arrived(&mut self, who: Who, delivery: Delivery, disposition: Disposition) -> Result<(), Broken> {
        if let Kind::Reject(reference) = delivery.kind
            && delivery.from == ProcessId::NOBODY
        {
            // The peer's machine says so by itself, and its process has not seen the request.
            let ledger = self.side(who).and_then(|side| side.ledger.as_mut());
            let request = ledger.and_then(|ledger| ledger.rejected(reference));
            return self.answered(who, request, delivery.kind);
        }
        let Delivery { seq, from, to, kind, body, credit, .. } = delivery;
        let session = &mut self.sessions[who.session];
        let [ours, theirs] = {
            let [a, b] = &mut session.sides;
            if who.side == 0 { [a, b] } else { [b, a] }
        };
        let Some(ledger) = &mut theirs.ledger else {
            return Err(Broken::new("a message was delivered in a session that nobody began"));
        };
        let id = ledger.handed_over(from, &to, kind, &body)?;
        // Small ones may come behind a small one: the sink keeps their order.
        let small = credit.class == Class::Express;
        let waited_for = |d: &Deferred| !(d.placed || small && d.is_small());
        let of_pair = |d: &Deferred| (d.from, &d.to) == (from, &to) && ledger.is_ordered(d.id);
        let ahead = |d: &&Deferred| waited_for(d) && of_pair(d);
        if let Some(ahead) = ours.deferred.values().find(ahead).filter(|_| ledger.is_ordered(id)) {
            let ahead = ahead.id;
            return Err(Broken::new(format!("message {id} was handed over before {ahead} was delivered")));
        }
        trace!(self, "{who:?} got message {id} ({seq}), {} bytes for {to:?}: {disposition:?}", body.len());
        if credit.account != 0 {
            let before = ours.accounts.insert(to.clone(), credit.account);
            self.coverage.accounts_reopened += u64::from(before.is_some_and(|b| b != credit.account));
        }
        match kind {
            Kind::Request(reference) => self.requested(who, id, reference, to.clone(), from),
            Kind::Reply(_) | Kind::Reject(_) | Kind::Down(_) => {
                self.answered(who, self.answers.get(&id).copied(), kind)?;
            }
            _ => {}
        }
        let [ours, theirs] = {
            let [a, b] = &mut self.sessions[who.session].sides;
            if who.side == 0 { [a, b] } else { [b, a] }
        };
        let Some(ledger) = &mut theirs.ledger else { return Ok(()) };
        match disposition {
            Disposition::Delivered => self.delivered(who, id, to, credit),
            Disposition::Consumed => {
                ledger.settled(id, Outcome::Delivered);
                self.coverage.delivered += 1;
                self.coverage.consumed_at_once += 1;
                Ok(())
            }
            Disposition::Queued => {
                ledger.settled(id, Outcome::Delivered);
                ours.queued += credit.bytes;
                self.coverage.delivered += 1;
                self.coverage.queued += 1;
                self.plan_within(10_000, Event::Take(who, credit.bytes));
                Ok(())
            }
            Disposition::NoProcess => {
                ledger.settled(id, Outcome::NoProcess);
                self.coverage.delivered += 1;
                self.coverage.no_process += 1;
                Ok(())
            }
            Disposition::Deferred | Disposition::Placed => {
                let placed = disposition == Disposition::Placed;
                self.coverage.deferred += u64::from(!placed);
                self.coverage.placed += u64::from(placed);
                let end = if mailbox_of(&to).is_some() && !self.rng.chance(50) {
                    Disposition::Delivered
                } else {
                    Disposition::NoProcess
                };
                ours.deferred.insert(seq, Deferred { id, from, to, credit, placed });
                self.plan_within(3_000, Event::Finish(who, seq, end));
                Ok(())
            }
        }
    }

    /// Does what the machine asks for, after any call into it, and looks whether it keeps its bounds.
    pub(super) fn settle(&mut self, who: Who) -> Result<(), Broken> {
        if let Some(side) = self.side(who)
            && side.transfer.as_ref().is_some_and(|transfer| !transfer.serves_trays())
        {
            side.put_trays_away();
        }
        drop(self.transfer(who).map(Transfer::take_spent));
        while let Some(action) = self.transfer(who).and_then(Transfer::poll_action) {
            trace!(self, "{who:?}: {action:?}");
            match action {
                Action::Wake(id) => self.wake(who, id)?,
                Action::Close(id) => self.close(who, id),
                Action::Granted(ticket) => {
                    if let Some(ledger) = self.side(who).and_then(|side| side.ledger.as_mut()) {
                        let id = ledger.granted(ticket)?;
                        self.coverage.accepted += 1;
                        trace!(self, "{who:?}: message {id} accepted");
                    }
                }
                Action::Outcome(token, outcome) => {
                    if let Some(ledger) = self.side(who).and_then(|side| side.ledger.as_mut()) {
                        ledger.answered(token, outcome)?;
                        self.coverage.outcomes += 1;
                    }
                }
            }
        }
        self.open_connections(who);
        self.check_bounds(who)?;
        self.check_budget(self.sessions[who.session].nodes[who.side])?;
        self.check_grants(self.sessions[who.session].nodes[who.side])?;
        let due = self.transfer(who).and_then(|transfer| transfer.control_due());
        let delay = match due {
            None => return Ok(()),
            Some(Urgency::Now) => self.rng.below(50),
            Some(Urgency::Soon) => self.rng.below(3_000),
        };
        let at = self.now + delay;
        let Some(side) = self.side(who) else { return Ok(()) };
        if side.link.is_some() && side.flush_at.is_none_or(|planned| planned > at) {
            side.flush_at = Some(at);
            self.agenda.plan(at, Event::Flush(who, at));
        }
        Ok(())
    }

    fn check_bounds(&mut self, who: Who) -> Result<(), Broken> {
        let window = self.climate.receive_windows[self.sessions[who.session].nodes[who.side]];
        let largest = match self.side(who.other()) {
            Some(sender) => sender.largest,
            None => return Ok(()),
        };
        let Some(transfer) = self.transfer(who) else { return Ok(()) };
        let stats = transfer.stats();
        let undelivered = stats.undelivered_bytes;
        let most = |largest: [u64; 2]| (window / 4).max(largest[0]) + (window - window / 4).max(largest[1]);
        let most: u64 = largest.into_iter().map(most).sum::<u64>().min(stats.granted_bytes);
        if undelivered > most {
            return Err(Broken::new(format!("{undelivered} bytes undelivered, {most} are allowed")));
        }
        Ok(())
    }
}

/// Where a class stands in arrays.
pub(super) fn place(class: Class) -> usize {
    match class {
        Class::Express => 0,
        Class::Bulk => 1,
    }
}

/// The class of a message with a body of this length.
pub(super) fn class_of(len: usize) -> Class {
    if len <= EXPRESS_LIMIT { Class::Express } else { Class::Bulk }
}
