//! Where a message goes.

use std::sync::Arc;
use teleport_etf::Pid;
use teleport_proto::{InvalidNodeName, NodeName};

/// A destination: a registered name, here or on another node, or a pid.
///
/// Made from what is at hand: `"name"` (on this node), `("name", "node@host")`, `("name", node_name)`, a [`Pid`].
/// A name and the pid behind it are different destinations as far as order is concerned.
///
/// ```
/// use teleport::Address;
///
/// let here: Address = "logger".into();
/// let there: Address = ("logger", "shop@10.0.0.7").into();
/// assert_eq!(there.to_string(), "{logger, shop@10.0.0.7}");
/// # let _ = here;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(pub(crate) Target);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Local(Arc<str>),
    Remote(Arc<str>, Result<NodeName, InvalidNodeName>),
    Pid(Pid),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Target::Local(name) => f.write_str(name),
            Target::Remote(name, Ok(node)) => write!(f, "{{{name}, {node}}}"),
            Target::Remote(name, Err(_)) => write!(f, "{{{name}, ?}}"),
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

impl From<(&str, &str)> for Address {
    /// A node name that is none shows when the address is used.
    fn from((name, node): (&str, &str)) -> Self {
        Self(Target::Remote(name.into(), NodeName::new(node)))
    }
}

impl From<(&str, &NodeName)> for Address {
    fn from((name, node): (&str, &NodeName)) -> Self {
        Self(Target::Remote(name.into(), Ok(node.clone())))
    }
}

impl From<(&str, NodeName)> for Address {
    fn from((name, node): (&str, NodeName)) -> Self {
        Self(Target::Remote(name.into(), Ok(node)))
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
