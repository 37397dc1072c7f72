//! Client side of the stack: requests out, responses in.

use super::super::message::View;
use super::super::txn::{client_invite, client_other, Class, ClientInvite, ClientOther, Micros};
use super::build;
use super::keys::quoted_request;
use super::table::{KeptAck, Machine, Txn, TxnId};
use super::{Effects, Gone, Incoming, News, Role, Stack, Up};
use std::net::SocketAddr;

/// 2xx from different UASs (forks) remembered for one INVITE.
const MAX_FORKS: usize = 16;

impl Stack {
    /// Starts a client transaction and sends. The packet's top Via must carry `branch`.
    #[allow(clippy::too_many_arguments)]
    pub fn open_client(
        &mut self,
        packet: Vec<u8>,
        branch: &[u8],
        method: &[u8],
        destination: SocketAddr,
        socket: u8,
        role: Role,
        now: Micros,
    ) -> TxnId {
        let (machine, effects) = if method == b"INVITE" {
            let (machine, effects) = ClientInvite::start(&self.timings, false);
            (Machine::ClientInvite(machine), effects)
        } else {
            let (machine, effects) = ClientOther::start(&self.timings, false);
            (Machine::ClientOther(machine), effects)
        };
        let key = self.keys.client(branch, method);
        let id = self.table.insert(Txn::client(machine, key, packet, destination, socket, role));
        self.clients.insert(key, id);
        self.perform(id, &effects, now);
        id
    }

    /// Opens the client transaction of an INVITE that another process has sent: silently, after a provisional response, or
    /// after the 2xx with this To tag. `packet` is what was sent, with `branch` in its top Via.
    pub fn resume_client_invite(
        &mut self,
        packet: Vec<u8>,
        branch: &[u8],
        destination: SocketAddr,
        socket: u8,
        answered_by: Option<&[u8]>,
        now: Micros,
    ) -> TxnId {
        let (machine, effects) = match answered_by {
            Some(_) => ClientInvite::accepted(&self.timings),
            None => (ClientInvite::proceeding(&self.timings), super::super::txn::Effects::default()),
        };
        let key = self.keys.client(branch, b"INVITE");
        let role = Role { user_agent: true, ..Role::default() };
        let mut txn = Txn::client(Machine::ClientInvite(machine), key, packet, destination, socket, role);
        if let Some(to_tag) = answered_by {
            txn.acks.push(KeptAck { to_tag: to_tag.to_vec(), packet: Vec::new(), destination: None });
        }
        let id = self.table.insert(txn);
        self.clients.insert(key, id);
        self.perform(id, &effects, now);
        id
    }

    /// Id of the client transaction with this branch and method.
    pub fn find_client(&self, branch: &[u8], method: &[u8]) -> Option<TxnId> {
        self.clients.get(&self.keys.client(branch, method)).copied()
    }

    pub(super) fn receive_response(&mut self, response: &View<'_>, now: Micros) -> Incoming {
        let method = response.span(response.core().cseq_method);
        let branch = response.via().ok().and_then(|via| via.branch());
        let Some(id) = branch.and_then(|branch| self.find_client(branch, method)) else {
            self.counters.stray_responses += 1;
            return Incoming::StrayResponse;
        };
        let timings = self.timings;
        let class = Class::of(response.status());
        let Some(txn) = self.table.get_mut(id) else {
            return Incoming::StrayResponse;
        };
        let effects = match &mut txn.machine {
            Machine::ClientInvite(machine) => {
                let first =
                    matches!(machine.state, client_invite::State::Calling | client_invite::State::Proceeding);
                let effects = machine.handle(client_invite::Input::Response(class), &timings, false);
                if class == Class::Failure && first {
                    txn.spare = build::failure_ack(&txn.packet, response, &mut self.scratch);
                }
                if class == Class::Success && txn.user_agent && !self.fork(id, response) {
                    return Incoming::Absorbed;
                }
                effects
            }
            Machine::ClientOther(machine) => {
                machine.handle(client_other::Input::Response(class), &timings, false)
            }
            _ => return Incoming::StrayResponse,
        };
        if effects == Effects::default() || (class == Class::Failure && !effects.has(super::Effect::Deliver))
        {
            self.counters.retransmissions_in += 1;
        }
        let deliver = self.perform(id, &effects, now);
        if class == Class::Provisional {
            self.send_wanted_cancel(id, now);
        }
        if deliver {
            Incoming::Response(id)
        } else {
            Incoming::Absorbed
        }
    }

    /// A 2xx to an INVITE of a user agent: true when its To tag is new, else the ACK goes out again.
    fn fork(&mut self, id: TxnId, response: &View<'_>) -> bool {
        let Some(txn) = self.table.get_mut(id) else {
            return false;
        };
        let to_tag = response.to_tag().unwrap_or(b"");
        if let Some(kept) = txn.acks.iter().find(|kept| kept.to_tag == to_tag) {
            self.counters.retransmissions_in += 1;
            if let Some(destination) = kept.destination {
                self.counters.retransmissions_out += 1;
                self.out.push(&kept.packet, destination, txn.socket);
            }
            return false;
        }
        if txn.acks.len() >= MAX_FORKS {
            return false;
        }
        txn.acks.push(KeptAck { to_tag: to_tag.to_vec(), packet: Vec::new(), destination: None });
        true
    }

