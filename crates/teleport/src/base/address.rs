//! [`Address`]: the destination of a message.

use std::sync::Arc;
use teleport_etf::Pid;
use teleport_proto::wire::envelope::Destination;
use teleport_proto::{InvalidNodeName, NodeName};

/// A destination: a registered name, here or on another node, or a pid.
///
/// Made from what is at hand: `"name"` (on this node), `("name", node_name)`, a [`Pid`]. From `("name", "node@host")` it is made
/// by `try_from`, which checks the node's name.
/// A name and the pid behind it are different destinations as far as order is concerned.
///
/// ```
/// use teleport::Address;
///
/// let here: Address = "logger".into();
/// let there = Address::try_from(("logger", "shop@10.0.0.7"))?;
/// assert_eq!(there.to_string(), "{logger, shop@10.0.0.7}");
/// assert!(Address::try_from(("logger", "no host")).is_err());
/// # let _ = here;
/// # Ok::<(), teleport::InvalidNodeName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(pub(crate) Target);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Local(Arc<str>),
    Remote(Arc<str>, NodeName),
    Pid(Pid),
}

/// A process or name on a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The peer.
    pub peer: NodeName,
    /// For a pid, the life of the peer that it belongs to: in another one there is no such process.
    pub incarnation: Option<u32>,
    /// The process or name.
    pub to: Destination,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Target::Local(name) => f.write_str(name),
            Target::Remote(name, node) => write!(f, "{{{name}, {node}}}"),
            Target::Pid(pid) => write!(f, "{pid:?}"),
        }
    }
}

impl From<&str> for Address {
    fn from(name: &str) -> Self {
        Self(Target::Local(name.into()))
    }
}

impl From<String> for Address {
    fn from(name: String) -> Self {
        Self(Target::Local(name.into()))
    }
}

impl TryFrom<(&str, &str)> for Address {
    type Error = InvalidNodeName;

    /// # Errors
    ///
    /// [`InvalidNodeName`] if the second is not the name of a node.
    fn try_from((name, node): (&str, &str)) -> Result<Self, InvalidNodeName> {
        Ok(Self(Target::Remote(name.into(), NodeName::new(node)?)))
    }
}

impl From<(&str, &NodeName)> for Address {
    fn from((name, node): (&str, &NodeName)) -> Self {
        Self(Target::Remote(name.into(), node.clone()))
    }
}

impl From<(&str, NodeName)> for Address {
    fn from((name, node): (&str, NodeName)) -> Self {
        Self(Target::Remote(name.into(), node))
    }
}

impl From<Pid> for Address {
    fn from(pid: Pid) -> Self {
        Self(Target::Pid(pid))
    }
}

impl From<&Pid> for Address {
    fn from(pid: &Pid) -> Self {
        Self(Target::Pid(pid.clone()))
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}
