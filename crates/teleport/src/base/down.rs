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
        let Shape(down, reference, process, object, reason) =
            teleport_etf::from_bytes::<Shape<RawTerm>>(body).ok()?;
        // A monitor ends once, whatever the reason is.
        let reason = || reason.decode().unwrap_or_else(|_| undefined());
        (down == DOWN && process == PROCESS).then(|| Self { reference, object, reason: reason() })
    }
}

/// In place of a reason that cannot be decoded.
fn undefined() -> Term {
    Term::atom("undefined")
}

/// The message, from an encoded reason.
pub(crate) fn message(reference: &Reference, object: &Term, reason: Bytes) -> Bytes {
    // A peer may call anything a reason.
    let reason = RawTerm::from_bytes(reason).or_else(|_| RawTerm::new(&undefined()));
    let shape = reason.map(|reason| Shape(DOWN, reference.clone(), PROCESS, object.clone(), reason));
    shape
        .and_then(|shape| to_segments(&shape))
        .map(teleport_etf::Segments::into_contiguous)
        .unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;

    /// A key twice passes where nothing is built.
    #[test]
    fn a_reason_that_cannot_be_decoded_is_undefined() {
        let reference = Reference::new(Atom::from_static("a@b"), 1, &[1, 2, 3]).unwrap();
        let twice = Bytes::from_static(&[131, 116, 0, 0, 0, 2, 97, 1, 97, 1, 97, 1, 97, 2]);
        for reason in [twice, Bytes::from_static(&[131, 255])] {
            let down = Down::decode(&message(&reference, &Term::atom("x"), reason)).unwrap();
            assert_eq!((down.reference, down.reason), (reference.clone(), undefined()));
        }
    }
}
