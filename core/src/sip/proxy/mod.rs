//! A transaction-stateful proxy that forwards by tables: a transaction user beside the user agent. Sans-IO.
//!
//! `target` decides where a request goes, `forward` sends it there and deals with what comes of it, `rewrite` writes the
//! messages, `tables` is what the owner knows. No call state is kept: what a second proxy needs is in the messages.

pub mod branch;
mod forward;
mod incoming;
mod moves;
mod owner;
pub mod rate;
pub mod rewrite;
pub mod tables;
mod target;

use super::agent::event::Event;
use super::agent::{refuse, Events};
use super::message::{Layout, Message, View};
use super::parse::parse;
use super::stack::malformed::Limiter;
use super::stack::output::Output;
use super::stack::table::TxnId;
use super::stack::{Incoming, News, Stack, Up};
use super::txn::{Micros, Timings, SECOND};
use rate::Bucket;
use rewrite::Seed;
use std::collections::HashMap;
use std::net::SocketAddr;
use tables::{NodeIndex, Tables};

#[derive(Debug, Clone)]
pub struct Config {
    pub timings: Timings,
    pub server_name: String,
    pub timer_c: Micros,
    pub reselect_after: Micros,
    pub max_reselections: u8,
    pub dialog_rate: f64,
    pub retry_after: u32,
    pub python_methods: Vec<Vec<u8>>,
    pub max_transactions: usize,
    pub max_events: usize,
    pub malformed_rate: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timings: Timings::default(),
            server_name: String::new(),
            timer_c: 180 * SECOND,
            reselect_after: 2 * SECOND,
            max_reselections: 2,
            dialog_rate: 0.0,
            retry_after: 5,
            python_methods: vec![b"REGISTER".to_vec()],
            max_transactions: 400_000,
            max_events: 65_536,
            malformed_rate: 10,
        }
    }
}

#[derive(Debug, Default, Clone)]
pub struct Counters {
    pub new_dialogs: u64,
    pub forwarded_requests: u64,
    pub forwarded_responses: u64,
    pub stateless_requests: u64,
    pub stateless_responses: u64,
    pub reselected: u64,
    pub slot_moved_resent: u64,
    pub rate_limited: u64,
    pub no_owner: u64,
    pub no_node: u64,
    pub loops: u64,
    pub max_forwards: u64,
    pub unresolved: u64,
    pub from_nodes: u64,
    pub from_outside: u64,
    pub record_routed: u64,
    pub cancelled: u64,
}

/// A request on its way: its server transaction and the client transactions made for it.
#[derive(Debug)]
struct Forward {
    server: TxnId,
    /// The present branch; 0 when its transaction is over.
    client: TxnId,
    branch: Vec<u8>,
    /// Branches given up on; a 2xx of theirs still counts.
    earlier: Vec<TxnId>,
    seed: Seed,
    invite: bool,
    in_dialog: bool,
    /// Slot whose owner the request goes to: named by it, or learnt from a response's To tag.
    slot: Option<u16>,
    /// Slot to whose owner responses go: the sender is a node.
    back: Option<u16>,
    node: Option<NodeIndex>,
    tried: Vec<NodeIndex>,
    /// Other addresses of a name outside.
    others: Vec<SocketAddr>,
    /// Call-ID: the key of the next choice.
    key: Vec<u8>,
    /// Whether any response came from the present branch.
    answered: bool,
    /// A final response went back.
    done: bool,
    cancelled: bool,
    attempts: u8,
}

/// A request that waits for the owner's answer.
struct Pending {
    message: Message,
    source: SocketAddr,
    socket: u8,
}

pub struct Proxy {
    pub config: Config,
    pub stack: Stack,
    pub events: Events,
    pub tables: Tables,
    pub counters: Counters,
    pub sockets: Vec<SocketAddr>,
    bucket: Bucket,
    forwards: Vec<Option<Forward>>,
    free: Vec<usize>,
    pending: HashMap<TxnId, Pending>,
    limiter: Limiter,
    layout: Layout,
}

