//! The transaction layer: finds the transaction of a message, runs its machine, performs the effects.
//!
//! Still sans-IO: datagrams and the time come in; packets collect in [`Output`], news for the transaction user in `ups`.
//! The transaction users are the user agent (`agent`) and the proxy (`proxy`).

pub mod build;
pub mod client;
pub mod counters;
pub mod keys;
pub mod malformed;
pub mod output;
pub mod server;
pub mod table;

use super::message::{Layout, View};
use super::txn::wheel::Wheel;
use super::txn::{client_invite, client_other, server_invite, server_other};
use super::txn::{Effect, Effects, Micros, Timer, Timings};
use counters::Counters;
use keys::Keys;
use output::Output;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use table::{Machine, Table, Txn, TxnId};

/// What became of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing left to do: a retransmission, an ACK of a failure, a response of a finished transaction.
    Absorbed,
    /// A new request without a transaction yet.
    Request,
    /// ACK of a 2xx of ours; None when its INVITE is not known here.
    Ack(Option<TxnId>),
    /// CANCEL and the INVITE that it means; no transaction of its own yet.
    Cancel(Option<TxnId>),
    /// A response that the transaction user should see.
    Response(TxnId),
    /// A response without a transaction.
    StrayResponse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// No final response.
    RequestTimeout,
    /// A 2xx of ours was never acknowledged.
    AckTimeout,
    /// The transaction user never answered.
    ResponseTimeout,
    /// ICMP said that nobody is there.
    Unreachable,
    /// `Timer::Extra` fired.
    Extra,
    Terminated,
}

/// News about a transaction that no received message brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Up {
    pub txn: TxnId,
    pub context: u64,
    pub news: News,
}

/// What a client transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Role {
    /// A user agent's: 2xx of several forks are told apart and their ACKs kept.
    pub user_agent: bool,
    /// Goes on when its peer cannot be reached.
    pub patient: bool,
    /// Waits for an address (see [`Stack::redirect`]).
    pub parked: bool,
    /// What the transaction user wants back in its news; 0: nothing.
    pub context: u64,
}

/// The transaction is unknown, over, or in a state in which this cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Keys are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

pub type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

pub struct Stack {
    pub timings: Timings,
    pub keys: Keys,
    pub table: Table,
    pub out: Output,
    pub ups: VecDeque<Up>,
    pub counters: Counters,
    servers: KeyMap<TxnId>,
    clients: KeyMap<TxnId>,
    acks: KeyMap<TxnId>,
    wheel: Wheel,
    scratch: Layout,
}

impl Stack {
    pub fn new(timings: Timings, now: Micros) -> Self {
        Self {
            timings,
            keys: Keys::default(),
            table: Table::default(),
            out: Output::default(),
            ups: VecDeque::new(),
            counters: Counters::default(),
            servers: KeyMap::default(),
            clients: KeyMap::default(),
            acks: KeyMap::default(),
            wheel: Wheel::new(now),
            scratch: Layout::default(),
        }
    }

    /// Finds what a message belongs to and lets its transaction deal with it.
    pub fn receive(&mut self, message: &View<'_>, source: SocketAddr, now: Micros) -> Incoming {
        if message.is_request() {
            self.receive_request(message, source, now)
        } else {
            self.receive_response(message, now)
        }
    }

    pub fn next_due(&self) -> Option<Micros> {
        self.wheel.next_due()
    }

