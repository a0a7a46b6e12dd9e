//! Allow-lists: which destinations and functions of this node its peers may reach.

use super::lock::SharedLock;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_etf::{Peek, Seen};
use teleport_proto::NodeName;
use teleport_proto::wire::envelope::{Destination, Kind};

/// The server of a node in Erlang that applies functions for `teleport_erpc`. Only functions are allowed there, never its name.
pub(crate) const APPLIES: &str = "teleport_apply";

/// The process of a node in Erlang that passes messages on to aliases, which are allowed with pids.
const ALIASES: &str = "teleport_alias";

/// What each peer may reach at a node: a rule for each pattern of peers' names, of which the first that matches counts. A peer
/// that none matches may reach nothing.
///
/// It is about what peers send on their own account: messages, calls, monitors and functions to apply. Answers to this node's
/// calls and monitors always come. In a pattern `*` stands for any characters, or none.
///
/// ```
/// use teleport::{AllowList, Permits};
///
/// let list = AllowList::new()
///     .peer("worker@*", Permits::none().name("jobs").name("stats_*"))
///     .peer("*@10.0.0.*", Permits::none().monitor("jobs"))
///     .peer("*", Permits::all());
/// # let _ = list;
/// ```
#[derive(Debug, Clone, Default)]
pub struct AllowList {
    rules: Vec<(Pattern, Arc<Permits>)>,
    only_logs: bool,
}

impl AllowList {
    /// One without rules: nobody may reach anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule behind those that there are: peers whose names match may reach that.
    pub fn peer(mut self, pattern: &str, permits: Permits) -> Self {
        self.rules.push((Pattern::new(pattern), Arc::new(permits)));
        self
    }

    /// Lets everything in. What the rules would refuse is counted and logged, to see what they miss before they are enforced.
    pub fn only_log(mut self) -> Self {
        self.only_logs = true;
        self
    }

    /// Who judges what comes from that peer. `None` if it may reach everything.
    fn judge(&self, peer: &NodeName) -> Option<Arc<Judge>> {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches(peer.as_str()));
        let permits = rule.map(|(_, permits)| permits.clone()).unwrap_or_default();
        let only_logs = self.only_logs;
        (!permits.all).then(|| Arc::new(Judge { permits, only_logs }))
    }
}

/// What peers of one rule of an [`AllowList`] may reach.
#[derive(Debug, Clone, Default)]
pub struct Permits {
    all: bool,
    names: Vec<Pattern>,
    monitors: Vec<Pattern>,
    applied: Vec<AppliedPattern>,
    pids: bool,
    system: bool,
}

impl Permits {
    /// Everything, as without a list.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Nothing, to which the other functions add.
    pub fn none() -> Self {
        Self::default()
    }

    /// Messages, calls and monitors to processes with such a name.
    pub fn name(mut self, pattern: &str) -> Self {
        self.names.push(Pattern::new(pattern));
        self
    }

    /// Monitors of processes with such a name, and nothing else of theirs.
    pub fn monitor(mut self, pattern: &str) -> Self {
        self.monitors.push(Pattern::new(pattern));
        self
    }

    /// Messages, calls and monitors to all processes by their pids, and to aliases. Pids can be guessed, so in Erlang that is all but
    /// everything: any supervisor starts what it is told to.
    pub fn pids(mut self) -> Self {
        self.pids = true;
        self
    }

    /// System messages to what may be reached otherwise: those of `sys`, which replace a server's state by what a function says,
    /// `gen_server:stop`, and exits that are sent as messages.
    pub fn system(mut self) -> Self {
        self.system = true;
        self
    }

    /// Functions that a node in Erlang applies, by patterns of module and function, and of any arity if there is none. With an arity,
    /// arguments of more than 65,536 terms are not let in: they are not counted.
    pub fn apply(mut self, module: &str, function: &str, arity: Option<u8>) -> Self {
        let (module, function) = (Pattern::new(module), Pattern::new(function));
        self.applied.push(AppliedPattern { module, function, arity });
        self
    }

