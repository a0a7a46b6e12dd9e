//! A peer that follows the layouts and none of the rules: whatever it says, in whatever state, nothing panics, and what is
//! refused changes nothing.

use super::misbehaviour::{FRAGMENT, at, batch, fragment, transfer_frames};
use super::support::{LARGE, WINDOW, config, machine, message, process, receive, reference};
use bytes::BytesMut;
use proptest::prelude::*;
use teleport_proto::transfer::{
    Action, Credit, Delivery, Disposition, Outgoing, ReceiveError, Region, Sink, Ticket, Transfer,
};
use teleport_proto::wire::control::TransferFrame;
use teleport_proto::wire::envelope::{Destination, Envelope, Kind, Seq};
use teleport_proto::wire::pool::{Class, FRAGMENT_HEADER_LEN, FragmentHeader};

/// What happens to the machine. Connections are numbers from 1 to 6, express if odd.
#[derive(Debug, Clone)]
enum Step {
    /// By this side.
    Send {
        kind: Kind,
        len: usize,
        acknowledge: bool,
    },
    Cancel,
    Write(u64),
    Retire(u64),
    StopReading(u64),
    Up(u64),
    Resume,
    Speak,
    Consume,
    Finish(Disposition),
    /// By the peer.
    Control(TransferFrame),
    /// Behind what has come, or with room for some messages between.
    Batch {
        connection: u64,
        skipped: u64,
        messages: Vec<(Envelope, usize)>,
    },
    /// `begun`: only its header comes.
    Fragment {
        connection: u64,
        envelope: Envelope,
        total: u64,
        index: u32,
        begun: bool,
    },
    /// The rest of a fragment that has begun.
    Fill,
}

fn kinds() -> impl Strategy<Value = Kind> {
    (0..8, 0u32..3).prop_map(|(code, word)| match code {
        0..3 => Kind::Data,
        3 => Kind::Request(reference(word)),
        4 => Kind::Down(reference(word)),
        5 => Kind::Outcome,
        _ => Kind::Reply(reference(word)),
    })
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    (1u64..14, prop::option::of(1u64..6), 0u64..4, kinds(), any::<bool>(), 0u32..3).prop_map(
        |(seq, distance, account, kind, acknowledge, to)| Envelope {
            seq,
            behind_all: acknowledge && seq % 3 == 0,
            predecessor: distance.filter(|&distance| distance < seq).map(|distance| seq - distance),
            account,
            kind,
            acknowledge,
            from: process(1),
            to: Destination::Process(process(to)),
        },
    )
}

/// Costs of whole messages, so that a count may be right, in part or as a sum.
fn counts() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), (1u64..4).prop_map(|n| n * 158), (1u64..4).prop_map(|n| n * (LARGE as u64 + 128))]
}

fn control_frames() -> impl Strategy<Value = TransferFrame> {
    let small = || 0u64..7;
    prop_oneof![
        (small(), small()).prop_map(|(connection, frames)| TransferFrame::Received { connection, frames }),
        (0u64..14, prop::collection::vec((2u64..4, 0u64..3), 0..3)).prop_map(|(watermark, gaps)| {
            let mut last = watermark;
            let above = gaps.into_iter().map(|(gap, len)| {
                let first = last + gap;
                last = first + len;
                (first, last)
            });
            TransferFrame::Delivered { watermark, above: above.collect() }
        }),
        (small(), counts(), counts()).prop_map(|(account, express, bulk)| TransferFrame::Consumed {
            account,
            express,
            bulk
        }),
        (small(), small()).prop_map(|(connection, frames)| TransferFrame::Retired { connection, frames }),
        small().prop_map(|connection| TransferFrame::RetireUnknown { connection }),
        transfer_frames(),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let connection = || 1u64..7;
    // Those of 300 KiB fill what there is of windows after three.
    let lens = prop_oneof![Just(30usize), Just(60_000), Just(LARGE), Just(300 * 1024)];
    let ends =
        prop_oneof![Just(Disposition::Consumed), Just(Disposition::Delivered), Just(Disposition::NoProcess)];
    let received = prop::collection::vec((envelopes(), prop_oneof![Just(0usize), Just(9), Just(300)]), 1..4);
    let totals = prop_oneof![Just(9u64), Just(40_000), Just(LARGE as u64), Just(WINDOW)];
    prop_oneof![
        6 => (kinds(), lens, any::<bool>())
            .prop_map(|(kind, len, acknowledge)| Step::Send { kind, len, acknowledge }),
        1 => Just(Step::Cancel),
        6 => connection().prop_map(Step::Write),
        1 => connection().prop_map(Step::Retire),
        1 => connection().prop_map(Step::StopReading),
        1 => connection().prop_map(Step::Up),
        1 => Just(Step::Resume),
        2 => Just(Step::Speak),
        1 => Just(Step::Consume),
        1 => ends.prop_map(Step::Finish),
        6 => control_frames().prop_map(Step::Control),
        4 => (connection(), prop_oneof![6 => Just(0u64), 1 => 0..9u64], received)
            .prop_map(|(connection, skipped, messages)| Step::Batch { connection, skipped, messages }),
        2 => Just(Step::Fill),
        4 => (connection(), envelopes(), totals, 0u32..3, any::<bool>()).prop_map(
            |(connection, envelope, total, index, begun)| Step::Fragment { connection, envelope, total, index, begun }
        ),
    ]
}

/// Takes messages in every way that there is.
#[derive(Default)]
struct Taker {
    taken: usize,
    deferred: Vec<Seq>,
    credits: Vec<Credit>,
}

impl Sink for Taker {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        self.taken += 1;
        match self.taken % 4 {
            0 => Disposition::NoProcess,
            1 if delivery.credit.class == Class::Bulk => {
                self.deferred.push(delivery.seq);
                Disposition::Deferred
            }
            2 => Disposition::Consumed,
            _ => {
                self.credits.push(delivery.credit);
                Disposition::Delivered
            }
        }
    }
}

