//! DOWN: how a monitor tells that its process has ended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use teleport_etf::{Atom, RawTerm, Reference, Term, to_segments};

/// That a monitored process has ended: what a message decodes to that is `{'DOWN', Ref, process, Object, Reason}`, as in
/// Erlang. [`Message::down`](crate::Message::down) makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Down {
    /// What [`Mailbox::monitor`](crate::Mailbox::monitor) returned.
    pub reference: Reference,
    /// What was monitored: a pid, or `{Name, Node}`.
    pub object: Term,
    /// Its exit reason; `noproc` if there was no such process, `noconnection` if its node went down.
    pub reason: Term,
}

#[derive(Serialize, Deserialize)]
struct Shape<R>(Atom, Reference, Atom, Term, R);

const DOWN: Atom = Atom::from_static("DOWN");
const PROCESS: Atom = Atom::from_static("process");

impl Down {
    pub(crate) fn decode(body: &Bytes) -> Option<Self> {
        let Shape(down, reference, process, object, reason) = teleport_etf::from_bytes(body).ok()?;
        (down == DOWN && process == PROCESS).then_some(Self { reference, object, reason })
    }
}

/// The message, from an encoded reason.
pub(crate) fn message(reference: &Reference, object: &Term, reason: Bytes) -> Bytes {
    // A peer may call anything a reason.
    let undefined = || RawTerm::new(&Atom::from_static("undefined"));
    let reason = RawTerm::from_bytes(reason).or_else(|_| undefined());
    let shape = reason.map(|reason| Shape(DOWN, reference.clone(), PROCESS, object.clone(), reason));
    shape
        .and_then(|shape| to_segments(&shape))
        .map(teleport_etf::Segments::into_contiguous)
        .unwrap_or_default()
}