    fn allows(&self, thing: &Thing<'_>) -> bool {
        let any = |patterns: &[Pattern], name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        match thing {
            Thing::Name(name) => any(&self.names, name),
            Thing::Monitor(name) => any(&self.monitors, name) || any(&self.names, name),
            Thing::Pid | Thing::Others => self.pids,
            Thing::System => self.system,
            Thing::Function { module, function, arity } => self.applied.iter().any(|pattern| {
                pattern.module.matches(module)
                    && pattern.function.matches(function)
                    && pattern.arity.is_none_or(|allowed| *arity == Some(allowed.into()))
            }),
            Thing::Unknown => false,
        }
    }
}

#[derive(Debug, Clone)]
struct AppliedPattern {
    module: Pattern,
    function: Pattern,
    arity: Option<u8>,
}

/// A name in which `*` stands for any characters, or none.
#[derive(Debug, Clone)]
struct Pattern(Box<str>);

impl Pattern {
    fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut name) = (self.0.as_bytes(), name.as_bytes());
        // Where to go on if what follows the last star does not match: that star takes one byte more.
        let mut again = None;
        loop {
            match (pattern.split_first(), name.split_first()) {
                (Some((b'*', rest)), _) => {
                    (pattern, again) = (rest, Some((rest, name)));
                    continue;
                }
                (Some((expected, rest)), Some((byte, left))) if expected == byte => {
                    (pattern, name) = (rest, left);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((rest, [_, left @ ..])) = again else { return false };
            (pattern, name, again) = (rest, left, Some((rest, left)));
        }
    }
}

/// What a peer wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing<'a> {
    Name(&'a str),
    Monitor(&'a str),
    Pid,
    System,
    /// By a server that answers whom the message names, by whatever pid or name.
    Others,
    Function {
        module: Cow<'a, str>,
        function: Cow<'a, str>,
        /// `None` if that cannot be found out.
        arity: Option<usize>,
    },
    /// What is sent to the server that applies functions, and does not name one.
    Unknown,
}

impl fmt::Display for Thing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "send to the name {name}"),
            Self::Monitor(name) => write!(f, "monitor the name {name}"),
            Self::Pid => f.write_str("reach processes by their pids"),
            Self::Others => f.write_str("have others answered by messages that look like calls"),
            Self::System => f.write_str("send system messages, or what cannot be looked into"),
            Self::Function { module, function, arity } => {
                write!(f, "apply the function {module}:{function}")?;
                match arity {
                    Some(arity) => write!(f, "/{arity}"),
                    None => f.write_str(" to so much"),
                }
            }
            Self::Unknown => f.write_str("send anything but functions to apply to teleport_apply"),
        }
    }
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Message,
    Call,
    Monitor,
    Function,
}

impl What {
    pub(crate) const ALL: [Self; 4] = [Self::Message, Self::Call, Self::Monitor, Self::Function];

    /// As the value of a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Call => "call",
            Self::Monitor => "monitor",
            Self::Function => "function",
        }
    }
}

/// That something is not on the list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) what: What,
    /// What the peer may not do, in words.
    pub(crate) thing: String,
}

/// What one peer may do; not everything.
#[derive(Debug)]
pub(crate) struct Judge {
    permits: Arc<Permits>,
    pub(crate) only_logs: bool,
}

impl Judge {
    /// Why something may not come in. `applies`: it goes to the server that applies functions, by whatever destination.
    pub(crate) fn refuses(
        &self,
        kind: Kind,
        to: &Destination,
        applies: bool,
        body: &[u8],
    ) -> Option<Refusal> {
        let mut what = match kind {
            Kind::Data | Kind::Carried => What::Message,
            Kind::Request(_) => What::Call,
            Kind::Monitor(_) => What::Monitor,
            // What this node has asked for, or what takes back what was asked.
            Kind::Outcome | Kind::Reply(_) | Kind::Demonitor(_) | Kind::Down(_) | Kind::Reject(_) => {
                return None;
            }
        };
        let thing = match to {
            // Distributed Erlang has no lists.
            _ if kind == Kind::Carried => Thing::Pid,
            Destination::Name(name) if what == What::Monitor => Thing::Monitor(name),
            _ if applies && what != What::Monitor => {
                what = What::Function;
                applied(body).unwrap_or(Thing::Unknown)
            }
            Destination::Name(name) if **name != *ALIASES => Thing::Name(name),
            _ => Thing::Pid,
        };
        let refused = if kind == Kind::Carried || !self.permits.allows(&thing) {
            thing
        } else if matches!(what, What::Message | What::Call) && !self.permits.system && may_be_system(body) {
            Thing::System
        } else if kind == Kind::Data && !self.permits.pids && names_who_is_answered(body) {
            Thing::Others
        } else {
            return None;
        };
        Some(Refusal { what, thing: refused.to_string() })
    }
}

