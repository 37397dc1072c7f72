//! What a transport must do. UDP today; TCP, TLS and WebSocket come behind the same face.

use crate::sip::stack::output::{Output, Packet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Datagrams received at once.
pub const BATCH: usize = 32;
const DATAGRAM: usize = 65_536;

/// Buffers for one receive call.
pub struct Inbox {
    pub data: Vec<u8>,
    /// (length, source) of each datagram; datagram i starts at i * 65,536.
    pub datagrams: Vec<(usize, SocketAddr)>,
}

impl Inbox {
    pub fn new() -> Self {
        Self { data: vec![0; BATCH * DATAGRAM], datagrams: Vec::with_capacity(BATCH) }
    }

    pub fn slot(&mut self, index: usize) -> &mut [u8] {
        &mut self.data[index * DATAGRAM..(index + 1) * DATAGRAM]
    }

    pub fn datagram(&self, index: usize) -> (&[u8], SocketAddr) {
        let (length, source) = self.datagrams[index];
        (&self.data[index * DATAGRAM..index * DATAGRAM + length], source)
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

pub trait Transport: Send + Sync {
    fn fd(&self) -> RawFd;
    fn local(&self) -> SocketAddr;
    /// Receives what is there into `inbox`, without waiting.
    fn receive(&self, inbox: &mut Inbox) -> io::Result<()>;
    /// Sends packets in one go where the system can; calls `failed` with the index of each that could not leave.
    fn send(&self, output: &Output, packets: &[Packet], failed: &mut dyn FnMut(usize, io::Error));
    /// Takes one error that the network reported: the start of our packet that met it.
    fn take_error(&self, quoted: &mut Vec<u8>) -> bool;
}
