//! A node in Rust for one in Erlang to talk with: the suite `teleport_rust_SUITE` of the OTP application runs it, and shows
//! with it what both sides can do with each other.
//!
//! It has a `GenServer`, `desk`, and a process, `client`, that does what it is told through a port of Erlang's:
//!
//! ```erlang
//! Port = open_port({spawn_executable, "target/debug/examples/interop"},
//!                  [{packet, 4}, binary, {env, [{"TELEPORT_COOKIE", Cookie}]},
//!                   {args, ["rust@127.0.0.1", "shop@hill=127.0.0.1:4370"]}]), % its name, and its peers
//! receive {Port, {data, Listening}} -> {listening, Ip, PortNumber} = binary_to_term(Listening) end,
//! port_command(Port, term_to_binary({call, {prices, shop@hill}, apples, 5000})),
//! receive {Port, {data, Result}} -> binary_to_term(Result) end. % {ok, Reply}, timeout, {exit, Reason}, ...
//! ```

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use teleport::etf::{Segments, from_bytes, to_segments};
use teleport::gen_server::{Answer, Context, GenServer};
use teleport::{
    Address, Atom, Binary, CallError, Caller, Mailbox, Message, Node, NodeName, Pid, Reference, SendError,
    StaticPeers, Term,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(5);

/// What `client` is told. In Erlang `{send, To, Message}` and so on.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Send(Term, Term),
    Cast(Term, Term),
    /// With a timeout in milliseconds.
    Call(Term, Term, u64),
    Monitor(Term),
    /// The next message that `client` gets.
    Receive,
    /// How many messages wait for it.
    Waiting,
}

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Listening(Binary, u16),
    Ok(Term),
    Sent,
    Monitored(Reference),
    Message(Term),
    Count(u64),
    Noproc,
    Timeout,
    Nodedown,
    Exit(Term),
    Rejected(Binary),
    Error(Binary),
}

/// What `desk` is asked.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    Echo(Term),
    /// Who asks.
    Caller,
    /// Who answers.
    Pid,
    /// Answered after this many milliseconds, by another task.
    Later(u64, Term),
    Never,
    /// Ends without an answer.
    Exit(Term),
    Panic(String),
    /// What `desk` was told.
    Notes,
}

/// What it is told, by cast or plainly.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tell {
    Note(Term),
    /// Sent back, as `{echo, Term}`.
    Echo(Pid, Term),
}

#[derive(Default)]
struct Desk {
    notes: Vec<Term>,
}

impl Desk {
    async fn tell(&mut self, tell: Tell, context: &Context) {
        match tell {
            Tell::Note(note) => self.notes.push(note),
            Tell::Echo(to, term) => {
                if let Err(error) = context.process().send(&to, &(Atom::from_static("echo"), term)).await {
                    eprintln!("interop: {to:?} gets no echo: {error}");
                }
            }
        }
    }
}

impl GenServer for Desk {
    type Call = Ask;
    type Reply = Term;
    type Cast = Tell;

