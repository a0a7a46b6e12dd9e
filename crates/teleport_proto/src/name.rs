//! Node names, incarnations, and the numbers of sessions.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The longest node name in bytes, as in Erlang.
pub const MAX_NODE_NAME: usize = 255;

/// The name of a node, `name@host`.
///
/// Valid names are those that Erlang's `net_kernel` takes: letters, digits, `_` and `-` before the only `@`;
/// printable Latin-1 characters without blanks after it; at most 255 bytes in all. Names order by their
/// bytes, which settles simultaneous connects. A clone shares the text.
///
/// ```
/// use teleport_proto::NodeName;
///
/// let name: NodeName = "shop@10.0.0.7".parse()?;
/// assert_eq!((name.name(), name.host()), ("shop", "10.0.0.7"));
/// assert!("shop".parse::<NodeName>().is_err());
/// # Ok::<(), teleport_proto::InvalidNodeName>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// [`InvalidNodeName`] if it is not of the form `name@host`, is too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, InvalidNodeName> {
        match flaw(name) {
            None => Ok(NodeName(name.into())),
            Some(flaw) => Err(InvalidNodeName { input: shortened(name), flaw }),
        }
    }

    /// The whole name, `name@host`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    pub fn name(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(name, _)| name)
    }

    /// The part after the `@`.
    pub fn host(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = InvalidNodeName;

    fn from_str(name: &str) -> Result<Self, InvalidNodeName> {
        NodeName::new(name)
    }
}

impl TryFrom<&str> for NodeName {
    type Error = InvalidNodeName;

    fn try_from(name: &str) -> Result<Self, InvalidNodeName> {
        NodeName::new(name)
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A text that is not a node name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
#[error("{input:?} is not a node name: {flaw}; a node name looks like \"shop@10.0.0.7\"")]
pub struct InvalidNodeName {
    input: String,
    flaw: &'static str,
}

/// Which life of a node: Erlang's *creation*, another number after every restart, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(NonZeroU32);

impl Incarnation {
    /// `None` for 0, which Erlang reserves for "any incarnation".
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Incarnation)
    }

    /// The number, as it stands in pids and in the handshake.
    pub fn as_u32(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a session: 16 random bytes chosen by its acceptor, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    // For the one draw in 2^128 that may not be used.
    pub(crate) const ONE: SessionId = SessionId([1; 16]);

    /// `None` for all zeros, which means "no session" in the handshake.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(SessionId(bytes))
    }

    /// The bytes, as they stand in the handshake.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn flaw(text: &str) -> Option<&'static str> {
    if text.len() > MAX_NODE_NAME {
        return Some("it is longer than 255 bytes");
    }
    let Some((name, host)) = text.split_once('@') else {
        return Some("it has no '@'");
    };
    if host.contains('@') {
        return Some("it has more than one '@'");
    }
    if name.is_empty() {
        return Some("nothing stands before the '@'");
    }
    if host.is_empty() {
        return Some("nothing stands after the '@'");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Some("only letters, digits, '_' and '-' may stand before the '@'");
    }
    // Erlang takes '!' to 'ÿ'; control characters among them would only garble logs.
    if !host.chars().all(|c| ('!'..='ÿ').contains(&c) && !c.is_control() && !c.is_whitespace()) {
        return Some("blanks, control characters and characters beyond Latin-1 may not stand after the '@'");
    }
    None
}

// An error message must not grow with hostile input.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_NODE_NAME {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(32).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_erlang_takes() {
        for text in ["a@b", "shop@10.0.0.7", "a-b_C9@host.example", "a@fe80::1", "a@[::1]", "x@münchen"] {
            assert_eq!(NodeName::new(text).unwrap().as_str(), text);
        }
        assert!(NodeName::new(&format!("a@{}", "h".repeat(253))).is_ok());
    }

    #[test]
    fn names_that_erlang_refuses_are_named_with_an_example() {
        let long = format!("a@{}", "h".repeat(254));
        for text in
            ["", "@", "a", "a@", "@b", "a@b@c", "a b@c", "a.b@c", "a@b c", "a@b\n", "ä@b", "a@日本", &long]
        {
            let error = NodeName::new(text).unwrap_err().to_string();
            assert!(error.contains("shop@10.0.0.7"), "{error}");
            assert!(error.len() < 600, "{error}");
        }
        assert!(
            NodeName::new("shop")
                .unwrap_err()
                .to_string()
                .starts_with("\"shop\" is not a node name: it has no '@'")
        );
    }

    #[test]
    fn zero_is_neither_an_incarnation_nor_a_session() {
        assert_eq!(Incarnation::new(0), None);
        assert_eq!(Incarnation::new(7).unwrap().as_u32(), 7);
        assert_eq!(SessionId::new([0; 16]), None);
        assert_eq!(SessionId::new([0xab; 16]).unwrap().to_string(), "ab".repeat(16));
    }
}
