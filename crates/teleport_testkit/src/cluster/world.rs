//! The run itself: events one after the other, and what every call into a session machine entails.

use super::budget::{NodeBudget, NodeGrants, SessionBudget, SessionGrants};
use super::climate::Climate;
use super::event::{Agenda, Event};
use super::ledger::Ledger;
use super::node::{Arrivals, MAILBOXES, Mailbox, Node, mailbox_of};
use super::session::{Control, Deferred, Session, Side, Who};
use super::{Broken, Coverage, Micros, Rng, Scenario};
use std::collections::BTreeMap;
use std::sync::Arc;
use teleport_proto::transfer::{
    Action, Delivery, Disposition, FairWindow, Outcome, PlainBuffers, Transfer, TransferConfig, Urgency,
};
use teleport_proto::wire::pool::{Class, EXPRESS_LIMIT};

/// More events than any run needs that makes progress.
const MOST_EVENTS: u64 = 400_000;

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Micros,
    pub(super) agenda: Agenda,
    pub(super) climate: Climate,
    pub(super) nodes: Vec<Node>,
    pub(super) sessions: Vec<Session>,
    pub(super) coverage: Coverage,
    pub(super) last_id: u64,
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
            climate.restart_weight = 0;
            climate.one_source = false; // what it shares can be held by those who stand still
        }
        let nodes = (0..scenario.nodes).map(|node| {
            let processes = rng.between(1, 3) as usize;
            let each = (rng.between(1, scenario.messages.max(1) as u64) as usize).div_ceil(processes);
            #[allow(unused_mut)]
            let mut budget = FairWindow::new(climate.budgets[node]);
            #[cfg(feature = "planted-faults")]
            budget.plant(scenario.planted);
            Node {
                budget: NodeBudget::new(budget),
                answers: NodeBudget::new(FairWindow::new(climate.answers[node])),
                grants: NodeGrants::new(climate.grants[node]),
                mailboxes: (0..MAILBOXES).map(|_| Mailbox::default()).collect(),
                to_send: vec![each; processes],
            }
        });
        let nodes = nodes.collect();
        let mut sessions = Vec::new();
        for low in 0..scenario.nodes {
            for high in low + 1..scenario.nodes {
                let nodes = if rng.chance(500) { [low, high] } else { [high, low] };
                sessions.push(Session {
                    nodes,
                    generation: 0,
                    sides: [Side::default(), Side::default()],
                    connections: BTreeMap::new(),
                    control: Control::default(),
                    ending: false,
                });
            }
        }
        Self {
            scenario: scenario.clone(),
            seed,
            rng,
            now: 0,
            agenda: Agenda::default(),
            climate,
            nodes,
            sessions,
            coverage: Coverage::default(),
            last_id: 0,
            standing_still: scenario.standing_still,
            put_off: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Micros {
        self.now
    }

    pub(super) fn coverage(&self) -> Coverage {
        self.coverage
    }

    pub(super) fn run(&mut self) -> Result<(), Broken> {
        trace!(self, "seed {}: {:?}", self.seed, self.climate);
        for session in 0..self.sessions.len() {
            self.plan(0, Event::SessionUp(session));
        }
        for node in 0..self.nodes.len() {
            for process in 0..self.nodes[node].to_send.len() {
                self.plan_within(self.climate.pause, Event::Send { node, process });
            }
        }
        self.plan_within(self.climate.fault_gap, Event::Fault);
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
            for session in 0..self.sessions.len() {
                self.both(session).into_iter().for_each(|who| self.plan(0, Event::Rest(who)));
            }
            self.run_until_quiet()?;
        }
        Ok(())
    }

    /// Handles events until there are none left.
    pub(super) fn run_until_quiet(&mut self) -> Result<(), Broken> {
        while let Some((at, event)) = self.agenda.next() {
            self.now = self.now.max(at);
            self.coverage.events += 1;
            if self.coverage.events > MOST_EVENTS * self.sessions.len() as u64 {
                return Err(Broken::new(format!("no end after {} events", self.coverage.events)));
            }
            if self.stands_still(&event) {
                self.put_off.push(event);
                continue;
            }
            trace!(self, "{event:?}");
            self.handle(event)?;
            self.tell_freed_budgets();
        }
        Ok(())
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
            Event::Finish(who, seq, end) => self.finish(who, seq, end),
            Event::Flush(who, at) => self.flush(who, at),
            Event::Control(who, link) => self.control_arrives(who, link),
            Event::ControlUp(who, link) => self.control_up(who, link),
            Event::Up(who, id) => self.connection_up(who, id),
            Event::JoinFailed(who, id) => self.join_failed(who, id),
            Event::Write(who, id) => self.write(who, id),
            Event::Read(who, id) => self.read(who, id),
            Event::Notice(who, id) => self.notice(who, id),
            Event::ReaderStop(who, id) => self.reader_stop(who, id),
            Event::Fault => self.fault(),
            Event::Sweep(who) => self.sweep(who),
            Event::NodeDown(who) => self.node_down(who),
            Event::SessionUp(session) => self.session_up(session),
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

    /// That side's machine, if that incarnation of the session still exists there.
    pub(super) fn transfer(&mut self, who: Who) -> Option<&mut Transfer> {
        self.side(who)?.transfer.as_mut()
    }

    pub(super) fn side(&mut self, who: Who) -> Option<&mut Side> {
        self.session(who).map(|session| &mut session.sides[who.side])
    }

    pub(super) fn session(&mut self, who: Who) -> Option<&mut Session> {
        Some(&mut self.sessions[who.session]).filter(|session| session.generation == who.generation)
    }

    /// Both sides of a session as it is now.
    pub(super) fn both(&self, session: usize) -> [Who; 2] {
        let generation = self.sessions[session].generation;
        [0, 1].map(|side| Who { session, generation, side })
    }

    pub(super) fn session_up(&mut self, session: usize) -> Result<(), Broken> {
        let it = &mut self.sessions[session];
        it.generation += 1;
        it.ending = false;
        it.connections.clear();
        it.control = Control::default();
        let [a, b] = it.nodes;
        for (side, here, there) in [(0, a, b), (1, b, a)] {
            let config = TransferConfig {
                dialler: side == 0,
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
            let budget = SessionBudget { node: self.nodes[here].budget.clone(), session };
            let answers = SessionBudget { node: self.nodes[here].answers.clone(), session };
            let source = if self.climate.one_source { 0 } else { there };
            let grants = SessionGrants { node: self.nodes[here].grants.clone(), session, source };
            let (budget, answers, grants) = (Arc::new(budget), Arc::new(answers), Arc::new(grants));
            #[allow(unused_mut)]
            let mut transfer = Transfer::new(config, budget, answers, grants, Arc::new(PlainBuffers));
            #[cfg(feature = "planted-faults")]
            transfer.plant(self.scenario.planted);
            let tag = (session as u64) << 40 | u64::from(it.generation) << 8 | side as u64;
            let ledger = Some(Ledger::new(tag));
            it.sides[side] = Side { transfer: Some(transfer), ledger, ..Side::default() };
        }
        for who in self.both(session) {
            self.plan_within(1_000, Event::ControlUp(who, 0));
            if self.rng.chance(100) {
                if let Some(transfer) = self.transfer(who) {
                    transfer.prime();
                }
                self.settle(who)?;
            }
        }
        Ok(())
    }

    fn tell_freed_budgets(&mut self) {
        for node in 0..self.nodes.len() {
            for session in self.nodes[node].budget.to_tell() {
                let side = usize::from(self.sessions[session].nodes[1] == node);
                let who = self.both(session)[side];
                self.plan_within(50, Event::BudgetFreed(who));
            }
            for session in self.nodes[node].grants.to_tell() {
                let side = usize::from(self.sessions[session].nodes[1] == node);
                let who = self.both(session)[side];
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
        if session.generation != who.generation {
            return Ok(None);
        }
        let Some(transfer) = session.sides[who.side].transfer.as_mut() else { return Ok(None) };
        let deferred = session.sides[who.side].deferred.values().filter(|deferred| deferred.is_small());
        let deferring = deferred.map(|deferred| (deferred.from, deferred.to.clone())).collect();
        let mut arrivals =
            Arrivals { rng: &mut self.rng, defer_permille, deferring, handed: Vec::new(), together: 0 };
        let before = transfer.stats().messages_received;
        let result = call(transfer, &mut arrivals);
        self.coverage.together += arrivals.together;
        let handed = arrivals.handed;
        if transfer.stats().messages_received != before + handed.len() as u64 {
            return Err(Broken::new("messages_received does not count the messages delivered"));
        }
        for (delivery, disposition) in handed {
            self.coverage.held += u64::from(by != Some(class_of(delivery.body.len())));
            self.arrived(who, delivery, disposition)?;
        }
        Ok(Some(result))
    }

    fn arrived(&mut self, who: Who, delivery: Delivery, disposition: Disposition) -> Result<(), Broken> {
        let Delivery { seq, from, to, body, credit, .. } = delivery;
        let session = &mut self.sessions[who.session];
        let [ours, theirs] = {
            let [a, b] = &mut session.sides;
            if who.side == 0 { [a, b] } else { [b, a] }
        };
        let Some(ledger) = &mut theirs.ledger else {
            return Err(Broken::new("a message was delivered in a session that nobody began"));
        };
        let id = ledger.handed_over(from, &to, &body)?;
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
        match disposition {
            Disposition::Delivered => self.delivered(who, id, to, credit),
            Disposition::Consumed => {
                ledger.settled(id, Outcome::Delivered);
                self.coverage.delivered += 1;
                self.coverage.consumed_at_once += 1;
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
