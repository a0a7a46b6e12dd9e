//! A node for hosts that have processes, mailboxes and a scheduler of their own, such as the Erlang virtual machine.
//!
//! [`NodeBuilder::embed`](crate::NodeBuilder::embed) starts a node without processes of Rust: the host implements [`Host`], which is
//! handed everything that comes for its processes, and sends in their names with [`Embedded`], whose functions never
//! block and are not async. The protocol, with all its rules about order, credit, calls and monitors, stays on this side.
//!
//! Mailboxes of a host have no bounds: a message is consumed when it has been delivered.
//!
//! What a host takes apart ([`Inbound`], [`Arriving`], [`End`], [`Sent`]) is not `#[non_exhaustive]`: a host has to do something with each
//! kind, and what it did not know it would lose.
//!
//! | from peers, [`Host::take`] | to peers |
//! |---|---|
//! | [`Inbound::Message`] | [`Embedded::send`], [`Embedded::send_acknowledged`] |
//! | [`Inbound::Request`], a call of one of the host's processes | [`Watch::reply`], [`Watch::down`] |
//! | [`Inbound::Monitor`] of one of the host's processes | [`Watch::down`] |
//! | [`Inbound::Unwatched`]: nobody waits for that any more | [`Embedded::cancel`] |
//! | [`Inbound::Ended`]: how a call or a monitor ended | [`Embedded::request`], [`Embedded::monitor`] |

mod node;
mod told;

pub use crate::base::address::Recipient;
pub use crate::base::error::RequestError;
pub use crate::base::random::number as secret;
pub use crate::host::{
    Accepted, Arriving, Backlog, Bodies, CarriedMessages, Carry, Close, End, Foreign, Host, Inbound,
    Newcomer, Origin, Piece, Receipt, Watch,
};
pub use crate::io::runtime::{free_elsewhere, stand_back};
pub use crate::local::carry::CarryBody;
pub use node::{Embedded, Sent, Waiting};
pub use teleport_proto::wire::envelope::{Destination, ProcessId, RefId};
