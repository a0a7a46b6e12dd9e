//! The node processes of a soak: started, stopped, killed and started anew, and all that they tell.

use std::io;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::judge::{End, Life};
use super::ledger::Account;
use super::protocol::{Answer, Blow, Command, Event, Order};
use crate::args::SoakOptions;
use crate::bench::spawned::{Heard, NodeProcess};
use crate::bench::{BenchError, own_program};

/// What errors call the nodes.
const LABEL: &str = "soak";

/// How long nodes may take to end after their stdin is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Whose words they are: a node, and its life.
type Tag = (usize, u32);

/// All nodes. Dropping it kills them.
pub(super) struct Fleet<'a> {
    options: &'a SoakOptions,
    seed: u64,
    slots: Vec<Slot>,
    heard: mpsc::UnboundedSender<(Tag, Heard<Answer>)>,
    inbox: mpsc::UnboundedReceiver<(Tag, Heard<Answer>)>,
    /// Lives that are over.
    over: Vec<Life>,
}

/// A node: one process after the other.
struct Slot {
    life: u32,
    state: State,
    process: NodeProcess,
    /// Whether this life has said where it listens.
    is_ready: bool,
    /// Where it, or an earlier life, listens; empty if none has said so.
    address: String,
    /// Since when it has something to answer.
    asked: Option<Instant>,
    account: Option<Account>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Up,
    Stopped {
        until: Instant,
    },
    /// It shuts down, and is to be away for so long.
    Leaving(Duration),
    Away {
        until: Instant,
    },
}

/// What came of something that a node was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It did something to itself, or there was nothing to strike.
    Struck(Blow, bool),
    /// How many of the missing messages were confirmed to a node's senders.
    Explained(usize, Vec<u64>),
}

impl<'a> Fleet<'a> {
    /// Starts all processes.
    pub(super) fn start(options: &'a SoakOptions, seed: u64) -> Result<Self, BenchError> {
        let (heard, inbox) = mpsc::unbounded_channel();
        let mut fleet = Self { options, seed, slots: Vec::new(), heard, inbox, over: Vec::new() };
        for index in 0..usize::from(options.nodes) {
            let process = fleet.spawn(index, 0)?;
            fleet.slots.push(Slot {
                life: 0,
                state: State::Starting,
                process,
                is_ready: false,
                address: String::new(),
                asked: Some(Instant::now()),
                account: None,
            });
        }
        Ok(fleet)
    }

    fn spawn(&self, index: usize, life: u32) -> Result<NodeProcess, BenchError> {
        let mut arguments = vec![
            "soak-node".to_owned(),
            format!("--index={index}"),
            format!("--nodes={}", self.options.nodes),
            format!("--life={life}"),
            format!("--seed={}", self.seed),
            format!("--size={}", self.options.size),
        ];
        arguments.extend(self.options.plant.map(|plant| format!("--plant={}", plant.name())));
        let failed = |source| BenchError::Spawn { transport: LABEL.to_owned(), node: index, source };
        NodeProcess::spawn(own_program(&arguments)?, (index, life), &self.heard).map_err(failed)
    }

    /// Takes note of what nodes say and mends what is due, until then or until there is an outcome.
    pub(super) async fn attend(&mut self, until: Instant) -> Result<Option<Outcome>, BenchError> {
        loop {
            let now = Instant::now();
            self.mend(now)?;
            if now >= until {
                return Ok(None);
            }
            let next = self.slots.iter().filter_map(|slot| slot.state.until()).fold(until, Instant::min);
            // The fleet holds a sender: there is always more to come.
            if let Ok(Some((tag, heard))) = timeout_at(next, self.inbox.recv()).await
                && let Some(outcome) = self.hear(tag, heard).await?
            {
                return Ok(Some(outcome));
            }
        }
    }