impl Proxy {
    pub fn new(config: Config, now: Micros) -> Self {
        Self {
            stack: Stack::new(config.timings, now),
            events: Events { limit: config.max_events, ..Events::default() },
            tables: Tables::default(),
            counters: Counters::default(),
            sockets: Vec::new(),
            bucket: Bucket::new(config.dialog_rate, now),
            forwards: Vec::new(),
            free: Vec::new(),
            pending: HashMap::new(),
            limiter: Limiter::new(config.malformed_rate),
            layout: Layout::default(),
            config,
        }
    }

    fn handle(&mut self, data: &[u8], source: SocketAddr, socket: u8, now: Micros) {
        self.stack.counters.received += 1;
        let mut layout = std::mem::take(&mut self.layout);
        match parse(data, &mut layout) {
            Ok(()) => {
                let view = View { buf: data, layout: &layout };
                match self.stack.receive(&view, source, now) {
                    Incoming::Absorbed => {}
                    Incoming::Request => self.new_request(&view, source, socket, now),
                    Incoming::Cancel(invite) => self.cancelled(&view, invite, source, socket, now),
                    Incoming::Ack(_) => self.forward_statelessly(&view, source, socket),
                    Incoming::Response(txn) => self.response(&view, txn, source, now),
                    Incoming::StrayResponse => self.stray_response(&view, socket),
                }
            }
            Err(error) => refuse(&mut self.stack, &mut self.limiter, data, &error, source, socket, now),
        }
        self.layout = layout;
        self.collect(now);
    }

    /// Deals with news of the stack.
    fn collect(&mut self, now: Micros) {
        while let Some(Up { txn, context, news }) = self.stack.ups.pop_front() {
            if context == 0 {
                self.own_news(txn, news);
                continue;
            }
            let index = context as usize - 1;
            if self.forwards.get(index).is_some_and(Option::is_some) {
                self.forward_news(index, txn, news, now);
            }
        }
    }

    /// News of transactions that are not forwarded requests: the owner's.
    fn own_news(&mut self, txn: TxnId, news: News) {
        match news {
            News::RequestTimeout => self.events.push(Event::Timeout { txn, kind: "request" }),
            News::Unreachable => self.events.push(Event::Failed { txn, reason: "icmp" }),
            News::ResponseTimeout => {
                self.pending.remove(&txn);
                self.events.push(Event::Timeout { txn, kind: "response" });
            }
            News::Terminated | News::AckTimeout | News::Extra => {
                self.pending.remove(&txn);
            }
        }
    }

    fn keep(&mut self, forward: Forward) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.forwards[index] = Some(forward);
                index
            }
            None => {
                self.forwards.push(Some(forward));
                self.forwards.len() - 1
            }
        }
    }

    fn drop_forward(&mut self, index: usize) {
        if self.forwards[index].take().is_some() {
            self.free.push(index);
        }
    }

    fn get(&self, index: usize) -> Option<&Forward> {
        self.forwards.get(index).and_then(Option::as_ref)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Forward> {
        self.forwards.get_mut(index).and_then(Option::as_mut)
    }

    /// Socket to send from to an address.
    fn socket_to(&self, destination: SocketAddr, preferred: Option<u8>) -> u8 {
        let fits = |index: &u8| {
            self.sockets.get(*index as usize).is_some_and(|local| local.is_ipv4() == destination.is_ipv4())
        };
        preferred
            .filter(fits)
            .or_else(|| (0..self.sockets.len() as u8).find(|index| fits(index)))
            .unwrap_or(0)
    }
}

impl crate::io::Engine for Proxy {
    fn datagram(&mut self, data: &[u8], source: SocketAddr, socket: u8, now: Micros) {
        self.handle(data, source, socket, now);
    }

    fn unreachable(&mut self, quoted: &[u8], now: Micros) {
        self.stack.unreachable(quoted, now);
        self.collect(now);
    }

    fn tick(&mut self, now: Micros) {
        self.stack.tick(now);
        self.collect(now);
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

#[cfg(test)]
mod tests;
