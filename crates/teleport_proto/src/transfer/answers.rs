//! What goes without credit, and how much of it is kept for a peer that does not take it.
//!
//! A reply waits for nobody's room, so it is this side that keeps it until the peer takes it. How much it keeps is up to the
//! node's second budget. A reply that does not fit is refused, and its caller is told; and until something has been
//! taken, requests of the peer do not even reach their servers.

use super::Refused;
use super::window::{Budget, Totals, Unlimited, class_of, cost};
use crate::wire::envelope::Kind;
use crate::wire::pool::Class;
use bytes::Bytes;
use std::sync::Arc;
use teleport_etf::Segments;

/// Up to this many bytes a reason is a notice, which is always let in: the number of those is bounded by that of watches, and
/// [`most_untaken`] bounds those for watches that were not begun.
pub(crate) const NOTICE: u64 = 256;

/// Where the peer may have little under way: some 2,000 of them.
const LEAST_UNTAKEN: u64 = 256 * 1024;

/// The most bytes a session keeps of what the node says by itself, which is never refused: outcomes, rejections, and DOWN for
/// watches that were not begun. The peer alone decides how many there are, so one that lets more come together loses
/// the session.
///
/// Twice what the peer may have under way of small messages, which an honest peer does not reach: each costs at least
/// [`MESSAGE_COST`](super::MESSAGE_COST), and is answered by an outcome or a DOWN of some 140 bytes, or a rejection of 250. And for
/// what it has not taken it is granted nothing new.
pub(crate) fn most_untaken(under_way: u64) -> u64 {
    under_way.saturating_mul(2).max(LEAST_UNTAKEN)
}

pub(crate) struct Answers {
    budget: Arc<dyn Budget>,
    kept: u64,
    /// One was refused, and none has been taken since: what requests are told.
    rejection: Option<Bytes>,
    refused: u64,
}

impl Answers {
    pub(crate) fn new(budget: Arc<dyn Budget>) -> Self {
        Self { budget, kept: 0, rejection: None, refused: 0 }
    }

    /// Takes room for a message without credit, or refuses it.
    pub(crate) fn admit(&mut self, kind: Kind, len: u64) -> Result<(), Refused> {
        let (class, bytes) = (class_of(len), cost(len));
        if !may_be_refused(kind, len) {
            self.budget.take(class, bytes);
        } else if !self.budget.try_take(class, bytes) {
            self.refused += 1;
            let refused = Refused::AnswersFull { waiting: self.kept };
            let text = teleport_etf::to_segments(&refused.to_string()).map(Segments::into_contiguous);
            self.rejection = Some(text.unwrap_or_default());
            return Err(refused);
        }
        self.kept += bytes;
        Ok(())
    }

    /// Counts what has been delivered.
    pub(crate) fn delivered(&mut self, returned: Totals) {
        for (class, bytes) in [(Class::Express, returned.express), (Class::Bulk, returned.bulk)] {
            if bytes > 0 {
                self.budget.give_back(class, bytes);
                self.kept -= bytes;
                self.rejection = None;
            }
        }
    }

    /// The session is over: what it holds of the budget is free again.
    pub(crate) fn abandon(&mut self) {
        self.budget = Arc::new(Unlimited);
    }

    /// Whether requests are rejected.
    pub(crate) fn is_full(&self) -> bool {
        self.rejection.is_some()
    }

    /// The text for the next request, as a term.
    pub(crate) fn reject(&mut self) -> Segments {
        self.refused += 1;
        self.rejection.clone().unwrap_or_default().into()
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Answers refused, and requests rejected.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

/// A rejection ends a call, in place of a reply; it has to get through.
fn may_be_refused(kind: Kind, len: u64) -> bool {
    matches!(kind, Kind::Reply(_)) || (matches!(kind, Kind::Down(_)) && len > NOTICE)
}
