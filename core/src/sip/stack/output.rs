//! Packets to send, collected in one arena so that a turn costs no allocation and goes out in one batch.

use std::net::SocketAddr;
use std::ops::Range;

#[derive(Debug, Clone)]
pub struct Packet {
    pub range: Range<usize>,
    pub destination: SocketAddr,
    /// Index of the socket in the order of binding.
    pub socket: u8,
}

#[derive(Debug, Default)]
pub struct Output {
    pub arena: Vec<u8>,
    pub packets: Vec<Packet>,
}

impl Output {
    pub fn push(&mut self, data: &[u8], destination: SocketAddr, socket: u8) {
        let start = self.arena.len();
        self.arena.extend_from_slice(data);
        self.packets.push(Packet { range: start..self.arena.len(), destination, socket });
    }

    pub fn clear(&mut self) {
        self.arena.clear();
        self.packets.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub fn data(&self, packet: &Packet) -> &[u8] {
        &self.arena[packet.range.clone()]
    }
}
