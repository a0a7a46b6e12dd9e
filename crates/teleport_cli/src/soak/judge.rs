//! Whether the promises were kept: the ledgers of all lives, compared pair by pair.
//!
//! A number that a pair's sender counts as accepted and no life of the receiver has seen is *missing*. It is unconfirmed if a
//! session can have ended with it under way, and lost if not: missing numbers of one session are the last of it, so each run of
//! them needs an end of its own, noted by the sender at about that number. What a killed life sent and took after it told its
//! ledger the last time is unknown, and nobody's claim.

use std::collections::{BTreeMap, HashMap};

use super::ledger::{Account, Mark, Range, Seen, Sent, len};

/// One life of a node.
#[derive(Debug, Clone)]
pub(super) struct Life {
    /// The node.
    pub(super) node: u16,
    /// The how manieth of its name.
    pub(super) life: u32,
    /// How it ended.
    pub(super) end: End,
    /// What it told the last time, if ever.
    pub(super) account: Option<Account>,
}

/// How a life has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It has not, and its account is complete.
    Runs,
    /// It was shut down, with these messages not confirmed by these nodes; its account is complete.
    Left(Vec<(u16, u64)>),
    /// It was killed.
    Killed,
}

/// What has become of all messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Accepted.
    pub(super) messages: u64,
    /// Of these, taken out of a mailbox.
    pub(super) delivered: u64,
    /// Missing, and a session has ended.
    pub(super) unconfirmed: u64,
    /// Missing without an excuse.
    pub(super) lost: u64,
    /// Taken once more.
    pub(super) doubled: u64,
    /// Taken behind a later one.
    pub(super) reordered: u64,
}

/// Missing numbers that are excused unless their sender was told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excused {
    /// The sender's node and life.
    pub(super) from: (u16, u32),
    /// The sender.
    pub(super) worker: u16,
    /// The destination's node, and the destination.
    pub(super) to: (u16, u16),
    /// The numbers.
    pub(super) range: Range,
}

/// The comparison.
#[derive(Debug, Default)]
pub(super) struct Reckoning {
    /// Of all pairs.
    pub(super) totals: Totals,
    /// What is to be asked about.
    pub(super) excused: Vec<Excused>,
    /// What is wrong, in words.
    pub(super) complaints: Vec<String>,
}

/// A sender's node, life and number, and a destination's node and number.
type Pair = (u16, u32, u16, u16, u16);

/// A run of missing numbers within what one life of the receiver has seen.
#[derive(Debug, Clone, Copy)]
struct Gap {
    range: Range,
    /// The receiver's life.
    incarnation: u32,
}

impl Reckoning {
    /// Of all lives; those of one node in their order.
    pub(super) fn of(lives: &[Life]) -> Self {
        let by_name: HashMap<_, _> = lives.iter().map(|life| ((life.node, life.life), life)).collect();
        let mut receivers: HashMap<u16, Vec<&Life>> = HashMap::new();
        for life in lives {
            receivers.entry(life.node).or_default().push(life);
        }
        let mut reckoning = Self::default();
        let mut missing: BTreeMap<(u16, u32, u16, u32), u64> = BTreeMap::new();
        for (pair, sides) in pairs(lives) {
            let (node, life, _, to, _) = pair;
            let Some(sender) = by_name.get(&(node, life)) else { continue };
            let to_lives = receivers.get(&to).map_or(&[][..], Vec::as_slice);
            for gap in reckoning.pair(pair, &sides, sender, to_lives) {
                *missing.entry((node, life, to, gap.incarnation)).or_default() += len(gap.range);
            }
        }
        for ((node, life, to, incarnation), missing) in missing {
            if let Some(sender) = by_name.get(&(node, life)) {
                reckoning.reported(sender, to, incarnation, missing);
            }
        }
        reckoning
    }

    /// Says how many of the numbers asked about a sender was told to be delivered.
    pub(super) fn confirmed(&mut self, excused: &Excused, count: u64) {
        if count > 0 {
            self.lose(count);
            self.complain(
                excused.pair(),
                &format!("lost {count} in {:?} that were confirmed", excused.range),
            );
        }
    }

