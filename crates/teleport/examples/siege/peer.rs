//! A peer that follows the protocol as far as it has to, and is otherwise told frame by frame what to send.

use super::{COOKIE, Result};
use bytes::{BufMut, BytesMut};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use teleport::NodeName;
use teleport_proto::Incarnation;
use teleport_proto::handshake::{
    CHALLENGE_LEN, Cookie, Dialler, Established, Limits, LocalNode, NONCE_LEN, Opening, VERDICT_LEN,
};
use teleport_proto::wire::control::{ControlFrame, Need, TransferFrame};
use teleport_proto::wire::envelope::{Destination, Envelope, Kind, Lane, ProcessId};
use teleport_proto::wire::pool::Class;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Where it comes from: not from where the honest ones do.
const SOURCE: &str = "127.0.0.2:0";

const FRAGMENT: u64 = 1 << 20;

/// Messages in the one and in the other window of the peer: those that take credit, and those that do not.
pub(crate) const LANES: [bool; 2] = [false, true];

/// What the peer takes, and how much of it has been used.
#[derive(Default)]
struct Credit {
    granted: [[AtomicU64; 2]; 2],
    used: [[AtomicU64; 2]; 2],
}

/// A session.
pub(crate) struct Peer {
    local: LocalNode,
    node: NodeName,
    address: SocketAddr,
    session: Established,
    credit: Arc<Credit>,
    connections: AtomicU64,
    seq: AtomicU64,
    /// Small messages that have been sent.
    position: AtomicU64,
    reference: AtomicU32,
    ended: Arc<AtomicBool>,
}

/// A message to be sent.
pub(crate) struct Message<'a> {
    pub(crate) to: &'a str,
    pub(crate) kind: Kind,
    pub(crate) acknowledge: bool,
    pub(crate) account: u64,
    /// It says that it comes behind one that never comes.
    pub(crate) held: bool,
}

