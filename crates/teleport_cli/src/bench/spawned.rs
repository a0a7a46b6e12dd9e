//! A node's process, and what it says, seen from the coordinator.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as Program};
use tokio::sync::mpsc;

use super::protocol::Event;

/// Lines a node printed that are no events; kept to explain its end.
const REMARKS: usize = 5;

/// A running node. Dropping it kills it.
pub(crate) struct NodeProcess {
    /// The system's number of the process.
    pub(crate) pid: u32,
    /// To wait for it, or to kill it.
    pub(crate) child: Child,
    /// `None` once it is closed.
    stdin: Option<ChildStdin>,
}

/// What a node's reader tells.
pub(crate) enum Heard<A> {
    /// What the node said.
    Event(Event<A>),
    /// The end of the node's output, with the last things it printed apart from events.
    End(String),
}

impl NodeProcess {
    /// A node's process, and a task that reads what it says and hands it on with the node's tag.
    pub(crate) fn spawn<T, A>(
        mut program: Program,
        tag: T,
        heard: &mpsc::UnboundedSender<(T, Heard<A>)>,
    ) -> io::Result<Self>
    where
        T: Copy + Send + 'static,
        A: DeserializeOwned + Send + 'static,
    {
        // Of a process group of its own, so that Ctrl-C reaches the coordinator alone, which ends its nodes in order.
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("it ended at once");
        let pid = child.id().ok_or_else(gone)?;
        let stdin = Some(child.stdin.take().ok_or_else(gone)?);
        let stdout = child.stdout.take().ok_or_else(gone)?;
        tokio::spawn(listen(BufReader::new(stdout).lines(), tag, heard.clone()));
        Ok(Self { pid, child, stdin })
    }

    /// Says a line to it.
    pub(crate) async fn tell(&mut self, line: &str) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(io::ErrorKind::BrokenPipe.into()) };
        stdin.write_all(format!("{line}\n").as_bytes()).await
    }

    /// Closes its stdin, at which it ends.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }
}

async fn listen<T: Copy, A: DeserializeOwned>(
    mut lines: Lines<BufReader<ChildStdout>>,
    tag: T,
    heard: mpsc::UnboundedSender<(T, Heard<A>)>,
) {
    let mut remarks = VecDeque::new();
    // What cannot be read ends it like the end of output: the node does not keep to the protocol.
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(event) => {
                if heard.send((tag, Heard::Event(event))).is_err() {
                    return;
                }
            }
            Err(_) if line.trim().is_empty() => {}
            Err(error) if line.starts_with(r#"{"event""#) => {
                remarks.push_back(format!("{line} ({error})"));
                break;
            }
            Err(_) => {
                remarks.push_back(line);
                if remarks.len() > REMARKS {
                    remarks.pop_front();
                }
            }
        }
    }
    let last_words = remarks.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" / ");
    // The receiver is gone only if the run is over.
    let _ = heard.send((tag, Heard::End(last_words)));
}
