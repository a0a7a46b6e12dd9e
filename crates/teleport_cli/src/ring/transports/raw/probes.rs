//! Probes over sockets: connections and threads of their own.
//!
//! One thread per kind writes when a probe is due, and one per connection reads the answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::bench::child::NodeError;
use crate::ring::probe::{Answers, Kind, Prober};

use super::is_end;

/// A thread's work.
type Task = Box<dyn FnOnce() -> Result<(), NodeError> + Send>;

/// A prober at rest, and what its threads have to do.
pub(super) fn prober(kind: Kind, offset: Duration, neighbours: Vec<Arc<TcpStream>>) -> (Prober, Vec<Task>) {
    let (prober, schedule, answers) = Prober::new(offset);
    let mut tasks: Vec<Task> = Vec::new();
    for stream in &neighbours {
        let (stream, answers) = (Arc::clone(stream), answers.clone());
        tasks.push(Box::new(move || measure(&stream, kind, &answers)));
    }
    let mut probe = vec![0x5a; kind.size()];
    let send = move |due_ns: u64| {
        probe[..8].copy_from_slice(&due_ns.to_le_bytes());
        neighbours
            .iter()
            .try_for_each(|stream| (&**stream).write_all(&probe))
            .map(|()| neighbours.len())
            .map_err(NodeError::io("cannot send a probe to a neighbour"))
    };
    tasks.push(Box::new(move || schedule.run(send)));
    (prober, tasks)
}

/// Sends every probe back until the neighbour closes the connection.
pub(super) fn answer(mut stream: &TcpStream, kind: Kind) -> Result<(), NodeError> {
    let mut probe = vec![0; kind.size()];
    while read_probe(stream, &mut probe)? {
        stream.write_all(&probe).map_err(NodeError::io("cannot answer a neighbour's probe"))?;
    }
    Ok(())
}

fn measure(stream: &TcpStream, kind: Kind, answers: &Answers) -> Result<(), NodeError> {
    let mut probe = vec![0; kind.size()];
    while read_probe(stream, &mut probe)? {
        let mut due = [0; 8];
        due.copy_from_slice(&probe[..8]);
        if !answers.answered(u64::from_le_bytes(due)) {
            break;
        }
    }
    Ok(())
}

fn read_probe(mut stream: &TcpStream, probe: &mut [u8]) -> Result<bool, NodeError> {
    match stream.read_exact(probe) {
        Ok(()) => Ok(true),
        Err(error) if is_end(&error) => Ok(false),
        Err(error) => Err(NodeError::io("cannot read a probe")(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::ring::probe::INTERVAL;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (dialled, listener.accept().unwrap().0)
    }

    #[test]
    fn an_answer_held_back_counts_from_the_time_its_probe_was_due() {
        let (here, mut there) = connection();
        let closing = here.try_clone().unwrap();
        let (mut prober, tasks) = prober(Kind::Tick, Duration::ZERO, vec![Arc::new(here)]);
        let threads: Vec<_> = tasks.into_iter().map(thread::spawn).collect();
        prober.start().unwrap();
        let mut probes = [[0; 16]; 3];
        for probe in &mut probes {
            there.read_exact(probe).unwrap();
        }
        there.write_all(&probes.concat()).unwrap();
        let answering = thread::spawn(move || answer(&there, Kind::Tick).unwrap());
        let (mut round_trips, unanswered) = prober.stop().unwrap();
        assert_eq!(unanswered, 0);
        round_trips.sort_unstable();
        // All three waited for the third, so the first waited two intervals longer than that.
        let longest = Duration::from_micros(*round_trips.last().unwrap());
        assert!(round_trips.len() >= 3 && longest >= 2 * INTERVAL, "{round_trips:?}");
        drop(prober);
        closing.shutdown(std::net::Shutdown::Write).unwrap();
        answering.join().unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }
}