impl Peer {
    /// Opens a session under that name.
    ///
    /// It says that it needs this many bytes more, of each kind, whatever it is granted; and grants so many itself.
    pub(crate) async fn open(
        name: &str,
        node: &NodeName,
        address: SocketAddr,
        needs: u64,
        grants: u64,
    ) -> Result<Self> {
        let most = NonZeroU64::new(1 << 30).ok_or("not 0")?;
        let limits = Limits { max_message: most, peer_window: most, mailbox_window: None };
        let incarnation = Incarnation::new(77).ok_or("not 0")?;
        let local = LocalNode { name: name.parse()?, incarnation, features: 0, limits };
        let cookie = Cookie::new(COOKIE.as_bytes())?;
        let (control, session) =
            connect(&local, node, address, Opening::NewSession { cookie, dial: 1 }).await?;
        let (credit, ended) = (Arc::<Credit>::default(), Arc::<AtomicBool>::default());
        for lane in &credit.granted {
            lane[0].store(64 * 1024 + 128, Ordering::Relaxed); // what everybody has
        }
        tokio::spawn(keep_up(control, credit.clone(), needs, grants, ended.clone()));
        Ok(Self {
            local,
            node: node.clone(),
            address,
            session,
            credit,
            connections: AtomicU64::new(0),
            seq: AtomicU64::new(1),
            position: AtomicU64::new(0),
            reference: AtomicU32::new(1),
            ended,
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.local.name.as_str()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// One more connection of its pool.
    pub(crate) async fn join(&self, class: Class) -> Result<TcpStream> {
        let (session, key) = (self.session.session, self.session.key.clone());
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let opening = match class {
            Class::Express => Opening::Express { session, key, connection },
            Class::Bulk => Opening::Bulk { session, key, connection },
        };
        Ok(connect(&self.local, &self.node, self.address, opening).await?.0)
    }

    /// What it may still have under way.
    pub(crate) fn room(&self, exempt: bool, class: Class) -> u64 {
        let at = |totals: &[[AtomicU64; 2]; 2]| {
            totals[usize::from(exempt)][usize::from(class == Class::Bulk)].load(Ordering::Relaxed)
        };
        at(&self.credit.granted).saturating_sub(at(&self.credit.used))
    }

    fn spend(&self, exempt: bool, class: Class, bytes: u64) {
        self.credit.used[usize::from(exempt)][usize::from(class == Class::Bulk)]
            .fetch_add(bytes, Ordering::Relaxed);
    }

    /// A reference that it has not used yet.
    pub(crate) fn reference(&self) -> u32 {
        self.reference.fetch_add(1, Ordering::Relaxed)
    }

    /// Appends the envelope of the next message.
    fn envelope(&self, message: &Message<'_>, out: &mut BytesMut) -> u64 {
        let Message { to, kind, acknowledge, account, held } = *message;
        let seq = self.seq.fetch_add(2, Ordering::Relaxed) + 1;
        let predecessor = held.then_some(seq - 1);
        let (from, to) = (ProcessId { id: 1, serial: 0 }, Destination::Name(to.into()));
        Envelope { seq, predecessor, behind_all: false, account, kind, acknowledge, from, to }.encode(out);
        seq
    }

    /// A batch of this many such messages.
    pub(crate) fn batch(&self, count: u16, body: &[u8], message: impl Fn() -> Message<'static>) -> BytesMut {
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        frame.put_slice(&[1, 0]);
        frame.put_u16(count);
        frame.put_u64(self.position.fetch_add(count.into(), Ordering::Relaxed));
        for _ in 0..count {
            let message = message();
            self.envelope(&message, &mut frame);
            let mut rest = body.len();
            while rest >= 0x80 {
                frame.put_u8(rest as u8 | 0x80);
                rest >>= 7;
            }
            frame.put_u8(rest as u8);
            frame.put_slice(body);
            self.spend(message.kind.is_exempt(), Class::Express, body.len() as u64 + 128);
        }
        let len = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        frame
    }

    /// Sends a large message, or all of it but the last fragment.
    pub(crate) async fn large(
        &self,
        bulk: &mut TcpStream,
        body: &[u8],
        whole: bool,
        message: Message<'_>,
    ) -> Result<u64> {
        let (total, exempt) = (body.len() as u64, message.kind.is_exempt());
        self.spend(exempt, Class::Bulk, total + 128);
        let mut envelope = BytesMut::new();
        let seq = self.envelope(&message, &mut envelope);
        let size = if total > FRAGMENT { FRAGMENT } else { 16 * 1024 };
        let fragments = total.div_ceil(size);
        let mut sent = 0;
        for index in 0..fragments - u64::from(!whole) {
            let data = &body[(index * size) as usize..((index + 1) * size).min(total) as usize];
            let envelope = if index == 0 { &envelope[..] } else { &[] };
            let mut head = BytesMut::new();
            head.put_u32((28 + envelope.len() + data.len()) as u32);
            head.put_slice(&[2, exempt.into()]);
            head.put_u16(envelope.len() as u16);
            head.put_u64(seq);
            head.put_u64(total);
            head.put_u32(size as u32);
            head.put_u32(index as u32);
            head.put_slice(envelope);
            sent += write(bulk, &head).await? + write(bulk, data).await?;
        }
        Ok(sent)
    }
}

/// Writes all of it, if it is taken within some seconds.
pub(crate) async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<u64> {
    tokio::time::timeout(Duration::from_secs(5), stream.write_all(bytes)).await??;
    Ok(bytes.len() as u64)
}

async fn connect(
    local: &LocalNode,
    node: &NodeName,
    address: SocketAddr,
    opening: Opening,
) -> Result<(TcpStream, Established)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SOURCE.parse()?)?;
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let nonce = std::array::from_fn::<u8, NONCE_LEN, _>(|i| i as u8);
    let (dialler, hello) = Dialler::new(local, node, opening, &[], nonce)?;
    stream.write_all(&hello).await?;
    let mut challenge = [0; CHALLENGE_LEN];
    stream.read_exact(&mut challenge).await?;
    let (dialler, proof) = dialler.challenge(&challenge)?;
    stream.write_all(&proof).await?;
    let mut verdict = [0; VERDICT_LEN];
    stream.read_exact(&mut verdict).await?;
    Ok((stream, dialler.verdict(&verdict)?))
}

/// Answers ticks, notes what is granted and asks for more, until the session ends. It acknowledges nothing.
async fn keep_up(
    mut control: TcpStream,
    credit: Arc<Credit>,
    needs: u64,
    grants: u64,
    ended: Arc<AtomicBool>,
) {
    let mut received = BytesMut::new();
    let mut again = tokio::time::interval(Duration::from_millis(500));
    loop {
        let mut said = BytesMut::new();
        while let Ok(Some(frame)) = ControlFrame::decode(&mut received) {
            match frame {
                ControlFrame::Tick(number) => ControlFrame::TickAnswer(number).encode(&mut said),
                ControlFrame::Transfer(TransferFrame::Granted { lane, express, bulk }) => {
                    let granted = &credit.granted[usize::from(lane == Lane::Exempt)];
                    granted[0].fetch_max(express, Ordering::Relaxed);
                    granted[1].fetch_max(bulk, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        if !said.is_empty() && control.write_all(&said).await.is_err() {
            break;
        }
        tokio::select! {
            read = control.read_buf(&mut received) => if !matches!(read, Ok(1..)) { break },
            _ = again.tick() => {
                let mut said = BytesMut::new();
                for (lane, granted) in [Lane::Ordinary, Lane::Exempt].into_iter().zip(&credit.granted) {
                    let [express, bulk] = [&granted[0], &granted[1]].map(|granted| {
                        let needed = granted.load(Ordering::Relaxed) + needs;
                        Need { needed, wanted: needed, waived: 0 }
                    });
                    ControlFrame::Transfer(TransferFrame::Needed { lane, express, bulk }).encode(&mut said);
                    if grants > 0 {
                        let granted = TransferFrame::Granted { lane, express: grants, bulk: grants };
                        ControlFrame::Transfer(granted).encode(&mut said);
                    }
                }
                if control.write_all(&said).await.is_err() {
                    break;
                }
            }
        }
    }
    ended.store(true, Ordering::Relaxed);
}
