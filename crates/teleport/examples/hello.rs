//! Two nodes, a greeting and an answer. The first one prints the address that the second one needs:
//!
//! ```sh
//! cargo run --example hello -- listen                         # in one terminal; Ctrl-C ends it
//! cargo run --example hello -- greet 127.0.0.1:<port>         # in another one, as often as you like
//! ```

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use teleport::{Address, Node, SendOptions, StaticPeers};

/// The secret that all nodes of a cluster share. A real one comes from a file that only its nodes can read.
const COOKIE: &str = "3mVbX0cU9rTqQwYf";
const LISTENER: &str = "listener@127.0.0.1";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen"] => listen().await,
        ["greet", address] => greet(address).await,
        _ => Err("usage: hello listen | hello greet <address>".into()),
    };
    result.map_or_else(failed, |()| ExitCode::SUCCESS)
}

async fn listen() -> Result<(), Box<dyn Error>> {
    // Without `listen(..)` a node takes any free port of the loopback interface.
    let node = Node::builder(LISTENER).cookie(COOKIE).start().await?;
    let mut greeter = node.register("greeter")?;
    println!("listening on {}", node.address());

    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let message = tokio::select! {
            message = greeter.recv() => message.ok_or("the node has been shut down")?,
            stop = &mut stop => { stop?; break }
        };
        // What a peer sends is of any type that it likes: a message that does not fit is no reason to end.
        match message.decode::<String>() {
            Ok(greeting) => {
                println!("{} says {greeting:?}", message.from().node.as_str());
                // `from` is the sender's pid; the answer goes by the session that is there. One visitor who is
                // gone, or does not read, must not hold up the others: an answer that would have to wait is left out.
                let answer = format!("{greeting} to you, too");
                let now = SendOptions::default().nosuspend();
                if let Err(error) = greeter.process().send_with(message.from(), &answer, now).await {
                    println!("no answer to {}: {error}", message.from().node.as_str());
                }
            }
            Err(error) => println!("{} sent no text: {error}", message.from().node.as_str()),
        }
    }
    // Sees to it that the last answers arrive.
    let report = node.shutdown(Duration::from_secs(5)).await;
    println!("bye; unconfirmed: {:?}", report.unconfirmed);
    Ok(())
}

async fn greet(address: &str) -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    // Only the node that sends first needs the other one's address. Names of nodes have to differ.
    let peers = StaticPeers::from_iter([(LISTENER.parse()?, address)]);
    let name = format!("visitor-{}@127.0.0.1", std::process::id());
    let node = Node::builder(&name).cookie(COOKIE).resolver(peers).start().await?;

    let mut visitor = node.mailbox()?;
    visitor.send(Address::try_from(("greeter", LISTENER))?, "hello").await?;
    let answer = tokio::time::timeout(Duration::from_secs(10), visitor.recv()).await;
    let answer = answer.map_err(|_| "no answer within 10 s")?.ok_or("the node has been shut down")?;
    println!("{} answers {:?}", answer.from().node.as_str(), answer.decode::<String>()?);
    // Confirms the answer and says goodbye. The listener might wait for us to come back without it.
    let _nothing_is_lost = node.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn failed(error: Box<dyn Error>) -> ExitCode {
    eprintln!("hello: {error}");
    ExitCode::FAILURE
}
