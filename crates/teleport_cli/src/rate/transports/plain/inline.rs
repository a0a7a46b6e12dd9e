//! `inline`: the thread that makes messages writes them, and the thread that reads them counts them.
//!
//! Nothing is handed from one thread to another, which no program can do whose messages have to reach several
//! processes over one socket: the bound that none of them reaches.

use std::hint::black_box;
use std::io::Write;
use std::net::TcpStream;

use super::wire::{LENGTH, Reader, WRITE_BLOCK, put};
use crate::bench::child::NodeError;
use crate::rate::meter::PairMeter;
use crate::rate::payload;

/// Sends until it is told to end: copies messages into a block, and writes it when it is full.
pub(super) fn send(stream: &mut TcpStream, size: usize, meter: &PairMeter<'_>) -> Result<(), NodeError> {
    let verify = meter.verifies();
    let (mut message, mut number) = (vec![0; size], 0);
    payload::fill(number, &mut message);
    let per_block = (WRITE_BLOCK / (LENGTH + size)).max(1);
    let mut block = Vec::with_capacity(per_block * (LENGTH + size));
    while !meter.is_halted() {
        for _ in 0..per_block {
            if verify {
                payload::fill(number, &mut message);
                number += 1;
            }
            put(&message, &mut block);
        }
        stream.write_all(&block).map_err(NodeError::io("cannot send"))?;
        meter.add(per_block as u64);
        block.clear();
    }
    Ok(())
}

/// Counts until the sender closes the connection.
pub(super) fn receive(stream: TcpStream, size: usize, meter: &PairMeter<'_>) -> Result<(), NodeError> {
    let mut reader = Reader::new(stream, size);
    let mut turn = 0;
    loop {
        let mut messages = 0;
        let open = reader.read(|message| {
            let message: Box<[u8]> = message.into();
            messages += 1;
            if meter.verifies() {
                meter.verify(&mut turn, &message, size)?;
            }
            black_box(message);
            Ok(())
        })?;
        meter.add(messages);
        if !open {
            return Ok(());
        }
    }
}
