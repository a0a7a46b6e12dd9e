//! Whether the promises were kept.

use std::collections::HashMap;

use super::super::figures::{Counts, Ledger, Pair};

/// With fewer kills per second than this, a run proves little.
pub(super) const LEAST_KILLS_PER_SECOND: u64 = 5;

/// What was sent against what was received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages that never arrived.
    pub(super) lost: u64,
    /// Pairs with messages that were never sent.
    pub(super) strays: u64,
}

impl Balance {
    /// Pair by pair: what one pair has lost, no other can make up for.
    pub(super) fn of(ledgers: &[Ledger]) -> Self {
        let received = ledgers.iter().flat_map(|ledger| &ledger.received);
        let mut received: HashMap<Pair, _> = received.map(|received| (received.pair, received)).collect();
        let mut balance = Self::default();
        for sent in ledgers.iter().flat_map(|ledger| &ledger.sent) {
            let received = received.remove(&sent.pair);
            let (messages, last) = received.map_or((0, 0), |received| (received.messages, received.last));
            balance.sent += sent.messages;
            balance.lost += sent.messages.saturating_sub(messages);
            balance.strays += u64::from(last > sent.messages);
        }
        balance.strays += received.len() as u64;
        balance
    }
}

/// Everything that is not as it should be after this many seconds; empty if all is well.
pub(super) fn complaints(seconds: u64, counts: &Counts, balance: &Balance) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut forbid = |count: u64, what: &str| {
        if count > 0 {
            complaints.push(format!("{count} {what}"));
        }
    };
    forbid(balance.lost, "messages lost");
    forbid(counts.doubled, "messages doubled");
    forbid(counts.reordered, "messages out of order");
    forbid(counts.damaged, "messages damaged");
    forbid(balance.strays, "pairs received what nobody sent");
    forbid(counts.nodedowns, "sessions ended");
    forbid(counts.unconfirmed, "messages unconfirmed");
    forbid(counts.senders, "senders still wait for their last message to be accepted");
    let least = seconds * LEAST_KILLS_PER_SECOND;
    if counts.pool_killed < least {
        let killed = counts.pool_killed;
        complaints
            .push(format!("only {killed} pool connections killed, {least} are needed to prove anything"));
    }
    if counts.frames_resent == 0 {
        complaints.push("no frame had to be sent again, so no kill has hit anything".to_owned());
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::figures::{Received, Sent};

    const PAIR: Pair = Pair { origin: 0, worker: 0, node: 1, inbox: 0 };

    fn sent(worker: u16, messages: u64) -> Sent {
        Sent { pair: Pair { worker, ..PAIR }, messages }
    }

    fn received(worker: u16, messages: u64, last: u64) -> Received {
        Received { pair: Pair { worker, ..PAIR }, messages, last }
    }

    #[test]
    fn each_pair_answers_for_itself() {
        let sender = Ledger { sent: vec![sent(0, 5), sent(1, 5), sent(2, 0), sent(3, 2)], received: vec![] };
        let receiver = Ledger { sent: vec![], received: vec![received(0, 5, 5), received(1, 4, 5)] };
        let balance = Balance::of(&[sender, receiver]);
        assert_eq!(balance, Balance { sent: 12, lost: 3, strays: 0 });
    }

    #[test]
    fn what_nobody_sent_is_noticed() {
        let sender = Ledger { sent: vec![sent(0, 5)], received: vec![] };
        let receiver = Ledger { sent: vec![], received: vec![received(0, 5, 6), received(7, 1, 1)] };
        let balance = Balance::of(&[sender, receiver]);
        assert_eq!(balance, Balance { sent: 5, lost: 0, strays: 2 });
    }

    #[test]
    fn every_broken_promise_is_named() {
        let good = Counts { pool_killed: 300, frames_resent: 1, ..Counts::default() };
        assert!(complaints(60, &good, &Balance::default()).is_empty());
        let bad = Counts {
            senders: 1,
            doubled: 2,
            reordered: 3,
            damaged: 4,
            nodedowns: 5,
            unconfirmed: 6,
            pool_killed: 299,
            ..Counts::default()
        };
        let text = complaints(60, &bad, &Balance { sent: 9, lost: 7, strays: 8 }).join("; ");
        for part in [
            "7 messages lost",
            "2 messages doubled",
            "3 messages out of order",
            "4 messages damaged",
            "8 pairs",
            "5 sessions ended",
            "6 messages unconfirmed",
            "1 senders still wait",
            "only 299 pool connections",
            "no frame had to be sent again",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
