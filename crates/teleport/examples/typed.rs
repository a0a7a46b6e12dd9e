//! Typed messages: enums and structs by serde, bytes as `Binary`, a `Term` for what has no type of its own; and what an
//! Erlang process would see of them. It runs by itself:
//!
//! ```sh
//! cargo run --example typed
//! ```

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use serde::{Deserialize, Serialize};
use std::error::Error;
use teleport::{Atom, Binary, Mailbox, Node, StaticPeers, Term};

const COOKIE: &str = "pZ7t2LwQx9cVbN4k";

/// What the store takes. Variants become atoms or tuples that begin with one, structs become maps.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// `flush`
    Flush,
    /// `{drop, Key}`
    Drop(String),
    /// `{rename, From, To}`
    Rename(String, String),
    /// `{put, #{key => .., scan => .., owner => .., tags => ..}}`
    Put(Scan),
    /// `{note, AnyTerm}`
    Note(Term),
}

#[derive(Debug, Serialize, Deserialize)]
struct Scan {
    key: String,
    /// Bytes are a `Binary`: a slice of the buffer that the message came in. A `Vec<u8>` would be a list of integers.
    scan: Binary,
    /// `None` is `undefined`.
    owner: Option<Owner>,
    /// Text is a binary in UTF-8; an `Atom` is an atom.
    tags: Vec<Atom>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    name: String,
    age: u8,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let peers = StaticPeers::new();
    let shop = Node::builder("shop@127.0.0.1").cookie(COOKIE).resolver(peers.clone()).start().await?;
    let bank = Node::builder("bank@127.0.0.1").cookie(COOKIE).start().await?;
    peers.insert(bank.name().clone(), bank.address());
    let mut store = bank.register("store")?;
    let to = ("store", bank.name());

    let owner = Owner { name: "Ada".into(), age: 36 };
    let tags = vec![Atom::from_static("urgent"), Atom::from_static("colour")];
    let scan = Scan { key: "a/1".into(), scan: Binary::from("not a picture"), owner: Some(owner), tags };
    let note =
        Term::tuple([Term::atom("seen"), Term::list([1.into(), 2.5.into()]), Term::from(1u128 << 100)]);
    let requests = [
        Request::Flush,
        Request::Drop("a/1".into()),
        Request::Rename("a/1".into(), "b/1".into()),
        Request::Put(scan),
        Request::Note(note),
    ];
    for request in &requests {
        shop.send(to, request).await?;
        show(&mut store).await?;
    }

    // What Erlang would write as {put, #{key => <<"c/1">>, scan => <<1,2,3>>, owner => undefined, tags => []}}.
    let bytes = Binary::from(vec![1, 2, 3]);
    let pairs = vec![
        (Term::atom("key"), Binary::from("c/1").into()),
        (Term::atom("scan"), bytes.into()),
        (Term::atom("owner"), Term::atom("undefined")),
        (Term::atom("tags"), Term::list([])),
    ];
    let map = teleport::etf::Map::from_pairs(pairs).ok_or("a key comes twice")?;
    shop.send(to, &Term::tuple([Term::atom("put"), map.into()])).await?;
    show(&mut store).await?;

    // What does not fit is an error of the receiver's, with the place; the session and the mailbox go on.
    shop.send(to, &("put", 1)).await?;
    show(&mut store).await
}

/// Receives a message, as the term that it is and as the type that it should be.
async fn show(store: &mut Mailbox) -> Result<(), Box<dyn Error>> {
    let message = store.recv().await.ok_or("the bank has been shut down")?;
    println!("Erlang: {}", message.decode::<Term>()?);
    match message.decode::<Request>() {
        Ok(request) => println!("Rust:   {request:?}\n"),
        Err(error) => println!("Rust:   not a request: {error}\n"),
    }
    Ok(())
}
