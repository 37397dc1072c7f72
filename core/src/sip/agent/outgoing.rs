//! What the owner sends.

use super::super::identifiers::push_base32;
use super::super::message::Message;
use super::super::stack::build::via_value;
use super::super::stack::table::TxnId;
use super::super::stack::{Gone, Role, Stack};
use super::super::txn::Micros;
use super::super::via::MAGIC_COOKIE;
use super::{Agent, PROVISIONAL_REFRESH};
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// No socket of this address family, or none at this local address.
    NoSocket,
    /// ACK and CANCEL have calls of their own.
    Method,
    /// The request lacks something: named.
    Incomplete(&'static str),
    Gone,
}

impl From<Gone> for SendError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// How a request leaves.
#[derive(Debug, Clone, Copy)]
pub struct Originated<'a> {
    pub destination: SocketAddr,
    pub socket: u8,
    pub sent_by: &'a str,
    /// Start of the branch, after the magic cookie.
    pub prefix: &'a str,
    /// "" for none.
    pub user_agent: &'a str,
}

fn random_branch(stack: &mut Stack, prefix: &str) -> Vec<u8> {
    let mut branch = MAGIC_COOKIE.to_vec();
    branch.extend_from_slice(prefix.as_bytes());
    push_base32(&mut branch, stack.keys.draw(), 12);
    branch
}

/// Puts our Via on top of a request and starts its client transaction.
pub fn originate(
    stack: &mut Stack,
    mut request: Message,
    how: &Originated<'_>,
    now: Micros,
) -> Result<TxnId, SendError> {
    let branch = dress(stack, &mut request, how)?;
    let method = request.view().method().to_vec();
    let role = Role { user_agent: true, ..Role::default() };
    Ok(stack.open_client(request.to_bytes(), &branch, &method, how.destination, how.socket, role, now))
}

/// Checks a request and puts our Via on top; its branch.
pub(super) fn dress(
    stack: &mut Stack,
    request: &mut Message,
    how: &Originated<'_>,
) -> Result<Vec<u8>, SendError> {
    let method = request.view().method().to_vec();
    if matches!(&method[..], b"ACK" | b"CANCEL" | b"") {
        return Err(SendError::Method);
    }
    let (_, cseq_method) = request.cseq().ok_or(SendError::Incomplete("CSeq"))?;
    if cseq_method != method {
        return Err(SendError::Incomplete("CSeq"));
    }
    request.from_tag().ok_or(SendError::Incomplete("From tag"))?;
    let branch = random_branch(stack, how.prefix);
    request.prepend("Via", &via_value(how.sent_by, &branch, "UDP"));
    if !how.user_agent.is_empty() && request.get("User-Agent").is_none() {
        request.push("User-Agent", how.user_agent.as_bytes());
    }
    Ok(branch)
}

impl Agent {
    /// Index of the socket to send from.
    pub fn socket_for(&self, destination: SocketAddr, local: Option<SocketAddr>) -> Result<u8, SendError> {
        let fits = |address: &SocketAddr| match local {
            Some(local) => *address == local,
            None => address.is_ipv4() == destination.is_ipv4(),
        };
        self.sockets.iter().position(fits).map(|index| index as u8).ok_or(SendError::NoSocket)
    }

    pub(super) fn sent_by(&self, socket: u8) -> String {
        let address = self.sockets[socket as usize];
        match &self.config.via_host {
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        }
    }

    pub fn new_tag(&mut self) -> Vec<u8> {
        let mut tag = Vec::with_capacity(12);
        push_base32(&mut tag, self.stack.keys.draw(), 12);
        tag
    }

    fn new_branch(&mut self, prefix: &str) -> Vec<u8> {
        random_branch(&mut self.stack, prefix)
    }

    /// Puts our Via on top and starts a client transaction.
    pub fn send_request(
        &mut self,
        request: Message,
        destination: SocketAddr,
        prefix: &str,
        local: Option<SocketAddr>,
        now: Micros,
    ) -> Result<TxnId, SendError> {
        let socket = self.socket_for(destination, local)?;
        let sent_by = self.sent_by(socket);
        let how = Originated {
            destination,
            socket,
            sent_by: &sent_by,
            prefix,
            user_agent: &self.config.user_agent,
        };
        let txn = originate(&mut self.stack, request, &how, now)?;
        self.collect(now);
        Ok(txn)
    }

    pub fn respond(&mut self, txn: TxnId, mut response: Message, now: Micros) -> Result<(), SendError> {
        let status = response.view().status();
        if !self.stack.may_respond(txn, status) {
            return Err(SendError::Gone);
        }
        if !self.config.user_agent.is_empty() && response.get("Server").is_none() {
            response.push("Server", self.config.user_agent.as_bytes());
        }
        let (cseq, method) = response.cseq().ok_or(SendError::Incomplete("CSeq"))?;
        let ack_key = if method == b"INVITE" && (200..300).contains(&status) {
            let call_id = response.get("Call-ID").unwrap_or(b"");
            let local = response.to_tag().ok_or(SendError::Incomplete("To tag"))?;
            self.stack.keys.acknowledgement(call_id, local, response.from_tag().unwrap_or(b""), cseq)
        } else {
            0
        };
        self.stack.respond(txn, status, response.to_bytes(), ack_key, now)?;
        if method == b"INVITE" && (101..200).contains(&status) {
            self.stack.arm_extra(txn, PROVISIONAL_REFRESH, now);
        }
        self.collect(now);
        Ok(())
    }

    /// ACK of a 2xx, with a fresh branch (§13.2.2.4).
    pub fn send_ack(
        &mut self,
        txn: TxnId,
        mut ack: Message,
        destination: SocketAddr,
    ) -> Result<(), SendError> {
        let socket = self.stack.table.get(txn).ok_or(SendError::Gone)?.socket;
        let branch = self.new_branch("");
        ack.prepend("Via", &via_value(&self.sent_by(socket), &branch, "UDP"));
        let to_tag = ack.to_tag().unwrap_or(b"").to_vec();
        Ok(self.stack.send_ack(txn, &to_tag, ack.to_bytes(), destination)?)
    }

    /// Sends a request of ours that nothing has answered, not even 100, from now on to another address: the same request, so
    /// that who has seen it knows it again. False, and nothing is done, when there was an answer or the transaction is over.
    pub fn redirect(&mut self, txn: TxnId, destination: SocketAddr, now: Micros) -> bool {
        let silent = matches!(self.state(txn), Some("calling" | "trying"));
        if silent {
            self.stack.redirect(txn, destination, now);
            self.collect(now);
        }
        silent
    }

    pub fn cancel(&mut self, txn: TxnId, reason: &[u8], now: Micros) -> Result<bool, SendError> {
        let done = self.stack.cancel(txn, reason, now)?;
        self.collect(now);
        Ok(done)
    }
}
