//! What the state machines of a thousand sessions take, measured by the allocator.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of transfer")]
#[path = "transfer/support.rs"]
mod support;

use std::time::Duration;

use support::{Mailboxes, Two, joined, message, receive};
use teleport_proto::absence::Absence;
use teleport_proto::handshake::{ConnectionKind, Request};
use teleport_proto::liveness::{Config, Liveness};
use teleport_proto::membership::{Backoff, Circumstances, Membership};
use teleport_proto::transfer::{Transfer, TransferConfig};
use teleport_proto::wire::pool::Class;
use teleport_proto::{ConnectionId, Incarnation, SessionId, Time};

/// Counts what is allocated.
mod counting {
    #![allow(unsafe_code, reason = "an allocator is")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    static NOW: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: everything is left to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            NOW.fetch_add(layout.size(), SeqCst);
            // SAFETY: the caller keeps what it has to.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            NOW.fetch_sub(layout.size(), SeqCst);
            // SAFETY: as above.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    /// Bytes that are allocated.
    pub(super) fn now() -> usize {
        NOW.load(SeqCst)
    }
}

const PEERS: u32 = 1000;

/// A quarter more than was measured on a 64-bit machine: 13,177 idle, after it was active, and 13,369 active. Before its first message a
/// session takes 4,961.
const MOST_BEGUN: usize = 6_100;
const MOST_IDLE: usize = 16_400;
const MOST_ACTIVE: usize = 16_600;

/// What a node has for all its peers together, but for messages.
struct Machines {
    membership: Membership,
    liveness: Vec<Liveness>,
    absence: Vec<Absence>,
    /// Both ends of each session.
    transfer: Vec<Two>,
    express: Vec<ConnectionId>,
}

/// The defaults of the product.
fn config(dialler: bool) -> TransferConfig {
    const MIB: u64 = 1 << 20;
    TransferConfig {
        dialler,
        max_message: 1024 * MIB,
        send_window: 64 * MIB,
        receive_window: 64 * MIB,
        mailbox_window: Some(16 * MIB),
        own_mailbox_window: Some(16 * MIB),
        fragment_size: MIB as u32,
        express_connections: 1,
        bulk_connections: 1,
        most_bulk_connections: 8,
    }
}

impl Machines {
    fn new() -> Self {
        let patience = Duration::from_secs(7);
        let mut membership = Membership::new("hub@host".parse().unwrap(), Backoff::default(), patience);
        for peer in 1..=PEERS {
            let request = Request {
                peer: format!("some_node_{peer}@host{peer}.example.com").parse().unwrap(),
                peer_incarnation: Incarnation::new(peer).unwrap(),
                kind: ConnectionKind::NewSession,
                session: SessionId::new(u128::from(peer).to_be_bytes()).unwrap(),
                connection: 1,
            };
            let asked = membership.begun();
            let circumstances = Circumstances { now: Time::ZERO, asked, linked: false, room: true };
            assert!(membership.inbound(&request, circumstances).verdict.is_ok());
        }
        let all = || 0..PEERS;
        let mut transfer: Vec<_> = all().map(|_| Two::with(config)).collect();
        Self {
            membership,
            liveness: all().map(|_| Liveness::new(Config::default(), Time::ZERO)).collect(),
            absence: all().map(|_| Absence::default()).collect(),
            express: transfer.iter_mut().map(|two| two.open().0).collect(),
            transfer,
        }
    }

    /// Each end of each session has sent the other some messages, of some pairs; they have arrived, and nobody has said so.
    fn send(&mut self, messages: u32, pairs: u32) {
        for (two, &express) in self.transfer.iter_mut().zip(&self.express) {
            for pair in (0..messages).map(|i| i % pairs) {
                two.sender.send(message(pair, 100 + pair, 100)).unwrap();
                two.receiver.send(message(pair, 100 + pair, 100)).unwrap();
            }
            carry(&mut two.sender, &mut two.receiver, express);
            carry(&mut two.receiver, &mut two.sender, express);
        }
        for liveness in &mut self.liveness {
            let due = liveness.next_deadline();
            assert_eq!(liveness.poll(due, due, due).len(), 1);
        }
    }

    /// All is acknowledged and answered.
    fn settle(&mut self) {
        self.transfer.iter_mut().for_each(|two| two.talk().unwrap());
        self.transfer.iter_mut().for_each(|two| two.actions = Vec::new());
        for liveness in &mut self.liveness {
            let now = liveness.next_deadline();
            assert!(liveness.tick_answered(1, now).is_some());
        }
    }
}

fn carry(from: &mut Transfer, to: &mut Transfer, express: ConnectionId) {
    while let Some(frame) = from.next_frame(express) {
        // What is dropped here is consumed.
        receive(to, express, Class::Express, &joined(frame), &mut Mailboxes::default()).unwrap();
    }
}

#[test]
fn a_thousand_sessions_take_some_13_kib_each() {
    let begin = counting::now();
    let mut machines = Machines::new();
    let since = |before: usize| counting::now() - before;
    let begun = since(begin);
    machines.send(8, 4);
    let active = since(begin);
    machines.settle();
    let idle = since(begin);
    assert_eq!(machines.membership.sessions().count(), PEERS as usize);
    assert_eq!(machines.absence.len(), PEERS as usize);

    // Of a session there are both ends, and of the rest what one node has.
    let before = counting::now();
    drop(std::mem::take(&mut machines.transfer));
    let transfer = before - counting::now();
    let rest = idle - transfer;
    let [begun, active, idle] = [begun, active, idle].map(|all| ((all - rest) / 2 + rest) / PEERS as usize);
    println!(
        "bytes per session: {begun} begun, {active} active, {idle} idle, of which {} are not of Transfer",
        rest / PEERS as usize
    );
    assert!(begun <= MOST_BEGUN, "{begun} bytes per session that has carried nothing");
    assert!(idle <= MOST_IDLE, "{idle} bytes per idle session");
    assert!(active <= MOST_ACTIVE, "{active} bytes per active session");
    assert!(idle <= active, "{active} bytes in use, {idle} afterwards");
}
