//! The hand-off of a partition: a large file goes from one node to another in chunks, with a bounded number of them
//! under way, a progress bar and a checksum. What was stored stays stored: a hand-off that ends half way goes on where it
//! was, also when the receiver is killed and started again at its address. Broken connections are not even noticed.
//!
//! ```sh
//! cargo run --release --example handoff -- receive /tmp/store 127.0.0.1:4370    # port 0 takes any free one
//! cargo run --release --example handoff -- send 127.0.0.1:4370 7 large-file     # as partition 7
//! cargo run --release --example handoff -- send 127.0.0.1:4370 8 large-file 10  # breaks a connection every 10 chunks
//! ```
//!
//! `sender.rs` reads and sends, `store.rs` writes and verifies; here is what they say to each other.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod sender;
mod store;

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use store::Store;
use teleport::{Binary, Message, Node, Process};

const COOKIE: &str = "tG5xPq8LwZr2YkVd";
const RECEIVER: &str = "receiver@127.0.0.1";
/// The name that the receiver's store is registered under.
const STORE: &str = "store";

/// What the store is called with.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// A partition of this many bytes is to come: how much of it is there? Answered with [`Stored`].
    Begin { partition: u64, size: u64 },
    /// What is there is of no use: likewise, from nothing.
    Restart { partition: u64, size: u64 },
    /// That was all. Answered with [`Stored`] when it is verified and safe on the disk.
    Finish { partition: u64, sha256: Binary },
}

/// The first bytes of a partition, as many as were asked for, or why there are none.
type Reply = Result<Stored, String>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    bytes: u64,
    sha256: Binary,
}

/// A piece of a partition, sent without waiting for an answer.
#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    partition: u64,
    offset: u64,
    data: Binary,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", directory] => receive(directory, "127.0.0.1:0").await,
        ["receive", directory, address] => receive(directory, address).await,
        ["send", address, partition, file] => sender::run(address, partition, file, "0").await,
        ["send", address, partition, file, every] => sender::run(address, partition, file, every).await,
        _ => Err("usage: handoff receive <directory> [<address>] | \
                  handoff send <address> <partition> <file> [<break a connection every so many chunks>]"
            .into()),
    };
    result.map_or_else(failed, |()| ExitCode::SUCCESS)
}

async fn receive(directory: &str, address: &str) -> Result<(), Box<dyn Error>> {
    let mut store = Store::open(Path::new(directory))?;
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let node = Node::builder(RECEIVER).cookie(COOKIE).listen(address).start().await?;
    // Bounded: what the disk cannot take in time waits here up to `Config::mailbox_window`, then at the sender.
    let mut mailbox = node.register(STORE)?;
    println!("listening on {}", node.address());

    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        // Writing blocks this thread, which has nothing else to do: the node has threads of its own.
        tokio::select! {
            message = mailbox.recv() => {
                handle(&mut store, &mailbox.process(), &message.ok_or("the node has been shut down")?);
            }
            stop = &mut stop => { stop?; break }
        }
    }
    let _nothing_was_sent = node.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn handle(store: &mut Store, process: &Process, message: &Message) {
    let Some((caller, request)) = message.call() else {
        match message.decode::<Chunk>() {
            // A chunk that was not written is missed, and told, at the end.
            Ok(chunk) => {
                store.append(&chunk).unwrap_or_else(|error| eprintln!("a chunk was dropped: {error}"))
            }
            Err(error) => eprintln!("{} sent something else: {error}", message.from().node),
        }
        return;
    };
    let reply: Reply = match request.decode() {
        Ok(Request::Begin { partition, size }) => store.begin(partition, size),
        Ok(Request::Restart { partition, size }) => store.restart(partition, size),
        Ok(Request::Finish { partition, sha256 }) => {
            let stored = store.finish(partition, &sha256);
            stored.inspect(|stored| println!("partition {partition}: {} bytes, verified", stored.bytes))
        }
        Err(error) => return process.reject(&caller, &error.to_string()),
    }
    .map_err(|error| error.to_string());
    process.reply(&caller, &reply).unwrap_or_else(|error| eprintln!("no answer was sent: {error}"));
}

fn failed(error: Box<dyn Error>) -> ExitCode {
    eprintln!("handoff: {error}");
    ExitCode::FAILURE
}