    /// Counts one pair; returns the gaps that are excused.
    fn pair(&mut self, pair: Pair, sides: &Sides<'_>, sender: &Life, lives: &[&Life]) -> Vec<Gap> {
        let highest = sides.seen.iter().map(|(_, seen)| seen.last).max().unwrap_or(0);
        let told = sides.sent.map_or(0, |sent| sent.accepted);
        let is_complete = sender.end != End::Killed;
        let accepted = told.max(highest);
        self.totals.messages += accepted;
        if is_complete && highest > told {
            self.totals.doubled += highest - told;
            self.complain(pair, &format!("took {highest}, though {told} were accepted"));
        }
        let (mut gaps, mut unknown, mut next) = (Vec::new(), 0, 1);
        for (place, life) in lives.iter().enumerate() {
            let Some((_, seen)) = sides.seen.iter().find(|(of, _)| *of == life.life) else { continue };
            let incarnation = life.account.as_ref().map_or(0, |account| account.incarnation);
            self.totals.doubled += seen.doubled;
            self.totals.reordered += seen.reordered;
            if seen.doubled + seen.reordered > 0 {
                let what = format!("took {} again and {} too late", seen.doubled, seen.reordered);
                self.complain(pair, &what);
            }
            if seen.first < next {
                let again = next.min(seen.last + 1) - seen.first;
                self.totals.doubled += again;
                self.complain(pair, &format!("took {again} again in life {} of the receiver", life.life));
            } else if seen.first > next {
                let head = (next, seen.first - 1);
                // What an earlier life has taken besides is unknown.
                if place == 0 {
                    gaps.push(Gap { range: head, incarnation });
                } else {
                    unknown += len(head);
                }
            }
            gaps.extend(seen.gaps.iter().map(|&range| Gap { range, incarnation }));
            next = next.max(seen.last + 1);
        }
        let marks = marks(sides.sent, sender, pair.3);
        if next <= accepted {
            match lives.last() {
                Some(last) if last.end == End::Runs => {
                    let incarnation = last.account.as_ref().map_or(0, |account| account.incarnation);
                    let has_come = lives.len() == 1 || sides.seen.iter().any(|(of, _)| *of == last.life);
                    let first = if has_come { next } else { next.max(beyond_others(&marks, incarnation)) };
                    let first = first.min(accepted + 1);
                    unknown += first - next;
                    if first <= accepted {
                        gaps.push(Gap { range: (first, accepted), incarnation });
                    }
                }
                _ => unknown += len((next, accepted)),
            }
        }
        let missing: u64 = gaps.iter().map(|gap| len(gap.range)).sum();
        self.totals.delivered += accepted.saturating_sub(missing + unknown);
        self.totals.unconfirmed += missing + unknown;
        let noted: Vec<_> = marks.iter().map(Mark::to_string).collect();
        let (excused, lost) = excuse(gaps, marks);
        for Gap { range, incarnation } in lost {
            self.lose(len(range));
            let noted = noted.join(", ");
            self.complain(
                pair,
                &format!("lost {range:?} to {incarnation:08x} while no session ended; some did at {noted}"),
            );
        }
        let asked = excused.iter().map(|gap| Excused::new(pair, gap.range));
        self.excused.extend(asked);
        excused
    }

    /// As many messages as are missing have to have been reported as unconfirmed.
    fn reported(&mut self, sender: &Life, to: u16, incarnation: u32, missing: u64) {
        let Some(account) = &sender.account else { return };
        let with = account.downs.iter().filter(|down| (down.node, down.incarnation) == (to, incarnation));
        let reported: u64 = with.map(|down| down.unconfirmed).sum();
        let at_the_end = match &sender.end {
            End::Killed => return,
            End::Runs => 0,
            End::Left(unconfirmed) => {
                unconfirmed.iter().filter(|(node, _)| *node == to).map(|(_, n)| n).sum()
            }
        };
        let silent = missing.saturating_sub(reported + at_the_end);
        if silent > 0 {
            self.lose(silent);
            let (node, life) = (sender.node, sender.life);
            self.complaints.push(format!(
                "node {node}, life {life}, to node {to}: {missing} are missing, and only {} were reported as unconfirmed",
                reported + at_the_end
            ));
        }
    }