    async fn handle_call(&mut self, request: Ask, caller: &Caller, context: &mut Context) -> Answer<Term> {
        match request {
            Ask::Echo(term) => term.into(),
            Ask::Caller => Term::from(caller.pid().clone()).into(),
            Ask::Pid => Term::from(context.pid()).into(),
            Ask::Later(milliseconds, term) => {
                let (process, caller) = (context.process(), caller.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                    process.reply(&caller, &term)
                });
                Answer::Later
            }
            Ask::Never => Answer::Later,
            Ask::Exit(reason) => {
                context.stop(reason);
                Answer::Later
            }
            Ask::Panic(text) => panic!("{text}"),
            Ask::Notes => Term::list(self.notes.clone()).into(),
        }
    }

    async fn handle_cast(&mut self, message: Tell, context: &mut Context) {
        self.tell(message, context).await;
    }

    async fn handle_info(&mut self, message: Message, context: &mut Context) {
        match message.decode() {
            Ok(tell) => self.tell(tell, context).await,
            Err(error) => eprintln!("interop: a message cannot be read: {error}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("usage: interop <name> [<peer>=<ip>:<port> ...]; TELEPORT_COOKIE is the cookie")?;
    let peers = arguments.map(|peer| parse_peer(&peer)).collect::<Result<Vec<_>, _>>()?;
    let node = Node::builder(&name)
        .cookie(std::env::var("TELEPORT_COOKIE")?)
        .resolver(StaticPeers::from_iter(peers))
        .start()
        .await?;
    let _desk = node.register_server("desk", Desk::default())?;
    let mut client = node.register("client")?;

    let address = node.address();
    write(&Outcome::Listening(address.ip().to_string().into(), address.port())).await?;
    while let Some(command) = read().await? {
        let outcome = client_does(&mut client, from_bytes(&command.into())?).await;
        write(&outcome.unwrap_or_else(|error| Outcome::Error(error.to_string().into()))).await?;
    }
    drop(client);
    let _unconfirmed = node.shutdown(PATIENCE).await;
    Ok(())
}

async fn client_does(client: &mut Mailbox, command: Command) -> Result<Outcome, Box<dyn Error>> {
    Ok(match command {
        Command::Send(to, message) => sent(client.send(address(&to)?, &message).await)?,
        Command::Cast(to, message) => sent(client.process().cast(address(&to)?, &message).await)?,
        Command::Call(to, request, milliseconds) => {
            called(client.process().call(address(&to)?, &request, Duration::from_millis(milliseconds)).await)?
        }
        Command::Monitor(to) => Outcome::Monitored(client.monitor(address(&to)?).await?),
        Command::Receive => {
            Outcome::Message(client.recv().await.ok_or("the node has been shut down")?.decode()?)
        }
        Command::Waiting => Outcome::Count(client.len() as u64),
    })
}

fn sent(result: Result<impl Sized, SendError>) -> Result<Outcome, SendError> {
    match result {
        Ok(_) => Ok(Outcome::Sent),
        Err(SendError::NoConnection(_) | SendError::NodeDown { .. }) => Ok(Outcome::Nodedown),
        Err(error) => Err(error),
    }
}

fn called(result: Result<Term, CallError>) -> Result<Outcome, CallError> {
    match result {
        Ok(reply) => Ok(Outcome::Ok(reply)),
        Err(CallError::NoProcess) => Ok(Outcome::Noproc),
        Err(CallError::Timeout(_)) => Ok(Outcome::Timeout),
        Err(CallError::NodeDown { .. } | CallError::Send(SendError::NoConnection(_))) => {
            Ok(Outcome::Nodedown)
        }
        Err(CallError::Exit(reason)) => Ok(Outcome::Exit(reason)),
        Err(CallError::Rejected(why)) => Ok(Outcome::Rejected(why.into())),
        Err(error) => Err(error),
    }
}

/// A pid, or `{Name, Node}`.
fn address(to: &Term) -> Result<Address, String> {
    match to {
        Term::Pid(pid) => return Ok(pid.into()),
        Term::Tuple(parts) => {
            if let [Term::Atom(name), Term::Atom(node)] = &parts[..] {
                return Address::try_from((name.as_str(), node.as_str())).map_err(|error| error.to_string());
            }
        }
        _ => {}
    }
    Err(format!("{to} is no process"))
}

fn parse_peer(peer: &str) -> Result<(NodeName, SocketAddr), Box<dyn Error>> {
    let (name, address) =
        peer.split_once('=').ok_or_else(|| format!("{peer:?} is not <peer>=<ip>:<port>"))?;
    Ok((name.parse()?, address.parse()?))
}

/// A packet of Erlang's `{packet, 4}`. None if there are no more.
async fn read() -> std::io::Result<Option<Vec<u8>>> {
    let mut stdin = tokio::io::stdin();
    let Ok(len) = stdin.read_u32().await else { return Ok(None) };
    let mut packet = vec![0; len as usize];
    stdin.read_exact(&mut packet).await?;
    Ok(Some(packet))
}

async fn write(outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let packet = to_segments(outcome).map(Segments::into_contiguous)?;
    let mut stdout = tokio::io::stdout();
    stdout.write_u32(packet.len().try_into()?).await?;
    stdout.write_all(&packet).await?;
    Ok(stdout.flush().await?)
}
