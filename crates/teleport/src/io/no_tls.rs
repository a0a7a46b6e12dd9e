//! A build without TLS: what could only be made with it never is.

use crate::TlsError;
use bytes::BufMut;
use std::io::{self, IoSlice};
use teleport_proto::NodeName;
use tokio::net::TcpStream;

pub(crate) const MOST_HELD: usize = 0;

#[derive(Debug)]
pub(crate) enum Session {}

#[derive(Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn upgrades(&self) -> bool {
        match *self {}
    }

    pub(crate) fn handshakes(&self) -> (u64, u64) {
        match *self {}
    }

    pub(crate) async fn dial(&self, _: TcpStream, _: &NodeName) -> Result<(TcpStream, Session), TlsError> {
        match *self {}
    }

    pub(crate) async fn accept(&self, _: TcpStream) -> Result<(TcpStream, Session), TlsError> {
        match *self {}
    }
}

impl Session {
    pub(crate) fn binding(&self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn check_peer(&self, _: &NodeName) -> Result<(), TlsError> {
        match *self {}
    }

    pub(crate) fn holds_more(&self) -> bool {
        match *self {}
    }

    pub(crate) fn is_behind(&self) -> bool {
        match *self {}
    }

    pub(crate) fn read(&self, _: &TcpStream, _: &mut impl BufMut) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write(&self, _: &TcpStream, _: &[IoSlice<'_>]) -> io::Result<(usize, usize)> {
        match *self {}
    }

    pub(crate) fn flush(&self, _: &TcpStream) -> io::Result<usize> {
        match *self {}
    }
}