    /// Lets those go on that were stopped for long enough, starts those anew that were away for long enough.
    fn mend(&mut self, now: Instant) -> Result<(), BenchError> {
        for index in 0..self.slots.len() {
            match self.slots[index].state {
                State::Stopped { until } if until <= now => self.go_on(index)?,
                State::Away { until } if until <= now => {
                    let life = self.slots[index].life + 1;
                    let process = self.spawn(index, life)?;
                    let slot = &mut self.slots[index];
                    (slot.life, slot.state, slot.process) = (life, State::Starting, process);
                    (slot.is_ready, slot.asked) = (false, Some(now));
                }
                State::Starting | State::Up | State::Leaving(_) => {
                    let overdue = |asked: Instant| now.duration_since(asked) > self.options.deadline;
                    if self.slots[index].asked.is_some_and(overdue) {
                        return Err(self.overdue(index));
                    }
                }
                State::Stopped { .. } | State::Away { .. } => {}
            }
        }
        Ok(())
    }

    async fn hear(
        &mut self,
        (index, life): Tag,
        heard: Heard<Answer>,
    ) -> Result<Option<Outcome>, BenchError> {
        let slot = &mut self.slots[index];
        if slot.life != life || matches!(slot.state, State::Away { .. }) {
            return Ok(None); // the last words of one that is over
        }
        let event = match heard {
            Heard::Event(event) => event,
            Heard::End(last_words) => return Err(self.ended(index, last_words)),
        };
        match event {
            Event::Ready { address, .. } => {
                (slot.is_ready, slot.address) = (true, address);
                self.introduce().await;
            }
            Event::Connected => {
                if slot.state == State::Starting {
                    (slot.state, slot.asked) = (State::Up, None);
                }
            }
            Event::Failed { reason } => {
                return Err(BenchError::NodeFailed { transport: LABEL.to_owned(), node: index, reason });
            }
            Event::Answer(Answer::Account(account)) => (slot.account, slot.asked) = (Some(*account), None),
            Event::Answer(Answer::Struck { blow, done }) => return Ok(Some(Outcome::Struck(blow, done))),
            Event::Answer(Answer::Explained { confirmed }) => {
                slot.asked = None;
                return Ok(Some(Outcome::Explained(index, confirmed)));
            }
            Event::Answer(Answer::Left { unconfirmed, account }) => {
                slot.account = Some(*account);
                self.left(index, unconfirmed);
            }
        }
        Ok(None)
    }

    /// Tells all nodes that listen where all others do.
    async fn introduce(&mut self) {
        let addresses: Vec<_> = self.slots.iter().map(|slot| slot.address.clone()).collect();
        for slot in &mut self.slots {
            let takes_part = !matches!(slot.state, State::Away { .. } | State::Leaving(_));
            if slot.is_ready && takes_part {
                slot.tell(&Command::Peers { addresses: addresses.clone() }).await;
            }
        }
    }

    /// Tells a node to do something.
    pub(super) async fn order(&mut self, index: usize, order: Order) {
        let slot = &mut self.slots[index];
        if !matches!(order, Order::Strike { .. }) {
            slot.asked.get_or_insert_with(Instant::now);
        }
        slot.tell(&Command::Order(order)).await;
    }

