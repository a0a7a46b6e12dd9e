//! When a virtual machine counts as gone, tested without one: the module has nothing of rustler's.

#![allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]

#[path = "../src/node/pulse.rs"]
mod pulse;

use pulse::{Gone, Pulse};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The end for what answers, and what is told once it does not.
fn begin(pulse: &Arc<Pulse>) -> (UnixStream, Receiver<Gone>) {
    let (tell, told) = channel();
    let end = UnixStream::from(pulse::begin(pulse, move |how| tell.send(how).unwrap()).unwrap());
    end.set_nonblocking(false).unwrap();
    (end, told)
}

#[test]
fn nothing_is_waited_for_before_there_is_a_port() {
    let (end, told) = begin(&Arc::default());
    drop(end);
    assert!(told.recv().is_err(), "it has never been there");
}

#[test]
fn an_end_that_is_closed_has_gone_at_once() {
    let pulse = Arc::<Pulse>::default();
    pulse.set_ticktime(1_000_000);
    let (mut end, told) = begin(&pulse);
    end.write_all(&[1]).unwrap();
    end.read_exact(&mut [0]).unwrap();
    assert_eq!(told.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    drop(end);
    assert_eq!(told.recv(), Ok(Gone::Closed));
}

#[test]
fn what_does_not_answer_any_more_has_gone() {
    let (mut end, told) = begin(&Arc::default());
    end.write_all(&[1]).unwrap();
    end.read_exact(&mut [0]).unwrap();
    end.write_all(&[1]).unwrap();
    assert_eq!(told.recv(), Ok(Gone::Silent));
    let mut asked = Vec::new();
    end.read_to_end(&mut asked).unwrap();
    assert!(asked.len() > 3, "it is asked {} times", asked.len());
}

#[test]
fn the_end_of_the_node_ends_what_answers() {
    let pulse = Arc::<Pulse>::default();
    let (mut end, told) = begin(&pulse);
    end.write_all(&[1]).unwrap();
    end.read_exact(&mut [0]).unwrap();
    pulse.end();
    let ended = end.read(&mut [0]);
    assert!(
        ended.as_ref().is_ok_and(|&len| len == 0)
            || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    );
    told.recv().unwrap();
}
