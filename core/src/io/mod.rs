//! Threads, sockets and clocks around the sans-IO engines. The only place that has any.

pub mod clock;
pub mod driver;
pub mod gate;
pub mod notify;
pub mod poll;
pub mod transport;
pub mod udp;

use crate::sip::agent::{Agent, Events};
use crate::sip::stack::output::Output;
use crate::sip::txn::Micros;
use std::net::SocketAddr;

/// What a driver drives: a user agent or a proxy.
pub trait Engine: Send + 'static {
    fn datagram(&mut self, data: &[u8], source: SocketAddr, socket: u8, now: Micros);
    /// Nobody listens at an address; `quoted` is the start of the packet that met it.
    fn unreachable(&mut self, quoted: &[u8], now: Micros);
    fn tick(&mut self, now: Micros);
    fn next_due(&self) -> Option<Micros>;
    fn output(&mut self) -> &mut Output;
    fn events(&mut self) -> &mut Events;
    /// A socket was bound; it gets the next index.
    fn bound(&mut self, local: SocketAddr);
}

impl Engine for Agent {
    fn datagram(&mut self, data: &[u8], source: SocketAddr, socket: u8, now: Micros) {
        Agent::datagram(self, data, source, socket, now);
    }

    fn unreachable(&mut self, quoted: &[u8], now: Micros) {
        Agent::unreachable(self, quoted, now);
    }

    fn tick(&mut self, now: Micros) {
        Agent::tick(self, now);
    }

    fn next_due(&self) -> Option<Micros> {
        self.stack.next_due()
    }

    fn output(&mut self) -> &mut Output {
        &mut self.stack.out
    }

    fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    fn bound(&mut self, local: SocketAddr) {
        self.sockets.push(local);
    }
}