    /// What counted as unconfirmed is lost.
    fn lose(&mut self, count: u64) {
        self.totals.lost += count;
        self.totals.unconfirmed = self.totals.unconfirmed.saturating_sub(count);
    }

    fn complain(&mut self, (node, life, worker, to, inbox): Pair, what: &str) {
        self.complaints
            .push(format!("node {node}, life {life}, sender {worker}, to node {to}, inbox {inbox}: {what}"));
    }
}

impl Excused {
    fn new((node, life, worker, to, inbox): Pair, range: Range) -> Self {
        Self { from: (node, life), worker, to: (to, inbox), range }
    }

    fn pair(&self) -> Pair {
        (self.from.0, self.from.1, self.worker, self.to.0, self.to.1)
    }
}

/// What both sides tell of a pair.
#[derive(Debug, Default)]
struct Sides<'a> {
    sent: Option<&'a Sent>,
    /// By life of the receiver.
    seen: Vec<(u32, &'a Seen)>,
}

fn pairs(lives: &[Life]) -> BTreeMap<Pair, Sides<'_>> {
    let mut pairs: BTreeMap<Pair, Sides<'_>> = BTreeMap::new();
    for life in lives {
        let Some(account) = &life.account else { continue };
        for sent in &account.sent {
            let pair = (life.node, life.life, sent.worker, sent.node, sent.inbox);
            pairs.entry(pair).or_default().sent = Some(sent);
        }
        for taken in account.taken.iter().filter(|taken| taken.seen.first > 0) {
            let pair = (taken.origin, taken.life, taken.worker, life.node, taken.inbox);
            pairs.entry(pair).or_default().seen.push((life.life, &taken.seen));
        }
    }
    pairs
}

/// Where sessions of a pair may have ended.
fn marks(sent: Option<&Sent>, sender: &Life, to: u16) -> Vec<Mark> {
    let mut marks = sent.map_or_else(Vec::new, |sent| sent.marks.clone());
    let is_open = match &sender.end {
        End::Runs => false,
        End::Left(unconfirmed) => unconfirmed.iter().any(|(node, _)| *node == to),
        End::Killed => true,
    };
    if is_open {
        let low = sent.map_or(0, |sent| sent.settled);
        marks.push(Mark { incarnation: None, low, high: u64::MAX });
    }
    marks
}

/// The least number that cannot have gone to another life of the receiver.
fn beyond_others(marks: &[Mark], incarnation: u32) -> u64 {
    let of_others = marks.iter().filter(|mark| mark.incarnation.is_some_and(|other| other != incarnation));
    of_others.map(|mark| mark.high.saturating_add(1)).max().unwrap_or(0)
}

/// Those gaps that have a session's end to themselves, and those that have none.
fn excuse(mut gaps: Vec<Gap>, mut marks: Vec<Mark>) -> (Vec<Gap>, Vec<Gap>) {
    gaps.sort_by_key(|gap| gap.range.1);
    // The one that is of use for the shortest time is taken first.
    marks.sort_by_key(|mark| mark.high);
    let (mut excused, mut lost) = (Vec::new(), Vec::new());
    for gap in gaps {
        let fits = |mark: &Mark| {
            (mark.low..=mark.high).contains(&gap.range.1)
                && mark.incarnation.is_none_or(|incarnation| incarnation == gap.incarnation)
        };
        match marks.iter().position(fits) {
            Some(mark) => {
                marks.remove(mark);
                excused.push(gap);
            }
            None => lost.push(gap),
        }
    }
    (excused, lost)
}

#[cfg(test)]
mod tests;
