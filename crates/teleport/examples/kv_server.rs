//! A key-value store as a `GenServer`, and a client for it. An OTP client would not notice that the server is written in
//! Rust: `gen_server:call({store, 'kv@127.0.0.1'}, {get, <<"colour">>})` is the same request.
//!
//! ```sh
//! cargo run --example kv_server -- serve 127.0.0.1:4371              # in one terminal; port 0 takes any free one
//! cargo run --example kv_server -- 127.0.0.1:4371 put colour blue    # in another one
//! cargo run --example kv_server -- 127.0.0.1:4371 get colour
//! cargo run --example kv_server -- 127.0.0.1:4371 list
//! cargo run --example kv_server -- 127.0.0.1:4371 delete colour
//! ```

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use teleport::gen_server::{Answer, Context, GenServer, ServerAddress};
use teleport::{Address, Atom, Binary, Caller, Node, StaticPeers, Term};

const COOKIE: &str = "nR4vHs7KqYw3JbXe";
const SERVER: &str = "kv@127.0.0.1";
const PATIENCE: Duration = Duration::from_secs(5);

/// What the store is asked. In Erlang `{put, Key, Value}`, `{get, Key}`, `{delete, Key}`, `{list, Prefix}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Put(String, Binary),
    Get(String),
    Delete(String),
    List(String),
}

/// What it answers. In Erlang `ok`, `{value, Value}`, `not_found`, `{keys, Keys}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ok,
    Value(Binary),
    NotFound,
    Keys(Vec<String>),
}

#[derive(Default)]
struct Store {
    values: BTreeMap<String, Binary>,
}

impl GenServer for Store {
    type Call = Request;
    type Reply = Reply;
    type Cast = ();

    async fn handle_call(&mut self, request: Request, _: &Caller, _: &mut Context) -> Answer<Reply> {
        let reply = match request {
            Request::Put(key, value) => {
                // The value may be a slice of a larger message, which it would keep in memory.
                self.values.insert(key, Binary::from(value.to_vec()));
                Reply::Ok
            }
            Request::Get(key) => self.values.get(&key).cloned().map_or(Reply::NotFound, Reply::Value),
            Request::Delete(key) => self.values.remove(&key).map_or(Reply::NotFound, |_| Reply::Ok),
            Request::List(prefix) => {
                let from_it = self.values.range(prefix.clone()..);
                Reply::Keys(
                    from_it.map(|(key, _)| key.clone()).take_while(|key| key.starts_with(&prefix)).collect(),
                )
            }
        };
        reply.into()
    }

    async fn terminate(&mut self, reason: &Term, _: &mut Context) {
        println!("the store ends with {} keys: {reason}", self.values.len());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve("127.0.0.1:0").await,
        ["serve", address] => serve(address).await,
        [address, "put", key, value] => {
            ask(address, Request::Put(key.into(), Binary::from(value.to_owned()))).await
        }
        [address, "get", key] => ask(address, Request::Get(key.into())).await,
        [address, "delete", key] => ask(address, Request::Delete(key.into())).await,
        [address, "list"] => ask(address, Request::List(String::new())).await,
        [address, "list", prefix] => ask(address, Request::List(prefix.into())).await,
        _ => Err("usage: kv_server serve [<address>] | \
                  kv_server <address> put <key> <value> | get <key> | delete <key> | list [<prefix>]"
            .into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("kv_server: {error}");
        ExitCode::FAILURE
    })
}

async fn serve(address: &str) -> Result<ExitCode, Box<dyn Error>> {
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let node = Node::builder(SERVER).cookie(COOKIE).listen(address).start().await?;
    let store = node.register_server("store", Store::default())?;
    println!("listening on {}", node.address());
    tokio::signal::ctrl_c().await?;
    // After what is in its mailbox. Then the last replies are seen on their way.
    store.stop(Atom::from_static("normal")).await?;
    let _answered = node.shutdown(PATIENCE).await;
    Ok(ExitCode::SUCCESS)
}

/// The exit code is 1 if the key is not there, as grep's.
async fn ask(address: &str, request: Request) -> Result<ExitCode, Box<dyn Error>> {
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let peers = StaticPeers::from_iter([(SERVER.parse()?, address)]);
    let name = format!("client-{}@127.0.0.1", std::process::id());
    let node = Node::builder(&name).cookie(COOKIE).resolver(peers).start().await?;

    // The types of requests and replies are the server's, wherever it runs.
    let store = ServerAddress::<Store>::new(Address::try_from(("store", SERVER))?);
    let reply = store.call(&node.process(), &request, PATIENCE).await;
    // Confirms the reply and says goodbye. The server's node might wait for us to come back without it.
    let _nothing_is_lost = node.shutdown(PATIENCE).await;
    match reply? {
        Reply::Ok => println!("ok"),
        Reply::Value(value) => println!("{}", String::from_utf8_lossy(&value)),
        Reply::Keys(keys) => keys.iter().for_each(|key| println!("{key}")),
        Reply::NotFound => {
            println!("not found");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