    /// Sends the ACK of a 2xx and keeps it for repeated ones.
    pub fn send_ack(
        &mut self,
        id: TxnId,
        to_tag: &[u8],
        packet: Vec<u8>,
        destination: SocketAddr,
    ) -> Result<(), Gone> {
        let txn = self.table.get_mut(id).ok_or(Gone)?;
        let kept = txn.acks.iter_mut().find(|kept| kept.to_tag == to_tag).ok_or(Gone)?;
        self.out.push(&packet, destination, txn.socket);
        kept.packet = packet;
        kept.destination = Some(destination);
        Ok(())
    }

    /// Cancels an INVITE: now after a provisional response, else when one comes. False when a final response is here.
    pub fn cancel(&mut self, id: TxnId, reason: &[u8], now: Micros) -> Result<bool, Gone> {
        let txn = self.table.get_mut(id).ok_or(Gone)?;
        let Machine::ClientInvite(machine) = &txn.machine else {
            return Err(Gone);
        };
        match machine.state {
            client_invite::State::Completed | client_invite::State::Accepted => Ok(false),
            client_invite::State::Calling | client_invite::State::Proceeding => {
                if !txn.cancel_sent {
                    txn.cancel_wanted = true;
                    txn.cancel_reason = reason.to_vec();
                }
                if machine.state == client_invite::State::Proceeding {
                    self.send_wanted_cancel(id, now);
                }
                Ok(true)
            }
        }
    }

    /// Cancels an INVITE without waiting for a provisional response: for a branch given up on.
    pub fn cancel_blindly(&mut self, id: TxnId, now: Micros) {
        if let Some(txn) = self.table.get_mut(id) {
            if !txn.cancel_sent {
                txn.cancel_wanted = true;
                self.send_wanted_cancel(id, now);
            }
        }
    }

    fn send_wanted_cancel(&mut self, id: TxnId, now: Micros) {
        let Some(txn) = self.table.get_mut(id) else {
            return;
        };
        if !txn.cancel_wanted || txn.cancel_sent {
            return;
        }
        txn.cancel_sent = true;
        let packet = build::cancel(&txn.packet, &txn.cancel_reason, &mut self.scratch);
        let (peer, socket) = (txn.peer, txn.socket);
        let timings = self.timings;
        let effects = match &mut txn.machine {
            Machine::ClientInvite(machine) => {
                machine.handle(client_invite::Input::CancelSent, &timings, false)
            }
            _ => return,
        };
        self.perform(id, &effects, now);
        let Some(branch) = quoted_request(&packet).map(|(branch, _)| branch.to_vec()) else {
            return;
        };
        let cancel = self.open_client(packet, &branch, b"CANCEL", peer, socket, Role::default(), now);
        if let Some(txn) = self.table.get_mut(cancel) {
            txn.internal = true;
        }
    }

    /// Sends a request that has no final response again, from the beginning, to another address under the same branch.
    pub fn redirect(&mut self, id: TxnId, destination: SocketAddr, now: Micros) {
        let timings = self.timings;
        let Some(txn) = self.table.get_mut(id) else {
            return;
        };
        txn.peer = destination;
        txn.parked = false;
        let effects = match &mut txn.machine {
            Machine::ClientInvite(m) => {
                let (machine, effects) = ClientInvite::start(&timings, false);
                *m = machine;
                effects
            }
            Machine::ClientOther(m) => {
                let (machine, effects) = ClientOther::start(&timings, false);
                *m = machine;
                effects
            }
            _ => return,
        };
        txn.cancel_wanted |= txn.cancel_sent;
        txn.cancel_sent = false;
        self.perform(id, &effects, now);
    }

    /// ICMP said that nobody listens at an address; `quoted` is the start of the packet that met it.
    pub fn unreachable(&mut self, quoted: &[u8], now: Micros) {
        let Some(id) = quoted_request(quoted).and_then(|(branch, method)| self.find_client(branch, method))
        else {
            return;
        };
        self.fail(id, now);
    }

    /// From now on the transaction goes on when its peer cannot be reached.
    pub fn set_patient(&mut self, id: TxnId) {
        if let Some(txn) = self.table.get_mut(id) {
            txn.patient = true;
        }
    }

    /// A packet of this client transaction could not be delivered. Transactions of a forwarding transaction user stay: it
    /// decides what to do with the request, and forgets them.
    pub fn fail(&mut self, id: TxnId, now: Micros) {
        let timings = self.timings;
        let Some(txn) = self.table.get_mut(id) else { return };
        if txn.patient || txn.parked {
            return;
        }
        if txn.context != 0 {
            if matches!(txn.state_name(), "calling" | "trying") {
                self.counters.transport_failures += 1;
                self.ups.push_back(Up { txn: id, context: txn.context, news: News::Unreachable });
            }
            return;
        }
        let effects = match &mut txn.machine {
            Machine::ClientInvite(m) => m.handle(client_invite::Input::TransportError, &timings, false),
            Machine::ClientOther(m) => m.handle(client_other::Input::TransportError, &timings, false),
            _ => return,
        };
        self.perform(id, &effects, now);
    }
}
