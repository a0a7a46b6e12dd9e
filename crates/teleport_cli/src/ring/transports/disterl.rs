//! `disterl`: the ring on real Erlang nodes, with plain `!`.
//!
//! The nodes' program, `ring.erl`, is compiled at the start. They register at an epmd of their own on a private port,
//! so that neither side sees the Erlang nodes which may be running on this machine anyway.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::process::{Child, Command as Program};
use tokio::time::{sleep, timeout};

use crate::args::RingOptions;
use crate::bench::BenchError;
use crate::ring::protocol::to_erlang;
use crate::ring::rounds::Ring;

const SOURCE: &str = include_str!("../../../erl/ring.erl");

const EPMD_DEADLINE: Duration = Duration::from_secs(10);

/// Why there are no Erlang nodes on this machine.
#[derive(Debug, Error)]
pub(crate) enum Unavailable {
    /// A program is not in the search path.
    #[error(
        "`{0}` not found; install Erlang/OTP 24 or later, e.g. apt-get install --no-install-recommends erlang-base"
    )]
    NotInstalled(&'static str),
    /// A program does not start.
    #[error("cannot run `{program}`: {source}")]
    Run {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The nodes' program does not compile.
    #[error("erlc refuses the nodes' program (Erlang/OTP 24 or later is needed): {0}")]
    Compile(String),
    /// epmd does not listen.
    #[error("epmd does not answer on port {0}")]
    Epmd(u16),
    /// No directory for the compiled program, or no port for epmd.
    #[error("cannot prepare files and ports: {0}")]
    Prepare(#[from] io::Error),
}

/// What Erlang nodes need as long as they live: compiled code and epmd.
pub(crate) struct Environment {
    directory: TempDir,
    epmd: Child,
    epmd_port: u16,
}

/// What results call the transport with these flags for `erl`.
pub(crate) fn label(flags: &str) -> String {
    if flags.trim().is_empty() { "disterl".to_owned() } else { format!("disterl {}", flags.trim()) }
}

/// What came of starting Erlang nodes.
#[allow(clippy::large_enum_variant, reason = "it is made to be taken apart at once")]
pub(crate) enum Started {
    Ring(Ring, Environment),
    /// This machine cannot have any.
    Unavailable(Unavailable),
}

/// Starts Erlang nodes.
pub(crate) async fn start(options: &RingOptions, flags: &str) -> Result<Started, BenchError> {
    let environment = match Environment::new().await {
        Ok(environment) => environment,
        Err(unavailable) => return Ok(Started::Unavailable(unavailable)),
    };
    let mut cookie = [0; 16];
    rand::rng().fill_bytes(&mut cookie);
    let cookie: String = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
    let programs = (0..options.nodes).map(|index| environment.node(options, flags, index, &cookie)).collect();
    let cluster = Ring::start(label(flags), to_erlang, options.deadline, programs).await?;
    Ok(Started::Ring(cluster, environment))
}

impl Environment {
    async fn new() -> Result<Self, Unavailable> {
        let directory = tempfile::Builder::new().prefix("teleport-ring-").tempdir()?;
        compile(directory.path()).await?;
        let epmd_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let epmd = start_epmd(epmd_port).await?;
        Ok(Self { directory, epmd, epmd_port })
    }

    /// Ends epmd. Dropping ends it, too, but does not wait.
    pub(crate) async fn close(mut self) {
        drop(self.epmd.stdin.take());
        // It ends by itself once its input has; there is nothing to do about a failure.
        let _ = timeout(EPMD_DEADLINE, self.epmd.wait()).await;
    }

    fn node(&self, options: &RingOptions, flags: &str, index: u16, cookie: &str) -> Program {
        let mut program = Program::new("erl");
        program
            .args(["-noshell", "-setcookie", cookie, "-start_epmd", "false"])
            .args(["-name".to_owned(), format!("node{index}@127.0.0.1")])
            .args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
            .arg("-pa")
            .arg(self.directory.path());
        if let Some(name) = &options.congestion {
            // IPPROTO_TCP, TCP_CONGESTION. Accepted sockets have it from the one that listens.
            let option = format!("[{{raw,6,13,<<\"{name}\">>}}]");
            program.args(["-kernel", "inet_dist_connect_options", &option]);
            program.args(["-kernel", "inet_dist_listen_options", &option]);
        }
        program
            .args(flags.split_whitespace())
            .args(["-run", "ring", "main"])
            .args([index.to_string(), options.nodes.to_string(), options.workers.to_string()])
            .arg(options.size.bytes().to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // No dump of gigabytes if a node is killed, and nobody's own settings.
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .env("HOME", self.directory.path())
            .current_dir(self.directory.path());
        for name in ["ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "ERL_LIBS"] {
            program.env_remove(name);
        }
        program
    }
}

async fn compile(directory: &Path) -> Result<(), Unavailable> {
    let source = directory.join("ring.erl");
    std::fs::write(&source, SOURCE)?;
    let compiler = Program::new("erlc").arg("-o").arg(directory).arg(&source).kill_on_drop(true).output();
    let output = compiler.await.map_err(|error| unavailable("erlc", error))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(Unavailable::Compile(String::from_utf8_lossy(&said).trim().to_owned()));
    }
    Ok(())
}

/// Starts epmd below a shell that ends it when this process closes the shell's stdin, or dies.
async fn start_epmd(port: u16) -> Result<Child, Unavailable> {
    // Asked first, for the shell cannot tell whether the program is missing.
    let version = Program::new("epmd").arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.await.map_err(|error| unavailable("epmd", error))?;
    let epmd = Program::new("sh")
        .args(["-c", r#""$@" & read -r _; kill "$!"; wait"#, "sh"])
        .args(["epmd", "-address", "127.0.0.1", "-port", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| unavailable("sh", error))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answers = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(EPMD_DEADLINE, answers).await.map_err(|_| Unavailable::Epmd(port))?;
    Ok(epmd)
}

fn unavailable(program: &'static str, source: io::Error) -> Unavailable {
    match source.kind() {
        ErrorKind::NotFound => Unavailable::NotInstalled(program),
        _ => Unavailable::Run { program, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_the_flags() {
        assert_eq!(label(""), "disterl");
        assert_eq!(label(" +zdbbl 131072"), "disterl +zdbbl 131072");
    }

    #[test]
    fn a_missing_program_comes_with_the_way_to_install_it() {
        let error = unavailable("erlc", ErrorKind::NotFound.into()).to_string();
        assert!(error.contains("`erlc`") && error.contains("apt-get install"), "{error}");
    }
}
