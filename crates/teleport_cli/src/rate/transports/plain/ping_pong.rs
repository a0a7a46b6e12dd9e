//! Calls: a request is written, its reply is read, and nothing else goes on.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::bench::child::NodeError;
use crate::rate::meter::PairMeter;
use crate::rate::payload;

/// Calls until it is told to end.
pub(super) fn call(stream: &mut TcpStream, size: usize, meter: &PairMeter<'_>) -> Result<(), NodeError> {
    let failed = || NodeError::io("cannot call");
    let verify = meter.verifies();
    let (mut request, mut reply) = (vec![0; size], vec![0; size]);
    payload::fill(0, &mut request);
    let mut turn = 0;
    while !meter.is_halted() {
        if verify {
            payload::fill(turn, &mut request);
        }
        let begun = Instant::now();
        stream.write_all(&request).map_err(failed())?;
        stream.read_exact(&mut reply).map_err(failed())?;
        meter.answered(begun);
        if verify {
            meter.verify(&mut turn, &reply, size)?;
        }
    }
    Ok(())
}

/// Answers until the caller closes the connection.
pub(super) fn answer(mut stream: TcpStream, size: usize, meter: &PairMeter<'_>) -> Result<(), NodeError> {
    let mut request = vec![0; size];
    loop {
        match stream.read_exact(&mut request) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(NodeError::io("cannot read a request")(error)),
        }
        stream.write_all(&request).map_err(NodeError::io("cannot answer"))?;
        meter.add(1);
    }
}
