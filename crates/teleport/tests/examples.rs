//! The examples run, and do what their first lines say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Far above what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// `cargo test` builds examples next to the tests.
fn path_of(example: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(path.exists(), "{} is not there; first run `cargo build -p teleport --examples`", path.display());
    path
}

fn example(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path_of(name));
    command.args(arguments);
    command
}

/// Runs an example to its end.
async fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = example(name, arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    within(command.output()).await.unwrap()
}

/// Runs an example that has to succeed; gives what it prints.
async fn says(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {} {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs an example that has to fail; gives what it complains of.
async fn complains(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// An example that runs until it is told to end. Dropping it kills it.
struct Server {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts one that prints its address.
    async fn start(mut command: Command) -> (Self, String) {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self { child, output };
        let line = server.hear().await;
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?} has no address"));
        (server, address.to_owned())
    }

    async fn hear(&mut self) -> String {
        within(self.output.next_line()).await.unwrap().expect("the example has ended")
    }

    /// As Ctrl-C does.
    async fn interrupt(&mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        self.ended().await
    }

    async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came in time")
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i >> 16) as u8).collect()
}

#[tokio::test]
async fn hello_greets_and_is_answered() {
    let (mut listener, address) = Server::start(example("hello", &["listen"])).await;
    for _ in 0..2 {
        let answer = says("hello", &["greet", &address]).await;
        assert_eq!(answer, "listener@127.0.0.1 answers \"hello to you, too\"\n");
        let heard = listener.hear().await;
        assert!(heard.starts_with("visitor-") && heard.ends_with("@127.0.0.1 says \"hello\""), "{heard}");
    }
    assert!(listener.interrupt().await.success());
    assert_eq!(listener.hear().await, "bye; unconfirmed: []");

    assert!(complains("hello", &["greet", &address]).await.contains("is the node running"));
    assert!(complains("hello", &["greet", "nowhere"]).await.contains("\"nowhere\" is no address"));
    assert!(complains("hello", &[]).await.contains("usage: hello listen"));
}

#[tokio::test]
async fn typed_shows_what_erlang_would_see() {
    let shown = says("typed", &[]).await;
    for line in [
        "Erlang: flush",
        "Erlang: {drop,<<\"a/1\">>}",
        "Erlang: {rename,<<\"a/1\">>,<<\"b/1\">>}",
        "Rust:   Rename(\"a/1\", \"b/1\")",
        "Erlang: {note,{seen,[1,2.5],1267650600228229401496703205376}}",
        "Rust:   Put(Scan { key: \"c/1\", scan: Binary(3 bytes), owner: None, tags: [] })",
        "Erlang: {<<\"put\">>,1}",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
    assert!(shown.contains("owner => #{") && shown.contains("not a request: "), "{shown}");
}

#[tokio::test]
async fn fan_out_sends_one_copy_to_all() {
    let shown = says("fan_out", &["3", "24"]).await;
    assert!(shown.contains("round 3: ") && shown.contains(" MB/s"), "{shown}");
    assert!(
        shown.contains("all 3 nodes have got it 3 times, the last time with the same SHA-256"),
        "{shown}"
    );
    let more = shown.lines().find_map(|line| line.strip_prefix("resident at most: ")).unwrap();
    let more: usize = more.split(' ').nth(2).unwrap().parse().unwrap();
    assert!(more < 24, "the sender took another copy: {shown}");
    assert!(complains("fan_out", &["0", "x"]).await.contains("1 to 100 nodes"));
}

#[tokio::test]
async fn flows_sends_over_as_many_connections_as_it_says() {
    let shown = says("flows", &["4", "none", "1"]).await;
    let rows: Vec<_> = shown.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rows, ["1", "2", "4", "8", "16", "1"], "{shown}");
    assert!(complains("flows", &["0", "100", "1"]).await.contains("1 to 4000 MiB"));
}

/// A receiver with an empty directory, and a file to hand off.
struct Partition {
    directory: tempfile::TempDir,
    content: Vec<u8>,
    file: String,
}