    /// Fires what is due; news go to `ups`.
    pub fn tick(&mut self, now: Micros) {
        while let Some(entry) = self.wheel.pop(now) {
            let Some(txn) = self.table.get_mut(entry.txn) else {
                continue;
            };
            if txn.generations[entry.timer as usize] != entry.generation {
                continue;
            }
            if entry.timer == Timer::Extra {
                let context = txn.context;
                self.ups.push_back(Up { txn: entry.txn, context, news: News::Extra });
                continue;
            }
            let timings = self.timings;
            let effects = match &mut txn.machine {
                Machine::ClientInvite(m) => {
                    m.handle(client_invite::Input::Fired(entry.timer), &timings, false)
                }
                Machine::ClientOther(m) => m.handle(client_other::Input::Fired(entry.timer), &timings, false),
                Machine::ServerInvite(m) => {
                    m.handle(server_invite::Input::Fired(entry.timer), &timings, false)
                }
                Machine::ServerOther(m) => m.handle(server_other::Input::Fired(entry.timer), &timings, false),
            };
            if effects.has(Effect::Send) {
                self.counters.retransmissions_out += 1;
            }
            self.perform(entry.txn, &effects, now);
        }
    }

    /// Starts the transaction user's own timer of a transaction; a second call replaces the first.
    pub fn arm_extra(&mut self, id: TxnId, delay: Micros, now: Micros) {
        self.perform(id, &Effects::of(&[Effect::Arm(Timer::Extra, delay)]), now);
    }

    pub fn disarm_extra(&mut self, id: TxnId) {
        self.perform(id, &Effects::of(&[Effect::Disarm(Timer::Extra)]), 0);
    }

    /// Forgets a transaction without a word.
    pub fn forget(&mut self, id: TxnId) {
        if let Some(txn) = self.table.remove(id) {
            self.unindex(id, &txn);
        }
    }

    fn unindex(&mut self, id: TxnId, txn: &Txn) {
        let index = if txn.is_client() { &mut self.clients } else { &mut self.servers };
        if index.get(&txn.key) == Some(&id) {
            index.remove(&txn.key);
        }
        if txn.ack_key != 0 && self.acks.get(&txn.ack_key) == Some(&id) {
            self.acks.remove(&txn.ack_key);
        }
    }

    /// Performs effects; whether the message at hand is to be delivered.
    fn perform(&mut self, id: TxnId, effects: &Effects, now: Micros) -> bool {
        let mut deliver = false;
        for effect in effects.iter() {
            let Some(txn) = self.table.get_mut(id) else {
                break;
            };
            match effect {
                Effect::Send => {
                    if !txn.packet.is_empty() && !txn.parked {
                        self.out.push(&txn.packet, txn.peer, txn.socket);
                    }
                }
                Effect::Ack => {
                    if !txn.spare.is_empty() {
                        self.out.push(&txn.spare, txn.peer, txn.socket);
                    }
                }
                Effect::Deliver => deliver = !txn.internal,
                Effect::Arm(timer, delay) => {
                    let generation = &mut txn.generations[timer as usize];
                    *generation = generation.wrapping_add(1);
                    self.wheel.arm(id, timer, *generation, now + delay);
                }
                Effect::Disarm(timer) => {
                    let generation = &mut txn.generations[timer as usize];
                    *generation = generation.wrapping_add(1);
                }
                Effect::Timeout => {
                    let news = match txn.machine {
                        Machine::ServerInvite(_) => News::AckTimeout,
                        Machine::ServerOther(_) => News::ResponseTimeout,
                        _ => News::RequestTimeout,
                    };
                    self.counters.timeouts += 1;
                    self.report(id, news);
                }
                Effect::Failed => {
                    self.counters.transport_failures += 1;
                    self.report(id, News::Unreachable);
                }
                Effect::End => {
                    if let Machine::ServerInvite(machine) = &txn.machine {
                        if machine.state == server_invite::State::Completed {
                            self.counters.unacknowledged += 1;
                        }
                    }
                    self.report(id, News::Terminated);
                    self.forget(id);
                }
            }
        }
        deliver
    }

    fn report(&mut self, id: TxnId, news: News) {
        if let Some(txn) = self.table.get(id) {
            if !txn.internal {
                self.ups.push_back(Up { txn: id, context: txn.context, news });
            }
        }
    }
}

#[cfg(test)]
mod tests;
