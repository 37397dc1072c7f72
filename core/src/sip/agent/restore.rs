//! Transactions that outlive their process: prepared before they are sent, so that a snapshot can hold them, and opened again
//! by an heir from what the snapshot says.

use super::super::message::Message;
use super::super::method::Method;
use super::super::stack::table::TxnId;
use super::super::stack::Role;
use super::super::txn::Micros;
use super::super::via::ViaRef;
use super::outgoing::dress;
use super::{Agent, Originated, SendError, PROVISIONAL_REFRESH};
use std::net::SocketAddr;

/// (branch, method) of a request that has our Via.
fn identity(request: &Message) -> Result<(Vec<u8>, Vec<u8>), SendError> {
    let branch = request
        .get("Via")
        .and_then(|value| ViaRef::parse(value).ok())
        .and_then(|via| via.unique_branch().map(<[u8]>::to_vec))
        .ok_or(SendError::Incomplete("Via branch"))?;
    Ok((branch, request.view().method().to_vec()))
}

impl Agent {
    /// The request as `send_prepared` will send it: with our Via, so that its branch is known before it leaves.
    pub fn prepare(
        &mut self,
        mut request: Message,
        destination: SocketAddr,
        prefix: &str,
        local: Option<SocketAddr>,
    ) -> Result<Message, SendError> {
        let socket = self.socket_for(destination, local)?;
        let sent_by = self.sent_by(socket);
        let user_agent = self.config.user_agent.clone();
        let how = Originated { destination, socket, sent_by: &sent_by, prefix, user_agent: &user_agent };
        dress(&mut self.stack, &mut request, &how)?;
        Ok(request)
    }

    /// Sends a prepared request, for the first time or again by an heir: who has seen it answers as before. A transaction that
    /// is there already is left as it is.
    pub fn send_prepared(
        &mut self,
        request: &Message,
        destination: SocketAddr,
        local: Option<SocketAddr>,
        now: Micros,
    ) -> Result<TxnId, SendError> {
        let socket = self.socket_for(destination, local)?;
        let (branch, method) = identity(request)?;
        if matches!(&method[..], b"ACK" | b"CANCEL" | b"") {
            return Err(SendError::Method);
        }
        if let Some(known) = self.stack.find_client(&branch, &method) {
            return Ok(known);
        }
        let role = Role { user_agent: true, ..Role::default() };
        let packet = request.to_bytes();
        let txn = self.stack.open_client(packet, &branch, &method, destination, socket, role, now);
        self.collect(now);
        Ok(txn)
    }

    /// Takes over an INVITE of ours without sending: one that rings (None), or one whose 2xx is `answer`.
    pub fn restore_client_invite(
        &mut self,
        invite: &Message,
        answer: Option<&Message>,
        destination: SocketAddr,
        local: Option<SocketAddr>,
        now: Micros,
    ) -> Result<TxnId, SendError> {
        let socket = self.socket_for(destination, local)?;
        let (branch, method) = identity(invite)?;
        if method != b"INVITE" {
            return Err(SendError::Method);
        }
        let answered_by = match answer {
            Some(answer) if !(200..300).contains(&answer.view().status()) => {
                return Err(SendError::Incomplete("2xx"));
            }
            Some(answer) => Some(answer.to_tag().ok_or(SendError::Incomplete("To tag"))?.to_vec()),
            None => None,
        };
        if let Some(known) = self.stack.find_client(&branch, &method) {
            return Ok(known);
        }
        let packet = invite.to_bytes();
        let answered_by = answered_by.as_deref();
        Ok(self.stack.resume_client_invite(packet, &branch, destination, socket, answered_by, now))
    }

    /// Takes over an INVITE from outside (as received, with received and rport in its Via) and the last response to it: a
    /// provisional one is said again when the INVITE is; a final one is sent, and repeated until ACK. An INVITE that has
    /// reached this process before its snapshot was read keeps its transaction.
    pub fn restore_server_invite(
        &mut self,
        invite: &Message,
        source: SocketAddr,
        response: Option<Message>,
        local: Option<SocketAddr>,
        now: Micros,
    ) -> Result<TxnId, SendError> {
        let socket = self.socket_for(source, local)?;
        let bytes = invite.to_bytes();
        let invite = Message::parse(&bytes).map_err(|_| SendError::Incomplete("request"))?;
        let view = invite.view();
        if view.core().method != Method::Invite {
            return Err(SendError::Method);
        }
        let txn = match self.stack.find_server(&view) {
            Some(known) => known,
            None => self.stack.open_server(&view, source, socket, true, Vec::new(), now),
        };
        match response {
            Some(response) if response.view().status() < 200 => self.alert_again(txn, &response, now),
            Some(response) => self.respond(txn, response, now)?,
            None => {}
        }
        Ok(txn)
    }

    /// The provisional response of before answers repeats and is refreshed.
    fn alert_again(&mut self, txn: TxnId, response: &Message, now: Micros) {
        if !self.stack.may_respond(txn, 180) {
            return;
        }
        self.stack.resume_provisional(txn, response.to_bytes());
        if response.view().status() > 100 {
            self.stack.arm_extra(txn, PROVISIONAL_REFRESH, now);
        }
    }

    /// Lets go of a transaction without a word: another process goes on with it.
    pub fn forget(&mut self, txn: TxnId) {
        self.stack.forget(txn);
    }
}