impl Partition {
    fn new(len: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (content, file) = (payload(len), directory.path().join("large"));
        std::fs::write(&file, &content).unwrap();
        Self { directory, content, file: file.to_str().unwrap().to_owned() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn is_stored(&self, partition: &str) -> bool {
        std::fs::read(self.store().join(partition)).unwrap() == self.content
            && !self.store().join(format!("{partition}.part")).exists()
    }
}

fn receiver(store: &Path, address: &str) -> Command {
    example("handoff", &["receive", store.to_str().unwrap(), address])
}

#[tokio::test]
async fn handoff_survives_broken_connections() {
    let partition = Partition::new(12 * MIB + 345);
    let (mut server, address) = Server::start(receiver(&partition.store(), "127.0.0.1:0")).await;
    let shown = says("handoff", &["send", &address, "7", &partition.file, "2"]).await;
    assert_eq!(server.hear().await, "partition 7: 12583257 bytes, verified");
    assert!(partition.is_stored("7"));
    assert!(shown.contains("12583257 bytes in the last of 1 attempts") && shown.contains(" MB/s"), "{shown}");
    let broken: usize = shown.rsplit(", ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..=6).contains(&broken), "{shown}");

    // What is there is not sent again.
    let shown = says("handoff", &["send", &address, "7", &partition.file]).await;
    assert!(shown.contains("\n0 bytes in the last of 1 attempts") && partition.is_stored("7"), "{shown}");
    assert!(server.interrupt().await.success());

    let missing = complains("handoff", &["send", &address, "7", "/nonexistent"]).await;
    assert!(missing.contains("/nonexistent: No such file"), "{missing}");
}

#[tokio::test]
async fn handoff_goes_on_where_it_was_when_the_receiver_comes_back() {
    const FIRST: usize = 4 * MIB;
    let partition = Partition::new(20 * MIB);
    // The kernel ends the receiver when its file gets larger than that (in blocks of 512 bytes).
    let path = path_of("handoff");
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -c 0; ulimit -f {}; exec \"$@\"", FIRST / 512), "sh"]);
    // Its own address, so that no other test takes the port before it comes back.
    limited.arg(path).args(["receive", partition.store().to_str().unwrap(), "127.0.9.3:0"]);
    let (mut first, address) = Server::start(limited).await;
    let sending = ["send", &address, "7", &partition.file];
    let sending = async {
        let shown = says("handoff", &sending).await;
        let rest = partition.content.len() - FIRST;
        assert!(shown.contains(&format!("\n{rest} bytes in the last of ")), "{shown}");
    };
    let receiving = async {
        assert!(first.ended().await.code().is_none(), "it was killed");
        assert_eq!(std::fs::metadata(partition.store().join("7.part")).unwrap().len(), FIRST as u64);
        Server::start(receiver(&partition.store(), &address)).await.0
    };
    let ((), mut second) = tokio::join!(sending, receiving);
    assert!(partition.is_stored("7"));
    assert!(second.interrupt().await.success());
}

#[tokio::test]
async fn handoff_replaces_what_is_of_another_file() {
    let partition = Partition::new(3 * MIB);
    std::fs::create_dir(partition.store()).unwrap();
    std::fs::write(partition.store().join("7.part"), [1; 1000]).unwrap();
    let (mut server, address) = Server::start(receiver(&partition.store(), "127.0.0.1:0")).await;
    says("handoff", &["send", &address, "7", &partition.file]).await;
    assert!(partition.is_stored("7"));
    assert!(server.interrupt().await.success());
}

#[tokio::test]
async fn kv_server_keeps_what_it_is_given() {
    let (mut server, address) = Server::start(example("kv_server", &["serve"])).await;
    let ask = async |request: &[&str]| says("kv_server", &[&[&*address], request].concat()).await;
    for (key, value) in [("a/1", "blue"), ("a/2", ""), ("b/1", "grün")] {
        assert_eq!(ask(&["put", key, value]).await, "ok\n");
        assert_eq!(ask(&["get", key]).await, format!("{value}\n"));
    }
    assert_eq!(ask(&["list"]).await, "a/1\na/2\nb/1\n");
    assert_eq!(ask(&["list", "a/"]).await, "a/1\na/2\n");
    assert_eq!(ask(&["delete", "a/1"]).await, "ok\n");
    for request in ["get", "delete"] {
        let output = run("kv_server", &[&address, request, "a/1"]).await;
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"not found\n"[..]));
    }
    assert!(complains("kv_server", &[&address, "steal"]).await.contains("usage: kv_server"));
    assert!(server.interrupt().await.success());
    assert_eq!(server.hear().await, "the store ends with 2 keys: normal");
}

/// Hardly a figure of time: the machine may be busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn siege_leaves_honest_calls_answered_and_memory_bounded() {
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    // Without the terms that swell: what a process makes of those is its own, and takes long in a debug build.
    let ways = "windows,mailbox,answers,watches,sessions";
    says("siege", &["--seconds", "5", "--kinds", ways, "--most", "768", "--p99", "10000", "--json", path])
        .await;
    let said = std::fs::read_to_string(json.path()).unwrap();
    let number = |said: &str, key: &str| {
        let rest = said.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}: {said}")).1;
        rest.split([',', '}']).next().unwrap().parse::<u64>().unwrap()
    };
    assert!(said.contains("\"stopped\":false"), "{said}");
    let siege = said.split_once("\"siege\":").unwrap().1;
    assert_eq!(["failed", "large_failed", "monitors_lost"].map(|key| number(siege, key)), [0; 3], "{said}");
    assert!(number(siege, "answered") > 100 && number(siege, "large_answers") > 10, "{said}");
    assert!(number(&said, "sessions") > 100, "{said}");
    // The cap, two small messages for each session, and six large ones: of each kind, and for whom there was none yet.
    let most = (96 + 6 * 4) * MIB as u64 + 140 * 2 * (64 * 1024 + 128);
    assert!(
        number(&said, "granted") <= most && number(&said, "undelivered") <= number(&said, "granted"),
        "{most}: {said}"
    );
}
