//! Processes of their own: a test starts its own program again, which then plays a role.
//!
//! Both sides talk in lines. Lines of the child's begin with a mark, as the test harness prints on the same stream. A
//! child ends when its parent's end of the line closes.

use super::{eventually, within};
use std::io::{BufRead, Write};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

const ROLE: &str = "TELEPORT_TEST_CHILD";
const MARK: &str = "@ ";

/// A child, from its parent's side. Dropping it kills it.
pub(crate) struct Child {
    process: tokio::process::Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn start(role: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, output: BufReader::new(output).lines() }
    }

    pub(crate) async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The child's next line.
    pub(crate) async fn hear(&mut self) -> String {
        loop {
            let line = within(self.output.next_line()).await.unwrap().expect("the child has ended");
            if let Some(line) = line.strip_prefix(MARK) {
                return line.to_owned();
            }
        }
    }

    /// Says a line, and hears the answer.
    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.say(line).await;
        self.hear().await
    }

    /// Stops all its threads, which takes a moment.
    pub(crate) async fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let tasks = format!("/proc/{}/task", self.process.id().unwrap());
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            // One may end meanwhile: all are looked at again then.
            let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
            stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
        };
        eventually("all threads stopped", || std::fs::read_dir(&tasks).unwrap().all(stopped)).await;
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = self.process.id().expect("the child has not been waited for");
        let id = rustix::process::Pid::from_raw(id as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }
}

/// The role that this process was started for, if it is a child.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Tells the parent.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// The parent's next line; `None` once it has gone. Blocks the thread: a child's nodes have threads of their own.
pub(crate) fn hear() -> Option<String> {
    let mut line = String::new();
    (std::io::stdin().lock().read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
}

/// Runs a child's part.
pub(crate) fn run<F: Future>(part: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(part)
}

/// A number of this process out of `/proc/self/status`, such as `VmRSS` (in KiB) or `Threads`.
pub(crate) fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// How often threads of this process with names that begin so have gone to sleep, and how many there are.
pub(crate) fn switches(thread_names: &[&str]) -> (u64, usize) {
    let mut sum = (0, 0);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread may end meanwhile.
        let Ok(name) = std::fs::read_to_string(task.join("comm")) else { continue };
        let Ok(status) = std::fs::read_to_string(task.join("status")) else { continue };
        if thread_names.iter().any(|prefix| name.starts_with(prefix)) {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum.0 += line.map_or(0, |count| count.trim().parse().unwrap());
            sum.1 += 1;
        }
    }
    sum
}
