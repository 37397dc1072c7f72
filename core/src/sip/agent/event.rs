//! What the owner of a user agent or proxy hears.

use super::super::message::Message;
use super::super::stack::table::TxnId;
use std::net::SocketAddr;

#[derive(Debug)]
pub enum Event {
    Request {
        txn: TxnId,
        message: Message,
        source: SocketAddr,
        local: SocketAddr,
    },
    Response {
        txn: TxnId,
        message: Message,
        source: SocketAddr,
    },
    Ack {
        txn: Option<TxnId>,
        message: Message,
        source: SocketAddr,
    },
    Cancel {
        txn: TxnId,
        message: Message,
    },
    /// kind: "request", "ack" or "response".
    Timeout {
        txn: TxnId,
        kind: &'static str,
    },
    /// reason: "icmp", "send" or "no-socket".
    Failed {
        txn: TxnId,
        reason: &'static str,
    },
    Terminated {
        txn: TxnId,
    },
    Held {
        count: usize,
    },
}