struct Victim {
    transfer: Transfer,
    taker: Taker,
    regions: Vec<(u64, Region)>,
    tickets: Vec<Ticket>,
    /// Small messages that have been received.
    position: u64,
}

fn class(connection: u64) -> Class {
    if connection % 2 == 1 { Class::Express } else { Class::Bulk }
}

impl Victim {
    fn new(dialler: bool) -> Self {
        let mut transfer = machine(config(dialler));
        transfer.prime();
        let (taker, regions, tickets) = (Taker::default(), Vec::new(), Vec::new());
        let mut victim = Self { transfer, taker, regions, tickets, position: 0 };
        victim.open();
        if !dialler {
            (1..5)
                .for_each(|connection| assert!(victim.transfer.connection_up(connection, class(connection))));
        }
        victim
    }

    fn open(&mut self) {
        while let Some((id, class)) = self.transfer.next_join() {
            assert!(self.transfer.connection_up(id, class));
        }
    }

    fn take(&mut self, step: Step) -> Result<(), ReceiveError> {
        let Self { transfer, taker, regions, tickets, position } = self;
        match step {
            Step::Send { kind, len, acknowledge } => {
                let acknowledge = acknowledge.then_some(1);
                let sent = transfer.send(Outgoing { kind, acknowledge, ..message(1, len as u32 % 3, len) });
                if let Ok(teleport_proto::transfer::Sent::Waiting(ticket)) = sent {
                    tickets.push(ticket);
                }
            }
            Step::Cancel => drop(tickets.pop().map(|ticket| transfer.cancel(ticket))),
            Step::Write(connection) => drop(transfer.next_frame(connection)),
            Step::Retire(connection) => transfer.retire(connection),
            Step::StopReading(connection) => {
                let at = regions.iter().position(|(by, _)| *by == connection);
                transfer.reader_stopped(connection, at.map(|at| regions.swap_remove(at).1));
            }
            Step::Up(connection) => drop(transfer.connection_up(connection, class(connection))),
            Step::Resume => transfer.control_up(),
            Step::Speak => transfer.take_control(&mut BytesMut::new()),
            Step::Consume => drop(taker.credits.pop().map(|credit| transfer.consumed(credit))),
            Step::Finish(end) => {
                if let Some(seq) = taker.deferred.pop() {
                    transfer.finish_delivery(seq, end, taker)?;
                }
            }
            Step::Control(frame) => {
                let before = transfer.stats();
                let result = transfer.control(frame.clone());
                if result.is_err() && matches!(frame, TransferFrame::Delivered { .. }) {
                    assert_eq!(transfer.stats(), before);
                }
                result?;
            }
            Step::Batch { connection, skipped, messages } => {
                let frame = at(*position + skipped, batch(&messages));
                *position += if skipped == 0 && transfer.frames_in_flight(connection).is_some() {
                    messages.len() as u64
                } else {
                    0
                };
                receive(transfer, connection, Class::Express, &frame, taker)?;
            }
            Step::Fragment { connection, envelope, total, index, begun } => {
                let index = if u64::from(index) * u64::from(FRAGMENT) < total { index } else { 0 };
                let frame = fragment(&envelope, total, index);
                if !begun {
                    return receive(transfer, connection, Class::Bulk, &frame, taker);
                }
                let (fixed, rest) = frame.split_first_chunk::<FRAGMENT_HEADER_LEN>().expect("a header");
                let header = FragmentHeader::decode(fixed).expect("a good header");
                let head = &rest[..header.envelope_len.into()];
                let region = transfer.begin_fragment(connection, &header, head)?;
                regions.extend(region.map(|region| (connection, region)));
            }
            Step::Fill => {
                if let Some((connection, mut region)) = regions.pop() {
                    let missing = region.missing();
                    region.buffer().put_bytes(7, missing);
                    transfer.end_fragment(connection, region, taker)?;
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames_that_follow_no_rule_never_panic(dialler: bool, steps in prop::collection::vec(steps(), 1..120)) {
        let mut victim = Victim::new(dialler);
        for step in steps {
            match victim.take(step) {
                // The session ends, and what has come by then may still be under way.
                Err(ReceiveError::Session(_)) => break,
                Ok(()) | Err(ReceiveError::Connection(_)) => {}
            }
            while let Some(action) = victim.transfer.poll_action() {
                if let Action::Close(_) = action {
                    victim.open();
                }
            }
        }
        let unconfirmed = victim.transfer.stats().unconfirmed;
        prop_assert_eq!(victim.transfer.ending().unconfirmed, unconfirmed);
    }
}