/// Whether a message is one of `sys` or an exit, or may be one, since it cannot be looked into.
fn may_be_system(body: &[u8]) -> bool {
    let Some(mut peek) = Peek::new(body) else { return true };
    // What has no first tokens is malformed, or too long a list, map or tuple for them to be counted: it is neither.
    while let Some(Seen::Tuple(_)) = peek.next() {
        match peek.next() {
            // A server takes the second for the end of its parent.
            Some(Seen::Atom(name)) if name == "system" || name == "EXIT" => return true,
            // It goes on to an alias: `{teleport_alias, Alias, Message}`.
            Some(Seen::Atom(name)) if name == ALIASES => match peek.skip() {
                Some(()) => {}
                None => return true,
            },
            _ => return false,
        }
    }
    false
}

/// Whether a message has a server of OTP's answer whom it names, which may be any process of this node. Calls do not come as messages:
/// who is answered them is known.
fn names_who_is_answered(body: &[u8]) -> bool {
    let Some(mut peek) = Peek::new(body) else { return false };
    matches!(peek.next(), Some(Seen::Tuple(_)))
        && matches!(peek.next(), Some(Seen::Atom(name)) if name == "$gen_call" || name == "io_request")
}

/// The function that a message to the server that applies them names: `{'$gen_call', From, {apply, Leader, Module, Function, Args}}`,
/// or the same as a cast.
fn applied(body: &[u8]) -> Option<Thing<'_>> {
    let mut peek = Peek::new(body)?;
    match (peek.next()?, peek.next()?) {
        (Seen::Tuple(3), Seen::Atom(kind)) if kind == "$gen_call" => peek.skip()?,
        (Seen::Tuple(2), Seen::Atom(kind)) if kind == "$gen_cast" => {}
        _ => return None,
    }
    match (peek.next()?, peek.next()?) {
        (Seen::Tuple(5), Seen::Atom(kind)) if kind == "apply" => peek.skip()?,
        _ => return None,
    }
    match (peek.next()?, peek.next()?) {
        (Seen::Atom(module), Seen::Atom(function)) => {
            Some(Thing::Function { module, function, arity: peek.list() })
        }
        _ => None,
    }
}

/// The list that holds now, if there is one, and how many there were before.
#[derive(Debug, Default)]
pub(crate) struct Current {
    generation: AtomicU64,
    list: SharedLock<Option<AllowList>>,
}

