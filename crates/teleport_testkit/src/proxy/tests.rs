//! What the proxy does to connections, and what their ends see of it.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client and a server with a proxy between them that does as planned, in the client's direction.
async fn through(fault: Fault) -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    proxy.plan(move |_| Faults { to_server: fault, ..Faults::default() });
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"0123456789").await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (proxy, client, server)
}

async fn all(stream: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut bytes = Vec::new();
    let result = stream.read_to_end(&mut bytes).await;
    (bytes, result.err().map(|error| error.kind()))
}

#[tokio::test]
async fn whatever_passes_passes_both_ways_to_the_end() {
    for fault in [Fault::Pass, Fault::Drip { piece: 3, pause: Duration::from_millis(1) }] {
        let (proxy, mut client, mut server) = through(fault).await;
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(all(&mut client).await, (b"answer".to_vec(), None));
        client.shutdown().await.unwrap();
        assert_eq!(all(&mut server).await, (b"0123456789".to_vec(), None));
        assert_eq!((proxy.struck(), proxy.accepted()), (0, 1));
    }
}

#[tokio::test]
async fn a_cut_and_a_reset_end_both_sides_at_their_byte() {
    let (proxy, mut client, mut server) = through(Fault::Cut { at: 4 }).await;
    assert_eq!(all(&mut server).await.0, b"0123");
    assert_eq!(all(&mut client).await.0, b"");
    assert_eq!(proxy.struck(), 1);
    let (proxy, mut client, _server) = through(Fault::Reset { at: 4 }).await;
    assert_eq!(all(&mut client).await, (Vec::new(), Some(io::ErrorKind::ConnectionReset)));
    assert_eq!(proxy.struck(), 1);
}

#[tokio::test]
async fn a_half_close_leaves_the_other_direction() {
    let (_proxy, mut client, mut server) = through(Fault::HalfClose { at: 4 }).await;
    assert_eq!(all(&mut server).await, (b"0123".to_vec(), None));
    server.write_all(b"still here").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(all(&mut client).await, (b"still here".to_vec(), None));
}

#[tokio::test]
async fn a_flip_changes_one_bit() {
    let (_proxy, mut client, mut server) = through(Fault::Flip { at: 4, bit: 1 }).await;
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut server).await, (b"0123656789".to_vec(), None));
}

#[tokio::test]
async fn what_is_held_comes_after_the_release() {
    let (proxy, mut client, mut server) = through(Fault::Stall { at: 4 }).await;
    let mut start = [0; 4];
    server.read_exact(&mut start).await.unwrap();
    while proxy.struck() == 0 {
        tokio::task::yield_now().await;
    }
    let connection = proxy.connections().pop().unwrap();
    assert_eq!((connection.first(), connection.forwarded()), (&b"0123456789"[..], 4));
    connection.release();
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut server).await.0, b"456789");
}

#[tokio::test]
async fn living_connections_end_at_a_word() {
    let (proxy, mut client, mut server) = through(Fault::Pass).await;
    let mut start = [0; 10];
    server.read_exact(&mut start).await.unwrap();
    proxy.connections().pop().unwrap().reset();
    assert_eq!(all(&mut client).await.1, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(all(&mut server).await.1, Some(io::ErrorKind::ConnectionReset));
    assert_eq!((proxy.struck(), proxy.connections().len()), (1, 0));
}

#[tokio::test]
async fn random_cuts_are_those_of_their_seed() {
    let cuts = async |seed| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        proxy.plan_cuts(seed, |opening| opening.first.len() as u64);
        let mut received = Vec::new();
        for _ in 0..10 {
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            client.write_all(&[7; 50]).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            received.push(all(&mut server).await.0.len());
        }
        received
    };
    let (first, again, other) = (cuts(1).await, cuts(1).await, cuts(2).await);
    assert!(first.iter().all(|len| *len < 50));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[tokio::test]
async fn what_is_swallowed_goes_nowhere_and_nobody_is_told() {
    let (proxy, mut client, mut server) = through(Fault::Swallow { at: 4 }).await;
    let mut start = [0; 4];
    server.read_exact(&mut start).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    proxy.connections()[0].swallow();
    server.write_all(&[7; 1 << 20]).await.unwrap();
    client.write_all(&[7; 1 << 20]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut server).await, (Vec::new(), None));
    assert_eq!(proxy.connections()[0].forwarded(), 10);
}

#[tokio::test]
async fn a_door_that_is_shut_refuses_and_those_inside_go_on() {
    let (proxy, mut client, mut server) = through(Fault::Pass).await;
    for _ in 0..2 {
        proxy.shut().await;
        let error = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        client.write_all(b"on").await.unwrap();
        proxy.open().await;
        TcpStream::connect(proxy.address()).await.unwrap();
    }
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut server).await, (b"0123456789onon".to_vec(), None));
}
