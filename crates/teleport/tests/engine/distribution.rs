//! What a host takes of distributed Erlang itself: its connections, and messages of any size.

use crate::common::script::Script;
use crate::common::{COOKIE, MIB, start, within};
use crate::embed::pair;
use bytes::BytesMut;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use teleport::embed::{Close, Destination, Host, Inbound, Newcomer, ProcessId};
use teleport::{Config, Node, StaticPeers};
use teleport_proto::wire::control::{ControlFrame, Need, TransferFrame};
use teleport_proto::wire::envelope::Lane;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// A host that takes connections of distributed Erlang, and nothing else. With each goes something that ends when the node will
/// not close it any more: because it has, or because it knows by then who that is.
struct Carrier(mpsc::UnboundedSender<(std::net::TcpStream, Newcomer, oneshot::Receiver<()>)>);

impl Host for Carrier {
    fn find(&self, _: &Destination) -> Option<ProcessId> {
        None
    }

    fn take(&self, _: Inbound) {}

    fn takes_distribution(&self) -> bool {
        true
    }

    fn distribution(&self, connection: std::net::TcpStream, newcomer: Newcomer) -> Option<Close> {
        let closed = connection.try_clone().unwrap();
        let (kept, over) = oneshot::channel();
        let _ = self.0.send((connection, newcomer, over));
        Some(Box::new(move || drop((kept, closed.shutdown(Shutdown::Both)))))
    }
}

#[tokio::test]
async fn what_begins_like_distributed_erlang_goes_to_the_host_with_nothing_read() {
    let (sender, mut connections) = mpsc::unbounded_channel();
    let peers = StaticPeers::new();
    let builder = Node::builder("carrier@127.0.0.1").cookie(COOKIE).resolver(peers.clone());
    let node = builder.embed(Arc::new(Carrier(sender))).await.unwrap();
    peers.insert(node.name().clone(), node.address());
    let mut stranger = TcpStream::connect(node.address()).await.unwrap();
    // Its length may come alone.
    stranger.write_all(b"\0\x15").await.unwrap();
    stranger.write_all(b"N-and-the-rest").await.unwrap();
    let (connection, _newcomer, _over) = within(connections.recv()).await.unwrap();
    let mut connection = TcpStream::from_std(connection).unwrap();
    let mut said = [0; 16];
    within(connection.read_exact(&mut said)).await.unwrap();
    assert_eq!(&said, b"\0\x15N-and-the-rest");
    connection.write_all(b"ok").await.unwrap();
    within(stranger.read_exact(&mut said[..2])).await.unwrap();
    assert_eq!(&said[..2], b"ok");
    // A node is none of those, and what is neither is refused.
    let other = start("rust@127.0.0.1", &peers).await;
    within(other.prime(node.name())).await.unwrap();
    let mut web = TcpStream::connect(node.address()).await.unwrap();
    web.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(within(web.read(&mut said)).await, Ok(0) | Err(_)));
    assert!(connections.try_recv().is_err());
}

/// They are strangers until their handshake is over, however they begin.
#[tokio::test]
async fn connections_of_distributed_erlang_make_room_until_they_have_proved_themselves() {
    let (sender, mut connections) = mpsc::unbounded_channel();
    let builder = Node::builder("carrier@127.0.0.1").cookie(COOKIE).resolver(StaticPeers::new());
    let mut config = Config::default();
    config.max_handshakes = 4;
    let node = builder.config(config).embed(Arc::new(Carrier(sender))).await.unwrap();
    let mut connect = async || {
        let mut stranger = TcpStream::connect(node.address()).await.unwrap();
        stranger.write_all(b"\0\x15N").await.unwrap();
        (stranger, within(connections.recv()).await.unwrap())
    };
    let (mut member, (_held, newcomer, over)) = connect().await;
    newcomer.proved();
    within(over).await.unwrap_err(); // the node has come to it
    let mut strangers = Vec::new();
    for _ in 0..12 {
        strangers.push(connect().await);
    }
    // One has made room for each beyond the fourth, and those that have are closed.
    let mut closed = 0;
    for _ in 0..1000 {
        closed = 0;
        for (stranger, _) in &mut strangers {
            let read = tokio::time::timeout(Duration::from_millis(10), stranger.read(&mut [0])).await;
            closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
        }
        if closed >= 8 {
            break;
        }
    }
    assert_eq!(closed, 8);
    assert!(tokio::time::timeout(Duration::from_millis(10), member.read(&mut [0])).await.is_err());
}

#[tokio::test]
async fn a_host_that_takes_no_distribution_is_handed_none() {
    let (hosted, _node) = pair().await;
    let mut stranger = TcpStream::connect(hosted.node.address()).await.unwrap();
    stranger.write_all(b"\0\x15N").await.unwrap();
    let mut said = [0; 1];
    assert!(matches!(within(stranger.read(&mut said)).await, Ok(0) | Err(_)));
}

/// What is carried has any size; a node that is carried nothing has no use for it.
#[tokio::test]
async fn a_peer_of_a_host_that_is_carried_nothing_is_granted_no_more_than_a_message() {
    let (hosted, _node) = pair().await;
    let mut script = Script::new("x@127.0.0.1", hosted.node.name(), hosted.node.address());
    let (mut control, _) = script.session().await;
    let all = Need { needed: 1 << 40, wanted: 1 << 40, waived: 0 };
    let needed = TransferFrame::Needed { lane: Lane::Ordinary, express: Need::default(), bulk: all };
    let (mut said, mut received) = (BytesMut::new(), BytesMut::new());
    ControlFrame::Transfer(needed).encode(&mut said);
    control.write_all(&said).await.unwrap();
    let largest = teleport::Config::default().max_message.get();
    loop {
        while let Some(frame) = ControlFrame::decode(&mut received).unwrap() {
            if let ControlFrame::Transfer(TransferFrame::Granted { lane: Lane::Ordinary, bulk, .. }) = frame {
                assert!(bulk < largest + 128 * MIB as u64, "{bulk} bytes are granted");
                if bulk > largest {
                    return;
                }
            }
        }
        assert_ne!(within(control.read_buf(&mut received)).await.unwrap(), 0, "control was closed");
    }
}
