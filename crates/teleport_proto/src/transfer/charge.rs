//! What a message takes, and what comes back when it has been delivered.

use super::window::{Totals, class_of, cost};
use crate::wire::envelope::{AccountId, Head, Kind, Lane, ProcessId};
use crate::wire::pool::Class;
use bytes::Bytes;
use smallvec::SmallVec;

/// What one message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    account: AccountId,
    pub(crate) class: Class,
    pub(crate) lane: Lane,
    pub(crate) bytes: u64,
    /// An application sent it.
    is_message: bool,
    is_carried: bool,
    /// See [`is_answer`].
    is_answer: bool,
}

impl Charge {
    /// Of a message with such a body.
    pub(crate) fn of<'a>(head: &Head<'_>, len: u64, body: impl Iterator<Item = &'a Bytes>) -> Self {
        let &Head { account, kind, from, .. } = head;
        Self {
            account,
            class: class_of(len),
            lane: Lane::of(kind.is_exempt()),
            bytes: cost(len),
            is_message: kind.is_message(),
            is_carried: kind == Kind::Carried,
            is_answer: is_answer(kind, from, body),
        }
    }

    /// Of a small message that is [no more than a body](Kind::is_plain), of this length.
    pub(crate) fn of_plain(kind: Kind, account: AccountId, len: u64) -> Self {
        let (class, lane, bytes) = (Class::Express, Lane::Ordinary, cost(len));
        let is_carried = kind == Kind::Carried;
        Self { account, class, lane, bytes, is_message: true, is_carried, is_answer: false }
    }

    /// What it adds to what this side has answered by itself, in bytes.
    pub(crate) fn answers(self) -> u64 {
        if self.is_answer { self.bytes } else { 0 }
    }
}

/// The sums of what some messages have taken.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    /// Credit in bytes, for accounts and classes in turn.
    pub(crate) credit: SmallVec<[(AccountId, Class, u64); 2]>,
    pub(crate) ordinary: Totals,
    /// Of messages without credit.
    pub(crate) exempt: Totals,
    /// Messages of applications.
    pub(crate) messages: u64,
    /// Those of them that are carried.
    pub(crate) carried: u64,
    /// Bytes of what this side has answered by itself.
    pub(crate) answers: u64,
}

impl Returned {
    pub(crate) fn add(&mut self, charge: Charge) {
        let Charge { account, class, lane, bytes, .. } = charge;
        self.messages += u64::from(charge.is_message);
        self.carried += u64::from(charge.is_carried);
        self.answers += charge.answers();
        match lane {
            Lane::Exempt => self.exempt.add(class, bytes),
            Lane::Ordinary => {
                self.ordinary.add(class, bytes);
                self.credit(account, class, bytes);
            }
        }
    }

    /// Small messages that are [no more than a body](Kind::is_plain), and not carried.
    pub(crate) fn add_plain(&mut self, account: AccountId, messages: u64, bytes: u64) {
        self.messages += messages;
        self.ordinary.add(Class::Express, bytes);
        self.credit(account, Class::Express, bytes);
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.messages += other.messages;
        self.carried += other.carried;
        self.answers += other.answers;
        for class in [Class::Express, Class::Bulk] {
            self.ordinary.add(class, other.ordinary.of(class));
            self.exempt.add(class, other.exempt.of(class));
        }
        other.credit.into_iter().for_each(|(account, class, bytes)| self.credit(account, class, bytes));
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u64 {
        let Self { ordinary, exempt, .. } = self;
        ordinary.express + ordinary.bulk + exempt.express + exempt.bulk
    }

    fn credit(&mut self, account: AccountId, class: Class, bytes: u64) {
        match self.credit.last_mut() {
            Some((last, of, sum)) if (*last, *of) == (account, class) => *sum += bytes,
            _ => self.credit.push((account, class, bytes)),
        }
    }
}

/// Whether a node says that by itself, whatever its applications do: what became of an acknowledged message, that there is
/// nobody to be watched, and that a request is not let in. The peer alone decides how many there are. A host learns that a
/// process has ended before it was watched only from the end of that watch: the reason says so.
fn is_answer<'a>(kind: Kind, from: ProcessId, body: impl Iterator<Item = &'a Bytes>) -> bool {
    match kind {
        Kind::Outcome => true,
        Kind::Reject(_) => from == ProcessId::NOBODY,
        Kind::Down(_) => from == ProcessId::NOBODY || is_noproc(body),
        _ => false,
    }
}

/// The atom in either of its forms: Erlang/OTP 25 writes the first.
fn is_noproc<'a>(body: impl Iterator<Item = &'a Bytes>) -> bool {
    let forms: [&[u8]; 2] = [b"\x83\x64\x00\x06noproc", b"\x83\x77\x06noproc"];
    let bytes: SmallVec<[u8; 16]> =
        body.flat_map(|part| part.iter().copied()).take(forms[0].len() + 1).collect();
    forms.contains(&&bytes[..])
}