impl Current {
    /// Another one holds.
    pub(crate) fn set(&self, list: AllowList) {
        let mut current = self.list.write();
        *current = Some(list);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Which one it is: 0 if there is none.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Who judges what comes from that peer, and by which list. `None` if it may reach everything.
    pub(crate) fn judge(&self, peer: &NodeName) -> (u64, Option<Arc<Judge>>) {
        let list = self.list.read();
        (self.generation(), list.as_ref().and_then(|list| list.judge(peer)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;
    use teleport_etf::{Atom, Term, to_segments};
    use teleport_proto::wire::envelope::{ProcessId, RefId};

    fn judge(permits: Permits) -> Judge {
        Judge { permits: Arc::new(permits), only_logs: false }
    }

    fn body(term: &impl serde::Serialize) -> Vec<u8> {
        to_segments(term).unwrap().into_contiguous().to_vec()
    }

    fn atom(name: &'static str) -> Atom {
        Atom::from_static(name)
    }

    fn name(name: &str) -> Destination {
        Destination::Name(name.into())
    }

    #[test]
    fn patterns_match_whole_names() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        for (pattern, name) in [
            ("a@b", "a@b"),
            ("*", ""),
            ("*", "a@b"),
            ("a@*", "a@b"),
            ("*@b", "a@b"),
            ("a*b*c", "a-bb-b-c"),
            ("**a", "aa"),
            ("ä*", "äö"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("a@b", "a@bc"), ("a@b", "xa@b"), ("", "a"), ("a*b", "a-bc"), ("a@*", "b@a"), ("*a*a", "ba")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)), "in no time");
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_a_peer_without_one_may_reach_nothing() {
        let list = AllowList::new()
            .peer("a@b", Permits::none().name("first"))
            .peer("a@*", Permits::all())
            .peer("*@b", Permits::none().pids());
        let judge = |peer: &str| list.judge(&peer.parse().unwrap());
        let refuses = |peer: &str, to: &Destination| {
            let what = judge(peer).unwrap().refuses(Kind::Data, to, false, &body(&1));
            what.map(|refused| refused.what)
        };
        let pid = Destination::Process(ProcessId { id: 1, serial: 0 });
        assert_eq!(refuses("a@b", &name("first")), None);
        assert_eq!(refuses("a@b", &pid), Some(What::Message));
        assert!(judge("a@c").is_none());
        assert_eq!(refuses("c@b", &pid), None);
        assert_eq!(refuses("c@d", &name("first")), Some(What::Message));
    }

    #[test]
    fn names_monitors_and_pids_are_allowed_apart() {
        let reference = RefId::new(&[1]).unwrap();
        let pid = Destination::Process(ProcessId { id: 1, serial: 0 });
        let [message, call, monitor] = [Kind::Data, Kind::Request(reference), Kind::Monitor(reference)];
        let allowed = |permits: Permits, to: &Destination| {
            let judge = judge(permits);
            [message, call, monitor].map(|kind| judge.refuses(kind, to, false, &body(&1)).is_none())
        };
        assert_eq!(allowed(Permits::none(), &name("x")), [false; 3]);
        assert_eq!(allowed(Permits::none().name("x"), &name("x")), [true; 3]);
        assert_eq!(allowed(Permits::none().monitor("x"), &name("x")), [false, false, true]);
        assert_eq!(allowed(Permits::none().name("*").monitor("*"), &pid), [false; 3]);
        assert_eq!(allowed(Permits::none().pids(), &pid), [true; 3]);
        assert_eq!(allowed(Permits::none().name("*"), &name(ALIASES)), [false, false, true]);
        assert_eq!(allowed(Permits::none().pids(), &name(ALIASES)), [true, true, false]);
        let carried = judge(Permits::none().pids()).refuses(Kind::Carried, &pid, false, &[]);
        assert_eq!(carried.map(|refused| refused.what), Some(What::Message));
    }

    #[test]
    fn what_a_node_has_asked_for_always_comes() {
        let (judge, reference) = (judge(Permits::none()), RefId::new(&[1]).unwrap());
        for kind in [Kind::Reply, Kind::Down, Kind::Reject, Kind::Demonitor]
            .map(|kind: fn(RefId) -> Kind| kind(reference))
        {
            assert_eq!(judge.refuses(kind, &name("x"), false, &[]), None);
        }
        assert_eq!(judge.refuses(Kind::Outcome, &name("x"), false, &[]), None);
    }

    #[test]
    fn system_messages_need_leave_of_their_own() {
        let replace = body(&(atom("system"), Term::from(1), atom("get_state")));
        let compressed = [&[131, 80][..], &replace[1..]].concat();
        let (plain, with) = (judge(Permits::none().name("x")), judge(Permits::none().name("x").system()));
        let exit = body(&(atom("EXIT"), Term::from(1), atom("kill")));
        let to_alias =
            body(&(atom(ALIASES), Term::from(1), (atom("system"), Term::from(1), atom("get_state"))));
        for body in [&replace, &exit, &to_alias, &compressed, &vec![131, 121, 0, 0], &vec![]] {
            assert!(plain.refuses(Kind::Data, &name("x"), false, body).is_some(), "{body:?}");
            assert!(with.refuses(Kind::Data, &name("x"), false, body).is_none(), "{body:?}");
        }
        let long = vec![Term::from(1000); 100_000];
        let harmless = [body(&atom("system")), body(&("system", 1)), body(&(1, atom("system"))), body(&"x")];
        for body in
            harmless.into_iter().chain([body(&long), body(&(long.clone(), 1)), body(&(atom(ALIASES), 1, 2))])
        {
            assert!(plain.refuses(Kind::Data, &name("x"), false, &body).is_none(), "{body:?}");
        }
    }

    #[test]
    fn a_message_has_nobody_answered_who_may_not_be_reached() {
        let call = body(&(atom("$gen_call"), (atom("init"), atom("stop")), 1));
        let io = body(&(atom("io_request"), atom("init"), atom("stop"), 1));
        let request = Kind::Request(RefId::new(&[1]).unwrap());
        let plain = judge(Permits::none().name("x").system().apply("*", "*", None));
        for message in [&call, &io] {
            let refused = plain.refuses(Kind::Data, &name("x"), false, message).unwrap();
            assert!(refused.what == What::Message && refused.thing.contains("answered"), "{refused:?}");
            assert_eq!(plain.refuses(request, &name("x"), false, message), None);
            let with = judge(Permits::none().name("x").pids());
            assert_eq!(with.refuses(Kind::Data, &name("x"), false, message), None);
        }
        let apply = (atom("apply"), 0, atom("lists"), atom("sum"), vec![vec![1000]]);
        let apply = body(&(atom("$gen_call"), (atom("init"), atom("stop")), apply));
        assert!(plain.refuses(Kind::Data, &name(APPLIES), true, &apply).is_some());
        assert_eq!(plain.refuses(request, &name(APPLIES), true, &apply), None);
        let cast = body(&(atom("$gen_cast"), (atom("$gen_call"), (atom("init"), atom("stop")), 1)));
        assert_eq!(plain.refuses(Kind::Data, &name("x"), false, &cast), None);
    }

    #[test]
    fn functions_are_found_in_calls_and_casts_and_nothing_else_gets_to_who_applies_them() {
        let from = (Term::from(1), vec![Term::from(2); 3]);
        let apply = (atom("apply"), 0, atom("lists"), atom("sum"), vec![vec![1000]]);
        let call = body(&(atom("$gen_call"), from.clone(), apply.clone()));
        let cast = body(&(atom("$gen_cast"), apply.clone()));
        let refuses = |permits: Permits, body: &[u8]| {
            let kind =
                if body == call.as_slice() { Kind::Request(RefId::new(&[1]).unwrap()) } else { Kind::Data };
            judge(permits).refuses(kind, &name(APPLIES), true, body).map(|refused| refused.thing)
        };
        for body in [&call, &cast] {
            for permits in [
                Permits::none().apply("lists", "sum", Some(1)),
                Permits::none().apply("lists", "*", None),
                Permits::none().apply("other", "*", None).apply("*", "su*", None),
            ] {
                assert_eq!(refuses(permits, body), None);
            }
            for permits in [
                Permits::none().name("*").pids().system(),
                Permits::none().apply("lists", "sum", Some(2)),
                Permits::none().apply("os", "*", None).apply("lists", "sort", None),
            ] {
                assert_eq!(refuses(permits, body).unwrap(), "apply the function lists:sum/1");
            }
        }
        // A list may go on in its tail: [[[1000]] | [2]] is two arguments.
        let split = [&cast[..cast.len() - 1], &b"\x6c\0\0\0\x01\x61\x02\x6a"[..]].concat();
        let two = |arity| refuses(Permits::none().apply("lists", "sum", Some(arity)), &split);
        assert_eq!((two(1).unwrap(), two(2)), ("apply the function lists:sum/2".to_owned(), None));
        let (_, leader, module, function, args) = apply;
        let elsewhere = (atom("apply_at"), leader, atom("c@d"), module, function, args);
        for other in
            [body(&(atom("$gen_call"), from, elsewhere)), body(&(atom("system"), 1, 2)), vec![131, 80]]
        {
            let all = Permits::none().apply("*", "*", None).system().name("*");
            assert!(refuses(all, &other).unwrap().contains("teleport_apply"));
        }
    }
}
