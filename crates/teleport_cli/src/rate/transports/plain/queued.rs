//! `raw`: what any program does whose processes share a socket and have mailboxes, done plainly and in batches.
//!
//! The sending application hands a copy of each message to the thread that owns the socket; that thread writes
//! whatever has come together. A thread reads what there is, and hands a copy of each message to the receiving
//! application, which takes one at a time. No order, credit or acknowledgement beyond what TCP has.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::Write;
use std::net::TcpStream;

use super::queue::{Consumer, Copier, Producer};
use super::wire::{LENGTH, Reader, WRITE_BLOCK, put};
use crate::bench::child::NodeError;
use crate::rate::meter::PairMeter;
use crate::rate::payload;

/// The sending application: sends until it is told to end.
pub(super) fn send(queue: &mut Producer, size: usize, meter: &PairMeter<'_>) -> Result<(), NodeError> {
    let verify = meter.verifies();
    let (mut message, mut number) = (vec![0; size], 0);
    payload::fill(number, &mut message);
    let mut copier = Copier::default();
    while !meter.is_halted() {
        if verify {
            payload::fill(number, &mut message);
            number += 1;
        }
        queue.push(copier.copy(&message)).map_err(|_| NodeError::ThreadGone("writer"))?;
        meter.add(1);
    }
    Ok(())
}

/// Owns the socket: writes until the application has ended, and all that it sent is written.
pub(super) fn write(mut stream: TcpStream, mut queue: Consumer) -> Result<(), NodeError> {
    let mut block = Vec::with_capacity(WRITE_BLOCK);
    let mut next = queue.recv();
    while let Some(first) = next {
        put(&first, &mut block);
        next = queue.try_recv();
        while let Some(message) = next.take_if(|next| block.len() + LENGTH + next.len() <= WRITE_BLOCK) {
            put(&message, &mut block);
            next = queue.try_recv();
        }
        stream.write_all(&block).map_err(NodeError::io("cannot send"))?;
        block.clear();
        next = next.or_else(|| queue.recv());
    }
    Ok(())
}

/// Reads until the sender closes the connection.
pub(super) fn read(stream: TcpStream, size: usize, mut queue: Producer) -> Result<(), NodeError> {
    let mut reader = Reader::new(stream, size);
    let (mut copier, mut batch) = (Copier::default(), VecDeque::new());
    loop {
        let open = reader.read(|message| {
            batch.push_back(copier.copy(message));
            Ok(())
        })?;
        queue.push_all(&mut batch).map_err(|_| NodeError::ThreadGone("receiver"))?;
        if !open {
            return Ok(());
        }
    }
}

/// The receiving application: counts until no more can come.
pub(super) fn receive(mut queue: Consumer, size: usize, meter: &PairMeter<'_>) -> Result<(), NodeError> {
    let mut turn = 0;
    while let Some(message) = queue.recv() {
        if meter.verifies() {
            meter.verify(&mut turn, &message, size)?;
        }
        meter.add(1);
        black_box(message);
    }
    Ok(())
}