    /// Asks all nodes that are up for their accounts, if they have nothing else to answer.
    pub(super) async fn ask(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].state == State::Up && self.slots[index].asked.is_none() {
                self.order(index, Order::Tell).await;
            }
        }
    }

    /// Stops a node for a while.
    pub(super) fn stop_one(&mut self, index: usize, time: Duration) -> Result<(), BenchError> {
        self.signal(index, Signal::SIGSTOP)?;
        self.slots[index].state = State::Stopped { until: Instant::now() + time };
        Ok(())
    }

    fn go_on(&mut self, index: usize) -> Result<(), BenchError> {
        self.signal(index, Signal::SIGCONT)?;
        let slot = &mut self.slots[index];
        slot.state = State::Up;
        slot.asked = slot.asked.map(|_| Instant::now());
        Ok(())
    }

    /// Kills a node, and starts it anew some time later.
    pub(super) async fn kill_one(&mut self, index: usize, away: Duration) -> Result<(), BenchError> {
        let ended = self.slots[index].process.child.kill().await;
        ended.map_err(|source| self.unheard(index, source))?;
        self.end(index, End::Killed, away);
        Ok(())
    }

    /// Has a node shut down, and starts it anew some time later.
    pub(super) async fn dismiss_one(&mut self, index: usize, away: Duration) {
        self.order(index, Order::Leave).await;
        self.slots[index].state = State::Leaving(away);
    }

    fn left(&mut self, index: usize, unconfirmed: Vec<(u16, u64)>) {
        let away = match self.slots[index].state {
            State::Leaving(away) => away,
            _ => Duration::ZERO,
        };
        self.slots[index].process.close();
        self.end(index, End::Left(unconfirmed), away);
    }

    fn end(&mut self, index: usize, end: End, away: Duration) {
        let slot = &mut self.slots[index];
        // There are at most 64 nodes.
        let node = index as u16;
        self.over.push(Life { node, life: slot.life, end, account: slot.account.take() });
        (slot.state, slot.asked) = (State::Away { until: Instant::now() + away }, None);
    }

    /// Lets all nodes go on, and starts all that are away.
    pub(super) fn gather(&mut self) {
        let now = Instant::now();
        for slot in &mut self.slots {
            match &mut slot.state {
                State::Stopped { until } | State::Away { until } => *until = now,
                State::Leaving(away) => *away = Duration::ZERO,
                State::Starting | State::Up => {}
            }
        }
    }

    /// Whether all nodes are up and have answered.
    pub(super) fn is_complete(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.state == State::Up && slot.asked.is_none() && slot.account.is_some())
    }

    /// How many nodes are up.
    pub(super) fn up(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state == State::Up).count()
    }

    /// One of the nodes that are up, if this many are left besides.
    pub(super) fn pick(&self, pick: u32, left: usize) -> Option<usize> {
        let up: Vec<_> =
            (0..self.slots.len()).filter(|index| self.slots[*index].state == State::Up).collect();
        (up.len() > left).then(|| up[pick as usize % up.len()])
    }

    /// All lives, those of a node in their order.
    pub(super) fn lives(&self) -> Vec<Life> {
        let mut lives = self.over.clone();
        for (node, slot) in (0..).zip(&self.slots) {
            if !matches!(slot.state, State::Away { .. }) {
                lives.push(Life { node, life: slot.life, end: End::Runs, account: slot.account.clone() });
            }
        }
        lives.sort_by_key(|life| (life.node, life.life));
        lives
    }

    /// What all lives have told so far.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        let over = self.over.iter().filter_map(|life| life.account.as_ref());
        over.chain(self.slots.iter().filter_map(|slot| slot.account.as_ref()))
    }

    /// What nodes that are there have told.
    pub(super) fn living(&self) -> impl Iterator<Item = &Account> {
        self.slots.iter().filter_map(|slot| slot.account.as_ref())
    }

    /// Ends all nodes.
    pub(super) async fn stop(self) {
        let end = Instant::now() + FAREWELL;
        for mut slot in self.slots {
            slot.process.close();
            if timeout_at(end, slot.process.child.wait()).await.is_err() {
                // Already gone is as good.
                let _ = timeout(FAREWELL, slot.process.child.kill()).await;
            }
        }
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<(), BenchError> {
        let pid = i32::try_from(self.slots[index].process.pid).map_err(io::Error::other);
        let sent = pid.and_then(|pid| kill(Pid::from_raw(pid), signal).map_err(io::Error::from));
        sent.map_err(|source| self.unheard(index, source))
    }

    fn unheard(&self, index: usize, source: io::Error) -> BenchError {
        BenchError::Signal { transport: LABEL.to_owned(), node: index, source }
    }

    fn overdue(&self, index: usize) -> BenchError {
        let what = match self.slots[index].state {
            State::Starting => "start",
            State::Leaving(_) => "shut down",
            _ => "tell what it has sent and received",
        };
        BenchError::Overdue {
            transport: LABEL.to_owned(),
            nodes: index.to_string(),
            what: what.to_owned(),
            seconds: self.options.deadline.as_secs(),
        }
    }

    fn ended(&self, index: usize, last_words: String) -> BenchError {
        let what = "be told to end".to_owned();
        BenchError::NodeEnded { transport: LABEL.to_owned(), node: index, what, last_words }
    }
}

impl Slot {
    /// One that has ended does not hear it, which its reader tells.
    async fn tell(&mut self, command: &Command) {
        if let Ok(line) = command.to_json() {
            let _ = self.process.tell(&line).await;
        }
    }
}

impl State {
    /// When something has to be done about it.
    const fn until(self) -> Option<Instant> {
        match self {
            Self::Stopped { until } | Self::Away { until } => Some(until),
            Self::Starting | Self::Up | Self::Leaving(_) => None,
        }
    }
}
