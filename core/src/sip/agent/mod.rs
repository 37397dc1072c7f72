//! The user agent core: a transaction user that turns what happens into events for its owner. Sans-IO.

pub mod event;
mod incoming;
mod outgoing;
mod restore;

use super::message::{Layout, View};
use super::parse::parse;
use super::stack::malformed::{self, Limiter};
use super::stack::table::TxnId;
use super::stack::{Incoming, News, Stack, Up};
use super::txn::{Micros, Timings, SECOND};
use event::Event;
use std::collections::VecDeque;
use std::net::SocketAddr;

pub use outgoing::{originate, Originated, SendError};

/// RFC 3261 §13.3.1.1.
const PROVISIONAL_REFRESH: Micros = 60 * SECOND;

#[derive(Debug, Clone)]
pub struct Config {
    pub timings: Timings,
    pub user_agent: String,
    pub via_host: Option<String>,
    /// After how long an unanswered INVITE gets 100; None: never.
    pub auto_trying: Option<Micros>,
    pub report_terminated: bool,
    pub max_transactions: usize,
    pub max_events: usize,
    pub malformed_rate: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timings: Timings::default(),
            user_agent: String::new(),
            via_host: None,
            auto_trying: Some(SECOND / 5),
            report_terminated: false,
            max_transactions: 200_000,
            max_events: 65_536,
            malformed_rate: 10,
        }
    }
}

/// Events with a bound. Past it new requests are refused by who asks [`Events::full`]; other events get double the room.
#[derive(Debug, Default)]
pub struct Events {
    pub queue: VecDeque<Event>,
    pub limit: usize,
    pub dropped: u64,
}

impl Events {
    pub fn full(&self) -> bool {
        self.queue.len() >= self.limit
    }

    pub fn push(&mut self, event: Event) {
        if self.queue.len() >= self.limit * 2 {
            self.dropped += 1;
        } else {
            self.queue.push_back(event);
        }
    }
}

pub struct Agent {
    pub config: Config,
    pub stack: Stack,
    pub events: Events,
    /// Bound addresses in the order of their sockets.
    pub sockets: Vec<SocketAddr>,
    limiter: Limiter,
    layout: Layout,
}

impl Agent {
    pub fn new(config: Config, now: Micros) -> Self {
        Self {
            stack: Stack::new(config.timings, now),
            events: Events { limit: config.max_events, ..Events::default() },
            sockets: Vec::new(),
            limiter: Limiter::new(config.malformed_rate),
            layout: Layout::default(),
            config,
        }
    }

    /// One datagram.
    pub fn datagram(&mut self, data: &[u8], source: SocketAddr, socket: u8, now: Micros) {
        self.stack.counters.received += 1;
        let mut layout = std::mem::take(&mut self.layout);
        match parse(data, &mut layout) {
            Ok(()) => {
                let view = View { buf: data, layout: &layout };
                let incoming = self.stack.receive(&view, source, now);
                self.dispatch(&view, incoming, source, socket, now);
            }
            Err(error) => refuse(&mut self.stack, &mut self.limiter, data, &error, source, socket, now),
        }
        self.layout = layout;
        self.collect(now);
    }

    fn dispatch(&mut self, view: &View<'_>, incoming: Incoming, source: SocketAddr, socket: u8, now: Micros) {
        match incoming {
            Incoming::Absorbed | Incoming::StrayResponse => {}
            Incoming::Request => self.new_request(view, source, socket, now),
            Incoming::Cancel(invite) => self.cancelled(view, invite, source, socket, now),
            Incoming::Ack(txn) => {
                self.stack.counters.stray_acks += u64::from(txn.is_none());
                if !(txn.is_none() && self.events.full()) {
                    self.events.push(Event::Ack { txn, message: view.to_message(), source });
                }
            }
            Incoming::Response(txn) => {
                if view.status() > 100 {
                    self.events.push(Event::Response { txn, message: view.to_message(), source });
                }
            }
        }
    }

    pub fn tick(&mut self, now: Micros) {
        self.stack.tick(now);
        self.collect(now);
    }

    /// Turns news of the stack into events.
    fn collect(&mut self, now: Micros) {
        while let Some(Up { txn, news, .. }) = self.stack.ups.pop_front() {
            match news {
                News::RequestTimeout => self.events.push(Event::Timeout { txn, kind: "request" }),
                News::AckTimeout => self.events.push(Event::Timeout { txn, kind: "ack" }),
                News::ResponseTimeout => self.events.push(Event::Timeout { txn, kind: "response" }),
                News::Unreachable => self.events.push(Event::Failed { txn, reason: "icmp" }),
                News::Extra => self.provisional_due(txn, now),
                News::Terminated if self.config.report_terminated => {
                    self.events.push(Event::Terminated { txn })
                }
                News::Terminated => {}
            }
        }
    }

    /// Nothing was said about an INVITE yet: 100. It rings: the last provisional response again, each minute, so that no proxy
    /// on the way gives up (§13.3.1.1).
    fn provisional_due(&mut self, txn: TxnId, now: Micros) {
        self.stack.send_trying(txn, now);
        if self.stack.repeat_provisional(txn) {
            self.stack.arm_extra(txn, PROVISIONAL_REFRESH, now);
        }
    }

    pub fn unreachable(&mut self, quoted: &[u8], now: Micros) {
        self.stack.unreachable(quoted, now);
        self.collect(now);
    }

    pub fn state(&self, txn: TxnId) -> Option<&'static str> {
        self.stack.table.get(txn).map(super::stack::table::Txn::state_name)
    }
}

/// Counts what could not be parsed and answers it where that is possible.
pub fn refuse(
    stack: &mut Stack,
    limiter: &mut Limiter,
    data: &[u8],
    error: &super::ParseError,
    source: SocketAddr,
    socket: u8,
    now: Micros,
) {
    // Keep-alives of RFC 5626 §4.4.1 and of NAT devices.
    if data.len() <= 4 && data.iter().all(|c| matches!(c, b'\r' | b'\n' | 0)) {
        stack.counters.keepalives += 1;
        return;
    }
    stack.counters.malformed(error.rule);
    if let Some((packet, destination)) = malformed::answer(data, error, source) {
        if limiter.allow(source.ip(), now) {
            stack.counters.answered_malformed += 1;
            stack.out.push(&packet, destination, socket);
        }
    }
}

#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod tests;
